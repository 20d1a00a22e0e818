//! The end of alerts: a revoked certificate is an alert's until nobody holds it any more.

use vault_proto::ids::CertificateName;

use super::Revocation;
use crate::error::Result;
use crate::store::{AgentStatus, AlertKind};

impl Revocation {
    /// Clears alerts of certificates whose revoked versions are replaced: the version in force is good, and
    /// so is every one that an agent holds.
    pub(super) async fn settle(&self) -> Result<()> {
        for alert in self.store.open_alerts().await? {
            if alert.kind != AlertKind::Revoked {
                continue;
            }
            let name = alert.subject.strip_prefix("certificate ").and_then(|n| n.parse().ok());
            let Some(name) = name else { continue };
            if !self.is_in_place(&name).await? {
                self.alerts.clear(AlertKind::Revoked, &alert.subject).await?;
            }
        }
        Ok(())
    }

    /// Whether a revoked version is in force or held by an agent.
    async fn is_in_place(&self, name: &CertificateName) -> Result<bool> {
        let Some(certificate) = self.store.certificate(name).await? else { return Ok(false) };
        let mut in_place = vec![certificate.current_version];
        for deployment in self.store.deployments_of(name).await? {
            let agent = self.store.agent(&deployment.agent).await?;
            if agent.is_some_and(|agent| agent.status == AgentStatus::Active) {
                in_place.push(deployment.held_version);
            }
        }
        let versions = self.store.versions(name).await?;
        let revoked = versions.iter().filter(|version| version.revoked.is_some());
        Ok(revoked.into_iter().any(|version| in_place.contains(&version.version)))
    }
}
