//! Algorithms and signature mechanisms in PKCS#11's terms.

use aws_lc_rs::digest;
use cryptoki::{
    mechanism::{
        Mechanism as Ck, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, KeyType, ObjectHandle},
    session::Session,
};

use super::rv::Failure;
use crate::keystore::{Algorithm, Mechanism};

/// CKA_EC_PARAMS of P-256: its OID.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// CKA_EC_PARAMS of P-384: its OID.
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// CKA_EC_PARAMS of Ed25519 as PKCS#11 v3.1 has it: its OID.
const ED25519_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// CKA_EC_PARAMS of Ed25519 as PKCS#11 v3.0 tokens want it: PrintableString `edwards25519`.
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

/// RSASSA-PSS with the salt as long as the digest, as TLS 1.3 wants it (RFC 8446 section 4.2.3).
fn pss(hash_alg: MechanismType) -> PkcsPssParams {
    let (mgf, length) = match hash_alg {
        MechanismType::SHA384 => (PkcsMgfType::MGF1_SHA384, 48),
        MechanismType::SHA512 => (PkcsMgfType::MGF1_SHA512, 64),
        _ => (PkcsMgfType::MGF1_SHA256, 32),
    };
    PkcsPssParams { hash_alg, mgf, s_len: length.into() }
}

/// How to ask for a key pair: the mechanism, and what to add to the public template. Several ways
/// where tokens differ, to be tried in order.
pub(super) fn generation(algorithm: Algorithm) -> (Ck<'static>, Vec<Vec<Attribute>>) {
    let curve = |params: &[u8]| vec![Attribute::EcParams(params.to_vec())];
    match algorithm {
        Algorithm::EcP256 => (Ck::EccKeyPairGen, vec![curve(P256)]),
        Algorithm::EcP384 => (Ck::EccKeyPairGen, vec![curve(P384)]),
        Algorithm::Ed25519 => {
            let ways = edwards_params().into_iter().map(|params| curve(&params));
            (Ck::EccEdwardsKeyPairGen, ways.collect())
        }
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => {
            let bits = u64::from(algorithm.rsa_bits().unwrap_or(2048));
            let modulus = Attribute::ModulusBits(bits.into());
            let exponent = Attribute::PublicExponent(vec![1, 0, 1]);
            (Ck::RsaPkcsKeyPairGen, vec![vec![modulus, exponent]])
        }
    }
}

/// CKA_EC_PARAMS of Ed25519: several ways, to be tried in order.
pub(super) fn edwards_params() -> Vec<Vec<u8>> {
    vec![ED25519_OID.to_vec(), ED25519_NAME.to_vec()]
}

/// The type of key that signs so. Tokens answer a wrong one in many ways, some of which look like a
/// broken session.
pub(super) fn key_type(mechanism: Mechanism) -> KeyType {
    match mechanism {
        Mechanism::EcdsaSha256 | Mechanism::EcdsaSha384 | Mechanism::EcdsaDigest => KeyType::EC,
        Mechanism::Ed25519 => KeyType::EC_EDWARDS,
        Mechanism::RsaPkcs1Sha256
        | Mechanism::RsaPkcs1Sha384
        | Mechanism::RsaPkcs1Sha512
        | Mechanism::RsaPssSha256
        | Mechanism::RsaPssSha384
        | Mechanism::RsaPssSha512
        | Mechanism::RsaPkcs1Digest
        | Mechanism::RsaPssSha256Digest
        | Mechanism::RsaPssSha384Digest
        | Mechanism::RsaPssSha512Digest => KeyType::RSA,
    }
}

/// Signs. ECDSA of messages is hashed here, since not every token has CKM_ECDSA_SHA256.
pub(super) fn sign(
    session: &Session,
    key: ObjectHandle,
    mechanism: Mechanism,
    message: &[u8],
) -> Result<Vec<u8>, Failure> {
    let ck = match mechanism {
        Mechanism::EcdsaSha256 => {
            let digest = digest::digest(&digest::SHA256, message);
            return Ok(session.sign(&Ck::Ecdsa, key, digest.as_ref())?);
        }
        Mechanism::EcdsaSha384 => {
            let digest = digest::digest(&digest::SHA384, message);
            return Ok(session.sign(&Ck::Ecdsa, key, digest.as_ref())?);
        }
        Mechanism::EcdsaDigest => Ck::Ecdsa,
        Mechanism::Ed25519 => Ck::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
        Mechanism::RsaPkcs1Sha256 => Ck::Sha256RsaPkcs,
        Mechanism::RsaPkcs1Sha384 => Ck::Sha384RsaPkcs,
        Mechanism::RsaPkcs1Sha512 => Ck::Sha512RsaPkcs,
        Mechanism::RsaPkcs1Digest => Ck::RsaPkcs,
        Mechanism::RsaPssSha256 => Ck::Sha256RsaPkcsPss(pss(MechanismType::SHA256)),
        Mechanism::RsaPssSha384 => Ck::Sha384RsaPkcsPss(pss(MechanismType::SHA384)),
        Mechanism::RsaPssSha512 => Ck::Sha512RsaPkcsPss(pss(MechanismType::SHA512)),
        Mechanism::RsaPssSha256Digest => Ck::RsaPkcsPss(pss(MechanismType::SHA256)),
        Mechanism::RsaPssSha384Digest => Ck::RsaPkcsPss(pss(MechanismType::SHA384)),
        Mechanism::RsaPssSha512Digest => Ck::RsaPkcsPss(pss(MechanismType::SHA512)),
    };
    Ok(session.sign(&ck, key, message)?)
}
