//! `vaultctl kek`.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{Args, Subcommand};
use der::Encode as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use vault_custody::{
    open,
    shares::{self, Quorum},
    transcript::Transcript,
};
use vault_proto::{error::ErrorKind, v1};
use x509_cert::der::DecodePem as _;

use super::{Context, init};
use crate::client::call;
use crate::error::{Error, Result};
use crate::files;
use crate::output::{self, Row};

/// What to do with the key-encryption key.
#[derive(Debug, Subcommand)]
pub enum Kek {
    /// Shows every KEK that backups may be under, and who keeps its shares.
    #[command(after_help = "Example: vaultctl kek show -o json")]
    Show,
    /// Makes a new KEK, whose shares go to the custodians named.
    ///
    /// The next backup holds every key under it; earlier backups open with the old shares. Needs
    /// so_pin, which vault.toml names.
    #[command(after_help = "Example: vaultctl --socket /run/vaultd/admin.sock kek rotate \
        --custodian ops=age1... --custodian security=age1... --custodian audit=age1... \
        --threshold 2 --shares-dir ./shares-2")]
    Rotate(NewShares),
    /// Makes new shares of the same KEK, by a quorum of the old ones.
    ///
    /// They are made on this machine: the KEK does not come to the vault. The old shares still rebuild
    /// it; rotate where one is in wrong hands.
    #[command(after_help = "Example: vaultctl kek reshare --share ops.json --share audit.json \
        --custodian ops=age1... --custodian legal=age1... --threshold 2 --shares-dir ./shares-2")]
    Reshare {
        #[command(flatten)]
        old: OldShares,
        #[command(flatten)]
        new: NewShares,
    },
    /// Puts the KEK into another token, for unwrapping only.
    ///
    /// The token is a standby's or a drill host's. Needs `vaultd` beside this program, and no running
    /// vault.
    #[command(after_help = "Example: vaultctl kek install --share ops.json --share audit.json \
        --pin-file pin --token 'pkcs11:token=drill?module-path=/usr/lib/softhsm/libsofthsm2.so'")]
    Install {
        /// The token, as an RFC 7512 URI.
        #[arg(long, value_name = "URI")]
        token: String,
        /// The file that holds the token's user PIN.
        #[arg(long, value_name = "FILE")]
        pin_file: PathBuf,
        #[command(flatten)]
        shares: OldShares,
    },
    /// Checks a ceremony's transcript, without a vault.
    #[command(after_help = "Example: vaultctl kek verify-transcript --shares-dir ./shares \
        --ca-fingerprint sha256:... ./shares/kek-transcript.json")]
    VerifyTranscript(VerifyTranscript),
}

/// A quorum's shares.
#[derive(Debug, Args)]
pub struct OldShares {
    /// A custodian's share, as an age file or opened; a quorum's are needed.
    #[arg(long = "share", value_name = "FILE", required = true)]
    shares: Vec<PathBuf>,
    /// An age identity that opens shares; may be repeated.
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

/// Who gets new shares.
#[derive(Debug, Args)]
pub struct NewShares {
    /// A custodian of one share, and its age recipient; may be repeated.
    #[arg(long = "custodian", value_name = "NAME=age1...", required = true,
        value_parser = crate::args::label)]
    custodians: Vec<(String, String)>,
    /// How many shares rebuild the key-encryption key.
    #[arg(long, value_name = "N")]
    threshold: u32,
    /// The directory for the encrypted shares; created 0700.
    #[arg(long, value_name = "DIR")]
    shares_dir: PathBuf,
}

/// A transcript and what it is held against.
#[derive(Debug, Args)]
pub struct VerifyTranscript {
    /// The transcript.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The fingerprint of the vault's internal CA, as `vaultctl init` and `status` say it.
    #[arg(long, value_name = "sha256:HEX", required_unless_present = "ca_file")]
    ca_fingerprint: Option<String>,
    /// The vault's internal CA, PEM, instead of its fingerprint.
    #[arg(long, value_name = "FILE", conflicts_with = "ca_fingerprint")]
    ca_file: Option<PathBuf>,
    /// The directory of the shares that the transcript names, to check them too.
    #[arg(long, value_name = "DIR")]
    shares_dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    check_value: String,
    state: String,
    threshold: u32,
    custodians: Vec<String>,
    made_at: Option<String>,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] =
        &["ID", "CHECK VALUE", "STATE", "THRESHOLD", "CUSTODIANS", "SHARES MADE"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.check_value.clone(),
            self.state.clone(),
            format!("{} of {}", self.threshold, self.custodians.len()),
            self.custodians.join(", "),
            output::short(&self.made_at),
        ]
    }
}

#[derive(Serialize)]
struct Made {
    kek_id: String,
    kek_check_value: String,
    threshold: u32,
    shares: Vec<String>,
    transcript: String,
}

/// Runs one verb.
///
/// # Errors
/// What the vault, the token, the shares or this machine say.
pub async fn run(context: &Context, verb: Kek) -> Result<()> {
    match verb {
        Kek::Show => show(context).await,
        Kek::Rotate(new) => rotate(context, new).await,
        Kek::Reshare { old, new } => reshare(context, &old, new).await,
        Kek::Install { token, pin_file, shares } => install(context, &token, &pin_file, &shares),
        Kek::VerifyTranscript(args) => verify_transcript(context, &args),
    }
}

