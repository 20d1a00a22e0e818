//! `vaultctl backup create`: into a temporary file beside the one that is wanted, which gets its name
//! once all of it is on the disk.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tonic::Request;
use vault_proto::{
    error::ErrorKind,
    v1::{self, create_backup_response::Event},
};

use super::{Context, Counts};
use crate::error::{Error, Result};
use crate::output::{self, Progress};

/// How long the vault may be silent: it wraps a page of keys meanwhile, and may wait for its HSM.
const SILENCE: Duration = Duration::from_secs(180);

#[derive(Serialize)]
struct Made {
    file: String,
    size: u64,
    sha256: String,
    vault_id: String,
    created_at: Option<String>,
    kek_check_value: String,
    audit_sequence: u64,
    audit_head: String,
    counts: Counts,
    /// A restore does not have them: they are issued anew.
    not_escrowed: Vec<LeftOut>,
    taken_seconds: f64,
}

#[derive(Serialize)]
struct LeftOut {
    name: String,
    id: String,
    purpose: String,
}

/// Makes a backup.
pub(super) async fn run(context: &Context, out: &Path, recipients: Vec<String>) -> Result<()> {
    let begun = Instant::now();
    let mut file = Unfinished::beside(out)?;
    let mut backups = context.client().await?.backups();
    // No deadline for the whole: it takes as long as there are keys. Silence has one.
    let request = Request::new(v1::CreateBackupRequest { recipients });
    let mut stream = heard(backups.create_backup(request)).await??.into_inner();
    let (mut not_escrowed, mut summary) = (Vec::new(), None);
    let mut progress = Progress::new("backup");
    while let Some(message) = heard(stream.message()).await?? {
        match message.event {
            Some(Event::Data(bytes)) => {
                file.write(&bytes)?;
                progress.bytes(file.size);
            }
            Some(Event::LeftOut(v1::LeftOutKey { id, name, purpose })) => {
                not_escrowed.push(LeftOut { name, id, purpose });
            }
            Some(Event::Summary(said)) => summary = Some(said),
            None => {}
        }
    }
    drop(progress);
    let summary = summary.ok_or_else(|| {
        let subject = out.display().to_string();
        Error::new(ErrorKind::Unavailable, "make", subject, "the vault ended in the middle of it")
    })?;
    let (size, sha256) = file.finish(&summary)?;
    let made = Made {
        file: out.display().to_string(),
        size,
        sha256,
        vault_id: summary.vault_id,
        created_at: output::time(summary.created_at),
        kek_check_value: summary.kek_check_value,
        audit_sequence: summary.audit_sequence,
        audit_head: summary.audit_head,
        counts: summary.counts.map(counts).unwrap_or_default(),
        not_escrowed,
        taken_seconds: begun.elapsed().as_secs_f64(),
    };
    if !made.not_escrowed.is_empty() {
        output::note(&format!(
            "{} keys are not escrowed: after a loss, what they are for is issued anew",
            made.not_escrowed.len()
        ));
    }
    output::one(context.format, &made)
}

async fn heard<T>(word: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(SILENCE, word).await.map_err(|_| {
        Error::new(ErrorKind::Unavailable, "make", "a backup", "the vault does not say any more")
    })
}

fn counts(counts: v1::BackupCounts) -> Counts {
    Counts {
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

/// A file that has its name only once it is whole, and is gone where it never is.
struct Unfinished<'a> {
    file: NamedTempFile,
    path: &'a Path,
    size: u64,
    hash: Sha256,
}

impl<'a> Unfinished<'a> {
    fn beside(path: &'a Path) -> Result<Self> {
        crate::files::check_new(path)
            .map_err(|error| error.hint("move it away, or name another file"))?;
        let subject = || path.display().to_string();
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("write", subject(), "it is no name of a file"))?;
        // Nobody else reads it: tempfile makes it with mode 0600.
        let file = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .tempfile_in(directory(path))
            .map_err(|e| Error::invalid("write", subject(), e))?;
        Ok(Self { file, path, size: 0, hash: Sha256::new() })
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::local("write", self.path.display().to_string(), error)
            .hint("nothing is left of it; see that its disk has space, and begin again")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.failed(&e))?;
        self.size += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(())
    }

    /// Syncs it, gives it its name and syncs that; answers its size and hash.
    fn finish(self, summary: &v1::BackupSummary) -> Result<(u64, String)> {
        let sha256 = hex::encode(self.hash.clone().finalize());
        if (self.size, &sha256) != (summary.size, &summary.sha256) {
            let why = "what has arrived is not what the vault has sent";
            return Err(Error::new(
                ErrorKind::Verification,
                "write",
                self.path.display().to_string(),
                why,
            ));
        }
        self.file.as_file().sync_all().map_err(|e| self.failed(&e))?;
        let (path, subject, size) = (self.path, self.path.display().to_string(), self.size);
        self.file
            .persist_noclobber(path)
            .map_err(|e| Error::local("write", subject.as_str(), e.error))?;
        let synced = File::open(directory(path)).and_then(|directory| directory.sync_all());
        synced.map_err(|e| Error::local("write", subject, e))?;
        Ok((size, sha256))
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
