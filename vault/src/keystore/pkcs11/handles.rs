//! The object handles that all sessions have found. A token gives them to the application, for all of its
//! sessions (PKCS#11 v3.0, 4.4), and finding one takes time linear in the token's objects.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cryptoki::object::{KeyType, ObjectHandle};
use vault_proto::ids::KeyId;

/// Keys whose handles are remembered; past this it begins anew.
const MOST: usize = 150_000;

/// How long it counts that there was no KEK. Another process may bring the first one at any time, and keys
/// are made without escrow until it is noticed.
const NO_KEK: Duration = Duration::from_secs(5);

/// What is remembered of a private key.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrivateKey {
    pub(super) handle: ObjectHandle,
    pub(super) kind: KeyType,
}

/// A time in which no handle has lost its meaning. What was found in one is not remembered in the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Epoch(u64);

#[derive(Debug)]
struct Known<K, O> {
    epoch: Epoch,
    private: HashMap<KeyId, K>,
    /// Whether every private key was looked for once.
    scanned: bool,
    kek: Option<(KeyId, O)>,
    no_kek_at: Option<Instant>,
}

impl<K, O> Known<K, O> {
    fn nothing(epoch: Epoch) -> Self {
        Self { epoch, private: HashMap::new(), scanned: false, kek: None, no_kek_at: None }
    }
}

/// What the sessions of one pool have found.
#[derive(Debug)]
pub(super) struct Handles<K = PrivateKey, O = ObjectHandle>(Mutex<Known<K, O>>);

impl<K, O> Default for Handles<K, O> {
    fn default() -> Self {
        Self(Mutex::new(Known::nothing(Epoch::default())))
    }
}

impl<K: Copy, O: Copy> Handles<K, O> {
    fn known(&self) -> MutexGuard<'_, Known<K, O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all: a handle was stale, or a session was lost and the token may have been replaced.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        *known = Known::nothing(Epoch(known.epoch.0 + 1));
    }

    /// The epoch; ask for it before a search.
    pub(super) fn epoch(&self) -> Epoch {
        self.known().epoch
    }

    /// A private key that was found.
    pub(super) fn private(&self, id: KeyId) -> Option<K> {
        self.known().private.get(&id).copied()
    }

    /// Remembers a private key that was found in this epoch.
    pub(super) fn remember(&self, epoch: Epoch, id: KeyId, key: K) {
        let mut known = self.known();
        if known.epoch == epoch {
            if known.private.len() >= MOST {
                known.private.clear();
                known.scanned = false;
            }
            known.private.insert(id, key);
        }
    }

    /// Forgets a private key that is destroyed.
    pub(super) fn destroyed(&self, id: KeyId) {
        self.known().private.remove(&id);
    }

    /// Whether all private keys were looked for.
    pub(super) fn is_scanned(&self) -> bool {
        self.known().scanned
    }

    /// All private keys were looked for in this epoch.
    pub(super) fn scanned(&self, epoch: Epoch) {
        let mut known = self.known();
        known.scanned |= known.epoch == epoch;
    }

    /// The KEK that was found.
    pub(super) fn kek(&self) -> Option<(KeyId, O)> {
        self.known().kek
    }

    /// Whether none was found a moment ago.
    pub(super) fn has_no_kek(&self) -> bool {
        self.known().no_kek_at.is_some_and(|at| at.elapsed() < NO_KEK)
    }

    /// Remembers the KEK that was found in this epoch, or that there is none.
    pub(super) fn remember_kek(&self, epoch: Epoch, kek: Option<(KeyId, O)>) {
        let mut known = self.known();
        if known.epoch == epoch {
            known.no_kek_at = kek.is_none().then(Instant::now);
            known.kek = kek;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_before_all_was_forgotten_is_not_remembered() {
        let (handles, id, key) = (Handles::<u8, u8>::default(), KeyId::random(), 7);
        let before = handles.epoch();
        handles.remember(before, id, key);
        assert_eq!(handles.private(id), Some(key));
        handles.forget();
        assert!(handles.private(id).is_none());
        handles.remember(before, id, key);
        handles.remember_kek(before, Some((id, key)));
        handles.scanned(before);
        assert!(handles.private(id).is_none() && handles.kek().is_none() && !handles.is_scanned());
        handles.remember(handles.epoch(), id, key);
        assert!(handles.private(id).is_some());
        handles.destroyed(id);
        assert!(handles.private(id).is_none());
    }
}
