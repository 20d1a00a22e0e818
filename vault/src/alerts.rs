//! What somebody has to know of now: said once in the log and on the audit log, shown by `vaultctl
//! status` until it is over. Whoever raises an alert clears it when its condition is gone; both may
//! be done as often as one likes.

use std::sync::Arc;

use serde_json::json;

use crate::audit::{AuditLog, Entry};
use crate::clock::Clock;
use crate::error::Result;
use crate::policy::Principal;
use crate::store::Store;

pub use crate::store::AlertKind;

/// Raises and clears alerts. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    store: Arc<dyn Store>,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
}

impl Alerts {
    /// Over these parts.
    pub fn new(store: Arc<dyn Store>, audit: AuditLog, clock: Arc<dyn Clock>) -> Self {
        Self { store, audit, clock }
    }

    /// Opens an alert, or says `detail` of one that is open.
    ///
    /// # Errors
    /// Where the audit log or the store cannot be written.
    pub async fn raise(&self, kind: AlertKind, subject: &str, detail: &str) -> Result<()> {
        let open = self.store.alerts_on(subject).await?;
        let open = open.into_iter().find(|open| open.kind == kind);
        if open.as_ref().is_some_and(|open| open.detail == detail) {
            return Ok(());
        }
        if open.is_none() {
            // First on the log: an alert that somebody has seen is never missing there.
            self.record("alert.raise", kind, subject, detail).await?;
            tracing::error!(alert = %kind, subject, detail, "alert");
        }
        self.store.raise_alert(kind, subject, detail, self.clock.now()).await.map(drop)
    }

    /// Closes an alert, where it is open.
    ///
    /// # Errors
    /// Where the audit log or the store cannot be written.
    pub async fn clear(&self, kind: AlertKind, subject: &str) -> Result<()> {
        self.clear_all(&[kind], subject).await
    }

    /// Closes alerts of several kinds, where they are open.
    ///
    /// # Errors
    /// As [`Alerts::clear`].
    pub async fn clear_all(&self, kinds: &[AlertKind], subject: &str) -> Result<()> {
        let open = self.store.alerts_on(subject).await?;
        for open in open.into_iter().filter(|open| kinds.contains(&open.kind)) {
            self.record("alert.clear", open.kind, subject, &open.detail).await?;
            tracing::info!(alert = %open.kind, subject, "alert is over");
            self.store.clear_alert(open.kind, subject).await?;
        }
        Ok(())
    }

    /// Closes every alert on a subject that is no more.
    ///
    /// # Errors
    /// As [`Alerts::clear`].
    pub async fn forget(&self, subject: &str) -> Result<()> {
        self.clear_all(AlertKind::ALL, subject).await
    }

    async fn record(
        &self,
        action: &str,
        kind: AlertKind,
        subject: &str,
        detail: &str,
    ) -> Result<()> {
        let entry = Entry {
            principal: Principal::Vault("alerts").to_string(),
            action: action.to_owned(),
            resource: subject.replacen(' ', "/", 1),
            detail: json!({ "alert": kind, "subject": subject, "detail": detail }).into(),
            grouped: false,
        };
        self.audit.event(entry).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::{Options, Sync};
    use crate::clock::SystemClock;
    use crate::store::{Alerts as _, sql::SqlStore};

    #[tokio::test]
    async fn an_alert_is_on_the_audit_log_once_when_raised_and_once_when_over() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("vault.db").display());
        let store = Arc::new(SqlStore::open(&url, 1).await.unwrap());
        let options = Options { queue: 8, deadline: Duration::from_secs(60), sync: Sync::Each };
        let clock = Arc::new(SystemClock);
        let (audit, _) =
            AuditLog::open(&dir.path().join("audit.log"), options, clock.clone()).unwrap();
        let alerts = Alerts::new(store.clone(), audit.clone(), clock);
        let subject = "certificate shop";
        alerts.clear(AlertKind::Revoked, subject).await.unwrap();
        for detail in ["its CA says so", "its CA says so", "its CA says more"] {
            alerts.raise(AlertKind::Revoked, subject, detail).await.unwrap();
        }
        assert_eq!(store.open_alerts().await.unwrap()[0].detail, "its CA says more");
        alerts.forget(subject).await.unwrap();
        alerts.forget(subject).await.unwrap();
        assert_eq!(store.open_alerts().await.unwrap(), []);
        let said = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
        let actions = said.lines().map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["resource"], "certificate/shop");
            assert_eq!(record["detail"]["alert"], "revoked");
            record["action"].as_str().unwrap().to_owned()
        });
        assert_eq!(actions.collect::<Vec<_>>(), ["alert.raise", "alert.clear"]);
    }
}
