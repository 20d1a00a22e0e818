//! What a record says.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::named::named_enum;

named_enum!(
    /// Which side of an operation a record stands on.
    Phase, "audit phase" {
        /// Before: durable before the HSM or a CA is asked.
        Intent = "intent",
        /// After.
        Result = "result",
        /// Something that has one side only.
        Event = "event",
    }
);

named_enum!(
    /// How an operation ended.
    Outcome, "audit outcome" {
        /// As asked.
        Ok = "ok",
        /// Not authorized.
        Denied = "denied",
        /// It failed; nothing was done.
        Failed = "failed",
        /// The vault stopped in between; start-up looked for what was done and says it in `detail`.
        Unknown = "unknown",
    }
);

impl Outcome {
    /// How something ended that is done or has failed, and what its record says of that: `more`, or why.
    pub fn of<T, E: Display>(done: &Result<T, E>, more: impl FnOnce(&T) -> Value) -> (Self, Value) {
        match done {
            Ok(done) => (Self::Ok, more(done)),
            Err(error) => (Self::Failed, json!({ "error": error.to_string() })),
        }
    }
}

/// What else a record says: a JSON object. Never holds a secret.
#[derive(Debug, Clone)]
pub struct Detail(Said);

#[derive(Debug, Clone)]
enum Said {
    Value(Value),
    Written(Box<RawValue>),
}

impl Detail {
    /// This as JSON, its fields in their order: for records of which there are thousands a second.
    ///
    /// # Errors
    /// `Internal` where it is no JSON.
    pub fn of(detail: &impl Serialize) -> Result<Self> {
        Ok(Self(Said::Written(written(detail)?)))
    }

    pub(super) fn into_json(self) -> Result<Box<RawValue>> {
        match self.0 {
            Said::Value(value) => written(&value),
            Said::Written(json) => Ok(json),
        }
    }
}

impl From<Value> for Detail {
    fn from(value: Value) -> Self {
        Self(Said::Value(value))
    }
}

fn written(detail: &impl Serialize) -> Result<Box<RawValue>> {
    to_raw_value(detail).map_err(|e| Error::internal("write", "an audit record", e))
}

/// What to record.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who: a SPIFFE id, `local:UID` for the admin socket, or `vault:ROOM`.
    pub principal: String,
    /// What, for example `key.generate`, `key.sign.jws`.
    pub action: String,
    /// On what, for example `key/0190...`.
    pub resource: String,
    /// More.
    pub detail: Detail,
    /// Written before anything else happens as any record is, but its sync to the disk may be
    /// shared with what follows soon ([`Sync::Interval`](super::Sync)): for signatures of which
    /// there are thousands a second.
    pub grouped: bool,
}

/// One record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position from 1, without gaps.
    pub sequence: u64,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Which side.
    pub phase: Phase,
    /// Who.
    pub principal: String,
    /// What.
    pub action: String,
    /// On what.
    pub resource: String,
    /// How it ended; absent on an intent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<Outcome>,
    /// Ties a result to its intent; absent on an event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
    /// More.
    pub detail: serde_json::Value,
    /// SHA-256 of the line before this (without its newline), lower-case hex; 64 zeros at first.
    pub previous: String,
}

/// A record, and its line as it stands in the log: whoever is given the lines can verify their chain.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What the line says.
    pub record: Record,
    /// The line, without its newline.
    pub line: String,
}

impl Stored {
    /// Reads a line.
    pub(super) fn read(line: String) -> serde_json::Result<Self> {
        Ok(Self { record: serde_json::from_str(&line)?, line })
    }
}
