//! Reasons for a revocation.

use std::fmt;

use webpki::RevocationReason;
use x509_cert_ocsp::ext::pkix::CrlReason;

/// Why a certificate was revoked (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is said.
    Unspecified,
    /// Somebody else may have its key.
    KeyCompromise,
    /// Somebody else may have its CA's key.
    CaCompromise,
    /// Its subject is not what it was.
    AffiliationChanged,
    /// Another one has taken its place.
    Superseded,
    /// What it was for is no more.
    CessationOfOperation,
    /// It may come back; until then it is as good as revoked.
    CertificateHold,
    /// Its subject has lost the right to it.
    PrivilegeWithdrawn,
    /// Somebody else may have the key of an attribute authority.
    AaCompromise,
}

impl Reason {
    /// Its name, as operators give it when they revoke.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::CertificateHold => "certificate-hold",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
            Self::AaCompromise => "aa-compromise",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Option<RevocationReason>> for Reason {
    fn from(reason: Option<RevocationReason>) -> Self {
        match reason {
            // What is in a whole CRL was not removed from it.
            None | Some(RevocationReason::Unspecified | RevocationReason::RemoveFromCrl) => {
                Self::Unspecified
            }
            Some(RevocationReason::KeyCompromise) => Self::KeyCompromise,
            Some(RevocationReason::CaCompromise) => Self::CaCompromise,
            Some(RevocationReason::AffiliationChanged) => Self::AffiliationChanged,
            Some(RevocationReason::Superseded) => Self::Superseded,
            Some(RevocationReason::CessationOfOperation) => Self::CessationOfOperation,
            Some(RevocationReason::CertificateHold) => Self::CertificateHold,
            Some(RevocationReason::PrivilegeWithdrawn) => Self::PrivilegeWithdrawn,
            Some(RevocationReason::AaCompromise) => Self::AaCompromise,
        }
    }
}

impl From<Option<CrlReason>> for Reason {
    fn from(reason: Option<CrlReason>) -> Self {
        match reason {
            None | Some(CrlReason::Unspecified | CrlReason::RemoveFromCRL) => Self::Unspecified,
            Some(CrlReason::KeyCompromise) => Self::KeyCompromise,
            Some(CrlReason::CaCompromise) => Self::CaCompromise,
            Some(CrlReason::AffiliationChanged) => Self::AffiliationChanged,
            Some(CrlReason::Superseded) => Self::Superseded,
            Some(CrlReason::CessationOfOperation) => Self::CessationOfOperation,
            Some(CrlReason::CertificateHold) => Self::CertificateHold,
            Some(CrlReason::PrivilegeWithdrawn) => Self::PrivilegeWithdrawn,
            Some(CrlReason::AaCompromise) => Self::AaCompromise,
        }
    }
}
