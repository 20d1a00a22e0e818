//! SoftHSM with a token directory of its own, gone when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Where SoftHSM keeps its tokens and what it is configured by.
///
/// The module reads its configuration from the environment, once, when it is loaded: hand
/// [`environment`](Self::environment) to the process that loads it.
#[derive(Debug)]
pub struct SoftHsm {
    dir: TempDir,
}

impl SoftHsm {
    /// A fresh SoftHSM without a token. It has always one free slot more than it has tokens.
    ///
    /// # Panics
    /// Where the directory cannot be written.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let tokens = dir.path().join("tokens");
        fs::create_dir(&tokens).expect("tokens");
        let config = format!("directories.tokendir = {}\n", tokens.display());
        fs::write(dir.path().join("softhsm2.conf"), config).expect("softhsm2.conf");
        Self { dir }
    }

    /// The module's file, where Debian's softhsm2 has it.
    pub fn module() -> PathBuf {
        crate::vault::SOFTHSM.into()
    }

    /// The variable that the module reads, and its value.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        ("SOFTHSM2_CONF", self.dir().join("softhsm2.conf"))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Default for SoftHsm {
    fn default() -> Self {
        Self::new()
    }
}
