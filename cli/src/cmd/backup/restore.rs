//! `vaultctl backup restore`: checked here first, then handed to the vault with what opens it.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use backon::{ConstantBuilder, Retryable as _};
use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vault_backup::{Facts, Identities, Manifest};
use vault_custody::open;
use vault_proto::{
    error::ErrorKind,
    v1::{self, restore_request::Part, restore_response::Event},
};
use zeroize::Zeroizing;

use super::{Context, Counts, heard, verify};
use crate::client::call;
use crate::cmd::operator;
use crate::error::{Error, Result};
use crate::output;
use crate::progress::Progress;

/// Bytes of one message.
const CHUNK: usize = 256 * 1024;
/// Between two looks at a vault that starts anew.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Looks in all: two minutes, since a start reads the whole audit log.
const LOOKS: usize = 480;

/// What is restored, and what opens it.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A file of age identities that opens the backup or a share; may be repeated.
    #[arg(long = "identity", value_name = "FILE", required = true)]
    identities: Vec<PathBuf>,
    /// A custodian's share of the KEK, as it was given to them or decrypted; a quorum's are needed.
    #[arg(long = "share", value_name = "FILE", required = true)]
    shares: Vec<PathBuf>,
    /// Restore it though there is a newer one, or its data is old.
    #[arg(long)]
    allow_stale: bool,
    /// Have a client certificate issued to this operator by the restored vault.
    #[arg(long, value_name = "NAME", requires = "operator_out")]
    operator: Option<String>,
    /// The directory for the operator's key and certificate; created 0700.
    #[arg(long, value_name = "DIR", requires = "operator")]
    operator_out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Restored {
    vault_id: String,
    snapshot_at: Option<String>,
    backup_sha256: String,
    kek_check_value: String,
    keys_restored: u64,
    counts: Counts,
    /// Keys that the backup does not have: what they are for is issued anew.
    lost: Vec<Lost>,
    audit_set_aside: String,
    ca_fingerprint: String,
    /// What the restored vault found at its start.
    findings: Vec<String>,
    operator: String,
    taken_seconds: f64,
}

#[derive(Serialize)]
struct Lost {
    name: String,
    id: String,
    purpose: String,
    plan: &'static str,
}

/// Restores a backup.
pub(super) async fn run(context: &Context, args: Restore) -> Result<()> {
    let begun = Instant::now();
    let checked = check(&args)?;
    let facts = &checked.manifest.facts;
    if let (false, Some((path, newer))) = (args.allow_stale, newer(&args.file, &checked, facts)) {
        let why = format!("{} is newer: of {}", path.display(), time(&newer));
        return Err(Error::invalid("restore", checked.subject, why)
            .hint("restore that one, or this one all the same with --allow-stale"));
    }
    let question = format!(
        "restore vault {} as of {} into this vault and its token",
        facts.vault_id,
        time(facts)
    );
    context.confirm(&question)?;
    let candidate = candidate(&args)?;
    let done = send(context, &args, checked).await;
    let (summary, lost) = done.inspect_err(|_| discard(&args))?;
    let status = comes_up(context, &summary.vault_id).await?;
    let operator = match (&args.operator, &args.operator_out, candidate) {
        (Some(name), Some(dir), Some(csr_der)) => issue(context, name, dir, csr_der).await?,
        _ => String::new(),
    };
    if !lost.is_empty() {
        output::note(&format!(
            "{} keys were not escrowed and are lost: what they are for is issued anew",
            lost.len()
        ));
    }
    output::one(
        context.format,
        &Restored {
            vault_id: summary.vault_id,
            snapshot_at: output::time(summary.snapshot_at),
            backup_sha256: summary.backup_sha256,
            kek_check_value: summary.kek_check_value,
            keys_restored: summary.keys_restored,
            counts: summary.counts.map(Counts::from).unwrap_or_default(),
            lost,
            audit_set_aside: summary.audit_set_aside,
            ca_fingerprint: status.ca_fingerprint,
            findings: status.findings,
            operator,
            taken_seconds: begun.elapsed().as_secs_f64(),
        },
    )
}

