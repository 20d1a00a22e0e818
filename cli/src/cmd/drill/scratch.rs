//! A drill's scratch directory: token, store and a backup that was fetched. It is destroyed with the
//! drill; one that could not see to that leaves it to the next.

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use vault_proto::{error::ErrorKind, ids::DrillId};

use crate::error::{Error, Result};

/// How its name begins.
const PREFIX: &str = "keyvault-drill-";
/// How often another name is tried where somebody has taken this one away.
const TRIES: usize = 3;

/// The directory, as long as this lives. Whoever uses it holds a lock on it, so that one without a
/// lock is one that was left behind.
pub(super) struct Scratch {
    path: PathBuf,
    lock: File,
}

impl Scratch {
    /// Destroys what earlier drills have left below `base`, and makes a new one there.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be made.
    pub(super) fn new(base: Option<&Path>) -> Result<Self> {
        let base = base.map_or_else(std::env::temp_dir, Path::to_owned);
        sweep(&base);
        let failed = |e: std::io::Error| {
            let subject = format!("a scratch directory in {}", base.display());
            Error::new(ErrorKind::Unavailable, "make", subject, e)
                .hint("name another place with --scratch")
        };
        for _ in 0..TRIES {
            let path = base.join(format!("{PREFIX}{}", DrillId::random()));
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
            let lock = File::open(&path).map_err(failed)?;
            let locked = flock(&lock, FlockOperation::NonBlockingLockShared).is_ok();
            // Another drill that sweeps may have come between the two.
            let same =
                |meta: fs::Metadata| lock.metadata().is_ok_and(|own| own.ino() == meta.ino());
            if locked && fs::metadata(&path).is_ok_and(same) {
                fs::create_dir(path.join("tokens")).map_err(failed)?;
                let tokens = format!("directories.tokendir = {}\n", path.join("tokens").display());
                fs::write(path.join("softhsm2.conf"), tokens).map_err(failed)?;
                return Ok(Self { path, lock });
            }
        }
        Err(failed(std::io::Error::other("others take it away")))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a SoftHSM in it is configured by.
    pub(super) fn softhsm(&self) -> PathBuf {
        self.path.join("softhsm2.conf")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Waits for a process that was told to end and uses it still.
        let _ = flock(&self.lock, FlockOperation::LockExclusive);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Destroys the scratch directories of this user's that nobody uses.
fn sweep(base: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.metadata().is_ok_and(|meta| meta.uid() == own);
        if !ours {
            continue;
        }
        let Ok(lock) = File::open(entry.path()) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
