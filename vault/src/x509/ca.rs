//! The internal CA: one root, whose key is in the HSM, and the X509-SVIDs that it issues to
//! agents, operators, auditors and vaults.

use std::sync::Arc;

use const_oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use der::{Decode as _, Encode as _, asn1::Ia5String};
use sha2::{Digest as _, Sha256};
use spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use time::{Duration, OffsetDateTime};
use vault_proto::ids::SpiffeId;
use x509_cert::{
    Certificate, TbsCertificate,
    builder::{AsyncBuilder as _, CertificateBuilder, profile::BuilderProfile},
    ext::{
        Extension, ToExtension as _,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
            SubjectAltName, SubjectKeyIdentifier, name::GeneralName,
        },
    },
    name::Name,
    request::CertReq,
    serial_number::SerialNumber,
    time::{Time, Validity},
};

use super::{
    csr, offset, public_key,
    signer::{X509Signature, X509Signer, build_error},
};
use crate::error::{Error, Result};
use crate::keystore::MessageSigner;

/// How long the root is valid. Its key never leaves the HSM, and replacing it means enrolling
/// every agent anew.
const ROOT_LIFETIME: Duration = Duration::days(3650);
/// Certificates begin this much in the past at most, for peers whose clock is behind; short-lived
/// ones a tenth of their lifetime, since half of what is valid must lie ahead of who renews then.
const SKEW: Duration = Duration::minutes(2);

/// The root and its key.
pub struct InternalCa {
    /// The root, DER.
    pub root_der: Vec<u8>,
    /// Signs with the root's key.
    pub signer: Arc<dyn MessageSigner>,
}

/// What to issue.
pub struct IdentityRequest<'a> {
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: &'a [u8],
    /// The one URI name.
    pub spiffe_id: &'a SpiffeId,
    /// DNS names, for servers.
    pub dns_names: &'a [&'a str],
    /// The present time.
    pub now: OffsetDateTime,
    /// How long it is valid from now.
    pub lifetime: Duration,
    /// For a TLS server (else a client).
    pub server: bool,
}

/// A certificate of the internal CA.
#[derive(Debug, Clone)]
pub struct IssuedIdentity {
    /// DER.
    pub der: Vec<u8>,
    /// Lower-case hex.
    pub serial: String,
    /// Its end.
    pub not_after: OffsetDateTime,
}

/// Self-signs a root (RFC 5280 section 3.2) that issues end entities only.
///
/// # Errors
/// Those of the signer.
pub async fn root(
    signer: &dyn MessageSigner,
    vault_id: &str,
    now: OffsetDateTime,
) -> Result<Vec<u8>> {
    let name = common_name(&format!("Vault internal CA {vault_id}"))?;
    let profile = Profile { subject: name.clone(), issuer: name, kind: Kind::Root };
    let spki = &signer.public_key().spki_der;
    Ok(certificate(signer, profile, spki, now, ROOT_LIFETIME).await?.der)
}

/// `sha256:` and the lower-case hex of SHA-256 over a certificate's DER.
pub fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(der)))
}

/// A certificate as PEM.
///
/// # Errors
/// Never for what this room has made.
pub fn pem(der: &[u8]) -> Result<String> {
    pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, der)
        .map_err(|e| Error::internal("encode", "a certificate", e))
}

/// The key of a request for an identity; its names are ignored, since the vault says who is who.
///
/// # Errors
/// `Invalid` for a malformed request or a weak key, `Verification` for a bad signature.
pub fn identity_csr(der: &[u8]) -> Result<Vec<u8>> {
    // The names may be anything, so only key and signature are looked at.
    let invalid = |e: der::Error| Error::invalid("read", "a CSR", e);
    if der.len() > 16 * 1024 {
        return Err(Error::invalid("read", "a CSR", "it is too long"));
    }
    let request = CertReq::from_der(der).map_err(invalid)?;
    let spki_der = request.info.public_key.to_der().map_err(invalid)?;
    let spki = SubjectPublicKeyInfoRef::try_from(spki_der.as_slice())
        .map_err(|e| Error::invalid("read", "a CSR", e))?;
    let signed = request.info.to_der().map_err(invalid)?;
    let signature = request.signature.as_bytes().unwrap_or_default();
    public_key::verify(&spki, request.algorithm.oid, &signed, signature)?;
    Ok(spki_der)
}

impl InternalCa {
    /// Issues an X509-SVID.
    ///
    /// # Errors
    /// Those of the signer; `Invalid` for a malformed key.
    pub async fn issue(&self, request: &IdentityRequest<'_>) -> Result<IssuedIdentity> {
        let root = Certificate::from_der(&self.root_der)
            .map_err(|e| Error::internal("read", "the internal CA's root", e))?;
        let profile = Profile {
            subject: common_name(&request.spiffe_id.identity().to_string())?,
            issuer: root.tbs_certificate().subject().clone(),
            kind: Kind::Leaf {
                names: leaf_names(request)?,
                usage: if request.server { ID_KP_SERVER_AUTH } else { ID_KP_CLIENT_AUTH },
                issuer_spki: self.signer.public_key().spki_der.clone(),
            },
        };
        let signer = self.signer.as_ref();
        certificate(signer, profile, request.spki_der, request.now, request.lifetime).await
    }
}

fn leaf_names(request: &IdentityRequest<'_>) -> Result<SubjectAltName> {
    let dns: Result<Vec<_>> =
        request.dns_names.iter().map(|name| crate::store::Identifier::dns(name)).collect();
    let mut names = csr::alternative_names(&dns?)?;
    let uri = Ia5String::new(&request.spiffe_id.to_string())
        .map_err(|e| Error::internal("encode", "a SPIFFE id", e))?;
    names.0.push(GeneralName::UniformResourceIdentifier(uri));
    Ok(names)
}

