//! Does what is due: sleeps until the next renewal, retry or wake-up, works on a bounded number of
//! certificates at once, and never on one twice.

use std::sync::Arc;

use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use vault_proto::ids::CertificateName;

use super::agenda::Planning;
use super::ari::Ari;
use super::issue::{Issuer, Progress};
use super::ledger::Pending;
use super::outlook::{Outlook, Ticket, Turn};
use super::restored::Aftermath;
use crate::error::Result;
use crate::store::CertificateRecord;

/// Orders what is due until it is stopped.
pub struct Runner {
    issuer: Issuer,
    wake: Arc<Notify>,
    aftermath: Option<Aftermath>,
    ari: Option<Ari>,
}

impl Runner {
    /// A runner that works on as many certificates at once as the issuer's [`Planning`] has places for.
    pub fn new(issuer: Issuer) -> Self {
        Self { issuer, wake: Arc::new(Notify::new()), aftermath: None, ari: None }
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
        let mut jobs = JoinSet::new();
        jobs.spawn(self.issuer.clone().keep_ending_retired_keys(stop.clone()));
        jobs.spawn(self.issuer.clone().keep_looking_ahead(stop.clone()));
        if let Some(aftermath) = self.aftermath.take() {
            jobs.spawn(aftermath.run(stop.clone()));
        }
        if let Some(ari) = self.ari.take() {
            jobs.spawn(ari.run(stop.clone()));
        }
        if let Err(error) = self.issuer.settle_placements().await {
            tracing::warn!(%error, "what was ordered before the start stays counted");
        }
        let mut work = JoinSet::new();
        let mut outlook = Outlook::new(self.issuer.clone());
        while !stop.is_cancelled() {
            if let Err(error) = self.start_due(&mut outlook, &mut work).await {
                tracing::warn!(%error, "what is due cannot be read");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => outlook.doubt(),
                Some(ended) = work.join_next(), if !work.is_empty() => match ended {
                    Ok((ticket, well)) => outlook.ended(ticket, well),
                    Err(_) => outlook.doubt(),
                },
                () = tokio::time::sleep(outlook.rest()) => {}
            }
        }
        while work.join_next().await.is_some() {}
        while jobs.join_next().await.is_some() {}
    }

    /// Begins what is due and may begin.
    async fn start_due(
        &self,
        outlook: &mut Outlook,
        work: &mut JoinSet<(Ticket, bool)>,
    ) -> Result<()> {
        let free = self.issuer.planning.free_places();
        if free == 0 {
            return Ok(()); // whoever gives a place back wakes us
        }
        for Turn { name, pending, ticket } in outlook.turns(free).await? {
            let claim = Claim::take(&self.issuer.planning, &name, &pending);
            // What was due before the claim may have been done since: it would be ordered twice.
            let found = self.issuer.store.certificate(&name).await?;
            let now = self.issuer.clock.now();
            let due = found.filter(|found| found.renew_at <= now);
            let (Some(claim), Some(certificate)) = (claim, due) else {
                outlook.ended(ticket, false);
                continue;
            };
            let issuer = self.issuer.clone();
            work.spawn(async move {
                let well = order(&issuer, &certificate).await;
                drop(claim);
                (ticket, well)
            });
        }
        Ok(())
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

/// One certificate's work, and whether it went well; a failure is recorded with the time of the next try.
async fn order(issuer: &Issuer, certificate: &CertificateRecord) -> bool {
    let advanced = issuer.advance(certificate).await;
    let account = certificate.account_in_turn();
    issuer.planning.note(account, issuer.clock.now(), advanced.as_ref().map(drop));
    let error = match advanced {
        Ok(Progress::Issued | Progress::AwaitingCsr) => return true,
        Err(error) => error,
    };
    if let Err(failure) = issuer.record_failure(&certificate.name, &error).await {
        tracing::error!(certificate = %certificate.name, %error, %failure,
            "a failed order cannot be recorded");
    }
    false
}
