//! `vaultctl init` and `vaultctl shares`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vault_custody::transcript;
use vault_proto::{ids::OperatorName, v1};

use super::{Context, operator};
use crate::client::call;
use crate::error::{Error, Result};
use crate::{files, output};

/// The ceremony's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Example: vaultctl --socket /run/vaultd/admin.sock init \
    --custodian ops=age1... --custodian security=age1... --custodian audit=age1... \
    --threshold 2 --shares-dir ./shares --operator ada --operator-out ./ada")]
pub struct Init {
    /// A custodian of one share of the key-encryption key, and its age recipient; may be repeated.
    /// Without custodians keys are never in a backup.
    #[arg(long = "custodian", value_name = "NAME=age1...", value_parser = crate::args::label)]
    custodians: Vec<(String, String)>,
    /// How many shares rebuild the key-encryption key.
    #[arg(long, value_name = "N", requires = "custodians")]
    threshold: Option<u32>,
    /// The directory for the encrypted shares; created 0700.
    #[arg(long, value_name = "DIR", requires = "custodians")]
    shares_dir: Option<PathBuf>,
    /// The first operator's name.
    #[arg(long, value_name = "NAME", requires = "operator_out")]
    operator: Option<String>,
    /// The directory for the first operator's key and certificate; created 0700.
    #[arg(long, value_name = "DIR", requires = "operator")]
    operator_out: Option<PathBuf>,
}

/// Where the shares go once more.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: vaultctl --socket /run/vaultd/admin.sock shares --shares-dir ./shares"
)]
pub struct Shares {
    /// The directory for the encrypted shares; created 0700.
    #[arg(long, value_name = "DIR")]
    shares_dir: PathBuf,
}

#[derive(Serialize)]
struct Made {
    vault_id: String,
    ca_fingerprint: String,
    escrow: &'static str,
    kek_check_value: String,
    shares: Vec<String>,
    operator: String,
}

/// Runs the ceremony.
///
/// # Errors
/// What the vault or this machine says; files are checked before the vault is asked.
pub async fn run(context: &Context, args: Init) -> Result<()> {
    let shares_dir = prepare_shares(&args)?;
    let mut system = context.client().await?.system();
    let candidate = match &args.operator_out {
        None => None,
        Some(dir) => {
            let candidate = operator::Candidate::new()?;
            candidate.keep(dir)?;
            Some(candidate)
        }
    };
    let request = v1::InitRequest {
        custodians: args
            .custodians
            .into_iter()
            .map(|(name, recipient)| v1::Custodian { name, recipient })
            .collect(),
        threshold: args.threshold.unwrap_or(0),
        operator: args.operator.clone().unwrap_or_default(),
        operator_csr_der: candidate.map(|candidate| candidate.csr_der).unwrap_or_default(),
    };
    let made = match system.init(call(request)).await {
        Ok(made) => made.into_inner(),
        Err(status) => {
            if let Some(dir) = &args.operator_out {
                operator::discard(dir);
            }
            return Err(status.into());
        }
    };
    let shares = match &shares_dir {
        Some(dir) => write_shares(dir, &made.shares, &made.kek_transcript)?,
        None => Vec::new(),
    };
    if let (Some(issued), Some(dir), Some(name)) =
        (&made.operator, &args.operator_out, &args.operator)
    {
        operator::complete(dir, issued)?;
        output::note(&format!(
            "a profile for ~/.config/vaultctl/config.toml:\n{}",
            operator::profile(name, dir)
        ));
    }
    if made.shares.is_empty() {
        output::note("no custodians: keys of this vault are never in a backup (escrow none)");
    }
    let shown = Made {
        vault_id: made.vault_id,
        ca_fingerprint: made.ca_fingerprint,
        escrow: if made.shares.is_empty() { "none" } else { "wrapped" },
        kek_check_value: made.kek_check_value,
        shares,
        operator: made.operator.map(|issued| issued.spiffe_id).unwrap_or_default(),
    };
    output::one(context.format, &shown)
}

/// Makes the directory for the shares and sees that none is written over; `None` without
/// custodians.
fn prepare_shares(args: &Init) -> Result<Option<PathBuf>> {
    let invalid = |why: &str| Error::invalid("initialise", "the vault", why);
    if args.custodians.is_empty() {
        return Ok(None);
    }
    let dir = args.shares_dir.clone().ok_or_else(|| {
        invalid("there is no --shares-dir")
            .hint("name the directory that the custodians' shares go to")
    })?;
    if args.threshold.is_none() {
        return Err(invalid("there is no --threshold")
            .hint("say how many custodians rebuild the key, for example --threshold 2"));
    }
    check_shares_dir(&dir, &args.custodians)?;
    Ok(Some(dir))
}

/// Makes the directory for shares and sees that none is written over.
///
/// # Errors
/// `Invalid` where it cannot be made or has a share of these custodians' already.
pub fn check_shares_dir(dir: &Path, custodians: &[(String, String)]) -> Result<()> {
    files::create_secret_dir(dir)?;
    for (name, _) in custodians {
        files::check_new(&share_file(dir, name)?)?;
    }
    files::check_new(&dir.join(transcript::FILE))
}

/// Writes the encrypted shares of the KEK in force once more.
///
/// # Errors
/// What the vault or this machine says.
pub async fn shares(context: &Context, args: Shares) -> Result<()> {
    let mut system = context.client().await?.system();
    let listed = system.list_shares(call(v1::ListSharesRequest {})).await?.into_inner();
    files::create_secret_dir(&args.shares_dir)?;
    let written = write_shares(&args.shares_dir, &listed.shares, &listed.kek_transcript)?;
    output::one(context.format, &serde_json::json!({ "shares": written }))
}

/// A custodian's name becomes a file's: it is parsed, wherever it comes from.
fn share_file(dir: &Path, custodian: &str) -> Result<PathBuf> {
    let name: OperatorName = custodian
        .parse()
        .map_err(|e| Error::invalid("name", format!("the share of {custodian:?}"), e))?;
    Ok(dir.join(format!("{name}.age")))
}

/// Writes shares and their transcript; answers the shares' paths.
///
/// # Errors
/// Where one is there already or cannot be written.
pub fn write_shares(
    dir: &Path,
    shares: &[v1::EncryptedShare],
    transcript: &str,
) -> Result<Vec<String>> {
    let again = "`vaultctl shares` writes the shares once more";
    let mut written = Vec::new();
    for share in shares {
        let path = share_file(dir, &share.custodian)?;
        files::write_new(&path, share.age_armored.as_bytes(), 0o600).map_err(|e| e.hint(again))?;
        written.push(path.display().to_string());
    }
    if !transcript.is_empty() {
        let path = dir.join(transcript::FILE);
        files::write_new(&path, transcript.as_bytes(), 0o600).map_err(|e| e.hint(again))?;
    }
    Ok(written)
}
