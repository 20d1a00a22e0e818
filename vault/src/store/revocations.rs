//! What CAs say of certificates after they have issued them, and what web servers staple of it. It is of
//! this hour, so it is in no backup: a restored vault asks again.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::CertificateName;

use super::VersionRecord;
use crate::error::Result;
use crate::named::named_enum;

named_enum!(
    /// What the last check of a version has found.
    RevocationStatus, "revocation status" {
        /// It is not revoked.
        Good = "good",
        /// Its CA has revoked it.
        Revoked = "revoked",
        /// Nobody who knows could be asked.
        Unknown = "unknown",
        /// Nobody is named who would know.
        Unchecked = "unchecked",
    }
);

/// The last check of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationCheck {
    /// Which certificate.
    pub certificate: CertificateName,
    /// Which version.
    pub version: u64,
    /// What was found.
    pub status: RevocationStatus,
    /// Who has said so: `crl`, `ocsp`, or empty where nobody has.
    pub source: String,
    /// What was said, or why nothing was.
    pub detail: String,
    /// When it was checked.
    pub checked_at: OffsetDateTime,
    /// Since when nobody has said anything.
    pub unknown_since: Option<OffsetDateTime>,
    /// When it is checked again.
    pub next_at: OffsetDateTime,
}

/// An OCSP response that web servers staple (RFC 6066 section 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// Of which certificate.
    pub certificate: CertificateName,
    /// Of which version.
    pub version: u64,
    /// DER.
    pub response: Vec<u8>,
    /// Since when it holds.
    pub this_update: OffsetDateTime,
    /// Until when it holds.
    pub next_update: OffsetDateTime,
    /// When it was fetched.
    pub fetched_at: OffsetDateTime,
}

/// Rows of checks and staples; they go with their version.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Versions that are to be checked now: in date, not revoked, and in force or held by an agent. Those
    /// that were never checked come first.
    async fn versions_to_check(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<VersionRecord>>;
    /// When the next version is to be checked, of those that were checked before.
    async fn next_check(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>>;
    /// Remembers a check.
    async fn put_revocation_check(&self, check: &RevocationCheck) -> Result<()>;
    /// The last check of a version.
    async fn revocation_check(
        &self,
        certificate: &CertificateName,
        version: u64,
    ) -> Result<Option<RevocationCheck>>;
    /// Remembers a check that has found its version revoked for an RFC 5280 reason, marks the version and, where
    /// it is in force, its certificate, and with `due` makes an order of the certificate due by then: all in
    /// one transaction.
    async fn record_revocation(
        &self,
        check: &RevocationCheck,
        reason: &str,
        due: Option<OffsetDateTime>,
    ) -> Result<()>;

    /// Keeps a version's staple in place of the one before.
    async fn put_staple(&self, staple: &Staple) -> Result<()>;
    /// A version's staple.
    async fn staple(&self, certificate: &CertificateName, version: u64) -> Result<Option<Staple>>;
}
