//! Private keys wrapped by the KEK, inside the HSM, for a backup. Many keys are one operation: they
//! are named in one intent, and one result says what became of them.

use futures_util::{StreamExt as _, stream};
use serde_json::{Map, json};
use vault_proto::{error::ErrorKind, ids::KeyId};

use super::Signing;
use crate::error::Result;
use crate::fault::crash_point;
use crate::keystore::WrappedKey;
use crate::policy::{Action, Principal};
use crate::store::KeyState;

/// Keys of one operation at most: their names fit into one record.
pub const MOST_WRAPPED: usize = 128;
/// Keys that the HSM is asked for at once; everybody else's signatures go in between.
const AT_ONCE: usize = 4;

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
        let each = stream::iter(ids).map(|id| {
            let signing = self.clone();
            async move { signing.wrap_one(id).await }
        });
        let all: Vec<Result<Escrowed>> = each.buffered(AT_ONCE).collect().await;
        all.into_iter().collect()
    }

    async fn wrap_one(&self, id: KeyId) -> Result<Escrowed> {
        let error = match self.keystore.wrap(id).await {
            Ok(wrapped) => return Ok(Escrowed::Wrapped(wrapped)),
            Err(error) => error,
        };
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
