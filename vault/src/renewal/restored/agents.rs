//! What agents hold that a restored vault does not know of.

use std::collections::{BTreeMap, BTreeSet};

use ::time::{Duration, OffsetDateTime};
use serde::{Deserialize, Serialize};
use vault_proto::{
    ids::{AgentName, CertificateName},
    v1,
};

use super::{numbers, time};
use crate::error::{Error, Result};
use crate::push::Foreign;
use crate::renewal::Issuer;
use crate::settings::Restored;
use crate::store::{CertificateRecord, DeploymentRecord, DeploymentStatus, Store};

/// Where what agents hold and the vault does not name is remembered.
const UNKNOWN: &str = "restored.unknown";
/// How much of it is remembered; more would be no help to anybody.
const MOST: usize = 100;
/// What began so long before the snapshot was unknown to the vault then, too.
const SKEW: Duration = Duration::hours(2);

/// A certificate that an agent holds and that does not go there, as far as this vault knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unknown {
    agent: AgentName,
    certificate: CertificateName,
    serial: String,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
}

impl Issuer {
    /// Hears what an agent holds when it connects; answers what of it this vault does not know. After
    /// a restore a certificate that an agent holds a newer version of is ordered anew at once.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn hear(
        &self,
        agent: &AgentName,
        held: Vec<v1::HeldCertificate>,
    ) -> Result<Vec<Foreign>> {
        let Some(restored) = Restored::read(self.store.as_ref()).await? else {
            return Ok(Vec::new());
        };
        let deployments = self.store.deployments_on(agent).await?;
        let mut deployments: BTreeMap<_, _> =
            deployments.into_iter().map(|here| (here.certificate.clone(), here)).collect();
        let mut foreign = Vec::new();
        for held in held {
            let held = match Foreign::read(held) {
                Ok(held) => held,
                Err(error) => {
                    tracing::warn!(%agent, %error, "what an agent holds makes no sense");
                    continue;
                }
            };
            let deployment = deployments.remove(&held.certificate);
            let certificate = self.store.certificate(&held.certificate).await?;
            match (certificate, deployment) {
                (Some(certificate), Some(deployment)) => {
                    if self.is_ahead(&restored, &certificate, deployment, &held).await? {
                        foreign.push(held);
                    }
                }
                (certificate, _) => {
                    self.note_unknown(&restored, agent, certificate, &held).await?;
                }
            }
        }
        Ok(foreign)
    }

    /// Whether an agent holds something newer than the vault has; what follows is set going.
    async fn is_ahead(
        &self,
        restored: &Restored,
        certificate: &CertificateRecord,
        deployment: DeploymentRecord,
        held: &Foreign,
    ) -> Result<bool> {
        let versions = self.store.versions(&certificate.name).await?;
        if versions.iter().any(|version| version.fingerprint == held.fingerprint) {
            return Ok(false);
        }
        let current =
            versions.iter().find(|version| version.version == certificate.current_version);
        let since = |at: OffsetDateTime| at > restored.at;
        let alone = self.hearing.lock().await;
        let store = self.store.as_ref();
        let agent = &deployment.agent;
        // The number counts for one that was declared since the restore, too: it had the name before.
        if !numbers::remember(store, agent, held, certificate.current_version).await?
            || since(certificate.created_at)
            || !held.is_newer_than(current, self.clock.now())
        {
            return Ok(false);
        }
        drop(alone);
        let (version, serial, end) = (held.version, &held.serial, time(held.not_after));
        let detail = format!(
            "it holds version {version} (serial {serial}, until {end}), which was issued after the \
             backup that this vault was restored from"
        );
        tracing::warn!(%agent, certificate = %certificate.name, detail, "an agent is ahead");
        let status = DeploymentStatus::Pending;
        let updated_at = self.clock.now();
        let next = DeploymentRecord { status, detail, updated_at, ..deployment };
        self.store.update_deployment(&next).await?;
        // Once it was issued anew there is nothing to catch up with; and whoever connects again and
        // again does not hurry a CA that has just refused.
        let settled = current.is_some_and(|current| since(current.issued_at));
        if !settled && certificate.failed_attempts == 0 {
            self.store.make_due(&certificate.name, self.clock.now(), true).await?;
            self.hub.changed(&certificate.name).await;
        }
        Ok(true)
    }

    /// Remembers what is held somewhere and does not go there.
    async fn note_unknown(
        &self,
        restored: &Restored,
        agent: &AgentName,
        certificate: Option<CertificateRecord>,
        held: &Foreign,
    ) -> Result<()> {
        if held.not_before < restored.snapshot_at - SKEW || held.not_after <= self.clock.now() {
            return Ok(());
        }
        let _alone = self.hearing.lock().await;
        let store = self.store.as_ref();
        let mut all = unknown(store).await?;
        let known = |one: &Unknown| one.agent == *agent && one.certificate == held.certificate;
        if all.iter().any(known) || all.len() >= MOST {
            return Ok(());
        }
        if certificate.is_none() {
            numbers::remember(store, agent, held, 0).await?;
        }
        all.push(Unknown {
            agent: agent.clone(),
            certificate: held.certificate.clone(),
            serial: held.serial.clone(),
            not_after: held.not_after,
        });
        let text = serde_json::to_string(&all)
            .map_err(|e| Error::internal("write", "what agents hold", e))?;
        store.put_settings(&[(UNKNOWN, &text)]).await
    }
}

async fn unknown(store: &dyn Store) -> Result<Vec<Unknown>> {
    let Some(text) = store.setting(UNKNOWN).await? else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|e| Error::internal("read", "what agents hold", e))
}

/// What agents hold that still does not go there, in words.
pub(super) async fn findings(store: &dyn Store, now: OffsetDateTime) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let mut known = BTreeSet::new();
    for one in unknown(store).await?.into_iter().filter(|one| one.not_after > now) {
        let Unknown { agent, certificate, serial, not_after } = &one;
        let end = time(*not_after);
        let here = store.deployments_on(agent).await?;
        if here.iter().any(|deployment| deployment.certificate == *certificate) {
            continue;
        }
        let exists = known.contains(certificate) || store.certificate(certificate).await?.is_some();
        let todo = if exists {
            known.insert(certificate.clone());
            format!(
                "does not go there in this vault, which was restored: `vaultctl cert deploy \
                 {certificate} --to {agent}`, where it shall"
            )
        } else {
            format!(
                "is not known to this vault, which was restored: declare it again with `vaultctl \
                 cert issue {certificate}`, or it is not renewed"
            )
        };
        said.push(format!(
            "agent {agent} holds certificate {certificate} (serial {serial}, until {end}), \
             which {todo}"
        ));
    }
    Ok(said)
}
