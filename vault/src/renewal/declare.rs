//! What operators declare and change of certificates, beside the orders that follow from it.

use serde_json::json;
use vault_proto::ids::{AccountName, AgentName, CertificateName};

use super::{Issuer, issue::missing, update};
use crate::error::{Error, Result};
use crate::keystore::Algorithm;
use crate::policy::Principal;
use crate::store::{
    AgentStatus, CertificateRecord, CertificateSettings, CertificateStatus, CertificateView,
    ChallengeKind, Custody, Identifier, KeyPurpose, KeyState, OrderState, Turn,
};

/// The most names of one certificate: what public CAs take.
const MOST_NAMES: usize = 100;

/// A certificate to declare.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// Its name.
    pub name: CertificateName,
    /// The account that orders it.
    pub account: AccountName,
    /// What it names.
    pub identifiers: Vec<Identifier>,
    /// Who keeps the key.
    pub custody: Custody,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// RFC 7633 status_request.
    pub must_staple: bool,
    /// What of it can be changed later.
    pub settings: CertificateSettings,
    /// Where it goes.
    pub deploy_to: Vec<AgentName>,
    /// Who of these gets each new version first.
    pub canary: Option<AgentName>,
}

/// What is being done about a certificate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing until it is due.
    Idle,
    /// Its agent's CSR is awaited.
    AwaitingCsr,
    /// An order is under way.
    Ordering,
    /// The last attempt failed; the next waits for its time.
    Backoff,
}

impl Activity {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::AwaitingCsr => "awaiting_csr",
            Self::Ordering => "ordering",
            Self::Backoff => "backoff",
        }
    }
}

impl Issuer {
    /// Declares a certificate; its first order is due at once.
    ///
    /// # Errors
    /// `NotFound` for an unknown account or agent, `Invalid` for what can never be issued,
    /// `Conflict` where the name is in use.
    pub async fn declare(&self, new: Declaration) -> Result<CertificateRecord> {
        let all: Vec<_> =
            [&new.account].into_iter().chain(&new.settings.fallback).cloned().collect();
        self.check_accounts("issue", &all).await?;
        check(&new)?;
        self.presenters.of(new.settings.challenge)?;
        self.check_profile("issue", &new.account, new.settings.profile.as_deref()).await?;
        for agent in &new.deploy_to {
            self.active_agent(agent).await?;
        }
        let now = self.clock.now();
        let CertificateSettings {
            challenge,
            profile,
            tls_use,
            rotate_key,
            fallback,
            preferred_chain,
            windows,
        } = new.settings;
        let certificate = CertificateRecord {
            name: new.name,
            account: new.account,
            identifiers: new.identifiers,
            challenge,
            custody: new.custody,
            algorithm: new.algorithm,
            profile,
            must_staple: new.must_staple,
            tls_use,
            rotate_key,
            fallback,
            preferred_chain,
            windows,
            turn: Turn::default(),
            status: CertificateStatus::Pending,
            current_version: 0,
            key_id: None,
            renew_at: now,
            failed_attempts: 0,
            last_error: None,
            created_at: now,
        };
        self.store.insert_certificate(&certificate, &new.deploy_to).await?;
        if let Some(canary) = &new.canary {
            self.set_canary(&certificate.name, Some(canary)).await?;
        }
        self.hub.changed(&certificate.name).await;
        Ok(certificate)
    }

    async fn active_agent(&self, name: &AgentName) -> Result<()> {
        let agent = self.store.agent(name).await?;
        match agent {
            Some(agent) if agent.status != AgentStatus::Evicted => Ok(()),
            Some(_) => Err(Error::conflict("deploy", format!("agent {name}"), "it is evicted")),
            None => Err(Error::not_found(
                "deploy",
                format!("agent {name}"),
                "the vault has no such agent",
            )
            .hint("invite it with `vaultctl agent token NAME`")),
        }
    }

