//! Threads for connections whose signatures shall not wait for another thread.
//!
//! To wake a thread costs more than half a P-256 signature. On a lane, one thread reads what is to be
//! signed, asks the HSM in a session of its own, and writes the answer. That blocks what else is on
//! the lane for as long as the HSM takes; so nothing is there but such connections, and what is many
//! or takes long the HSM's workers have ([`Place`](crate::keystore::Place)).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures_util::future::BoxFuture;
use tokio::{runtime::Builder, sync::mpsc};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::error::{Error, Result};
use crate::signing::Signing;

/// Connections that may be on their way to one lane.
const ON_THE_WAY: usize = 64;

/// What is done on a lane.
type Work = BoxFuture<'static, ()>;

/// The lanes. They start when the first connection comes, and end with the vault.
pub(super) struct Lanes {
    lanes: Mutex<Vec<Lane>>,
    most: usize,
    calls: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Clone)]
struct Lane {
    work: mpsc::Sender<Work>,
    /// How much is on it.
    load: Arc<AtomicUsize>,
}

impl Lanes {
    /// None yet, and as many as there are processors at most. Each counts as one of the `calls`, until after
    /// `stopping` it is empty.
    pub(super) fn new(most: usize, calls: TaskTracker, stopping: CancellationToken) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { lanes: Mutex::default(), most: most.min(processors), calls, stopping }
    }

    /// Does this on the lane that has the least to do.
    ///
    /// # Errors
    /// `Unavailable` where there is no thread to be had, or the vault stops.
    pub(super) async fn carry(&self, signing: &Signing, work: Work) -> Result<()> {
        let lane = self.emptiest(signing)?;
        let load = Load::of(&lane);
        let work = Box::pin(async move {
            work.await;
            drop(load);
        });
        lane.work.send(work).await.map_err(|_| unavailable("the vault stops"))
    }

    fn emptiest(&self, signing: &Signing) -> Result<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lanes.iter().any(|lane| lane.load.load(Ordering::Relaxed) == 0);
        if !idle && lanes.len() < self.most {
            let (work, waiting) = mpsc::channel(ON_THE_WAY);
            let (stopping, call) = (self.stopping.clone(), self.calls.token());
            let name = format!("lane-{}", lanes.len());
            signing.thread_with_session(name, Box::new(move || run(waiting, &stopping, call)))?;
            lanes.push(Lane { work, load: Arc::default() });
        }
        let least = lanes.iter().min_by_key(|lane| lane.load.load(Ordering::Relaxed));
        least.cloned().ok_or_else(|| unavailable("there is no thread for it"))
    }
}

fn unavailable(why: &str) -> Error {
    Error::unavailable("open", "a connection for signatures", why)
}

/// Counts as work on a lane while it is there.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn of(lane: &Lane) -> Self {
        lane.load.fetch_add(1, Ordering::Relaxed);
        Self(lane.load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A lane's thread.
fn run(mut waiting: mpsc::Receiver<Work>, stopping: &CancellationToken, call: TaskTrackerToken) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a lane for signatures cannot be watched"),
    };
    let works = TaskTracker::new();
    runtime.block_on(async {
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                work = waiting.recv() => match work {
                    Some(work) => drop(works.spawn(work)),
                    None => break,
                }
            }
        }
        waiting.close();
        while let Some(work) = waiting.recv().await {
            works.spawn(work);
        }
        works.close();
        works.wait().await;
    });
    drop((runtime, call));
}
