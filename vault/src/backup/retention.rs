//! Which backups stay: a pure function of their times. As other tools have it, each rule keeps the
//! newest one of each of the newest so many periods that have one; what any rule keeps stays.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::config;

/// Numbers the period that a time is in.
type Period = fn(OffsetDateTime) -> i32;

/// How many stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks, which begin on Monday.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
}

impl Rules {
    /// As they are configured.
    pub fn new(config: &config::Backup) -> Self {
        Self {
            last: config.keep_last,
            daily: config.keep_daily,
            weekly: config.keep_weekly,
            monthly: config.keep_monthly,
        }
    }

    /// Whether there is none: everything stays.
    pub fn keep_everything(&self) -> bool {
        let Self { last, daily, weekly, monthly } = *self;
        [last, daily, weekly, monthly].iter().all(|count| *count == 0)
    }

    fn periods(&self) -> [(u32, Period); 3] {
        [(self.daily, day), (self.weekly, week), (self.monthly, month)]
    }

    /// Those of `backups`, by their place, that no rule keeps. The newest one stays whatever the
    /// rules, and so does each that `needed` names.
    pub fn surplus(
        &self,
        backups: &[OffsetDateTime],
        needed: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        if self.keep_everything() {
            return Vec::new();
        }
        let mut newest_first: Vec<usize> = (0..backups.len()).collect();
        newest_first.sort_by_key(|at| std::cmp::Reverse((backups.get(*at), *at)));
        let mut stay: BTreeSet<usize> = newest_first.iter().copied().take(1).collect();
        stay.extend(newest_first.iter().copied().filter(|at| needed(*at)));
        stay.extend(newest_first.iter().copied().take(count(self.last)));
        for (many, period) in self.periods() {
            let mut seen = BTreeSet::new();
            for at in &newest_first {
                let Some(time) = backups.get(*at) else { continue };
                if seen.len() < count(many) && seen.insert(period(*time)) {
                    stay.insert(*at);
                }
            }
        }
        newest_first.into_iter().filter(|at| !stay.contains(at)).collect()
    }
}

fn count(many: u32) -> usize {
    usize::try_from(many).unwrap_or(usize::MAX)
}

fn day(at: OffsetDateTime) -> i32 {
    at.to_offset(time::UtcOffset::UTC).to_julian_day()
}

/// Julian days count from a Monday.
fn week(at: OffsetDateTime) -> i32 {
    day(at).div_euclid(7)
}

fn month(at: OffsetDateTime) -> i32 {
    let at = at.to_offset(time::UtcOffset::UTC);
    at.year() * 12 + i32::from(u8::from(at.month()))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use time::{Duration, macros::datetime};

    use super::*;

    const NONE: Rules = Rules { last: 0, daily: 0, weekly: 0, monthly: 0 };

    /// Some years, a backup every six hours on average.
    fn times() -> impl Strategy<Value = Vec<OffsetDateTime>> {
        let start = datetime!(2024-01-01 00:00 UTC);
        vec(0i64..60 * 24 * 900, 0..200)
            .prop_map(move |all| all.iter().map(|m| start + Duration::minutes(*m)).collect())
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (0u32..8, 0u32..8, 0u32..6, 0u32..14).prop_map(|(last, daily, weekly, monthly)| Rules {
            last,
            daily,
            weekly,
            monthly,
        })
    }

    fn stay(rules: Rules, times: &[OffsetDateTime]) -> Vec<OffsetDateTime> {
        let surplus = rules.surplus(times, |_| false);
        let kept = (0..times.len()).filter(|at| !surplus.contains(at));
        kept.map(|at| times[at]).collect()
    }

    #[test]
    fn weeks_begin_on_monday() {
        let (sunday, monday) = (datetime!(2026-11-22 23:59 UTC), datetime!(2026-11-23 00:00 UTC));
        assert_eq!(week(sunday) + 1, week(monday));
        assert_eq!(week(monday), week(monday + Duration::days(6)));
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        let noon = |date: time::Date| date.midnight().assume_utc() + Duration::hours(12);
        let first = time::macros::date!(2026 - 09 - 01);
        let daily: Vec<_> = (0..90).map(|day| noon(first + Duration::days(day))).collect();
        let newest = *daily.last().unwrap();
        assert_eq!(stay(Rules { last: 2, ..NONE }, &daily), daily[88..]);
        assert_eq!(stay(Rules { daily: 3, ..NONE }, &daily), daily[87..]);
        let weekly = stay(Rules { weekly: 3, ..NONE }, &daily);
        assert_eq!(weekly.len(), 3);
        assert!(weekly[..2].iter().all(|at| at.weekday() == time::Weekday::Sunday));
        let monthly = stay(Rules { monthly: 2, ..NONE }, &daily);
        assert_eq!(monthly, [datetime!(2026-10-31 12:00 UTC), newest]);
    }

    proptest! {
        #[test]
        fn the_newest_and_whatever_is_needed_are_never_surplus(
            times in times(), rules in rules(), needed in any::<prop::sample::Index>(),
        ) {
            let needed = (!times.is_empty()).then(|| needed.index(times.len()));
            let surplus = rules.surplus(&times, |at| Some(at) == needed);
            let newest = times.iter().max();
            prop_assert!(surplus.iter().all(|at| Some(*at) != needed));
            let left = (0..times.len()).filter(|at| !surplus.contains(at)).map(|at| times[at]).max();
            prop_assert_eq!(left.as_ref(), newest);
        }

        #[test]
        fn nothing_is_surplus_without_rules(times in times()) {
            prop_assert!(NONE.surplus(&times, |_| false).is_empty());
        }

        #[test]
        fn what_stays_stays_when_it_is_asked_again(times in times(), rules in rules()) {
            let stays = stay(rules, &times);
            prop_assert_eq!(stay(rules, &stays), stays);
        }

        #[test]
        fn no_more_stay_than_the_rules_have_room_for(times in times(), rules in rules()) {
            prop_assume!(!rules.keep_everything());
            let room = rules.last + rules.daily + rules.weekly + rules.monthly;
            prop_assert!(stay(rules, &times).len() <= room as usize);
        }

        #[test]
        fn every_one_of_the_last_days_weeks_and_months_that_had_one_still_has_one(
            times in times(), rules in rules(),
        ) {
            prop_assume!(!rules.keep_everything());
            let stays = stay(rules, &times);
            for (many, period) in rules.periods() {
                let had: BTreeSet<i32> = times.iter().map(|at| period(*at)).collect();
                let has: BTreeSet<i32> = stays.iter().map(|at| period(*at)).collect();
                for period in had.into_iter().rev().take(many as usize) {
                    prop_assert!(has.contains(&period));
                }
            }
        }

        #[test]
        fn more_room_never_removes_more(times in times(), rules in rules()) {
            prop_assume!(!rules.keep_everything());
            let wider = Rules { daily: rules.daily + 1, last: rules.last + 1, ..rules };
            let (few, many) = (stay(rules, &times), stay(wider, &times));
            prop_assert!(few.iter().all(|at| many.contains(at)));
        }
    }
}
