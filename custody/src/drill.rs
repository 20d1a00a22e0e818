//! What a vault states of a drill that was recorded with it: which backup, which report, proven or
//! not; signed by the internal CA in its HSM.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Result, verification};
use crate::seal::{self, Seal};

/// The name of a statement's file beside the report.
pub const FILE: &str = "report.sig.json";
/// What a statement says it is.
pub const FORMAT: &str = "keyvault-drill-statement";
/// Which version of it.
pub const VERSION: u32 = 1;
/// Before what is signed, so that it is nothing else.
const CONTEXT: &[u8] = b"keyvault drill statement 1\n";

/// What is stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The drill.
    pub drill_id: String,
    /// The vault that has recorded it.
    pub vault_id: String,
    /// SHA-256 of the backup's file, lower-case hex.
    pub backup_sha256: String,
    /// Whether everything was proven.
    pub ok: bool,
    /// Keys that were unwrapped and have signed.
    pub keys_proven: u64,
    /// When the drill began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it was recorded.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
    /// Who has recorded it.
    pub recorded_by: String,
    /// How long the restore took.
    pub rto_milliseconds: u64,
    /// How old the data were when the drill began.
    pub rpo_milliseconds: u64,
    /// SHA-256 of `report.json`, lower-case hex.
    pub report_json_sha256: String,
    /// SHA-256 of `report.html`, lower-case hex.
    pub report_html_sha256: String,
}

/// A statement and its signature, as they stand in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    statement: Statement,
    algorithm: String,
    signature: String,
    ca_pem: String,
}

impl Statement {
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
            statement: self,
            algorithm: seal::ALGORITHM.to_owned(),
            signature: seal::encode(signature),
            ca_pem: ca_pem.to_owned(),
        };
        seal::file(&signed)
    }

    /// Reads a statement's file and checks its signature by the CA with this fingerprint
    /// (`sha256:` and hex over the certificate's DER).
    ///
    /// # Errors
    /// `Verification`, saying what does not hold.
    pub fn verify(text: &str, ca_fingerprint: &str) -> Result<Self> {
        let wrong = |why: String| {
            let hint = "ask for the report as it was written: `vaultctl drill show` has its hashes";
            verification("verify", "the drill's statement", why, hint)
        };
        let signed: Signed =
            serde_json::from_str(text).map_err(|e| wrong(format!("it is malformed: {e}")))?;
        let statement = signed.statement;
        if (statement.format.as_str(), statement.version) != (FORMAT, VERSION) {
            let why = format!("{} {} is not known", statement.format, statement.version);
            return Err(wrong(why));
        }
        let seal = Seal {
            algorithm: &signed.algorithm,
            signature: &signed.signature,
            ca_pem: &signed.ca_pem,
        };
        seal.check(&statement.message()?, ca_fingerprint).map_err(wrong)?;
        Ok(statement)
    }

    /// Holds a report's two files against it.
    ///
    /// # Errors
    /// `Verification`, naming the file that is another.
    pub fn check_report(&self, json: &[u8], html: &[u8]) -> Result<()> {
        let files = [
            ("report.json", json, &self.report_json_sha256),
            ("report.html", html, &self.report_html_sha256),
        ];
        for (name, bytes, expected) in files {
            if seal::sha256(bytes) != *expected {
                let why = "it is not the file that was signed: it was changed";
                return Err(verification("verify", name, why, "do not rely on this report"));
            }
        }
        Ok(())
    }
}
