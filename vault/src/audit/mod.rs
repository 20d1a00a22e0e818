//! The audit log: who asked what of which key, written and synced before the HSM is asked.
//!
//! A line is one JSON object; each holds the SHA-256 of the line before it, so that no record can
//! be changed, dropped or moved without breaking every link after it.

mod event;

pub use event::{Entry, Outcome, Phase, Record};
