//! Results: a table for people, JSON for programs. The same fields feed both.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use prost_types::Timestamp;
use serde::Serialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use vault_proto::v1;

use crate::error::{Error, Result};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Something that can be shown in both ways.
pub trait Row: Serialize {
    /// The table's header.
    const HEADER: &'static [&'static str];
    /// One line of it.
    fn cells(&self) -> Vec<String>;
}

/// Writes to stdout.
///
/// # Errors
/// Where stdout is closed.
pub fn text(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|e| Error::local("write", "the result", e))
}

/// A line for people, to stderr.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How far long work has come, on stderr and only on a terminal; its line goes when it ends.
pub struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Of this work.
    pub fn new(what: &'static str) -> Self {
        Self { what, shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// So many bytes are done.
    pub fn bytes(&mut self, done: u64) {
        let often = Duration::from_millis(100);
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= often) {
            self.shown = Some(Instant::now());
            let (whole, tenths) = (done >> 20, ((done % (1 << 20)) * 10) >> 20);
            let _ = write!(std::io::stderr(), "\r{}: {whole}.{tenths} MiB", self.what);
        }
    }

    /// So many of so many are done of one of several stages.
    pub fn stage(&mut self, stage: &str, done: u64, total: u64) {
        if self.terminal {
            self.shown = Some(Instant::now());
            let percent = done.saturating_mul(100) / total.max(1);
            let what = self.what;
            let _ = write!(
                std::io::stderr(),
                "\r{what}: {stage} {done} of {total} ({percent} %)\u{1b}[K"
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// JSON, one object or one array.
///
/// # Errors
/// Where stdout is closed.
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    let rendered =
        serde_json::to_string_pretty(value).map_err(|e| Error::local("encode", "the result", e))?;
    text(&format!("{rendered}\n"))
}

/// A list: a table, or an array.
///
/// # Errors
/// Where stdout is closed.
pub fn list<T: Row>(format: Format, rows: &[T]) -> Result<()> {
    match format {
        Format::Json => json(&rows),
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(T::HEADER.iter().copied());
            for row in rows {
                table.add_row(row.cells());
            }
            text(&format!("{}\n", table.trim_fmt()))
        }
    }
}

/// One thing: its fields line by line, or an object.
///
/// # Errors
/// Where stdout is closed.
pub fn one<T: Serialize>(format: Format, thing: &T) -> Result<()> {
    if format == Format::Json {
        return json(thing);
    }
    let value = serde_json::to_value(thing).map_err(|e| Error::local("encode", "the result", e))?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    add_fields(&mut table, "", &value);
    text(&format!("{}\n", table.trim_fmt()))
}

/// Fields as `name: value`, nested ones as `outer.inner`.
fn add_fields(table: &mut Table, prefix: &str, value: &Value) {
    let name = |key: &str| match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                add_fields(table, &name(key), value);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                add_fields(table, &name(&at.to_string()), item);
            }
        }
        value => {
            table.add_row([prefix.to_owned(), plain(value)]);
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.trim_end().to_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A time as RFC 3339, UTC; `None` where there is none.
pub fn time(at: Option<Timestamp>) -> Option<String> {
    let at = at?;
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// A time for a table, to the second.
pub fn short(at: &Option<String>) -> String {
    let Some(text) = at else { return "-".to_owned() };
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.clone(),
    }
}

/// An algorithm's name in the contract.
pub fn algorithm(algorithm: v1::KeyAlgorithm) -> &'static str {
    match algorithm {
        v1::KeyAlgorithm::Unspecified => "",
        v1::KeyAlgorithm::EcP256 => "ec-p256",
        v1::KeyAlgorithm::EcP384 => "ec-p384",
        v1::KeyAlgorithm::Rsa2048 => "rsa-2048",
        v1::KeyAlgorithm::Rsa3072 => "rsa-3072",
        v1::KeyAlgorithm::Rsa4096 => "rsa-4096",
        v1::KeyAlgorithm::Ed25519 => "ed25519",
    }
}

/// Escrow's name in the contract.
pub fn escrow(escrow: v1::Escrow) -> &'static str {
    match escrow {
        v1::Escrow::Wrapped => "wrapped",
        _ => "none",
    }
}

/// Custody's name in the contract.
pub fn custody(custody: v1::Custody) -> &'static str {
    match custody {
        v1::Custody::Agent => "agent",
        _ => "vault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        let text = time(Some(at));
        assert_eq!(text.as_deref(), Some("2023-11-14T22:13:20.005Z"));
        assert_eq!(short(&text), "2023-11-14T22:13:20Z");
        assert_eq!(short(&None), "-");
    }

    #[test]
    fn nothing_is_a_dash_and_lists_are_one_line() {
        assert_eq!(plain(&Value::Null), "-");
        assert_eq!(plain(&serde_json::json!(["a", "b"])), "a, b");
    }
}
