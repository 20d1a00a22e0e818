//! What is on a disk, so that a test can say that nothing was changed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// A file's bytes, a link's target; empty for everything else.
    pub content: Vec<u8>,
}

/// One file, directory or link as it is; links are not followed.
///
/// # Panics
/// Where it is not there or cannot be read.
pub fn entry(path: &Path) -> Entry {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let content = match meta.file_type() {
        kind if kind.is_file() => fs::read(path).expect("a file"),
        kind if kind.is_symlink() => {
            fs::read_link(path).expect("a link").into_os_string().into_encoded_bytes()
        }
        _ => Vec::new(),
    };
    let mode = meta.permissions().mode() & 0o7777;
    Entry { mode, owner: (meta.uid(), meta.gid()), content }
}

/// Everything below a directory, itself included, by path.
///
/// # Panics
/// Where it cannot be read.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut all = BTreeMap::from([(dir.to_owned(), entry(dir))]);
    for below in fs::read_dir(dir).expect("a directory") {
        let path = below.expect("a directory's entry").path();
        match fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            true => all.extend(snapshot(&path)),
            false => drop(all.insert(path.clone(), entry(&path))),
        }
    }
    all
}
