//! Private keys wrapped by the KEK, inside the HSM, for a backup. Many keys are one operation: they
//! are named in one intent, and one result says what became of them.

use serde_json::{Map, json};
use vault_proto::{error::ErrorKind, ids::KeyId};

use super::Signing;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::WrappedKey;
use crate::policy::{Action, Principal};
use crate::store::KeyState;

/// Keys of one operation at most: their names fit into one record.
pub const MOST_WRAPPED: usize = 128;
/// Keys that an HSM worker wraps in one go; everybody else's signatures go in between.
const IN_ONE_GO: usize = 32;

/// What became of a key that was to be wrapped.
#[derive(Debug, Clone)]
pub enum Escrowed {
    /// It is wrapped.
    Wrapped(WrappedKey),
    /// It was destroyed or lost since its row was read; this is its state now.
    Gone(KeyState),
}

impl Signing {
    /// Wraps keys, named by id and name, [`MOST_WRAPPED`] at most; answers in their order.
    ///
    /// # Errors
    /// `Denied` where the principal may not have one of them wrapped or the HSM does not wrap it,
    /// `Unavailable` where the audit log or the HSM is, `NotFound` where a key is in use and the HSM
    /// does not have it.
    pub async fn wrap(
        &self,
        principal: &Principal,
        keys: &[(KeyId, String)],
    ) -> Result<Vec<Escrowed>> {
        for (id, _) in keys {
            self.authorize(principal, Action::KeyWrap, &format!("key/{id}")).await?;
        }
        let names: Map<_, _> = keys.iter().map(|(id, n)| (id.to_string(), json!(n))).collect();
        let subject = format!("keys/{}", keys.len());
        let detail = json!({ "keys": names });
        let operation = self.intent(principal, Action::KeyWrap, &subject, detail).await?;
        crash_point!("wrap.intent");
        let ids: Vec<KeyId> = keys.iter().map(|(id, _)| *id).collect();
        let wrapped = self.wrap_each(ids).await;
        crash_point!("wrap.hsm");
        let gone = |escrowed: &&Escrowed| matches!(escrowed, Escrowed::Gone(_));
        let gone = wrapped.as_ref().map_or(0, |all| all.iter().filter(gone).count());
        self.conclude(operation, &wrapped, json!({ "gone": gone })).await?;
        wrapped
    }

    async fn wrap_each(&self, ids: Vec<KeyId>) -> Result<Vec<Escrowed>> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(IN_ONE_GO) {
            let wrapped = self.keystore.wrap_some(some.to_vec()).await?;
            for (id, wrapped) in some.iter().zip(wrapped) {
                all.push(match wrapped {
                    Ok(wrapped) => Escrowed::Wrapped(wrapped),
                    Err(error) => self.gone(*id, error).await?,
                });
            }
        }
        Ok(all)
    }

    /// A key that the HSM does not have may have been destroyed since its row was read.
    async fn gone(&self, id: KeyId, error: Error) -> Result<Escrowed> {
        if error.kind != ErrorKind::NotFound {
            return Err(error);
        }
        match self.store.key(id).await? {
            Some(key) if matches!(key.state, KeyState::Destroyed | KeyState::Lost) => {
                Ok(Escrowed::Gone(key.state))
            }
            _ => Err(error),
        }
    }
}
