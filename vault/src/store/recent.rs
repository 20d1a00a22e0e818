//! What was read lately, for paths that are walked thousands of times a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use crate::error::Result;

/// What was read counts for this long where nothing is heard of a change: with several nodes,
/// another one may have made it.
const STALE: Duration = Duration::from_secs(1);

/// One thing that was read. It counts until this process changes what it was read from, and for a second
/// at most.
#[derive(Debug)]
pub struct Recent<T>(ArcSwapOption<Read<T>>);

#[derive(Debug)]
struct Read<T> {
    changes: u64,
    at: Instant,
    value: T,
}

impl<T: Clone> Recent<T> {
    /// What was read lately, else what `read` reads now. `changes` counts the changes after which that
    /// may be something else ([`Store::changes`](super::Store::changes)). A failure is not remembered.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn read(&self, changes: u64, read: impl Future<Output = Result<T>>) -> Result<T> {
        if let Some(known) = self.0.load().as_deref()
            && known.changes == changes
            && known.at.elapsed() < STALE
        {
            return Ok(known.value.clone());
        }
        let at = Instant::now();
        let value = read.await?;
        // What changed while it was read has another number.
        self.0.store(Some(Arc::new(Read { changes, at, value: value.clone() })));
        Ok(value)
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}
