//! What workers are asked for, in steps that several jobs take together.

use std::{
    sync::Arc,
    thread::{self, ThreadId},
    time::Instant,
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    rv::Failure,
    session::TokenSession,
    worker::{Again, Worker},
};
use crate::error::Result;
use crate::keystore::Witness;

/// Something to be done on a worker's session.
pub(super) trait Job: Send {
    /// A signature or a look; what takes long lets no answer wait.
    fn is_quick(&self) -> bool;
    /// Has the witness say what is about to be done; `false` where nobody waits for it any more.
    fn begin(&mut self) -> bool;
    /// Does it, where the witness could say so and what it said stands.
    fn carry_out(&mut self, worker: &mut Worker);
    /// Has the witness say what came of it.
    fn conclude(&mut self);
    /// Makes sure that what the witness has said stands.
    fn end(&mut self);
    /// Where somebody waits for it.
    fn home(&self) -> &Home;
    /// Hands out what came of it.
    fn answer(self: Box<Self>);
}

/// The thread that has asked for something, and its runtime.
#[derive(Clone)]
pub(super) struct Home {
    thread: ThreadId,
    runtime: Handle,
}

impl Home {
    /// Of whoever calls, in a runtime.
    pub(super) fn here() -> Self {
        Self { thread: thread::current().id(), runtime: Handle::current() }
    }
}

/// Answers all. Many answers to one home are given there: given from here, the first would wake a thread
/// that takes this one's processor, finds that one answer, and sleeps again before the next.
pub(super) fn answer(mut done: Vec<AnyJob>) {
    done.iter_mut().for_each(|job| job.conclude());
    done.iter_mut().for_each(|job| job.end());
    while let Some(first) = done.first() {
        let Home { thread, runtime } = first.home().clone();
        let its: Vec<_> = done.extract_if(.., |job| job.home().thread == thread).collect();
        let many = its.len() > 1;
        let give = move || its.into_iter().for_each(Job::answer);
        match many {
            false => give(),
            true => drop(runtime.spawn(async move { give() })),
        }
    }
}

/// A job, whatever comes of it.
pub(super) type AnyJob = Box<dyn Job>;

/// A call to the token, between the two looks of a witness where there is one.
pub(super) struct Call<F> {
    /// Until when somebody waits.
    pub(super) until: Instant,
    /// What is done, for errors.
    pub(super) what: &'static str,
    /// On which token, for errors.
    pub(super) subject: Arc<str>,
    /// Whether it may be made again.
    pub(super) again: Again,
    /// The call.
    pub(super) body: F,
    /// Who sees it; nobody once that failed.
    pub(super) witness: Option<Box<dyn Witness>>,
}

impl<T, F: Fn(&mut TokenSession) -> Result<T, Failure>> Call<F> {
    /// All of it.
    pub(super) fn make(&mut self, worker: &mut Worker) -> Result<T> {
        self.begin()?;
        let made = self.carry_out(worker);
        let made = self.conclude(made);
        self.end(made)
    }

    fn begin(&mut self) -> Result<()> {
        self.with_witness(|witness| witness.before())
    }

    fn carry_out(&mut self, worker: &mut Worker) -> Result<T> {
        self.with_witness(|witness| witness.stands())?;
        let made = worker.call(self.until, self.again, &self.body);
        made.map_err(|failure| failure.into_error(self.what, &self.subject))
    }

    fn conclude(&mut self, made: Result<T>) -> Result<T> {
        self.with_witness(|witness| witness.after(made.as_ref().map(drop)))?;
        made
    }

    fn end(&mut self, made: Result<T>) -> Result<T> {
        self.with_witness(|witness| witness.stands())?;
        made
    }

    fn with_witness(&mut self, look: impl FnOnce(&mut dyn Witness) -> Result<()>) -> Result<()> {
        let Some(witness) = &mut self.witness else { return Ok(()) };
        let seen = look(witness.as_mut());
        if seen.is_err() {
            self.witness = None;
        }
        seen
    }
}

/// A call, and who waits for what comes of it.
pub(super) struct Asked<T, F> {
    call: Call<F>,
    answer: oneshot::Sender<Result<T>>,
    home: Home,
    /// What has come of it.
    made: Option<Result<T>>,
}

impl<T, F> Asked<T, F> {
    /// A call that is still to be made, for somebody here.
    pub(super) fn new(call: Call<F>, answer: oneshot::Sender<Result<T>>) -> Self {
        Self { call, answer, home: Home::here(), made: None }
    }
}

impl<T, F> Job for Asked<T, F>
where
    T: Send,
    F: Fn(&mut TokenSession) -> Result<T, Failure> + Send,
{
    fn is_quick(&self) -> bool {
        self.call.again == Again::Safe
    }

    fn begin(&mut self) -> bool {
        if self.answer.is_closed() || Instant::now() >= self.call.until {
            return false;
        }
        self.made = self.call.begin().err().map(Err);
        true
    }

    fn carry_out(&mut self, worker: &mut Worker) {
        if self.made.is_none() {
            self.made = Some(self.call.carry_out(worker));
        }
    }

    fn conclude(&mut self) {
        self.made = self.made.take().map(|made| self.call.conclude(made));
    }

    fn end(&mut self) {
        self.made = self.made.take().map(|made| self.call.end(made));
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn answer(self: Box<Self>) {
        if let Some(made) = self.made {
            // Nobody may wait any more.
            let _ = self.answer.send(made);
        }
    }
}
