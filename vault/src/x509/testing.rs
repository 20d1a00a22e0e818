//! Keys in memory and a real `openssl`, for this room's own tests.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};

use crate::error::Result;
use crate::keystore::{Algorithm, MessageSigner, PublicKey, Signature};

/// A key in memory that signs as a token would.
pub(crate) struct TestKey {
    public: PublicKey,
    pkcs8: Vec<u8>,
}

impl TestKey {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
            _ => &rcgen::PKCS_RSA_SHA256,
        };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        use rcgen::PublicKeyData as _;
        let spki_der = pair.subject_public_key_info();
        Self { public: PublicKey { algorithm, spki_der }, pkcs8: pair.serialize_der() }
    }
}

#[async_trait]
impl MessageSigner for TestKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        let random = SystemRandom::new();
        let ecdsa = |kind| {
            let pair = EcdsaKeyPair::from_pkcs8(kind, &self.pkcs8).unwrap();
            pair.sign(&random, message).unwrap().as_ref().to_vec()
        };
        let raw = match self.public.algorithm {
            Algorithm::EcP256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::EcP384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Ed25519 => {
                Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap().sign(message).as_ref().to_vec()
            }
            _ => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).unwrap();
                let mut raw = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut raw).unwrap();
                raw
            }
        };
        Ok(Signature::from_pkcs11(self.public.algorithm.default_mechanism(), raw))
    }
}

/// Runs openssl with `input` on stdin; fails the test where it does not exit 0.
pub(crate) fn openssl(args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {text}{errors}");
    text
}
