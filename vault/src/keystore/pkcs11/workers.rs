//! Fixed OS threads, each owning one logged-in session, fed by one bounded queue.
//!
//! PKCS#11 calls block and a session is for one thread at a time, so no async task ever makes one.
//! A request carries its deadline: what nobody waits for any more is not started.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender, TrySendError, bounded};
use backon::{BackoffBuilder as _, BlockingRetryable as _, ExponentialBuilder};
use crossbeam_channel::RecvTimeoutError;
use secrecy::SecretString;
use tokio::sync::{Semaphore, oneshot};

use super::{
    Module, TokenUri, handles::Handles, module::Life, own, rv::Failure, session::TokenSession,
};
use crate::error::{Error, Result};
use crate::keystore::{Place, Witness};

/// How often one call is made at once. A logout by another application shows first as a stale
/// handle, then as a lost login, and only then comes the call that counts. After these tries a lost
/// token is waited for until the deadline; any other failure is the call's own by then.
const TRIES: usize = 3;

/// The longest pause before a lost token is tried again, but for jitter: an HSM that restarts is not
/// stormed, and callers do not wait much longer than it was away.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

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
    /// A generation: the next try begins by destroying what the last one may have left.
    Undone,
    /// A destruction, unless it did not begin: start-up reconciles by CKA_ID.
    Never,
}

/// Answers that a worker gives at once at most, and for how long it may keep the first of them.
/// Only where more waits than there are workers: each answer wakes somebody, and to be woken costs
/// more than many a signature.
const TOGETHER: (usize, Duration) = (32, Duration::from_millis(10));

/// What a worker does for somebody.
struct Job {
    /// A signature or a look; what takes long lets no answer wait.
    quick: bool,
    /// Does it, and answers how to say so.
    work: Box<dyn FnOnce(&mut Worker) -> Answer + Send>,
}

/// Gives an answer to who waits for it.
type Answer = Box<dyn FnOnce()>;

/// The threads' common queue; they end when it is dropped, which waits for them up to [`PARTING`].
pub(super) struct Workers {
    token: Arc<Token>,
    /// There until the drop, as what each thread holds until it has closed its session.
    queue: Option<(Sender<Job>, crossbeam_channel::Sender<()>)>,
    /// Disconnected once every thread has closed its session.
    ended: crossbeam_channel::Receiver<()>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// For those that wait for their turn to work alone, and the turn.
    alone: (Arc<Semaphore>, Arc<Semaphore>),
    deadline: Duration,
    subject: Arc<str>,
}

/// What all workers share.
pub(super) struct Token {
    module: Module,
    uri: TokenUri,
    pin: SecretString,
    /// What they have found.
    handles: Arc<Handles>,
    /// How many of them the queue has.
    fellows: usize,
    /// A PIN that was refused once is not tried again by any worker.
    pin_refused: AtomicBool,
}

