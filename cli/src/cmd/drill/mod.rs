//! `vaultctl drill`: a backup's whole restore, tried beside the vault, proven and reported.

mod ask;
mod child;
mod page;
mod plot;
mod report;
mod run;
mod scratch;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use vault_proto::v1;

use super::Context;
use crate::client::call;
use crate::error::Result;
use crate::output::{self, Row};

/// Where Debian's softhsm2 has its module.
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Drills: restores that are tried, and what they prove.
#[derive(Debug, Subcommand)]
pub enum Drill {
    /// Restores a backup into a token and a store of its own and proves everything in it; exit code
    /// 7 where anything is not proven.
    ///
    /// The vault and its token are not touched. The report is signed by the vault and recorded there,
    /// where it can be reached. Needs `vaultd` beside this program.
    #[command(after_help = "Example: vaultctl drill run vault.age --identity backup.identity \
        --share ops.age --identity ops.identity --share audit.age --identity audit.identity")]
    Run(Box<Run>),
    /// Lists drills on record, newest first.
    #[command(after_help = "Example: vaultctl drill list -o json")]
    List {
        /// How many at most, up to 1,000.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shows a drill on record and every check that it made.
    #[command(after_help = "Example: vaultctl drill show ID")]
    Show {
        /// Its id, as `drill list` shows it.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Checks a report and its statement, without a vault.
    #[command(after_help = "Example: vaultctl drill verify ./drill-ID --ca-fingerprint sha256:...")]
    Verify(verify::Verify),
}

/// What is drilled, and by what.
#[derive(Debug, Args)]
pub struct Run {
    /// The backup [default: the newest that the vault keeps].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// A file of age identities that open the backup, and shares; may be repeated.
    #[arg(long = "identity", value_name = "FILE", required = true)]
    identities: Vec<PathBuf>,
    /// A custodian's share of the KEK, as it was given to them or decrypted; a quorum's are needed.
    #[arg(long = "share", value_name = "FILE", conflicts_with = "token")]
    shares: Vec<PathBuf>,
    /// The directory for the report [default: ./drill-ID].
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// A token into which `kek install` has put the KEK, instead of shares; an RFC 7512 URI.
    #[arg(long, value_name = "URI", requires = "pin_file")]
    token: Option<String>,
    /// The file that holds that token's user PIN.
    #[arg(long, value_name = "FILE", requires = "token")]
    pin_file: Option<PathBuf>,
    /// The PKCS#11 module of the scratch token; a SoftHSM.
    #[arg(long, value_name = "FILE", default_value = SOFTHSM, conflicts_with = "token")]
    module: PathBuf,
    /// Where the scratch directory is made [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Ask no vault: the drill is not recorded then.
    #[arg(long, requires = "file")]
    offline: bool,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    recorded_at: Option<String>,
    started_at: Option<String>,
    ok: bool,
    backup_sha256: String,
    backup_created_at: Option<String>,
    keys_proven: u64,
    rto_seconds: f64,
    rpo_seconds: f64,
    recorded_by: String,
    checks: Vec<CheckShown>,
    report_json_sha256: String,
    report_html_sha256: String,
}

#[derive(Serialize)]
struct CheckShown {
    name: String,
    status: String,
    detail: String,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] =
        &["ID", "RECORDED", "PROVEN", "BACKUP OF", "KEYS", "RTO", "RPO", "NOT PROVEN"];
    fn cells(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| check.status == "failed");
        let failed: Vec<_> = failed.map(|check| check.name.as_str()).collect();
        vec![
            self.id.clone(),
            output::short(&self.recorded_at),
            if self.ok { "yes" } else { "NO" }.to_owned(),
            output::short(&self.backup_created_at),
            self.keys_proven.to_string(),
            report::duration(self.rto_seconds),
            report::duration(self.rpo_seconds),
            if failed.is_empty() { "-".to_owned() } else { failed.join(", ") },
        ]
    }
}

impl From<v1::Drill> for Shown {
    fn from(drill: v1::Drill) -> Self {
        let check = |check: v1::DrillCheck| CheckShown {
            name: check.name,
            status: check.status,
            detail: check.detail,
        };
        Self {
            id: drill.id,
            recorded_at: output::time(drill.recorded_at),
            started_at: output::time(drill.started_at),
            ok: drill.ok,
            backup_sha256: drill.backup_sha256,
            backup_created_at: output::time(drill.backup_created_at),
            keys_proven: drill.keys_proven,
            rto_seconds: report::seconds(drill.rto_milliseconds),
            rpo_seconds: report::seconds(drill.rpo_milliseconds),
            recorded_by: drill.recorded_by,
            checks: drill.checks.into_iter().map(check).collect(),
            report_json_sha256: drill.report_json_sha256,
            report_html_sha256: drill.report_html_sha256,
        }
    }
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says, and what is not proven.
pub async fn run(context: &Context, verb: Drill) -> Result<()> {
    match verb {
        Drill::Run(args) => run::run(context, &args).await,
        Drill::List { limit } => {
            let mut drills = context.client().await?.drills();
            let request = call(v1::ListDrillsRequest { limit });
            let listed = drills.list_drills(request).await?.into_inner().drills;
            let listed: Vec<_> = listed.into_iter().map(Shown::from).collect();
            output::list(context.format, &listed)
        }
        Drill::Show { id } => {
            let mut drills = context.client().await?.drills();
            let drill = drills.get_drill(call(v1::GetDrillRequest { id })).await?.into_inner();
            output::one(context.format, &Shown::from(drill))
        }
        Drill::Verify(args) => verify::run(context, &args),
    }
}
