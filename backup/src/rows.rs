//! The rows of a backup: the store's columns by name, as the store has them. A time is in
//! microseconds since 1970, bytes are base64, a list is JSON in a text.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;
use vault_proto::ids::{AccountName, AgentName, CertificateName, KeyId, OrderId};

/// The tables in the order of their parts: nothing refers to what comes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Facts about the vault.
    Settings,
    /// Keys, each with its status and its wrapped private half.
    Keys,
    /// ACME accounts.
    Accounts,
    /// Agents.
    Agents,
    /// Identities that the internal CA issued.
    Identities,
    /// Certificates.
    Certificates,
    /// Their versions and chains.
    Versions,
    /// Orders.
    Orders,
    /// Which certificate goes to which agent.
    Deployments,
    /// The audit log, line by line.
    Audit,
}

impl Table {
    /// Every table in its order.
    pub const ALL: &[Self] = &[
        Self::Settings,
        Self::Keys,
        Self::Accounts,
        Self::Agents,
        Self::Identities,
        Self::Certificates,
        Self::Versions,
        Self::Orders,
        Self::Deployments,
        Self::Audit,
    ];

    /// Its name in parts' names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Keys => "keys",
            Self::Accounts => "accounts",
            Self::Agents => "agents",
            Self::Identities => "identities",
            Self::Certificates => "certificates",
            Self::Versions => "versions",
            Self::Orders => "orders",
            Self::Deployments => "deployments",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a key after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatus {
    /// It is in the backup, wrapped by the KEK.
    #[serde(rename = "wrapped")]
    Wrapped,
    /// It is not escrowed: what it is for is issued anew with another key.
    #[serde(rename = "none: re-issue")]
    Reissue,
    /// It was destroyed or lost before; the row is evidence.
    #[serde(rename = "gone")]
    Gone,
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrapped => "wrapped",
            Self::Reissue => "none: re-issue",
            Self::Gone => "gone",
        })
    }
}

/// A private key as the HSM wrapped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapped {
    /// `aes-key-wrap-pad` (CKM_AES_KEY_WRAP_PAD) or `aes-cbc-pad` (CKM_AES_CBC_PAD).
    pub mechanism: String,
    /// The KEK that it is wrapped by.
    pub kek: KeyId,
    /// Where the mechanism has one; base64.
    pub iv: String,
    /// The wrapped PKCS#8; base64.
    pub blob: String,
}

/// A key's line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Its row.
    pub row: KeyRow,
    /// What becomes of it after a loss.
    pub status: KeyStatus,
    /// Its private half; there exactly where the status is `wrapped`.
    pub wrapped: Option<Wrapped>,
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[allow(missing_docs)] // a column of that name
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $(pub $field: $type,)* }
    )*};
}

