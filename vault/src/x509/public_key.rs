//! Public keys: which are strong enough, and what they verify.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use const_oid::{
    ObjectIdentifier,
    db::{
        rfc5912::{
            ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1,
            SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
            SHA_512_WITH_RSA_ENCRYPTION,
        },
        rfc8410::ID_ED_25519,
    },
};
use der::{Decode as _, asn1::UintRef};
use spki::SubjectPublicKeyInfoRef;

use crate::error::{Error, Result};
use crate::keystore::{Algorithm, PublicKey, Signature};

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The algorithm of a SubjectPublicKeyInfo, where it is one that this vault deems strong.
///
/// # Errors
/// `Invalid` for a malformed key, an RSA key under 2048 bits or of an odd size, an unknown curve.
pub(super) fn algorithm_of(spki: &SubjectPublicKeyInfoRef<'_>) -> Result<Algorithm> {
    let bad = |why: &str| {
        Error::invalid("accept", "a public key", why)
            .hint("use ec-p256, ec-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519")
    };
    let bits = spki.subject_public_key.as_bytes().ok_or_else(|| bad("it is malformed"))?;
    match spki.algorithm.oid {
        ID_EC_PUBLIC_KEY => {
            let curve = spki.algorithm.parameters_oid().map_err(|_| bad("it names no curve"))?;
            let (algorithm, length) = match curve {
                SECP_256_R_1 => (Algorithm::EcP256, 65),
                SECP_384_R_1 => (Algorithm::EcP384, 97),
                _ => return Err(bad("its curve is neither P-256 nor P-384")),
            };
            if bits.len() != length || bits.first() != Some(&4) {
                return Err(bad("its point is malformed"));
            }
            Ok(algorithm)
        }
        ID_ED_25519 if bits.len() == 32 => Ok(Algorithm::Ed25519),
        RSA_ENCRYPTION => {
            let key = RsaPublicKey::from_der(bits).map_err(|_| bad("it is malformed"))?;
            let exponent = key.exponent.as_bytes();
            if exponent.last().is_none_or(|low| low % 2 == 0) || exponent == [1] {
                return Err(bad("its RSA exponent is weak"));
            }
            let modulus = key.modulus.as_bytes();
            let top = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
            match modulus.len() * 8 - top.min(modulus.len() * 8) {
                2048 => Ok(Algorithm::Rsa2048),
                3072 => Ok(Algorithm::Rsa3072),
                4096 => Ok(Algorithm::Rsa4096),
                bits if bits < 2048 => Err(bad(&format!("{bits}-bit RSA is weak"))),
                bits => Err(bad(&format!("{bits}-bit RSA is not supported"))),
            }
        }
        _ => Err(bad("its algorithm is not known")),
    }
}

/// Holds a signature by a key's default mechanism against its public half: whoever made it has the
/// private one.
///
/// # Errors
/// `Verification` where it does not match.
pub fn proves(key: &PublicKey, message: &[u8], signature: &Signature) -> Result<()> {
    let malformed = |e: &dyn std::fmt::Display| {
        Error::verification("verify", "a signature", format!("the public key is malformed: {e}"))
    };
    let spki = SubjectPublicKeyInfoRef::from_der(&key.spki_der).map_err(|e| malformed(&e))?;
    let oid = match key.algorithm {
        Algorithm::EcP256 => ECDSA_WITH_SHA_256,
        Algorithm::EcP384 => ECDSA_WITH_SHA_384,
        Algorithm::Ed25519 => ID_ED_25519,
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => SHA_256_WITH_RSA_ENCRYPTION,
    };
    if algorithm_of(&spki)? != key.algorithm {
        return Err(malformed(&format!("it is no {} key", key.algorithm)));
    }
    verify(&spki, oid, message, &signature.x509()?)
}

/// Verifies a signature that names its algorithm by `oid`.
///
/// # Errors
/// `Verification` where it does not hold, or the algorithm is weak, unknown or not of the key's
/// type.
pub(super) fn verify(
    spki: &SubjectPublicKeyInfoRef<'_>,
    oid: ObjectIdentifier,
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    let bad = |why: &str| Error::verification("verify", "a signature", why);
    let key = algorithm_of(spki)?;
    let rsa = key.rsa_bits().is_some();
    let algorithm: &dyn VerificationAlgorithm = match (key, oid) {
        (Algorithm::EcP256, ECDSA_WITH_SHA_256) => &ECDSA_P256_SHA256_ASN1,
        (Algorithm::EcP256, ECDSA_WITH_SHA_384) => &ECDSA_P256_SHA384_ASN1,
        (Algorithm::EcP384, ECDSA_WITH_SHA_256) => &ECDSA_P384_SHA256_ASN1,
        (Algorithm::EcP384, ECDSA_WITH_SHA_384) => &ECDSA_P384_SHA384_ASN1,
        (Algorithm::Ed25519, ID_ED_25519) => &ED25519,
        (_, SHA_256_WITH_RSA_ENCRYPTION) if rsa => &RSA_PKCS1_2048_8192_SHA256,
        (_, SHA_384_WITH_RSA_ENCRYPTION) if rsa => &RSA_PKCS1_2048_8192_SHA384,
        (_, SHA_512_WITH_RSA_ENCRYPTION) if rsa => &RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(bad(&format!("its algorithm {oid} is weak or not of the key's type"))),
    };
    let bits = spki.subject_public_key.as_bytes().ok_or_else(|| bad("the key is malformed"))?;
    UnparsedPublicKey::new(algorithm, bits)
        .verify(message, signature)
        .map_err(|_| bad("it does not match"))
}
