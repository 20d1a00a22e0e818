//! What the store remembers of a restore: that one has touched the token, that one is done, that the
//! audit log is to be swapped.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::settings::{RESTORE_STARTED, RESTORED};
use crate::store::Store;

/// The audit log is to be swapped for the one that was restored.
pub(super) const SWAP: &str = "audit.swap";
/// Facts that are of a store, and not of the vault that is in it.
pub(super) const OF_THE_STORE: &[&str] = &[RESTORE_STARTED, RESTORED, SWAP];

/// A restore that was begun on a token and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// SHA-256 of the backup, lower-case hex.
    pub(super) backup_sha256: String,
    /// The token's label.
    pub(super) token: String,
    /// Whether the token is initialised: what is in it since then is this backup's.
    pub(super) ready: bool,
}

/// Which files are to be swapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Swap {
    /// The restored log, which takes the log's name.
    pub(super) restored: PathBuf,
    /// Where the log of the time before goes.
    pub(super) set_aside: PathBuf,
}

/// A mark as a setting has it.
///
/// # Errors
/// Never.
pub(super) fn text(mark: &impl Serialize) -> Result<String> {
    serde_json::to_string(mark).map_err(|e| Error::internal("write", "a setting", e))
}

/// A mark, where it is set.
///
/// # Errors
/// Where the store cannot be read or says something else there.
pub(super) async fn read<T: DeserializeOwned>(store: &dyn Store, name: &str) -> Result<Option<T>> {
    match store.setting(name).await?.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| Error::internal("read", format!("setting {name}"), e)),
    }
}

/// Whether a restore of ours was begun on the token of this label and not ended.
///
/// # Errors
/// Where the store cannot be read.
pub async fn was_started_on(store: &dyn Store, token: &str) -> Result<bool> {
    let started: Option<Started> = read(store, RESTORE_STARTED).await?;
    Ok(started.is_some_and(|started| started.token == token))
}