/// A backup that holds, and what opens it.
struct Checked {
    subject: String,
    manifest: Manifest,
    known: Identities,
    /// The one file of identities that opens the backup: custodians' own stay here.
    identity: Zeroizing<String>,
    shares: Vec<Zeroizing<String>>,
}

fn check(args: &Restore) -> Result<Checked> {
    let subject = format!("backup {}", args.file.display());
    let (known, identity) = opener(&subject, args)?;
    let shares = open::shares(&args.shares, &args.identities)?;
    let manifest = verify::whole(&args.file, &known)?;
    if manifest.facts.kek.is_none() {
        let why = "its vault has no KEK, so no key is in it, not even the internal CA's";
        return Err(Error::invalid("restore", subject, why).hint(
            "`vaultctl init` a new vault with custodians, enrol its agents, and issue its \
             certificates again",
        ));
    }
    verify::rebuild(&subject, &manifest, &shares)?;
    Ok(Checked { subject, manifest, known, identity, shares })
}

/// The identities that open the backup, and nobody else's.
fn opener(subject: &str, args: &Restore) -> Result<(Identities, Zeroizing<String>)> {
    let mut last = None;
    for (file, text) in args.identities.iter().zip(verify::identity_texts(&args.identities)?) {
        let mut known = Identities::default();
        known.add(&text).map_err(|e| {
            Error::invalid("read", format!("identity {}", file.display()), e)
                .hint("an identity is what `age-keygen` writes")
        })?;
        let backup = File::open(&args.file).map_err(|e| Error::invalid("read", subject, e))?;
        match vault_backup::Reader::open(&known, BufReader::new(backup)) {
            Err(vault_backup::Fault::Given { .. }) => last = Some(known),
            // Where it is broken, the check of the whole says so.
            Ok(_) | Err(_) => return Ok((known, text)),
        }
    }
    // The check of the whole says why.
    verify::whole(&args.file, &last.unwrap_or_default())?;
    Err(Error::invalid("open", subject, "no identity given opens it"))
}

/// A newer backup of the same vault beside this one.
fn newer(file: &Path, checked: &Checked, facts: &Facts) -> Option<(PathBuf, Facts)> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = fs::read_dir(directory.unwrap_or(Path::new("."))).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let backups = paths.filter(|path| path.extension().is_some_and(|ending| ending == "age"));
    let newer = backups.filter_map(|path| {
        let other = BufReader::new(File::open(&path).ok()?);
        let other = vault_backup::newer_than(facts, &checked.known, other)?;
        Some((path, other))
    });
    newer.max_by_key(|(_, other)| other.created_at)
}

fn time(facts: &Facts) -> String {
    let format = time::format_description::well_known::Rfc3339;
    facts.created_at.format(&format).unwrap_or_default()
}

/// The operator's key, before anything is done; answers its CSR.
fn candidate(args: &Restore) -> Result<Option<Vec<u8>>> {
    let Some(dir) = &args.operator_out else { return Ok(None) };
    let candidate = operator::Candidate::new()?;
    candidate.keep(dir)?;
    Ok(Some(candidate.csr_der))
}

fn discard(args: &Restore) {
    if let Some(dir) = &args.operator_out {
        operator::discard(dir);
    }
}

async fn issue(context: &Context, name: &str, dir: &Path, csr_der: Vec<u8>) -> Result<String> {
    let mut system = context.client().await?.system();
    let role = "operator".to_owned();
    let request = v1::IssueIdentityRequest { name: name.to_owned(), role, csr_der };
    let issued = system.issue_identity(call(request)).await;
    let issued = issued.inspect_err(|_| operator::discard(dir))?.into_inner();
    operator::complete(dir, &issued)?;
    Ok(issued.spiffe_id)
}

