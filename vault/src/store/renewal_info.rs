//! What CAs say of when to renew (RFC 9773). It is in no backup: a CA says it again.

use async_trait::async_trait;
use time::OffsetDateTime;
use url::Url;
use vault_proto::ids::{AccountName, CertificateName};

use crate::error::Result;

/// What is known of one certificate's version in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfoRecord {
    /// Which certificate.
    pub certificate: CertificateName,
    /// Of which of its versions.
    pub version: u64,
    /// When its CA wants it renewed: the window's beginning and its end. What was said last counts
    /// until something else is said.
    pub window: Option<(OffsetDateTime, OffsetDateTime)>,
    /// Where the CA explains that.
    pub explanation_url: Option<Url>,
    /// The time in the window, or as near to it as may be, that was chosen.
    pub selected_at: Option<OffsetDateTime>,
    /// When the CA has answered last.
    pub checked_at: Option<OffsetDateTime>,
    /// When it is asked next.
    pub next_check_at: OffsetDateTime,
    /// How often it has not answered since then.
    pub failures: u32,
    /// The CA does not take (any more) that an order replaces this version.
    pub replaces_refused: bool,
}

/// Rows of what CAs say of when to renew: one for each certificate, of its version in force.
#[async_trait]
pub trait RenewalInfos: Send + Sync {
    /// One certificate's; it may be of a version before the one in force.
    async fn renewal_info(&self, name: &CertificateName) -> Result<Option<RenewalInfoRecord>>;
    /// The certificates whose version in force was ordered with this account, is in date, and is to be
    /// asked about by `now`; the ones that have waited longest first.
    async fn renewal_info_due(
        &self,
        account: &AccountName,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<CertificateName>>;
    /// Keeps what was said of a version, and `renew_at` as its renewal's time, in one transaction, where
    /// that version is still in force; else `false`, and nothing changes. The renewal is made later
    /// only where none is due, under way or failing. `replaces_refused` is never taken back.
    async fn keep_renewal_info(
        &self,
        info: &RenewalInfoRecord,
        renew_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<bool>;
    /// Notes that the CA does not take that an order replaces a version.
    async fn refuse_replaces(
        &self,
        name: &CertificateName,
        version: u64,
        now: OffsetDateTime,
    ) -> Result<()>;
}
