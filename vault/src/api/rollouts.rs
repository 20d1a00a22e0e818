//! What `CertificateService` says of rollouts and does with them.

use vault_proto::{
    ids::{AgentName, CertificateName},
    v1,
};

use super::{Context, convert};
use crate::error::{Error, Result};
use crate::store::{CertificateView, RolloutRecord};

/// What an operator does with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Resume,
    Abandon,
}

impl Change {
    pub(super) fn read(request: &v1::ChangeRolloutRequest) -> Result<Self> {
        match request.change() {
            v1::RolloutChange::Resume => Ok(Self::Resume),
            v1::RolloutChange::Abandon => Ok(Self::Abandon),
            v1::RolloutChange::Unspecified => {
                let subject = format!("the rollout of certificate {}", request.name);
                Err(Error::invalid("change", subject, "no change is named"))
            }
        }
    }

    /// Its name on the audit log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Resume => "resume rollout",
            Self::Abandon => "abandon rollout",
        }
    }

    pub(super) async fn make(self, context: &Context, name: &CertificateName) -> Result<()> {
        let rooms = context.rooms()?;
        rooms.issuer.find(name).await?;
        match self {
            Self::Resume => rooms.rollouts.resume(name).await,
            Self::Abandon => rooms.rollouts.abandon(name).await,
        }
    }
}

/// An agent's name; `None` where it is empty.
pub(super) fn agent(name: &str) -> Result<Option<AgentName>> {
    match name {
        "" => Ok(None),
        name => Ok(Some(name.parse()?)),
    }
}

/// Where a certificate goes and how its rollout is.
pub(super) struct Spread {
    pub(super) deployments: Vec<v1::Deployment>,
    pub(super) rollout: Option<RolloutRecord>,
    /// The agent that is asked first, or shall be.
    pub(super) canary: String,
}

impl Spread {
    pub(super) fn of(view: &CertificateView) -> Self {
        let CertificateView { certificate, rolled_out, .. } = view;
        let deployments = view.deployments.iter().cloned().map(|deployment| {
            let sent = rolled_out.as_ref().map(|sent| sent.wanted_version(&deployment.agent));
            let wanted_version = sent.unwrap_or(certificate.current_version);
            v1::Deployment { wanted_version, ..v1::Deployment::from(deployment) }
        });
        let rollout = rolled_out.as_ref().map(|rolled_out| rolled_out.rollout.clone());
        let asked = rollout.as_ref().and_then(|rollout| rollout.canary.clone());
        let canary = asked.or_else(|| view.canary.clone());
        let canary = canary.map(|agent| agent.to_string()).unwrap_or_default();
        Self { deployments: deployments.collect(), rollout, canary }
    }
}

/// A certificate's rollout.
pub(super) async fn whole(context: &Context, name: &CertificateName) -> Result<v1::Rollout> {
    let view = context.rooms()?.issuer.view(name).await?;
    let Spread { deployments, rollout, canary } = Spread::of(&view);
    let certificate = view.certificate;
    let shown = v1::Rollout {
        certificate: name.to_string(),
        version: certificate.current_version,
        canary,
        deployments,
        ..v1::Rollout::default()
    };
    Ok(match rollout {
        None => shown,
        Some(rollout) => v1::Rollout {
            base_version: rollout.base,
            state: rollout.state.to_string(),
            since: Some(convert::timestamp(rollout.since)),
            detail: rollout.detail,
            ..shown
        },
    })
}
