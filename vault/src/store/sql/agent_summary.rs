//! All that is shown of agents.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::any::AnyRow;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    SqlStore, agents, fail,
    row::{Columns, all},
};
use crate::error::Result;
use crate::store::{AgentSummaries, AgentSummary};

fn read(row: &Columns<'_>) -> Result<AgentSummary> {
    Ok(AgentSummary {
        agent: agents::read(row)?,
        windows: row.json("windows")?,
        certificates: Vec::new(),
    })
}

/// Adds what goes to agents, from a row for each deployment.
fn whole(agents: &[AnyRow], deployments: &[AnyRow]) -> Result<Vec<AgentSummary>> {
    let deployed = all(deployments, |row| Ok((row.parsed("agent")?, row.parsed("certificate")?)))?;
    let mut certificates: HashMap<AgentName, Vec<CertificateName>> = HashMap::new();
    for (agent, certificate) in deployed {
        certificates.entry(agent).or_default().push(certificate);
    }
    let mut summaries = all(agents, read)?;
    for summary in &mut summaries {
        summary.certificates = certificates.remove(&summary.agent.name).unwrap_or_default();
    }
    Ok(summaries)
}

#[async_trait]
impl AgentSummaries for SqlStore {
    async fn agent_summary(&self, name: &AgentName) -> Result<Option<AgentSummary>> {
        let failed = |e| fail("read", &format!("agent {name}"), e);
        let of =
            |query: &'static str| sqlx::query(query).bind(name.to_string()).fetch_all(&self.reads);
        let agent = of("SELECT * FROM agents WHERE name = $1").await.map_err(failed)?;
        let deployments = of("SELECT agent, certificate FROM deployments WHERE agent = $1
             ORDER BY certificate");
        Ok(whole(&agent, &deployments.await.map_err(failed)?)?.pop())
    }

    async fn agent_summaries(&self) -> Result<Vec<AgentSummary>> {
        let failed = |e| fail("read", "agents", e);
        let of = |query: &'static str| sqlx::query(query).fetch_all(&self.reads);
        let agents = of("SELECT * FROM agents ORDER BY name").await.map_err(failed)?;
        let deployments = of("SELECT agent, certificate FROM deployments ORDER BY certificate");
        whole(&agents, &deployments.await.map_err(failed)?)
    }
}
