//! One file of a web server: read and replaced below an open directory, so that neither a symbolic
//! link nor a directory that is exchanged meanwhile leads anywhere else.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, fsync, mkdirat, openat,
    renameat, unlinkat,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The longest file that is kept as a backup, in bytes.
const LONGEST: u64 = 1 << 20;

/// A file's directory, open, and its name there.
pub struct Target {
    path: PathBuf,
    dir: OwnedFd,
    name: OsString,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// The owner, where it is to be set.
    pub uid: Option<u32>,
    /// The group, where it is to be set.
    pub gid: Option<u32>,
}

impl Access {
    /// Whether a file with this access is as it shall be.
    pub fn is_met_by(&self, present: Self) -> bool {
        let same = |wanted: Option<u32>, present| wanted.is_none() || wanted == present;
        self.mode == present.mode && same(self.uid, present.uid) && same(self.gid, present.gid)
    }
}

/// A file's content and who may read it.
pub struct Content {
    /// Its bytes; a key's are wiped after use.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Who may read it.
    pub access: Access,
}

impl Target {
    /// Opens the directory of `path`.
    ///
    /// # Errors
    /// `Invalid` where there is none, or where everybody may exchange files in it.
    pub fn open(path: &Path) -> Result<Self> {
        let subject = path.display().to_string();
        let bad = |why: String| {
            Error::invalid("install", &subject, why).hint("check the paths in agent.toml")
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(bad("it is no file's path".to_owned()));
        };
        let parent = fs::canonicalize(parent).map_err(|e| bad(format!("its directory: {e}")))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let dir = rustix::fs::open(&parent, flags, Mode::empty())
            .map_err(|e| bad(format!("its directory: {e}")))?;
        let mode = fstat(&dir).map_err(|e| bad(e.to_string()))?.st_mode;
        if mode & 0o002 != 0 {
            return Err(bad("everybody may write to its directory".to_owned()));
        }
        Ok(Self { path: path.to_owned(), dir, name: name.to_owned() })
    }

