//! Where scheduled backups are put: a directory or a bucket. What is there under a backup's name is
//! whole: it gets its name only once all of it is on the disk or in the bucket.

mod bucket;
mod directory;

use async_trait::async_trait;
use bytes::Bytes;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem};
use tokio_stream::Stream;

use self::{bucket::Bucket, directory::Directory};
use crate::config;
use crate::error::Result;

/// A backup's bytes.
pub type Contents = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// How a name ends.
const ENDING: &str = ".age";
/// The time in a name, so that names sort as times do.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:6]Z");

/// A directory or a bucket.
#[async_trait]
pub trait Place: Send + Sync {
    /// The URL of what has this name there.
    fn url(&self, name: &str) -> String;

    /// Begins to put something there.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be written.
    async fn begin(&self, name: &str) -> Result<Box<dyn Upload>>;

    /// Clears away what was begun and nobody ends any more: by its [`Upload::token`], where the
    /// place cannot tell by names that begin so.
    ///
    /// # Errors
    /// `Unavailable` where the place is.
    async fn discard(&self, begin: &str, token: Option<&str>) -> Result<()>;

    /// The names of everything whole that is there and begins so, in their order.
    ///
    /// # Errors
    /// `Unavailable` where the place is.
    async fn names(&self, begin: &str) -> Result<Vec<String>>;

    /// Reads what has this name.
    ///
    /// # Errors
    /// `NotFound` where it is not there, `Unavailable` where the place is.
    async fn read(&self, name: &str) -> Result<Contents>;

    /// Removes what has this name; it is no error where it is not there.
    ///
    /// # Errors
    /// `Unavailable` where the place is.
    async fn remove(&self, name: &str) -> Result<()>;
}

/// Something on its way to a place.
#[async_trait]
pub trait Upload: Send {
    /// By what [`Place::discard`] clears it away after a crash.
    fn token(&self) -> String;

    /// The next bytes.
    ///
    /// # Errors
    /// `Unavailable` where they cannot be written.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Nothing more comes: from here on it is there, under its name.
    ///
    /// # Errors
    /// `Unavailable` where that cannot be done, or is not certain.
    async fn finish(self: Box<Self>) -> Result<()>;

    /// Nothing shall be left of it.
    ///
    /// # Errors
    /// `Unavailable` where something is.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// The place that is configured, where one is.
///
/// # Errors
/// `Invalid` where a secret or certificate cannot be read.
pub fn open(config: &config::Backup) -> Result<Option<Box<dyn Place>>> {
    Ok(match (&config.directory, &config.url, &config.s3) {
        (Some(directory), ..) => Some(Box::new(Directory::new(directory.clone()))),
        (None, Some(url), Some(s3)) => Some(Box::new(Bucket::open(url, s3)?)),
        _ => None,
    })
}

/// Where the newest backup of a vault is that is in the configured place and was begun after `at`, by
/// its name: a vault that is not initialised can ask, too. `None` where there is no such one.
///
/// # Errors
/// As [`open`] and [`Place::names`].
pub async fn newer_than(
    config: &config::Backup,
    vault_id: &str,
    at: OffsetDateTime,
) -> Result<Option<String>> {
    let Some(place) = open(config)? else { return Ok(None) };
    let names = place.names(&beginning(vault_id)).await?;
    let newer = names.iter().filter(|name| time_in(name, vault_id).is_some_and(|time| time > at));
    Ok(newer.max().map(|name| place.url(name)))
}

/// How the names of a vault's backups begin.
pub(super) fn beginning(vault_id: &str) -> String {
    format!("{vault_id}-")
}

/// The name of a vault's backup that was begun at `at`.
pub(super) fn name(vault_id: &str, at: OffsetDateTime) -> Result<String> {
    let failed = |e| crate::error::Error::internal("name", "a backup", e);
    let at = at.to_offset(time::UtcOffset::UTC).format(TIME).map_err(failed)?;
    Ok(format!("{}{at}{ENDING}", beginning(vault_id)))
}

/// The time in the name of a vault's backup; `None` for any other name.
fn time_in(name: &str, vault_id: &str) -> Option<OffsetDateTime> {
    let at = name.strip_prefix(&beginning(vault_id))?.strip_suffix(ENDING)?;
    Some(PrimitiveDateTime::parse(at, TIME).ok()?.assume_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration;

    use super::*;

    fn at(micros: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::microseconds(micros)
    }

    proptest! {
        #[test]
        fn names_sort_as_times_do_and_read_back(
            one in 0i64..8_000_000_000_000_000, other in 0i64..8_000_000_000_000_000,
        ) {
            let (first, second) = (name("v", at(one)).unwrap(), name("v", at(other)).unwrap());
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
            prop_assert_eq!(time_in(&first, "v"), Some(at(one)));
            prop_assert_eq!(time_in(&first, "w"), None);
        }

        #[test]
        fn no_other_name_is_taken_for_a_backup_s(text in ".{0,60}") {
            let known = time_in(&format!("v-{text}"), "v");
            if let Some(at) = known {
                prop_assert_eq!(name("v", at).unwrap(), format!("v-{text}"));
            }
        }
    }
}
