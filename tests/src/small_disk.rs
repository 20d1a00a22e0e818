//! A file system that is small enough to be filled, over one directory of one program.
//!
//! The program runs in a user and a mount namespace of its own, so no privileges are needed and
//! nobody else sees the file system; it ends with the program. The tests reach it through `/proc`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use crate::process::Process;
use crate::vault::Vault;

/// What fills it.
const FILLER: &str = "filler";

/// A small file system over a directory, which must exist.
#[derive(Debug, Clone)]
pub struct SmallDisk {
    dir: PathBuf,
    bytes: u64,
}

impl SmallDisk {
    /// One of this size over `dir`.
    pub fn over(dir: &Path, bytes: u64) -> Self {
        Self { dir: dir.to_owned(), bytes }
    }

    /// One of this size under the audit log of a vault that is not started yet.
    ///
    /// # Panics
    /// Where its place cannot be made.
    pub fn under_audit_log(vault: &mut Vault, bytes: u64) -> Self {
        let dir = vault.file("audit");
        fs::create_dir(&dir).expect("a directory");
        let (old, new) = (vault.path("audit.log"), dir.join("audit.log").display().to_string());
        vault.reconfigure(&old, &new);
        let disk = Self::over(&dir, bytes);
        vault.through = disk.through();
        disk
    }

    /// The command by which a program is run that has it; becomes that program, with its id.
    pub fn through(&self) -> Vec<String> {
        let (size, dir) = (format!("size={}", self.bytes), self.dir.display().to_string());
        let mount = "mount -t tmpfs -o mode=700,$0 tmpfs \"$1\" && shift && exec \"$@\"";
        let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount];
        words.iter().map(|word| (*word).to_owned()).chain([size, dir]).collect()
    }

    /// A file on it, as the program with this process sees it.
    pub fn file(&self, process: &Process, name: &str) -> PathBuf {
        let dir = self.dir.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", process.id())).join(dir).join(name)
    }

    /// Fills it to its last page. What is written already keeps the rest of its own last page.
    ///
    /// # Panics
    /// Where it is not there or cannot be written.
    pub fn fill(&self, process: &Process) {
        let mut filler = File::create(self.file(process, FILLER)).expect("the small disk");
        loop {
            match filler.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => return,
                Err(e) => panic!("the small disk: {e}"),
            }
        }
    }

    /// Frees what [`SmallDisk::fill`] has taken.
    ///
    /// # Panics
    /// Where it was not filled.
    pub fn free(&self, process: &Process) {
        fs::remove_file(self.file(process, FILLER)).expect("the filler");
    }

    /// Frees some pages of what [`SmallDisk::fill`] has taken; all of it where it is no more.
    ///
    /// # Panics
    /// Where it was not filled.
    pub fn free_some(&self, process: &Process, pages: u64) {
        let path = self.file(process, FILLER);
        let filler = File::options().write(true).open(path).expect("the filler");
        let length = filler.metadata().expect("the filler").len();
        let length = length.saturating_sub(pages * self.page(process));
        filler.set_len(length).expect("a shorter filler");
    }

    /// The size of its pages: what a file takes is a multiple of it.
    ///
    /// # Panics
    /// Where it is not there.
    pub fn page(&self, process: &Process) -> u64 {
        let stat = rustix::fs::statvfs(self.file(process, "")).expect("the small disk");
        stat.f_bsize
    }
}
