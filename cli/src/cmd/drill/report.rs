//! A drill's report: `report.json` for programs, `report.html` for people, and beside them what the
//! vault has signed of both.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use vault_backup::{
    Counts, Facts,
    drill::{Certificate, Check, Key, Phase, Status},
};
use vault_custody::drill as statement;
use vault_proto::v1;

use super::{child::Found, page};
use crate::error::{Error, Result};
use crate::{files, output};

/// For programs.
pub(super) const JSON: &str = "report.json";
/// For people.
pub(super) const HTML: &str = "report.html";

/// Everything that a drill has found.
#[derive(Serialize)]
pub(super) struct Report {
    format: &'static str,
    version: u32,
    pub(super) drill_id: String,
    pub(super) ok: bool,
    pub(super) started_at: Option<String>,
    pub(super) software: &'static str,
    pub(super) backup: Backup,
    /// Whether shares or a token that has the KEK have opened the keys.
    pub(super) opened_by: &'static str,
    pub(super) checks: Vec<Check>,
    pub(super) keys_proven: u64,
    /// How long the restore took.
    pub(super) rto_seconds: f64,
    /// How old the data were when the drill began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rpo_seconds: Option<f64>,
    /// How old they may become before the next backup, by the vault's schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rpo_worst_seconds: Option<f64>,
    pub(super) phases: Vec<Phase>,
    pub(super) keys: Vec<Key>,
    pub(super) certificates: Vec<Certificate>,
    /// Drills before this one, the oldest first.
    pub(super) past: Vec<Past>,
}

/// The backup.
#[derive(Serialize)]
pub(super) struct Backup {
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) vault_id: String,
    pub(super) created_at: Option<String>,
    pub(super) software: String,
    pub(super) kek_check_value: String,
    pub(super) audit_sequence: u64,
    pub(super) audit_head: String,
    pub(super) counts: Option<Counts>,
}

/// A drill before this one.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Past {
    pub(super) id: String,
    pub(super) at: Option<String>,
    pub(super) ok: bool,
    pub(super) rto_seconds: f64,
    pub(super) rpo_seconds: f64,
}

impl From<v1::Drill> for Past {
    fn from(drill: v1::Drill) -> Self {
        Self {
            id: drill.id,
            at: output::time(drill.recorded_at),
            ok: drill.ok,
            rto_seconds: seconds(drill.rto_milliseconds),
            rpo_seconds: seconds(drill.rpo_milliseconds),
        }
    }
}

/// What a report is made of, besides what was found.
pub(super) struct About {
    pub(super) drill_id: String,
    pub(super) started_at: OffsetDateTime,
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) by_token: bool,
    pub(super) past: Vec<Past>,
    pub(super) rpo_worst_seconds: Option<f64>,
}

impl Report {
    /// Puts it together.
    pub(super) fn new(about: About, mut found: Found) -> Self {
        found.checks.sort_by_key(|check| check.name);
        let restored = found.phases.iter().filter(|phase| phase.restore);
        let age = |facts: &Facts| (about.started_at - facts.created_at).as_seconds_f64().max(0.0);
        let facts = found.facts.as_ref();
        let kek = facts.and_then(|facts| facts.kek.as_ref());
        Self {
            format: "keyvault-drill-report",
            version: 1,
            drill_id: about.drill_id,
            ok: !found.checks.iter().any(|check| check.status == Status::Failed),
            started_at: about.started_at.format(&Rfc3339).ok(),
            software: concat!("vaultctl ", env!("CARGO_PKG_VERSION")),
            opened_by: if about.by_token { "token" } else { "shares" },
            keys_proven: found.end.keys_proven,
            rto_seconds: restored.fold(0.0, |all, phase| all + phase.seconds),
            rpo_seconds: facts.map(age),
            rpo_worst_seconds: about.rpo_worst_seconds,
            backup: Backup {
                file: about.file,
                size: about.size,
                sha256: about.sha256,
                vault_id: facts.map(|facts| facts.vault_id.clone()).unwrap_or_default(),
                created_at: facts.and_then(|facts| facts.created_at.format(&Rfc3339).ok()),
                software: facts.map(|facts| facts.software.clone()).unwrap_or_default(),
                kek_check_value: kek.map(|kek| kek.check_value.clone()).unwrap_or_default(),
                audit_sequence: facts.map_or(0, |facts| facts.audit.sequence),
                audit_head: facts.map(|facts| facts.audit.head.clone()).unwrap_or_default(),
                counts: found.end.counts,
            },
            checks: found.checks,
            phases: found.phases,
            keys: found.keys,
            certificates: found.certificates,
            past: about.past,
        }
    }

    /// Names of the checks that have failed.
    pub(super) fn failed(&self) -> Vec<&'static str> {
        let failed = self.checks.iter().filter(|check| check.status == Status::Failed);
        failed.map(|check| check.name.as_str()).collect()
    }
}

/// The two files of a report, before they are written.
pub(super) struct Files {
    json: Vec<u8>,
    html: Vec<u8>,
}

impl Files {
    /// Both, of one report.
    pub(super) fn of(report: &Report) -> Result<Self> {
        let mut json = serde_json::to_vec_pretty(report)
            .map_err(|e| Error::local("encode", "the report", e))?;
        json.push(b'\n');
        Ok(Self { json, html: page::page(report)?.into_bytes() })
    }

    /// Their SHA-256, in lower-case hex.
    pub(super) fn hashes(&self) -> (String, String) {
        (hex::encode(Sha256::digest(&self.json)), hex::encode(Sha256::digest(&self.html)))
    }
}

/// The directory of a report; gone again where it was made for one that was never written.
pub(super) struct Directory {
    path: PathBuf,
    made: bool,
}

impl Directory {
    /// Makes it, where it is not there, before anything is done.
    ///
    /// # Errors
    /// `Invalid` where it cannot be made or has a report already.
    pub(super) fn new(named: Option<&Path>, drill_id: &str) -> Result<Self> {
        let dir = named.map_or_else(|| PathBuf::from(format!("drill-{drill_id}")), Path::to_owned);
        for file in [JSON, HTML, statement::FILE] {
            files::check_new(&dir.join(file))?;
        }
        let made = !dir.exists();
        // Names of keys and certificates are not everybody's.
        files::create_secret_dir(&dir)?;
        Ok(Self { path: dir, made })
    }

    /// Where it is.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Writes the two files.
    ///
    /// # Errors
    /// Where this machine refuses.
    pub(super) fn write(&self, files: &Files) -> Result<()> {
        files::write_new(&self.path.join(JSON), &files.json, 0o600)?;
        files::write_new(&self.path.join(HTML), &files.html, 0o600)
    }

    /// Writes what the vault has signed.
    ///
    /// # Errors
    /// Where this machine refuses.
    pub(super) fn write_statement(&self, text: &str) -> Result<()> {
        files::write_new(&self.path.join(statement::FILE), text.as_bytes(), 0o600)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.made {
            // Only one that is empty goes.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Milliseconds as seconds.
pub(super) fn seconds(milliseconds: u64) -> f64 {
    std::time::Duration::from_millis(milliseconds).as_secs_f64()
}

/// Seconds as milliseconds.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    let duration = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration for people: `1.3 s`, `2 h 5 m`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} m {} s", whole % 60),
        (0, _) => format!("{hours} h {minutes} m"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_says_as_much_as_people_want_to_know() {
        for (seconds, said) in [
            (0.0, "0.0 s"),
            (1.26, "1.3 s"),
            (61.0, "1 m 1 s"),
            (7500.0, "2 h 5 m"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }
}
