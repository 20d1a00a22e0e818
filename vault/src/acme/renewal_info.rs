//! When a CA wants a certificate renewed (ACME Renewal Information, RFC 9773). It is also the one way
//! in which a CA says by ACME that a certificate is revoked or about to be.

use instant_acme::CertificateIdentifier;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{Account, account::within};
use crate::error::{Error, Result};

/// When to renew (RFC 9773 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalWindow {
    /// From then on.
    pub start: OffsetDateTime,
    /// By then at last; in the past for what is revoked or has to go.
    pub end: OffsetDateTime,
    /// Where the CA explains it.
    pub explanation: Option<String>,
}

impl Account {
    /// When the CA wants a certificate (its leaf, DER) renewed; `None` where it does not offer to say.
    ///
    /// # Errors
    /// What the CA says, `NotFound` of a certificate that it does not know.
    pub async fn renewal_info(&self, leaf_der: &[u8]) -> Result<Option<RenewalWindow>> {
        let leaf = CertificateDer::from(leaf_der);
        let Ok(id) = CertificateIdentifier::try_from(&leaf) else {
            // Without an authority's key id there is no name that it could be asked about by.
            return Ok(None);
        };
        let asked = async {
            match self.inner.renewal_info(&id).await {
                Err(instant_acme::Error::Unsupported(_)) => Ok(None),
                answered => answered.map(Some),
            }
        };
        let Some((info, _)) = within(&self.ca, asked).await? else { return Ok(None) };
        let window = info.suggested_window;
        if window.end < window.start {
            let why = "its renewal window ends before it begins";
            return Err(Error::unavailable("ask", &self.ca, why));
        }
        let explanation = info.explanation_url;
        Ok(Some(RenewalWindow { start: window.start, end: window.end, explanation }))
    }
}
