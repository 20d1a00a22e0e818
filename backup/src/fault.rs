//! What can be wrong with a backup and with what it is opened by.

use crate::{Table, writer};

/// Why a backup does not hold or cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What was given to open it by is wrong: an identity, a recipient, a share's file.
    #[error("{why}")]
    Given {
        /// Why.
        why: String,
    },
    /// It was changed, cut, put together anew, or is something else.
    #[error("{place}: {why}")]
    Broken {
        /// Where: a member, a line of it, or a place in the file.
        place: String,
        /// Which rows that concerns, where it does not concern the whole.
        table: Option<Table>,
        /// Why it does not hold.
        why: String,
    },
}

impl Fault {
    /// What was given is wrong.
    pub fn given(why: impl ToString) -> Self {
        Self::Given { why: plain(&why.to_string()) }
    }

    /// It does not hold at a place.
    pub fn broken(place: impl Into<String>, why: impl ToString) -> Self {
        let place = place.into();
        let member = place.split([' ', ',']).next().unwrap_or_default();
        let table = writer::table_of(member);
        Self::Broken { place, table, why: plain(&why.to_string()) }
    }

    /// It concerns these rows, though it is seen elsewhere.
    #[must_use]
    pub(crate) fn of(self, rows: Table) -> Self {
        match self {
            Self::Broken { place, why, .. } => Self::Broken { place, table: Some(rows), why },
            given @ Self::Given { .. } => given,
        }
    }

    /// Whether it concerns these rows.
    pub fn is_of(&self, rows: Table) -> bool {
        matches!(self, Self::Broken { table: Some(table), .. } if *table == rows)
    }
}

/// Without the marks that age's messages carry around what they quote.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\u{2068}' | '\u{2069}')).collect()
}
