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
use vault_proto::error::ErrorKind;
use zeroize::Zeroizing;

use super::{Context, Counts};
use crate::error::{Error, Result};
use crate::output::{self, Progress};

/// What is said of a backup that does not hold.
const BROKEN: &str =
    "do not rely on this backup: take another one, and find out what happened to it";

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
    let opened = File::open(file).map_err(|e| Error::invalid("read", subject.as_str(), e))?;
    let known = read_identities(identities)?;
    let texts = open::shares(share_files, identities)?;
    let mut progress = Progress::new("verified");
    let checked = vault_backup::verify(&known, BufReader::new(opened), |read| progress.bytes(read));
    drop(progress);
    let manifest = checked.map_err(|fault| match fault {
        Fault::Given { .. } => Error::invalid("open", subject.as_str(), fault)
            .hint("give the identity of one of its recipients with --identity"),
        Fault::Broken { .. } => {
            Error::new(ErrorKind::Verification, "verify", subject.as_str(), fault).hint(BROKEN)
        }
    })?;
    let kek_rebuilt = match texts.is_empty() {
        true => None,
        false => Some(rebuild(&subject, &manifest, &texts)?),
    };
    output::one(context.format, &shown(manifest, kek_rebuilt))
}

fn read_identities(files: &[PathBuf]) -> Result<Identities> {
    let mut identities = Identities::default();
    for file in files {
        let wrong = |why: String| {
            Error::invalid("read", format!("identity {}", file.display()), why)
                .hint("an identity is what `age-keygen` writes")
        };
        let mut text = Zeroizing::new(String::new());
        let read = File::open(file).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|e| wrong(e.to_string()))?;
        identities.add(&text).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(identities)
}

/// Holds the KEK that shares rebuild against the one that the backup names.
fn rebuild(subject: &str, manifest: &Manifest, texts: &[Zeroizing<String>]) -> Result<bool> {
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
        counts: Counts {
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
        },
    }
}
