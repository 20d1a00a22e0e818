//! Sessions of connected agents, and what waits for their reports.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vault_proto::ids::{AgentName, CertificateName};

use super::Changes;
use super::changes::Pending;
use super::presented::Presented;
use crate::acme::{Challenge, ChallengePresenter};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::{Concerned, Store};

/// How long agents have to present a challenge before the attempt is given up. A connected agent
/// needs milliseconds; one that is just reconnecting needs its backoff.
const PRESENT_DEADLINE: Duration = Duration::from_secs(45);

/// How long a canary has, unless the configuration says it.
const PATIENCE: time::Duration = time::Duration::hours(1);

/// Knows which agents are connected and brings them the desired state.
pub struct Hub {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    sessions: Mutex<HashMap<AgentName, Handle>>,
    presented: Presented,
    next_session: AtomicU64,
    /// Certificates whose rollouts have to be looked at.
    pub(super) rollouts: Pending,
    /// How long a canary has before another agent is tried.
    pub(super) patience: time::Duration,
    /// Count the changes of certificates that somebody watches.
    watched: Mutex<HashMap<CertificateName, watch::Sender<u64>>>,
    /// Counts the changes of all of them.
    revision: watch::Sender<u64>,
    /// Counts sessions that were ended because their agents may not have any.
    closings: watch::Sender<u64>,
}

struct Handle {
    id: u64,
    pending: Arc<Pending>,
    closed: CancellationToken,
}

/// One agent's open stream. Dropping it ends the session.
pub struct Session {
    hub: Arc<Hub>,
    agent: AgentName,
    id: u64,
    pending: Arc<Pending>,
    closed: CancellationToken,
}

