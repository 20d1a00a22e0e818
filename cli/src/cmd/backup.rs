//! `vaultctl backup`.

mod create;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use crate::error::Result;

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
