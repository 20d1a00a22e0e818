//! How the CAs of accounts do: who does not answer is left alone for a while, and then asked by one.

use super::Moment;

/// Failures in a row of whatever is asked of a CA before it counts as away.
const AWAY_AFTER: u32 = 3;
/// How long a CA that is away is left alone at first; each further failure doubles it.
const FIRST_PAUSE: Moment = 60_000_000;
/// How long at most: once it is back, everything goes on within this.
const LONGEST_PAUSE: Moment = 15 * FIRST_PAUSE;

/// How an account's CA does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    at_once: usize,
    under_way: usize,
    failures: u32,
    away_until: Moment,
}

impl Gate {
    /// A CA that is there and takes so many orders at once.
    pub fn new(at_once: Option<usize>) -> Self {
        Self { at_once: at_once.unwrap_or(usize::MAX), under_way: 0, failures: 0, away_until: 0 }
    }

    /// As it has done before, where something is known of that.
    #[must_use]
    pub fn doing_as(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            (self.failures, self.away_until) = (before.failures, before.away_until);
        }
        self
    }

    /// How many more orders it takes now.
    pub fn room(&self, now: Moment) -> usize {
        match self.away_until > now {
            true => 0,
            // One asks whether it is back; the others need not.
            false if self.failures >= AWAY_AFTER => 1usize.saturating_sub(self.under_way),
            false => self.at_once.saturating_sub(self.under_way),
        }
    }

    /// Until when it is left alone.
    pub fn away_until(&self) -> Moment {
        self.away_until
    }

    /// Something is under way there.
    pub fn enter(&mut self) {
        self.under_way += 1;
    }

    /// Something has ended: whether the CA did answer.
    pub fn leave(&mut self, now: Moment, answered: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        self.note(now, answered);
    }

    /// The CA did answer, or it did not.
    pub fn note(&mut self, now: Moment, answered: bool) {
        match answered {
            true => (self.failures, self.away_until) = (0, 0),
            // What was under way together fails together: that is one failure.
            false if self.away_until > now => {}
            false => {
                self.failures = self.failures.saturating_add(1);
                if let Some(times) = self.failures.checked_sub(AWAY_AFTER) {
                    let pause = FIRST_PAUSE.saturating_mul(1 << times.min(8));
                    self.away_until = now.saturating_add(pause.min(LONGEST_PAUSE));
                }
            }
        }
    }
}
