//! Remote signing for web servers: which keys an agent may use, what for, and how fast.
//!
//! An agent signs with the keys of certificates that are deployed to it. A key that a renewal has
//! replaced stays usable while a version with it is in date, because web server processes that
//! began with it go on until they end.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::runtime::Handle;
use vault_proto::ids::{AgentName, KeyId};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::keystore::{Place, Signature, ToSign};
use crate::policy::Principal;
use crate::signing::Signing;
use crate::store::{AgentStatus, KeyRecord, Recent, Store, TlsUse};

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Keyless {
    store: Arc<dyn Store>,
    signing: Signing,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    limiter: Arc<DefaultKeyedRateLimiter<(AgentName, KeyId)>>,
}

/// A key that an agent's web servers may use.
#[derive(Debug)]
struct UsableKey {
    key: KeyRecord,
    /// What for.
    tls_use: TlsUse,
    pace: Pace,
}

/// Everything that one agent's web servers may use, as it was when it was read.
#[derive(Debug, Default)]
pub struct UsableKeys(BTreeMap<KeyId, UsableKey>);

/// A signature that takes longer than this saves nothing where it is made on the thread that waits for
/// it: it costs others more than the ways between threads do. On a curve a token in this machine takes
/// a third of it, with RSA twice as much, and one in the network far more.
const QUICK: Duration = Duration::from_micros(250);
/// So many slow ones in a row are no chance.
const SLOW: u8 = 8;

/// How many signatures in a row were slow, since the key was read.
#[derive(Debug, Default)]
struct Pace(AtomicU8);

impl Pace {
    /// Where the next signature is made best.
    fn place(&self, asked: Place) -> Place {
        if self.0.load(Ordering::Relaxed) < SLOW { asked } else { Place::Queue }
    }

    fn took(&self, time: Duration) {
        let slow = if time > QUICK { self.0.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.0.store(slow, Ordering::Relaxed);
    }
}

impl Keyless {
    /// The room over these parts; an agent gets `per_second` signatures with one key, and as many
    /// at once. The store is read on `runtime`.
    pub fn new(
        store: Arc<dyn Store>,
        signing: Signing,
        clock: Arc<dyn Clock>,
        per_second: NonZeroU32,
        runtime: Handle,
    ) -> Self {
        let limiter = Arc::new(RateLimiter::keyed(Quota::per_second(per_second)));
        Self { store, signing, clock, runtime, limiter }
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
        let find = async {
            let (this, agent) = (self.clone(), agent.clone());
            self.reading(async move { this.find(&agent).await.map(Arc::new) }).await
        };
        recent.read(self.store.changes(), find).await
    }

    /// Refuses an agent that may use nothing any more.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub async fn check_active(&self, agent: &AgentName) -> Result<()> {
        let (this, agent) = (self.clone(), agent.clone());
        self.reading(async move { this.active(&agent).await }).await
    }

    async fn active(&self, agent: &AgentName) -> Result<()> {
        let known = self.store.agent(agent).await?;
        if known.is_none_or(|known| known.status != AgentStatus::Active) {
            let why = "it is not active";
            return Err(Error::unauthenticated("sign", format!("agent {agent}"), why));
        }
        Ok(())
    }

    /// Reads where the store's connections are watched: whoever asks may be on a thread that signs.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let read = self.runtime.spawn(read).await;
        read.map_err(|e| Error::unavailable("read", "what agents may sign with", e))?
    }

    async fn find(&self, agent: &AgentName) -> Result<UsableKeys> {
        self.active(agent).await?;
        let keys = self.store.keys_in_use_on(agent, self.clock.now()).await?;
        let usable = keys
            .into_iter()
            .map(|(key, tls_use)| (key.id, UsableKey { key, tls_use, pace: Pace::default() }));
        Ok(UsableKeys(usable.collect()))
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
        what: ToSign,
    ) -> Result<Signature> {
        let Some(UsableKey { key, tls_use, pace }) = usable.0.get(&key) else {
            let why = format!("it belongs to no certificate that is deployed to agent {agent}");
            return Err(Error::denied("sign", format!("key {key}"), why)
                .hint("`vaultctl cert deploy NAME --to AGENT`"));
        };
        if self.limiter.check_key(&(agent.clone(), key.id)).is_err() {
            let why = format!("agent {agent} asks for more than its rate");
            return Err(Error::exhausted("sign", format!("key {}", key.id), why)
                .hint("[policy] tls_signatures_per_second in vault.toml"));
        }
        let what = ToSign { place: pace.place(what.place), ..what };
        let (place, began) = (what.place, Instant::now());
        let signed = self.signing.sign_tls(who, key, *tls_use, what).await;
        if place == Place::Here {
            pace.took(began.elapsed());
        }
        signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_slow_after_some_slow_signatures_in_a_row_and_no_chance_makes_it_so() {
        let pace = Pace::default();
        for _ in 0..3 {
            for _ in 1..SLOW {
                pace.took(QUICK * 2);
            }
            assert_eq!(pace.place(Place::Here), Place::Here);
            pace.took(QUICK / 2);
        }
        for _ in 0..SLOW {
            pace.took(QUICK * 2);
        }
        assert_eq!(pace.place(Place::Here), Place::Queue);
    }
}