    /// A file in folders below `root`, which are made (0755) where they are not there. The root is
    /// the configuration's; what is below it may be somebody else's, so no symbolic link is followed
    /// there.
    ///
    /// # Errors
    /// `Invalid` where the root is no directory, or a folder is something else than a directory.
    pub fn below(root: &Path, folders: &[&str], name: &str) -> Result<Self> {
        let mut path = root.to_owned();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let bad = |path: &Path, why: rustix::io::Errno| {
            Error::invalid("open", path.display().to_string(), why).hint(
                "below a webroot of agent.toml, .well-known/acme-challenge must be plain folders",
            )
        };
        let mut dir = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| bad(root, e))?;
        for folder in folders {
            path.push(folder);
            let open = || openat(&dir, *folder, flags | OFlags::NOFOLLOW, Mode::empty());
            let opened = match open() {
                Err(rustix::io::Errno::NOENT) => {
                    mkdirat(&dir, *folder, Mode::from(0o755)).map_err(|e| bad(&path, e))?;
                    let made = open().map_err(|e| bad(&path, e))?;
                    // Set, not asked for: the web server's workers run as somebody else.
                    fchmod(&made, Mode::from(0o755)).map_err(|e| bad(&path, e))?;
                    made
                }
                opened => opened.map_err(|e| bad(&path, e))?,
            };
            dir = opened;
        }
        path.push(name);
        Ok(Self { path, dir, name: name.into() })
    }

    fn failed(&self, what: &str, why: impl std::fmt::Display) -> Error {
        Error::local(what, self.path.display().to_string(), why)
    }

    /// Its present content; `None` where there is no file.
    ///
    /// # Errors
    /// Where it is a symbolic link or no regular file, or cannot be read.
    pub fn read(&self) -> Result<Option<Content>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.dir, &self.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => {
                return Err(self
                    .failed("read", "it is a symbolic link")
                    .hint("name the file itself in agent.toml, or remove the link"));
            }
            Err(error) => return Err(self.failed("read", error)),
        };
        let meta = fstat(&file).map_err(|e| self.failed("read", e))?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile {
            return Err(self.failed("read", "it is no regular file"));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        let read = fs::File::from(file).take(LONGEST).read_to_end(&mut bytes);
        read.map_err(|e| self.failed("read", e))?;
        let access =
            Access { mode: meta.st_mode & 0o777, uid: Some(meta.st_uid), gid: Some(meta.st_gid) };
        Ok(Some(Content { bytes, access }))
    }

    /// Replaces the file: a temporary one beside it, its owner and mode, fsync, rename, fsync of
    /// the directory.
    ///
    /// # Errors
    /// Where any of it is refused; the present file is untouched then.
    pub fn replace(&self, content: &Content) -> Result<()> {
        self.write(content, true)
    }

    /// Replaces the file, which need not outlive a power loss: as [`replace`](Self::replace), without
    /// any fsync.
    ///
    /// # Errors
    /// Where any of it is refused; the present file is untouched then.
    pub fn show(&self, content: &Content) -> Result<()> {
        self.write(content, false)
    }

    fn write(&self, content: &Content, durable: bool) -> Result<()> {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(format!(".{:016x}", rand::random::<u64>()));
        let placed = self.place(&name, content, durable);
        if placed.is_err() {
            let _ = unlinkat(&self.dir, &name, AtFlags::empty());
        }
        placed
    }

    fn place(&self, temporary: &OsString, content: &Content, durable: bool) -> Result<()> {
        let failed = |e: rustix::io::Errno| self.failed("write", e);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, temporary, flags, Mode::from(0o600)).map_err(failed)?;
        let mut file = fs::File::from(file);
        file.write_all(&content.bytes).map_err(|e| self.failed("write", e))?;
        let Access { mode, uid, gid } = content.access;
        self.give(&file, uid, gid)?;
        fchmod(&file, Mode::from(mode)).map_err(failed)?;
        if durable {
            file.sync_all().map_err(|e| self.failed("write", e))?;
        }
        renameat(&self.dir, temporary, &self.dir, &self.name).map_err(failed)?;
        if durable { fsync(&self.dir).map_err(failed) } else { Ok(()) }
    }

    /// Sets owner and group where they are not what they shall be already: an agent that is not
    /// root may not even set what is.
    fn give(&self, file: &fs::File, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let meta = fstat(file).map_err(|e| self.failed("write", e))?;
        let uid = uid.filter(|uid| *uid != meta.st_uid).map(Uid::from_raw);
        let gid = gid.filter(|gid| *gid != meta.st_gid).map(Gid::from_raw);
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        fchown(file, uid, gid).map_err(|e| {
            self.failed("set the owner", e)
                .hint("only root gives files away: run the agent as root or drop owner and group")
        })
    }

    /// Removes the file, which may be gone already.
    ///
    /// # Errors
    /// Where it is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.unlink()?;
        self.settle()
    }

    /// Removes the file, which may be gone already; a power loss may bring it back until the directory
    /// is [settled](Self::settle).
    ///
    /// # Errors
    /// Where it is there and cannot be removed.
    pub fn unlink(&self) -> Result<()> {
        match unlinkat(&self.dir, &self.name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", error)),
        }
    }

    /// Makes what was done in its directory outlive a power loss.
    ///
    /// # Errors
    /// Where the directory cannot be synced.
    pub fn settle(&self) -> Result<()> {
        fsync(&self.dir).map_err(|e| self.failed("sync the directory of", e))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn content(text: &str, mode: u32) -> Content {
        let access = Access { mode, uid: None, gid: None };
        Content { bytes: Zeroizing::new(text.as_bytes().to_vec()), access }
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain.pem");
        let target = Target::open(&path).unwrap();
        assert!(target.read().unwrap().is_none());
        target.replace(&content("one", 0o644)).unwrap();
        target.replace(&content("two", 0o640)).unwrap();
        let read = target.read().unwrap().unwrap();
        assert_eq!(&*read.bytes, b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_is_neither_read_nor_followed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let path = dir.path().join("chain.pem");
        symlink(&secret, &path).unwrap();
        let target = Target::open(&path).unwrap();
        assert!(target.read().is_err());
        target.replace(&content("new", 0o644)).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    }

    #[test]
    fn a_directory_that_everybody_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Target::open(&dir.path().join("chain.pem")).is_err());
    }

    #[test]
    fn what_cannot_be_written_leaves_the_present_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain.pem");
        let target = Target::open(&path).unwrap();
        target.replace(&content("good", 0o644)).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(target.replace(&content("new", 0o644)).is_err());
    }
}
