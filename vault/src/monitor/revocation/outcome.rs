//! What follows from a check.

use time::{Duration, OffsetDateTime};

use super::Revocation;
use super::staples::Stapled;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::renewal::{must_have_new_key, planner};
use crate::store::{
    AlertKind, CertificateRecord, RevocationCheck, RevocationStatus, VersionRecord,
};

/// The shortest pause between two checks of one version.
const SHORTEST: Duration = Duration::seconds(1);

impl Revocation {
    /// Checks a version and does what follows.
    pub(super) async fn see_to(&self, version: VersionRecord) -> Result<()> {
        let now = self.clock.now();
        let Some(certificate) = self.store.certificate(&version.certificate).await? else {
            return Ok(());
        };
        let finding = self.check(&version, now).await;
        let before = self.store.revocation_check(&version.certificate, version.version).await?;
        let unknown_since = match finding.status {
            RevocationStatus::Unknown => {
                Some(before.as_ref().and_then(|before| before.unknown_since).unwrap_or(now))
            }
            _ => None,
        };
        let stapled = match finding.status {
            RevocationStatus::Revoked => Stapled::default(),
            _ => self.keep_staple(&certificate, &version, &finding, now).await?,
        };
        let every = Duration::try_from(self.options.revocation_every)
            .map_err(|e| Error::invalid("read", "[monitor] revocation_every", e))?;
        let pause = match finding.status {
            RevocationStatus::Unknown => every / 4,
            _ => every * (0.8 + 0.2 * spread(&version, now)),
        };
        let next_at = now + pause.max(SHORTEST);
        let check = RevocationCheck {
            certificate: version.certificate.clone(),
            version: version.version,
            status: finding.status,
            source: finding.source.to_owned(),
            detail: finding.detail.clone(),
            checked_at: now,
            unknown_since,
            next_at: stapled.next_at.map_or(next_at, |at| next_at.min(at.max(now + SHORTEST))),
        };
        match finding.reason {
            Some(reason) => {
                self.replace(&certificate, &version, &check, reason.as_str()).await?;
            }
            None => self.store.put_revocation_check(&check).await?,
        }
        if stapled.waits || before.is_none() && may_wait(&certificate, &version) {
            // What is held back for its staple goes out without one, where none will come or its time is over.
            self.hub.changed(&version.certificate).await;
        }
        match version.version == certificate.current_version {
            true => self.tell_unknown(&version, &check, now).await,
            false => Ok(()),
        }
    }

    /// Marks a revoked version and orders its successor. The alert comes first: where this is interrupted, the
    /// next check finds the same.
    async fn replace(
        &self,
        certificate: &CertificateRecord,
        version: &VersionRecord,
        check: &RevocationCheck,
        reason: &str,
    ) -> Result<()> {
        let in_force = version.version == certificate.current_version;
        // A key that somebody else may have is no better in a newer version.
        let marked = VersionRecord { revoked: Some(reason.to_owned()), ..version.clone() };
        let shared = must_have_new_key(&marked) && version.key_id == certificate.key_id;
        let due = (in_force || (shared && version.key_id.is_some())).then_some(check.checked_at);
        let follows = match due {
            Some(_) => "a new one is ordered",
            None => "a newer one is issued and not proven everywhere",
        };
        let detail = format!("version {} is {}; {follows}", version.version, check.detail);
        let subject = subject(version);
        self.alerts.raise(AlertKind::Revoked, &subject, &detail).await?;
        crash_point!("revocation.alerted");
        self.store.record_revocation(check, reason, due).await?;
        crash_point!("revocation.recorded");
        tracing::warn!(certificate = %version.certificate, version = version.version, reason,
            serial = version.serial, "revoked by its CA");
        self.hub.changed(&version.certificate).await;
        self.wake.notify_one();
        Ok(())
    }

    /// Says that nobody has had an answer for too long, or that somebody has.
    async fn tell_unknown(
        &self,
        version: &VersionRecord,
        check: &RevocationCheck,
        now: OffsetDateTime,
    ) -> Result<()> {
        let subject = subject(version);
        let Some(since) = check.unknown_since else {
            return self.alerts.clear(AlertKind::RevocationUnknown, &subject).await;
        };
        if (now - since).unsigned_abs() < self.options.revocation_unknown_after {
            return Ok(());
        }
        let detail = format!("nobody has had an answer since {since}: {}", check.detail);
        self.alerts.raise(AlertKind::RevocationUnknown, &subject, &detail).await
    }
}

/// What alerts on a version are about.
pub(super) fn subject(version: &VersionRecord) -> String {
    format!("certificate {}", version.certificate)
}

/// From 0 to 1, another for each version and check: what was issued together is not checked together.
fn spread(version: &VersionRecord, now: OffsetDateTime) -> f64 {
    let count = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    planner::fraction(planner::seed(version.certificate.as_str(), count))
}

/// Whether a version may have been held back until its first check: it or the one before is stapled.
fn may_wait(certificate: &CertificateRecord, version: &VersionRecord) -> bool {
    certificate.must_staple || version.version > 1
}
