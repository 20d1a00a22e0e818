//! The backup: a tar archive, compressed by zstd, in an age file.
//!
//! A vault writes it ([`Writer`]); whoever has an age identity reads and checks it without one
//! ([`Reader`], [`verify`]). Both hold each row against the same rules ([`Content`]), so that what
//! would not be read back is not written.
//!
//! | member | what it is |
//! |---|---|
//! | `backup.json` | [`Facts`]: format, vault, time, KEK, the audit log's checkpoint |
//! | `000001-settings.jsonl`, ... | parts of the tables, in the order of [`Table`]: a row a line |
//! | `manifest.json` | [`Manifest`]: the facts once more, each part's size and SHA-256, counts |
//!
//! Private keys are in it as the HSM has wrapped them and in no other way.

mod content;
pub mod drill;
mod fault;
mod keys;
mod manifest;
mod member;
mod reader;
mod rows;
mod wire;
mod writer;

pub use content::Content;
pub use fault::Fault;
pub use keys::{Identities, Recipients};
pub use manifest::{Checkpoint, Counts, FORMAT, Facts, Kek, Manifest, Part, VERSION};
pub use reader::{Reader, Row, newer_than, verify};
pub use rows::{CertificateRow, Entry, KeyEntry, KeyRow, KeyStatus, Table, Wrapped};
pub use writer::Writer;
