//! Files that are given, and files that are made for the operator.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::error::{Error, Result};

/// Reads a file; `-` is stdin.
///
/// # Errors
/// `Invalid` where it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let read = match path.as_os_str().as_encoded_bytes() {
        b"-" => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
        }
        _ => fs::read(path),
    };
    read.map_err(|e| Error::invalid("read", path.display().to_string(), e))
}

/// Reads a text file.
///
/// # Errors
/// `Invalid` where it cannot be read or is no text.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| Error::invalid("read", path.display().to_string(), "it is no text"))
}

/// Creates a directory for secrets, 0700, where it is not there.
///
/// # Errors
/// `Invalid` where it cannot be created.
pub fn create_secret_dir(dir: &Path) -> Result<()> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(|e| Error::invalid("create", dir.display().to_string(), e))
}

/// Checks, before anything irreversible is done, that a file can be made and is not there yet.
///
/// # Errors
/// `Invalid` where it is there.
pub fn check_new(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(Error::invalid("write", path.display().to_string(), "it exists already")
            .hint("move it away, or name another directory")),
        Err(_) => Ok(()),
    }
}

/// Writes a new file and syncs it.
///
/// # Errors
/// Where it exists or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = |e: std::io::Error| Error::local("write", path.display().to_string(), e);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Writes a result's file, which may replace an earlier one.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.as_os_str() == "-" {
        return crate::output::text(&String::from_utf8_lossy(bytes));
    }
    fs::write(path, bytes).map_err(|e| Error::local("write", path.display().to_string(), e))
}
