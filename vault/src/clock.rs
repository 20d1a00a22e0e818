//! Time as an input, so that tests can set it.

use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

/// Where every decision that depends on time takes it from.
pub trait Clock: Send + Sync {
    /// The present time, UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The machine's clock, to the microsecond: what the store keeps, so that an answer says the same
/// at once and after a restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc().truncate_to_microsecond()
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<OffsetDateTime>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves it forward by `step`.
    pub fn advance(&self, step: time::Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += step;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
