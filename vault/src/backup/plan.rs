//! When the next backup is due: a pure function of what is configured and what was.

use time::{Duration, OffsetDateTime, Time};

use crate::config;
use crate::store::ScheduleRecord;

/// The pause after the first failure; each further one doubles it.
const FIRST_RETRY: Duration = Duration::minutes(1);
/// The longest pause: whoever has made space or brought a bucket back waits no longer.
const SLOWEST_RETRY: Duration = Duration::hours(1);
/// The longest time that a backup is not called overdue yet: one takes its time.
const MOST_SLACK: Duration = Duration::minutes(10);

/// When backups are made.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    times: Times,
    jitter: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Times {
    Every(Duration),
    Daily(Time),
}

impl Plan {
    /// As it is configured.
    pub fn new(config: &config::Backup) -> Self {
        let every = config.every.unwrap_or(config::Backup::EVERY);
        let lasting = |duration| Duration::try_from(duration).unwrap_or(Duration::MAX);
        let times = match config.at {
            Some(at) => Times::Daily(at.0),
            None => Times::Every(lasting(every)),
        };
        Self { times, jitter: lasting(config.jitter) }
    }

    /// When the one after a success is due. Every node of a vault comes to the same time.
    pub fn after(&self, success: OffsetDateTime) -> OffsetDateTime {
        let next = match self.times {
            Times::Every(every) => success.saturating_add(every),
            Times::Daily(at) => {
                let that_day = success.replace_time(at);
                match that_day > success {
                    true => that_day,
                    false => that_day.saturating_add(Duration::days(1)),
                }
            }
        };
        // Spread by the microseconds of the last one, which are as good as random.
        let part = f64::from(success.microsecond() % 1_000) / 1_000.0;
        next.saturating_add(self.jitter * part)
    }

    /// When the next attempt is due.
    pub fn due(&self, schedule: &ScheduleRecord, now: OffsetDateTime) -> OffsetDateTime {
        match (schedule.retry_at, schedule.last_ok_at) {
            (Some(retry), _) => retry,
            (None, Some(success)) => self.after(success),
            (None, None) => now,
        }
    }

    /// Whether there should be one that is not there.
    pub fn is_overdue(&self, schedule: &ScheduleRecord, now: OffsetDateTime) -> bool {
        match schedule.last_ok_at {
            Some(success) => now > self.after(success).saturating_add(self.slack()),
            None => schedule.failed_attempts > 0,
        }
    }

    /// When to try again after this many failures in a row.
    pub fn retry(&self, failures: u32, now: OffsetDateTime) -> OffsetDateTime {
        let first = FIRST_RETRY.min(self.period() / 4_i32);
        let doubled = first * 2i32.saturating_pow(failures.saturating_sub(1).min(16));
        now.saturating_add(doubled.min(SLOWEST_RETRY).min(self.period()))
    }

    fn period(&self) -> Duration {
        match self.times {
            Times::Every(every) => every,
            Times::Daily(_) => Duration::days(1),
        }
    }

    fn slack(&self) -> Duration {
        (self.period() / 10_i32).min(MOST_SLACK)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration as StdDuration;

    use proptest::prelude::*;
    use time::macros::{datetime, time};

    use super::*;
    use crate::config::TimeOfDay;

    fn plan(change: impl FnOnce(&mut config::Backup)) -> Plan {
        let mut config = config::Backup::default();
        change(&mut config);
        Plan::new(&config)
    }

    fn after_success(at: OffsetDateTime) -> ScheduleRecord {
        ScheduleRecord { last_ok_at: Some(at), ..Default::default() }
    }

    #[test]
    fn the_first_is_due_at_once_and_the_next_a_day_later() {
        let (plan, now) = (plan(|_| {}), datetime!(2026-11-25 01:00 UTC));
        assert_eq!(plan.due(&ScheduleRecord::default(), now), now);
        assert_eq!(plan.due(&after_success(now), now), now + Duration::days(1));
    }

    #[test]
    fn a_time_of_the_day_is_kept_whenever_the_last_one_was_made() {
        let plan = plan(|config| config.at = Some(TimeOfDay(time!(02:30))));
        for (last, next) in [
            (datetime!(2026-11-25 01:00 UTC), datetime!(2026-11-25 02:30 UTC)),
            (datetime!(2026-11-25 02:30 UTC), datetime!(2026-11-26 02:30 UTC)),
            (datetime!(2026-11-25 02:30:00.5 UTC), datetime!(2026-11-26 02:30 UTC)),
            (datetime!(2026-12-31 23:59 UTC), datetime!(2027-01-01 02:30 UTC)),
        ] {
            assert_eq!(plan.after(last), next, "{last}");
        }
    }

    #[test]
    fn a_late_one_is_overdue_once_it_had_time_to_be_made() {
        let (plan, last) = (plan(|_| {}), datetime!(2026-11-25 01:00 UTC));
        let due = last + Duration::days(1);
        for (now, overdue) in [
            (last, false),
            (due + Duration::minutes(10), false),
            (due + Duration::minutes(11), true),
        ] {
            assert_eq!(plan.is_overdue(&after_success(last), now), overdue, "{now}");
        }
        let never = ScheduleRecord::default();
        assert!(!plan.is_overdue(&never, last));
        assert!(plan.is_overdue(&ScheduleRecord { failed_attempts: 1, ..never }, last));
    }

    proptest! {
        #[test]
        fn pauses_grow_to_an_hour_and_are_never_longer_than_between_two_backups(
            every in 1u64..100_000,
            failures in 1u32..100,
        ) {
            let plan = plan(|config| config.every = Some(StdDuration::from_secs(every)));
            let now = datetime!(2026-11-25 01:00 UTC);
            let (pause, next) = (plan.retry(failures, now), plan.retry(failures + 1, now));
            prop_assert!(pause > now && next >= pause);
            let longest = Duration::seconds(i64::try_from(every).unwrap()).min(SLOWEST_RETRY);
            prop_assert!(next <= now + longest);
        }

        #[test]
        fn jitter_makes_it_later_and_never_by_more_than_is_allowed(
            seconds in 0i64..4_000_000_000,
            micros in 0i64..1_000_000,
            jitter in 0u64..43_200,
        ) {
            let last = OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
                + Duration::microseconds(micros);
            let with = plan(|config| config.jitter = StdDuration::from_secs(jitter));
            let late = with.after(last) - plan(|_| {}).after(last);
            let most = Duration::seconds(i64::try_from(jitter).unwrap());
            prop_assert!(late >= Duration::ZERO && late <= most);
        }
    }
}
