//! What `CertificateService` says of rollouts and does with them.

use vault_proto::{
    ids::{AgentName, CertificateName},
    v1,
};

use super::{Context, convert};
use crate::error::{Error, Result};
use crate::store::CertificateRecord;

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

/// Where a certificate goes, with what each agent is sent.
pub(super) async fn deployments(
    context: &Context,
    certificate: &CertificateRecord,
) -> Result<Vec<v1::Deployment>> {
    let (store, name) = (&context.store, &certificate.name);
    let mut all = Vec::new();
    for deployment in store.deployments_of(name).await? {
        let wanted = store.wanted_version(name, &deployment.agent).await?;
        let wanted_version = wanted.unwrap_or(certificate.current_version);
        all.push(v1::Deployment { wanted_version, ..v1::Deployment::from(deployment) });
    }
    Ok(all)
}

/// A certificate's rollout without its agents.
pub(super) async fn summary(context: &Context, name: &CertificateName) -> Result<v1::Rollout> {
    let chosen = context.store.canary(name).await?;
    let rollout = context.store.rollout(name).await?;
    let canary = rollout.as_ref().and_then(|rollout| rollout.canary.clone()).or(chosen);
    let canary = canary.map(|agent| agent.to_string()).unwrap_or_default();
    let certificate = name.to_string();
    Ok(match rollout {
        Some(rollout) => v1::Rollout {
            certificate,
            version: rollout.version,
            base_version: rollout.base,
            state: rollout.state.to_string(),
            canary,
            since: Some(convert::timestamp(rollout.since)),
            detail: rollout.detail,
            deployments: Vec::new(),
        },
        None => v1::Rollout { certificate, canary, ..v1::Rollout::default() },
    })
}

/// A certificate's rollout.
pub(super) async fn whole(context: &Context, name: &CertificateName) -> Result<v1::Rollout> {
    let certificate = context.rooms()?.issuer.find(name).await?;
    let deployments = deployments(context, &certificate).await?;
    let version = certificate.current_version;
    Ok(v1::Rollout { version, deployments, ..summary(context, name).await? })
}
