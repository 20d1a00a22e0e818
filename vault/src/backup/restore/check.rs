//! Before anything is touched: the whole backup holds, it is one that this vault can become, and the
//! shares make its KEK.

use std::time::Duration;

use time::OffsetDateTime;
use vault_backup::{Entry, Facts, KeyStatus, Manifest};
use vault_custody::shares::{self, Kek};
use zeroize::Zeroizing;

use super::source::{Source, fault};
use crate::backup::LeftOut;
use crate::error::{Error, Result};
use crate::settings::{VAULT, Vault};

/// How many bytes go between two words of progress.
const OFTEN: u64 = 1 << 20;

/// A backup that holds, and what a restore needs to know of it.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) manifest: Manifest,
    /// Keys in use that it does not have.
    pub(super) lost: Vec<LeftOut>,
}

/// What a backup must be to be restored here.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) trust_domain: String,
    /// The newest schema that this program knows.
    pub(super) schema_version: u64,
    /// How old its data may be; `None` where it may be stale.
    pub(super) stale_after: Option<Duration>,
    pub(super) now: OffsetDateTime,
}

/// Reads all of it; `progress` hears how many bytes.
///
/// # Errors
/// `Verification` where it does not hold, `Invalid` where it is not what is wanted.
pub(super) fn check(
    source: &Source,
    wanted: &Wanted,
    mut progress: impl FnMut(u64),
) -> Result<Checked> {
    let mut reader = source.open()?;
    wanted.facts(reader.facts())?;
    let (mut vault, mut lost, mut ca_key, mut said) = (None, Vec::new(), None, 0);
    while let Some(row) = reader.row().map_err(fault)? {
        if reader.position() >= said + OFTEN {
            said = reader.position();
            progress(said);
        }
        match row.entry {
            Entry::Setting(row) if row.name == VAULT => {
                let read: Vault = serde_json::from_str(&row.value)
                    .map_err(|e| Error::verification("read", "the vault's settings", e))?;
                vault = Some(read);
            }
            Entry::Key(entry) => {
                if vault.as_ref().is_some_and(|vault| vault.ca_key == entry.row.id) {
                    ca_key = Some(entry.status);
                }
                if entry.status == KeyStatus::Reissue {
                    let row = entry.row;
                    let (id, purpose) = (row.id.to_string(), row.purpose.0);
                    lost.push(LeftOut { id, name: row.name, purpose });
                }
            }
            _ => {}
        }
    }
    let unread = || Error::verification("read", "the backup", "it does not say which vault it is");
    let manifest = reader.manifest().cloned().ok_or_else(unread)?;
    let vault = vault.ok_or_else(unread)?;
    if vault.trust_domain != wanted.trust_domain {
        let subject = format!("trust domain {}", wanted.trust_domain);
        let why = format!("the backup is of a vault with {}", vault.trust_domain);
        return Err(Error::invalid("restore", subject, why)
            .hint("set [policy] trust_domain of vault.toml to the vault's, and begin again"));
    }
    if ca_key != Some(KeyStatus::Wrapped) {
        let why = "the internal CA's key is not in it: every identity would be without its root";
        return Err(Error::invalid("restore", "the backup", why).hint(WITHOUT_CA));
    }
    Ok(Checked { manifest, lost })
}

const WITHOUT_CA: &str = "its vault escrows nothing: `vaultctl init` a new vault with custodians, \
                          enrol its agents, and issue its certificates again";

impl Wanted {
    fn facts(&self, facts: &Facts) -> Result<()> {
        if facts.schema_version > self.schema_version {
            let why = format!(
                "its schema is version {}, this vaultd knows {}",
                facts.schema_version, self.schema_version
            );
            return Err(Error::invalid("restore", "the backup", why)
                .hint("a newer vaultd has written it: restore with that one"));
        }
        if facts.kek.is_none() {
            let why = "its vault has no KEK, so no key is in it, not even the internal CA's";
            return Err(Error::invalid("restore", "the backup", why).hint(WITHOUT_CA));
        }
        let age = Duration::try_from(self.now - facts.created_at).unwrap_or_default();
        match self.stale_after {
            Some(most) if age > most => {
                let [age, most] = [age, most].map(|time| Duration::from_secs(time.as_secs()));
                let why = format!(
                    "its data is {} old, more than [backup] stale_after ({})",
                    humantime::format_duration(age),
                    humantime::format_duration(most)
                );
                Err(Error::invalid("restore", "the backup", why).hint(
                    "look for a newer one; --allow-stale restores this one, and what was issued or \
                     revoked since then is reconciled with the CA",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The KEK of a backup, out of a quorum's shares.
///
/// # Errors
/// `Verification` where they make none or another.
pub(super) fn kek(shares: &[Zeroizing<String>], facts: &Facts) -> Result<Kek> {
    let kek = shares::combine(shares, &facts.vault_id)?;
    let found = kek.check_value(&facts.vault_id);
    match &facts.kek {
        Some(says) if (says.id, &says.check_value) == (kek.id, &found) => Ok(kek),
        says => {
            let says = says.as_ref().map_or("none", |kek| kek.check_value.as_str());
            let why = format!("the shares are of KEK {found}, its keys are under {says}");
            Err(Error::verification("restore", "the backup", why)
                .hint("give shares of the ceremony that this backup's KEK is of"))
        }
    }
}
