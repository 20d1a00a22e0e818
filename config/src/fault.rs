//! What is wrong with a file, and where.

use std::{fmt, ops::Range};

/// One thing wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line from 1; 0 where the fault is that something is not there at all.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    /// At a place in the text, in bytes; nowhere where there is none.
    pub(crate) fn at(text: &str, place: Option<Range<usize>>, what: impl Into<String>) -> Self {
        let before = |place: Range<usize>| text.bytes().take(place.start);
        let line = place.map_or(0, |place| before(place).filter(|byte| *byte == b'\n').count() + 1);
        Self { line, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}