async fn show(context: &Context) -> Result<()> {
    let mut keks = context.client().await?.keks();
    let listed = keks.list_keks(call(v1::ListKeksRequest {})).await?.into_inner();
    let rows = listed.keks.into_iter().map(|kek| Shown {
        id: kek.id,
        check_value: kek.check_value,
        state: kek.state,
        threshold: kek.threshold,
        custodians: kek.custodians,
        made_at: output::time(kek.made_at),
    });
    output::list(context.format, &rows.collect::<Vec<_>>())
}

async fn rotate(context: &Context, new: NewShares) -> Result<()> {
    let mut keks = context.client().await?.keks();
    init::check_shares_dir(&new.shares_dir, &new.custodians)?;
    context.confirm("make a new KEK, whose shares only the named custodians have")?;
    let custodians = new.custodians.into_iter();
    let request = v1::RotateKekRequest {
        custodians: custodians.map(|(name, recipient)| v1::Custodian { name, recipient }).collect(),
        threshold: new.threshold,
    };
    let made = keks.rotate_kek(call(request)).await?.into_inner();
    keep(context, &new.shares_dir, new.threshold, made)
}

/// The KEK is rebuilt and split here, in locked memory; the vault gets what custodians alone can
/// read.
async fn reshare(context: &Context, old: &OldShares, new: NewShares) -> Result<()> {
    let mut keks = context.client().await?.keks();
    let threshold = usize::try_from(new.threshold).unwrap_or(usize::MAX);
    let quorum = Quorum::parse(&new.custodians, threshold)?;
    init::check_shares_dir(&new.shares_dir, &new.custodians)?;
    let listed = keks.list_keks(call(v1::ListKeksRequest {})).await?.into_inner();
    let request = {
        let rebuilt = shares::rebuild(&open::shares(&old.shares, &old.identities)?)?;
        let id = rebuilt.kek.id.to_string();
        let in_force = listed.keks.first();
        if rebuilt.vault_id != listed.vault_id || in_force.is_none_or(|kek| kek.id != id) {
            let why = format!(
                "the shares are of KEK {id} of vault {}, which is not the one in force here",
                rebuilt.vault_id
            );
            return Err(Error::new(ErrorKind::Verification, "reshare", "the KEK", why)
                .hint("`vaultctl kek show` names the KEK in force and its custodians"));
        }
        v1::ReplaceSharesRequest {
            kek_id: id,
            threshold: new.threshold,
            shares: rebuilt.kek.split(&quorum, &rebuilt.vault_id)?.into_iter().map(wire).collect(),
            check_value: rebuilt.check_value,
        }
    };
    context.confirm("replace the KEK's shares")?;
    let made = keks.replace_shares(call(request)).await?.into_inner();
    keep(context, &new.shares_dir, new.threshold, made)
}

fn wire(share: shares::EncryptedShare) -> v1::EncryptedShare {
    v1::EncryptedShare {
        custodian: share.custodian.to_string(),
        recipient: share.recipient,
        age_armored: share.armored,
    }
}

fn keep(context: &Context, dir: &Path, threshold: u32, made: v1::KekCeremony) -> Result<()> {
    let shares = init::write_shares(dir, &made.shares, &made.transcript)?;
    let transcript = dir.join(vault_custody::transcript::FILE).display().to_string();
    let (kek_id, kek_check_value) = (made.kek_id, made.check_value);
    output::one(context.format, &Made { kek_id, kek_check_value, threshold, shares, transcript })
}

/// `vaultd` does it, which speaks to HSMs; as a process of its own, which is gone afterwards.
fn install(context: &Context, token: &str, pin_file: &Path, shares: &OldShares) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::local("start", "vaultd", e).hint("install vaultd beside vaultctl")
    };
    let vaultd = env::current_exe().map_err(failed)?.with_file_name("vaultd");
    let mut command = Command::new(vaultd);
    command.args(["install-kek", "--token", token, "--pin-file"]).arg(pin_file);
    for file in &shares.shares {
        command.arg("--share").arg(file);
    }
    for file in &shares.identities {
        command.arg("--identity").arg(file);
    }
    let ended = command.stdin(Stdio::null()).output().map_err(failed)?;
    if !ended.status.success() {
        // It has said everything in the same words.
        let _ = std::io::stderr().write_all(&ended.stderr);
        std::process::exit(ended.status.code().unwrap_or(1));
    }
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout)
        .map_err(|e| Error::local("read", "the answer of vaultd", e))?;
    output::one(context.format, &said)
}

fn verify_transcript(context: &Context, args: &VerifyTranscript) -> Result<()> {
    let text = files::read_text(&args.file)?;
    let fingerprint = match (&args.ca_fingerprint, &args.ca_file) {
        (Some(fingerprint), _) => fingerprint.clone(),
        (None, Some(file)) => fingerprint(file)?,
        (None, None) => String::new(),
    };
    let transcript = Transcript::verify(&text, &fingerprint)?;
    if let Some(dir) = &args.shares_dir {
        transcript.check_shares(dir)?;
    }
    output::one(context.format, &transcript)
}

/// The fingerprint of a certificate in a file.
///
/// # Errors
/// `Invalid` where there is none in it.
pub(super) fn fingerprint(file: &Path) -> Result<String> {
    let malformed = |e: der::Error| Error::invalid("read", file.display().to_string(), e);
    let certificate =
        x509_cert::Certificate::from_pem(files::read(file)?.as_slice()).map_err(malformed)?;
    let der = certificate.to_der().map_err(malformed)?;
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(der))))
}
