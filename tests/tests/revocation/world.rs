//! A vault that looks every second, and a CA that revokes.

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
};

use serde_json::Value;
use testkit::{
    monitored::Monitored,
    nginx::Nginx,
    pebble::Pebble,
    process::eventually,
    revoker::Revoker,
    world::{CERTIFICATE, Install, SITE, order},
};

/// Where a vault asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A CRL that the configuration names.
    Crl,
    /// A responder that certificates name.
    Ocsp,
}

/// The parts, and what is asked of them here.
pub(super) struct World(Monitored);

impl Deref for World {
    type Target = Monitored;

    fn deref(&self) -> &Monitored {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Monitored {
        &mut self.0
    }
}

impl World {
    /// One whose CA has issued nothing yet. `monitor` are further lines of `[monitor]`.
    pub(super) fn new(by: By, monitor: &str) -> Self {
        Self::with(by, monitor, Install::into)
    }

    /// The same, whose agent installs as this says.
    pub(super) fn with(by: By, monitor: &str, install: impl FnOnce(&Nginx) -> Install) -> Self {
        let lines = |revoker: &Revoker, pebble: &Pebble| match by {
            By::Crl => format!(
                "{monitor}\n[[monitor.ca]]\nissuer = {:?}\ncrl = \"http://{}/ca.crl\"\n",
                revoker.issuer, pebble.http01
            ),
            By::Ocsp => format!("{monitor}\n"),
        };
        Self(Monitored::start(by == By::Ocsp, lines, install))
    }

    /// Where the CRL is that the configuration names.
    pub(super) fn crl(&self) -> PathBuf {
        self.nginx.file("webroot/ca.crl")
    }

    /// Orders the certificate; answers it as it is shown.
    pub(super) fn issue(&self, custody: &str, more: &[&str]) -> Value {
        let more = [&["--wait"], more].concat();
        self.vault.json(&order(CERTIFICATE, SITE, custody, &more))
    }

    /// Waits until a check has found this.
    pub(super) fn wait_found(&self, status: &str) -> Value {
        eventually(&format!("it is {status}"), || {
            let shown = self.shown();
            (shown["revocation"] == status).then_some(shown)
        })
    }

    /// Waits until another version than this one is proven.
    pub(super) fn wait_replaced(&self, version: u64) -> Value {
        eventually("a successor is proven", || {
            let shown = self.shown();
            let held = shown["deployments"][0]["held_version"].as_u64().unwrap();
            (held > version && shown["status"] == "issued").then_some(shown)
        })
    }

    /// The detail of an open alert.
    pub(super) fn alert(&self, kind: &str) -> Option<String> {
        let status = self.vault.json(&["status"]);
        let alerts = status["alerts"].as_array().unwrap().iter();
        let mut alerts = alerts.filter(|alert| alert["kind"] == kind);
        alerts.next().map(|alert| {
            assert_eq!(alert["subject"], format!("certificate {CERTIFICATE}"));
            alert["detail"].as_str().unwrap().to_owned()
        })
    }

    /// Whether an alert was ever raised or cleared, by the audit log.
    pub(super) fn recorded(&self, action: &str, kind: &str) -> bool {
        let records = self.vault.audit();
        records.iter().any(|r| r["action"] == action && r["detail"]["alert"] == kind)
    }

    /// Waits until no such alert is open.
    pub(super) fn wait_over(&self, kind: &str) {
        eventually(&format!("{kind} is over"), || self.alert(kind).is_none().then_some(()));
    }
}

/// The serial number of what is shown.
pub(super) fn serial(shown: &Value) -> &str {
    shown["serial"].as_str().expect("a serial number")
}
