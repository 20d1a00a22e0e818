//! PKCS#10 requests (RFC 2986): ours, signed in the HSM, and agents', checked to the last name.

use std::{collections::BTreeSet, net::IpAddr};

use const_oid::{AssociatedOid as _, ObjectIdentifier, db::rfc5912::ID_EXTENSION_REQ};
use der::{
    Decode as _, Encode as _,
    asn1::{Ia5String, OctetString},
};
use x509_cert::{
    builder::AsyncBuilder as _,
    ext::{
        Extension, ToExtension,
        pkix::{SubjectAltName, name::GeneralName},
    },
    name::Name,
    request::{CertReq, ExtensionReq, RequestBuilder},
};

use super::{
    public_key,
    signer::{X509Signature, X509Signer, build_error},
};
use crate::error::{Error, Result};
use crate::keystore::{Algorithm, MessageSigner};
use crate::store::Identifier;

/// The longest request that is read, in bytes: 100 long names fit.
const LONGEST: usize = 64 * 1024;
/// id-pe-tlsfeature (RFC 7633 section 4).
const ID_PE_TLSFEATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// TLS feature `status_request` (RFC 7633): SEQUENCE { INTEGER 5 }.
const STATUS_REQUEST: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0x05];

/// A request that holds: its signature verifies, its key is strong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// Every name in its subjectAltName.
    pub identifiers: BTreeSet<Identifier>,
    /// Whether it asks for must-staple (RFC 7633).
    pub must_staple: bool,
}

/// Builds and signs a request with an empty subject: names are in the subjectAltName only.
///
/// # Errors
/// Those of the signer; `Invalid` for a name that does not fit a certificate.
pub async fn build(
    signer: &dyn MessageSigner,
    identifiers: &[Identifier],
    must_staple: bool,
) -> Result<Vec<u8>> {
    let failed = |e| build_error("a CSR", e);
    let encoding = |e: der::Error| Error::internal("encode", "a CSR", e);
    let mut builder = RequestBuilder::new(Name::default()).map_err(failed)?;
    builder.add_extension(&alternative_names(identifiers)?).map_err(encoding)?;
    if must_staple {
        builder.add_extension(MustStaple).map_err(encoding)?;
    }
    let request =
        builder.build_async::<_, X509Signature>(&X509Signer(signer)).await.map_err(failed)?;
    request.to_der().map_err(|e| Error::internal("encode", "a CSR", e))
}

/// The subjectAltName of identifiers.
pub(super) fn alternative_names(identifiers: &[Identifier]) -> Result<SubjectAltName> {
    let name = |identifier: &Identifier| match identifier {
        Identifier::Dns(name) => Ia5String::new(name)
            .map(GeneralName::DnsName)
            .map_err(|e| Error::invalid("encode", format!("domain {name}"), e)),
        Identifier::Ip(address) => Ok(GeneralName::from(*address)),
    };
    let names: Result<Vec<_>> = identifiers.iter().map(name).collect();
    Ok(SubjectAltName(names?))
}

/// The identifiers in a subjectAltName.
pub(super) fn identifiers_of(names: &SubjectAltName) -> Result<BTreeSet<Identifier>> {
    let bad = |why: &str| Error::invalid("read", "a subjectAltName", why);
    let mut identifiers = BTreeSet::new();
    for name in &names.0 {
        identifiers.insert(match name {
            GeneralName::DnsName(name) => Identifier::dns(name.as_ref())?,
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(octets).map(IpAddr::from);
                Identifier::Ip(v4.or(v6).map_err(|_| bad("an IP address is malformed"))?)
            }
            _ => return Err(bad("it has a name that is neither a domain nor an IP address")),
        });
    }
    Ok(identifiers)
}

struct MustStaple;

impl ToExtension for MustStaple {
    type Error = der::Error;
    fn to_extension(self, _subject: &Name, _others: &[Extension]) -> der::Result<Extension> {
        let extn_value = OctetString::new(STATUS_REQUEST)?;
        Ok(Extension { extn_id: ID_PE_TLSFEATURE, critical: false, extn_value })
    }
}

/// Reads a request and checks what can be checked without knowing what is wanted.
///
/// # Errors
/// `Invalid` where it is malformed, too long, has a weak key or names of other kinds;
/// `Verification` where its signature does not hold.
pub fn parse(der: &[u8]) -> Result<Csr> {
    let invalid = |why: &str| Error::invalid("read", "a CSR", why);
    if der.len() > LONGEST {
        return Err(invalid("it is too long"));
    }
    let request = CertReq::from_der(der).map_err(|e| invalid(&e.to_string()))?;
    let spki_der = request.info.public_key.to_der().map_err(|e| invalid(&e.to_string()))?;
    let spki = spki::SubjectPublicKeyInfoRef::try_from(spki_der.as_slice())
        .map_err(|e| invalid(&e.to_string()))?;
    let algorithm = public_key::algorithm_of(&spki)?;
    let signed = request.info.to_der().map_err(|e| invalid(&e.to_string()))?;
    let signature = request.signature.as_bytes().ok_or_else(|| invalid("bad signature bits"))?;
    public_key::verify(&spki, request.algorithm.oid, &signed, signature)?;

    let (mut identifiers, mut must_staple) = (BTreeSet::new(), false);
    for extension in extensions(&request)? {
        if extension.extn_id == SubjectAltName::OID {
            let names = SubjectAltName::from_der(extension.extn_value.as_bytes());
            identifiers = identifiers_of(&names.map_err(|e| invalid(&e.to_string()))?)?;
        } else if extension.extn_id == ID_PE_TLSFEATURE {
            must_staple = extension.extn_value.as_bytes() == STATUS_REQUEST;
        }
    }
    Ok(Csr { spki_der: spki_der.clone(), algorithm, identifiers, must_staple })
}

