//! A certificate chain from a CA: read, checked to the last link, before it is stored.

use std::collections::BTreeSet;

use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::{Certificate, ext::pkix::SubjectAltName};

use super::{csr, offset};
use crate::error::{Error, Result};
use crate::store::Identifier;

/// No CA sends more; a longer chain is an attack on whoever parses it.
const MOST_CERTIFICATES: usize = 10;
/// The longest PEM text that is read, in bytes.
const LONGEST: usize = 256 * 1024;
/// How far the CA's clock may be ahead.
const SKEW: Duration = Duration::minutes(5);

/// A parsed chain, leaf first.
#[derive(Debug, Clone)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    leaf: Certificate,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// What the leaf must be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its names: all of these and no other.
    pub identifiers: BTreeSet<Identifier>,
    /// Its key (SubjectPublicKeyInfo, DER), where that is known.
    pub spki_der: Option<Vec<u8>>,
    /// The present time.
    pub now: OffsetDateTime,
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::verification("check", "the certificate chain", why)
        .hint("the chain is not stored and what was served stays; ask the CA's operator")
}

impl Chain {
    /// Reads PEM (RFC 7468), leaf first.
    ///
    /// # Errors
    /// `Verification` where it holds no certificate, too many, or something malformed.
    pub fn parse(pem: &str) -> Result<Self> {
        if pem.len() > LONGEST {
            return Err(refused("it is too long"));
        }
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = certificates.map_err(|e| refused(format!("malformed PEM: {e}")))?;
        if certificates.len() > MOST_CERTIFICATES {
            return Err(refused(format!("it has {} certificates", certificates.len())));
        }
        let first = certificates.first().ok_or_else(|| refused("it has no certificate"))?;
        let leaf = Certificate::from_der(first).map_err(refused)?;
        let validity = *leaf.tbs_certificate().validity();
        Ok(Self {
            not_before: offset(validity.not_before)?,
            not_after: offset(validity.not_after)?,
            certificates,
            leaf,
        })
    }

    /// Checks key, names, dates and every signature up to the chain's last certificate.
    ///
    /// # Errors
    /// `Verification` naming what does not hold.
    pub fn validate(&self, expected: &Expected) -> Result<()> {
        let tbs = self.leaf.tbs_certificate();
        let spki = self.spki_der()?;
        if expected.spki_der.as_ref().is_some_and(|key| *key != spki) {
            return Err(refused("the leaf's key is not the one that was certified"));
        }
        let names = tbs.get_extension::<SubjectAltName>().map_err(refused)?;
        let names = names.map(|(_, names)| csr::identifiers_of(&names)).transpose()?;
        let names = names.unwrap_or_default();
        if let Some(missing) = expected.identifiers.difference(&names).next() {
            return Err(refused(format!("the leaf does not name {missing}")));
        }
        if let Some(extra) = names.difference(&expected.identifiers).next() {
            return Err(refused(format!("the leaf names {extra}, which was not ordered")));
        }
        if self.not_before > expected.now + SKEW {
            return Err(refused(format!("the leaf begins only {}", self.not_before)));
        }
        if self.not_after <= expected.now {
            return Err(refused(format!("the leaf ended {}", self.not_after)));
        }
        self.verify_links(expected.now)
    }

