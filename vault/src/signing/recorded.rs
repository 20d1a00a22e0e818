//! The audit log as the witness of a signature.

use serde_json::json;

use crate::audit::{AuditLog, Entry, Operation, Outcome};
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::Witness;

/// Writes intent and result on the thread that signs, for records that need no sync of their own.
pub(super) struct Recorded {
    audit: AuditLog,
    entry: Option<Entry>,
    operation: Option<Operation>,
}

impl Recorded {
    /// A witness that records this entry.
    pub(super) fn new(audit: AuditLog, entry: Entry) -> Box<Self> {
        Box::new(Self { audit, entry: Some(entry), operation: None })
    }
}

impl Witness for Recorded {
    fn before(&mut self) -> Result<()> {
        if let Some(entry) = self.entry.take() {
            self.operation = Some(self.audit.intent_blocking(entry)?);
        }
        crash_point!("sign.intent");
        Ok(())
    }

    fn after(&mut self, outcome: Result<(), &Error>) -> Result<()> {
        crash_point!("sign.hsm");
        let Some(operation) = self.operation.take() else { return Ok(()) };
        match outcome {
            Ok(()) => self.audit.finish_blocking(operation, Outcome::Ok, json!({})),
            Err(error) => {
                let detail = json!({ "error": error.to_string() });
                self.audit.finish_blocking(operation, Outcome::Failed, detail)
            }
        }
    }
}
