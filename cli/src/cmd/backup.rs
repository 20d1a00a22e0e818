//! `vaultctl backup`.

mod create;
mod kept;
mod restore;
mod unfinished;
mod verify;

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use serde::Serialize;
use vault_proto::{error::ErrorKind, v1};

pub(super) use kept::fetch_into;

use super::Context;
use crate::error::{Error, Result};

/// How long the vault may be silent: it wraps a page of keys meanwhile, and may wait for its HSM.
const SILENCE: Duration = Duration::from_secs(180);

/// Backups.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Makes a backup: an age file that the recipients' identities open, and nobody else's.
    #[command(after_help = "Example: vaultctl backup create --out vault.age --recipient age1...")]
    Create {
        /// The file; it must not be there yet, and is there only once it is whole.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// An age recipient who can open it; may be repeated [default: those of the vault's
        /// configuration].
        #[arg(long = "recipient", value_name = "age1...")]
        recipients: Vec<String>,
    },
    /// Checks a backup without a vault; exit code 7 where it does not hold.
    #[command(after_help = "Example: vaultctl backup verify vault.age --identity my.identity")]
    Verify {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// A file of age identities; may be repeated.
        #[arg(long = "identity", value_name = "FILE", required = true)]
        identities: Vec<PathBuf>,
        /// A custodian's share of the KEK, as it was given to them or decrypted; may be repeated.
        /// With a quorum the KEK is held against the backup.
        #[arg(long = "share", value_name = "FILE")]
        shares: Vec<PathBuf>,
    },
    /// Restores a backup into a vault that is not initialised, with an empty token.
    ///
    /// All or nothing: where it fails, the same command goes on. The vault starts itself anew after it.
    #[command(after_help = "Example: vaultctl backup restore vault.age --identity my.identity \
        --share a.json --share b.json")]
    Restore(restore::Restore),
    /// Makes one now where the vault's schedule puts them.
    #[command(after_help = "Example: vaultctl backup run")]
    Run,
    /// Lists backups that were made, newest first.
    #[command(after_help = "Example: vaultctl backup list --limit 10")]
    List {
        /// How many at most, up to 1,000.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// Only those made before this one.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },
    /// Fetches a backup from where the vault's schedule has put it.
    #[command(after_help = "Example: vaultctl backup fetch ID --out vault.age")]
    Fetch {
        /// Its id, as `backup list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// The file; it must not be there yet, and is there only once it is whole and is what the
        /// vault has made.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Removes backups that retention (`[backup]` in the vault's configuration) does not keep.
    #[command(after_help = "Example: vaultctl backup prune --dry-run")]
    Prune {
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says, and what is wrong with a backup.
pub async fn run(context: &Context, verb: Backup) -> Result<()> {
    match verb {
        Backup::Create { out, recipients } => create::run(context, &out, recipients).await,
        Backup::Verify { file, identities, shares } => {
            verify::run(context, &file, &identities, &shares)
        }
        Backup::Restore(args) => restore::run(context, args).await,
        Backup::Run => kept::run(context).await,
        Backup::List { limit, before } => kept::list(context, limit, before).await,
        Backup::Fetch { id, out } => kept::fetch(context, id, &out).await,
        Backup::Prune { dry_run } => kept::prune(context, dry_run).await,
    }
}

/// How much there is of each thing.
#[derive(Debug, Default, Serialize)]
struct Counts {
    keys_wrapped: u64,
    keys_not_escrowed: u64,
    keys_gone: u64,
    accounts: u64,
    agents: u64,
    identities: u64,
    certificates: u64,
    versions: u64,
    orders: u64,
    deployments: u64,
    audit_records: u64,
}

impl From<v1::BackupCounts> for Counts {
    fn from(counts: v1::BackupCounts) -> Self {
        Self {
            keys_wrapped: counts.keys_wrapped,
            keys_not_escrowed: counts.keys_not_escrowed,
            keys_gone: counts.keys_gone,
            accounts: counts.accounts,
            agents: counts.agents,
            identities: counts.identities,
            certificates: counts.certificates,
            versions: counts.versions,
            orders: counts.orders,
            deployments: counts.deployments,
            audit_records: counts.audit_records,
        }
    }
}

/// Waits for the vault's next word, so long and no longer.
async fn heard<T>(word: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(SILENCE, word).await.map_err(|_| {
        Error::new(
            ErrorKind::Unavailable,
            "wait for",
            "a backup",
            "the vault does not say any more",
        )
    })
}
