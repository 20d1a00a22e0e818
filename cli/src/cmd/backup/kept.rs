//! `vaultctl backup run`, `list`, `fetch` and `prune`: backups that the vault has put in their place.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tonic::Request;
use vault_proto::{
    error::ErrorKind,
    v1::{self, read_backup_response::Event},
};

use super::{Context, Counts, heard, unfinished::Unfinished};
use crate::client::{Client, call};
use crate::error::{Error, Result};
use crate::output::{self, Row};
use crate::progress::Progress;

/// How long one may take: with as many keys as a vault has, at a slow HSM.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// A backup that was made.
#[derive(Debug, Serialize)]
struct Backup {
    id: String,
    created_at: Option<String>,
    state: String,
    size: u64,
    sha256: String,
    location: String,
    kek_check_value: String,
    audit_sequence: u64,
    audit_head: String,
    counts: Counts,
}

impl From<v1::Backup> for Backup {
    fn from(backup: v1::Backup) -> Self {
        Self {
            id: backup.id,
            created_at: output::time(backup.created_at),
            state: backup.state,
            size: backup.size,
            sha256: backup.sha256,
            location: backup.location,
            kek_check_value: backup.kek_check_value,
            audit_sequence: backup.audit_sequence,
            audit_head: backup.audit_head,
            counts: backup.counts.map(Counts::from).unwrap_or_default(),
        }
    }
}

impl Row for Backup {
    const HEADER: &'static [&'static str] = &["ID", "CREATED", "STATE", "SIZE", "LOCATION"];

    fn cells(&self) -> Vec<String> {
        let location = match self.location.as_str() {
            "" => "-",
            location => location,
        };
        vec![
            self.id.clone(),
            output::short(&self.created_at),
            self.state.clone(),
            self.size.to_string(),
            location.to_owned(),
        ]
    }
}

/// Has the vault make one where its schedule puts them.
pub(super) async fn run(context: &Context) -> Result<()> {
    let mut backups = context.client().await?.backups();
    let made = backups.run_backup(Request::new(v1::RunBackupRequest {}));
    let made = tokio::time::timeout(LONGEST, made).await.map_err(|_| {
        Error::new(ErrorKind::Unavailable, "make", "a backup", "the vault does not answer")
    })??;
    output::one(context.format, &Backup::from(made.into_inner()))
}

/// Lists those that were made.
pub(super) async fn list(context: &Context, limit: u32, before: Option<String>) -> Result<()> {
    let mut backups = context.client().await?.backups();
    let request = v1::ListBackupsRequest { limit, before: before.unwrap_or_default() };
    let listed = backups.list_backups(call(request)).await?.into_inner().backups;
    let listed: Vec<_> = listed.into_iter().map(Backup::from).collect();
    output::list(context.format, &listed)
}

#[derive(Serialize)]
struct Fetched {
    file: String,
    #[serde(flatten)]
    backup: Backup,
}

/// Fetches one, held against what the vault has on record of it.
pub(super) async fn fetch(context: &Context, id: String, out: &Path) -> Result<()> {
    let backup = fetch_into(&context.client().await?, id, out).await?;
    let fetched = Fetched { file: out.display().to_string(), backup: backup.into() };
    output::one(context.format, &fetched)
}

/// Fetches one into a file that is not there yet; answers which it is.
///
/// # Errors
/// `Verification` where it is not what is on record, and what the vault or this machine says.
pub(in crate::cmd) async fn fetch_into(
    client: &Client,
    id: String,
    out: &Path,
) -> Result<v1::Backup> {
    let mut file = Unfinished::beside(out)?;
    let mut backups = client.backups();
    let subject = format!("backup {id}");
    let request = Request::new(v1::ReadBackupRequest { id });
    let mut stream = heard(backups.read_backup(request)).await??.into_inner();
    let progress = Progress::new("backup");
    let mut backup = None;
    while let Some(message) = heard(stream.message()).await?? {
        match message.event {
            Some(Event::Backup(said)) => backup = Some(said),
            Some(Event::Data(bytes)) => progress.bytes(file.write(&bytes)?),
            None => {}
        }
    }
    drop(progress);
    let backup = backup.ok_or_else(|| {
        let why = "the vault ended before it has said which one it is";
        Error::new(ErrorKind::Unavailable, "read", subject.as_str(), why)
    })?;
    let changed = "it is not what the vault has made: it was changed or cut off where it is kept, \
                   or on its way";
    file.finish(backup.size, &backup.sha256, changed).map_err(|error| {
        error.hint("fetch it again; where it is the same again, rely on another one")
    })?;
    Ok(backup)
}

/// Removes those that retention does not keep.
pub(super) async fn prune(context: &Context, dry_run: bool) -> Result<()> {
    if !dry_run {
        context.confirm("remove the backups that [backup] of vault.toml does not keep")?;
    }
    let mut backups = context.client().await?.backups();
    let request = v1::PruneBackupsRequest { dry_run };
    let removed = backups.prune_backups(call(request)).await?.into_inner().removed;
    let removed: Vec<_> = removed.into_iter().map(Backup::from).collect();
    output::list(context.format, &removed)
}
