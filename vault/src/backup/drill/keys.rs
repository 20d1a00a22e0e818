//! Keys out of a backup into the token, each for one signature; verified on a thread of its own.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use vault_backup::{
    KeyEntry,
    drill::{Event, Key, KeyOutcome},
};
use vault_proto::ids::KeyId;

use super::Say;
use crate::backup::restore::keys::{Challenge, Escrowed};
use crate::error::{Error, ErrorKind, Result};
use crate::keystore::pkcs11::{Lasting, Recovery};

/// Keys and signatures that wait for the next thread.
const AHEAD: usize = 256;
/// What became of the wrapped keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// How many were unwrapped and have signed.
    pub(super) proven: u64,
    /// Those that were not.
    pub(super) failed: BTreeSet<KeyId>,
    /// The first of them and why.
    pub(super) first: Option<String>,
}

/// The two threads that keys go through.
pub(super) struct Line {
    /// Where they go in; nobody is there where the HSM is lost.
    pub(super) keys: Sender<Box<KeyEntry>>,
    /// How many have come out of the HSM.
    pub(super) done: Arc<AtomicU64>,
    hsm: JoinHandle<Result<Duration>>,
    verified: JoinHandle<Keys>,
}

/// A key on its way to verification.
struct Signed {
    key: Key,
    id: KeyId,
    signed: Result<(Escrowed, Challenge)>,
}

impl Line {
    /// Starts them; without a token every wrapped key fails.
    pub(super) fn start(recovery: Option<Recovery>, say: &Say) -> Self {
        let (keys, entries) = bounded::<Box<KeyEntry>>(AHEAD);
        let (signed, signatures) = bounded(AHEAD);
        let done = Arc::new(AtomicU64::new(0));
        let counted = done.clone();
        let hsm = thread::spawn(move || hsm(recovery.as_ref(), &entries, &signed, &counted));
        let say = say.clone();
        let verified = thread::spawn(move || verify(&signatures, &say));
        Self { keys, done, hsm, verified }
    }

    /// Nothing more comes; answers what became of all, and how long the HSM was busy.
    ///
    /// # Errors
    /// `Unavailable` where the HSM was lost in the middle.
    pub(super) fn end(self) -> Result<(Keys, Duration)> {
        drop(self.keys);
        let ended = |_| Error::internal("drill", "keys", "one of its threads has ended");
        let busy = self.hsm.join().map_err(ended)??;
        let keys = self.verified.join().map_err(ended)?;
        Ok((keys, busy))
    }
}

fn hsm(
    recovery: Option<&Recovery>,
    entries: &Receiver<Box<KeyEntry>>,
    out: &Sender<Signed>,
    done: &AtomicU64,
) -> Result<Duration> {
    let mut busy = Duration::ZERO;
    for entry in entries {
        let begun = Instant::now();
        let signed = sign(recovery, &entry);
        busy += begun.elapsed();
        done.fetch_add(1, Ordering::Relaxed);
        match signed {
            // Of this machine, and no fault of the backup's.
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted) => {
                return Err(error);
            }
            signed => {
                let row = &entry.row;
                let key = Key {
                    id: row.id.to_string(),
                    name: row.name.clone(),
                    purpose: row.purpose.0.clone(),
                    algorithm: row.algorithm.0.clone(),
                    outcome: KeyOutcome::Proven,
                    detail: String::new(),
                };
                if out.send(Signed { key, id: row.id, signed }).is_err() {
                    break;
                }
            }
        }
    }
    Ok(busy)
}

/// Unwraps a key, has it sign a fresh random challenge, and destroys it.
fn sign(recovery: Option<&Recovery>, entry: &KeyEntry) -> Result<(Escrowed, Challenge)> {
    let subject = || format!("key {} ({})", entry.row.name, entry.row.id);
    let Some(recovery) = recovery else {
        return Err(Error::verification("unwrap", subject(), "the KEK is not there"));
    };
    let missing = || Error::verification("unwrap", subject(), "its private half is not there");
    let escrowed = Escrowed::of(entry)?.ok_or_else(missing)?;
    let key = recovery.unwrap(&escrowed.spec, &escrowed.wrapped, Lasting::Session)?;
    let challenge = escrowed.challenge(recovery, &key);
    recovery.destroy(key)?;
    Ok((escrowed, challenge?))
}

fn verify(signatures: &Receiver<Signed>, say: &Say) -> Keys {
    let mut keys = Keys::default();
    for Signed { mut key, id, signed } in signatures {
        match signed.and_then(|(escrowed, challenge)| escrowed.holds(&challenge)) {
            Ok(()) => keys.proven += 1,
            Err(error) => {
                key.outcome = KeyOutcome::Failed;
                key.detail = error.why;
                keys.first.get_or_insert_with(|| format!("{} ({id}): {}", key.name, key.detail));
                keys.failed.insert(id);
            }
        }
        say(Event::Key(key));
    }
    keys
}
