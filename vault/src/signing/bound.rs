//! A key bound to one caller and one purpose: what `x509` and `acme` sign with.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use super::Signing;
use crate::error::Result;
use crate::keystore::{MessageSigner, PublicKey, Signature};
use crate::policy::{Action, Principal};
use crate::store::KeyRecord;

/// One key, for one caller and one kind of thing to sign.
pub struct BoundKey {
    signing: Signing,
    principal: Principal,
    key: KeyRecord,
    public_key: PublicKey,
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
        BoundKey { signing: self.clone(), principal, key, public_key, action, context }
    }
}

#[async_trait]
impl MessageSigner for BoundKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        // The key is read again, so that one destroyed meanwhile does not sign.
        self.signing
            .sign(
                &self.principal,
                self.key.id,
                self.action,
                self.key.algorithm.default_mechanism(),
                Bytes::copy_from_slice(message),
                self.context.clone(),
            )
            .await
    }
}