fn extensions(request: &CertReq) -> Result<Vec<Extension>> {
    let invalid = |why: String| Error::invalid("read", "a CSR's extensions", why);
    let mut extensions = Vec::new();
    for attribute in request.info.attributes.iter().filter(|a| a.oid == ID_EXTENSION_REQ) {
        for value in attribute.values.iter() {
            let der = value.to_der().map_err(|e| invalid(e.to_string()))?;
            let list = ExtensionReq::from_der(&der).map_err(|e| invalid(e.to_string()))?;
            extensions.extend(Vec::<Extension>::from(list));
        }
    }
    Ok(extensions)
}

impl Csr {
    /// Checks that it asks for exactly this.
    ///
    /// # Errors
    /// `Invalid` naming the first difference.
    pub fn matches(
        &self,
        identifiers: &[Identifier],
        algorithm: Algorithm,
        must_staple: bool,
    ) -> Result<()> {
        let invalid = |why: String| Error::invalid("accept", "a CSR", why);
        let wanted: BTreeSet<_> = identifiers.iter().cloned().collect();
        if let Some(missing) = wanted.difference(&self.identifiers).next() {
            return Err(invalid(format!("it does not name {missing}")));
        }
        if let Some(extra) = self.identifiers.difference(&wanted).next() {
            return Err(invalid(format!("it names {extra}, which is not asked for")));
        }
        if self.algorithm != algorithm {
            return Err(invalid(format!("its key is {}, not {algorithm}", self.algorithm)));
        }
        if self.must_staple != must_staple {
            return Err(invalid("its must-staple extension is not as declared".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestKey, openssl};
    use super::*;

    fn names() -> Vec<Identifier> {
        ["*.shop.example", "shop.example", "192.0.2.7"].iter().map(|n| n.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_request_of_every_algorithm_satisfies_openssl_and_reads_back() {
        for algorithm in
            [Algorithm::EcP256, Algorithm::EcP384, Algorithm::Rsa2048, Algorithm::Ed25519]
        {
            let key = TestKey::new(algorithm);
            let der = build(&key, &names(), true).await.unwrap();
            let told = openssl(&["req", "-inform", "DER", "-verify", "-noout", "-text"], &der);
            assert!(told.contains("DNS:*.shop.example, DNS:shop.example"), "{told}");
            assert!(told.contains("status_request"), "{told}");
            let csr = parse(&der).unwrap();
            assert_eq!(csr.spki_der, key.public_key().spki_der);
            csr.matches(&names(), algorithm, true).unwrap();
        }
    }

    #[tokio::test]
    async fn a_request_for_anything_else_is_refused_by_name() {
        let der = build(&TestKey::new(Algorithm::EcP256), &names(), false).await.unwrap();
        let csr = parse(&der).unwrap();
        let fewer = &names()[..2];
        let why = csr.matches(fewer, Algorithm::EcP256, false).unwrap_err().why;
        assert!(why.contains("192.0.2.7"), "{why}");
        let mut more = names();
        more.push("evil.example".parse().unwrap());
        let why = csr.matches(&more, Algorithm::EcP256, false).unwrap_err().why;
        assert!(why.contains("evil.example"), "{why}");
        assert!(csr.matches(&names(), Algorithm::EcP384, false).is_err());
        assert!(csr.matches(&names(), Algorithm::EcP256, true).is_err());
    }

    #[tokio::test]
    async fn a_changed_request_is_refused() {
        let der = build(&TestKey::new(Algorithm::EcP256), &names(), false).await.unwrap();
        let at = der.windows(4).position(|w| w == b"shop").unwrap();
        let mut forged = der.clone();
        forged[at] = b'c';
        assert!(parse(&forged).is_err());
        assert!(parse(&der[..der.len() - 1]).is_err());
        assert!(parse(&vec![0x30; LONGEST + 1]).is_err());
    }

    #[test]
    fn a_weak_key_is_refused() {
        let der = openssl(
            &[
                "req",
                "-new",
                "-newkey",
                "rsa:1024",
                "-nodes",
                "-keyout",
                "/dev/null",
                "-subj",
                "/CN=a.example",
                "-addext",
                "subjectAltName=DNS:a.example",
            ],
            &[],
        );
        let (_, der) = pem_rfc7468::decode_vec(der.as_bytes()).unwrap();
        let why = parse(&der).unwrap_err().why;
        assert!(why.contains("1024-bit RSA is weak"), "{why}");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_and_nothing_worse(bytes: Vec<u8>) {
            proptest::prop_assert!(parse(&bytes).is_err());
        }
    }
}
