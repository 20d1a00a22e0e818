//! Remote signing for web servers: which keys an agent may use, what for, and how fast.
//!
//! An agent signs with the keys of certificates that are deployed to it. A key that a renewal has
//! replaced stays usable while a version with it is in date, because web server processes that
//! began with it go on until they end.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use bytes::Bytes;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use vault_proto::ids::{AgentName, KeyId};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::keystore::{Mechanism, Signature};
use crate::policy::Principal;
use crate::signing::Signing;
use crate::store::{
    AgentStatus, CertificateRecord, Custody, KeyRecord, KeyState, Recent, Store, TlsUse,
    VersionRecord,
};

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Keyless {
    store: Arc<dyn Store>,
    signing: Signing,
    clock: Arc<dyn Clock>,
    limiter: Arc<DefaultKeyedRateLimiter<(AgentName, KeyId)>>,
}

/// A key that an agent's web servers may use.
#[derive(Debug, Clone)]
pub struct UsableKey {
    /// The key.
    pub key: KeyRecord,
    /// What for.
    pub tls_use: TlsUse,
}

/// Everything that one agent's web servers may use, as it was when it was read.
#[derive(Debug, Clone, Default)]
pub struct UsableKeys(BTreeMap<KeyId, UsableKey>);

impl Keyless {
    /// The room over these parts; an agent gets `per_second` signatures with one key, and as many
    /// at once.
    pub fn new(
        store: Arc<dyn Store>,
        signing: Signing,
        clock: Arc<dyn Clock>,
        per_second: NonZeroU32,
    ) -> Self {
        let limiter = Arc::new(RateLimiter::keyed(Quota::per_second(per_second)));
        Self { store, signing, clock, limiter }
    }

    /// What an agent may use now; `recent` is what was found last.
    ///
    /// # Errors
    /// `Unauthenticated` where the agent is not active any more.
    pub async fn usable(
        &self,
        agent: &AgentName,
        recent: &Recent<Arc<UsableKeys>>,
    ) -> Result<Arc<UsableKeys>> {
        let find = async { self.find(agent).await.map(Arc::new) };
        recent.read(self.store.as_ref(), find).await
    }

    /// Refuses an agent that may use nothing any more.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub async fn check_active(&self, agent: &AgentName) -> Result<()> {
        let known = self.store.agent(agent).await?;
        if known.is_none_or(|known| known.status != AgentStatus::Active) {
            let why = "it is not active";
            return Err(Error::unauthenticated("sign", format!("agent {agent}"), why));
        }
        Ok(())
    }

    async fn find(&self, agent: &AgentName) -> Result<UsableKeys> {
        self.check_active(agent).await?;
        let mut usable = UsableKeys::default();
        for deployment in self.store.deployments_on(agent).await? {
            let Some(certificate) = self.store.certificate(&deployment.certificate).await? else {
                continue;
            };
            for version in versions_in_use(self.store.as_ref(), &certificate, &*self.clock).await? {
                let Some(id) = version.key_id else { continue };
                let Some(key) = self.store.key(id).await? else { continue };
                if matches!(key.state, KeyState::Active | KeyState::Retired) {
                    usable.0.insert(id, UsableKey { key, tls_use: certificate.tls_use });
                }
            }
        }
        Ok(usable)
    }

    /// Signs for an agent's web server.
    ///
    /// # Errors
    /// `Denied` for a key that is not deployed to it, `Exhausted` above its rate, and those of
    /// [`Signing::sign_tls`].
    pub async fn sign(
        &self,
        who: &Principal,
        agent: &AgentName,
        usable: &UsableKeys,
        key: KeyId,
        mechanism: Mechanism,
        data: Bytes,
    ) -> Result<Signature> {
        let Some(UsableKey { key, tls_use }) = usable.0.get(&key) else {
            let why = format!("it belongs to no certificate that is deployed to agent {agent}");
            return Err(Error::denied("sign", format!("key {key}"), why)
                .hint("`vaultctl cert deploy NAME --to AGENT`"));
        };
        if self.limiter.check_key(&(agent.clone(), key.id)).is_err() {
            let why = format!("agent {agent} asks for more than its rate");
            return Err(Error::exhausted("sign", format!("key {}", key.id), why)
                .hint("[policy] tls_signatures_per_second in vault.toml"));
        }
        self.signing.sign_tls(who, key, *tls_use, mechanism, data).await
    }
}

/// The versions of a certificate whose keys web servers may use: those of [`in_use_of`].
///
/// # Errors
/// Where the store cannot be read.
async fn versions_in_use(
    store: &dyn Store,
    certificate: &CertificateRecord,
    clock: &dyn Clock,
) -> Result<Vec<VersionRecord>> {
    match certificate.custody {
        Custody::Agent => Ok(Vec::new()),
        Custody::Vault => {
            let versions = store.versions(&certificate.name).await?;
            in_use_of(store, certificate, versions, clock).await
        }
    }
}

/// Of all `versions` of a certificate, newest first, those whose keys web servers may use: in date, one for
/// each key. A revoked one is among them only while it is in force or held by an agent: its successor is on
/// its way, and until that is proven the site stays up.
///
/// # Errors
/// Where the store cannot be read.
pub async fn in_use_of(
    store: &dyn Store,
    certificate: &CertificateRecord,
    versions: Vec<VersionRecord>,
    clock: &dyn Clock,
) -> Result<Vec<VersionRecord>> {
    if certificate.custody != Custody::Vault {
        return Ok(Vec::new());
    }
    let now = clock.now();
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    let mut in_place = vec![certificate.current_version];
    if versions.iter().any(|version| version.revoked.is_some()) {
        let deployments = store.deployments_of(&certificate.name).await?;
        in_place.extend(deployments.iter().map(|deployment| deployment.held_version));
    }
    for version in versions {
        let replaced = version.revoked.is_some() && !in_place.contains(&version.version);
        let counts = version.not_after > now && !replaced;
        if counts && seen.insert(version.key_id) {
            all.push(version);
        }
    }
    Ok(all)
}
