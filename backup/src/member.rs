//! Members of the tar archive. A header is read by being made anew: one that differs in a single
//! bit from what a vault writes is refused, and so is anything but zeros behind a member's end.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::Fault;

/// Members are padded to a multiple of this.
const BLOCK: usize = 512;
/// The most that a member may have: far above what a vault writes into one.
const MOST: u64 = 64 << 20;

/// A member as it was read.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) body: Vec<u8>,
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_entry_type(EntryType::Regular);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

fn padding(size: usize) -> usize {
    size.next_multiple_of(BLOCK) - size
}

/// Writes a member.
pub(crate) fn write(out: &mut impl Write, name: &str, body: &[u8]) -> io::Result<()> {
    if body.len() as u64 > MOST {
        return Err(io::Error::other(format!("{name} has {} bytes", body.len())));
    }
    out.write_all(header(name, body.len() as u64)?.as_bytes())?;
    out.write_all(body)?;
    out.write_all(&[0; BLOCK][..padding(body.len())])
}

/// Writes the end of the archive.
pub(crate) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// Reads the next member; `None` at the archive's end. `place` says where that is.
pub(crate) fn read(
    input: &mut impl Read,
    place: &dyn Fn() -> String,
) -> Result<Option<Member>, Fault> {
    let mut block = [0u8; BLOCK];
    let cut = |e: io::Error| Fault::broken(place(), cause(&e));
    input.read_exact(&mut block).map_err(cut)?;
    if block == [0; BLOCK] {
        input.read_exact(&mut block).map_err(cut)?;
        if block != [0; BLOCK] {
            return Err(Fault::broken(place(), "there is something behind the archive's end"));
        }
        return Ok(None);
    }
    let changed = |_| Fault::broken(place(), "a member's header is damaged");
    let found = Header::from_byte_slice(&block);
    let size = found.entry_size().map_err(changed)?;
    let name = found.path().map_err(changed)?.to_string_lossy().into_owned();
    let again = header(&name, size).map_err(changed)?;
    if again.as_bytes() != &block {
        return Err(Fault::broken(place(), "a member's header is not as a vault writes it"));
    }
    if size > MOST {
        return Err(Fault::broken(name, format!("it has {size} bytes, which is too much")));
    }
    let inside = |e: io::Error| Fault::broken(format!("{name}, {}", place()), cause(&e));
    let mut body = Vec::new();
    let read = input.by_ref().take(size).read_to_end(&mut body);
    read.map_err(inside)?;
    if body.len() as u64 != size {
        return Err(Fault::broken(name, "it is cut off"));
    }
    let behind = block.get_mut(..padding(body.len())).unwrap_or_default();
    input.read_exact(behind).map_err(inside)?;
    if behind.iter().any(|byte| *byte != 0) {
        return Err(Fault::broken(name, "there is something behind its end"));
    }
    Ok(Some(Member { name, body }))
}

/// Why reading failed.
pub(crate) fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        io::ErrorKind::InvalidData => format!("it was changed or cut off: {error}"),
        _ => error.to_string(),
    }
}