async fn certificate(
    signer: &dyn MessageSigner,
    profile: Profile,
    spki_der: &[u8],
    now: OffsetDateTime,
    lifetime: Duration,
) -> Result<IssuedIdentity> {
    let failed = |e| build_error("a certificate", e);
    let invalid = |e: der::Error| Error::invalid("issue", "a certificate", e);
    let mut serial = [0u8; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| Error::unavailable("issue", "a certificate", "no random numbers"))?;
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and always 16 bytes long
    let serial = SerialNumber::new(&serial).map_err(invalid)?;
    let skew = SKEW.min(lifetime / 10);
    let (from, to) = (der_time(now - skew)?, der_time(now + lifetime)?);
    let spki = SubjectPublicKeyInfoOwned::from_der(spki_der).map_err(invalid)?;
    let builder = CertificateBuilder::new(profile, serial.clone(), Validity::new(from, to), spki)
        .map_err(failed)?;
    let made =
        builder.build_async::<_, X509Signature>(&X509Signer(signer)).await.map_err(failed)?;
    Ok(IssuedIdentity {
        not_after: offset(made.tbs_certificate().validity().not_after)?,
        serial: hex::encode(serial.as_bytes()),
        der: made.to_der().map_err(invalid)?,
    })
}

fn der_time(at: OffsetDateTime) -> Result<Time> {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    Time::try_from(std::time::SystemTime::from(whole))
        .map_err(|e| Error::internal("encode", "a time", e))
}

fn common_name(text: &str) -> Result<Name> {
    format!("CN={text}").parse().map_err(|e| Error::internal("encode", "a name", e))
}

/// The extensions of a root and of a leaf (RFC 5280 section 4.2, X509-SVID section 4).
struct Profile {
    subject: Name,
    issuer: Name,
    kind: Kind,
}

enum Kind {
    Root,
    Leaf { names: SubjectAltName, usage: const_oid::ObjectIdentifier, issuer_spki: Vec<u8> },
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        spki: SubjectPublicKeyInfoRef<'_>,
        _issuer: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let subject = tbs.subject();
        let mut all = Vec::new();
        let own = SubjectKeyIdentifier::try_from(spki)?;
        match &self.kind {
            Kind::Root => {
                let constraints = BasicConstraints { ca: true, path_len_constraint: Some(0) };
                all.push(constraints.to_extension(subject, &all)?);
                let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
                all.push(usage.to_extension(subject, &all)?);
            }
            Kind::Leaf { names, usage, issuer_spki } => {
                let constraints = BasicConstraints { ca: false, path_len_constraint: None };
                all.push(constraints.to_extension(subject, &all)?);
                all.push(KeyUsage(KeyUsages::DigitalSignature.into()).to_extension(subject, &all)?);
                all.push(ExtendedKeyUsage(vec![*usage]).to_extension(subject, &all)?);
                all.push(names.to_extension(subject, &all)?);
                let issuer = SubjectPublicKeyInfoRef::try_from(issuer_spki.as_slice())?;
                let authority = AuthorityKeyIdentifier {
                    key_identifier: Some(SubjectKeyIdentifier::try_from(issuer)?.0),
                    ..Default::default()
                };
                all.push(authority.to_extension(subject, &all)?);
            }
        }
        all.push(own.to_extension(subject, &all)?);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        peer::Peer,
        testing::{TestKey, openssl},
    };
    use super::*;
    use crate::keystore::Algorithm;

    #[tokio::test]
    async fn an_identity_satisfies_openssl_and_says_whose_it_is() {
        for algorithm in [Algorithm::EcP256, Algorithm::Rsa2048, Algorithm::Ed25519] {
            let key: Arc<dyn MessageSigner> = Arc::new(TestKey::new(algorithm));
            let now = OffsetDateTime::now_utc();
            let root_der = root(key.as_ref(), "0190", now).await.unwrap();
            let authority = InternalCa { root_der: root_der.clone(), signer: key };
            let spiffe_id: SpiffeId = "spiffe://example.org/agent/web1".parse().unwrap();
            let issued = authority
                .issue(&IdentityRequest {
                    spki_der: &TestKey::new(Algorithm::EcP256).public_key().spki_der,
                    spiffe_id: &spiffe_id,
                    dns_names: &[],
                    now,
                    lifetime: Duration::days(1),
                    server: false,
                })
                .await
                .unwrap();
            let peer = Peer::of(&issued.der).unwrap();
            assert_eq!(peer.spiffe_id, spiffe_id);
            assert_eq!(peer.serial, issued.serial);
            let dir = tempfile::tempdir().unwrap();
            let file = |name: &str, der: &[u8]| {
                let path = dir.path().join(name);
                std::fs::write(&path, pem(der).unwrap()).unwrap();
                path.to_str().unwrap().to_owned()
            };
            let (ca, leaf) = (file("ca.pem", &root_der), file("leaf.pem", &issued.der));
            let purpose =
                ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &ca, &leaf];
            assert!(openssl(&purpose, &[]).contains("OK"));
        }
    }

    #[tokio::test]
    async fn a_certificate_without_one_spiffe_id_is_nobody() {
        let key = TestKey::new(Algorithm::EcP256);
        let root = root(&key, "0190", OffsetDateTime::now_utc()).await.unwrap();
        assert!(Peer::of(&root).is_err());
        assert!(Peer::of(b"garbage").is_err());
    }
}
