//! The PKCS#11 key store: keys in a token of any module that keeps what `template` asks.

mod handles;
mod job;
mod mechanism;
mod module;
mod own;
mod public;
mod recovery;
mod rv;
mod session;
mod template;
mod turns;
mod uri;
mod worker;
mod workers;
mod wrap;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;
use vault_proto::ids::KeyId;

pub use module::{KekSpec, Module, TokenState};
pub use recovery::{Halves, Lasting, Recovered, Recovery};
pub use uri::TokenUri;
pub use workers::Options;

use turns::Alone;
use worker::Again;
use workers::Workers;

use super::{
    KekInfo, KeyObject, KeySpec, KeyStore, Mechanism, PublicKey, Signature, ToSign, TokenInfo,
    Witness, WrappedKey,
};
use crate::error::{Error, Result};

/// A key store in a PKCS#11 token.
pub struct Pkcs11KeyStore {
    workers: Workers,
}

impl Pkcs11KeyStore {
    /// Logs in with every worker.
    ///
    /// # Errors
    /// `NotFound` where there is no such token, `Denied` for a wrong PIN (tried once),
    /// `Unavailable` where the token does not answer.
    pub fn open(
        module: &Module,
        uri: &TokenUri,
        pin: &SecretString,
        options: Options,
    ) -> Result<Self> {
        Ok(Self { workers: Workers::start(module, uri, pin, options)? })
    }
}

#[async_trait]
impl KeyStore for Pkcs11KeyStore {
    async fn token_info(&self) -> Result<TokenInfo> {
        self.workers.run("ask", Again::Safe, |session| session.token_info()).await
    }

    async fn generate(&self, spec: &KeySpec) -> Result<PublicKey> {
        let spec = spec.clone();
        let tried = AtomicBool::new(false);
        let generate = move |session: &mut session::TokenSession, until| {
            if tried.swap(true, Ordering::Relaxed) {
                session.destroy(spec.id)?;
            }
            let made = session.generate(&spec)?;
            if Instant::now() >= until {
                // Nobody waits for it any more.
                session.destroy(spec.id)?;
                let subject = format!("key {}", spec.id);
                return Err(Error::unavailable("generate", subject, "it came too late").into());
            }
            Ok(made)
        };
        self.workers.run_alone(Alone::Change, "generate", Again::Undone, generate).await
    }

    async fn public_key(&self, id: KeyId) -> Result<Option<PublicKey>> {
        self.workers.run("read", Again::Safe, move |s| s.public_key(id)).await
    }

    async fn sign(&self, id: KeyId, mechanism: Mechanism, message: Bytes) -> Result<Signature> {
        let sign = move |s: &mut session::TokenSession| s.sign(id, mechanism, &message);
        let raw = self.workers.run("sign", Again::Safe, sign).await?;
        Ok(Signature::from_pkcs11(mechanism, raw))
    }

    async fn sign_witnessed(
        &self,
        id: KeyId,
        what: ToSign,
        witness: Box<dyn Witness>,
    ) -> Result<Signature> {
        let ToSign { mechanism, message, place } = what;
        let sign = move |s: &mut session::TokenSession| s.sign(id, mechanism, &message);
        let raw = self.workers.run_witnessed("sign", sign, witness, place).await?;
        Ok(Signature::from_pkcs11(mechanism, raw))
    }

    fn thread_with_session(&self, name: String, body: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.workers.join_in(name, body)
    }

    async fn list(&self) -> Result<Vec<KeyObject>> {
        self.workers.run("list", Again::Safe, |session| session.list()).await
    }

    async fn destroy(&self, id: KeyId) -> Result<bool> {
        self.workers
            .run_alone(Alone::Change, "destroy", Again::Never, move |session, _| {
                session.destroy(id)
            })
            .await
    }

    async fn kek(&self) -> Result<Option<KekInfo>> {
        self.workers.run("ask", Again::Safe, |session| session.kek()).await
    }

    async fn has_kek(&self) -> Result<bool> {
        self.workers.run("ask", Again::Safe, |session| session.has_kek()).await
    }

    async fn retire_kek(&self, id: KeyId) -> Result<bool> {
        self.workers
            .run_alone(Alone::Change, "destroy", Again::Never, move |session, _| {
                session.retire_kek(id)
            })
            .await
    }

    async fn wrap(&self, id: KeyId) -> Result<WrappedKey> {
        self.workers.run("wrap", Again::Safe, move |session| session.wrap(id)).await
    }

    async fn wrap_some(&self, ids: Vec<KeyId>) -> Result<Vec<Result<WrappedKey>>> {
        self.workers
            .run_alone(Alone::Wrap, "wrap", Again::Many, move |session, _| session.wrap_some(&ids))
            .await
    }
}
