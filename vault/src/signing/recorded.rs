//! The audit log as the witness of a signature.

use serde_json::json;

use crate::audit::{AuditLog, Entry, Operation, Outcome, Said};
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::Witness;

/// Writes intent and result on the thread that signs, for records that need no sync of their own.
pub(super) struct Recorded {
    audit: AuditLog,
    entry: Option<Entry>,
    operation: Option<Operation>,
    said: Option<Said>,
}

impl Recorded {
    /// A witness that records this entry.
    pub(super) fn new(audit: AuditLog, entry: Entry) -> Box<Self> {
        Box::new(Self { audit, entry: Some(entry), operation: None, said: None })
    }
}

impl Witness for Recorded {
    fn before(&mut self) -> Result<()> {
        if let Some(entry) = self.entry.take() {
            let (operation, said) = self.audit.say_intent(entry)?;
            (self.operation, self.said) = (Some(operation), Some(said));
        }
        Ok(())
    }

    fn after(&mut self, outcome: Result<(), &Error>) -> Result<()> {
        crash_point!("sign.hsm");
        if let Some(operation) = self.operation.take() {
            let (outcome, detail) = Outcome::of(&outcome, |()| json!({}));
            self.said = Some(self.audit.say_result(operation, outcome, detail)?);
        }
        Ok(())
    }

    fn stands(&mut self) -> Result<()> {
        if let Some(said) = self.said.take() {
            self.audit.settle(&said)?;
        }
        if self.operation.is_some() {
            crash_point!("sign.intent");
        }
        Ok(())
    }
}