rows! {
    /// A fact.
    SettingRow { name: String, value: String, }
    /// A key.
    KeyRow {
        id: KeyId, name: String, version: u32, purpose: Word, algorithm: Word, escrow: Word,
        state: Word, spki: Bytes, labels: Json<std::collections::BTreeMap<String, String>>,
        created_at: i64,
    }
    /// An account.
    AccountRow {
        name: AccountName, directory: Url, url: Option<Url>, status: Word,
        contacts: Json<Vec<String>>, next_contacts: Option<Json<Vec<String>>>, key_id: KeyId,
        next_key_id: Option<KeyId>,
        eab_kid: Option<String>, ca_root_pem: Option<String>, created_at: i64,
        last_ok_at: Option<i64>, last_error: Option<String>,
    }
    /// An agent.
    AgentRow {
        name: AgentName, status: Word, identity_not_after: Option<i64>,
        last_seen_at: Option<i64>, software_version: String, created_at: i64,
        windows: Json<Vec<String>>,
    }
    /// An identity.
    IdentityRow { serial: String, spiffe_id: String, not_after: i64, revoked_at: Option<i64>, }
    /// A certificate.
    CertificateRow {
        name: CertificateName, account: AccountName, identifiers: Json<Vec<String>>,
        challenge: Word, custody: Word, algorithm: Word, profile: Option<String>,
        must_staple: i64, tls_use: Word, rotate_key: i64,
        fallback: Json<Vec<AccountName>>, preferred_chain: Option<String>, ca_place: u32,
        ca_failures: u32, canary: Option<AgentName>, status: Word, current_version: u64,
        key_id: Option<KeyId>, renew_at: i64, failed_attempts: u32, last_error: Option<String>,
        created_at: i64, windows: Json<Vec<String>>, requested: i64, asked_anew: i64,
    }
    /// A version of a certificate.
    VersionRow {
        certificate: CertificateName, version: u64, account: AccountName, chain_pem: String,
        serial: String, not_before: i64, not_after: i64, fingerprint: String, key_id: Option<KeyId>,
        issued_at: i64, revoked: Option<String>,
    }
    /// An order.
    OrderRow {
        id: OrderId, certificate: CertificateName, version: u64, account: AccountName,
        state: Word, url: Option<Url>, csr: Option<Bytes>, key_id: Option<KeyId>,
        error: Option<String>, created_at: i64, updated_at: i64,
    }
    /// A deployment.
    DeploymentRow {
        certificate: CertificateName, agent: AgentName, held_version: u64, status: Word,
        detail: String, updated_at: i64,
    }
}

/// A primary key: one or two names, or a name and a number.
pub(crate) type RowKey = (String, String, u64);

/// A row, parsed.
#[allow(missing_docs)] // each is of the table of that name
#[derive(Debug, Clone)]
pub enum Entry {
    Setting(SettingRow),
    Key(Box<KeyEntry>),
    Account(Box<AccountRow>),
    Agent(AgentRow),
    Identity(IdentityRow),
    Certificate(Box<CertificateRow>),
    Version(Box<VersionRow>),
    Order(Box<OrderRow>),
    Deployment(DeploymentRow),
    Audit,
}

impl Entry {
    /// Parses a line; the audit log's are left to its chain.
    pub(crate) fn parse(table: Table, line: &[u8]) -> Result<Self, String> {
        fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
            serde_json::from_slice(line).map_err(|e| e.to_string())
        }
        Ok(match table {
            Table::Settings => Self::Setting(read(line)?),
            Table::Keys => Self::Key(read(line)?),
            Table::Accounts => Self::Account(read(line)?),
            Table::Agents => Self::Agent(read(line)?),
            Table::Identities => Self::Identity(read(line)?),
            Table::Certificates => Self::Certificate(read(line)?),
            Table::Versions => Self::Version(read(line)?),
            Table::Orders => Self::Order(read(line)?),
            Table::Deployments => Self::Deployment(read(line)?),
            Table::Audit => Self::Audit,
        })
    }

    /// Its primary key, which grows from row to row; nothing for the audit log.
    pub(crate) fn key(&self) -> Option<RowKey> {
        let one = |name: &dyn ToString| Some((name.to_string(), String::new(), 0));
        match self {
            Self::Setting(row) => one(&row.name),
            Self::Key(entry) => one(&entry.row.id),
            Self::Account(row) => one(&row.name),
            Self::Agent(row) => one(&row.name),
            Self::Identity(row) => one(&row.serial),
            Self::Certificate(row) => one(&row.name),
            Self::Version(row) => Some((row.certificate.to_string(), String::new(), row.version)),
            Self::Order(row) => one(&row.id),
            Self::Deployment(row) => Some((row.certificate.to_string(), row.agent.to_string(), 0)),
            Self::Audit => None,
        }
    }
}

/// One of a few words, `ec-p256` for example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match !text.is_empty() && text.chars().all(fits) {
            true => Ok(Self(text)),
            false => Err(de::Error::custom(format!("{text:?} is no word of the vault's"))),
        }
    }
}

/// Bytes, base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        B64.decode(String::deserialize(from)?).map(Self).map_err(de::Error::custom)
    }
}

/// JSON in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<'de, T: de::DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map(Self).map_err(de::Error::custom)
    }
}
