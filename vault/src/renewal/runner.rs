//! Does what is due: sleeps until the next renewal, retry or wake-up, works on a bounded number of
//! certificates at once, and never on one twice.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use vault_proto::ids::CertificateName;

use super::agenda::Planning;
use super::ari::Ari;
use super::issue::{Issuer, Progress};
use super::ledger::Pending;
use super::planner::{moment, time_of};
use super::restored::Aftermath;
use crate::error::Result;
use crate::store::CertificateRecord;

/// The longest sleep: a change of the machine's clock is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
/// The shortest one.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

/// Orders what is due until it is stopped.
pub struct Runner {
    issuer: Issuer,
    wake: Arc<Notify>,
    slots: Arc<Semaphore>,
    aftermath: Option<Aftermath>,
    ari: Option<Ari>,
}

impl Runner {
    /// A runner that works on at most `concurrent` certificates at once.
    pub fn new(issuer: Issuer, concurrent: usize) -> Self {
        Self {
            issuer,
            wake: Arc::new(Notify::new()),
            slots: Arc::new(Semaphore::new(concurrent.max(1))),
            aftermath: None,
            ari: None,
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

    /// Lets it ask CAs when they want certificates renewed, beside what is due.
    #[must_use]
    pub fn with_ari(mut self, ari: Ari) -> Self {
        self.ari = Some(ari);
        self
    }

    /// Runs until `stop`; then waits for what is under way, whose state is durable at each step.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.issuer.clone().keep_ending_retired_keys(stop.clone()));
        if let Some(aftermath) = self.aftermath.take() {
            tasks.spawn(aftermath.run(stop.clone()));
        }
        if let Some(ari) = self.ari.take() {
            tasks.spawn(ari.run(stop.clone()));
        }
        if let Err(error) = self.issuer.settle_placements().await {
            tracing::warn!(%error, "what was ordered before the start stays counted");
        }
        while !stop.is_cancelled() {
            let next_look = match self.start_due(&mut tasks).await {
                Ok(next_look) => next_look,
                Err(error) => {
                    tracing::warn!(%error, "what is due cannot be read");
                    None
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = tokio::time::sleep(self.nap(next_look)) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Until something more may begin, within bounds.
    fn nap(&self, next_look: Option<OffsetDateTime>) -> Duration {
        let left = next_look.map(|at| Duration::try_from(at - self.issuer.clock.now()));
        let left = left.map_or(LONGEST_SLEEP, |left| left.unwrap_or_default());
        left.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    /// Begins what is due and may begin; answers when more may.
    async fn start_due(&self, tasks: &mut JoinSet<()>) -> Result<Option<OffsetDateTime>> {
        let free = self.slots.available_permits();
        if free == 0 {
            return Ok(None); // whoever gives a slot back wakes us
        }
        let now = self.issuer.clock.now();
        let mut agenda = self.issuer.agenda(Some(now + LONGEST_SLEEP)).await?;
        let started = agenda.schedule.step(moment(now), free);
        for id in started {
            let Some(item) = agenda.items.get(id as usize) else { continue };
            let name = &item.record.certificate.name;
            let Some(claim) = Claim::take(&self.issuer.planning, name, &item.pending) else {
                continue;
            };
            // What was due before the claim may have been done since: it would be ordered twice.
            let found = self.issuer.store.certificate(name).await?;
            let Some(certificate) = found.filter(|found| found.renew_at <= now) else { continue };
            let Ok(slot) = self.slots.clone().try_acquire_owned() else { break };
            let issuer = self.issuer.clone();
            tasks.spawn(async move {
                work(&issuer, &certificate).await;
                drop((claim, slot));
            });
        }
        Ok(agenda.schedule.next_look().map(time_of))
    }
}

/// The right to work on a certificate, given back on drop.
struct Claim {
    planning: Arc<Planning>,
    name: CertificateName,
}

impl Claim {
    fn take(planning: &Arc<Planning>, name: &CertificateName, pending: &Pending) -> Option<Self> {
        let new = planning.begin(name, pending);
        new.then(|| Self { planning: planning.clone(), name: name.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.planning.end(&self.name);
    }
}

/// One certificate's work; a failure is recorded with the time of the next try.
async fn work(issuer: &Issuer, certificate: &CertificateRecord) {
    let advanced = issuer.advance(certificate).await;
    let account = certificate.account_in_turn();
    issuer.planning.note(account, issuer.clock.now(), advanced.as_ref().map(drop));
    let error = match advanced {
        Ok(Progress::Issued | Progress::AwaitingCsr) => return,
        Err(error) => error,
    };
    if let Err(failure) = issuer.record_failure(&certificate.name, &error).await {
        tracing::error!(certificate = %certificate.name, %error, %failure,
            "a failed order cannot be recorded");
    }
}
