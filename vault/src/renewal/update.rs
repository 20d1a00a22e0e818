//! Changes of a certificate's settings that leave it the same certificate.

use serde_json::{Value, json};
use vault_proto::ids::{AccountName, AgentName, CertificateName};

use super::Issuer;
use crate::error::{Error, Result};
use crate::store::{CertificateSettings, ChallengeKind, Identifier, MaintenanceWindow, TlsUse};

/// Settings to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// How control is proven.
    pub challenge: Option<ChallengeKind>,
    /// ACME profile; `Some(None)` is the CA's default.
    pub profile: Option<Option<String>>,
    /// What its HSM key may sign in handshakes.
    pub tls_use: Option<TlsUse>,
    /// Each renewal is for a new HSM key.
    pub rotate_key: Option<bool>,
    /// Accounts of other CAs, tried in turn.
    pub fallback: Option<Vec<AccountName>>,
    /// The issuer whose chain is taken; `Some(None)` is the CA's default.
    pub preferred_chain: Option<Option<String>>,
    /// When its web servers may change.
    pub windows: Option<Vec<MaintenanceWindow>>,
    /// The agent that gets each new version first; `Some(None)` leaves it to the vault.
    pub canary: Option<Option<AgentName>>,
}

impl SettingsChange {
    /// The settings after it.
    fn of(self, before: CertificateSettings) -> CertificateSettings {
        CertificateSettings {
            challenge: self.challenge.unwrap_or(before.challenge),
            profile: self.profile.unwrap_or(before.profile),
            tls_use: self.tls_use.unwrap_or(before.tls_use),
            rotate_key: self.rotate_key.unwrap_or(before.rotate_key),
            fallback: self.fallback.unwrap_or(before.fallback),
            preferred_chain: self.preferred_chain.unwrap_or(before.preferred_chain),
            windows: self.windows.unwrap_or(before.windows),
        }
    }

    /// What it comes down to, for the audit log: what stays is not named.
    pub fn summary(&self) -> Value {
        let mut summary = json!({ "change": "update" });
        let changes = [
            ("challenge", self.challenge.map(|challenge| json!(challenge))),
            ("profile", self.profile.as_ref().map(|profile| json!(profile))),
            ("tls_use", self.tls_use.map(|tls_use| json!(tls_use))),
            ("rotate_key", self.rotate_key.map(|rotate| json!(rotate))),
            ("fallback", self.fallback.as_ref().map(|accounts| json!(accounts))),
            ("canary", self.canary.as_ref().map(|agent| json!(agent))),
            ("preferred_chain", self.preferred_chain.as_ref().map(|issuer| json!(issuer))),
            ("windows", self.windows.as_ref().map(|windows| json!(windows))),
        ];
        for (name, to) in changes {
            if let Some(to) = to {
                summary[name] = to;
            }
        }
        summary
    }
}

impl Issuer {
    /// Changes a certificate's settings: what its key signs at once, the rest from the next order
    /// on.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what [`Issuer::declare`] refuses, `Conflict` where somebody else
    /// changes them at the same time.
    pub async fn update(&self, name: &CertificateName, change: SettingsChange) -> Result<()> {
        let certificate = self.certificate(name).await?;
        let before = certificate.settings();
        let canary = change.canary.clone();
        let after = change.of(before.clone());
        check("update", name, &certificate.identifiers, &after)?;
        self.presenters.of(after.challenge)?;
        let all: Vec<_> =
            [&certificate.account].into_iter().chain(&after.fallback).cloned().collect();
        if after.fallback != before.fallback {
            self.check_accounts("update", &all).await?;
        }
        if after.profile != before.profile {
            self.check_profile("update", &certificate.account, after.profile.as_deref()).await?;
        }
        if let Some(Some(agent)) = &canary
            && self.store.deployment(name, agent).await?.is_none()
        {
            return Err(not_there(name, agent));
        }
        if !self.store.change_settings(name, &before, &after).await? {
            let why = "somebody else has changed it at the same time";
            return Err(Error::conflict("update", format!("certificate {name}"), why)
                .hint("look at it with `vaultctl cert show`, and try again"));
        }
        if let Some(canary) = canary {
            self.set_canary(name, canary.as_ref()).await?;
        }
        self.hub.changed(name).await;
        Ok(())
    }
}

