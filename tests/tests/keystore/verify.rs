//! Signatures are checked by another implementation than the token's.

use aws_lc_rs::signature::{self as lc, UnparsedPublicKey, VerificationAlgorithm};
use vault::keystore::{Algorithm, Mechanism, PublicKey, Signature};

/// Every mechanism of the key store.
pub const MECHANISMS: [Mechanism; 9] = [
    Mechanism::EcdsaSha256,
    Mechanism::EcdsaSha384,
    Mechanism::RsaPkcs1Sha256,
    Mechanism::RsaPkcs1Sha384,
    Mechanism::RsaPkcs1Sha512,
    Mechanism::RsaPssSha256,
    Mechanism::RsaPssSha384,
    Mechanism::RsaPssSha512,
    Mechanism::Ed25519,
];

/// Whether `signature`, in its X.509 form, is `key`'s over `message`.
pub fn verifies(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let algorithm = verification(signature.mechanism(), key.algorithm);
    let signature = signature.x509().expect("encode");
    UnparsedPublicKey::new(algorithm, &key.spki_der).verify(message, &signature).is_ok()
}

fn verification(mechanism: Mechanism, algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match (mechanism, algorithm) {
        (Mechanism::EcdsaSha256, Algorithm::EcP256) => &lc::ECDSA_P256_SHA256_ASN1,
        (Mechanism::EcdsaSha384, Algorithm::EcP256) => &lc::ECDSA_P256_SHA384_ASN1,
        (Mechanism::EcdsaSha256, Algorithm::EcP384) => &lc::ECDSA_P384_SHA256_ASN1,
        (Mechanism::EcdsaSha384, Algorithm::EcP384) => &lc::ECDSA_P384_SHA384_ASN1,
        (Mechanism::RsaPkcs1Sha256, _) => &lc::RSA_PKCS1_2048_8192_SHA256,
        (Mechanism::RsaPkcs1Sha384, _) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (Mechanism::RsaPkcs1Sha512, _) => &lc::RSA_PKCS1_2048_8192_SHA512,
        (Mechanism::RsaPssSha256, _) => &lc::RSA_PSS_2048_8192_SHA256,
        (Mechanism::RsaPssSha384, _) => &lc::RSA_PSS_2048_8192_SHA384,
        (Mechanism::RsaPssSha512, _) => &lc::RSA_PSS_2048_8192_SHA512,
        (Mechanism::Ed25519, Algorithm::Ed25519) => &lc::ED25519,
        (mechanism, algorithm) => panic!("{mechanism} does not fit {algorithm}"),
    }
}
