//! What the store knows of a certificate as far as an agent is concerned, read at once: this is asked with
//! every step of every order.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName, OrderId};

use super::{
    CertificateRecord, DeploymentRecord, KeyRecord, OrderState, Staple, TlsUse, VersionRecord,
};
use crate::error::Result;

/// A certificate that is deployed to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// The certificate.
    pub certificate: CertificateRecord,
    /// What the agent holds of it.
    pub deployment: DeploymentRecord,
    /// Its open order.
    pub order: Option<(OrderId, OrderState)>,
    /// The version that the agent shall hold: what a rollout says, else the current one. 0 for none.
    pub wanted_version: u64,
    /// Whether any of its versions has a staple.
    pub is_stapled: bool,
}

/// The versions of a certificate that an agent gets to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionsFor {
    /// The version that it shall hold, with its staple.
    pub wanted: Option<(VersionRecord, Option<Staple>)>,
    /// The versions whose keys in the HSM web servers may use, newest first: those in date. A revoked
    /// one is among them only while it is in force or held by an agent.
    pub in_use: Vec<VersionRecord>,
}

/// Who has to look where something of a certificate has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    /// The agents that it goes to.
    pub agents: Vec<AgentName>,
    /// Whether a rollout of it may go on.
    pub is_rolled_out: bool,
}

/// What agents get to see.
#[async_trait]
pub trait AgentViews: Send + Sync {
    /// One certificate as an agent has to do with it, where it is deployed there.
    async fn agent_view(
        &self,
        name: &CertificateName,
        agent: &AgentName,
    ) -> Result<Option<AgentView>>;
    /// What agents get of a certificate where this is the version that they shall hold.
    async fn versions_for(
        &self,
        name: &CertificateName,
        wanted: u64,
        now: OffsetDateTime,
    ) -> Result<VersionsFor>;
    /// Whom a change of a certificate concerns.
    async fn concerned(&self, name: &CertificateName) -> Result<Concerned>;
    /// The keys that web servers may use of all certificates that are deployed to an agent, and what
    /// for: those of [`VersionsFor::in_use`].
    async fn keys_in_use_on(
        &self,
        agent: &AgentName,
        now: OffsetDateTime,
    ) -> Result<Vec<(KeyRecord, TlsUse)>>;
}
