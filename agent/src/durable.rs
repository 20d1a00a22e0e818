//! Files of the agent's own state that are there whole or not at all, after a power loss, too.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// Replaces a file: temporary file in the same directory, fsync, rename, fsync of the directory.
///
/// # Errors
/// Where the directory cannot be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put(path, bytes, mode)?;
    sync_dir(parent(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// As [`write()`], without the last step: after a power loss the file may be as it was, until something
/// else syncs the directory.
///
/// # Errors
/// As [`write()`].
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = |e: std::io::Error| Error::local("write", path.display().to_string(), e);
    let mut file =
        tempfile::Builder::new().prefix(".new-").tempfile_in(parent(path)).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // Set, not asked for: the umask has no say.
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map(drop).map_err(|e| failed(e.error))
}

/// Makes renames in a directory survive a power loss.
///
/// # Errors
/// Where the directory cannot be synced.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|e| Error::local("sync", dir.display().to_string(), e))
}

/// Creates a directory and its parents, 0700, where it is not there.
///
/// # Errors
/// Where it cannot be created.
pub fn create_dir(dir: &Path) -> Result<()> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(|e| Error::local("create", dir.display().to_string(), e))
}

/// Removes a file, which may be gone already.
///
/// # Errors
/// Where it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    if unlink(path)? { sync_dir(parent(path)) } else { Ok(()) }
}

/// Removes a file, which may be gone already; `false` where it was. After a power loss it may be there
/// again, until something else syncs the directory.
///
/// # Errors
/// As [`remove`].
pub fn unlink(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::local("remove", path.display().to_string(), e)),
    }
}

/// Reads a file; `None` where there is none.
///
/// # Errors
/// Where it is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::local("read", path.display().to_string(), e)),
    }
}

/// Writes a value as JSON, 0600.
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::local("encode", path.display().to_string(), e))?;
    write(path, &bytes, 0o600)
}

/// Reads a JSON value; `None` where there is no file.
///
/// # Errors
/// Where the file is there and damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|e| Error::local("read", path.display().to_string(), e))
}
