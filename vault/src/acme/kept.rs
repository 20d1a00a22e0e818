//! What a CA has said that need not be asked again: its directory, and the nonces that came with its
//! answers (RFC 8555 section 7.2). Each is an exchange with the CA that an order does without.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

/// How long a directory is believed. It says which resources there are, which changes with releases.
const DIRECTORY: Duration = Duration::from_secs(300);
/// The most nonces that are kept: one for each request that is under way at once, and then some.
const NONCES: usize = 128;

/// What is known of one CA.
#[derive(Default)]
pub(super) struct Kept {
    directory: Mutex<Option<(Instant, Bytes)>>,
    nonces: Mutex<Vec<String>>,
}

impl Kept {
    /// The directory's JSON, where it was read lately.
    pub(super) fn directory(&self) -> Option<Bytes> {
        let kept = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, json) = kept.as_ref()?;
        (read_at.elapsed() < DIRECTORY).then(|| json.clone())
    }

    /// Keeps a directory that was read just now.
    pub(super) fn keep_directory(&self, json: Bytes) {
        let mut kept = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((Instant::now(), json));
    }

    /// Forgets the directory: something at the CA is not as it said.
    pub(super) fn forget_directory(&self) {
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The newest nonce: the one that the CA is least likely to have forgotten.
    pub(super) fn nonce(&self) -> Option<String> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a nonce for one later request.
    pub(super) fn keep_nonce(&self, nonce: String) {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() >= NONCES {
            nonces.remove(0);
        }
        nonces.push(nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_used_once_and_the_oldest_are_dropped() {
        let kept = Kept::default();
        for number in 0..=NONCES {
            kept.keep_nonce(number.to_string());
        }
        let used: Vec<_> = std::iter::from_fn(|| kept.nonce()).collect();
        assert_eq!(used.len(), NONCES);
        assert_eq!((used[0].as_str(), used[NONCES - 1].as_str()), ("128", "1"));
    }

    #[test]
    fn a_directory_is_kept_until_it_is_doubted() {
        let kept = Kept::default();
        assert_eq!(kept.directory(), None);
        kept.keep_directory(Bytes::from_static(b"{}"));
        assert_eq!(kept.directory().as_deref(), Some(&b"{}"[..]));
        kept.forget_directory();
        assert_eq!(kept.directory(), None);
    }
}
