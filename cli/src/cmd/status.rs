//! `vaultctl status`.

mod alerts;
mod backups;
mod drills;

use serde::Serialize;
use vault_proto::v1;

use super::Context;
use crate::client::call;
use crate::error::Result;
use crate::output;

#[derive(Serialize)]
struct Shown {
    initialized: bool,
    vault_id: String,
    version: String,
    started_at: Option<String>,
    trust_domain: String,
    ca_fingerprint: String,
    hsm: Hsm,
    store: Store,
    audit: Audit,
    escrow: Escrow,
    cas: Vec<Ca>,
    agents: Agents,
    renewals: Vec<Renewal>,
    last_backup: Option<backups::LastBackup>,
    backups: Option<backups::Schedule>,
    last_drill: Option<drills::LastDrill>,
    last_proven_backup: Option<drills::ProvenBackup>,
    findings: Vec<String>,
    alerts: Vec<alerts::Alert>,
}

#[derive(Serialize)]
struct Hsm {
    available: bool,
    token_label: String,
    token_model: String,
    token_serial: String,
    keys: u64,
    problem: String,
}

#[derive(Serialize)]
struct Store {
    backend: String,
    available: bool,
    schema_version: u64,
}

#[derive(Serialize)]
struct Audit {
    writable: bool,
    records: u64,
    head: String,
}

#[derive(Serialize)]
struct Escrow {
    mode: String,
    threshold: u32,
    custodians: Vec<String>,
    kek_check_value: String,
    wrapped_keys: u64,
    unescrowed_keys: u64,
}

#[derive(Serialize)]
struct Ca {
    account: String,
    directory: String,
    status: String,
    last_error: String,
    last_ok_at: Option<String>,
}

#[derive(Serialize)]
struct Agents {
    active: u64,
    connected: u64,
}

#[derive(Serialize)]
struct Renewal {
    certificate: String,
    renew_at: Option<String>,
    not_after: Option<String>,
    failed_attempts: u32,
    last_error: String,
}

/// Shows how everything is.
///
/// # Errors
/// What the vault says.
pub async fn run(context: &Context) -> Result<()> {
    let mut system = context.client().await?.system();
    let status = system.status(call(v1::StatusRequest {})).await?.into_inner();
    output::one(context.format, &shown(status))
}

fn shown(status: v1::StatusResponse) -> Shown {
    let hsm = status.hsm.unwrap_or_default();
    let store = status.store.unwrap_or_default();
    let audit = status.audit.unwrap_or_default();
    let escrow = status.escrow.unwrap_or_default();
    let agents = status.agents.unwrap_or_default();
    let (last_backup, backups) = status.backup.map(backups::shown).unzip();
    Shown {
        initialized: status.initialized,
        vault_id: status.vault_id,
        version: status.version,
        started_at: output::time(status.started_at),
        trust_domain: status.trust_domain,
        ca_fingerprint: status.ca_fingerprint,
        hsm: Hsm {
            available: hsm.available,
            token_label: hsm.token_label,
            token_model: hsm.token_model,
            token_serial: hsm.token_serial,
            keys: hsm.keys,
            problem: hsm.problem,
        },
        store: Store {
            backend: store.backend,
            available: store.available,
            schema_version: store.schema_version,
        },
        audit: Audit { writable: audit.writable, records: audit.records, head: audit.head },
        escrow: Escrow {
            mode: escrow.mode,
            threshold: escrow.threshold,
            custodians: escrow.custodians,
            kek_check_value: escrow.kek_check_value,
            wrapped_keys: escrow.wrapped_keys,
            unescrowed_keys: escrow.unescrowed_keys,
        },
        cas: status.cas.into_iter().map(ca).collect(),
        agents: Agents { active: agents.active, connected: agents.connected },
        renewals: status.renewals.into_iter().map(renewal).collect(),
        last_drill: status.last_drill.map(drills::last),
        last_proven_backup: status.last_proven_drill.map(drills::proven),
        last_backup: last_backup.flatten(),
        backups,
        findings: status.findings,
        alerts: status.alerts.into_iter().map(alerts::shown).collect(),
    }
}

fn ca(ca: v1::CaStatus) -> Ca {
    Ca {
        last_ok_at: output::time(ca.last_ok_at),
        account: ca.account,
        directory: ca.directory,
        status: ca.status,
        last_error: ca.last_error,
    }
}

fn renewal(renewal: v1::RenewalStatus) -> Renewal {
    Renewal {
        renew_at: output::time(renewal.renew_at),
        not_after: output::time(renewal.not_after),
        certificate: renewal.certificate,
        failed_attempts: renewal.failed_attempts,
        last_error: renewal.last_error,
    }
}
