//! What CAs allow, and how much of it is used: sliding windows over what was ordered.
//!
//! A window counts what came strictly less than its length ago, and what has been begun and is not
//! over. A CA that fills a bucket at the same rate instead (Let's Encrypt does) never refuses what keeps
//! to such a window.

use std::collections::{HashMap, VecDeque};

use super::Moment;
use crate::config::Rate;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Orders of an account.
    Orders {
        /// The account.
        account: String,
    },
    /// Certificates with names below a registered domain.
    Domain {
        /// The CA's directory.
        ca: String,
        /// Its public suffix and one label.
        domain: String,
    },
    /// Certificates for exactly these names.
    Set {
        /// The CA's directory.
        ca: String,
        /// All names, in order.
        names: String,
    },
    /// Failed validations of a name.
    Failures {
        /// The account that ordered.
        account: String,
        /// The name.
        name: String,
    },
}

/// A key's place in [`Books`].
pub type KeyId = usize;

/// What becomes of an order makes it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// That it was placed.
    Orders,
    /// That a certificate came of it.
    Certificates,
    /// That its validation failed.
    Failures,
}

/// What one order takes of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Which budget.
    pub key: KeyId,
    /// What makes it count.
    pub counted: Counted,
    /// Whether the CA exempts it: then only what the CA has closed holds it back.
    pub exempt: bool,
}

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate came of it.
    Issued,
    /// The CA could not validate this name, by its key; all of them where it does not say which.
    Refused(Option<KeyId>),
    /// Neither: it is tried again, or nothing was asked of the CA.
    Nothing,
}

/// How long an order can wait, which decides how much it leaves of a budget to those that cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until then there is something that is served.
    Until(Moment),
    /// Nothing is served yet, or it fails again and again.
    Long,
}

/// A budget that counts at least as long is slow: what is used of it is missing when those ask that cannot
/// wait as long.
const SLOW: Moment = 24 * 3600 * 1_000_000;
/// Below this many nothing is left to others.
const SMALL: usize = 10;

#[derive(Debug, Clone, Default)]
struct Log {
    rate: Option<(usize, Moment)>,
    times: VecDeque<Moment>,
    held: usize,
    closed_until: Moment,
}

impl Log {
    fn forget(&mut self, now: Moment) {
        let Some((_, per)) = self.rate else { return };
        while self.times.front().is_some_and(|at| at.saturating_add(per) <= now) {
            self.times.pop_front();
        }
    }

    /// How much may be used at once. Of what is not small, what is not served leaves a fifth; and of a
    /// slow budget, whatever can wait longer than it counts leaves a third: certificates that live for days
    /// ask for it again and again, those that live for months all at once.
    fn allowed(&self, now: Moment, patience: Patience) -> usize {
        let Some((count, per)) = self.rate else { return usize::MAX };
        let left = match patience {
            _ if count < SMALL => 0,
            Patience::Until(at) if per < SLOW || at.saturating_sub(now) <= per => 0,
            Patience::Long if per < SLOW => count / 5,
            Patience::Until(_) | Patience::Long => count / 3,
        };
        count - left
    }

    fn room(&mut self, now: Moment, patience: Patience) -> usize {
        if self.closed_until > now {
            return 0;
        }
        self.forget(now);
        self.allowed(now, patience).saturating_sub(self.times.len() + self.held)
    }

    fn free_at(&self, now: Moment, patience: Patience) -> Option<Moment> {
        if self.closed_until > now {
            return Some(self.closed_until);
        }
        let (_, per) = self.rate?;
        let free = |allowed: usize| match (self.times.len() + self.held + 1).checked_sub(allowed) {
            None | Some(0) => Some(now),
            Some(excess) => self.times.get(excess - 1).map(|at| at.saturating_add(per)),
        };
        let patient = free(self.allowed(now, patience));
        let Patience::Until(at) = patience else { return patient };
        // From then on it takes all that there is.
        let last = at.saturating_sub(per).max(now);
        let impatient = free(self.allowed(last, patience)).map(|at| at.max(last));
        patient.into_iter().chain(impatient).min()
    }

    fn count(&mut self, at: Moment) {
        if self.rate.is_some() {
            let place = self.times.partition_point(|other| *other <= at);
            self.times.insert(place, at);
        }
    }
}

/// All budgets, and what is used of them.
#[derive(Debug, Clone, Default)]
pub struct Books {
    ids: HashMap<Key, KeyId>,
    keys: Vec<Key>,
    logs: Vec<Log>,
}

impl Books {
    /// A budget's id; it is opened with this rate where it is new. `None` is no limit.
    pub fn key(&mut self, key: Key, rate: Option<Rate>) -> KeyId {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.logs.len();
        let rate = rate.map(|rate| (rate.count.get() as usize, rate.micros()));
        self.logs.push(Log { rate, ..Log::default() });
        self.keys.push(key.clone());
        self.ids.insert(key, id);
        id
    }

    /// A budget that was opened.
    pub fn find(&self, key: &Key) -> Option<KeyId> {
        self.ids.get(key).copied()
    }

    /// What a budget counts, and how much of it.
    pub fn describe(&self, id: KeyId) -> Option<(&Key, Option<(usize, Moment)>)> {
        Some((self.keys.get(id)?, self.logs.get(id)?.rate))
    }

    /// How much is left of a budget to an order of such patience.
    pub fn room(&mut self, id: KeyId, now: Moment, patience: Patience) -> usize {
        self.logs.get_mut(id).map_or(usize::MAX, |log| log.room(now, patience))
    }

    /// Whether the CA has said that nothing more is to come now.
    pub fn is_closed(&self, id: KeyId, now: Moment) -> bool {
        self.logs.get(id).is_some_and(|log| log.closed_until > now)
    }

