//! What an agent says became of a resource. A nack never advances the held version.

use vault_proto::{
    ids::{AgentName, CertificateName},
    v1,
};

use super::Hub;
use crate::error::{Error, Result};
use crate::store::{DeploymentRecord, DeploymentStatus};

impl Hub {
    /// Takes in one report. What the agent has no business with is refused.
    ///
    /// # Errors
    /// `Invalid` for a malformed report, and where the store cannot be written.
    pub async fn report(&self, agent: &AgentName, report: v1::ResourceReport) -> Result<()> {
        let malformed = |why: &str| Error::invalid("report", format!("agent {agent}"), why);
        let outcome = report.outcome();
        if outcome == v1::Outcome::Unspecified {
            return Err(malformed("the report has no outcome"));
        }
        let detail: String = report.detail.chars().take(2000).collect();
        match report.resource.clone() {
            None => Err(malformed("the report names no resource")),
            Some(v1::resource_report::Resource::Challenge(token)) => {
                let presented = match outcome {
                    v1::Outcome::Failed => Err(detail),
                    _ => Ok(()),
                };
                self.note_presented(agent, &token, presented);
                Ok(())
            }
            Some(v1::resource_report::Resource::Certificate(name)) => {
                self.certificate(agent, &name.parse()?, report.version, outcome, detail).await
            }
        }
    }

    async fn certificate(
        &self,
        agent: &AgentName,
        name: &CertificateName,
        version: u64,
        outcome: v1::Outcome,
        detail: String,
    ) -> Result<()> {
        let Some(known) = self.store.agent_view(name, agent).await? else {
            // Undeployed while the report was on its way: nothing to record.
            return Ok(());
        };
        let current = known.certificate.current_version;
        let is_refused = outcome == v1::Outcome::Failed && version <= current;
        if is_refused && version != known.wanted_version {
            // Another version was wanted meanwhile; this says nothing of it.
            return Ok(());
        }
        let Some(next) = advance(known.deployment, version, current, outcome, detail) else {
            return Err(Error::invalid(
                "report",
                format!("certificate {name} on agent {agent}"),
                format!("version {version} was never issued (current is {current})"),
            ));
        };
        let next = DeploymentRecord { updated_at: self.clock.now(), ..next };
        match next.status {
            DeploymentStatus::Failed => {
                tracing::warn!(%agent, certificate = %name, version, detail = next.detail, "refused");
            }
            _ => tracing::info!(%agent, certificate = %name, version, detail = next.detail, "held"),
        }
        self.store.update_deployment(&next).await?;
        if is_refused && version == current {
            self.refused(name, agent, &next.detail).await?;
        }
        self.rollouts.mark(name);
        self.bump(name);
        Ok(())
    }
}

/// The deployment after a report; `None` where the report speaks of a version that is not.
fn advance(
    deployment: DeploymentRecord,
    version: u64,
    current: u64,
    outcome: v1::Outcome,
    detail: String,
) -> Option<DeploymentRecord> {
    if version > current {
        return None;
    }
    let status = match outcome {
        v1::Outcome::Serving => DeploymentStatus::Serving,
        v1::Outcome::Installed => DeploymentStatus::Installed,
        _ => DeploymentStatus::Failed,
    };
    let held_version = match status {
        DeploymentStatus::Failed => deployment.held_version,
        _ => version,
    };
    Some(DeploymentRecord { held_version, status, detail, ..deployment })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn held(version: u64) -> DeploymentRecord {
        DeploymentRecord {
            certificate: "shop".parse().unwrap(),
            agent: "web1".parse().unwrap(),
            held_version: version,
            status: DeploymentStatus::Serving,
            detail: String::new(),
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_nack_never_advances_the_held_version() {
        let next = advance(held(1), 2, 2, v1::Outcome::Failed, "nginx -t".into()).unwrap();
        assert_eq!(next.held_version, 1);
        assert_eq!(next.status, DeploymentStatus::Failed);
        assert_eq!(next.detail, "nginx -t");
    }

    #[test]
    fn an_ack_advances_it_to_what_was_issued_and_no_further() {
        let next = advance(held(1), 2, 2, v1::Outcome::Serving, String::new()).unwrap();
        assert_eq!(next.held_version, 2);
        assert!(advance(held(1), 3, 2, v1::Outcome::Serving, String::new()).is_none());
    }
}
