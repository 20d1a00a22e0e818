//! Recomputes the chain, line by line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use vault_proto::audit::{Chain, LONGEST_LINE};

use super::{Phase, Record};
use crate::error::{Error, Result};

/// What a check of the whole log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Records whose link holds.
    pub records: u64,
    /// The last such record's hash, lower-case hex; 64 zeros for an empty log.
    pub head: String,
    /// Where and why the chain does not hold; `None` where it does.
    pub problem: Option<String>,
}

/// The state of a log after its last good record.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) report: VerifyReport,
    /// Bytes up to and with the last good record's newline.
    pub(super) good_bytes: u64,
    /// Bytes after it that are no whole line: a torn write.
    pub(super) torn: Vec<u8>,
    /// Intents without a result.
    pub(super) pending: Vec<Record>,
}

/// Reads the whole log.
pub(super) fn scan(path: &Path) -> Result<Scan> {
    let unreadable =
        |e: std::io::Error| Error::unavailable("read", format!("audit log {}", path.display()), e);
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut checker = Checker::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        let Some(body) = line.strip_suffix(b"\n") else {
            checker.torn = line;
            break;
        };
        if let Err(why) = checker.take(body) {
            checker.problem = Some(checker.chain.problem(&why));
            break;
        }
    }
    let Chain { records, head } = checker.chain;
    let report = VerifyReport { records, head, problem: checker.problem };
    let mut scan =
        Scan { report, good_bytes: checker.good_bytes, torn: checker.torn, pending: Vec::new() };
    scan.pending = checker.open.into_values().collect();
    scan.pending.sort_by_key(|record| record.sequence);
    Ok(scan)
}

#[derive(Default)]
struct Checker {
    chain: Chain,
    problem: Option<String>,
    good_bytes: u64,
    torn: Vec<u8>,
    open: BTreeMap<String, Record>,
}

impl Checker {
    fn take(&mut self, body: &[u8]) -> Result<(), String> {
        if body.len() as u64 > LONGEST_LINE {
            return Err(format!("it has {} bytes", body.len()));
        }
        let record: Record = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        // The bytes themselves are linked; this refuses a line that reads the same but is not.
        let canonical = serde_json::to_vec(&record).map_err(|e| e.to_string())?;
        if canonical != body {
            return Err("it is not written as the vault writes".to_owned());
        }
        self.chain.take(body)?;
        self.good_bytes += body.len() as u64 + 1;
        match (record.phase, &record.operation) {
            (Phase::Intent, Some(id)) => {
                self.open.insert(id.clone(), record);
            }
            (Phase::Result, Some(id)) => {
                self.open.remove(id);
            }
            _ => {}
        }
        Ok(())
    }
}
