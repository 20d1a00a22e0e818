//! What the agent holds, has installed and sees served, from its own records and a handshake now.

use comfy_table::{Table, presets};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::config::{Config, Install};
use crate::error::Result;
use crate::identity::Identity;
use crate::install::{staple::next_update, transaction::held};
use crate::prove;

/// Everything there is to say.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The agent's SPIFFE id; empty before it is enrolled.
    pub spiffe_id: String,
    /// When its identity ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub identity_not_after: Option<OffsetDateTime>,
    /// One per `[[install]]`.
    pub certificates: Vec<CertificateStatus>,
}

/// One certificate here.
#[derive(Debug, Serialize)]
pub struct CertificateStatus {
    /// Its name.
    pub certificate: String,
    /// The version that is held; 0 for none.
    pub version: u64,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 over its leaf, lower-case hex.
    pub fingerprint: String,
    /// Its end.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// Since when it is held.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// Whether the web server shows it now; absent where no check is configured.
    pub served_now: Option<bool>,
    /// How it was proven, or why it is not served now.
    pub detail: String,
    /// Until when the OCSP response in place holds; absent where there is none.
    #[serde(with = "time::serde::rfc3339::option")]
    pub staple_next_update: Option<OffsetDateTime>,
}

impl Status {
    /// Reads the records and shakes hands with the web servers.
    ///
    /// # Errors
    /// Where the state directory is damaged.
    pub async fn read(config: &Config) -> Result<Self> {
        let identity = match Identity::exists(&config.state_dir) {
            true => Some(Identity::load(&config.state_dir)?),
            false => None,
        };
        let mut certificates = Vec::new();
        for install in &config.install {
            certificates.push(certificate(config, install).await?);
        }
        Ok(Self {
            spiffe_id: identity.as_ref().map(|i| i.spiffe_id()).unwrap_or_default(),
            identity_not_after: identity.as_ref().map(|i| i.not_after()),
            certificates,
        })
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "CERTIFICATE",
            "VERSION",
            "SERIAL",
            "ENDS",
            "SINCE",
            "SERVED",
            "STAPLED UNTIL",
            "DETAIL",
        ]);
        let time = |at: Option<OffsetDateTime>| {
            let format = time::format_description::well_known::Rfc3339;
            at.and_then(|at| at.format(&format).ok()).unwrap_or_default()
        };
        for row in &self.certificates {
            let served = match row.served_now {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            };
            table.add_row([
                row.certificate.clone(),
                row.version.to_string(),
                row.serial.clone(),
                time(row.not_after),
                time(row.since),
                served.to_owned(),
                time(row.staple_next_update),
                row.detail.clone(),
            ]);
        }
        let who = match self.spiffe_id.as_str() {
            "" => "not enrolled".to_owned(),
            id => format!("{id}, until {}", time(self.identity_not_after)),
        };
        format!("{who}\n{table}")
    }
}

async fn certificate(config: &Config, install: &Install) -> Result<CertificateStatus> {
    let name = install.certificate.to_string();
    let held = held(&config.state_dir, &name)?;
    let (served_now, why) = match (&held, &install.check) {
        (Some(held), Some(check)) => {
            match prove::leaf_of(check.address, &check.server_name).await {
                Ok(leaf) if hex::encode(Sha256::digest(&leaf)) == held.fingerprint => {
                    (Some(true), None)
                }
                Ok(_) => (Some(false), Some("another certificate is served".to_owned())),
                Err(error) => (Some(false), Some(error.to_string())),
            }
        }
        _ => (None, None),
    };
    let detail = why.or_else(|| held.as_ref().map(|held| held.proof.clone())).unwrap_or_default();
    Ok(CertificateStatus {
        certificate: name,
        version: held.as_ref().map_or(0, |held| held.version),
        serial: held.as_ref().map(|held| held.serial.clone()).unwrap_or_default(),
        fingerprint: held.as_ref().map(|held| held.fingerprint.clone()).unwrap_or_default(),
        not_after: held.as_ref().map(|held| held.not_after),
        since: held.as_ref().map(|held| held.since),
        served_now,
        detail,
        staple_next_update: next_update(install, OffsetDateTime::now_utc()),
    })
}
