//! The audit log: who asked what of which key, written and synced before the HSM is asked.
//!
//! A line is one JSON object; each holds the SHA-256 of the line before it, so that no record can
//! be changed, dropped or moved without breaking every link after it. A chain alone cannot show
//! that its newest records were cut off; whoever needs that keeps the head that `vaultctl audit
//! verify` prints.

mod copy;
mod draft;
mod event;
mod log;
mod query;
mod verify;
mod writer;

pub use event::{Detail, Entry, Outcome, Phase, Record, Stored};
pub use log::{AuditLog, LogStatus, Operation, Options, Recovery, sync_directory};
pub use query::Filter;
pub use verify::VerifyReport;
pub use writer::{Said, Sync};
