//! Who got which share of which KEK, signed by the vault's internal CA in its HSM, to be checked
//! by anybody who knows that CA's fingerprint.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Result, invalid, verification};
use crate::seal::{self, Seal, sha256};
use crate::shares::EncryptedShare;

/// The name of a transcript's file beside the shares.
pub const FILE: &str = "kek-transcript.json";
/// What a transcript says it is.
const FORMAT: &str = "keyvault-kek-transcript";
/// Before what is signed, so that it is nothing else: a certificate cannot begin so.
const CONTEXT: &[u8] = b"keyvault kek transcript 1\n";

/// Why there are new shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// The vault's first KEK.
    Init,
    /// A new KEK.
    Rotate,
    /// The same KEK among new custodians.
    Reshare,
}

/// What happened in a ceremony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    format: String,
    version: u32,
    /// Why.
    pub occasion: Occasion,
    /// The vault.
    pub vault_id: String,
    /// The KEK.
    pub kek_id: String,
    /// Tells the KEK from another.
    pub kek_check_value: String,
    /// How many shares rebuild it.
    pub threshold: usize,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The token that the KEK is in.
    pub token_serial: String,
    /// Who got what.
    pub custodians: Vec<Entry>,
}

/// One custodian's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The custodian's name.
    pub custodian: String,
    /// SHA-256 of the age recipient that the share is encrypted to, lower-case hex.
    pub recipient_sha256: String,
    /// SHA-256 of the share's age file, lower-case hex.
    pub share_sha256: String,
}

/// A transcript and its signature, as they stand in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    transcript: Transcript,
    algorithm: String,
    signature: String,
    ca_pem: String,
}

/// Which KEK of which vault, and where.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Why.
    pub occasion: Occasion,
    /// The vault.
    pub vault_id: &'a str,
    /// The KEK.
    pub kek_id: &'a str,
    /// Tells the KEK from another.
    pub check_value: &'a str,
    /// How many shares rebuild it.
    pub threshold: usize,
    /// The token's serial number.
    pub token_serial: &'a str,
    /// When.
    pub time: OffsetDateTime,
}

impl Transcript {
    /// What is to be signed about these shares.
    pub fn new(about: About<'_>, shares: &[EncryptedShare]) -> Self {
        let entry = |share: &EncryptedShare| Entry {
            custodian: share.custodian.to_string(),
            recipient_sha256: sha256(share.recipient.as_bytes()),
            share_sha256: sha256(share.armored.as_bytes()),
        };
        Self {
            format: FORMAT.to_owned(),
            version: 1,
            occasion: about.occasion,
            vault_id: about.vault_id.to_owned(),
            kek_id: about.kek_id.to_owned(),
            kek_check_value: about.check_value.to_owned(),
            threshold: about.threshold,
            time: about.time,
            token_serial: about.token_serial.to_owned(),
            custodians: shares.iter().map(entry).collect(),
        }
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// `Internal` where it cannot be encoded.
    pub fn message(&self) -> Result<Vec<u8>> {
        seal::message(CONTEXT, self)
    }

    /// The file: with its signature (`Ecdsa-Sig-Value`, DER) and the CA that made it.
    ///
    /// # Errors
    /// `Internal` where it cannot be encoded.
    pub fn signed(self, signature: &[u8], ca_pem: &str) -> Result<String> {
        let signed = Signed {
            transcript: self,
            algorithm: seal::ALGORITHM.to_owned(),
            signature: seal::encode(signature),
            ca_pem: ca_pem.to_owned(),
        };
        seal::file(&signed)
    }

    /// Reads a transcript's file and checks its signature by the CA with this fingerprint
    /// (`sha256:` and hex over the certificate's DER).
    ///
    /// # Errors
    /// `Verification`, saying what does not hold.
    pub fn verify(text: &str, ca_fingerprint: &str) -> Result<Self> {
        let wrong = |why: String| {
            verification(
                "verify",
                "the transcript",
                why,
                "ask for the one that `vaultctl shares` writes",
            )
        };
        let signed: Signed =
            serde_json::from_str(text).map_err(|e| wrong(format!("it is malformed: {e}")))?;
        let transcript = signed.transcript;
        if (transcript.format.as_str(), transcript.version) != (FORMAT, 1) {
            let why = format!("{} {} is not known", transcript.format, transcript.version);
            return Err(wrong(why));
        }
        let seal = Seal {
            algorithm: &signed.algorithm,
            signature: &signed.signature,
            ca_pem: &signed.ca_pem,
        };
        seal.check(&transcript.message()?, ca_fingerprint).map_err(wrong)?;
        Ok(transcript)
    }

    /// Holds the share files of a directory against it.
    ///
    /// # Errors
    /// `Invalid` where one cannot be read, `Verification` where one is not the one it names.
    pub fn check_shares(&self, dir: &Path) -> Result<()> {
        for entry in &self.custodians {
            let file = dir.join(format!("{}.age", entry.custodian));
            let subject = || format!("share {}", file.display());
            let hint = "name the directory that has every share that the transcript names";
            let bytes = fs::read(&file).map_err(|e| invalid("read", subject(), e, hint))?;
            if sha256(&bytes) != entry.share_sha256 {
                let why = format!("it is not the share that {} was given", entry.custodian);
                return Err(verification(
                    "verify",
                    subject(),
                    why,
                    "`vaultctl shares` writes it once more",
                ));
            }
        }
        Ok(())
    }
}
