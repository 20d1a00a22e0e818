//! When a CA is asked again when to renew (RFC 9773 section 4.3): pure functions.

use std::time::Duration as StdDuration;

use time::{Duration, OffsetDateTime};

/// The shortest pause, whatever a CA says.
const SHORTEST: Duration = Duration::minutes(1);
/// The longest.
const LONGEST: Duration = Duration::days(1);
/// Where the CA does not say, and after what does not help to be asked again soon.
const USUAL: Duration = Duration::hours(6);
/// How often what may be over soon is tried with growing pauses, before it counts as what stays.
const TRIES: u32 = 8;

fn asked(retry_after: Option<StdDuration>) -> Option<Duration> {
    let asked = Duration::try_from(retry_after?).unwrap_or(LONGEST);
    Some(asked.clamp(SHORTEST, LONGEST))
}

/// Up to a twentieth more by the seed: what was asked together is not asked together for ever. Never less,
/// as nobody is to ask before the CA wants it.
fn spread(pause: Duration, seed: u64) -> Duration {
    let parts = i32::try_from(seed % 1024).unwrap_or(0);
    pause + pause / 20 * parts / 1024
}

/// After an answer: as it says, from a minute to a day.
pub(super) fn after_answer(
    now: OffsetDateTime,
    retry_after: Option<StdDuration>,
    seed: u64,
) -> OffsetDateTime {
    now + spread(asked(retry_after).unwrap_or(USUAL), seed)
}

/// After the `failures`-th failure in a row: with doubling pauses where it may be over soon, after six hours
/// where it does not look so; not before the CA has asked to.
pub(super) fn after_failure(
    now: OffsetDateTime,
    failures: u32,
    passing: bool,
    retry_after: Option<StdDuration>,
    seed: u64,
) -> OffsetDateTime {
    let pause = match passing && failures <= TRIES {
        true => SHORTEST * 2i32.saturating_pow(failures.saturating_sub(1)),
        false => USUAL,
    };
    let pause = pause.min(USUAL).max(asked(retry_after).unwrap_or(SHORTEST));
    now + spread(pause, seed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    #[test]
    fn a_ca_that_does_not_say_is_asked_every_six_hours() {
        let next = after_answer(now(), None, 0) - now();
        assert_eq!(next, Duration::hours(6));
    }

    #[test]
    fn what_stays_is_asked_about_after_six_hours_and_what_may_pass_sooner() {
        assert_eq!(after_failure(now(), 1, false, None, 0) - now(), Duration::hours(6));
        assert_eq!(after_failure(now(), 1, true, None, 0) - now(), Duration::minutes(1));
        assert_eq!(after_failure(now(), 4, true, None, 0) - now(), Duration::minutes(8));
        assert_eq!(after_failure(now(), TRIES + 1, true, None, 0) - now(), Duration::hours(6));
        let patient = Some(StdDuration::from_secs(7200));
        assert_eq!(after_failure(now(), 1, true, patient, 0) - now(), Duration::hours(2));
    }

    proptest! {
        #[test]
        fn nobody_is_asked_sooner_than_he_wants_or_more_than_once_a_minute(
            seconds: u64, failures in 1u32..1000, passing: bool, seed: u64
        ) {
            let wanted = Some(StdDuration::from_secs(seconds));
            for next in [
                after_answer(now(), wanted, seed),
                after_failure(now(), failures, passing, wanted, seed),
                after_failure(now(), failures, passing, None, seed),
            ] {
                prop_assert!(next - now() >= SHORTEST);
                prop_assert!(next - now() <= LONGEST * 1.05);
            }
            let wanted = Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
            let next = after_answer(now(), Some(StdDuration::from_secs(seconds)), seed);
            prop_assert!(next - now() >= wanted.min(LONGEST));
        }
    }
}