impl Hub {
    /// A hub without sessions.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::with_patience(store, clock, PATIENCE)
    }

    /// A hub whose canaries have this long before another agent is tried.
    pub fn with_patience(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        patience: time::Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            sessions: Mutex::default(),
            presented: Presented::default(),
            next_session: AtomicU64::new(1),
            rollouts: Pending::default(),
            patience,
            watched: Mutex::default(),
            revision: watch::Sender::new(0),
            closings: watch::Sender::new(0),
        })
    }

    /// Opens a session; an older one of the same agent is closed, since the newer connection is
    /// the one that works.
    pub fn open(self: &Arc<Self>, agent: AgentName) -> Session {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let (pending, closed) = (Arc::<Pending>::default(), CancellationToken::new());
        let handle = Handle { id, pending: pending.clone(), closed: closed.clone() };
        if let Some(old) = self.sessions().insert(agent.clone(), handle) {
            old.closed.cancel();
        }
        // What was presented on the old connection may not be there any more.
        self.presented.forget_agent(&agent);
        // Somebody may be waiting for it.
        self.rollouts.mark_all();
        Session { hub: self.clone(), agent, id, pending, closed }
    }

    /// Ends an agent's session at once.
    pub fn close(&self, agent: &AgentName) {
        if let Some(handle) = self.sessions().remove(agent) {
            handle.closed.cancel();
        }
        count(&self.closings);
    }

    /// Changes whenever an agent's session was ended because it may not have one any more.
    pub fn closings(&self) -> watch::Receiver<u64> {
        self.closings.subscribe()
    }

    /// Whether the agent's stream is open.
    pub fn is_connected(&self, agent: &AgentName) -> bool {
        self.sessions().contains_key(agent)
    }

    /// How many streams are open.
    pub fn connected(&self) -> usize {
        self.sessions().len()
    }

    /// Something about the certificate changed: its agents get the difference, watchers look.
    ///
    /// It cannot fail, since the change is stored already: where the store does not say which
    /// agents are concerned, all are told to look.
    pub async fn changed(&self, certificate: &CertificateName) {
        let is_rolled_out = match self.store.concerned(certificate).await {
            Ok(Concerned { agents, is_rolled_out }) => {
                agents.iter().for_each(|agent| self.mark(agent, certificate));
                is_rolled_out
            }
            Err(error) => {
                tracing::warn!(%error, %certificate, "every agent is told to look for a change");
                self.sessions().values().for_each(|handle| handle.pending.mark_all());
                true
            }
        };
        if is_rolled_out {
            self.rollouts.mark(certificate);
        }
        self.bump(certificate);
    }

    /// Something changed that this agent shall have of the certificate, or that it shall have none.
    pub fn changed_on(&self, agent: &AgentName, certificate: &CertificateName) {
        self.mark(agent, certificate);
        self.rollouts.mark(certificate);
        self.bump(certificate);
    }

    fn mark(&self, agent: &AgentName, certificate: &CertificateName) {
        if let Some(handle) = self.sessions().get(agent) {
            handle.pending.mark(certificate);
        }
    }

    /// Changes whenever something of the certificate did that is shown of it.
    pub fn watch(&self, certificate: &CertificateName) -> watch::Receiver<u64> {
        let mut watched = self.watched();
        watched.retain(|_, changes| changes.receiver_count() > 0);
        watched.entry(certificate.clone()).or_default().subscribe()
    }

    /// Changes whenever something of any certificate did.
    pub fn watch_all(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Something changed of the certificate that no agent gets to see: watchers look.
    pub fn bump(&self, certificate: &CertificateName) {
        if let Some(changes) = self.watched().get(certificate) {
            count(changes);
        }
        count(&self.revision);
    }

    pub(super) fn note_presented(
        &self,
        agent: &AgentName,
        token: &str,
        outcome: Result<(), String>,
    ) {
        // Only while the session is open: the entry goes with the next one or with `withdraw`.
        if self.is_connected(agent) {
            self.presented.note(agent, token, outcome);
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<CertificateName, watch::Sender<u64>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<AgentName, Handle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count += 1);
}

#[async_trait]
impl ChallengePresenter for Hub {
    async fn present(&self, name: &CertificateName, challenges: &[Challenge]) -> Result<()> {
        let agents: BTreeSet<AgentName> =
            self.store.deployments_of(name).await?.into_iter().map(|d| d.agent).collect();
        if agents.is_empty() {
            let subject = format!("certificate {name}");
            return Err(Error::invalid("present a challenge", subject, "it has no agent")
                .hint("deploy it with `vaultctl cert deploy NAME --to AGENT`"));
        }
        for agent in &agents {
            self.mark(agent, name);
        }
        let tokens: Vec<_> = challenges.iter().map(|challenge| challenge.token.clone()).collect();
        let waited = self.presented.wait(&agents, &tokens);
        let waited = tokio::time::timeout(PRESENT_DEADLINE, waited).await;
        waited.unwrap_or_else(|_| {
            let silent: Vec<_> = agents.iter().filter(|a| !self.is_connected(a)).collect();
            let why = match silent.first() {
                Some(agent) => format!("agent {agent} is not connected"),
                None => format!("no answer within {} s", PRESENT_DEADLINE.as_secs()),
            };
            Err(Error::unavailable("present a challenge", format!("certificate {name}"), why)
                .hint("`vaultctl agent list` shows which agents are connected"))
        })
    }

    /// Agents hear of it with what the order comes to, which is soon: a new version or a failure.
    async fn withdraw(&self, _name: &CertificateName, tokens: &[String]) {
        self.presented.forget_tokens(tokens);
    }
}

impl Session {
    /// Whose it is.
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// The hub it belongs to.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What has changed since the last call, once something has; `None` when the session is closed.
    pub async fn wait_changed(&self) -> Option<Changes> {
        tokio::select! {
            () = self.closed.cancelled() => None,
            changes = self.pending.take() => Some(changes),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut sessions = self.hub.sessions();
        if sessions.get(&self.agent).is_some_and(|handle| handle.id == self.id) {
            sessions.remove(&self.agent);
        }
    }
}
