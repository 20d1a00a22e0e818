//! Records in the forms that other programs read, one a line.

mod cef;
mod ocsf;

use std::io::{BufWriter, Write as _};

use clap::ValueEnum;
use tonic::Request;
use vault_proto::v1;

use crate::cmd::Context;
use crate::error::{Error, Result};

/// Who keeps the log, as both forms name it: its vendor, which is this project, and its product.
const VENDOR: &str = "keyvault";
const PRODUCT: &str = "vaultd";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The vault's own lines as they stand in its log: all of them are what `audit verify FILE` takes.
    Json,
    /// Common Event Format, version 0.
    Cef,
    /// Open Cybersecurity Schema Framework 1.3: API Activity.
    Ocsf,
}

/// How what a record tells of went, in the one way in which both forms tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It is about to be done.
    Intended,
    /// It is done, or it happened.
    Done,
    /// Not authorized.
    Denied,
    /// It failed.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl Course {
    fn of(record: &v1::AuditRecord, detail: &serde_json::Value) -> Self {
        match (record.phase.as_str(), record.outcome.as_str()) {
            ("intent", _) => Self::Intended,
            (_, "ok") => Self::Done,
            (_, "denied") => Self::Denied,
            (_, "failed") => Self::Failed,
            // An event has no outcome; that of a refusal says why.
            ("event", "") if detail.get("denied").is_some() => Self::Denied,
            ("event", "") => Self::Done,
            _ => Self::Unknown,
        }
    }
}

/// A record, and its detail as JSON.
struct Record {
    wire: v1::AuditRecord,
    detail: serde_json::Value,
    course: Course,
}

impl Record {
    fn new(wire: v1::AuditRecord) -> Result<Self> {
        let detail = serde_json::from_str(&wire.detail_json)
            .map_err(|e| Error::local("read", format!("record {}", wire.sequence), e))?;
        let course = Course::of(&wire, &detail);
        Ok(Self { wire, detail, course })
    }

    /// When it was written, in milliseconds since 1970.
    fn milliseconds(&self) -> i64 {
        let time = self.wire.time.unwrap_or_default();
        time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000))
    }

    /// What it is about, in a few words.
    fn title(&self) -> String {
        let v1::AuditRecord { action, resource, phase, outcome, .. } = &self.wire;
        let went = if outcome.is_empty() { phase } else { outcome };
        format!("{action} on {resource}: {went}")
    }
}

/// Writes what matches to stdout as it comes: a log may be larger than memory.
///
/// # Errors
/// What the vault says, and where stdout is closed.
pub async fn run(context: &Context, form: Form, request: v1::QueryAuditRequest) -> Result<()> {
    let mut audit = context.client().await?.audit();
    // No deadline: how long it takes is how long the log is.
    let mut stream = audit.query_audit(Request::new(request)).await?.into_inner();
    let closed = |e| Error::local("write", "the export", e);
    let mut out = BufWriter::new(std::io::stdout());
    while let Some(record) = stream.message().await? {
        let line = match form {
            Form::Json => record.line,
            Form::Cef => cef::line(&Record::new(record)?),
            Form::Ocsf => ocsf::line(&Record::new(record)?),
        };
        writeln!(out, "{line}").map_err(closed)?;
    }
    out.flush().map_err(closed)
}

#[cfg(test)]
fn record(phase: &str, outcome: &str, detail: &serde_json::Value) -> Record {
    Record::new(v1::AuditRecord {
        sequence: 7,
        time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 }),
        phase: phase.to_owned(),
        principal: "spiffe://example.org/operator/ada".to_owned(),
        action: "key.destroy".to_owned(),
        resource: "key/0190".to_owned(),
        outcome: outcome.to_owned(),
        operation_id: "op-1".to_owned(),
        detail_json: detail.to_string(),
        line: "{\"sequence\":7}".to_owned(),
    })
    .expect("a record")
}
