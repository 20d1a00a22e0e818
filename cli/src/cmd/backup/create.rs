//! `vaultctl backup create`: into a temporary file beside the one that is wanted, which gets its name
//! once all of it is on the disk.

use std::{path::Path, time::Instant};

use serde::Serialize;
use tonic::Request;
use vault_proto::{
    error::ErrorKind,
    v1::{self, create_backup_response::Event},
};

use super::{Context, Counts, heard, unfinished::Unfinished};
use crate::error::{Error, Result};
use crate::output;
use crate::progress::Progress;

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
    let progress = Progress::new("backup");
    while let Some(message) = heard(stream.message()).await?? {
        match message.event {
            Some(Event::Data(bytes)) => {
                progress.bytes(file.write(&bytes)?);
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
    let changed = "what has arrived is not what the vault has sent";
    file.finish(summary.size, &summary.sha256, changed)?;
    let made = Made {
        file: out.display().to_string(),
        size: summary.size,
        sha256: summary.sha256,
        vault_id: summary.vault_id,
        created_at: output::time(summary.created_at),
        kek_check_value: summary.kek_check_value,
        audit_sequence: summary.audit_sequence,
        audit_head: summary.audit_head,
        counts: summary.counts.map(Counts::from).unwrap_or_default(),
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
