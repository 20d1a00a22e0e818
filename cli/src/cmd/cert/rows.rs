//! Certificates and their versions as they are shown.

use serde::Serialize;
use vault_proto::v1;

use crate::output::{self, Row};

/// A certificate.
#[derive(Serialize)]
pub(super) struct Shown {
    name: String,
    status: String,
    progress: String,
    account: String,
    domains: Vec<String>,
    ips: Vec<String>,
    challenge: String,
    custody: &'static str,
    algorithm: &'static str,
    profile: String,
    must_staple: bool,
    tls_use: String,
    rotate_key: bool,
    fallback: Vec<String>,
    preferred_chain: String,
    chain_note: String,
    issued_by: String,
    orders_with: String,
    windows: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
    rollout_state: String,
    rollout_detail: String,
    canary: String,
    key_id: String,
    version: u64,
    serial: String,
    not_before: Option<String>,
    not_after: Option<String>,
    renew_at: Option<String>,
    renewal_reason: String,
    renewal_window_start: Option<String>,
    renewal_window_end: Option<String>,
    explanation_url: String,
    failed_attempts: u32,
    last_error: String,
    revocation: String,
    revocation_source: String,
    revocation_detail: String,
    revocation_checked_at: Option<String>,
    staple_next_update: Option<String>,
    deployments: Vec<Deployment>,
}

/// One certificate on one agent.
#[derive(Serialize)]
struct Deployment {
    agent: String,
    held_version: u64,
    wanted_version: u64,
    status: String,
    detail: String,
    updated_at: Option<String>,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] = &[
        "NAME", "STATUS", "PROGRESS", "VERSION", "CUSTODY", "NAMES", "ENDS", "RENEWS", "DEPLOYED",
    ];
    fn cells(&self) -> Vec<String> {
        let names: Vec<_> = self.domains.iter().chain(&self.ips).cloned().collect();
        let deployed: Vec<_> =
            self.deployments.iter().map(|d| format!("{} ({})", d.agent, d.status)).collect();
        vec![
            self.name.clone(),
            self.status.clone(),
            self.progress.clone(),
            self.version.to_string(),
            self.custody.to_owned(),
            names.join(", "),
            output::short(&self.not_after),
            output::short(&self.renew_at),
            deployed.join(", "),
        ]
    }
}

impl From<v1::Certificate> for Shown {
    fn from(c: v1::Certificate) -> Self {
        let deployment = |d: v1::Deployment| Deployment {
            agent: d.agent,
            held_version: d.held_version,
            wanted_version: d.wanted_version,
            status: d.status,
            detail: d.detail,
            updated_at: output::time(d.updated_at),
        };
        Self {
            custody: output::custody(c.custody()),
            algorithm: output::algorithm(c.algorithm()),
            not_before: output::time(c.not_before),
            not_after: output::time(c.not_after),
            renew_at: output::time(c.renew_at),
            renewal_window_start: output::time(c.renewal_window_start),
            renewal_window_end: output::time(c.renewal_window_end),
            renewal_reason: c.renewal_reason,
            explanation_url: c.explanation_url,
            revocation: c.revocation,
            revocation_source: c.revocation_source,
            revocation_detail: c.revocation_detail,
            revocation_checked_at: output::time(c.revocation_checked_at),
            staple_next_update: output::time(c.staple_next_update),
            deployments: c.deployments.into_iter().map(deployment).collect(),
            name: c.name,
            status: c.status,
            progress: c.progress,
            account: c.account,
            domains: c.domains,
            ips: c.ips,
            challenge: c.challenge,
            profile: c.profile,
            must_staple: c.must_staple,
            tls_use: c.tls_use,
            rotate_key: c.rotate_key,
            fallback: c.fallback,
            preferred_chain: c.preferred_chain,
            chain_note: c.chain_note,
            issued_by: c.issued_by,
            orders_with: c.orders_with,
            windows: c.windows,
            waits_for: Some(c.waits_for).filter(|text| !text.is_empty()),
            rollout_state: c.rollout_state,
            rollout_detail: c.rollout_detail,
            canary: c.canary,
            key_id: c.key_id,
            version: c.version,
            serial: c.serial,
            failed_attempts: c.failed_attempts,
            last_error: c.last_error,
        }
    }
}

/// One issued version.
#[derive(Serialize)]
pub(super) struct Version {
    version: u64,
    serial: String,
    not_before: Option<String>,
    not_after: Option<String>,
    issued_at: Option<String>,
    fingerprint: String,
    account: String,
    revoked: String,
}

impl Row for Version {
    const HEADER: &'static [&'static str] =
        &["VERSION", "SERIAL", "STARTS", "ENDS", "ISSUED", "ACCOUNT", "REVOKED"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.version.to_string(),
            self.serial.clone(),
            output::short(&self.not_before),
            output::short(&self.not_after),
            output::short(&self.issued_at),
            self.account.clone(),
            self.revoked.clone(),
        ]
    }
}

impl From<v1::CertificateVersion> for Version {
    fn from(v: v1::CertificateVersion) -> Self {
        Self {
            not_before: output::time(v.not_before),
            not_after: output::time(v.not_after),
            issued_at: output::time(v.issued_at),
            version: v.version,
            serial: v.serial,
            fingerprint: v.fingerprint,
            account: v.account,
            revoked: v.revoked,
        }
    }
}
