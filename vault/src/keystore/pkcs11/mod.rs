//! The PKCS#11 key store: keys in a token of any module that keeps what `template` asks.

mod handles;
mod mechanism;
mod module;
mod public;
mod recovery;
mod rv;
mod session;
mod template;
mod uri;
mod workers;
mod wrap;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vault_proto::ids::KeyId;

pub use module::{KekSpec, Module, TokenState};
pub use recovery::{Halves, Lasting, Recovered, Recovery};
pub use uri::TokenUri;
pub use workers::Options;

use workers::{Again, Workers};

use super::{
    KekInfo, KeyObject, KeySpec, KeyStore, Mechanism, PublicKey, Signature, TokenInfo, Witness,
    WrappedKey,
};
use crate::error::{Error, Result};

/// A key store in a PKCS#11 token.
pub struct Pkcs11KeyStore {
    workers: Workers,
    /// For one that makes or destroys objects at a time: of two at once, SoftHSM now and then fails one
    /// with whatever it finds of the other.
    changes: Arc<Semaphore>,
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
        let workers = Workers::start(module, uri, pin, options)?;
        Ok(Self { workers, changes: Arc::new(Semaphore::new(1)) })
    }

    /// The right to change what objects there are; it goes with the call, whoever waits for its answer.
    async fn change(&self, what: &'static str, id: KeyId) -> Result<OwnedSemaphorePermit> {
        let turn = self.changes.clone().acquire_owned();
        let turn = tokio::time::timeout(self.workers.deadline(), turn).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            Error::exhausted(what, format!("key {id}"), "the HSM is busy with other changes")
                .retry_after(Duration::from_secs(1))
        })
    }
}

#[async_trait]
impl KeyStore for Pkcs11KeyStore {
    async fn token_info(&self) -> Result<TokenInfo> {
        self.workers.run("ask", Again::Safe, |session| session.token_info()).await
    }

    async fn generate(&self, spec: &KeySpec) -> Result<PublicKey> {
        let spec = spec.clone();
        let turn = self.change("generate", spec.id).await?;
        let until = Instant::now() + self.workers.deadline();
        let tried = AtomicBool::new(false);
        let generate = move |session: &mut session::TokenSession| {
            let _turn = &turn;
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
        self.workers.run("generate", Again::Undone, generate).await
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
        mechanism: Mechanism,
        message: Bytes,
        witness: Box<dyn Witness>,
    ) -> Result<Signature> {
        let sign = move |s: &mut session::TokenSession| s.sign(id, mechanism, &message);
        let raw = self.workers.run_witnessed("sign", Again::Safe, sign, Some(witness)).await?;
        Ok(Signature::from_pkcs11(mechanism, raw))
    }

    async fn list(&self) -> Result<Vec<KeyObject>> {
        self.workers.run("list", Again::Safe, |session| session.list()).await
    }

    async fn destroy(&self, id: KeyId) -> Result<bool> {
        let turn = self.change("destroy", id).await?;
        let destroy = move |session: &mut session::TokenSession| {
            let _turn = &turn;
            session.destroy(id)
        };
        self.workers.run("destroy", Again::Never, destroy).await
    }

    async fn kek(&self) -> Result<Option<KekInfo>> {
        self.workers.run("ask", Again::Safe, |session| session.kek()).await
    }

    async fn has_kek(&self) -> Result<bool> {
        self.workers.run("ask", Again::Safe, |session| session.has_kek()).await
    }

    async fn retire_kek(&self, id: KeyId) -> Result<bool> {
        self.workers.run("destroy", Again::Never, move |session| session.retire_kek(id)).await
    }

    async fn wrap(&self, id: KeyId) -> Result<WrappedKey> {
        self.workers.run("wrap", Again::Safe, move |session| session.wrap(id)).await
    }

    async fn wrap_some(&self, ids: Vec<KeyId>) -> Result<Vec<Result<WrappedKey>>> {
        self.workers.run("wrap", Again::Safe, move |session| session.wrap_some(&ids)).await
    }
}
