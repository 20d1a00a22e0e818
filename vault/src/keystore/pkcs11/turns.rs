//! Turns: what only one worker does at a time is waited for as long as the HSM gets on with it.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What only one worker does at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Alone {
    /// Making or destroying objects: of two at once SoftHSM now and then fails one with whatever it finds of
    /// the other.
    Change,
    /// Wrapping many keys: two at once wait for one another's locks more than they wrap.
    Wrap,
}

/// For those that do the same of it, in the order in which they came.
pub(super) struct Turns {
    /// Places for those that wait.
    room: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    /// How many turns are over.
    over: Arc<AtomicUsize>,
}

/// Somebody's turn, until it is dropped.
pub(super) struct Turn {
    over: Arc<AtomicUsize>,
    _held: [OwnedSemaphorePermit; 2],
}

/// Why nobody had a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Too many wait.
    Full,
    /// Whoever has the turn does not come to an end.
    Stuck,
}

impl Turns {
    /// For so many that wait.
    pub(super) fn new(room: usize) -> Self {
        let [room, turn] = [room, 1].map(Semaphore::new).map(Arc::new);
        Self { room, turn, over: Arc::default() }
    }

    /// Waits for a turn. One RSA key can take seconds, so that many of them take more than anybody would give
    /// one: only a turn that is not over within `patience` is too long.
    pub(super) async fn take(&self, patience: Duration) -> Result<Turn, Missed> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| Missed::Full)?;
        // Not asked for anew: it would be the last in the row again.
        let mut turn = pin!(self.turn.clone().acquire_owned());
        loop {
            let over = self.over.load(Ordering::Relaxed);
            match timeout(patience, &mut turn).await {
                Ok(Ok(turn)) => return Ok(Turn { over: self.over.clone(), _held: [room, turn] }),
                Err(_) if self.over.load(Ordering::Relaxed) != over => {}
                Ok(Err(_)) | Err(_) => return Err(Missed::Stuck),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.over.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn many_slow_turns_are_all_waited_for_in_their_order() {
        let turns = Arc::new(Turns::new(30));
        let mut all = JoinSet::new();
        for number in 0..30 {
            let turns = turns.clone();
            all.spawn(async move {
                let turn = turns.take(PATIENCE).await.map_err(|missed| (number, missed))?;
                sleep(PATIENCE.mul_f32(0.9)).await;
                drop(turn);
                Ok::<_, (usize, Missed)>(number)
            });
            tokio::task::yield_now().await;
        }
        for number in 0..30 {
            assert_eq!(all.join_next().await.unwrap().unwrap(), Ok(number));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_that_does_not_end() {
        let turns = Turns::new(2);
        let first = turns.take(PATIENCE).await.ok().unwrap();
        assert_eq!(turns.take(PATIENCE).await.err(), Some(Missed::Stuck));
        drop(first);
        assert!(turns.take(PATIENCE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_there_is_room_for_are_refused_at_once() {
        let turns = Turns::new(1);
        let _first = turns.take(PATIENCE).await.ok().unwrap();
        assert_eq!(turns.take(PATIENCE).await.err(), Some(Missed::Full));
    }
}
