//! Brings rollouts on: looks whenever something of a certificate has changed, an agent has come, or
//! a time is over. All state is in the store, and each step is one transaction that counts only
//! where nobody else has taken one, so every node may do this.

use std::{sync::Arc, time::Duration as StdDuration};

use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;
use vault_proto::ids::{AgentName, CertificateName};

use super::rollout::{Facts, Life, Next, Place, Step};
use super::{Changes, Hub};
use crate::alerts::{AlertKind, Alerts};
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::store::{AgentStatus, RolloutRecord, RolloutState};

/// The longest sleep: what another node has done is noticed within this.
const LONGEST_SLEEP: StdDuration = StdDuration::from_secs(30);
/// How long after it was last heard of an agent counts as connected to another node; sessions say
/// once a minute that they are open.
const HEARD: Duration = Duration::minutes(2);
/// How often one look follows another where other nodes get in between.
const TURNS: usize = 8;

/// Rollouts of new versions. Cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    hub: Arc<Hub>,
    alerts: Alerts,
}

impl Rollouts {
    /// Over these parts.
    pub fn new(hub: Arc<Hub>, alerts: Alerts) -> Self {
        Self { hub, alerts }
    }

    /// Brings rollouts on until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        self.hub.rollouts.mark_all();
        let mut next = None;
        loop {
            let now = self.hub.clock.now();
            let left = next.map(|at: OffsetDateTime| (at - now).max(Duration::ZERO).unsigned_abs());
            let nap = left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
            let changes = tokio::select! {
                () = stop.cancelled() => return,
                changes = self.hub.rollouts.take() => changes,
                () = tokio::time::sleep(nap.max(StdDuration::from_millis(20))) => Changes::All,
            };
            match self.look_at(&changes).await {
                Ok(Some(at)) if next.is_none_or(|next| at < next || next <= now) => next = Some(at),
                Ok(_) => next = next.filter(|at| *at > now),
                Err(error) => {
                    tracing::warn!(%error, "rollouts cannot be brought on");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(StdDuration::from_secs(1)) => {}
                    }
                    self.hub.rollouts.mark_all();
                }
            }
        }
    }

    /// Looks at what has changed; answers when to look again at the latest.
    async fn look_at(&self, changes: &Changes) -> Result<Option<OffsetDateTime>> {
        let rollouts = match changes {
            Changes::All => self.hub.store.unfinished_rollouts().await?,
            Changes::Of(names) => {
                let mut rollouts = Vec::new();
                for name in names {
                    rollouts.extend(self.hub.store.rollout(name).await?);
                }
                rollouts
            }
        };
        let mut next: Option<OffsetDateTime> = None;
        for rollout in rollouts {
            if let Some(at) = self.look(rollout).await? {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        Ok(next)
    }

    /// Brings one rollout as far as it will go now.
    async fn look(&self, mut rollout: RolloutRecord) -> Result<Option<OffsetDateTime>> {
        for _ in 0..TURNS {
            self.raise_or_clear(&rollout).await?;
            let next = match self.hub.facts(&rollout).await?.decide() {
                Step::Wait(until) => return Ok(until),
                Step::Move(next) => next,
            };
            self.hub.move_on(&rollout, next).await?;
            match self.hub.store.rollout(&rollout.certificate).await? {
                Some(now) => rollout = now,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    async fn raise_or_clear(&self, rollout: &RolloutRecord) -> Result<()> {
        let subject = format!("certificate {}", rollout.certificate);
        match rollout.state {
            RolloutState::Stopped | RolloutState::Released => {
                self.alerts.raise(AlertKind::RolloutStopped, &subject, &rollout.detail).await
            }
            _ => self.alerts.clear(AlertKind::RolloutStopped, &subject).await,
        }
    }

    /// Tries a rollout again that was stopped or called off, beginning with the same agent.
    ///
    /// # Errors
    /// `Conflict` where there is none.
    pub async fn resume(&self, certificate: &CertificateName) -> Result<()> {
        self.by_hand("resume", certificate, |facts| match facts.rollout.state {
            RolloutState::Stopped | RolloutState::Abandoned => Some(facts.resumed()),
            _ => None,
        })
        .await
    }

    /// Calls a rollout off: every agent goes back to the version before.
    ///
    /// # Errors
    /// `Conflict` where there is none, or it is over.
    pub async fn abandon(&self, certificate: &CertificateName) -> Result<()> {
        self.by_hand("abandon", certificate, |facts| match facts.rollout.state {
            RolloutState::Running | RolloutState::Proven | RolloutState::Stopped => {
                Some(facts.abandoned())
            }
            _ => None,
        })
        .await
    }

    async fn by_hand(
        &self,
        what: &str,
        certificate: &CertificateName,
        step: impl Fn(&Facts) -> Option<Step> + Send + Sync,
    ) -> Result<()> {
        let subject = format!("the rollout of certificate {certificate}");
        let conflict = |why: String| {
            Error::conflict(what, &subject, why)
                .hint(format!("`vaultctl cert rollout {certificate}` shows how far it has come"))
        };
        for _ in 0..TURNS {
            let rollout = self.hub.store.rollout(certificate).await?;
            let rollout = rollout.ok_or_else(|| {
                conflict("there is none: every agent is sent the current version".to_owned())
            })?;
            let facts = self.hub.facts(&rollout).await?;
            let Some(Step::Move(next)) = step(&facts) else {
                return Err(conflict(format!("it is {}", rollout.state)));
            };
            if self.hub.move_on(&rollout, next).await? {
                return Ok(());
            }
        }
        Err(conflict("it changes all the time".to_owned()))
    }
}

impl Hub {
    /// An agent has refused a version: whether the rollout goes on is decided at once, so that the
    /// version goes nowhere else.
    pub(super) async fn refused(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
        why: &str,
    ) -> Result<()> {
        for _ in 0..TURNS {
            let Some(rollout) = self.store.rollout(certificate).await? else { return Ok(()) };
            let facts = self.facts(&rollout).await?;
            let Some(Step::Move(next)) = facts.refused(agent, why) else { return Ok(()) };
            if self.move_on(&rollout, next).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes a step; `false` where somebody else has taken one.
    async fn move_on(&self, from: &RolloutRecord, next: Next) -> Result<bool> {
        let Next { state, canary, detail, wanted } = next;
        let since = self.clock.now();
        let to = RolloutRecord { state, canary, detail, since, ..from.clone() };
        crash_point!(match state {
            RolloutState::Running => "rollout.ask",
            RolloutState::Stopped => "rollout.stop",
            _ => "rollout.follow",
        });
        if !self.store.move_rollout(from, &to, &wanted).await? {
            return Ok(false);
        }
        crash_point!(match state {
            RolloutState::Running => "rollout.asked",
            RolloutState::Stopped => "rollout.stopped",
            _ => "rollout.followed",
        });
        let canary = to.canary.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!(certificate = %to.certificate, version = to.version, %state, canary,
            detail = to.detail, "rollout");
        self.changed(&to.certificate).await;
        Ok(true)
    }

    /// What is known of a rollout now.
    async fn facts(&self, rollout: &RolloutRecord) -> Result<Facts> {
        let (name, now) = (&rollout.certificate, self.clock.now());
        let base = self.store.version(name, rollout.base).await?;
        let base = base.filter(|base| base.revoked.is_none());
        let mut agents = Vec::new();
        for deployment in self.store.deployments_of(name).await? {
            let near = self.is_connected(&deployment.agent);
            let known = self.store.agent(&deployment.agent).await?;
            let known = known.filter(|known| known.status == AgentStatus::Active);
            let heard = known.and_then(|known| known.last_seen_at);
            agents.push(Place {
                agent: deployment.agent,
                near,
                reachable: near || heard.is_some_and(|heard| now - heard < HEARD),
                held_version: deployment.held_version,
                status: deployment.status,
            });
        }
        Ok(Facts {
            now,
            patience: self.patience,
            rollout: rollout.clone(),
            base: base.map(|base| Life { not_before: base.not_before, not_after: base.not_after }),
            chosen: self.store.canary(name).await?,
            agents,
        })
    }
}
