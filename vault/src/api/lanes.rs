//! Threads for connections whose signatures shall not wait for another thread.
//!
//! To wake a thread costs more than half a P-256 signature. On a lane, one thread reads what is to be
//! signed, asks the HSM in a session of its own, and writes the answer. That blocks what else is on
//! the lane for as long as the HSM takes; so nothing is there but such connections, and what is many
//! or takes long the HSM's workers have ([`Place`](crate::keystore::Place)).

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::error::{Error, Result};
use crate::signing::Signing;

/// The lanes. They start when the first connection comes, and end with the vault.
pub(super) struct Lanes {
    lanes: Mutex<Vec<Lane>>,
    most: usize,
    calls: TaskTracker,
    stopping: CancellationToken,
}

struct Lane {
    runtime: Handle,
    /// What is done on it.
    works: TaskTracker,
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
    /// `Unavailable` where there is no thread to be had.
    pub(super) fn carry(
        &self,
        signing: &Signing,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lanes.iter().any(|lane| lane.works.is_empty());
        if !idle && lanes.len() < self.most {
            let lane = self.start(signing, lanes.len())?;
            lanes.push(lane);
        }
        let least = lanes.iter().min_by_key(|lane| lane.works.len());
        let lane = least.ok_or_else(|| unavailable("there is no thread for it"))?;
        lane.works.spawn_on(work, &lane.runtime);
        Ok(())
    }

    fn start(&self, signing: &Signing, number: usize) -> Result<Lane> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(unavailable)?;
        let lane = Lane { runtime: runtime.handle().clone(), works: TaskTracker::new() };
        let (works, stopping) = (lane.works.clone(), self.stopping.clone());
        let call = self.calls.token();
        let body = Box::new(move || run(runtime, &works, &stopping, call));
        signing.thread_with_session(format!("lane-{number}"), body)?;
        Ok(lane)
    }
}

fn unavailable(why: impl std::fmt::Display) -> Error {
    Error::unavailable("open", "a connection for signatures", why)
}

/// A lane's thread.
fn run(
    runtime: Runtime,
    works: &TaskTracker,
    stopping: &CancellationToken,
    call: TaskTrackerToken,
) {
    runtime.block_on(async {
        stopping.cancelled().await;
        works.close();
        works.wait().await;
    });
    drop((runtime, call));
}