    /// The last certificate that was sent is taken as the anchor: which root a client trusts is
    /// the client's business, but every link that is sent must hold.
    fn verify_links(&self, now: OffsetDateTime) -> Result<()> {
        let Some((leaf, rest)) = self.certificates.split_first() else { return Ok(()) };
        let Some((top, between)) = rest.split_last() else { return Ok(()) };
        // A leaf whose beginning lies within the skew is judged at its beginning.
        let at = now.max(self.not_before).unix_timestamp();
        let at = std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0));
        let anchor = anchor_from_trusted_cert(top).map_err(refused)?;
        EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &[anchor],
                between,
                UnixTime::since_unix_epoch(at),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map(drop)
            .map_err(|e| refused(format!("a link does not hold: {e}")))
    }

    /// The leaf, DER.
    pub fn leaf_der(&self) -> &[u8] {
        self.certificates.first().map_or(&[], |der| der.as_ref())
    }

    /// The last certificate, DER.
    pub fn topmost_der(&self) -> Option<Vec<u8>> {
        self.certificates.last().map(|der| der.to_vec())
    }

    /// The leaf's key, SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// Never for a chain that was parsed.
    pub fn spki_der(&self) -> Result<Vec<u8>> {
        self.leaf.tbs_certificate().subject_public_key_info().to_der().map_err(refused)
    }

    /// How many certificates it has.
    pub fn length(&self) -> u64 {
        self.certificates.len() as u64
    }

    /// PEM as this vault writes it: leaf first, LF, nothing between the blocks.
    ///
    /// # Errors
    /// Never for a chain that was parsed.
    pub fn pem(&self) -> Result<String> {
        let mut text = String::new();
        for der in &self.certificates {
            text.push_str(&super::ca::pem(der)?);
        }
        Ok(text)
    }

    /// The leaf's serial number, lower-case hex, as OpenSSL and CT logs show it: without the zero
    /// that DER puts before a high first bit.
    pub fn serial(&self) -> String {
        let der = self.leaf.tbs_certificate().serial_number().as_bytes();
        hex::encode(der.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(der))
    }

    /// The leaf's start.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The leaf's end.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// SHA-256 over the leaf's DER, lower-case hex.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.leaf_der()))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _};

    use super::*;

    struct Made {
        pem: String,
        spki: Vec<u8>,
    }

    fn issuer(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params, KeyPair::generate().unwrap())
    }

    fn made(names: &[&str], days: i64) -> Made {
        let (root, root_key) = issuer("root");
        let root = Issuer::new(root, root_key);
        let (middle, middle_key) = issuer("middle");
        let middle_cert = middle.signed_by(&middle_key, &root).unwrap();
        let middle = Issuer::new(middle, middle_key);
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.not_before = OffsetDateTime::now_utc() - Duration::days(30);
        leaf.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        let leaf = leaf.signed_by(&key, &middle).unwrap();
        Made {
            pem: format!("{}\r\n{}", leaf.pem(), middle_cert.pem()),
            spki: key.subject_public_key_info(),
        }
    }

    fn expected(names: &[&str], spki: Option<Vec<u8>>) -> Expected {
        Expected {
            identifiers: names.iter().map(|n| n.parse().unwrap()).collect(),
            spki_der: spki,
            now: OffsetDateTime::now_utc(),
        }
    }

    #[test]
    fn a_good_chain_is_accepted_and_normalised() {
        let made = made(&["a.example", "*.a.example", "192.0.2.1"], 60);
        let chain = Chain::parse(&made.pem).unwrap();
        let names = ["a.example", "*.a.example", "192.0.2.1"];
        chain.validate(&expected(&names, Some(made.spki))).unwrap();
        let pem = chain.pem().unwrap();
        assert!(!pem.contains('\r'));
        assert_eq!(Chain::parse(&pem).unwrap().fingerprint(), chain.fingerprint());
    }

    #[test]
    fn a_serial_number_is_shown_as_others_show_it() {
        for (serial, shown) in [(&[0xca, 1][..], "ca01"), (&[0x1c, 0], "1c00"), (&[5], "05")] {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.serial_number = Some(serial.to_vec().into());
            let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
            assert_eq!(Chain::parse(&pem).unwrap().serial(), shown);
        }
    }

    #[test]
    fn a_chain_that_is_not_what_was_ordered_is_refused_with_the_reason() {
        let good = made(&["a.example"], 60);
        let other = made(&["a.example"], 60);
        let ended = made(&["a.example"], -1);
        let foreign_issuer = {
            let leaf = good.pem.split_inclusive("-----END CERTIFICATE-----").next().unwrap();
            let issuer = other.pem.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap();
            format!("{leaf}\n{issuer}")
        };
        let wanted = |names: &[&str]| expected(names, Some(good.spki.clone()));
        for (pem, expected, why) in [
            (&good.pem, wanted(&["a.example", "b.example"]), "does not name b.example"),
            (&good.pem, wanted(&[]), "names a.example"),
            (&other.pem, wanted(&["a.example"]), "key is not the one"),
            (&ended.pem, expected(&["a.example"], None), "ended"),
            (&foreign_issuer, wanted(&["a.example"]), "a link does not hold"),
        ] {
            let error = Chain::parse(pem).unwrap().validate(&expected).unwrap_err();
            assert!(error.why.contains(why), "{} / {why}", error.why);
        }
        for pem in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(Chain::parse(pem).is_err(), "{pem:?}");
        }
    }
}
