//! `vaultctl audit`.

mod export;

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::Request;
use vault_proto::{
    audit::{self, Report},
    error::ErrorKind,
    v1,
};

use export::Form;

use super::Context;
use crate::client::call;
use crate::error::{Error, Result};
use crate::output::{self, Format, Row};

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Shows records.
    #[command(after_help = "Example: vaultctl audit query --since 24h --action key.sign --last 50")]
    Query {
        #[command(flatten)]
        filter: Filter,
    },
    /// Shows the newest records.
    #[command(after_help = "Example: vaultctl audit tail -f")]
    Tail {
        /// Go on with new records.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        filter: Filter,
    },
    /// Recomputes the chain of a log; exit code 7 where it does not hold.
    #[command(after_help = "Example: vaultctl audit verify audit.log")]
    Verify {
        /// A log file, checked here without a vault [default: the vault's own, checked by it].
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Writes records for other programs, one per line.
    #[command(
        after_help = "Example: vaultctl audit export --format ocsf --since 24h > audit.jsonl"
    )]
    Export {
        /// The form.
        #[arg(long, value_enum, default_value_t = Form::Json)]
        format: Form,
        #[command(flatten)]
        filter: Filter,
    },
}

/// Which records.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// Not before: a time (RFC 3339) or how long ago (24h).
    #[arg(long, value_name = "T", value_parser = since)]
    since: Option<OffsetDateTime>,
    /// Only about this key, by name or id.
    #[arg(long)]
    key: Option<String>,
    /// Only by whoever ends in this, for example operator/ada.
    #[arg(long)]
    principal: Option<String>,
    /// Only actions that begin with this, for example key.sign.
    #[arg(long)]
    action: Option<String>,
    /// Only the last N.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
}

fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let ago: Duration = humantime::parse_duration(text)
        .map_err(|_| "it is neither an RFC 3339 time nor a duration".to_owned())?;
    let ago = time::Duration::try_from(ago).ok();
    let at = ago.and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago));
    at.ok_or_else(|| "it is too long ago".to_owned())
}

impl Filter {
    fn request(self, follow: bool) -> v1::QueryAuditRequest {
        let since = self.since.map(|at| Timestamp {
            seconds: at.unix_timestamp(),
            nanos: i32::try_from(at.nanosecond()).unwrap_or(0),
        });
        v1::QueryAuditRequest {
            since,
            key: self.key.unwrap_or_default(),
            principal: self.principal.unwrap_or_default(),
            action: self.action.unwrap_or_default(),
            follow,
            last: self.last.unwrap_or(0),
        }
    }
}

#[derive(Serialize)]
struct Shown {
    sequence: u64,
    time: Option<String>,
    phase: String,
    principal: String,
    action: String,
    resource: String,
    outcome: String,
    operation_id: String,
    detail: serde_json::Value,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] =
        &["NUMBER", "TIME", "PHASE", "PRINCIPAL", "ACTION", "RESOURCE", "OUTCOME"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.sequence.to_string(),
            output::short(&self.time),
            self.phase.clone(),
            self.principal.clone(),
            self.action.clone(),
            self.resource.clone(),
            self.outcome.clone(),
        ]
    }
}

fn shown(record: v1::AuditRecord) -> Shown {
    Shown {
        sequence: record.sequence,
        time: output::time(record.time),
        phase: record.phase,
        principal: record.principal,
        action: record.action,
        resource: record.resource,
        outcome: record.outcome,
        operation_id: record.operation_id,
        detail: serde_json::from_str(&record.detail_json).unwrap_or_default(),
    }
}

/// Runs one verb.
///
/// # Errors
/// What the vault says.
pub async fn run(context: &Context, verb: Audit) -> Result<()> {
    match verb {
        Audit::Query { filter } => list(context, filter).await,
        Audit::Tail { follow, filter } => {
            let newest = Filter { last: filter.last.or(Some(20)), ..filter };
            match follow {
                true => tail(context, newest.request(true)).await,
                false => list(context, newest).await,
            }
        }
        Audit::Verify { file: None } => judge(context, "the audit log", &theirs(context).await?),
        Audit::Verify { file: Some(file) } => {
            judge(context, &format!("audit log {}", file.display()), &ours(&file)?)
        }
        Audit::Export { format, filter } => {
            export::run(context, format, filter.request(false)).await
        }
    }
}

async fn list(context: &Context, filter: Filter) -> Result<()> {
    let records = collect(context, filter.request(false)).await?;
    let rows: Vec<_> = records.into_iter().map(shown).collect();
    output::list(context.format, &rows)
}

async fn collect(
    context: &Context,
    request: v1::QueryAuditRequest,
) -> Result<Vec<v1::AuditRecord>> {
    let mut audit = context.client().await?.audit();
    let mut stream = audit.query_audit(call(request)).await?.into_inner();
    let mut records = Vec::new();
    while let Some(record) = stream.message().await? {
        records.push(record);
    }
    Ok(records)
}

/// Record by record, each on its own line.
async fn tail(context: &Context, request: v1::QueryAuditRequest) -> Result<()> {
    let mut audit = context.client().await?.audit();
    // No deadline: it ends when the reader ends it.
    let mut stream = audit.query_audit(Request::new(request)).await?.into_inner();
    while let Some(record) = stream.message().await? {
        match context.format {
            Format::Json => {
                let line = serde_json::to_string(&shown(record))
                    .map_err(|e| Error::local("encode", "a record", e))?;
                output::text(&format!("{line}\n"))?;
            }
            Format::Table => output::text(&format!("{}\n", shown(record).cells().join("  ")))?,
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Verified {
    ok: bool,
    records: u64,
    head: String,
    problem: String,
}

/// What the vault says of its own log.
async fn theirs(context: &Context) -> Result<Verified> {
    let mut audit = context.client().await?.audit();
    let found = audit.verify_audit(call(v1::VerifyAuditRequest {})).await?.into_inner();
    Ok(Verified { ok: found.ok, records: found.records, head: found.head, problem: found.problem })
}

/// What this program finds in a file, without a vault.
fn ours(file: &Path) -> Result<Verified> {
    let unreadable = |e| Error::invalid("read", format!("audit log {}", file.display()), e);
    let mut log = BufReader::new(File::open(file).map_err(unreadable)?);
    let Report { chain, problem } = audit::check(&mut log).map_err(unreadable)?;
    Ok(Verified {
        ok: problem.is_none(),
        records: chain.records,
        head: chain.head,
        problem: problem.unwrap_or_default(),
    })
}

fn judge(context: &Context, subject: &str, found: &Verified) -> Result<()> {
    output::one(context.format, found)?;
    match found.ok {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Verification, "verify", subject, &found.problem)
            .hint("the log was changed after it was written: keep it as evidence")),
    }
}