/// Sends it, and hears the vault out.
async fn send(
    context: &Context,
    args: &Restore,
    checked: Checked,
) -> Result<(v1::RestoreSummary, Vec<Lost>)> {
    let mut restores = context.client().await?.restores();
    let (size, sha256) = hash(&args.file)?;
    let begin = v1::RestoreBegin {
        identities: vec![checked.identity.as_bytes().to_vec()],
        shares: checked.shares.iter().map(|share| share.as_bytes().to_vec()).collect(),
        size,
        sha256,
        allow_stale: args.allow_stale,
    };
    drop(checked);
    let (parts, sent) = mpsc::channel(2);
    let path = args.file.clone();
    let sending = tokio::task::spawn_blocking(move || send_parts(&path, begin, &parts));
    let call = restores.restore(ReceiverStream::new(sent));
    let mut told = heard(call).await??.into_inner();
    let (mut lost, mut summary) = (Vec::new(), None);
    let progress = Progress::new("restore");
    while let Some(message) = heard(told.message()).await?? {
        match message.event {
            Some(Event::Progress(v1::RestoreProgress { stage, done, total })) => {
                progress.stage(&stage, done, total);
            }
            Some(Event::Lost(v1::LeftOutKey { id, name, purpose })) => {
                lost.push(Lost { name, id, purpose, plan: "none: re-issue" });
            }
            Some(Event::Summary(said)) => summary = Some(said),
            None => {}
        }
    }
    drop(progress);
    let read = sending.await.map_err(|e| Error::local("read", "the backup", e))?;
    let summary = summary.ok_or_else(|| {
        let why = "the vault ended in the middle of it";
        Error::new(ErrorKind::Unavailable, "restore", "the backup", why)
            .hint("start vaultd and run the same command again: it goes on")
    })?;
    read.map_err(|e| Error::local("read", "the backup", e))?;
    Ok((summary, lost))
}

fn hash(path: &Path) -> Result<(u64, String)> {
    let (mut hash, mut size, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
    let mut read = || -> io::Result<()> {
        let mut file = File::open(path)?;
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            size += read as u64;
            hash.update(chunk.get(..read).unwrap_or_default());
        }
    };
    read().map_err(|e| Error::invalid("read", path.display().to_string(), e))?;
    Ok((size, hex::encode(hash.finalize())))
}

fn send_parts(
    path: &Path,
    begin: v1::RestoreBegin,
    parts: &mpsc::Sender<v1::RestoreRequest>,
) -> io::Result<()> {
    let part = |part| v1::RestoreRequest { part: Some(part) };
    // Where the vault hangs up, its answer says why.
    let mut gone = parts.blocking_send(part(Part::Begin(begin))).is_err();
    let mut file = File::open(path)?;
    while !gone {
        let mut chunk = Vec::with_capacity(CHUNK);
        if (&mut file).take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            break;
        }
        gone = parts.blocking_send(part(Part::Data(chunk))).is_err();
    }
    Ok(())
}

/// Waits until the vault has started anew as the one that was restored.
async fn comes_up(context: &Context, vault_id: &str) -> Result<v1::StatusResponse> {
    let look = || async {
        let mut system = context.client().await?.system();
        let status = system.status(call(v1::StatusRequest {})).await?.into_inner();
        match status.initialized && status.vault_id == vault_id {
            true => Ok(status),
            false => Err(Error::new(ErrorKind::Unavailable, "wait for", "the vault", "not yet")),
        }
    };
    let schedule = ConstantBuilder::default().with_delay(LOOK_AGAIN).with_max_times(LOOKS);
    look.retry(schedule).when(|_: &Error| true).await.map_err(|_| {
        let why = "it was restored, and does not answer as that vault";
        Error::new(ErrorKind::Unavailable, "wait for", format!("vault {vault_id}"), why)
            .hint("see the log of vaultd; the restore itself is done: start vaultd once more")
    })
}
