//! A [`MessageSigner`] where x509-cert's builders want a signer.

use der::{Document, asn1::BitString};
use signature::{AsyncSigner, Keypair};
use spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey,
    SignatureBitStringEncoding,
};

use const_oid::db::{
    rfc5912::{ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, SHA_256_WITH_RSA_ENCRYPTION},
    rfc8410::ID_ED_25519,
};

use crate::keystore::{Algorithm, MessageSigner};

/// The adapter.
pub(super) struct X509Signer<'a>(pub(super) &'a dyn MessageSigner);

/// A public key that is its own encoding.
#[derive(Clone)]
pub(super) struct Spki(Vec<u8>);

/// A signature in the form of X.509.
pub(super) struct X509Signature(Vec<u8>);

impl EncodePublicKey for Spki {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.0.as_slice())?)
    }
}

impl SignatureBitStringEncoding for X509Signature {
    fn to_bitstring(&self) -> der::Result<BitString> {
        BitString::from_bytes(&self.0)
    }
}

impl Keypair for X509Signer<'_> {
    type VerifyingKey = Spki;
    fn verifying_key(&self) -> Spki {
        Spki(self.0.public_key().spki_der.clone())
    }
}

impl DynSignatureAlgorithmIdentifier for X509Signer<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        // RFC 5754: NULL parameters for RSA, none for the others (RFC 5758, RFC 8410).
        let (oid, null) = match self.0.public_key().algorithm {
            Algorithm::EcP256 => (ECDSA_WITH_SHA_256, false),
            Algorithm::EcP384 => (ECDSA_WITH_SHA_384, false),
            Algorithm::Ed25519 => (ID_ED_25519, false),
            Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => {
                (SHA_256_WITH_RSA_ENCRYPTION, true)
            }
        };
        let parameters = null.then(|| der::asn1::Null.into());
        Ok(AlgorithmIdentifierOwned { oid, parameters })
    }
}

impl AsyncSigner<X509Signature> for X509Signer<'_> {
    async fn sign_async(&self, message: &[u8]) -> Result<X509Signature, signature::Error> {
        let signature = self.0.sign(message).await.map_err(signature::Error::from_source)?;
        signature.x509().map(X509Signature).map_err(signature::Error::from_source)
    }
}

/// What a builder's failure was: the signer's own error where there is one inside.
pub(super) fn build_error(what: &str, error: x509_cert::builder::Error) -> crate::error::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(own) = inner.downcast_ref::<crate::error::Error>() {
            return own.clone();
        }
        source = match &error {
            x509_cert::builder::Error::Signature(signature) if std::ptr::eq(inner, &error) => {
                std::error::Error::source(signature)
            }
            _ => inner.source(),
        };
    }
    crate::error::Error::internal("build", what, error)
}
