//! The audit log's chain: what a vault writes, and what anybody who has the file can check without
//! one.
//!
//! Each line is a JSON object that counts from 1 (`sequence`) and holds the SHA-256 of the line
//! before it (`previous`); a reader that knows no more than that finds every line that was changed,
//! removed, added or moved.

use std::io::{self, BufRead};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The link of the first line.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line that is read, in bytes: far above what a vault writes.
pub const LONGEST_LINE: u64 = 1 << 20;

/// SHA-256 as the log writes it, lower-case hex: of a line without its newline, or of a message that
/// was signed.
pub fn hash(bytes: &[u8]) -> String {
    // Not by `hex`, which pushes one character after the other.
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

/// A chain up to its last good line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Lines whose link holds.
    pub records: u64,
    /// The last such line's hash; [`GENESIS`] where there is none.
    pub head: String,
}

/// What a check of a whole log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// As far as it holds.
    pub chain: Chain,
    /// Where and why it does not hold any further; `None` where it does to its end.
    pub problem: Option<String>,
}

/// What of a line makes the chain.
#[derive(Deserialize)]
struct Link {
    sequence: u64,
    previous: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self { records: 0, head: GENESIS.to_owned() }
    }
}

impl Chain {
    /// Takes the next line, without its newline.
    ///
    /// # Errors
    /// Why it is not the next; the chain is as it was then.
    pub fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let link: Link = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let expected = self.records + 1;
        if link.sequence != expected {
            return Err(format!("its number is {}, not {expected}", link.sequence));
        }
        if link.previous != self.head {
            return Err("its link does not match the record before it".to_owned());
        }
        self.records = expected;
        self.head = hash(line);
        Ok(())
    }

    /// Where and why the next line is not the next.
    pub fn problem(&self, why: &str) -> String {
        format!("line {}: {why}", self.records + 1)
    }
}

/// Checks a log to its end.
///
/// # Errors
/// Where it cannot be read; a chain that does not hold is in the report.
pub fn check(log: &mut impl BufRead) -> io::Result<Report> {
    let mut chain = Chain::default();
    loop {
        let mut line = Vec::new();
        io::Read::take(&mut *log, LONGEST_LINE + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(Report { chain, problem: None });
        }
        let taken = match line.strip_suffix(b"\n") {
            Some(body) => chain.take(body),
            None if line.len() as u64 > LONGEST_LINE => Err("it is too long".to_owned()),
            None => Err("it is cut off".to_owned()),
        };
        if let Err(why) = taken {
            let problem = Some(chain.problem(&why));
            return Ok(Report { chain, problem });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: usize) -> Vec<String> {
        let (mut all, mut previous) = (Vec::new(), GENESIS.to_owned());
        for sequence in 1..=lines {
            let line = format!("{{\"sequence\":{sequence},\"x\":0,\"previous\":\"{previous}\"}}");
            previous = hash(line.as_bytes());
            all.push(line);
        }
        all
    }

    fn problem(lines: &[String]) -> Option<String> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        check(&mut text.as_bytes()).expect("readable").problem
    }

    #[test]
    fn a_whole_log_holds_and_has_a_head() {
        assert_eq!(problem(&[]), None);
        let lines = log(5);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let report = check(&mut text.as_bytes()).expect("readable");
        let head = hash(lines[4].as_bytes());
        assert_eq!(report, Report { chain: Chain { records: 5, head }, problem: None });
    }

    #[test]
    fn what_was_done_to_a_log_is_found_at_its_line() {
        type Change = fn(&mut Vec<String>);
        let changes: [(&str, Change, &str); 5] = [
            ("changed", |log| log[2] = log[2].replace("\"x\":0", "\"x\":1"), "line 4: its link"),
            ("removed", |log| drop(log.remove(2)), "line 3: its number is 4, not 3"),
            ("moved", |log| log.swap(1, 2), "line 2: its number is 3, not 2"),
            ("doubled", |log| log.insert(2, log[1].clone()), "line 3: its number is 2, not 3"),
            ("no record", |log| log[2] = "{}".to_owned(), "line 3: missing field"),
        ];
        for (what, change, expected) in changes {
            let mut lines = log(5);
            change(&mut lines);
            let found = problem(&lines).unwrap_or_default();
            assert!(found.starts_with(expected), "{what}: {found}");
        }
    }

    #[test]
    fn a_last_line_without_its_end_is_said() {
        let text = format!("{}\n{}", log(2)[0], log(2)[1]);
        let report = check(&mut text.as_bytes()).expect("readable");
        assert_eq!(report.problem.as_deref(), Some("line 2: it is cut off"));
        assert_eq!(report.chain.records, 1);
    }
}
