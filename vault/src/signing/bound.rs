//! A key bound to one caller and one purpose: what `x509` and `acme` sign with.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use vault_proto::ids::KeyId;

use super::Signing;
use crate::error::Result;
use crate::keystore::{MessageSigner, PublicKey, Signature};
use crate::policy::{Action, Principal};
use crate::store::{KeyRecord, Recent};

/// One key, for one caller and one kind of thing to sign.
pub struct BoundKey {
    signing: Signing,
    principal: Principal,
    id: KeyId,
    public_key: PublicKey,
    /// The key as the store had it a moment ago.
    key: Recent<Arc<KeyRecord>>,
    action: Action,
    context: Value,
}

impl Signing {
    /// Binds a key. Nothing is checked here: each signature is, when it is asked for.
    pub fn bind(
        &self,
        principal: Principal,
        key: KeyRecord,
        action: Action,
        context: Value,
    ) -> BoundKey {
        let public_key = PublicKey { algorithm: key.algorithm, spki_der: key.spki_der.clone() };
        let (signing, id, key) = (self.clone(), key.id, Recent::default());
        BoundKey { signing, principal, id, public_key, key, action, context }
    }
}

#[async_trait]
impl MessageSigner for BoundKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        // The key is read again, so that one destroyed meanwhile does not sign.
        let read = async { self.signing.key(self.id).await.map(Arc::new) };
        let key = self.key.read(self.signing.store.key_changes(), read).await?;
        let mechanism = key.algorithm.default_mechanism();
        let message = Bytes::copy_from_slice(message);
        let (who, context) = (&self.principal, self.context.clone());
        self.signing.sign_with(who, &key, self.action, mechanism, message, context).await
    }
}
