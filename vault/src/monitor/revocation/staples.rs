//! OCSP responses for web servers to staple (RFC 6066 section 8): fetched anew at half of their time.

use time::{Duration, OffsetDateTime};

use super::Revocation;
use super::check::{Finding, Sources};
use super::outcome::subject;
use crate::error::Result;
use crate::store::{AlertKind, CertificateRecord, Staple, VersionRecord};

/// How long a new version may be without its first staple before somebody has to know.
const FIRST: Duration = Duration::minutes(10);

/// Where a version stands with its staples.
#[derive(Default)]
pub(super) struct Stapled {
    /// By when the next one is wanted.
    pub(super) next_at: Option<OffsetDateTime>,
    /// There is none yet: the version may be held back for it.
    pub(super) waits: bool,
}

impl Revocation {
    /// Keeps a response that a check has brought, where the one before has lived for half of its time. Answers
    /// what is wanted next.
    pub(super) async fn keep_staple(
        &self,
        certificate: &CertificateRecord,
        version: &VersionRecord,
        finding: &Finding,
        now: OffsetDateTime,
    ) -> Result<Stapled> {
        let (name, number) = (&version.certificate, version.version);
        let mut kept = self.store.staple(name, number).await?;
        if let Some((der, response)) = &finding.staple
            && let Some(next_update) = response.next_update
            && kept
                .as_ref()
                .is_none_or(|kept| half_of(kept) <= now && kept.this_update < response.this_update)
        {
            let staple = Staple {
                certificate: name.clone(),
                version: number,
                response: der.clone(),
                this_update: response.this_update,
                next_update,
                fetched_at: now,
            };
            self.store.put_staple(&staple).await?;
            tracing::info!(certificate = %name, version = number, until = %next_update, "staple");
            kept = Some(staple);
            self.hub.changed(name).await;
        }
        if certificate.must_staple && number == certificate.current_version {
            self.tell_ending(version, kept.as_ref(), now).await?;
        }
        let asks = self.asks(version);
        let waits = kept.is_none() && (asks || certificate.must_staple);
        let next_at = match kept {
            Some(kept) if half_of(&kept) > now => Some(half_of(&kept)),
            // Soon enough for several more tries.
            Some(kept) if kept.next_update > now => Some(now + (kept.next_update - now) / 8),
            _ => asks.then(|| now + self.options.revocation_every / 4),
        };
        Ok(Stapled { next_at, waits })
    }

    /// Whether anybody is asked for staples of a version.
    fn asks(&self, version: &VersionRecord) -> bool {
        let issued = vault_revocation::Issued::parse(&version.chain_pem).ok().flatten();
        issued.is_some_and(|issued| !Sources::of(&issued, &self.options.ca).responders.is_empty())
    }

    /// Says that a certificate which must be served with a staple soon has none, or that it has.
    async fn tell_ending(
        &self,
        version: &VersionRecord,
        kept: Option<&Staple>,
        now: OffsetDateTime,
    ) -> Result<()> {
        let subject = subject(version);
        let detail = match kept {
            Some(kept) => {
                let lifetime = kept.next_update - kept.this_update;
                let ends = kept.next_update - now < lifetime / 4;
                ends.then(|| format!("the last one holds until {}", kept.next_update))
            }
            None => (now - version.issued_at > FIRST).then(|| "there was never one".to_owned()),
        };
        match detail {
            Some(detail) => {
                let detail = format!("version {} must be stapled; {detail}", version.version);
                self.alerts.raise(AlertKind::StapleEnding, &subject, &detail).await
            }
            None => self.alerts.clear(AlertKind::StapleEnding, &subject).await,
        }
    }
}

/// When half of a staple's time is over.
fn half_of(staple: &Staple) -> OffsetDateTime {
    staple.this_update + (staple.next_update - staple.this_update) / 2
}
