//! The list of keys that the agent keeps on disk: what there is while no agent answers. It says what
//! keys look like, nothing secret; without the agent none of them signs.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use prost::Message as _;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use vault_proto::local::{LONGEST_LOCAL_MESSAGE, v1::Keys};

/// Reads the list.
///
/// # Errors
/// Where it is not there, may not be read or is no list.
pub(crate) fn read(path: &Path) -> io::Result<Keys> {
    // Not waited for, whatever the path names.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_LOCAL_MESSAGE as u64).read_to_end(&mut bytes)?;
    Ok(Keys::decode(bytes.as_slice())?)
}
