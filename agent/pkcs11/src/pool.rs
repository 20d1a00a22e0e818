//! Connections that wait for their next question, so that a signature costs no connect.
//!
//! A place is one atomic number. So nothing here is ever half done: after a fork the child reads its
//! copy of the parent's places, whatever the parent's other threads did at that moment.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::fstat;

/// More idle connections than this are closed: so many threads of one process can sign at once
/// without one of them having to connect.
const PLACES: usize = 32;

/// What stands in a place that is free.
const FREE: u64 = 0;

/// A connected socket and its inode, by which a child tells whether a number is still this socket.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    inode: u32,
}

/// The idle connections of one process.
#[derive(Debug)]
pub(crate) struct Pool {
    places: [AtomicU64; PLACES],
}

impl Connection {
    /// A socket of ours.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let inode = inode(socket.as_fd())?;
        Ok(Self { socket, inode })
    }

    /// Descriptor plus one above, so that no connection looks like a free place; inode below.
    fn into_place(self) -> u64 {
        let descriptor = u64::from(self.socket.into_raw_fd().unsigned_abs());
        (descriptor + 1) << 32 | u64::from(self.inode)
    }

    /// # Safety
    /// `place` is of [`into_place`](Self::into_place), taken once, and its descriptor still open.
    unsafe fn from_place(place: u64) -> Self {
        let (descriptor, inode) = parts(place);
        // SAFETY: the caller's; so nobody else owns the descriptor.
        Self { socket: unsafe { OwnedFd::from_raw_fd(descriptor) }, inode }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Pool {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self { places: [const { AtomicU64::new(FREE) }; PLACES] }
    }

    /// An idle connection.
    pub(crate) fn take(&self) -> Option<Connection> {
        let place = self.places.iter().find_map(take)?;
        // SAFETY: `put` left it there open and only one thread takes it.
        Some(unsafe { Connection::from_place(place) })
    }

    /// Keeps a connection for the next question; closes it where there is no place.
    pub(crate) fn put(&self, connection: Connection) {
        let packed = connection.into_place();
        let free = |place: &AtomicU64| {
            place.load(Ordering::Relaxed) == FREE
                && place.compare_exchange(FREE, packed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if !self.places.iter().any(free) {
            // SAFETY: it was put nowhere.
            drop(unsafe { Connection::from_place(packed) });
        }
    }

    /// Closes all of them.
    pub(crate) fn clear(&self) {
        while self.take().is_some() {}
    }

    /// Closes, in a child, its copies of the parent's connections. A host may have closed every
    /// descriptor since and opened others: what is no longer the same socket is left alone.
    pub(crate) fn close_inherited(&self) {
        for place in self.places.iter().filter_map(take) {
            let (descriptor, known) = parts(place);
            // SAFETY: the number is looked at and not kept; if it is closed, fstat says so.
            let there = inode(unsafe { BorrowedFd::borrow_raw(descriptor) });
            if there.is_ok_and(|inode| inode == known) {
                // SAFETY: it is that socket, and nobody else in this process knows of it.
                drop(unsafe { Connection::from_place(place) });
            }
        }
    }
}

fn take(place: &AtomicU64) -> Option<u64> {
    // Looked at first: most places are free most of the time, and a swap costs more.
    let there = place.load(Ordering::Relaxed) != FREE;
    let taken = if there { place.swap(FREE, Ordering::AcqRel) } else { FREE };
    (taken != FREE).then_some(taken)
}

fn parts(place: u64) -> (RawFd, u32) {
    // Both halves were made of numbers that fit.
    let descriptor = (place >> 32) as u32 - 1;
    (descriptor.cast_signed(), place as u32)
}

/// The kernel counts sockets' inodes in 32 bits.
fn inode(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(fstat(socket)?.st_ino as u32)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Read,
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    use super::*;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(ours.into()).unwrap(), theirs)
    }

    #[test]
    fn what_is_put_is_taken_once() {
        let pool = Pool::new();
        let (connection, _peer) = pair();
        let number = connection.as_fd().as_raw_fd();
        pool.put(connection);
        assert_eq!(pool.take().map(|c| c.as_fd().as_raw_fd()), Some(number));
        assert!(pool.take().is_none());
    }

    #[test]
    fn more_than_its_places_are_closed() {
        let pool = Pool::new();
        let mut peers = Vec::new();
        for _ in 0..=PLACES {
            let (connection, peer) = pair();
            pool.put(connection);
            peers.push(peer);
        }
        let mut last = peers.pop().unwrap();
        assert_eq!(last.read(&mut [0]).unwrap(), 0, "the one too many is open");
        pool.clear();
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "one is open after all were closed");
        }
    }

    #[test]
    fn an_inherited_number_that_is_another_file_now_is_left_open() {
        let pool = Pool::new();
        let (kept, mut peer) = pair();
        pool.put(kept);
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        let (number, inode) = (file.as_raw_fd(), inode(file.as_fd()).unwrap());
        pool.put(Connection { socket: file, inode: inode.wrapping_add(1) });
        pool.close_inherited();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the inherited connection is open");
        // SAFETY: looked at only.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        assert_eq!(self::inode(file).ok(), Some(inode), "the host's file was closed");
    }
}
