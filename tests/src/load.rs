//! Full TLS handshakes without end, from several threads: what a web server's visitors see while
//! something happens to it.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustls::ProtocolVersion;

use crate::{
    process::{PATIENCE, eventually},
    visitor::Visitor,
};

/// How many shake hands at once.
const VISITORS: usize = 4;
/// Handshakes in a row that show a visitor that all is well.
const ENOUGH: usize = 5;
/// Between two handshakes of one thread: what is tested needs a processor, too.
const PAUSE: Duration = Duration::from_millis(5);

/// Visitors of a web server; they leave when dropped.
pub struct Load {
    visitors: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    begun: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// How many handshakes in a row each visitor has had without a failure.
    in_a_row: [usize; VISITORS],
    /// How often each leaf was shown, by its serial number in lower-case hex.
    leaves: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Load {
    /// Begins with visitors of these kinds in turn, and waits until nothing fails: a server that was
    /// reloaded just now may still show what it had before.
    ///
    /// # Panics
    /// Where handshakes go on failing.
    pub fn start(kinds: &[Visitor]) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            begun: Instant::now(),
            seen: Mutex::default(),
        });
        let visit = |(number, visitor): (usize, &Visitor)| {
            let (visitor, shared) = (visitor.clone(), shared.clone());
            thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.note(number, visitor.version(), visitor.shake_hands());
                    thread::sleep(PAUSE);
                }
            })
        };
        let visitors = kinds.iter().cycle().take(VISITORS).enumerate().map(visit).collect();
        let load = Self { visitors, shared };
        load.wait_well("at first");
        load
    }

    /// Does something that no visitor may notice: not one handshake fails meanwhile, nor afterwards.
    ///
    /// # Panics
    /// Where one does; with what each failure said.
    pub fn unnoticed<T>(&self, what: &str, happens: impl FnOnce() -> T) -> T {
        self.forget();
        let done = happens();
        self.goes_on(what);
        done
    }

    /// Does something that visitors may notice: in the end, all of them are well again.
    ///
    /// # Panics
    /// Where they are not.
    pub fn healed<T>(&self, what: &str, happens: impl FnOnce() -> T) -> T {
        let done = happens();
        self.wait_well(what);
        self.forget();
        self.goes_on(what);
        done
    }

    /// Does something that visitors must notice: a handshake fails meanwhile or afterwards. What it
    /// says.
    ///
    /// # Panics
    /// Where none fails.
    pub fn noticed(&self, what: &str, happens: impl FnOnce()) -> String {
        self.forget();
        happens();
        eventually(&format!("{what}: a handshake fails"), || {
            self.shared.seen().failures.first().cloned()
        })
    }

    /// The leaves that are shown from now on until every visitor has seen a few, by their serial
    /// numbers, lower-case hex as the vault writes them.
    ///
    /// # Panics
    /// Where a handshake fails.
    pub fn leaves(&self, what: &str) -> Vec<String> {
        self.unnoticed(what, || {});
        self.shared.seen().leaves.keys().cloned().collect()
    }

    /// Waits until somebody was shown this leaf; within [`Load::unnoticed`], since that has begun.
    ///
    /// # Panics
    /// Where nobody is.
    pub fn wait_shown(&self, serial: &str) {
        eventually(&format!("{serial} is shown"), || {
            self.shared.seen().leaves.contains_key(serial).then_some(())
        });
    }

    fn forget(&self) {
        *self.shared.seen() = Seen::default();
    }

    /// Waits until every visitor has shaken hands a few times more; none of them may have failed
    /// since what was seen was forgotten.
    fn goes_on(&self, what: &str) {
        self.shared.seen().in_a_row = [0; VISITORS];
        let enough = |seen: &Seen| {
            !seen.failures.is_empty() || seen.in_a_row.iter().all(|times| *times >= ENOUGH)
        };
        eventually(&format!("{what}: handshakes go on"), || {
            enough(&self.shared.seen()).then_some(())
        });
        let seen = self.shared.seen();
        let good: usize = seen.leaves.values().sum();
        let (bad, said) = (seen.failures.len(), seen.failures.join("\n"));
        assert!(bad == 0, "{what}: {bad} handshakes failed, {good} did not:\n{said}");
    }

    fn wait_well(&self, what: &str) {
        self.shared.seen().in_a_row = [0; VISITORS];
        let end = Instant::now() + PATIENCE;
        while self.shared.seen().in_a_row.iter().any(|times| *times < ENOUGH) {
            let last = self.shared.seen().failures.last().cloned().unwrap_or_default();
            assert!(Instant::now() < end, "{what}: handshakes go on failing: {last}");
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for visitor in self.visitors.drain(..) {
            let _ = visitor.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, visitor: usize, version: ProtocolVersion, leaf: io::Result<String>) {
        let mut seen = self.seen();
        match leaf {
            Ok(serial) => {
                seen.in_a_row[visitor] += 1;
                *seen.leaves.entry(serial).or_default() += 1;
            }
            Err(error) => {
                seen.in_a_row[visitor] = 0;
                let at = self.begun.elapsed();
                seen.failures.push(format!("{at:.1?}, {version:?}: {error}"));
            }
        }
    }
}
