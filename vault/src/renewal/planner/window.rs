//! When a CA wants a certificate renewed (ACME Renewal Information, RFC 9773).

use time::OffsetDateTime;

/// The suggested window of RFC 9773 section 4.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From then on.
    pub start: OffsetDateTime,
    /// By then at last; in the past for what is revoked or has to go.
    pub end: OffsetDateTime,
}