    /// One certificate.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn find(&self, name: &CertificateName) -> Result<CertificateRecord> {
        self.certificate(name).await
    }

    /// One certificate with all that is shown of it.
    ///
    /// # Errors
    /// As [`Issuer::find`].
    pub async fn view(&self, name: &CertificateName) -> Result<CertificateView> {
        self.store.certificate_view(name).await?.ok_or_else(|| missing(name))
    }

    /// Makes the next order due now: always with `force`, else where there is no good version or
    /// the last attempt failed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn renew(&self, name: &CertificateName, force: bool) -> Result<CertificateView> {
        if self.store.make_due(name, self.clock.now(), force).await? {
            // No agent gets to see it.
            self.hub.bump(name);
        }
        self.view(name).await
    }

    /// Forgets a certificate that is deployed nowhere and destroys its HSM key with all that came
    /// before it.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` while it is deployed.
    pub async fn delete(&self, who: &Principal, name: &CertificateName) -> Result<()> {
        self.certificate(name).await?;
        if let Some(deployment) = self.store.deployments_of(name).await?.first() {
            let why = format!("it is deployed to agent {}", deployment.agent);
            return Err(Error::conflict("delete", format!("certificate {name}"), why)
                .hint("end that first with `vaultctl cert undeploy NAME --from AGENT`"));
        }
        // The keys first: a certificate without its key gets a new one, a key without its
        // certificate would be forgotten in the HSM.
        let keys = self.store.key_versions(KeyPurpose::Certificate, name.as_str()).await?;
        if keys.iter().any(|key| key.state != KeyState::Destroyed) {
            self.signing.destroy(who, KeyPurpose::Certificate, name.as_str()).await?;
        }
        self.store.delete_certificate(name).await?;
        self.alerts.forget(&format!("certificate {name}")).await?;
        self.hub.changed(name).await;
        Ok(())
    }

    /// Deploys a certificate to further agents.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` where the agent keeps the key: it is on one server only.
    pub async fn deploy(&self, name: &CertificateName, to: &[AgentName]) -> Result<()> {
        let certificate = self.certificate(name).await?;
        if certificate.custody == Custody::Agent {
            let why = "its key is on the one web server that made it";
            return Err(Error::invalid("deploy", format!("certificate {name}"), why)
                .hint("issue one certificate per server, or use --custody vault"));
        }
        for agent in to {
            self.active_agent(agent).await?;
        }
        for agent in to {
            self.store.insert_deployment(name, agent, self.clock.now()).await?;
        }
        self.hub.changed(name).await;
        Ok(())
    }

    /// Stops deploying to agents; their files stay where they are.
    ///
    /// # Errors
    /// `NotFound` where it is not deployed there.
    pub async fn undeploy(&self, name: &CertificateName, from: &[AgentName]) -> Result<()> {
        self.certificate(name).await?;
        for agent in from {
            self.store.remove_deployment(name, agent).await?;
            self.hub.changed_on(agent, name);
        }
        self.hub.changed(name).await;
        Ok(())
    }

    /// What is being done about a certificate now.
    pub fn activity(&self, view: &CertificateView) -> Activity {
        let CertificateView { certificate, order, .. } = view;
        let is_due = certificate.renew_at <= self.clock.now();
        match order {
            Some(OrderState::AwaitingCsr) => Activity::AwaitingCsr,
            _ if certificate.failed_attempts > 0 && !is_due => Activity::Backoff,
            Some(_) => Activity::Ordering,
            None if is_due => Activity::Ordering,
            None => Activity::Idle,
        }
    }

    /// What a declaration comes down to, for the audit log.
    pub fn summary(new: &Declaration) -> serde_json::Value {
        let names: Vec<_> = new.identifiers.iter().map(ToString::to_string).collect();
        json!({ "change": "issue", "identifiers": names, "custody": new.custody,
            "account": new.account, "deploy_to": new.deploy_to, "canary": new.canary })
    }
}

/// Refuses what no order could ever fulfil.
fn check(new: &Declaration) -> Result<()> {
    update::check("issue", &new.name, &new.identifiers, &new.settings)?;
    let invalid = |why: String| Error::invalid("issue", format!("certificate {}", new.name), why);
    let names = new.identifiers.len();
    if names > MOST_NAMES {
        return Err(invalid(format!("it has {names} names, {MOST_NAMES} are the most"))
            .hint("split them over several certificates"));
    }
    if new.custody == Custody::Agent && new.deploy_to.len() != 1 {
        return Err(invalid(format!("custody agent takes one agent, not {}", new.deploy_to.len()))
            .hint("pass --deploy-to once"));
    }
    if let Some(canary) = new.canary.as_ref().filter(|agent| !new.deploy_to.contains(agent)) {
        return Err(invalid(format!("its canary {canary} is none of its agents"))
            .hint("name one of --deploy-to"));
    }
    let challenge = new.settings.challenge;
    if new.deploy_to.is_empty() && challenge != ChallengeKind::Dns01 {
        return Err(invalid(format!("nobody could answer the {challenge} challenge"))
            .hint("pass --deploy-to with the agent that the names lead to"));
    }
    Ok(())
}