/// Who has a session.
pub(super) struct Worker {
    token: Arc<Token>,
    session: Option<TokenSession>,
    /// A token that was there may come back; one that never was is named wrongly.
    was_there: bool,
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
        let (queue, jobs) = bounded::<Job>(options.queue.max(1));
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
        let alone = [options.queue.max(1), 1].map(Semaphore::new).map(Arc::new).into();
        let (queue, threads) = (Some((queue, running)), Mutex::new(threads));
        Ok(Self { token, queue, ended, threads, alone, deadline: options.deadline, subject })
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
        self.run_until(Instant::now() + self.deadline, what, again, call, None).await
    }

    /// Runs `call`, which is safe to repeat, with a witness, where it is to be run.
    pub(super) async fn run_witnessed<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl Fn(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
        witness: Box<dyn Witness>,
        place: Place,
    ) -> Result<T> {
        let until = Instant::now() + self.deadline;
        let mut witness = Some(witness);
        if place == Place::Here {
            let done = own::with(&self.token, |worker| {
                let of = (what, &*self.subject);
                worker.carry_out(until, of, Again::Safe, &call, witness.take())
            });
            if let Some(done) = done {
                return done;
            }
        }
        let done = self.run_until(until, what, Again::Safe, call, witness).await;
        if place == Place::Here && done.is_ok() {
            own::reopen(&self.token);
        }
        done
    }

    /// Runs `call` when no other of these runs: it makes or destroys objects, and of two at once SoftHSM now
    /// and then fails one with whatever it finds of the other. It is told until when somebody waits.
    pub(super) async fn run_alone<T: Send + 'static>(
        &self,
        what: &'static str,
        again: Again,
        call: impl Fn(&mut TokenSession, Instant) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let until = Instant::now() + self.deadline;
        let (room, turn) = &self.alone;
        let room = room.clone().try_acquire_owned().map_err(|_| self.full(what))?;
        let turn = tokio::time::timeout_at(until.into(), turn.clone().acquire_owned());
        let turn = turn.await.ok().and_then(Result::ok).ok_or_else(|| self.late(what))?;
        let call = move |session: &mut TokenSession| {
            // They go with the call, whoever waits for its answer.
            let _held = (&room, &turn);
            call(session, until)
        };
        self.run_until(until, what, again, call, None).await
    }

    async fn run_until<T: Send + 'static>(
        &self,
        until: Instant,
        what: &'static str,
        again: Again,
        call: impl Fn(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
        witness: Option<Box<dyn Witness>>,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let subject = self.subject.clone();
        let work = move |worker: &mut Worker| -> Answer {
            if answer.is_closed() || Instant::now() >= until {
                return Box::new(|| {});
            }
            let done = worker.carry_out(until, (what, &subject), again, &call, witness);
            // Nobody may wait any more.
            Box::new(move || drop(answer.send(done)))
        };
        let job = Job { quick: again == Again::Safe, work: Box::new(work) };
        let gone = || Error::unavailable(what, &*self.subject, "its workers have ended");
        let (queue, _) = self.queue.as_ref().ok_or_else(gone)?;
        queue.try_send(job).map_err(|error| match error {
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

impl Worker {
    fn new(token: Arc<Token>) -> Self {
        Self { token, session: None, was_there: false }
    }

    /// Whether it is one of this token's.
    pub(super) fn is_of(&self, token: &Arc<Token>) -> bool {
        Arc::ptr_eq(&self.token, token)
    }

    /// Whether it has a session.
    pub(super) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        let mut answers: Vec<Answer> = Vec::new();
        while let Ok(first) = jobs.recv_blocking() {
            let begun = Instant::now();
            let mut next = Some(first);
            while let Some(Job { quick, work }) = next {
                if !quick {
                    answers.drain(..).for_each(|answer| answer());
                }
                answers.push(work(&mut self));
                let (most, longest) = TOGETHER;
                let waits = jobs.len() >= self.token.fellows;
                let more = waits && quick && answers.len() < most && begun.elapsed() < longest;
                next = if more { jobs.try_recv().ok() } else { None };
            }
            answers.drain(..).for_each(|answer| answer());
        }
        self.end();
    }

    /// Closes its session.
    pub(super) fn end(mut self) {
        let token = self.token.clone();
        self.part(*token.module.life());
    }

    /// Makes a call for somebody, between the two looks of a witness where there is one.
    fn carry_out<T>(
        &mut self,
        until: Instant,
        (what, subject): (&str, &str),
        again: Again,
        call: &impl Fn(&mut TokenSession) -> Result<T, Failure>,
        witness: Option<Box<dyn Witness>>,
    ) -> Result<T> {
        let mut called = || {
            let called = self.call(until, again, call);
            called.map_err(|failure| failure.into_error(what, subject))
        };
        let Some(mut witness) = witness else { return called() };
        witness.before()?;
        let done = called();
        witness.after(done.as_ref().map(drop))?;
        done
    }

    fn call<T>(
        &mut self,
        until: Instant,
        again: Again,
        call: &impl Fn(&mut TokenSession) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut pauses = pauses().build();
        let mut made = 0;
        loop {
            self.open(until)?;
            made += 1;
            let failure = match self.attempt(call) {
                Some(Ok(value)) => return Ok(value),
                Some(Err(failure)) => failure,
                None => continue,
            };
            let repeatable = again != Again::Never || failure.not_begun();
            let retry = if failure.is_loss() {
                repeatable
            } else if failure.ends_session() {
                repeatable && made < TRIES
            } else {
                // The object was not touched, so looking it up again is safe in every case.
                failure.stale_handle() && made < TRIES
            };
            if !retry {
                return Err(failure);
            }
            let pause =
                if made < TRIES { Duration::ZERO } else { pauses.next().unwrap_or(LONGEST_PAUSE) };
            if Instant::now() + pause >= until {
                return Err(failure);
            }
            thread::sleep(pause);
        }
    }

    /// Makes a call on the session, once; nothing where there is none that can be used.
    fn attempt<T>(
        &mut self,
        call: &impl Fn(&mut TokenSession) -> Result<T, Failure>,
    ) -> Option<Result<T, Failure>> {
        let token = self.token.clone();
        let life = token.module.life();
        let session = self.session.as_mut()?;
        if !session.is_of(*life) {
            // Another worker has revived the module since this session was opened.
            self.part(*life);
            return None;
        }
        let done = call(session);
        if let Err(failure) = &done {
            if failure.ends_session() {
                tracing::warn!(?failure, "the HSM dropped a session");
                self.part(*life);
            } else if failure.stale_handle() {
                session.forget_handles();
            }
        }
        Some(done)
    }

    /// Closes the session; one of another life is forgotten, since its handle may be anybody's.
    fn part(&mut self, life: Life) {
        if let Some(session) = self.session.take()
            && !session.is_of(life)
        {
            mem::forget(session);
        }
    }

    /// Opens the session where there is none, trying until the deadline; the PIN is tried once.
    pub(super) fn open(&mut self, until: Instant) -> Result<(), Failure> {
        if self.session.is_some() {
            return Ok(());
        }
        if self.token.pin_refused.load(Ordering::Relaxed) {
            return Err(Failure::Ours(
                Error::denied(
                    "log in",
                    format!("token {}", self.token.uri.label()),
                    "the PIN was refused before and is not tried again",
                )
                .hint("correct the PIN in the file that [hsm] pin names, then restart vaultd"),
            ));
        }
        let left = until.saturating_duration_since(Instant::now());
        let opened = (|| self.log_in())
            .retry(pauses().with_total_delay(Some(left.mul_f32(0.8))))
            .when(|failure| match failure {
                Failure::Token(_) => !failure.refuses_pin(),
                Failure::Absent(_) => self.was_there,
                Failure::Ours(_) => false,
            })
            .call();
        if opened.as_ref().is_err_and(Failure::refuses_pin) {
            self.token.pin_refused.store(true, Ordering::Relaxed);
        }
        self.session = Some(opened.map_err(|failure| {
            match failure {
                Failure::Absent(error) if self.was_there => Failure::Ours(
                    Error::unavailable(error.what, error.subject, "no slot has the token any more")
                        .hint("check that the HSM is reachable and its token present"),
                ),
                other => other,
            }
        })?);
        self.was_there = true;
        Ok(())
    }

    fn log_in(&self) -> Result<TokenSession, Failure> {
        let Token { module, uri, pin, handles, .. } = &*self.token;
        let life = *module.life();
        let open = || TokenSession::open(module, uri, pin, handles);
        open().or_else(|failure| {
            if !failure.ends_module() {
                return Err(failure);
            }
            module.revive(life)?;
            open()
        })
    }
}

/// The pauses between tries, for as long as somebody waits.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
}
