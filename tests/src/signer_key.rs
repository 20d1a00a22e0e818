//! A key that signs as one in the vault's HSM would: real signatures, and the public half as the agent
//! describes it to the PKCS#11 module.

use aws_lc_rs::{
    digest::{self, Digest, digest},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    },
};
use cryptoki_sys::{
    CKG_MGF1_SHA256, CKG_MGF1_SHA384, CKG_MGF1_SHA512, CKM_ECDSA, CKM_ECDSA_SHA256,
    CKM_ECDSA_SHA384, CKM_EDDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_SHA256, CKM_SHA256_RSA_PKCS,
    CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384, CKM_SHA384_RSA_PKCS, CKM_SHA384_RSA_PKCS_PSS, CKM_SHA512,
    CKM_SHA512_RSA_PKCS, CKM_SHA512_RSA_PKCS_PSS,
};
use der::{
    Decode as _, Encode as _, EncodePem as _, Sequence,
    asn1::{OctetStringRef, UintRef},
    pem::LineEnding,
};
use rcgen::{CertificateParams, KeyPair};
use uuid::Uuid;
use vault_proto::local::v1::{self, KeyType, PssParameters, Reason};
use x509_cert::{Certificate, spki::SubjectPublicKeyInfoOwned};

/// The kinds of keys there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RSA with 2048 bits.
    Rsa2048,
    /// EC on P-256: signs what SHA-256 hashed.
    P256,
    /// EC on P-384: signs what SHA-384 hashed.
    P384,
    /// Ed25519.
    Ed25519,
}

/// A key with a certificate of its own making.
pub struct SignerKey {
    /// As the agent lists it.
    pub listed: v1::Key,
    /// Its public half, PEM.
    pub public_pem: String,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    private: Private,
}

enum Private {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair, u64),
    Ed25519(Ed25519KeyPair),
}

/// A hash, as each library calls it.
struct Hash {
    mechanism: u64,
    mask: u64,
    algorithm: &'static digest::Algorithm,
    /// What stands before the digest in a DigestInfo (RFC 8017 section 9.2).
    info: [u8; 19],
    pkcs1: &'static dyn RsaEncoding,
    pss: &'static dyn RsaEncoding,
}

static HASHES: [Hash; 3] = [
    Hash {
        mechanism: CKM_SHA256,
        mask: CKG_MGF1_SHA256,
        algorithm: &digest::SHA256,
        info: info(1, 32),
        pkcs1: &RSA_PKCS1_SHA256,
        pss: &RSA_PSS_SHA256,
    },
    Hash {
        mechanism: CKM_SHA384,
        mask: CKG_MGF1_SHA384,
        algorithm: &digest::SHA384,
        info: info(2, 48),
        pkcs1: &RSA_PKCS1_SHA384,
        pss: &RSA_PSS_SHA384,
    },
    Hash {
        mechanism: CKM_SHA512,
        mask: CKG_MGF1_SHA512,
        algorithm: &digest::SHA512,
        info: info(3, 64),
        pkcs1: &RSA_PKCS1_SHA512,
        pss: &RSA_PSS_SHA512,
    },
];

const fn info(oid: u8, length: u8) -> [u8; 19] {
    let sequence = 17 + length;
    [0x30, sequence, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, oid, 5, 0, 4, length]
}

/// What a signature comes to.
type Signed = Result<Vec<u8>, Reason>;

impl SignerKey {
    /// A fresh key and a certificate for the name `label`.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn new(kind: Kind, label: &str) -> Self {
        let algorithm = match kind {
            Kind::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
            Kind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Kind::Ed25519 => &rcgen::PKCS_ED25519,
        };
        let pair = KeyPair::generate_for(algorithm).expect("key");
        let params = CertificateParams::new(vec![format!("{label}.example")]).expect("name");
        let certificate = params.self_signed(&pair).expect("certificate");
        let pkcs8 = pair.serialize_der();
        let ec = |curve| EcdsaKeyPair::from_pkcs8(curve, &pkcs8).expect("key");
        let private = match kind {
            Kind::Rsa2048 => Private::Rsa(rsa::KeyPair::from_pkcs8(&pkcs8).expect("key")),
            Kind::P256 => Private::Ec(ec(&ECDSA_P256_SHA256_FIXED_SIGNING), CKM_SHA256),
            Kind::P384 => Private::Ec(ec(&ECDSA_P384_SHA384_FIXED_SIGNING), CKM_SHA384),
            Kind::Ed25519 => Private::Ed25519(Ed25519KeyPair::from_pkcs8(&pkcs8).expect("key")),
        };
        Self {
            listed: listed(kind, label, certificate.der()),
            public_pem: public(certificate.der()).to_pem(LineEnding::LF).expect("PEM"),
            certificate_pem: certificate.pem(),
            private,
        }
    }

    /// Signs as C_Sign does.
    ///
    /// # Errors
    /// The reason for which an agent would refuse.
    pub fn sign(&self, mechanism: u64, pss: Option<&PssParameters>, data: &[u8]) -> Signed {
        match &self.private {
            Private::Rsa(key) => sign_rsa(key, mechanism, pss, data),
            Private::Ec(key, hash) => sign_ec(key, *hash, mechanism, data),
            Private::Ed25519(key) if mechanism == CKM_EDDSA => Ok(key.sign(data).as_ref().to_vec()),
            Private::Ed25519(_) => Err(Reason::Mechanism),
        }
    }
}

