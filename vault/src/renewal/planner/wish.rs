//! When a certificate is renewed, and when a failed attempt is made again: pure functions of what
//! is known and the time, so that a plan can be computed, tested and explained.

use std::time::Duration as StdDuration;

use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

/// Below this lifetime a certificate is renewed at half of it: two thirds of six days leave too
/// little for a CA that is down over a weekend.
const SHORT_LIVED: Duration = Duration::days(10);
/// The first retry comes after this.
const FIRST_RETRY: Duration = Duration::minutes(1);
/// Retries are never further apart than this.
const SLOWEST_RETRY: Duration = Duration::hours(6);
/// Retries for a certificate that has ended are never further apart than this: its site is down,
/// and a CA's limit on failures (Let's Encrypt: five an hour for each name) is not all used up.
const SLOWEST_RETRY_ONCE_ENDED: Duration = Duration::minutes(15);
/// So many failures in a row count where it is the CA that is away: how often it is asked then is decided
/// for all of its certificates at once, and none of them should be resting when it is back.
const FAILURES_AWAY: u32 = 4;
/// How many tries shall fit into what is left of a certificate's life.
const TRIES_LEFT: i32 = 8;

/// What may be configured.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The part of its lifetime after which a certificate is renewed, from 0.1 to 0.95.
    pub renew_after: f64,
}

/// A number that is the same for the same certificate and attempt, and spread over all: jitter
/// that can be computed again.
pub fn seed(name: &str, count: u64) -> u64 {
    let digest = Sha256::digest(format!("{name}\0{count}"));
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// A seed as a fraction from 0 to 1.
pub fn fraction(seed: u64) -> f64 {
    // 53 bits are what an f64 holds.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (seed >> 11) as f64 / (1u64 << 53) as f64;
    fraction
}

/// When to renew a certificate: after the policy's part of its lifetime (half of it for
/// short-lived ones), up to 5 % of the lifetime earlier by the seed, so that what was issued
/// together is not renewed together.
///
/// ```
/// use time::{Duration, OffsetDateTime};
/// use vault::renewal::planner::{Policy, renew_at, seed};
///
/// let issued = OffsetDateTime::UNIX_EPOCH;
/// let policy = Policy { renew_after: 2.0 / 3.0 };
/// let at = renew_at(&policy, issued, issued + Duration::days(90), seed("shop", 1));
/// assert!(at <= issued + Duration::days(60));
/// assert!(at >= issued + Duration::days(55));
/// ```
pub fn renew_at(
    policy: &Policy,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    seed: u64,
) -> OffsetDateTime {
    let lifetime = (not_after - not_before).max(Duration::ZERO);
    let part = match lifetime < SHORT_LIVED {
        true => policy.renew_after.min(0.5),
        false => policy.renew_after,
    };
    not_before + lifetime * (part - 0.05 * fraction(seed)).clamp(0.05, 0.95)
}

/// How many of a certificate's failures in a row count for the pause after them.
pub fn counted(attempts: u32, ca_is_away: bool) -> u32 {
    if ca_is_away { attempts.min(FAILURES_AWAY) } else { attempts }
}

/// When to try again after the `attempts`-th failure in a row: doubling from a minute to six
/// hours, closer together as the end nears and after it, ±20 % by the seed; not before the CA has asked to,
/// unless that is past the end.
pub fn retry_at(
    now: OffsetDateTime,
    attempts: u32,
    not_after: Option<OffsetDateTime>,
    retry_after: Option<StdDuration>,
    seed: u64,
) -> OffsetDateTime {
    let doubled = FIRST_RETRY * 2i32.saturating_pow(attempts.saturating_sub(1).min(16));
    let mut pause = doubled.min(SLOWEST_RETRY);
    if let Some(end) = not_after {
        let left = end - now;
        pause = match left > Duration::ZERO {
            true => pause.min(left / TRIES_LEFT).max(FIRST_RETRY),
            false => pause.min(SLOWEST_RETRY_ONCE_ENDED),
        };
    }
    let pause = pause * (0.8 + 0.4 * fraction(seed));
    let asked = retry_after.and_then(|after| Duration::try_from(after).ok());
    match (asked, not_after) {
        (Some(asked), Some(end)) if now + asked >= end && end > now => now + pause,
        (Some(asked), _) => now + pause.max(asked),
        (None, _) => now + pause,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy { renew_after: 2.0 / 3.0 };

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    #[test]
    fn ninety_days_are_renewed_after_sixty_and_six_after_three() {
        let day = 86_400;
        let long = renew_at(&POLICY, at(0), at(90 * day), seed("shop", 1));
        assert!((at(55 * day)..=at(60 * day)).contains(&long), "{long}");
        let short = renew_at(&POLICY, at(0), at(6 * day), seed("shop", 1));
        assert!((at(2 * day)..=at(3 * day)).contains(&short), "{short}");
    }

    #[test]
    fn a_certificate_that_has_ended_is_not_left_alone_for_hours() {
        let next = retry_at(at(1000), 40, Some(at(0)), None, seed("shop", 40));
        assert!(next - at(1000) <= SLOWEST_RETRY_ONCE_ENDED * 1.2);
        let never_issued = retry_at(at(1000), 40, None, None, seed("shop", 40));
        assert!(never_issued - at(1000) >= SLOWEST_RETRY * 0.8);
    }

    proptest! {
        #[test]
        fn a_renewal_lies_within_the_lifetime(
            lifetime in 1i64..400_000_000, seed: u64, part in 0.1f64..0.95
        ) {
            let policy = Policy { renew_after: part };
            let planned = renew_at(&policy, at(0), at(lifetime), seed);
            prop_assert!(planned >= at(0) && planned < at(lifetime));
            prop_assert_eq!(planned, renew_at(&policy, at(0), at(lifetime), seed));
        }

        #[test]
        fn a_retry_comes_soon_enough_for_several_more(
            left in 3600i64..40_000_000, attempts in 1u32..100, seed: u64
        ) {
            let next = retry_at(at(0), attempts, Some(at(left)), None, seed);
            prop_assert!(next > at(0));
            prop_assert!(next - at(0) <= SLOWEST_RETRY * 1.2);
            prop_assert!(next < at(left / 4));
        }

        /// The schedule played through from one renewal to the next success, in no time at all.
        #[test]
        fn a_ca_that_is_down_for_most_of_what_is_left_costs_no_certificate(
            days in prop::sample::select(vec![6i64, 10, 45, 47, 64, 90, 200, 398]),
            down in 0.0f64..0.8, count in 1u64..1000
        ) {
            let end = at(days * 86_400);
            let first = renew_at(&POLICY, at(0), end, seed("shop", count));
            let up_again = first + (end - first) * down;
            let (mut now, mut attempts) = (first, 0);
            while now < up_again {
                attempts += 1;
                let next = retry_at(now, attempts, Some(end), None, seed("shop", attempts.into()));
                prop_assert!(next > now);
                now = next;
            }
            prop_assert!(now < end, "renewed {} after the end", now - end);
            prop_assert!(attempts < 2000, "{attempts} attempts are a burden on the CA");
        }

        #[test]
        fn a_ca_that_asks_for_patience_gets_it_unless_that_is_too_late(
            asked in 1u64..100_000, left in 100i64..1_000_000, attempts in 1u32..20, seed: u64
        ) {
            let wait = Some(StdDuration::from_secs(asked));
            let next = retry_at(at(0), attempts, Some(at(left)), wait, seed);
            let asked = at(i64::try_from(asked).unwrap());
            prop_assert!(next >= asked || asked >= at(left));
        }
    }
}
