//! The audit log of a restored vault: the backup's, continued by a record that ties the log of the
//! time before to it. It takes the log's name after the store says so, at the next start.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use time::{OffsetDateTime, macros::format_description};

use super::marks::{self, SWAP, Swap};
use crate::audit::{AuditLog, Entry, Options, sync_directory};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::store::Store;

/// A log that is being put together beside the one in use.
pub(super) struct Copy {
    file: BufWriter<File>,
    path: PathBuf,
}

fn beside(log: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(ending);
    PathBuf::from(name)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::unavailable("write", format!("audit log {}", path.display()), error)
        .hint("free space or repair the disk, and begin again")
}

/// Where the log of a restored vault is put together.
pub(super) fn restored(log: &Path) -> PathBuf {
    beside(log, ".restored")
}

/// Where the log of the time before a restore goes.
///
/// # Errors
/// Never.
pub(super) fn set_aside(log: &Path, now: OffsetDateTime) -> Result<PathBuf> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = now.format(format).map_err(|e| Error::internal("name", "the audit log", e))?;
    let path = beside(log, &format!(".before-restore-{time}"));
    // Two restores in one second are two names.
    let free = (0..).map(|more| match more {
        0 => path.clone(),
        more => beside(&path, &format!("-{more}")),
    });
    Ok(free.into_iter().find(|path| !path.exists()).unwrap_or(path))
}

impl Copy {
    /// Begins one, in place of any that was left there.
    pub(super) fn begin(path: PathBuf) -> Result<Self> {
        let _ = fs::remove_file(&path);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| failed(&path, &e))?;
        Ok(Self { file: BufWriter::new(file), path })
    }

    /// The next record, without its newline.
    pub(super) fn line(&mut self, line: &str) -> Result<()> {
        let written = writeln!(self.file, "{line}");
        written.map_err(|e| failed(&self.path, &e))
    }

    /// Puts all of it on the disk.
    pub(super) fn end(mut self) -> Result<PathBuf> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|e| failed(&self.path, &e))?;
        Ok(self.path)
    }
}

/// Adds the record that ties the logs together; its chain is checked once more before that.
///
/// # Errors
/// Those of [`AuditLog`].
pub(super) async fn link(
    path: &Path,
    options: Options,
    clock: Arc<dyn Clock>,
    record: Entry,
) -> Result<()> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || AuditLog::open(&path, options, clock)).await;
    let (log, _) = opened.map_err(|e| Error::internal("open", "the restored audit log", e))??;
    log.event(record).await
}

/// Completes a restore's swap of the logs, where one is under way: before the log is opened.
///
/// # Errors
/// `Unavailable` where a file cannot be moved, `Verification` where one is missing: the vault must not
/// start then.
pub async fn complete_swap(store: &dyn Store, log: &Path) -> Result<()> {
    let Some(Swap { restored, set_aside }) = marks::read(store, SWAP).await? else {
        return Ok(());
    };
    if restored.exists() {
        // Nothing is written over, wherever an earlier try ended.
        if log.exists() && !set_aside.exists() {
            fs::rename(log, &set_aside).map_err(|e| failed(log, &e))?;
            crash_point!("restore.aside");
        }
        fs::rename(&restored, log).map_err(|e| failed(log, &e))?;
    } else if !log.exists() || !set_aside.exists() {
        let subject = format!("audit log {}", restored.display());
        let why = "it was restored and is gone before it was put in place";
        return Err(Error::verification("open", subject, why)
            .hint("put it back where it was; without it the log of this vault does not go on"));
    }
    crash_point!("restore.swapped");
    sync_directory(log).map_err(|e| failed(log, &e))?;
    store.put_settings(&[(SWAP, "")]).await?;
    tracing::info!(aside = %set_aside.display(), "the restored audit log goes on");
    Ok(())
}
