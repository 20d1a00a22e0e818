//! What an agent holds that this vault does not know: after a restore agents may be ahead of it.
//!
//! What is in place and good stays there until something newer is issued: an agent is not made to go
//! back to what the vault remembers, unless what it holds is of no use any more.

use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use vault_proto::{ids::CertificateName, v1};

use crate::error::{Error, Result};
use crate::store::{CertificateRecord, Custody, KeyPurpose, KeyState, Store, VersionRecord};

/// How far the clock of a CA or an agent may be ahead.
const SKEW: Duration = Duration::hours(1);

/// A certificate as its agent says that it holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its name.
    pub certificate: CertificateName,
    /// The version that it was given as.
    pub version: u64,
    /// SHA-256 over the leaf's DER, lower-case hex.
    pub fingerprint: String,
    /// The leaf's serial number, lower-case hex.
    pub serial: String,
    /// The leaf's start.
    pub not_before: OffsetDateTime,
    /// The leaf's end.
    pub not_after: OffsetDateTime,
    /// SHA-256 over its key, lower-case hex.
    pub key_fingerprint: String,
}

impl Foreign {
    /// Reads what an agent says.
    ///
    /// # Errors
    /// `Invalid` where it makes no sense.
    pub fn read(held: v1::HeldCertificate) -> Result<Self> {
        let time = |at: Option<prost_types::Timestamp>| {
            let at =
                at.ok_or_else(|| Error::invalid("read", "what is held", "a time is missing"))?;
            OffsetDateTime::from_unix_timestamp(at.seconds)
                .map_err(|e| Error::invalid("read", "what is held", e))
        };
        let hex = |text: String| match hex::decode(&text) {
            Ok(bytes) if bytes.len() <= 64 => Ok(text),
            _ => Err(Error::invalid("read", "what is held", "it is not in hex")),
        };
        Ok(Self {
            certificate: held.name.parse()?,
            version: held.version,
            fingerprint: hex(held.fingerprint)?,
            serial: hex(held.serial)?,
            not_before: time(held.not_before)?,
            not_after: time(held.not_after)?,
            key_fingerprint: hex(held.key_fingerprint)?,
        })
    }

    /// Whether it was issued after the version that the vault has; where both were in the same
    /// second, the number says it. What begins only in the future is nobody's.
    pub fn is_newer_than(&self, known: Option<&VersionRecord>, now: OffsetDateTime) -> bool {
        let newer = known.is_none_or(|known| {
            (self.not_before, self.version) > (known.not_before, known.version)
        });
        newer && self.not_before <= now + SKEW
    }

    /// Whether a web server can serve it: it is in date, and its key is there. Of a key that the agent
    /// keeps, the agent knows.
    pub(super) async fn is_of_use(
        &self,
        store: &dyn Store,
        certificate: &CertificateRecord,
        in_use: &[VersionRecord],
        now: OffsetDateTime,
    ) -> Result<bool> {
        if self.not_after <= now {
            return Ok(false);
        }
        if certificate.custody == Custody::Agent {
            return Ok(true);
        }
        let name = certificate.name.as_str();
        let keys = store.key_versions(KeyPurpose::Certificate, name).await?;
        let alive = |state| matches!(state, KeyState::Active | KeyState::Retired);
        let its = |spki: &[u8]| hex::encode(Sha256::digest(spki)) == self.key_fingerprint;
        let key = keys.iter().find(|key| alive(key.state) && its(&key.spki_der));
        // Agents sign with keys of versions that the vault knows, and no others.
        Ok(key.is_some_and(|key| in_use.iter().any(|version| version.key_id == Some(key.id))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    fn held(version: u64, begins: i64) -> Foreign {
        Foreign {
            certificate: "shop".parse().unwrap(),
            version,
            fingerprint: "ab".to_owned(),
            serial: "01".to_owned(),
            not_before: at(begins),
            not_after: at(begins + 1000),
            key_fingerprint: "cd".to_owned(),
        }
    }

    fn known(version: u64, begins: i64) -> VersionRecord {
        VersionRecord {
            certificate: "shop".parse().unwrap(),
            version,
            account: "ca".parse().unwrap(),
            chain_pem: String::new(),
            serial: "02".to_owned(),
            not_before: at(begins),
            not_after: at(begins + 1000),
            fingerprint: "ef".to_owned(),
            key_id: None,
            issued_at: at(begins),
            revoked: None,
        }
    }

    #[test]
    fn what_was_issued_later_is_newer_and_the_number_decides_within_a_second() {
        for (held, known, newer) in [
            (held(3, 200), Some(known(2, 100)), true),
            (held(1, 200), Some(known(2, 100)), true),
            (held(3, 100), Some(known(2, 100)), true),
            (held(2, 100), Some(known(2, 100)), false),
            (held(3, 100), Some(known(4, 200)), false),
            (held(1, 100), None, true),
            (held(3, 1_000_000), Some(known(2, 100)), false),
        ] {
            assert_eq!(held.is_newer_than(known.as_ref(), at(300)), newer, "{held:?} {known:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let good = v1::HeldCertificate {
            name: "shop".to_owned(),
            version: 3,
            fingerprint: "ab".to_owned(),
            serial: "01".to_owned(),
            not_before: time(0),
            not_after: time(1),
            key_fingerprint: "cd".to_owned(),
        };
        assert!(Foreign::read(good.clone()).is_ok());
        for bad in [
            v1::HeldCertificate { name: "../shop".to_owned(), ..good.clone() },
            v1::HeldCertificate { fingerprint: "no hex".to_owned(), ..good.clone() },
            v1::HeldCertificate { serial: "00".repeat(65), ..good.clone() },
            v1::HeldCertificate { not_before: None, ..good.clone() },
            v1::HeldCertificate { not_after: time(i64::MAX), ..good },
        ] {
            assert!(Foreign::read(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
