//! Records to be.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{json, value::RawValue};
use time::OffsetDateTime;
use vault_proto::ids::OperationId;

use super::event::{Detail, Entry, Outcome, Phase};
use crate::error::Result;

/// What is kept of a text of a record that says too much.
const KEPT: usize = 256;

/// What an operation's intent and its result both say.
#[derive(Debug, Clone)]
pub(super) struct Deed {
    principal: String,
    action: String,
    resource: String,
    /// As [`Entry::grouped`].
    pub(super) grouped: bool,
}

impl Deed {
    /// Takes an entry apart.
    pub(super) fn of(entry: Entry) -> (Arc<Self>, Detail) {
        let Entry { principal, action, resource, detail, grouped } = entry;
        (Arc::new(Self { principal, action, resource, grouped }), detail)
    }
}

/// A record without its place in the chain. Whoever asks for it has put its detail into JSON, so
/// that the one thread that writes has little to do for each.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) phase: Phase,
    pub(super) deed: Arc<Deed>,
    outcome: Option<Outcome>,
    operation: Option<String>,
    detail: Box<RawValue>,
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
    /// An operation's intent.
    pub(super) fn intent(id: OperationId, deed: Arc<Deed>, detail: Detail) -> Result<Self> {
        let (operation, detail) = (Some(id.to_string()), detail.into_json()?);
        Ok(Self { phase: Phase::Intent, deed, outcome: None, operation, detail })
    }

    /// How the operation of an intent ended, where it has one.
    pub(super) fn result(
        operation: Option<String>,
        deed: Arc<Deed>,
        outcome: Outcome,
        detail: Detail,
    ) -> Result<Self> {
        let (outcome, detail) = (Some(outcome), detail.into_json()?);
        Ok(Self { phase: Phase::Result, deed, outcome, operation, detail })
    }

    /// Something that has one side only.
    pub(super) fn event(entry: Entry) -> Result<Self> {
        let (deed, detail) = Deed::of(entry);
        let detail = detail.into_json()?;
        Ok(Self { phase: Phase::Event, deed, outcome: None, operation: None, detail })
    }

    /// How much it says, in bytes.
    pub(super) fn said(&self) -> usize {
        let Deed { principal, action, resource, .. } = &*self.deed;
        let texts = [principal, action, resource];
        texts.iter().map(|text| text.len()).sum::<usize>() + self.detail.get().len()
    }

    /// Says less: the beginning of each text, and how much it was.
    pub(super) fn cut(&mut self) -> Result<()> {
        let kept = |text: &str| text.chars().take(KEPT).collect::<String>();
        let said = json!({ "cut": self.said(), "kept": kept(self.detail.get()) });
        self.detail = Detail::from(said).into_json()?;
        let Deed { principal, action, resource, .. } = Arc::make_mut(&mut self.deed);
        for text in [principal, action, resource] {
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
            principal: &self.deed.principal,
            action: &self.deed.action,
            resource: &self.deed.resource,
            outcome: self.outcome,
            operation: self.operation.as_deref(),
            detail: &self.detail,
            previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Record;

    #[test]
    fn a_line_reads_as_a_record_and_is_written_as_one() {
        let detail = json!({ "name": "k", "nested": { "a": [1, "ü\"\n"] } });
        let (deed, said) = Deed::of(Entry {
            principal: "local:0".to_owned(),
            action: "key.sign".to_owned(),
            resource: "key/k".to_owned(),
            detail: detail.clone().into(),
            grouped: false,
        });
        let id = OperationId::random();
        let intent = Draft::intent(id, deed.clone(), said.clone()).unwrap();
        let result = Draft::result(Some(id.to_string()), deed, Outcome::Ok, said).unwrap();
        for (draft, phase, outcome) in
            [(intent, Phase::Intent, None), (result, Phase::Result, Some(Outcome::Ok))]
        {
            let line = draft.at(7, OffsetDateTime::UNIX_EPOCH, "ab");
            let line = serde_json::to_string(&line).unwrap();
            let record: Record = serde_json::from_str(&line).unwrap();
            assert_eq!((record.sequence, record.phase, record.outcome), (7, phase, outcome));
            assert_eq!(record.detail, detail);
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
    }
}
