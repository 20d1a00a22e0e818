//! The backup that is restored: spooled as it came, encrypted, and read as often as is needed.

use std::{
    fmt, fs,
    fs::File,
    io::{BufReader, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use vault_backup::{Fault, Identities, Reader};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What opens a backup.
pub struct Opening {
    /// age identities.
    pub identities: Identities,
    /// A quorum's shares, opened.
    pub shares: Vec<Zeroizing<String>>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({} shares)", self.shares.len())
    }
}

/// A backup on its way in; gone when it is dropped.
pub struct Spool {
    file: File,
    name: Name,
    size: u64,
    hash: Sha256,
}

/// A file that is removed with this.
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A backup that came whole.
pub struct Spooled {
    file: File,
    _name: Name,
    pub(super) size: u64,
    pub(super) sha256: String,
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::unavailable("keep", format!("the backup in {}", path.display()), error)
        .hint("free space or correct who may write there, and begin again")
}

impl Spool {
    /// Begins one, in place of any that was left there.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be written.
    pub fn begin(path: &Path) -> Result<Self> {
        let _ = fs::remove_file(path);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(|e| failed(path, &e))?;
        Ok(Self { file, name: Name(path.to_owned()), size: 0, hash: Sha256::new() })
    }

    /// Adds the next bytes; answers how many there are.
    ///
    /// # Errors
    /// `Unavailable` where they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        self.file.write_all(bytes).map_err(|e| failed(&self.name.0, &e))?;
        self.size += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(self.size)
    }

    /// Ends it, held against what its sender says of it.
    ///
    /// # Errors
    /// `Verification` where something else has come.
    pub fn end(self, size: u64, sha256: &str) -> Result<Spooled> {
        let found = hex::encode(self.hash.finalize());
        if (self.size, found.as_str()) != (size, sha256) {
            let why = "what has arrived is not what was sent";
            return Err(Error::verification("restore", "the backup", why).hint("begin again"));
        }
        Ok(Spooled { file: self.file, _name: self.name, size, sha256: found })
    }
}

/// A spooled backup and what opens it. Cheap to clone; read by one at a time.
#[derive(Clone)]
pub(super) struct Source {
    backup: Arc<Spooled>,
    identities: Arc<Identities>,
}

impl Source {
    pub(super) fn new(backup: Spooled, identities: Identities) -> Self {
        Self { backup: Arc::new(backup), identities: Arc::new(identities) }
    }

    pub(super) fn sha256(&self) -> &str {
        &self.backup.sha256
    }

    pub(super) fn size(&self) -> u64 {
        self.backup.size
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub(super) fn open(&self) -> Result<Reader<BufReader<File>>> {
        let again = || {
            let mut file = self.backup.file.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        let file = again().map_err(|e: std::io::Error| {
            Error::unavailable("read", "the backup that is restored", e)
        })?;
        Reader::open(&self.identities, BufReader::new(file)).map_err(fault)
    }
}

/// What is wrong with a backup, as an error.
pub(super) fn fault(fault: Fault) -> Error {
    match fault {
        Fault::Given { .. } => Error::invalid("open", "the backup", fault)
            .hint("give the identity of one of its recipients with --identity"),
        Fault::Broken { .. } => Error::verification("restore", "the backup", fault)
            .hint("nothing was changed; restore another backup"),
    }
}