impl Issuer {
    /// Says who gets each new version of a certificate first.
    pub(super) async fn set_canary(
        &self,
        name: &CertificateName,
        agent: Option<&AgentName>,
    ) -> Result<()> {
        match (self.store.set_canary(name, agent).await?, agent) {
            (false, Some(agent)) => Err(not_there(name, agent)),
            _ => Ok(()),
        }
    }
}

fn not_there(name: &CertificateName, agent: &AgentName) -> Error {
    let why = format!("it does not go to agent {agent}");
    Error::invalid("set the canary of", format!("certificate {name}"), why)
        .hint("name one of the agents that `vaultctl cert show` lists")
}

/// Refuses settings that no order could ever fulfil, or that some web server could not follow.
pub(super) fn check(
    what: &str,
    name: &CertificateName,
    identifiers: &[Identifier],
    settings: &CertificateSettings,
) -> Result<()> {
    let invalid = |why: String| Error::invalid(what, format!("certificate {name}"), why);
    let address = identifiers.iter().find(|i| matches!(i, Identifier::Ip(_)));
    if let (Some(address), ChallengeKind::Dns01) = (address, settings.challenge) {
        return Err(invalid(format!("{address} is an address, which dns-01 cannot prove"))
            .hint("RFC 8738 section 7: use --challenge http-01 or tls-alpn-01"));
    }
    let wildcard = |i: &&Identifier| matches!(i, Identifier::Dns(name) if name.starts_with("*."));
    let found = identifiers.iter().find(wildcard);
    if let Some(name) = found.filter(|_| settings.challenge != ChallengeKind::Dns01) {
        let challenge = settings.challenge;
        return Err(invalid(format!("{name} is a wildcard, which {challenge} cannot prove"))
            .hint("use --challenge dns-01, or name each host"));
    }
    if settings.rotate_key && settings.tls_use == TlsUse::Digest {
        let why = "digests are for OpenSSL's engine, which knows keys by their name alone: of an old \
                   and a new one it may find the wrong one";
        return Err(invalid(why.to_owned()).hint(
            "use OpenSSL's provider and --tls-use message, or leave --rotate-key off (`cert \
             update`: --rotate-key false)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let before = CertificateSettings {
            challenge: ChallengeKind::Dns01,
            profile: Some("shortlived".to_owned()),
            tls_use: TlsUse::Tls13,
            rotate_key: true,
            fallback: vec!["other".parse().unwrap()],
            preferred_chain: Some("Root X1".to_owned()),
            windows: vec!["Sat 02:00-04:00".parse().unwrap()],
        };
        assert_eq!(SettingsChange::default().of(before.clone()), before);
        let change = SettingsChange { profile: Some(None), ..SettingsChange::default() };
        let after = CertificateSettings { profile: None, ..before.clone() };
        assert_eq!(change.of(before.clone()), after);
        let change = SettingsChange {
            challenge: Some(ChallengeKind::Http01),
            profile: Some(Some("classic".to_owned())),
            tls_use: Some(TlsUse::Message),
            rotate_key: Some(false),
            fallback: Some(Vec::new()),
            preferred_chain: Some(Some("Root X2".to_owned())),
            windows: Some(Vec::new()),
            canary: None,
        };
        let after = CertificateSettings {
            challenge: ChallengeKind::Http01,
            profile: Some("classic".to_owned()),
            tls_use: TlsUse::Message,
            rotate_key: false,
            fallback: Vec::new(),
            preferred_chain: Some("Root X2".to_owned()),
            windows: Vec::new(),
        };
        assert_eq!(change.of(before), after);
    }

    #[test]
    fn the_audit_log_names_what_changes_and_nothing_else() {
        let change = SettingsChange {
            profile: Some(None),
            rotate_key: Some(false),
            ..SettingsChange::default()
        };
        let summary = json!({ "change": "update", "profile": null, "rotate_key": false });
        assert_eq!(change.summary(), summary);
    }
}
