//! What somebody has to know of now. It is of this vault and this hour, so it is in no backup: what
//! still holds after a restore is noticed again.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::error::Result;
use crate::named::named_enum;

named_enum!(
    /// What an alert is about; together with its subject it is the one alert.
    AlertKind, "alert" {
        /// A certificate's CA has revoked it.
        Revoked = "revoked",
        /// For long, nobody who knows has said whether a certificate is revoked.
        RevocationUnknown = "revocation-unknown",
        /// A certificate that must be served with a staple has none that will hold.
        StapleEnding = "staple-ending",
        /// A new version was refused where it was tried first; it goes nowhere else.
        RolloutStopped = "rollout-stopped",
        /// A certificate was issued by, or waits for, another CA than its first.
        FallbackCa = "fallback-ca",
        /// A challenge's record stays in the DNS: for long, it could not be taken out.
        DnsRecordLeft = "dns-record-left",
        /// A certificate will end before it can be renewed.
        CannotRenewInTime = "cannot-renew-in-time",
        /// A certificate's CA wants it renewed much earlier than it has said before, or at once.
        AriEarly = "ari-early",
    }
);

/// An alert that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRecord {
    /// What it is about.
    pub kind: AlertKind,
    /// On what, for example `certificate shop`.
    pub subject: String,
    /// What was found last.
    pub detail: String,
    /// When it was raised.
    pub since: OffsetDateTime,
}

/// Open alerts' rows: one for each kind and subject.
#[async_trait]
pub trait Alerts: Send + Sync {
    /// Opens an alert. One that is open keeps its time and says `detail` from now on; `false` then.
    async fn raise_alert(
        &self,
        kind: AlertKind,
        subject: &str,
        detail: &str,
        now: OffsetDateTime,
    ) -> Result<bool>;
    /// Closes an alert; `false` where none is open.
    async fn clear_alert(&self, kind: AlertKind, subject: &str) -> Result<bool>;
    /// Open alerts on a subject, by kind.
    async fn alerts_on(&self, subject: &str) -> Result<Vec<AlertRecord>>;
    /// Open alerts, the oldest first.
    async fn open_alerts(&self) -> Result<Vec<AlertRecord>>;
}
