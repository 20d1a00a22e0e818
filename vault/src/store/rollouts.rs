//! Which version each agent is sent while a new one is tried on one of them first. It is in no
//! backup: after a restore every agent is sent the current version, and each proves it for itself.

use std::collections::BTreeMap;

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName};

use crate::error::Result;
use crate::named::named_enum;

named_enum!(
    /// How far a rollout has come.
    RolloutState, "rollout state" {
        /// The canary alone is sent the new version, or has still to be chosen.
        Running = "running",
        /// The canary has proven it; all are sent it.
        Proven = "proven",
        /// All are sent it though nobody has proven it: nothing good was left to keep.
        Released = "released",
        /// An agent has refused it; who does not have it keeps the version before.
        Stopped = "stopped",
        /// An operator has called it off; all go back to the version before.
        Abandoned = "abandoned",
        /// Every agent has it.
        Done = "done",
    }
);

impl RolloutState {
    /// Whether every agent is sent the new version.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Proven | Self::Released | Self::Done)
    }
}

/// The rollout of a certificate's current version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Which certificate.
    pub certificate: CertificateName,
    /// The version that is rolled out.
    pub version: u64,
    /// The last version that was rolled out: what agents keep meanwhile.
    pub base: u64,
    /// Who gets it first, once that is chosen.
    pub canary: Option<AgentName>,
    /// How far it has come.
    pub state: RolloutState,
    /// Since when it is there, with this canary.
    pub since: OffsetDateTime,
    /// Why it is there, in words.
    pub detail: String,
    /// Counts changes of the record, so that of two nodes one makes the next.
    pub revision: u64,
}

/// A rollout with what each agent is sent in its course, both as they were in one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledOut {
    /// The rollout.
    pub rollout: RolloutRecord,
    /// The versions that it has chosen, by agent.
    pub chosen: BTreeMap<AgentName, u64>,
}

impl RolledOut {
    /// The version that an agent shall hold.
    pub fn wanted_version(&self, agent: &AgentName) -> u64 {
        match self.rollout.state.is_open() {
            true => self.rollout.version,
            false => self.chosen.get(agent).copied().unwrap_or(self.rollout.base),
        }
    }
}

/// Rollouts' rows, one for each certificate at most. [`record_issuance`](super::Certificates) begins
/// one for a version that is not the first and goes to several agents.
#[async_trait]
pub trait Rollouts: Send + Sync {
    /// A certificate's rollout.
    async fn rollout(&self, certificate: &CertificateName) -> Result<Option<RolloutRecord>>;
    /// Every rollout that is not `Done`, by certificate.
    async fn unfinished_rollouts(&self) -> Result<Vec<RolloutRecord>>;
    /// Moves a rollout on from what it was, together with what each agent is sent; `false` where
    /// somebody else has moved it meanwhile.
    async fn move_rollout(
        &self,
        from: &RolloutRecord,
        to: &RolloutRecord,
        wanted: &BTreeMap<AgentName, u64>,
    ) -> Result<bool>;
    /// The agent that the operator wants asked first.
    async fn canary(&self, certificate: &CertificateName) -> Result<Option<AgentName>>;
    /// Sets or clears that; `false` where the certificate is not deployed there.
    async fn set_canary(
        &self,
        certificate: &CertificateName,
        agent: Option<&AgentName>,
    ) -> Result<bool>;
}
