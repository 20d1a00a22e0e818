//! Records to be.

use serde::Serialize;
use serde_json::{json, value::RawValue};
use time::OffsetDateTime;
use vault_proto::ids::OperationId;

use super::event::{Entry, Outcome, Phase};
use crate::error::{Error, Result};

/// What is kept of a text of a record that says too much.
const KEPT: usize = 256;

/// A record without its place in the chain. Whoever asks for it has put its detail into JSON, so
/// that the one thread that writes has little to do for each.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) phase: Phase,
    principal: String,
    action: String,
    resource: String,
    outcome: Option<Outcome>,
    operation: Option<String>,
    detail: Box<RawValue>,
    /// As [`Entry::grouped`].
    pub(super) grouped: bool,
}

/// A record as it is written: the fields of [`Record`](super::Record) in their order.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    sequence: u64,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    phase: Phase,
    principal: &'a str,
    action: &'a str,
    resource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    detail: &'a RawValue,
    previous: &'a str,
}

impl Draft {
    /// A record of `entry`; `operation` ties a result, which has an `outcome`, to its intent.
    pub(super) fn new(
        phase: Phase,
        entry: Entry,
        outcome: Option<Outcome>,
        operation: Option<String>,
    ) -> Result<Self> {
        let Entry { principal, action, resource, detail, grouped } = entry;
        let detail = raw(&detail)?;
        Ok(Self { phase, principal, action, resource, outcome, operation, detail, grouped })
    }

    /// An operation's intent.
    pub(super) fn intent(id: OperationId, entry: Entry) -> Result<Self> {
        Self::new(Phase::Intent, entry, None, Some(id.to_string()))
    }

    /// How much it says, in bytes.
    pub(super) fn said(&self) -> usize {
        let texts = [&self.principal, &self.action, &self.resource];
        texts.iter().map(|text| text.len()).sum::<usize>() + self.detail.get().len()
    }

    /// Says less: the beginning of each text, and how much it was.
    pub(super) fn cut(&mut self) -> Result<()> {
        let kept = |text: &str| text.chars().take(KEPT).collect::<String>();
        self.detail = raw(&json!({ "cut": self.said(), "kept": kept(self.detail.get()) }))?;
        for text in [&mut self.principal, &mut self.action, &mut self.resource] {
            *text = kept(text);
        }
        Ok(())
    }

    /// The record at its place in the chain.
    pub(super) fn at<'a>(
        &'a self,
        sequence: u64,
        time: OffsetDateTime,
        previous: &'a str,
    ) -> Line<'a> {
        Line {
            sequence,
            time,
            phase: self.phase,
            principal: &self.principal,
            action: &self.action,
            resource: &self.resource,
            outcome: self.outcome,
            operation: self.operation.as_deref(),
            detail: &self.detail,
            previous,
        }
    }
}

fn raw(detail: &serde_json::Value) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(detail)
        .map_err(|e| Error::internal("write", "an audit record", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Record;

    #[test]
    fn a_line_reads_as_a_record_and_is_written_as_one() {
        let entry = Entry {
            principal: "local:0".to_owned(),
            action: "key.sign".to_owned(),
            resource: "key/k".to_owned(),
            detail: json!({ "name": "k", "nested": { "a": [1, "ü\"\n"] } }),
            grouped: false,
        };
        let id = Some("0190".to_owned());
        for (phase, outcome) in [(Phase::Intent, None), (Phase::Result, Some(Outcome::Ok))] {
            let draft = Draft::new(phase, entry.clone(), outcome, id.clone()).unwrap();
            let line = draft.at(7, OffsetDateTime::UNIX_EPOCH, "ab");
            let line = serde_json::to_string(&line).unwrap();
            let record: Record = serde_json::from_str(&line).unwrap();
            assert_eq!((record.sequence, record.phase, record.outcome), (7, phase, outcome));
            assert_eq!(record.detail, entry.detail);
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
    }
}
