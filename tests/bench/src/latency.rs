//! How long single calls took.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one run of callers did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Run {
    /// Calls in a second.
    pub rate: f64,
    /// How many calls there were.
    pub calls: u64,
    /// Half of them took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer, in microseconds.
    pub p99_us: f64,
    /// What the process that signs used, in CPU seconds.
    pub cpu: f64,
}

impl Run {
    /// From what each call took.
    pub fn of(mut calls: Vec<Duration>, time: Duration, cpu: f64) -> Self {
        calls.sort_unstable();
        let at = |part: usize| {
            let call = calls.get(calls.len() * part / 100).or(calls.last());
            call.map_or(0.0, |call| call.as_secs_f64() * 1e6)
        };
        #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
        let rate = calls.len() as f64 / time.as_secs_f64();
        Self { rate, calls: calls.len() as u64, p50_us: at(50), p99_us: at(99), cpu }
    }

    /// CPU seconds for a thousand calls.
    pub fn cpu_per_thousand(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
        let thousands = self.calls as f64 / 1000.0;
        self.cpu / thousands
    }
}
