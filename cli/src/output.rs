//! Results: a table for people, JSON for programs. The same fields feed both.

use std::io::Write as _;

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
            let mut table = bare();
            table.set_header(T::HEADER.iter().copied());
            for row in rows {
                table.add_row(row.cells());
            }
            text(&format!("{}\n", table.trim_fmt()))
        }
    }
}

/// One thing: its fields line by line and below them a table for each list of things in it, or an object.
///
/// # Errors
/// Where stdout is closed.
pub fn one<T: Serialize>(format: Format, thing: &T) -> Result<()> {
    if format == Format::Json {
        return json(thing);
    }
    let value = serde_json::to_value(thing).map_err(|e| Error::local("encode", "the result", e))?;
    text(&for_people(&value))
}

fn for_people(value: &Value) -> String {
    let mut table = bare();
    let mut lists = Vec::new();
    for (name, value) in fields("", value) {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => lists.push((name, items)),
            value => drop(table.add_row([name, plain(value)])),
        }
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for (name, items) in lists {
        text.push_str(&format!("\n {name}\n{}\n", rows(items).trim_fmt()));
    }
    text
}

/// Fields as `name`, nested ones as `outer.inner`.
fn fields<'a>(prefix: &str, value: &'a Value) -> Vec<(String, &'a Value)> {
    let Value::Object(object) = value else { return vec![(prefix.to_owned(), value)] };
    let name = |key: &str| match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    };
    object.iter().flat_map(|(key, value)| fields(&name(key), value)).collect()
}

/// A table of things that need not have all the same fields.
fn rows(items: &[Value]) -> Table {
    let items: Vec<Vec<_>> = items.iter().map(|item| fields("", item)).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in items.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut table = bare();
    table.set_header(names.iter().map(|name| name.replace('_', " ").to_uppercase()));
    for item in &items {
        let found = |name: &&str| item.iter().find(|(other, _)| other == name);
        let cell = |name| found(name).map_or_else(|| "-".to_owned(), |(_, value)| plain(value));
        table.add_row(names.iter().map(cell));
    }
    table
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
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

    #[test]
    fn lists_of_things_are_tables_of_their_own() {
        let thing = serde_json::json!({
            "name": "shop",
            "deployments": [{ "agent": "web1", "held_version": 2 }, { "agent": "web2", "error": "no" }],
            "ca": { "url": null },
        });
        let shown = for_people(&thing);
        let lines: Vec<_> =
            shown.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(
            lines,
            [
                vec!["ca.url", "-"],
                vec!["name", "shop"],
                vec![],
                vec!["deployments"],
                vec!["AGENT", "HELD", "VERSION", "ERROR"],
                vec!["web1", "2", "-"],
                vec!["web2", "-", "no"],
            ]
        );
    }
}
