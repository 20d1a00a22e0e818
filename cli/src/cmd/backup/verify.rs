//! `vaultctl backup verify`: without a vault.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use vault_backup::{Fault, Identities, Kek, Manifest};
use vault_custody::{open, shares};
use vault_proto::{error::ErrorKind, v1};
use zeroize::Zeroizing;

use super::{Context, Counts};
use crate::error::{Error, Result};
use crate::output;
use crate::progress::Progress;

/// What is said of a backup that does not hold.
const BROKEN: &str =
    "do not rely on this backup: take another one, and find out what happened to it";

/// More than a file of identities takes.
const ROOM: usize = 4096;

#[derive(Serialize)]
struct Verified {
    ok: bool,
    vault_id: String,
    created_at: Option<String>,
    software: String,
    parts: u64,
    kek_check_value: String,
    /// Whether the shares that were given rebuild the KEK; null where none was given.
    kek_rebuilt: Option<bool>,
    audit_sequence: u64,
    audit_head: String,
    counts: Counts,
}

/// Checks a backup and, where there are shares, that they rebuild the KEK that its keys are under.
pub(super) fn run(
    context: &Context,
    file: &Path,
    identities: &[PathBuf],
    share_files: &[PathBuf],
) -> Result<()> {
    let subject = format!("backup {}", file.display());
    let known = read_identities(identities)?;
    let texts = open::shares(share_files, identities)?;
    let manifest = whole(file, &known)?;
    let kek_rebuilt = match texts.is_empty() {
        true => None,
        false => Some(rebuild(&subject, &manifest, &texts)?),
    };
    output::one(context.format, &shown(manifest, kek_rebuilt))
}

/// Checks the whole of a backup.
///
/// # Errors
/// `Invalid` where no identity opens it, `Verification` where it does not hold.
pub(super) fn whole(file: &Path, identities: &Identities) -> Result<Manifest> {
    let subject = format!("backup {}", file.display());
    let opened = File::open(file).map_err(|e| Error::invalid("read", subject.as_str(), e))?;
    let progress = Progress::new("verified");
    let opened = BufReader::new(opened);
    let checked = vault_backup::verify(identities, opened, |read| progress.bytes(read));
    drop(progress);
    checked.map_err(|fault| match fault {
        Fault::Given { .. } => Error::invalid("open", subject.as_str(), fault)
            .hint("give the identity of one of its recipients with --identity"),
        Fault::Broken { .. } => {
            Error::new(ErrorKind::Verification, "verify", subject.as_str(), fault).hint(BROKEN)
        }
    })
}

/// Identities of all files.
fn read_identities(files: &[PathBuf]) -> Result<Identities> {
    let mut identities = Identities::default();
    for (file, text) in files.iter().zip(identity_texts(files)?) {
        let wrong = |e: Fault| {
            Error::invalid("read", format!("identity {}", file.display()), e)
                .hint("an identity is what `age-keygen` writes")
        };
        identities.add(&text).map_err(wrong)?;
    }
    Ok(identities)
}

/// What is in files of identities.
///
/// # Errors
/// `Invalid` where one cannot be read.
pub(super) fn identity_texts(files: &[PathBuf]) -> Result<Vec<Zeroizing<String>>> {
    let mut texts = Vec::new();
    for file in files {
        // With room enough it does not grow, which would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        let read = File::open(file).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|e| {
            Error::invalid("read", format!("identity {}", file.display()), e)
                .hint("an identity is what `age-keygen` writes")
        })?;
        texts.push(text);
    }
    Ok(texts)
}

/// Holds the KEK that shares rebuild against the one that the backup names.
///
/// # Errors
/// `Verification` where they make none or another, `Invalid` where it names none.
pub(super) fn rebuild(
    subject: &str,
    manifest: &Manifest,
    texts: &[Zeroizing<String>],
) -> Result<bool> {
    let Some(Kek { id, check_value, .. }) = &manifest.facts.kek else {
        let why = "its vault has no KEK: there is nothing that shares could open";
        return Err(Error::invalid("verify", subject, why).hint("leave the shares out"));
    };
    let kek = shares::combine(texts, &manifest.facts.vault_id)?;
    let found = kek.check_value(&manifest.facts.vault_id);
    if (&kek.id, &found) != (id, check_value) {
        let why = format!("the shares are of KEK {found}, its keys are under {check_value}");
        return Err(Error::new(ErrorKind::Verification, "verify", subject, why)
            .hint("give shares of the ceremony that this backup's KEK is of"));
    }
    Ok(true)
}

fn shown(manifest: Manifest, kek_rebuilt: Option<bool>) -> Verified {
    let Manifest { facts, parts, counts } = manifest;
    Verified {
        ok: true,
        vault_id: facts.vault_id,
        created_at: facts.created_at.format(&Rfc3339).ok(),
        software: facts.software,
        parts: parts.len() as u64,
        kek_check_value: facts.kek.map_or(String::new(), |kek| kek.check_value),
        kek_rebuilt,
        audit_sequence: facts.audit.sequence,
        audit_head: facts.audit.head,
        counts: v1::BackupCounts::from(&counts).into(),
    }
}
