//! What a backup says of itself.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use vault_proto::ids::KeyId;

/// What it is.
pub const FORMAT: &str = "keyvault-backup";
/// Which version of the format this crate writes and reads.
pub const VERSION: u32 = 1;

/// What is known before the first row: the first member, and part of the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Whose backup it is.
    pub vault_id: String,
    /// When the store was read: rows are as they were then.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// What wrote it.
    pub software: String,
    /// The version of the store's schema.
    pub schema_version: u64,
    /// What wraps the keys; `None` in a vault that escrows nothing.
    pub kek: Option<Kek>,
    /// As far as the audit log is in it.
    pub audit: Checkpoint,
}

/// The key-encryption key that every wrapped key in a backup is under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kek {
    /// Its id.
    pub id: KeyId,
    /// Tells it from another without telling anything of it; each share carries it, too.
    pub check_value: String,
    /// How many shares rebuild it.
    pub threshold: usize,
    /// Who has them.
    pub custodians: Vec<String>,
}

/// A place in the audit log: everything before it is settled by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Records up to it.
    pub sequence: u64,
    /// The last of them hashed, lower-case hex; 64 zeros where there is none.
    pub head: String,
}

/// One member that holds rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The member's name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 over them, lower-case hex.
    pub sha256: String,
    /// Its rows.
    pub rows: u64,
}

/// How much there is of each thing. Each key's own status stands with its row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Keys, wrapped: a restore has them.
    pub keys_wrapped: u64,
    /// Keys in use that are not escrowed: after a loss they are issued anew.
    pub keys_not_escrowed: u64,
    /// Keys that were destroyed or lost before: rows as evidence.
    pub keys_gone: u64,
    /// Facts about the vault.
    pub settings: u64,
    /// ACME accounts.
    pub accounts: u64,
    /// Agents.
    pub agents: u64,
    /// Identities that the internal CA issued.
    pub identities: u64,
    /// Certificates.
    pub certificates: u64,
    /// Versions of certificates, each with its chain.
    pub versions: u64,
    /// Orders.
    pub orders: u64,
    /// Deployments.
    pub deployments: u64,
    /// Records of the audit log.
    pub audit_records: u64,
}

/// The last member: what everything before it is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// As the first member has them.
    pub facts: Facts,
    /// Every part in its order.
    pub parts: Vec<Part>,
    /// How much there is.
    pub counts: Counts,
}
