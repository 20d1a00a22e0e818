//! From a backup's key rows to private keys in a token, each proven by a signature: what a restore
//! and a drill do alike. Nothing here writes to the audit log: whoever calls has said there what is
//! about to be done.

use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use vault_backup::{KeyEntry, KeyRow, Wrapped};

use crate::error::{Error, Result};
use crate::keystore::{
    Algorithm, Escrow, KeySpec, PublicKey, Signature, WrapMechanism, WrappedKey,
    pkcs11::{Lasting, Recovered, Recovery},
};
use crate::store::KeyPurpose;
use crate::x509;

/// Bytes of a challenge.
const CHALLENGE: usize = 32;

/// A key of a backup, ready to be unwrapped.
#[derive(Debug, Clone)]
pub struct Escrowed {
    /// What it was born as.
    pub spec: KeySpec,
    /// Its public half.
    pub public: PublicKey,
    /// Its private half.
    pub wrapped: WrappedKey,
    /// Its name.
    pub name: String,
}

/// A random message and its signature by a key that was unwrapped.
#[derive(Debug)]
pub struct Challenge {
    message: [u8; CHALLENGE],
    signature: Signature,
}

impl Escrowed {
    /// Of a key's line; `None` where the backup does not have its private half.
    ///
    /// # Errors
    /// `Verification` where the line says what this vault does not know.
    pub fn of(entry: &KeyEntry) -> Result<Option<Self>> {
        let Some(wrapped) = &entry.wrapped else { return Ok(None) };
        let row = &entry.row;
        let spec = spec(row)?;
        let public = PublicKey { algorithm: spec.algorithm, spki_der: row.spki.0.clone() };
        let wrapped = wrapped_key(row, wrapped)?;
        Ok(Some(Self { spec, public, wrapped, name: row.name.clone() }))
    }

    /// Unwraps it inside the token and has it prove itself; one that does not is destroyed again.
    ///
    /// # Errors
    /// As [`Recovery::unwrap`], and `Verification` where its signature is not its public half's.
    pub fn unwrap(&self, recovery: &Recovery, lasting: Lasting) -> Result<Recovered> {
        let key = recovery.unwrap(&self.spec, &self.wrapped, lasting)?;
        match self.prove(recovery, &key) {
            Ok(()) => Ok(key),
            Err(error) => {
                recovery.destroy(key)?;
                Err(error)
            }
        }
    }

    /// Has its key in the token sign a fresh random challenge, and holds the signature against its
    /// public half.
    ///
    /// # Errors
    /// Those of the two.
    pub fn prove(&self, recovery: &Recovery, key: &Recovered) -> Result<()> {
        self.holds(&self.challenge(recovery, key)?)
    }

    /// Has its key in the token sign a fresh random challenge.
    ///
    /// # Errors
    /// As [`Recovery::sign`].
    pub fn challenge(&self, recovery: &Recovery, key: &Recovered) -> Result<Challenge> {
        let mut message = [0; CHALLENGE];
        aws_lc_rs::rand::fill(&mut message)
            .map_err(|_| Error::unavailable("prove", self.subject(), "no random numbers"))?;
        let how = self.spec.algorithm.default_mechanism();
        Ok(Challenge { message, signature: recovery.sign(key, how, &message)? })
    }

    /// Holds a challenge's signature against its public half; no token is asked.
    ///
    /// # Errors
    /// `Verification` where it does not match.
    pub fn holds(&self, Challenge { message, signature }: &Challenge) -> Result<()> {
        x509::proves(&self.public, message, signature).map_err(|error| {
            let why = format!("what it signs is not by its public key: {}", error.why);
            Error::verification("prove", self.subject(), why).hint(
                "the backup's wrapped key and its row are not of one pair: use another backup",
            )
        })
    }

    fn subject(&self) -> String {
        format!("key {} ({})", self.name, self.spec.id)
    }
}

fn spec(row: &KeyRow) -> Result<KeySpec> {
    let known = |error: Error| {
        Error::verification("read", format!("key {} ({})", row.name, row.id), error.why)
    };
    let purpose: KeyPurpose = row.purpose.0.parse().map_err(known)?;
    let algorithm: Algorithm = row.algorithm.0.parse().map_err(known)?;
    let escrow: Escrow = row.escrow.0.parse().map_err(known)?;
    // As it was labelled when it was made.
    let label = format!("{purpose}/{}/{}", row.name, row.version);
    Ok(KeySpec { id: row.id, label, algorithm, escrow })
}

fn wrapped_key(row: &KeyRow, wrapped: &Wrapped) -> Result<WrappedKey> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::verification("read", format!("key {} ({})", row.name, row.id), why)
    };
    let mechanism = match wrapped.mechanism.as_str() {
        "aes-key-wrap-pad" => WrapMechanism::AesKeyWrapPad,
        "aes-cbc-pad" => WrapMechanism::AesCbcPad,
        other => return Err(wrong(&format!("it is wrapped by {other:?}, which is not known"))),
    };
    Ok(WrappedKey {
        kek: wrapped.kek,
        mechanism,
        iv: B64.decode(&wrapped.iv).map_err(|e| wrong(&e))?,
        blob: B64.decode(&wrapped.blob).map_err(|e| wrong(&e))?,
    })
}
