//! Key algorithms and signature mechanisms, under the names of the command contract.

use crate::named::named_enum;

named_enum!(
    /// A key's algorithm.
    Algorithm, "algorithm" {
        /// NIST P-256 (FIPS 186-5).
        EcP256 = "ec-p256",
        /// NIST P-384 (FIPS 186-5).
        EcP384 = "ec-p384",
        /// RSA with a 2048-bit modulus.
        Rsa2048 = "rsa-2048",
        /// RSA with a 3072-bit modulus.
        Rsa3072 = "rsa-3072",
        /// RSA with a 4096-bit modulus.
        Rsa4096 = "rsa-4096",
        /// Ed25519 (RFC 8032).
        Ed25519 = "ed25519",
    }
);

named_enum!(
    /// Whether a key can ever be in a backup.
    Escrow, "escrow" {
        /// The trusted KEK can wrap it, inside the HSM, and nothing else can.
        Wrapped = "wrapped",
        /// It never leaves the HSM in any form; after a loss it is re-issued.
        None = "none",
    }
);

named_enum!(
    /// A signature mechanism: padding and hash together, over the whole message or, where the name
    /// ends so, over its digest.
    Mechanism, "mechanism" {
        /// ECDSA with SHA-256.
        EcdsaSha256 = "ecdsa-sha256",
        /// ECDSA with SHA-384.
        EcdsaSha384 = "ecdsa-sha384",
        /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017).
        RsaPkcs1Sha256 = "rsa-pkcs1-sha256",
        /// RSASSA-PKCS1-v1_5 with SHA-384 (RFC 8017).
        RsaPkcs1Sha384 = "rsa-pkcs1-sha384",
        /// RSASSA-PKCS1-v1_5 with SHA-512 (RFC 8017).
        RsaPkcs1Sha512 = "rsa-pkcs1-sha512",
        /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a 32-byte salt (RFC 8017).
        RsaPssSha256 = "rsa-pss-sha256",
        /// RSASSA-PSS with SHA-384, MGF1-SHA-384 and a 48-byte salt (RFC 8017).
        RsaPssSha384 = "rsa-pss-sha384",
        /// RSASSA-PSS with SHA-512, MGF1-SHA-512 and a 64-byte salt (RFC 8017).
        RsaPssSha512 = "rsa-pss-sha512",
        /// Ed25519, pure (RFC 8032).
        Ed25519 = "ed25519",
        /// ECDSA of a digest (CKM_ECDSA).
        EcdsaDigest = "ecdsa-digest",
        /// RSASSA-PKCS1-v1_5 of a DigestInfo (CKM_RSA_PKCS).
        RsaPkcs1Digest = "rsa-pkcs1-digest",
        /// RSASSA-PSS of a SHA-256 digest (CKM_RSA_PKCS_PSS), MGF1-SHA-256, 32-byte salt.
        RsaPssSha256Digest = "rsa-pss-sha256-digest",
        /// RSASSA-PSS of a SHA-384 digest (CKM_RSA_PKCS_PSS), MGF1-SHA-384, 48-byte salt.
        RsaPssSha384Digest = "rsa-pss-sha384-digest",
        /// RSASSA-PSS of a SHA-512 digest (CKM_RSA_PKCS_PSS), MGF1-SHA-512, 64-byte salt.
        RsaPssSha512Digest = "rsa-pss-sha512-digest",
    }
);

/// What a mechanism is given to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The whole message: whoever signs can see what it is.
    Message,
    /// A digest, which could be of anything: for TLS servers that hand over nothing else.
    Digest,
}

impl Algorithm {
    /// The RSA modulus in bits; `None` for other algorithms.
    pub fn rsa_bits(self) -> Option<u32> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    /// What X.509 and JOSE objects are signed with: ES256, ES384, RS256 or EdDSA.
    pub fn default_mechanism(self) -> Mechanism {
        match self {
            Self::EcP256 => Mechanism::EcdsaSha256,
            Self::EcP384 => Mechanism::EcdsaSha384,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => Mechanism::RsaPkcs1Sha256,
            Self::Ed25519 => Mechanism::Ed25519,
        }
    }
}

impl Mechanism {
    /// Whether a key of this algorithm can sign so. ECDSA takes either hash with either curve.
    ///
    /// ```
    /// use vault::keystore::{Algorithm, Mechanism};
    ///
    /// let mechanism: Mechanism = "rsa-pss-sha256".parse()?;
    /// assert!(mechanism.fits(Algorithm::Rsa2048));
    /// assert!(!mechanism.fits(Algorithm::EcP256));
    /// # Ok::<(), vault::error::Error>(())
    /// ```
    pub fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::EcdsaSha256 | Self::EcdsaSha384 | Self::EcdsaDigest => {
                matches!(algorithm, Algorithm::EcP256 | Algorithm::EcP384)
            }
            Self::Ed25519 => algorithm == Algorithm::Ed25519,
            _ => algorithm.rsa_bits().is_some(),
        }
    }

    /// What it is given to sign.
    pub fn form(self) -> Form {
        match self {
            Self::EcdsaDigest
            | Self::RsaPkcs1Digest
            | Self::RsaPssSha256Digest
            | Self::RsaPssSha384Digest
            | Self::RsaPssSha512Digest => Form::Digest,
            _ => Form::Message,
        }
    }
}
