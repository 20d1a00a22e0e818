//! One at a time, among all nodes of a vault and all calls of one.

use std::{
    convert::Infallible,
    sync::atomic::Ordering,
    time::{Duration as StdDuration, Instant},
};

use time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Keeper, SCHEDULE};
use crate::error::{Error, Result};
use crate::store::ScheduleRecord;

/// How long a node that has died keeps the others from taking over.
const LEASE: Duration = Duration::seconds(30);
/// How often a node says that it is alive.
const HEARTBEAT: StdDuration = StdDuration::from_secs(8);

impl Keeper {
    /// Does what one node and one call at a time may; `None` where another is at it. Work whose
    /// token is cancelled must end: the vault stops, or does not hold the schedule any more.
    pub(super) async fn alone<T>(
        &self,
        stop: &CancellationToken,
        work: impl AsyncFnOnce(&CancellationToken) -> Result<T>,
    ) -> Result<Option<T>> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) if self.making.load(Ordering::Acquire) => return Ok(None),
            // What is not the making of a backup takes no time to speak of.
            Err(_) => self.turn.lock().await,
        };
        if !self.claim().await? {
            return Ok(None);
        }
        let held = stop.child_token();
        let done = tokio::select! {
            done = work(&held) => done,
            never = self.stay_alive(&held) => match never {},
        };
        let released = self.store.release_schedule(SCHEDULE, &self.holder).await;
        let done = done?;
        released.map(|()| Some(done))
    }

    async fn claim(&self) -> Result<bool> {
        let now = self.clock.now();
        self.store.claim_schedule(SCHEDULE, &self.holder, now, now + LEASE).await
    }

    /// Goes on holding the schedule; where that fails for too long, another node may have it.
    async fn stay_alive(&self, held: &CancellationToken) -> Infallible {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let lost = match self.claim().await {
                Ok(true) => {
                    since = Instant::now();
                    false
                }
                Ok(false) => true,
                Err(_) => since.elapsed() + HEARTBEAT >= LEASE.unsigned_abs(),
            };
            if lost {
                held.cancel();
            }
        }
    }

    /// Writes down where the schedule stands, while it is held.
    pub(super) async fn note(&self, schedule: &ScheduleRecord) -> Result<()> {
        match self.store.update_schedule(SCHEDULE, &self.holder, schedule).await? {
            true => Ok(()),
            false => Err(Error::unavailable("make", "a backup", "another node makes them now")),
        }
    }
}
