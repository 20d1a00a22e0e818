//! A file that has its name only once it is whole, and is gone where it never is.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use vault_proto::error::ErrorKind;

use crate::error::{Error, Result};

/// A backup on its way into a file.
pub(super) struct Unfinished<'a> {
    file: NamedTempFile,
    path: &'a Path,
    size: u64,
    hash: Sha256,
}

impl<'a> Unfinished<'a> {
    /// Begins one beside `path`, which must not be there yet.
    pub(super) fn beside(path: &'a Path) -> Result<Self> {
        crate::files::check_new(path)
            .map_err(|error| error.hint("move it away, or name another file"))?;
        let subject = || path.display().to_string();
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("write", subject(), "it is no name of a file"))?;
        // Nobody else reads it: tempfile makes it with mode 0600.
        let file = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .tempfile_in(directory(path))
            .map_err(|e| Error::invalid("write", subject(), e))?;
        Ok(Self { file, path, size: 0, hash: Sha256::new() })
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::local("write", self.path.display().to_string(), error)
            .hint("nothing is left of it; see that its disk has space, and begin again")
    }

    /// The next bytes; answers how many there are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        self.file.write_all(bytes).map_err(|e| self.failed(&e))?;
        self.size += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(self.size)
    }

    /// Holds it against what it should be, syncs it, gives it its name and syncs that.
    pub(super) fn finish(self, size: u64, sha256: &str, changed: &str) -> Result<()> {
        let found = hex::encode(self.hash.clone().finalize());
        if (self.size, found.as_str()) != (size, sha256) {
            let subject = self.path.display().to_string();
            return Err(Error::new(ErrorKind::Verification, "write", subject, changed));
        }
        self.file.as_file().sync_all().map_err(|e| self.failed(&e))?;
        let (path, subject) = (self.path, self.path.display().to_string());
        self.file
            .persist_noclobber(path)
            .map_err(|e| Error::local("write", subject.as_str(), e.error))?;
        let synced = File::open(directory(path)).and_then(|directory| directory.sync_all());
        synced.map_err(|e| Error::local("write", subject, e))
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
