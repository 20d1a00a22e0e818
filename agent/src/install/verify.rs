//! What the agent itself checks of a chain before it touches a file: that it is one, and that its
//! leaf belongs to the key it would be installed with.

use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_cert::Certificate;

use crate::error::{Error, Result};

/// A chain that can be installed.
#[derive(Debug, Clone)]
pub struct Chain {
    /// PEM, leaf first, as it is written.
    pub pem: String,
    /// The leaf, DER.
    pub leaf_der: Vec<u8>,
    /// The leaf's SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
    /// The leaf's serial number, lower-case hex, as the vault and OpenSSL show it.
    pub serial: String,
    /// The leaf's start.
    pub not_before: OffsetDateTime,
    /// The leaf's end.
    pub not_after: OffsetDateTime,
}

impl Chain {
    /// Reads PEM.
    ///
    /// # Errors
    /// `Verification` where it is no chain.
    pub fn parse(pem: &str) -> Result<Self> {
        let refused = |why: String| Error::verification("read", "the chain", why);
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = certificates.map_err(|e| refused(e.to_string()))?;
        let leaf_der = certificates.first().ok_or_else(|| refused("it is empty".to_owned()))?;
        let leaf = Certificate::from_der(leaf_der).map_err(|e| refused(e.to_string()))?;
        let tbs = leaf.tbs_certificate();
        let spki_der =
            tbs.subject_public_key_info().to_der().map_err(|e| refused(e.to_string()))?;
        let time = |at: x509_cert::time::Time| {
            let seconds = i64::try_from(at.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            OffsetDateTime::from_unix_timestamp(seconds).map_err(|e| refused(e.to_string()))
        };
        let validity = tbs.validity();
        let (not_before, not_after) = (time(validity.not_before)?, time(validity.not_after)?);
        Ok(Self {
            pem: pem.to_owned(),
            leaf_der: leaf_der.to_vec(),
            spki_der,
            serial: hex::encode(without_sign(tbs.serial_number().as_bytes())),
            not_before,
            not_after,
        })
    }

    /// SHA-256 over the leaf's DER, lower-case hex.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.leaf_der))
    }

    /// SHA-256 over the leaf's key, lower-case hex.
    pub fn key_fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.spki_der))
    }
}

/// Without the zero that DER puts before a high first bit.
fn without_sign(der: &[u8]) -> &[u8] {
    der.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(der)
}
