//! Columns to domain types. A value that does not parse is a fault of the store's content and
//! named by its column.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use sqlx::{Any, Decode, Row as _, Type, any::AnyRow};
use time::OffsetDateTime;

use crate::error::{Error, Result};

/// A time as microseconds since 1970.
pub(super) fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// An optional time as microseconds since 1970.
pub(super) fn opt_micros(at: Option<OffsetDateTime>) -> Option<i64> {
    at.map(micros)
}

/// A count for a BIGINT column.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Free text, from whomever. PostgreSQL keeps no NUL, so neither database does: what a CA or an
/// agent says of a failure must never keep the failure from being recorded.
pub(super) fn text(value: &str) -> String {
    value.replace('\0', "\u{fffd}")
}

/// Optional free text, as [`text`].
pub(super) fn opt_text(value: Option<&str>) -> Option<String> {
    value.map(text)
}

/// A list or map as JSON.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("encode", "a column", e))
}

/// One row, read column by column.
pub(super) struct Columns<'a> {
    row: &'a AnyRow,
    prefix: &'static str,
}

impl<'a> Columns<'a> {
    /// All of them.
    pub(super) fn of(row: &'a AnyRow) -> Self {
        Self { row, prefix: "" }
    }

    /// Those of one of the tables that were joined, whose names begin with this and are asked for without.
    pub(super) fn under(&self, prefix: &'static str) -> Self {
        Self { row: self.row, prefix }
    }

    /// The value of a column, which is NULL or of this type.
    fn value<T: Decode<'a, Any> + Type<Any>>(&self, column: &str) -> Result<T> {
        let name = match self.prefix {
            "" => Cow::Borrowed(column),
            prefix => Cow::Owned([prefix, column].concat()),
        };
        self.row.try_get(&*name).map_err(|e| Self::bad(column, e))
    }

    fn bad(column: &str, why: impl Display) -> Error {
        Error::internal("read", format!("column {column} of the store"), why)
    }

    pub(super) fn text(&self, column: &str) -> Result<String> {
        self.value(column)
    }

    pub(super) fn opt_text(&self, column: &str) -> Result<Option<String>> {
        self.value(column)
    }

    pub(super) fn blob(&self, column: &str) -> Result<Vec<u8>> {
        self.value(column)
    }

    pub(super) fn opt_blob(&self, column: &str) -> Result<Option<Vec<u8>>> {
        self.value(column)
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T> {
        self.text(column)?.parse().map_err(|e| Self::bad(column, e))
    }

    pub(super) fn opt_parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>> {
        let text = self.opt_text(column)?;
        text.map(|text| text.parse().map_err(|e| Self::bad(column, e))).transpose()
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|e| Self::bad(column, e))
    }

    pub(super) fn opt_json<T: serde::de::DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<Option<T>> {
        let text = self.opt_text(column)?;
        let read = text.map(|text| serde_json::from_str(&text)).transpose();
        read.map_err(|e| Self::bad(column, e))
    }

    pub(super) fn int<T: TryFrom<i64>>(&self, column: &str) -> Result<T> {
        let value: i64 = self.value(column)?;
        T::try_from(value).map_err(|_| Self::bad(column, "it is out of range"))
    }

    pub(super) fn time(&self, column: &str) -> Result<OffsetDateTime> {
        let value: i64 = self.value(column)?;
        from_micros(column, value)
    }

    pub(super) fn opt_time(&self, column: &str) -> Result<Option<OffsetDateTime>> {
        let value: Option<i64> = self.value(column)?;
        value.map(|value| from_micros(column, value)).transpose()
    }
}

fn from_micros(column: &str, value: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(value) * 1000)
        .map_err(|e| Columns::bad(column, e))
}

/// Reads every row.
pub(super) fn all<T>(rows: &[AnyRow], read: fn(&Columns<'_>) -> Result<T>) -> Result<Vec<T>> {
    rows.iter().map(|row| read(&Columns::of(row))).collect()
}

/// Reads the row that may be there.
pub(super) fn maybe<T>(
    row: Option<AnyRow>,
    read: fn(&Columns<'_>) -> Result<T>,
) -> Result<Option<T>> {
    row.map(|row| read(&Columns::of(&row))).transpose()
}
