//! Does what is due: sleeps until the next renewal, retry or wake-up, works on a bounded number of
//! certificates at once, and never on one twice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use vault_proto::ids::CertificateName;

use super::issue::{Issuer, Progress};
use super::restored::Aftermath;
use crate::error::Result;
use crate::store::{CertificateRecord, OrderState};

/// The longest sleep: a change of the machine's clock is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
/// How many certificates one look at the store may bring.
const BATCH: u32 = 256;

/// Orders what is due until it is stopped.
pub struct Runner {
    issuer: Issuer,
    wake: Arc<Notify>,
    slots: Arc<Semaphore>,
    busy: Arc<Mutex<HashSet<CertificateName>>>,
    aftermath: Option<Aftermath>,
}

impl Runner {
    /// A runner that works on at most `concurrent` certificates at once.
    pub fn new(issuer: Issuer, concurrent: usize) -> Self {
        Self {
            issuer,
            wake: Arc::new(Notify::new()),
            slots: Arc::new(Semaphore::new(concurrent.max(1))),
            busy: Arc::default(),
            aftermath: None,
        }
    }

    /// Wakes it: something may be due now.
    pub fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Lets it see to what a restore has left open, beside what is due.
    #[must_use]
    pub fn with_aftermath(mut self, aftermath: Aftermath) -> Self {
        self.aftermath = Some(aftermath);
        self
    }

    /// Runs until `stop`; then waits for what is under way, whose state is durable at each step.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.issuer.clone().keep_ending_retired_keys(stop.clone()));
        if let Some(aftermath) = self.aftermath.take() {
            tasks.spawn(aftermath.run(stop.clone()));
        }
        while !stop.is_cancelled() {
            if let Err(error) = self.start_due(&mut tasks).await {
                tracing::warn!(%error, "what is due cannot be read");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = tokio::time::sleep(self.nap().await) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Until the next thing is due, within bounds.
    async fn nap(&self) -> Duration {
        let now = self.issuer.clock.now();
        let horizon = now + LONGEST_SLEEP;
        let Ok(soon) = self.issuer.store.due_certificates(horizon, BATCH).await else {
            return LONGEST_SLEEP;
        };
        let next = soon.into_iter().map(|certificate| certificate.renew_at).find(|at| *at > now);
        let left = next.map(|at| (at - now).unsigned_abs());
        left.unwrap_or(LONGEST_SLEEP).max(Duration::from_millis(20))
    }

    async fn start_due(&self, tasks: &mut JoinSet<()>) -> Result<()> {
        let now = self.issuer.clock.now();
        for certificate in self.issuer.store.due_certificates(now, BATCH).await? {
            let order = self.issuer.store.open_order(&certificate.name).await?;
            if order.is_some_and(|order| order.state == OrderState::AwaitingCsr) {
                continue; // the agent's CSR wakes us
            }
            let Some(claim) = Claim::take(&self.busy, &certificate.name) else { continue };
            // What was due before the claim may have been done since: it would be ordered twice.
            let found = self.issuer.store.certificate(&certificate.name).await?;
            let Some(certificate) = found.filter(|found| found.renew_at <= now) else { continue };
            let Ok(slot) = self.slots.clone().try_acquire_owned() else { break };
            let issuer = self.issuer.clone();
            tasks.spawn(async move {
                work(&issuer, &certificate).await;
                drop((claim, slot));
            });
        }
        Ok(())
    }
}

/// The right to work on a certificate, given back on drop.
struct Claim {
    busy: Arc<Mutex<HashSet<CertificateName>>>,
    name: CertificateName,
}

impl Claim {
    fn take(busy: &Arc<Mutex<HashSet<CertificateName>>>, name: &CertificateName) -> Option<Self> {
        let new = busy.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        new.then(|| Self { busy: busy.clone(), name: name.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// One certificate's work; a failure is recorded with the time of the next try.
async fn work(issuer: &Issuer, certificate: &CertificateRecord) {
    let error = match issuer.advance(certificate).await {
        Ok(Progress::Issued | Progress::AwaitingCsr) => return,
        Err(error) => error,
    };
    if let Err(failure) = issuer.record_failure(&certificate.name, &error).await {
        tracing::error!(certificate = %certificate.name, %error, %failure,
            "a failed order cannot be recorded");
    }
}
