//! One thread's session: what it is asked for, and what is done where the token drops it.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_channel::Receiver;
use backon::{BackoffBuilder as _, BlockingRetryable as _, ExponentialBuilder};
use secrecy::SecretString;

use super::{
    Module, TokenUri,
    handles::Handles,
    job::{AnyJob, answer},
    module::Life,
    rv::Failure,
    session::TokenSession,
};
use crate::error::{Error, Result};

/// How often one call is made at once. A logout by another application shows first as a stale
/// handle, then as a lost login, and only then comes the call that counts. After these tries a lost
/// token is waited for until the deadline; any other failure is the call's own by then.
const TRIES: usize = 3;

/// The longest pause before a lost token is tried again, but for jitter: an HSM that restarts is not
/// stormed, and callers do not wait much longer than it was away.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Whether a call may be made again after the token lost the session in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// A signature or a look: the second makes the first undone.
    Safe,
    /// Many keys in one call: as safe, but it takes long.
    Many,
    /// A generation: the next try begins by destroying what the last one may have left.
    Undone,
    /// A destruction, unless it did not begin: start-up reconciles by CKA_ID.
    Never,
}

/// Jobs that a worker begins together at most, and so with one write to the audit log.
const BEGUN: usize = 8;
/// Answers that a worker gives together at most, and how long after the first of them was begun. Only
/// where more waits than there are workers: each answer wakes somebody, and to be woken costs more than
/// many a signature.
const ANSWERED: usize = 32;
const LONGEST: Duration = Duration::from_millis(20);

/// What is done and not answered.
struct Held {
    done: Vec<AnyJob>,
    /// When the first of it began.
    since: Instant,
}

impl Default for Held {
    fn default() -> Self {
        Self { done: Vec::new(), since: Instant::now() }
    }
}

impl Held {
    /// Keeps what has been done just now for as long as it may be kept.
    fn hold(&mut self, job: AnyJob) {
        self.done.push(job);
        if self.done.len() >= ANSWERED || self.since.elapsed() >= LONGEST {
            self.answer();
        }
    }

    fn answer(&mut self) {
        answer(mem::take(self).done);
    }
}

/// What all workers share.
pub(super) struct Token {
    pub(super) module: Module,
    pub(super) uri: TokenUri,
    pub(super) pin: SecretString,
    /// What they have found.
    pub(super) handles: Arc<Handles>,
    /// How many of them the queue has.
    pub(super) fellows: usize,
    /// A PIN that was refused once is not tried again by any worker.
    pub(super) pin_refused: AtomicBool,
}

/// Who has a session.
pub(super) struct Worker {
    token: Arc<Token>,
    session: Option<TokenSession>,
    /// A token that was there may come back; one that never was is named wrongly.
    was_there: bool,
    held: Held,
}

impl Worker {
    /// One without a session.
    pub(super) fn new(token: Arc<Token>) -> Self {
        Self { token, session: None, was_there: false, held: Held::default() }
    }

    /// Whether it is one of this token's.
    pub(super) fn is_of(&self, token: &Arc<Token>) -> bool {
        Arc::ptr_eq(&self.token, token)
    }

    /// Whether it has a session.
    pub(super) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Does what the queue has until that is closed.
    pub(super) fn run(mut self, jobs: &Receiver<AnyJob>) {
        while let Ok(first) = jobs.recv_blocking() {
            self.held = Held::default();
            let mut next = Some(first);
            while let Some(first) = next {
                let mut quick = true;
                for mut job in self.begin(first, jobs) {
                    quick = job.is_quick();
                    if !quick {
                        self.held.answer();
                    }
                    job.carry_out(&mut self);
                    self.held.hold(job);
                }
                let waits = jobs.len() >= self.token.fellows;
                next = if waits && quick { jobs.try_recv().ok() } else { None };
            }
            self.held.answer();
        }
        self.end();
    }

    /// Begins with a job, and with this worker's share of those that wait.
    fn begin(&self, first: AnyJob, jobs: &Receiver<AnyJob>) -> Vec<AnyJob> {
        let share = jobs.len() / self.token.fellows;
        let mut some = vec![first];
        while some.len() < BEGUN.min(1 + share)
            && some.last().is_some_and(|last| last.is_quick())
            && let Ok(next) = jobs.try_recv()
        {
            some.push(next);
        }
        some.retain_mut(|job| job.begin());
        some
    }

    /// Closes its session.
    pub(super) fn end(mut self) {
        let token = self.token.clone();
        self.part(*token.module.life());
    }

    /// Makes a call, again where it may be, until it is done or nobody waits any more.
    pub(super) fn call<T>(
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
            self.held.answer();
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
        // What is done does not wait for a token that is away.
        self.held.answer();
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
