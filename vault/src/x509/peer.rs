//! Whose a certificate of the internal CA is.

use der::Decode as _;
use time::OffsetDateTime;
use vault_proto::ids::SpiffeId;
use x509_cert::{
    Certificate,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::offset;
use crate::error::{Error, Result};

/// What an identity certificate says; the handshake has verified its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The one URI in its subjectAltName (SPIFFE X509-SVID section 2).
    pub spiffe_id: SpiffeId,
    /// Lower-case hex.
    pub serial: String,
    /// Its end.
    pub not_after: OffsetDateTime,
}

impl Peer {
    /// Reads a certificate, DER.
    ///
    /// # Errors
    /// `Unauthenticated` where it is no X509-SVID of this vault's kind.
    pub fn of(der: &[u8]) -> Result<Self> {
        let refused = |why: String| Error::unauthenticated("read", "a client certificate", why);
        let certificate = Certificate::from_der(der).map_err(|e| refused(e.to_string()))?;
        let tbs = certificate.tbs_certificate();
        let names = tbs
            .get_extension::<SubjectAltName>()
            .map_err(|e| refused(e.to_string()))?
            .map(|(_, names)| names.0)
            .unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(refused("it has not exactly one SPIFFE id".to_owned()));
        };
        Ok(Self {
            spiffe_id: uri.parse().map_err(|e| refused(format!("{e}")))?,
            serial: hex::encode(tbs.serial_number().as_bytes()),
            not_after: offset(tbs.validity().not_after)?,
        })
    }
}
