//! The rules that rows keep, one after the other: order, custody, the audit log's chain. Writer and
//! reader hold each row against them, with nothing of the rows before it but the last one's key.

use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use serde::Deserialize;
use vault_proto::{audit::Chain, ids::KeyId};

use crate::{Counts, Entry, Facts, KeyEntry, KeyStatus, Table, Wrapped, rows::RowKey};

/// The setting that says which vault it is.
const VAULT: &str = "vault";

/// What was taken so far.
#[derive(Debug, Default)]
pub struct Content {
    last: Option<(Table, Option<RowKey>)>,
    counts: Counts,
    chain: Chain,
    vault: Option<Vault>,
    /// The KEK that keys are wrapped by; one for all.
    kek: Option<KeyId>,
}

/// What the setting [`VAULT`] has that facts have, too.
#[derive(Debug, Deserialize)]
struct Vault {
    id: String,
    kek: Option<Kek>,
}

#[derive(Debug, Deserialize)]
struct Kek {
    id: KeyId,
    check_value: String,
    threshold: usize,
    custodians: Vec<String>,
}

impl Content {
    /// Takes the next row, a line without its newline.
    ///
    /// # Errors
    /// Why it may not stand here.
    pub fn take(&mut self, table: Table, line: &[u8]) -> Result<Entry, String> {
        let entry = Entry::parse(table, line)?;
        let key = entry.key();
        if let Some((last_table, last_key)) = &self.last {
            if *last_table > table {
                return Err(format!("{table} stand before {last_table}"));
            }
            if *last_table == table && key.is_some() && *last_key >= key {
                return Err("it is not in order: a row is there twice or was moved".to_owned());
            }
        }
        self.last = Some((table, key));
        let counts = &mut self.counts;
        match &entry {
            Entry::Setting(row) => {
                counts.settings += 1;
                if row.name == VAULT {
                    let vault = serde_json::from_str(&row.value);
                    self.vault = Some(vault.map_err(|e| format!("setting vault: {e}"))?);
                }
            }
            Entry::Key(entry) => self.key(entry)?,
            Entry::Account(_) => counts.accounts += 1,
            Entry::Agent(_) => counts.agents += 1,
            Entry::Identity(_) => counts.identities += 1,
            Entry::Certificate(_) => counts.certificates += 1,
            Entry::Version(_) => counts.versions += 1,
            Entry::Order(_) => counts.orders += 1,
            Entry::Deployment(_) => counts.deployments += 1,
            Entry::Audit => {
                self.chain.take(line)?;
                counts.audit_records += 1;
            }
        }
        Ok(entry)
    }

    /// What was taken so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Nothing more comes: holds the audit log against its checkpoint.
    ///
    /// # Errors
    /// Where it ends elsewhere.
    pub fn log_ends(&self, facts: &Facts) -> Result<(), String> {
        let Chain { records, head } = &self.chain;
        if (*records, head) == (facts.audit.sequence, &facts.audit.head) {
            return Ok(());
        }
        Err(format!(
            "the audit log ends at record {records} and not at its checkpoint {}, or is another log",
            facts.audit.sequence
        ))
    }

    /// Nothing more comes: holds the rest against the facts; answers how much there is.
    ///
    /// # Errors
    /// What does not fit.
    pub fn end(&self, facts: &Facts) -> Result<Counts, String> {
        let vault = self.vault.as_ref().ok_or("the settings do not say which vault it is of")?;
        if vault.id != facts.vault_id {
            return Err(format!("its settings are of vault {}", vault.id));
        }
        let same = match (&vault.kek, &facts.kek) {
            (None, None) => true,
            (Some(has), Some(says)) => {
                (&has.id, &has.check_value, &has.threshold, &has.custodians)
                    == (&says.id, &says.check_value, &says.threshold, &says.custodians)
            }
            _ => false,
        };
        if !same {
            return Err("its settings have another KEK than it says".to_owned());
        }
        if self.kek.is_some() && self.kek != facts.kek.as_ref().map(|kek| kek.id) {
            return Err("its keys are wrapped by another KEK than it says".to_owned());
        }
        Ok(self.counts.clone())
    }

    fn key(&mut self, entry: &KeyEntry) -> Result<(), String> {
        let row = &entry.row;
        let wrong = |why: String| format!("key {} ({}): {why}", row.name, row.id);
        let expected = match (row.state.0.as_str(), row.escrow.0.as_str()) {
            ("destroyed" | "lost", _) => KeyStatus::Gone,
            ("active" | "retired", "wrapped") => KeyStatus::Wrapped,
            ("active" | "retired", "none") => KeyStatus::Reissue,
            (state, escrow) => return Err(wrong(format!("{state} and {escrow} are not known"))),
        };
        if entry.status != expected {
            return Err(wrong(format!("its status is {}, its row says {expected}", entry.status)));
        }
        match (&entry.wrapped, expected) {
            (Some(wrapped), KeyStatus::Wrapped) => {
                check_wrapped(&row.algorithm.0, wrapped).map_err(wrong)?;
                if self.kek.is_some_and(|kek| kek != wrapped.kek) {
                    return Err(wrong("it is wrapped by another KEK than those before".to_owned()));
                }
                self.kek = Some(wrapped.kek);
                self.counts.keys_wrapped += 1;
            }
            (None, KeyStatus::Reissue) => self.counts.keys_not_escrowed += 1,
            (None, KeyStatus::Gone) => self.counts.keys_gone += 1,
            (None, KeyStatus::Wrapped) => return Err(wrong("it is not there".to_owned())),
            (Some(_), _) => return Err(wrong("it may not be there".to_owned())),
        }
        Ok(())
    }
}

/// The least and most bytes of a wrapped PKCS#8 by its key's algorithm: with and without the public
/// half and attributes, padded.
fn lengths(algorithm: &str) -> Option<(usize, usize)> {
    Some(match algorithm {
        "ec-p256" => (48, 192),
        "ec-p384" => (64, 256),
        "ed25519" => (48, 160),
        "rsa-2048" => (1_152, 1_344),
        "rsa-3072" => (1_728, 1_984),
        "rsa-4096" => (2_304, 2_560),
        _ => return None,
    })
}

fn check_wrapped(algorithm: &str, wrapped: &Wrapped) -> Result<(), String> {
    let bytes = |what: &str, text: &str| B64.decode(text).map_err(|e| format!("its {what}: {e}"));
    let (iv, blob) = (bytes("IV", &wrapped.iv)?, bytes("wrapped key", &wrapped.blob)?);
    let (unit, iv_length) = match wrapped.mechanism.as_str() {
        "aes-key-wrap-pad" => (8, 0),
        "aes-cbc-pad" => (16, 16),
        other => return Err(format!("it is wrapped by {other:?}, which is not known")),
    };
    let (least, most) =
        lengths(algorithm).ok_or_else(|| format!("algorithm {algorithm} is not known"))?;
    if iv.len() != iv_length {
        return Err(format!("its IV has {} bytes, not {iv_length}", iv.len()));
    }
    if !blob.len().is_multiple_of(unit) || !(least..=most).contains(&blob.len()) {
        return Err(format!("{} bytes are no wrapped {algorithm} key", blob.len()));
    }
    Ok(())
}
