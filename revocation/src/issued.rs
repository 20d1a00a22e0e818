//! A certificate together with the one that has issued it.

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use time::OffsetDateTime;
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, RevocationOptions,
    anchor_from_trusted_cert,
};
use x509_cert_ocsp::{
    Certificate,
    der::{Decode as _, asn1::ObjectIdentifier, oid::AssociatedOid},
    ext::pkix::{
        AuthorityInfoAccessSyntax, CrlDistributionPoints,
        name::{DistributionPointName, GeneralName},
    },
};

use crate::error::{Error, Result};

/// id-ad-ocsp (RFC 5280 section 4.2.2.1).
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
/// id-at-commonName (RFC 5280 appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// The most pointers of one kind that are followed.
const MOST_POINTERS: usize = 8;

/// A certificate and its issuer's, as they stand in a chain.
#[derive(Debug, Clone)]
pub struct Issued {
    pub(crate) leaf: Certificate,
    pub(crate) issuer: Certificate,
    leaf_der: CertificateDer<'static>,
    issuer_der: CertificateDer<'static>,
}

impl Issued {
    /// Reads a chain, PEM, leaf first. `None` where the issuer's certificate is not behind the leaf: nobody
    /// else's word counts.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(chain_pem: &str) -> Result<Option<Self>> {
        let mut chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes());
        let leaf_der = chain.next().ok_or_else(|| Error::new("the chain is empty"))?;
        let leaf_der = leaf_der.map_err(Error::new)?;
        let Some(issuer_der) = chain.next() else { return Ok(None) };
        let issuer_der = issuer_der.map_err(Error::new)?;
        let leaf = Certificate::from_der(&leaf_der).map_err(Error::new)?;
        let issuer = Certificate::from_der(&issuer_der).map_err(Error::new)?;
        if leaf.tbs_certificate.issuer != issuer.tbs_certificate.subject {
            return Ok(None);
        }
        Ok(Some(Self { leaf, issuer, leaf_der, issuer_der }))
    }

    /// Where the leaf says that its issuer's CRL is (RFC 5280 section 4.2.1.13).
    pub fn crl_urls(&self) -> Vec<String> {
        let Some(points) = extension::<CrlDistributionPoints>(&self.leaf) else {
            return Vec::new();
        };
        // An indirect CRL is signed by somebody else, one for some reasons alone does not tell enough.
        let own = points.0.into_iter().filter(|p| p.crl_issuer.is_none() && p.reasons.is_none());
        let names = own.filter_map(|point| match point.distribution_point {
            Some(DistributionPointName::FullName(names)) => Some(names),
            _ => None,
        });
        names.flatten().filter_map(url).take(MOST_POINTERS).collect()
    }

    /// Where the leaf says that its issuer's OCSP responder is (RFC 5280 section 4.2.2.1).
    pub fn ocsp_urls(&self) -> Vec<String> {
        let access = extension::<AuthorityInfoAccessSyntax>(&self.leaf);
        let all = access.into_iter().flat_map(|access| access.0);
        let responders = all.filter(|one| one.access_method == OCSP);
        responders.filter_map(|one| url(one.access_location)).take(MOST_POINTERS).collect()
    }

    /// Whether the issuer goes by this name: its common name, or the SHA-256 of its certificate in hex.
    pub fn is_issued_by(&self, name: &str) -> bool {
        let fingerprint = hex::encode(digest(&SHA256, &self.issuer_der));
        let plain = name.replace(':', "").to_lowercase();
        let parts = self.issuer.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
        let mut common = parts.filter(|part| part.oid == COMMON_NAME);
        fingerprint == plain || common.any(|part| part.value.value() == name.as_bytes())
    }

    /// Checks that the issuer has signed the leaf, and with `revocation` what a CRL says of it.
    pub(crate) fn verify(
        &self,
        usage: impl ExtendedKeyUsageValidator,
        revocation: Option<RevocationOptions<'_>>,
        now: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        self.verify_other(&self.leaf_der, usage, revocation, now)
    }

    /// Checks that the issuer has signed a certificate, and what for.
    pub(crate) fn verify_other(
        &self,
        certificate: &CertificateDer<'_>,
        usage: impl ExtendedKeyUsageValidator,
        revocation: Option<RevocationOptions<'_>>,
        now: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        let anchors = [anchor_from_trusted_cert(&self.issuer_der)?];
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        EndEntityCert::try_from(certificate)?
            .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], at, usage, revocation, None)
            .map(drop)
    }

    /// The issuer's certificate, DER.
    pub(crate) fn issuer_der(&self) -> &CertificateDer<'static> {
        &self.issuer_der
    }
}

/// An extension that can be read, where it is there.
pub(crate) fn extension<'a, T>(certificate: &'a Certificate) -> Option<T>
where
    T: x509_cert_ocsp::der::Decode<'a> + AssociatedOid,
{
    certificate.tbs_certificate.get::<T>().ok().flatten().map(|(_, extension)| extension)
}

fn url(name: GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
        _ => None,
    }
}
