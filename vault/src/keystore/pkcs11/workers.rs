//! Fixed OS threads, each owning one logged-in session, fed by one bounded queue.
//!
//! PKCS#11 calls block and a session is for one thread at a time, so no async task ever makes one.
//! A request carries its deadline: what nobody waits for any more is not started.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use async_channel::{Sender, TrySendError, bounded};
use crossbeam_channel::RecvTimeoutError;
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::{
    Module, TokenUri,
    job::{AnyJob, Asked, Call},
    own,
    rv::Failure,
    session::TokenSession,
    turns::{Alone, Missed, Turns},
    worker::{Again, Token, Worker},
};
use crate::error::{Error, Result};
use crate::keystore::{Place, Witness};

/// How long the end of the pool waits for its threads. A module that is at work while the process runs
/// its exit handlers has crashed, and an RSA key can take a busy machine many seconds; one that hangs must
/// not hold the process.
const PARTING: Duration = Duration::from_secs(30);

/// How the pool is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Sessions and threads.
    pub workers: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// How long one request may take, waiting included but for the turns of those that come before.
    pub deadline: Duration,
}

/// The threads' common queue; they end when it is dropped, which waits for them up to [`PARTING`].
pub(super) struct Workers {
    token: Arc<Token>,
    /// There until the drop, as what each thread holds until it has closed its session.
    queue: Option<(Sender<AnyJob>, crossbeam_channel::Sender<()>)>,
    /// Disconnected once every thread has closed its session.
    ended: crossbeam_channel::Receiver<()>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    changes: Turns,
    wraps: Turns,
    deadline: Duration,
    subject: Arc<str>,
}

impl Workers {
    /// Opens every session now, so that a wrong PIN or a missing token is an error at once.
    pub(super) fn start(
        module: &Module,
        uri: &TokenUri,
        pin: &SecretString,
        options: Options,
    ) -> Result<Self> {
        let subject: Arc<str> = format!("token {}", uri.label()).into();
        let (queue, jobs) = bounded::<AnyJob>(options.queue.max(1));
        let (running, ended) = crossbeam_channel::bounded::<()>(0);
        let token = Arc::new(Token {
            module: module.clone(),
            uri: uri.clone(),
            pin: pin.clone(),
            handles: Arc::default(),
            fellows: options.workers.max(1),
            pin_refused: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for number in 0..token.fellows {
            let mut worker = Worker::new(token.clone());
            worker
                .open(Instant::now() + options.deadline)
                .map_err(|failure| failure.into_error("log in", &subject))?;
            let (jobs, running) = (jobs.clone(), running.clone());
            let thread = thread::Builder::new().name(format!("hsm-{number}")).spawn(move || {
                worker.run(&jobs);
                drop(running);
            });
            threads.push(thread.map_err(|e| Error::unavailable("start", "an HSM worker", e))?);
        }
        let [changes, wraps] = [(); 2].map(|()| Turns::new(options.queue.max(1)));
        let (queue, threads) = (Some((queue, running)), Mutex::new(threads));
        let deadline = options.deadline;
        Ok(Self { token, queue, ended, threads, changes, wraps, deadline, subject })
    }

    /// Runs `body` on a new thread with a session of its own, in which [`Place::Here`] is done. Where it
    /// cannot be opened now, that is tried again later.
    pub(super) fn join_in(&self, name: String, body: Box<dyn FnOnce() + Send>) -> Result<()> {
        let worker = Worker::new(self.token.clone());
        let running = self.queue.as_ref().map(|(_, running)| running.clone());
        let thread = thread::Builder::new().name(name).spawn(move || {
            own::run(worker, body);
            drop(running);
        });
        let thread = thread.map_err(|e| Error::unavailable("start", "a thread that signs", e))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Runs `call` on a session.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        again: Again,
        call: impl Fn(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.queue(self.call(Instant::now() + self.deadline, what, again, call)).await
    }

    /// Runs `call`, which is safe to repeat, with a witness, where it is to be run.
    pub(super) async fn run_witnessed<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl Fn(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
        witness: Box<dyn Witness>,
        place: Place,
    ) -> Result<T> {
        let mut call = self.call(Instant::now() + self.deadline, what, Again::Safe, call);
        call.witness = Some(witness);
        if place == Place::Here
            && let Some(made) = own::with(&self.token, |worker| call.make(worker))
        {
            return made;
        }
        let done = self.queue(call).await;
        if place == Place::Here && done.is_ok() {
            own::reopen(&self.token);
        }
        done
    }

    /// Runs `call` when no other of its kind runs. It is told until when somebody waits, which begins with its
    /// turn.
    pub(super) async fn run_alone<T: Send + 'static>(
        &self,
        kind: Alone,
        what: &'static str,
        again: Again,
        call: impl Fn(&mut TokenSession, Instant) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let turns = match kind {
            Alone::Change => &self.changes,
            Alone::Wrap => &self.wraps,
        };
        let turn = turns.take(self.deadline).await.map_err(|missed| match missed {
            Missed::Full => self.full(what),
            Missed::Stuck => self.late(what),
        })?;
        let until = Instant::now() + self.deadline;
        let call = move |session: &mut TokenSession| {
            // It goes with the call, whoever waits for its answer.
            let _turn = &turn;
            call(session, until)
        };
        self.queue(self.call(until, what, again, call)).await
    }

    fn call<F>(&self, until: Instant, what: &'static str, again: Again, body: F) -> Call<F> {
        Call { until, what, subject: self.subject.clone(), again, body, witness: None }
    }

    /// Has a worker make a call.
    async fn queue<T, F>(&self, call: Call<F>) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
    {
        let (until, what) = (call.until, call.what);
        let (answer, answered) = oneshot::channel();
        let gone = || Error::unavailable(what, &*self.subject, "its workers have ended");
        let (queue, _) = self.queue.as_ref().ok_or_else(gone)?;
        queue.try_send(Box::new(Asked::new(call, answer))).map_err(|error| match error {
            TrySendError::Full(_) => self.full(what),
            TrySendError::Closed(_) => gone(),
        })?;
        match tokio::time::timeout_at(until.into(), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(self.late(what)),
        }
    }

    fn full(&self, what: &'static str) -> Error {
        Error::exhausted(what, &*self.subject, "too many requests wait for the HSM")
            .retry_after(Duration::from_secs(1))
    }

    fn late(&self, what: &'static str) -> Error {
        let why = format!("no answer within {:?}", self.deadline);
        Error::unavailable(what, &*self.subject, why)
            .hint("the HSM is slow or hangs; [hsm] deadline sets how long is waited")
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.queue.take());
        if self.ended.recv_timeout(PARTING) == Err(RecvTimeoutError::Disconnected) {
            // Every session is closed. What the module has for each thread goes with the thread, and
            // has to be gone before the process's exit handlers run.
            let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
            for thread in threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}
