//! What a drill says while it goes on: a line of JSON for each thing, from the process that holds it
//! to the one that reports it.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Counts, Facts};

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What the backup says of itself: the first line.
    Facts(Facts),
    /// How far it has come.
    Progress {
        /// Bytes of the file that were read.
        bytes: u64,
        /// Keys that were unwrapped.
        keys: u64,
    },
    /// A key in use.
    Key(Key),
    /// A certificate's current version.
    Certificate(Certificate),
    /// A part of the work is done.
    Phase(Phase),
    /// A check is done.
    Check(Check),
    /// Everything was looked at: the last line.
    End(End),
}

/// What was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// Manifest, hashes, format: the whole file to its last bit.
    Archive,
    /// The KEK is the one that the backup's keys are under.
    Kek,
    /// Every row stands in an empty store and reads back as it was.
    Store,
    /// Every wrapped key unwraps with its restrictions and signs what its public key verifies.
    Keys,
    /// The internal CA's key is the root certificate's.
    Ca,
    /// Certificates' chains are whole and in date, and their keys are those that were proven.
    Chains,
    /// The audit log's chain holds up to its checkpoint.
    Audit,
    /// For every key that is not escrowed it is said what becomes of what it is for.
    Reissue,
    /// The backup is what the vault has on record of it.
    Record,
}

impl Name {
    /// Every check, in the order of a report.
    pub const ALL: &[Self] = &[
        Self::Archive,
        Self::Kek,
        Self::Store,
        Self::Keys,
        Self::Ca,
        Self::Chains,
        Self::Audit,
        Self::Reissue,
        Self::Record,
    ];

    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Kek => "kek",
            Self::Store => "store",
            Self::Keys => "keys",
            Self::Ca => "ca",
            Self::Chains => "chains",
            Self::Audit => "audit",
            Self::Reissue => "reissue",
            Self::Record => "record",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is proven.
    Ok,
    /// It is not, or could not be reached because of what failed before.
    Failed,
    /// Nobody could be asked.
    NotAsked,
}

impl Status {
    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotAsked => "not-asked",
        }
    }
}

/// A check and how it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: Name,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
}

impl Check {
    /// It is proven.
    pub fn ok(name: Name, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into() }
    }

    /// It is not.
    pub fn failed(name: Name, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Failed, detail: detail.into() }
    }
}

/// A key in use, and what a restore has of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it may sign.
    pub purpose: String,
    /// Its algorithm.
    pub algorithm: String,
    /// `proven`, `failed`, or `re-issue` for one that is not escrowed.
    pub outcome: KeyOutcome,
    /// Why it failed, or what becomes of what it is for.
    pub detail: String,
}

/// What a restore has of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyOutcome {
    /// It was unwrapped and has signed.
    Proven,
    /// It was not, or has not.
    Failed,
    /// It is not escrowed: what it is for is issued anew.
    ReIssue,
}

impl KeyOutcome {
    /// As it stands in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Failed => "failed",
            Self::ReIssue => "re-issue",
        }
    }
}

/// A certificate's current version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// Its name.
    pub name: String,
    /// Which version.
    pub version: u64,
    /// Who has its key: `vault` or `agent`.
    pub custody: String,
    /// Its end.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// Certificates in its chain.
    pub chain_length: u64,
    /// Whether chain and key hold.
    pub ok: bool,
    /// Why they do not; empty where they do.
    pub detail: String,
}

/// A part of the work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether a restore does it, too: its time counts.
    pub restore: bool,
}

/// What was there to look at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct End {
    /// How much of each thing; nothing where the backup does not hold.
    pub counts: Option<Counts>,
    /// Keys that were proven.
    pub keys_proven: u64,
}
