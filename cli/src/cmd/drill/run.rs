//! `vaultctl drill run`: fetch, have it drilled, ask, report, record; in this order.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use vault_backup::drill::Check;
use vault_proto::{error::ErrorKind, ids::DrillId, v1};

use super::{
    Context, Run,
    ask::{self, Vault},
    child,
    report::{About, Directory, Files, Report, milliseconds},
    scratch::Scratch,
};
use crate::error::{Error, Result};
use crate::output;

/// What is said of a drill.
#[derive(Serialize)]
struct Held {
    id: String,
    ok: bool,
    recorded: bool,
    backup: String,
    backup_sha256: String,
    backup_created_at: Option<String>,
    keys_proven: u64,
    rto_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpo_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpo_worst_seconds: Option<f64>,
    checks: Vec<Check>,
    report: String,
}

/// Holds a drill.
pub(super) async fn run(context: &Context, args: &Run) -> Result<()> {
    let scratch = Scratch::new(args.scratch.as_deref())?;
    // Whoever interrupts it ends its process, too; then the scratch directory goes.
    let held = tokio::select! {
        held = hold(context, args, &scratch) => held,
        interrupted = interrupted() => Err(interrupted),
    };
    drop(scratch);
    let (held, failed) = held?;
    output::one(context.format, &held)?;
    if failed.is_empty() {
        return Ok(());
    }
    let why = format!("not proven: {}", failed.join(", "));
    Err(Error::new(ErrorKind::Verification, "drill", format!("backup {}", held.backup), why)
        .hint("the report says what was found; take another backup, and drill it"))
}

async fn hold(
    context: &Context,
    args: &Run,
    scratch: &Scratch,
) -> Result<(Held, Vec<&'static str>)> {
    let drill_id = DrillId::random().to_string();
    let mut vault = Vault::connect(context, args).await?;
    let directory = Directory::new(args.report.as_deref(), &drill_id)?;
    let (file, name) = fetched(&vault, args, scratch).await?;
    let (size, sha256) = hash(&file)?;
    let started_at = OffsetDateTime::now_utc();
    let mut found = child::drill(args, &file, size, scratch).await?;
    let (facts, counts) = (found.facts.as_ref(), found.end.counts.as_ref());
    let asked = vault.record(&sha256, size, facts, counts).await;
    found.checks.push(vault.or_away(asked, ask::not_asked("it went away in the middle"))?);
    let told = told(&drill_id, started_at, &sha256, &found);
    let asked = vault.past().await;
    let (past, rpo_worst_seconds) = vault.or_away(asked, (Vec::new(), None))?;
    let by_token = args.token.is_some();
    let about = About {
        drill_id,
        started_at,
        file: name.clone(),
        size,
        sha256,
        by_token,
        past,
        rpo_worst_seconds,
    };
    let report = Report::new(about, found);
    let files = Files::of(&report)?;
    directory.write(&files)?;
    let asked = vault.tell(finish(told, &report, &files)).await;
    let statement = vault.or_away(asked, None)?;
    match &statement {
        Some(statement) => directory.write_statement(statement)?,
        None => output::note(&format!("the drill is not recorded: {}", vault.why)),
    }
    let failed = report.failed();
    let held = Held {
        id: report.drill_id,
        ok: report.ok,
        recorded: statement.is_some(),
        backup: name,
        backup_sha256: report.backup.sha256,
        backup_created_at: report.backup.created_at,
        keys_proven: report.keys_proven,
        rto_seconds: report.rto_seconds,
        rpo_seconds: report.rpo_seconds,
        rpo_worst_seconds: report.rpo_worst_seconds,
        checks: report.checks,
        report: directory.name(),
    };
    Ok((held, failed))
}

/// The backup's file, and what it is called.
async fn fetched(vault: &Vault, args: &Run, scratch: &Scratch) -> Result<(PathBuf, String)> {
    if let Some(file) = &args.file {
        return Ok((file.clone(), file.display().to_string()));
    }
    let file = scratch.path().join("backup.age");
    let id = vault.fetch_newest(&file).await?;
    Ok((file, id))
}

fn hash(file: &Path) -> Result<(u64, String)> {
    let failed = |e| Error::invalid("read", format!("backup {}", file.display()), e);
    let mut opened = File::open(file).map_err(failed)?;
    let (mut size, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 256 * 1024]);
    loop {
        let read = opened.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((size, hex::encode(hash.finalize())));
        }
        size += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

/// What the vault is told, as far as it stands in what was found.
fn told(
    id: &str,
    started_at: OffsetDateTime,
    sha256: &str,
    found: &child::Found,
) -> v1::RecordDrillRequest {
    let timestamp = |at: OffsetDateTime| prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or(0),
    };
    let facts = found.facts.as_ref();
    v1::RecordDrillRequest {
        counts: found.end.counts.as_ref().map(Into::into),
        audit_sequence: facts.map_or(0, |facts| facts.audit.sequence),
        audit_head: facts.map(|facts| facts.audit.head.clone()).unwrap_or_default(),
        drill: Some(v1::Drill {
            id: id.to_owned(),
            started_at: Some(timestamp(started_at)),
            backup_sha256: sha256.to_owned(),
            backup_created_at: facts.map(|facts| timestamp(facts.created_at)),
            keys_proven: found.end.keys_proven,
            ..v1::Drill::default()
        }),
    }
}

fn finish(
    mut told: v1::RecordDrillRequest,
    report: &Report,
    files: &Files,
) -> v1::RecordDrillRequest {
    let check = |check: &Check| v1::DrillCheck {
        name: check.name.to_string(),
        status: check.status.as_str().to_owned(),
        detail: brief(&check.detail),
    };
    if let Some(drill) = &mut told.drill {
        (drill.report_json_sha256, drill.report_html_sha256) = files.hashes();
        drill.ok = report.ok;
        drill.checks = report.checks.iter().map(check).collect();
        drill.rto_milliseconds = milliseconds(report.rto_seconds);
        drill.rpo_milliseconds = milliseconds(report.rpo_seconds.unwrap_or_default());
    }
    told
}

/// As much as a vault keeps of a text.
fn brief(text: &str) -> String {
    text.chars().take(1000).collect()
}

async fn interrupted() -> Error {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut first), Ok(mut second), Ok(mut third)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
        _ = third.recv() => {}
    }
    Error::local("drill", "the backup", "it was interrupted")
        .hint("nothing is left of it, and nothing is recorded: begin again")
}
