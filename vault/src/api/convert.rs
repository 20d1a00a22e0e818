//! Records to messages and back; what agents' messages have, too, is in `wire`.

use prost_types::Timestamp;
use time::OffsetDateTime;
use vault_proto::v1;

use crate::error::{Error, Result};
use crate::keystore::{Algorithm, Escrow};
use crate::store::{
    AccountRecord, Custody, DeploymentRecord, Identifier, KeyRecord, MaintenanceWindow,
    VersionRecord,
};

/// A time on the wire.
pub(super) fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).unwrap_or(0) }
}

/// A time off the wire.
pub(super) fn time_of(at: Timestamp) -> Result<OffsetDateTime> {
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|e| Error::invalid("read", "a time", e))
}

/// An algorithm off the wire; `None` where it is not set.
pub(super) fn algorithm(wire: v1::KeyAlgorithm) -> Option<Algorithm> {
    match wire {
        v1::KeyAlgorithm::Unspecified => None,
        v1::KeyAlgorithm::EcP256 => Some(Algorithm::EcP256),
        v1::KeyAlgorithm::EcP384 => Some(Algorithm::EcP384),
        v1::KeyAlgorithm::Rsa2048 => Some(Algorithm::Rsa2048),
        v1::KeyAlgorithm::Rsa3072 => Some(Algorithm::Rsa3072),
        v1::KeyAlgorithm::Rsa4096 => Some(Algorithm::Rsa4096),
        v1::KeyAlgorithm::Ed25519 => Some(Algorithm::Ed25519),
    }
}

/// Escrow off the wire; `None` where it is not set.
pub(super) fn escrow(wire: v1::Escrow) -> Option<Escrow> {
    match wire {
        v1::Escrow::Unspecified => None,
        v1::Escrow::Wrapped => Some(Escrow::Wrapped),
        v1::Escrow::None => Some(Escrow::None),
    }
}

/// Custody off the wire; `Vault` where it is not set.
pub(super) fn custody(wire: v1::Custody) -> Custody {
    match wire {
        v1::Custody::Agent => Custody::Agent,
        v1::Custody::Vault | v1::Custody::Unspecified => Custody::Vault,
    }
}

/// The most identifiers of one request: public CAs take 100, some private ones more.
const MOST_IDENTIFIERS: usize = 1000;

/// Identifiers from the two lists that requests have; duplicates are an error, as is none.
pub(super) fn identifiers(domains: &[String], ips: &[String]) -> Result<Vec<Identifier>> {
    let invalid = |why: String| Error::invalid("read", "the identifiers", why);
    let count = domains.len() + ips.len();
    if count > MOST_IDENTIFIERS {
        return Err(invalid(format!("there are {count}, {MOST_IDENTIFIERS} are the most"))
            .hint("split them over several certificates"));
    }
    let mut all = Vec::new();
    for domain in domains {
        all.push(Identifier::dns(domain)?);
    }
    for ip in ips {
        all.push(Identifier::ip(ip)?);
    }
    if all.is_empty() {
        return Err(invalid("there is neither a domain nor an IP address".to_owned())
            .hint("name at least one with --domain or --ip"));
    }
    for (at, identifier) in all.iter().enumerate() {
        if all.iter().take(at).any(|other| other == identifier) {
            return Err(invalid(format!("{identifier} is named twice")));
        }
    }
    Ok(all)
}

/// The most maintenance windows of one thing: one for each hour of a week.
const MOST_WINDOWS: usize = 168;

/// Maintenance windows off the wire.
pub(super) fn windows(texts: &[String]) -> Result<Vec<MaintenanceWindow>> {
    if texts.len() > MOST_WINDOWS {
        let why = format!("there are {}, {MOST_WINDOWS} are the most", texts.len());
        return Err(Error::invalid("read", "the maintenance windows", why));
    }
    texts.iter().map(|text| text.parse()).collect()
}

impl From<KeyRecord> for v1::Key {
    fn from(key: KeyRecord) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            version: key.version.into(),
            algorithm: v1::KeyAlgorithm::from(key.algorithm).into(),
            purpose: key.purpose.to_string(),
            escrow: match key.escrow {
                Escrow::Wrapped => v1::Escrow::Wrapped,
                Escrow::None => v1::Escrow::None,
            }
            .into(),
            state: key.state.to_string(),
            public_key_der: key.spki_der,
            labels: key.labels.into_iter().collect(),
            created_at: Some(timestamp(key.created_at)),
        }
    }
}

/// An account with its thumbprint, which is computed from its key.
pub(super) fn account(account: AccountRecord, thumbprint: String) -> v1::Account {
    v1::Account {
        name: account.name.to_string(),
        directory: account.directory.to_string(),
        url: account.url.map(String::from).unwrap_or_default(),
        contacts: account.contacts,
        status: account.status.to_string(),
        key_id: account.key_id.to_string(),
        thumbprint,
        eab_kid: account.eab_kid.unwrap_or_default(),
        created_at: Some(timestamp(account.created_at)),
        contacts_pending: account.next_contacts.is_some(),
        pending_contacts: account.next_contacts.unwrap_or_default(),
        ca: None,
    }
}

impl From<DeploymentRecord> for v1::Deployment {
    fn from(deployment: DeploymentRecord) -> Self {
        Self {
            agent: deployment.agent.to_string(),
            held_version: deployment.held_version,
            status: deployment.status.to_string(),
            detail: deployment.detail,
            updated_at: Some(timestamp(deployment.updated_at)),
            wanted_version: 0,
        }
    }
}

impl From<VersionRecord> for v1::CertificateVersion {
    fn from(version: VersionRecord) -> Self {
        Self {
            version: version.version,
            account: version.account.to_string(),
            serial: version.serial,
            not_before: Some(timestamp(version.not_before)),
            not_after: Some(timestamp(version.not_after)),
            issued_at: Some(timestamp(version.issued_at)),
            fingerprint: version.fingerprint,
            revoked: version.revoked.unwrap_or_default(),
        }
    }
}
