//! Memory for a key in the clear: a page of its own that is never swapped out, in a process that
//! leaves no core file meanwhile, zeroized at its end.

use std::sync::{Mutex, PoisonError};

use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use vault_proto::error::ErrorKind;
use zeroize::Zeroize as _;

use crate::error::{Result, error};

/// A key's length: AES-256.
pub const LENGTH: usize = 32;

/// 32 bytes in locked memory.
///
/// The page is this value's alone: a lock does not count, so the first of two values on a page to
/// go would unlock the other.
pub struct Locked {
    // In the order of their end: the bytes are zeroized first (`Drop`), then unlocked, then freed.
    _lock: region::LockGuard,
    _undumped: Undumped,
    page: Box<[u8]>,
    start: usize,
}

impl Locked {
    /// Locks a page and has it filled in place.
    ///
    /// # Errors
    /// `Exhausted` where the machine does not let this process lock a page; what `fill` says.
    pub fn fill(fill: impl FnOnce(&mut [u8; LENGTH]) -> Result<()>) -> Result<Self> {
        let refused = |why: String| {
            let hint =
                "let the process lock a few pages: LimitMEMLOCK= in its unit, or `ulimit -l`";
            error(ErrorKind::Exhausted, "lock", "memory for the KEK", why, hint)
        };
        let size = region::page::size();
        // Wherever it begins, a whole page is in it.
        let page = vec![0u8; 2 * size].into_boxed_slice();
        let start = page.as_ptr().align_offset(size);
        let place = page.get(start..start + LENGTH);
        let place = place.ok_or_else(|| refused("no page was found".to_owned()))?;
        let lock = region::lock(place.as_ptr(), LENGTH).map_err(|e| refused(e.to_string()))?;
        let undumped = Undumped::begin().map_err(|e| refused(e.to_string()))?;
        let mut locked = Self { _lock: lock, _undumped: undumped, page, start };
        fill(locked.bytes_mut()?)?;
        Ok(locked)
    }

    /// A copy of a key that is in the clear elsewhere.
    ///
    /// # Errors
    /// As [`Locked::fill`].
    pub fn copy_of(bytes: &[u8; LENGTH]) -> Result<Self> {
        Self::fill(|place| {
            place.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; LENGTH] {
        const NONE: &[u8; LENGTH] = &[0; LENGTH];
        // There since `fill`.
        self.page.get(self.start..).and_then(<[u8]>::first_chunk).unwrap_or(NONE)
    }

    fn bytes_mut(&mut self) -> Result<&mut [u8; LENGTH]> {
        let place = self.page.get_mut(self.start..).and_then(<[u8]>::first_chunk_mut);
        place.ok_or_else(|| error(ErrorKind::Internal, "lock", "memory for the KEK", "no page", ""))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.page.zeroize();
    }
}

/// How many want no core file, and what was so before the first of them.
static UNDUMPED: Mutex<(usize, Option<DumpableBehavior>)> = Mutex::new((0, None));

/// While one lives, the kernel writes no core file of this process, and lets no other process of
/// the same user look into it.
struct Undumped;

impl Undumped {
    fn begin() -> rustix::io::Result<Self> {
        let mut state = UNDUMPED.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 == 0 {
            state.1 = Some(dumpable_behavior()?);
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        state.0 += 1;
        Ok(Self)
    }
}

impl Drop for Undumped {
    fn drop(&mut self) {
        let mut state = UNDUMPED.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(1);
        if state.0 == 0
            && let Some(DumpableBehavior::Dumpable) = state.1.take()
        {
            let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        }
    }
}
