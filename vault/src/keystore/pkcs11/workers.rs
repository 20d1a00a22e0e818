//! Fixed OS threads, each owning one logged-in session, fed by one bounded queue.
//!
//! PKCS#11 calls block and a session is for one thread at a time, so no async task ever makes one.
//! A request carries its deadline: what nobody waits for any more is not started.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use backon::{BlockingRetryable as _, ExponentialBuilder};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::{Module, TokenUri, rv::Failure, session::TokenSession};
use crate::error::{Error, Result};

/// How often one call is made at most. A logout by another application shows first as a stale
/// handle, then as a lost login, and only then comes the call that counts.
const TRIES: u32 = 3;

/// How long the end of the pool waits for its threads. A module that is closing a session while
/// the process runs its exit handlers has crashed; one that hangs must not hold the process.
const PARTING: Duration = Duration::from_secs(5);

/// How the pool is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Sessions and threads.
    pub workers: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// How long one request may take, waiting included.
    pub deadline: Duration,
}

/// Whether a call may be made again after the token lost the session in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// A signature or a look: the second makes the first undone.
    Safe,
    /// A generation or destruction, unless it did not begin: start-up reconciles by CKA_ID.
    Never,
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The threads' common queue; they end when it is dropped, which waits for them up to [`PARTING`].
pub(super) struct Workers {
    /// There until the drop.
    queue: Option<Sender<Job>>,
    /// Disconnected once every thread has closed its session.
    ended: Receiver<()>,
    deadline: Duration,
    subject: String,
}

struct Worker {
    module: Module,
    uri: TokenUri,
    pin: SecretString,
    session: Option<TokenSession>,
    /// A PIN that was refused once is not tried again by any worker.
    pin_refused: Arc<AtomicBool>,
}

impl Workers {
    /// Opens every session now, so that a wrong PIN or a missing token is an error at once.
    pub(super) fn start(
        module: &Module,
        uri: &TokenUri,
        pin: &SecretString,
        options: Options,
    ) -> Result<Self> {
        let subject = format!("token {}", uri.label());
        let (queue, jobs) = bounded::<Job>(options.queue.max(1));
        let (running, ended) = bounded::<()>(0);
        let pin_refused = Arc::new(AtomicBool::new(false));
        for number in 0..options.workers.max(1) {
            let mut worker = Worker {
                module: module.clone(),
                uri: uri.clone(),
                pin: pin.clone(),
                session: None,
                pin_refused: pin_refused.clone(),
            };
            worker
                .open(Instant::now() + options.deadline)
                .map_err(|failure| failure.into_error("log in", &subject))?;
            let (jobs, running) = (jobs.clone(), running.clone());
            thread::Builder::new()
                .name(format!("hsm-{number}"))
                .spawn(move || {
                    worker.run(&jobs);
                    drop(running);
                })
                .map_err(|e| Error::unavailable("start", "an HSM worker", e))?;
        }
        Ok(Self { queue: Some(queue), ended, deadline: options.deadline, subject })
    }

    /// How long one request may take, waiting included.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Runs `call` on a session.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        again: Again,
        call: impl Fn(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let until = Instant::now() + self.deadline;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            if answer.is_closed() || Instant::now() >= until {
                return;
            }
            let _ = answer.send(worker.call(until, again, &call));
        });
        let gone = || Error::unavailable(what, &self.subject, "its workers have ended");
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::exhausted(what, &self.subject, "too many requests wait for the HSM")
                    .retry_after(Duration::from_secs(1))
            }
            TrySendError::Disconnected(_) => gone(),
        })?;
        match tokio::time::timeout_at(until.into(), answered).await {
            Ok(Ok(result)) => result.map_err(|failure| failure.into_error(what, &self.subject)),
            Ok(Err(_)) | Err(_) => {
                let why = format!("no answer within {:?}", self.deadline);
                Err(Error::unavailable(what, &self.subject, why)
                    .hint("the HSM is slow or hangs; [hsm] deadline sets how long is waited"))
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.queue.take());
        let _ = self.ended.recv_timeout(PARTING);
    }
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            job(&mut self);
        }
    }

    fn call<T>(
        &mut self,
        until: Instant,
        again: Again,
        call: &impl Fn(&mut TokenSession) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            self.open(until)?;
            let Some(session) = self.session.as_mut() else {
                return Err(Error::internal("use", "a session", "it was not opened").into());
            };
            let failure = match call(session) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let retry = if failure.ends_session() {
                tracing::warn!(?failure, "the HSM dropped a session");
                self.session = None;
                again == Again::Safe || failure.not_begun()
            } else if failure.stale_handle() {
                // The object was not touched, so looking it up again is safe in every case.
                session.forget_handles();
                true
            } else {
                false
            };
            tries += 1;
            if !retry || tries >= TRIES || Instant::now() >= until {
                return Err(failure);
            }
        }
    }

    /// Opens the session where there is none, trying until the deadline; the PIN is tried once.
    fn open(&mut self, until: Instant) -> Result<(), Failure> {
        if self.session.is_some() {
            return Ok(());
        }
        if self.pin_refused.load(Ordering::Relaxed) {
            return Err(Failure::Ours(
                Error::denied(
                    "log in",
                    format!("token {}", self.uri.label()),
                    "the PIN was refused before and is not tried again",
                )
                .hint("correct the PIN in the file that [hsm] pin names, then restart vaultd"),
            ));
        }
        let left = until.saturating_duration_since(Instant::now());
        let schedule = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(500))
            .with_total_delay(Some(left.mul_f32(0.8)))
            .without_max_times()
            .with_jitter();
        let opened = (|| TokenSession::open(&self.module, &self.uri, &self.pin))
            .retry(schedule)
            .when(|failure| matches!(failure, Failure::Token(_)) && !failure.refuses_pin())
            .call();
        if opened.as_ref().is_err_and(Failure::refuses_pin) {
            self.pin_refused.store(true, Ordering::Relaxed);
        }
        self.session = Some(opened?);
        Ok(())
    }
}
