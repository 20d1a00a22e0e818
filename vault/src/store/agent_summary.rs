//! All that is shown of agents, read at once: whoever lists a fleet asks for each of them.

use async_trait::async_trait;
use vault_proto::ids::{AgentName, CertificateName};

use super::{AgentRecord, MaintenanceWindow};
use crate::error::Result;

/// An agent and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSummary {
    /// The agent.
    pub agent: AgentRecord,
    /// Its maintenance windows.
    pub windows: Vec<MaintenanceWindow>,
    /// What goes to it, by name.
    pub certificates: Vec<CertificateName>,
}

/// What operators get to see.
#[async_trait]
pub trait AgentSummaries: Send + Sync {
    /// One agent.
    async fn agent_summary(&self, name: &AgentName) -> Result<Option<AgentSummary>>;
    /// All agents by name. As many questions to the database as for one.
    async fn agent_summaries(&self) -> Result<Vec<AgentSummary>>;
}
