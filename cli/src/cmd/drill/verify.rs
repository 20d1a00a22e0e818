//! `vaultctl drill verify`: a report held against its statement, and that against the vault's CA.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use vault_custody::drill::{self, Statement};

use super::{
    Context,
    report::{HTML, JSON, seconds},
};
use crate::cmd::kek;
use crate::error::Result;
use crate::{files, output};

/// A report and what it is held against.
#[derive(Debug, Args)]
pub struct Verify {
    /// The report's directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The fingerprint of the vault's internal CA, as `vaultctl init` and `status` say it.
    #[arg(long, value_name = "sha256:HEX", required_unless_present = "ca_file")]
    ca_fingerprint: Option<String>,
    /// The vault's internal CA, PEM, instead of its fingerprint.
    #[arg(long, value_name = "FILE", conflicts_with = "ca_fingerprint")]
    ca_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Verified {
    /// The report is what the vault has signed; whether the drill has proved the backup is `proven`.
    ok: bool,
    proven: bool,
    drill_id: String,
    vault_id: String,
    backup_sha256: String,
    keys_proven: u64,
    started_at: Option<String>,
    recorded_at: Option<String>,
    recorded_by: String,
    rto_seconds: f64,
    rpo_seconds: f64,
}

/// Checks a report.
pub(super) fn run(context: &Context, args: &Verify) -> Result<()> {
    let fingerprint = match (&args.ca_fingerprint, &args.ca_file) {
        (Some(fingerprint), _) => fingerprint.clone(),
        (None, Some(file)) => kek::fingerprint(file)?,
        (None, None) => String::new(),
    };
    let statement = files::read_text(&args.dir.join(drill::FILE))?;
    let statement = Statement::verify(&statement, &fingerprint)?;
    let (json, html) = (files::read(&args.dir.join(JSON))?, files::read(&args.dir.join(HTML))?);
    statement.check_report(&json, &html)?;
    let time = |at: OffsetDateTime| at.format(&Rfc3339).ok();
    let verified = Verified {
        ok: true,
        proven: statement.ok,
        drill_id: statement.drill_id,
        vault_id: statement.vault_id,
        backup_sha256: statement.backup_sha256,
        keys_proven: statement.keys_proven,
        started_at: time(statement.started_at),
        recorded_at: time(statement.recorded_at),
        recorded_by: statement.recorded_by,
        rto_seconds: seconds(statement.rto_milliseconds),
        rpo_seconds: seconds(statement.rpo_milliseconds),
    };
    output::one(context.format, &verified)
}
