//! From a configuration to a running vault: the only place that picks a backend.

mod ceremony;
pub mod drill;
pub mod officer;
mod restore;
mod rooms;
mod serve;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::api::Context;
use crate::audit::{self, AuditLog, Entry, Outcome, Record, Recovery};
use crate::backup::restore::{complete_swap, tidy};
use crate::clock::{Clock, SystemClock};
use crate::config::{AuditSync, Config};
use crate::error::{Error, Result};
use crate::policy::{Authorizer, Principal, RoleAuthorizer};
use crate::settings;
use crate::signing::Finding;
use crate::store::{Store, sql::SqlStore};

/// What there is before `init` and after.
#[derive(Clone)]
struct Parts {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    audit: AuditLog,
    authorizer: Arc<dyn Authorizer>,
    clock: Arc<dyn Clock>,
}

/// How a vault has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped,
    /// It was restored: this process begins anew, as another vault.
    Anew,
}

/// Runs a vault until `stop`, or until it is another one; then drains.
///
/// # Errors
/// What keeps it from starting, or what ended it.
pub async fn run(config: Config, stop: CancellationToken) -> Result<Ending> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store: Arc<dyn Store> =
        Arc::new(SqlStore::open(&config.store.url, config.store.connections).await?);
    complete_swap(store.as_ref(), &config.audit.path).await?;
    let options = audit_options(&config);
    let (path, audit_clock) = (config.audit.path.clone(), clock.clone());
    let (audit, recovery) = blocking(move || AuditLog::open(&path, options, audit_clock)).await?;
    tidy(&config.audit.path);
    audit.event(started(&recovery)).await?;
    let parts = Parts {
        config: Arc::new(config),
        store,
        audit,
        authorizer: Arc::new(RoleAuthorizer),
        clock,
    };
    let context = Arc::new(Context {
        store: parts.store.clone(),
        audit: parts.audit.clone(),
        authorizer: parts.authorizer.clone(),
        clock: parts.clock.clone(),
        calls: TaskTracker::new(),
        stopping: CancellationToken::new(),
        started_at: parts.clock.now(),
        rooms: OnceLock::new(),
        initializer: OnceLock::new(),
        restorer: OnceLock::new(),
    });
    let server = serve::Server::new(parts.clone(), context);
    match settings::Vault::read(parts.store.as_ref()).await? {
        Some(vault) => {
            let torn = recovery.torn_tail.as_deref().map(torn);
            let (signing, mut findings) = rooms::restart(&parts, &vault, recovery.pending).await?;
            findings.extend(torn);
            let opened = rooms::assemble(&parts, signing, &vault, findings)?;
            server.run_initialized(opened, stop).await.map(|()| Ending::Stopped)
        }
        None => {
            close_pending(&parts.audit, &recovery.pending).await?;
            server.run_uninitialized(stop).await
        }
    }
}

/// How the audit log is run.
fn audit_options(config: &Config) -> audit::Options {
    audit::Options {
        queue: config.audit.queue,
        deadline: config.audit.deadline,
        sync: match config.audit.sync {
            AuditSync::Each => audit::Sync::Each,
            AuditSync::Interval => audit::Sync::Interval(config.audit.sync_interval),
        },
    }
}

/// The record of a start: what it found of the one before is on the log before it is acted upon.
fn started(recovery: &Recovery) -> Entry {
    Entry {
        principal: Principal::Vault("app").to_string(),
        action: "system.start".to_owned(),
        resource: "vault".to_owned(),
        detail: recovery.detail().into(),
        grouped: false,
    }
}

fn torn(aside: &Path) -> Finding {
    tracing::warn!(aside = %aside.display(), "the audit log's last line was torn");
    Finding(format!(
        "the audit log's last line was torn, and was never acknowledged: set aside in {}",
        aside.display()
    ))
}

/// Ends the intents of a ceremony that was interrupted: what it left is wiped by the next.
async fn close_pending(audit: &AuditLog, pending: &[Record]) -> Result<()> {
    for record in pending {
        let said = json!({ "reconciled": "the vault stopped before it was initialised" });
        audit.conclude_pending(record, Outcome::Unknown, said).await?;
    }
    Ok(())
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal("run", "a blocking call", e))?
}
