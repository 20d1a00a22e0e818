//! Facts about the vault itself that `init` puts into the store, all in one transaction.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use vault_proto::ids::KeyId;

use crate::error::{Error, Result};
use crate::store::{Columns, Store};

/// Everything that makes a vault this vault.
pub const VAULT: &str = "vault";
/// A ceremony was begun on a token of ours and not ended.
const INIT_STARTED: &str = "init.started";
/// A restore was begun on a token of ours and not ended.
pub const RESTORE_STARTED: &str = "restore.started";

/// That, and from what, this vault was restored.
pub const RESTORED: &str = "restored";

/// Who this vault is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Its id (UUID).
    pub id: String,
    /// The trust domain of every SPIFFE id.
    pub trust_domain: String,
    /// The internal CA's root, PEM.
    pub ca_root_pem: String,
    /// The internal CA's key.
    pub ca_key: KeyId,
    /// The token's serial number: another token is another vault's.
    pub token_serial: String,
    /// The KEK; `None` for a vault that escrows nothing.
    pub kek: Option<Kek>,
    /// A KEK that is being put into the token: its shares are kept before it is there.
    #[serde(default)]
    pub next_kek: Option<Kek>,
    /// What the KEK was before, the last one first: backups under it open with its shares.
    #[serde(default)]
    pub earlier_keks: Vec<Kek>,
}

/// What is known of the KEK outside of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kek {
    /// Its id.
    pub id: KeyId,
    /// Tells it from another without telling anything of it.
    pub check_value: String,
    /// Custodians' names.
    pub custodians: Vec<String>,
    /// How many of them rebuild it.
    pub threshold: usize,
    /// When these shares were made.
    #[serde(with = "time::serde::rfc3339")]
    pub made_at: OffsetDateTime,
    /// Who got what, signed by the internal CA.
    pub transcript: String,
    /// The shares, each readable by its custodian only: kept so that an answer to `init` that was
    /// lost on its way loses no share.
    pub shares: Vec<Share>,
}

/// One custodian's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Whose it is.
    pub custodian: String,
    /// The age recipient that it is encrypted to.
    pub recipient: String,
    /// An age file, ASCII-armoured.
    pub age_armored: String,
}

impl Vault {
    /// Who this vault is; `None` before `init`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(store: &dyn Store) -> Result<Option<Self>> {
        let Some(text) = store.setting(VAULT).await? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|e| Error::internal("read", "the vault's settings", e))
    }

    /// Who it is, from rows of the store's settings.
    ///
    /// # Errors
    /// `Internal` where they do not say.
    pub fn in_rows(rows: &[Columns]) -> Result<Self> {
        let text = |row: &Columns, column: &str| row.get(column)?.as_str().map(str::to_owned);
        let row = rows.iter().find(|row| text(row, "name").as_deref() == Some(VAULT));
        let value = row.and_then(|row| text(row, "value")).unwrap_or_default();
        serde_json::from_str(&value).map_err(|e| Error::internal("read", "the vault's settings", e))
    }

    /// The internal CA's root, DER.
    ///
    /// # Errors
    /// `Internal` where the settings are damaged.
    pub fn root_der(&self) -> Result<Vec<u8>> {
        let decoded = pem_rfc7468::decode_vec(self.ca_root_pem.as_bytes());
        let (_, der) = decoded.map_err(|e| Error::internal("read", "the internal CA's root", e))?;
        Ok(der)
    }

    /// Makes the vault this vault: from here on it is initialised.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|e| Error::internal("write", "the vault's settings", e))?;
        store.put_settings(&[(VAULT, &text), (INIT_STARTED, ""), (RESTORE_STARTED, "")]).await
    }
}

impl Kek {
    /// The KEK of this vault, where it has one.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(store: &dyn Store) -> Result<Option<Self>> {
        Ok(Vault::read(store).await?.and_then(|vault| vault.kek))
    }
}

/// That this vault was restored from a backup: what has happened since is not in its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When it was restored.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// When the backup was made: the store is as it was then.
    #[serde(with = "time::serde::rfc3339")]
    pub snapshot_at: OffsetDateTime,
    /// SHA-256 over the backup's file, lower-case hex.
    pub backup_sha256: String,
}

impl Restored {
    /// The last restore; `None` for a vault that was never restored.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(store: &dyn Store) -> Result<Option<Self>> {
        let Some(text) = store.setting(RESTORED).await? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|e| Error::internal("read", "the record of the restore", e))
    }
}

/// Whether a ceremony of ours has touched the token of this label and was not ended.
///
/// # Errors
/// Where the store cannot be read.
pub async fn init_was_started_on(store: &dyn Store, token_label: &str) -> Result<bool> {
    Ok(store.setting(INIT_STARTED).await?.is_some_and(|text| text == token_label))
}

/// Remembers, before the token is touched, that a ceremony has begun.
///
/// # Errors
/// Where the store cannot be written.
pub async fn note_init_started(store: &dyn Store, token_label: &str) -> Result<()> {
    store.put_settings(&[(INIT_STARTED, token_label)]).await
}
