//! The internal CA's signature under a text of JSON: made in the HSM, checked by anybody who knows
//! that CA's fingerprint.
//!
//! What is signed begins with a line that says what it is, so that a signature under one kind of
//! text is none under another, and none under a certificate.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use der::Decode as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;

use crate::error::{Result, internal};

/// How it is signed.
pub(crate) const ALGORITHM: &str = "ecdsa-p256-sha256";

/// A signature as it stands in a file.
pub(crate) struct Seal<'a> {
    pub(crate) algorithm: &'a str,
    pub(crate) signature: &'a str,
    pub(crate) ca_pem: &'a str,
}

/// The bytes that are signed.
pub(crate) fn message(context: &[u8], text: &impl Serialize) -> Result<Vec<u8>> {
    let mut message = context.to_vec();
    serde_json::to_writer(&mut message, text)
        .map_err(|e| internal("encode", "what is to be signed", e))?;
    Ok(message)
}

/// A signature (`Ecdsa-Sig-Value`, DER) as a file has it.
pub(crate) fn encode(signature: &[u8]) -> String {
    B64.encode(signature)
}

/// A file of a text and its signature.
pub(crate) fn file(signed: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(signed);
    text.map(|text| text + "\n").map_err(|e| internal("encode", "what was signed", e))
}

impl Seal<'_> {
    /// Checks it by the CA with this fingerprint (`sha256:` and hex over the certificate's DER).
    ///
    /// # Errors
    /// Why it does not hold.
    pub(crate) fn check(&self, message: &[u8], ca_fingerprint: &str) -> Result<(), String> {
        if self.algorithm != ALGORITHM {
            return Err(format!("it is signed by {}", self.algorithm));
        }
        let malformed = |e: &dyn std::fmt::Display| format!("its CA is malformed: {e}");
        let (_, der) =
            pem_rfc7468::decode_vec(self.ca_pem.as_bytes()).map_err(|e| malformed(&e))?;
        let found = format!("sha256:{}", sha256(&der));
        if found != ca_fingerprint.to_ascii_lowercase() {
            return Err(format!("it is of CA {found}, not of {ca_fingerprint}"));
        }
        let certificate = Certificate::from_der(&der).map_err(|e| malformed(&e))?;
        let spki = certificate.tbs_certificate().subject_public_key_info();
        let signature = B64.decode(self.signature).map_err(|e| e.to_string())?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki.subject_public_key.raw_bytes())
            .verify(message, &signature)
            .map_err(|_| "its signature is not of this text: it was changed".to_owned())
    }
}

/// SHA-256, lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
