//! Whether a CA has revoked a certificate: CRLs (RFC 5280 section 5) and OCSP responses (RFC 6960), read and
//! verified against the chain that the certificate came with.
//!
//! `vaultd` asks and verifies; `vault-agent` verifies once more what it puts before a web server. Nothing
//! here speaks to a network. What does not verify is an [`Error`], and so neither good nor revoked.

mod crl;
mod error;
mod issued;
mod ocsp;
mod reason;

pub use crl::Crl;
pub use error::{Error, Result};
pub use issued::Issued;
pub use ocsp::{Response, request};
pub use reason::Reason;

use time::{Duration, OffsetDateTime};

/// How far the clock of a CA may be ahead.
const SKEW: Duration = Duration::minutes(5);

/// What a CA says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is not revoked.
    Good,
    /// It is revoked.
    Revoked {
        /// Why.
        reason: Reason,
        /// Since when.
        at: OffsetDateTime,
    },
}
