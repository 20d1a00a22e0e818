//! Threads that have a session of their own beside the workers'.

use std::{cell::RefCell, sync::Arc, time::Instant};

use super::worker::{Token, Worker};

thread_local! {
    static OWN: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// Runs `body` on this thread, which has `worker`'s session until then.
pub(super) fn run(mut worker: Worker, body: impl FnOnce()) {
    open(&mut worker);
    OWN.set(Some(worker));
    body();
    if let Some(worker) = OWN.take() {
        worker.end();
    }
}

/// Does this in this thread's own session of the token; nothing where it has none.
pub(super) fn with<T>(token: &Arc<Token>, work: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    OWN.with_borrow_mut(|own| {
        let worker = own.as_mut().filter(|worker| worker.is_of(token) && worker.is_open());
        worker.map(work)
    })
}

/// Opens this thread's session of the token again where it was lost: another one has just been of use.
pub(super) fn reopen(token: &Arc<Token>) {
    OWN.with_borrow_mut(|own| {
        let lost = own.as_mut().filter(|worker| worker.is_of(token) && !worker.is_open());
        if let Some(worker) = lost {
            open(worker);
        }
    });
}

/// Tries once: until it succeeds the workers do what is to be done here.
fn open(worker: &mut Worker) {
    if let Err(failure) = worker.open(Instant::now()) {
        tracing::warn!(?failure, "a thread that signs has no session with the HSM");
    }
}
