//! Staples on their way to web servers, and new versions that wait for their first: a certificate that must
//! be stapled is worse than none without (RFC 7633).

use time::{Duration, OffsetDateTime};
use vault_proto::v1;

use crate::clock::Clock;
use crate::error::Result;
use crate::store::{AgentView, RevocationStatus, Staple, Store, VersionRecord};

/// How long a version waits that nothing good stands in for.
const SHORT: Duration = Duration::minutes(10);
/// How long before its predecessor's end a version goes out in any case.
const MARGIN: Duration = Duration::hours(1);

/// A version and the staple that it has.
type Stapled = (VersionRecord, Option<Staple>);

/// The version that an agent gets where it shall hold `wanted`: that one, or while it has no staple and needs
/// one, the one before, or none where that is not good.
///
/// # Errors
/// Where the store cannot be read.
pub(super) async fn ready(
    store: &dyn Store,
    known: &AgentView,
    (wanted, staple): Stapled,
    clock: &dyn Clock,
) -> Result<Option<Stapled>> {
    let (name, must_staple) = (&known.certificate.name, known.certificate.must_staple);
    // What went out once does not come back, be its staple as old as it may.
    if staple.is_some() || !(known.is_stapled || must_staple) {
        return Ok(Some((wanted, staple)));
    }
    let versions = store.versions(name).await?;
    let before = versions.into_iter().find(|version| version.version < wanted.version);
    let before = before.filter(|before| before.revoked.is_none());
    let before = match before {
        Some(before) => {
            let its = store.staple(name, before.version).await?;
            Some((before, its))
        }
        None => None,
    };
    let stapled = before.as_ref().is_some_and(|(_, its)| its.is_some());
    if !(must_staple || stapled) || !asks(store, &wanted).await? {
        return Ok(Some((wanted, None)));
    }
    let now = clock.now();
    let good = before.filter(|(before, _)| before.not_after > now);
    let until = waits_until(must_staple, &wanted, good.as_ref().map(|(good, _)| good));
    Ok(if now < until { good } else { Some((wanted, None)) })
}

/// By when a version without a staple goes out.
fn waits_until(
    must_staple: bool,
    current: &VersionRecord,
    good: Option<&VersionRecord>,
) -> OffsetDateTime {
    let short = current.issued_at + SHORT;
    match good {
        Some(good) if must_staple => {
            let margin = MARGIN.min((good.not_after - good.not_before) / 10);
            short.max(good.not_after - margin).min(good.not_after)
        }
        _ => short,
    }
}

/// Whether a staple of a version may still come: it names a responder, or the first check is still to be.
async fn asks(store: &dyn Store, version: &VersionRecord) -> Result<bool> {
    let check = store.revocation_check(&version.certificate, version.version).await?;
    let issued = vault_revocation::Issued::parse(&version.chain_pem).ok().flatten();
    let named = issued.is_some_and(|issued| !issued.ocsp_urls().is_empty());
    Ok(named || check.is_none_or(|check| check.status == RevocationStatus::Unknown))
}

/// What the web servers of a version staple; empty where there is nothing good.
pub(super) fn response(
    version: Option<&VersionRecord>,
    its: Option<Staple>,
    clock: &dyn Clock,
) -> Vec<u8> {
    let good = version.is_some_and(|version| version.revoked.is_none());
    let its = its.filter(|staple| good && staple.next_update > clock.now());
    its.map(|staple| staple.response).unwrap_or_default()
}

/// The keys with that of the version to be served first, as agents expect them.
pub(super) fn its_key_first(keys: &mut [v1::TlsKey], version: Option<&VersionRecord>) {
    let id = version.and_then(|version| version.key_id);
    let its = |key: &v1::TlsKey| id.is_some_and(|id| key.key_id == id.as_bytes());
    keys.sort_by_key(|key| !its(key));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::hours(hours)
    }

    fn version(number: u64, issued: i64, ends: i64) -> VersionRecord {
        VersionRecord {
            certificate: "shop".parse().unwrap(),
            version: number,
            account: "ca".parse().unwrap(),
            chain_pem: String::new(),
            serial: "01".to_owned(),
            not_before: at(issued),
            not_after: at(ends),
            fingerprint: "ab".to_owned(),
            key_id: None,
            issued_at: at(issued),
            revoked: None,
        }
    }

    #[test]
    fn a_version_waits_for_its_staple_and_never_past_the_end_of_the_one_before() {
        let (old, new) = (version(1, 0, 100), version(2, 70, 170));
        assert_eq!(waits_until(true, &new, Some(&old)), at(99));
        assert_eq!(waits_until(false, &new, Some(&old)), at(70) + SHORT);
        assert_eq!(waits_until(true, &new, None), at(70) + SHORT);
        // The old one ends within the ten minutes that a new one may take.
        let late = VersionRecord { issued_at: at(100) - Duration::minutes(2), ..new };
        assert_eq!(waits_until(true, &late, Some(&old)), at(100));
    }
}