fn sign_ec(key: &EcdsaKeyPair, hash: u64, mechanism: u64, data: &[u8]) -> Signed {
    let signature = match (mechanism, hash) {
        (CKM_ECDSA, _) => key.sign_digest(&imported(hash, data)?),
        (CKM_ECDSA_SHA256, CKM_SHA256) | (CKM_ECDSA_SHA384, CKM_SHA384) => {
            key.sign(&SystemRandom::new(), data)
        }
        _ => return Err(Reason::Mechanism),
    };
    Ok(signature.map_err(|_| Reason::Data)?.as_ref().to_vec())
}

fn sign_rsa(
    key: &rsa::KeyPair,
    mechanism: u64,
    pss: Option<&PssParameters>,
    data: &[u8],
) -> Signed {
    let hash_of = |mechanism| match mechanism {
        CKM_SHA256_RSA_PKCS | CKM_SHA256_RSA_PKCS_PSS => Some(CKM_SHA256),
        CKM_SHA384_RSA_PKCS | CKM_SHA384_RSA_PKCS_PSS => Some(CKM_SHA384),
        CKM_SHA512_RSA_PKCS | CKM_SHA512_RSA_PKCS_PSS => Some(CKM_SHA512),
        _ => None,
    };
    let (encoding, digest) = match (mechanism, pss) {
        (CKM_RSA_PKCS, None) => {
            let hash = HASHES.iter().find(|hash| data.starts_with(&hash.info));
            let hash = hash.ok_or(Reason::Data)?;
            (hash.pkcs1, imported(hash.mechanism, &data[hash.info.len()..])?)
        }
        (CKM_RSA_PKCS_PSS, Some(pss)) => {
            let hash = masked(pss)?;
            (hash.pss, imported(hash.mechanism, data)?)
        }
        (mechanism, Some(pss)) if hash_of(mechanism) == Some(pss.hash) => {
            let hash = masked(pss)?;
            (hash.pss, digest(hash.algorithm, data))
        }
        (mechanism, None) => {
            let hash = hash(hash_of(mechanism).ok_or(Reason::Mechanism)?)?;
            (hash.pkcs1, digest(hash.algorithm, data))
        }
        _ => return Err(Reason::Mechanism),
    };
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign_digest(encoding, &digest, &mut signature).map_err(|_| Reason::Data)?;
    Ok(signature)
}

fn hash(mechanism: u64) -> Result<&'static Hash, Reason> {
    HASHES.iter().find(|hash| hash.mechanism == mechanism).ok_or(Reason::Mechanism)
}

/// PSS with one hash for all and a salt as long as it, as TLS has it.
fn masked(pss: &PssParameters) -> Result<&'static Hash, Reason> {
    let hash = hash(pss.hash)?;
    let usual = pss.mgf == hash.mask && pss.salt_length == hash.algorithm.output_len as u64;
    if usual { Ok(hash) } else { Err(Reason::Mechanism) }
}

fn imported(mechanism: u64, value: &[u8]) -> Result<Digest, Reason> {
    Digest::import_less_safe(value, hash(mechanism)?.algorithm).map_err(|_| Reason::Data)
}

/// RFC 8017 section A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn public(certificate: &[u8]) -> SubjectPublicKeyInfoOwned {
    let certificate = Certificate::from_der(certificate).expect("certificate");
    certificate.tbs_certificate().subject_public_key_info().clone()
}

fn listed(kind: Kind, label: &str, certificate: &[u8]) -> v1::Key {
    let parsed = Certificate::from_der(certificate).expect("certificate");
    let tbs = parsed.tbs_certificate();
    let public = tbs.subject_public_key_info();
    let raw = public.subject_public_key.raw_bytes();
    let key_type = match kind {
        Kind::Rsa2048 => KeyType::Rsa,
        Kind::P256 | Kind::P384 => KeyType::Ec,
        Kind::Ed25519 => KeyType::EcEdwards,
    };
    let mut key = v1::Key {
        id: Uuid::new_v4().as_bytes().to_vec(),
        label: label.to_owned(),
        r#type: key_type.into(),
        public_key_info: public.to_der().expect("DER"),
        certificate: certificate.to_vec(),
        subject: tbs.subject().to_der().expect("DER"),
        issuer: tbs.issuer().to_der().expect("DER"),
        serial_number: tbs.serial_number().to_der().expect("DER"),
        ..v1::Key::default()
    };
    if key_type == KeyType::Rsa {
        let rsa = RsaPublicKey::from_der(raw).expect("an RSA key");
        key.modulus = rsa.modulus.as_bytes().to_vec();
        key.public_exponent = rsa.exponent.as_bytes().to_vec();
        return key;
    }
    let algorithm = &public.algorithm;
    key.ec_params = match &algorithm.parameters {
        Some(curve) => curve.to_der().expect("DER"),
        None => algorithm.oid.to_der().expect("DER"),
    };
    key.ec_point = OctetStringRef::new(raw).and_then(|point| point.to_der()).expect("DER");
    key
}