    /// Whether an order would take more than there is, whatever the CA has closed.
    pub fn is_full(&mut self, demand: &Demand, now: Moment) -> bool {
        let Some(log) = self.logs.get_mut(demand.key).filter(|_| !demand.exempt) else {
            return false;
        };
        log.forget(now);
        log.times.len() + log.held >= log.allowed(now, Patience::Until(now))
    }

    /// When there is room again; `None` where that takes the end of something under way.
    pub fn free_at(&self, id: KeyId, now: Moment, patience: Patience) -> Option<Moment> {
        self.logs.get(id).map_or(Some(now), |log| log.free_at(now, patience))
    }

    /// Counts what came at a time.
    pub fn count(&mut self, id: KeyId, at: Moment) {
        if let Some(log) = self.logs.get_mut(id) {
            log.count(at);
        }
    }

    /// Nothing more until then: the CA has said so.
    pub fn close(&mut self, id: KeyId, until: Moment) {
        if let Some(log) = self.logs.get_mut(id) {
            log.closed_until = log.closed_until.max(until);
        }
    }

    /// Sets aside what an order that begins may use.
    pub fn hold(&mut self, demands: &[Demand]) {
        for demand in demands.iter().filter(|demand| !demand.exempt) {
            if let Some(log) = self.logs.get_mut(demand.key) {
                log.held += 1;
            }
        }
    }

    /// Counts that an order was placed.
    pub fn placed(&mut self, demands: &[Demand], at: Moment) {
        let orders = |demand: &&Demand| demand.counted == Counted::Orders && !demand.exempt;
        for demand in demands.iter().filter(orders) {
            self.settle(demand.key, Some(at));
        }
    }

    /// Settles what was set aside for an order: counts what came of it and frees the rest.
    pub fn ended(&mut self, demands: &[Demand], was_placed: bool, at: Moment, outcome: Outcome) {
        for demand in demands.iter().filter(|demand| !demand.exempt) {
            let counts = match (demand.counted, outcome) {
                (Counted::Orders, _) if was_placed => continue,
                (Counted::Certificates, Outcome::Issued) => true,
                (Counted::Failures, Outcome::Refused(name)) => {
                    name.is_none_or(|name| name == demand.key)
                }
                _ => false,
            };
            self.settle(demand.key, counts.then_some(at));
        }
    }

    fn settle(&mut self, id: KeyId, at: Option<Moment>) {
        let Some(log) = self.logs.get_mut(id) else { return };
        log.held = log.held.saturating_sub(1);
        if let Some(at) = at {
            log.count(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn orders() -> Key {
        Key::Orders { account: "a".to_owned() }
    }

    proptest! {
        /// As a naive counter sees it: whatever the window, no more than the count lies in it.
        #[test]
        fn no_window_ever_holds_more_than_its_count(
            count in 1u32..12, per in prop_oneof![1i64..500, 86_400i64..90_000],
            steps in prop::collection::vec((0i64..9000, prop::option::of(-9000i64..200_000)), 1..200)
        ) {
            let rate = Rate::seconds(count, u32::try_from(per).unwrap());
            let mut books = Books::default();
            let key = books.key(orders(), Some(rate));
            let (mut now, mut used) = (0, Vec::new());
            for (step, ends) in steps {
                now += step * 10_000 * per / 100;
                let ends = ends.map(|ends| Patience::Until(now + ends * 1_000_000));
                let patience = ends.unwrap_or(Patience::Long);
                if books.room(key, now, patience) > 0 {
                    books.count(key, now);
                    used.push(now);
                } else {
                    let free = books.free_at(key, now, patience).unwrap();
                    prop_assert!(free > now);
                    prop_assert!(books.clone().room(key, free, patience) > 0);
                    prop_assert_eq!(books.clone().room(key, free - 1, patience), 0);
                }
            }
            for from in &used {
                let inside = used.iter().filter(|at| (*from..from + per * 1_000_000).contains(*at));
                prop_assert!(inside.count() <= count as usize);
            }
        }
    }

    #[test]
    fn what_was_begun_counts_until_it_is_over() {
        let mut books = Books::default();
        let key = books.key(orders(), Some(Rate::seconds(1, 10)));
        let demand = [Demand { key, counted: Counted::Certificates, exempt: false }];
        books.hold(&demand);
        let now = Patience::Until(0);
        assert_eq!(books.room(key, 0, now), 0);
        assert_eq!(books.free_at(key, 0, now), None);
        books.ended(&demand, true, 5, Outcome::Refused(None));
        assert_eq!(books.room(key, 5, now), 1);
        books.hold(&demand);
        books.ended(&demand, true, 6, Outcome::Issued);
        assert_eq!(books.free_at(key, 6, now), Some(10_000_006));
        books.close(key, 20_000_000);
        assert_eq!(books.free_at(key, 10_000_006, now), Some(20_000_000));
    }

    #[test]
    fn what_can_wait_leaves_a_part_of_what_is_not_small() {
        let mut books = Books::default();
        let mut key =
            |name: &str, rate| books.key(Key::Orders { account: name.to_owned() }, Some(rate));
        let day = 24 * 3600;
        let (fast, small) =
            (key("fast", Rate::seconds(50, 10)), key("small", Rate::seconds(5, 10)));
        let slow = key("slow", Rate::seconds(50, 7 * day));
        let day = i64::from(day) * 1_000_000;
        let mut room = |key, patience| books.room(key, 0, patience);
        assert_eq!((room(fast, Patience::Long), room(fast, Patience::Until(30 * day))), (40, 50));
        assert_eq!((room(slow, Patience::Long), room(slow, Patience::Until(30 * day))), (34, 34));
        assert_eq!(room(slow, Patience::Until(7 * day)), 50);
        assert_eq!(room(small, Patience::Long), 5);
    }
}
