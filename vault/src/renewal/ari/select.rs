//! When to renew in the window that a CA suggests (RFC 9773 section 4.2): pure functions of what is known
//! and the time. A CA that is broken or hostile can have a certificate neither end nor be renewed without
//! end: what it suggests counts only within these bounds.

use time::{Duration, OffsetDateTime};

use super::super::planner::Window;

/// What of its lifetime is always left when a certificate is renewed, in parts of it: enough for many
/// tries. It is spread over as much again.
const LEFT: i32 = 10;
/// How much of it that is spread over, in parts of the lifetime.
const SPREAD: i32 = 20;
/// A certificate that was replaced before this part of its lifetime was over was replaced young.
const YOUNG: i32 = 4;
/// How long a certificate is left alone whose predecessor was replaced young; doubled for each one
/// before that.
const REST: Duration = Duration::hours(1);
/// A window that begins so much earlier than the one before says that something is wrong.
const MUCH_EARLIER: Duration = Duration::days(1);

/// What bounds the choice.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Not before: the certificate is left alone until then.
    pub earliest: OffsetDateTime,
    /// Its beginning.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
}

impl Window {
    /// A window; none where it ends before it begins.
    pub fn new(start: OffsetDateTime, end: OffsetDateTime) -> Option<Self> {
        // As the store keeps it, so that the same window is found to be the same.
        let (start, end) = (start.truncate_to_microsecond(), end.truncate_to_microsecond());
        (start < end).then_some(Self { start, end })
    }

    /// A time in it, each as likely as any other.
    pub fn at(&self, seed: u64) -> OffsetDateTime {
        (self.start + part(self.end - self.start, seed)).truncate_to_microsecond()
    }

    /// Whether it lies wholly in the past, or begins much earlier than the one before it: its CA wants
    /// the certificate gone.
    pub fn is_early(&self, before: Option<Self>, now: OffsetDateTime) -> bool {
        self.end <= now || before.is_some_and(|before| before.start - self.start > MUCH_EARLIER)
    }
}

/// So much of a span as a seed is of all seeds.
fn part(span: Duration, seed: u64) -> Duration {
    let nanoseconds = (span.whole_nanoseconds() * i128::from(seed >> 32)) >> 32;
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Duration::new(seconds, i32::try_from(rest).unwrap_or(0))
}

/// When to renew: at a time in the window, at once where that is over; never so late that too little of
/// the lifetime is left, and not before the certificate may be replaced.
pub fn renew_at(
    window: &Window,
    bounds: &Bounds,
    now: OffsetDateTime,
    seed: u64,
) -> OffsetDateTime {
    let lifetime = (bounds.not_after - bounds.not_before).max(Duration::ZERO);
    // What was issued together is not renewed together where its CA says too late a time for all of it.
    let latest = bounds.not_after - lifetime / LEFT - part(lifetime / SPREAD, seed);
    let chosen = window.at(seed).max(bounds.earliest);
    chosen.min(latest.truncate_to_microsecond()).max(now)
}

/// Until when a certificate is left alone. `issued` is when its versions were, and their lifetimes, newest
/// first. Where one after the other was replaced young, a CA may have lost its mind: each is left alone for
/// longer, up to half of its lifetime. To be left alone makes nobody old: whoever is replaced as soon as that
/// is over is replaced young, too.
pub fn earliest(issued: &[(OffsetDateTime, Duration)]) -> Option<OffsetDateTime> {
    let (at, lifetime) = *issued.first()?;
    let young = issued.windows(2).rev().fold(0, |young: u32, pair| {
        let [(next, _), (this, lifetime)] = pair else { return young };
        let soon = rest(young, *lifetime) + REST.min(*lifetime / YOUNG);
        match *next - *this < soon.max(*lifetime / YOUNG) {
            true => young.saturating_add(1),
            false => 0,
        }
    });
    Some(at + rest(young, lifetime))
}

/// How long a certificate is left alone before which so many in a row were replaced young.
fn rest(young: u32, lifetime: Duration) -> Duration {
    let Some(doublings) = young.checked_sub(1) else { return Duration::ZERO };
    let rest = REST * 2i32.saturating_pow(doublings.min(16));
    rest.min(lifetime.max(Duration::ZERO) / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    fn window(start: i64, end: i64) -> Window {
        Window::new(at(start), at(end)).unwrap()
    }

    fn ninety_days() -> Bounds {
        Bounds { earliest: at(0), not_before: at(0), not_after: at(90 * DAY) }
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_none() {
        assert_eq!(Window::new(at(1), at(1)), None);
        assert_eq!(Window::new(at(2), at(1)), None);
    }

    #[test]
    fn a_window_in_the_past_means_at_once() {
        let past = window(-2 * DAY, -DAY);
        assert_eq!(renew_at(&past, &ninety_days(), at(DAY), 7), at(DAY));
        assert!(past.is_early(None, at(DAY)));
    }

    #[test]
    fn a_window_that_moves_earlier_by_more_than_a_day_is_early() {
        let before = Some(window(60 * DAY, 61 * DAY));
        assert!(window(10 * DAY, 11 * DAY).is_early(before, at(0)));
        assert!(!window(59 * DAY, 60 * DAY).is_early(before, at(0)));
        assert!(!window(70 * DAY, 71 * DAY).is_early(before, at(0)));
        assert!(!window(10 * DAY, 11 * DAY).is_early(None, at(0)));
    }

    #[test]
    fn the_two_halves_of_a_window_get_as_much() {
        let window = window(0, 1000);
        let first = (0..1000u64).filter(|n| {
            let seed = crate::renewal::planner::seed("shop", *n);
            window.at(seed) < at(500)
        });
        let first = first.count();
        assert!((400..600).contains(&first), "{first} of 1000");
    }

    #[test]
    fn whoever_is_replaced_young_again_and_again_is_left_alone_for_longer() {
        let life = Duration::days(90);
        let issued = |ages: &[i64]| -> Vec<(OffsetDateTime, Duration)> {
            let mut time = 0i64;
            let mut all = vec![(at(0), life)];
            for age in ages {
                time += age;
                all.insert(0, (at(time), life));
            }
            all
        };
        let rest = |ages: &[i64]| earliest(&issued(ages)).unwrap() - issued(ages)[0].0;
        assert_eq!(earliest(&[]), None);
        assert_eq!(rest(&[]), Duration::ZERO);
        assert_eq!(rest(&[60 * DAY]), Duration::ZERO);
        assert_eq!(rest(&[60 * DAY, DAY]), Duration::hours(1));
        assert_eq!(rest(&[60 * DAY, DAY, DAY]), Duration::hours(2));
        assert_eq!(rest(&[DAY, DAY, 60 * DAY]), Duration::ZERO);
        assert_eq!(rest(&[1; 40]), life / 2);
        // Neither does it end the row that it lasts longer than a certificate is young.
        assert_eq!(rest(&[&[1; 40][..], &[45 * DAY + 60]].concat()), life / 2);
        assert_eq!(rest(&[&[1; 40][..], &[60 * DAY]].concat()), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_time_lies_in_its_window_and_stays_the_same(
            start in -400_000_000i64..400_000_000, long in 1i64..100_000_000, seed: u64
        ) {
            let window = window(start, start + long);
            let chosen = window.at(seed);
            prop_assert!(chosen >= window.start && chosen < window.end);
            prop_assert_eq!(chosen, window.at(seed));
        }

        /// Whatever a CA says, a certificate is not left to end.
        #[test]
        fn no_window_has_a_certificate_end(
            start in -4_000_000_000i64..4_000_000_000, long in 1i64..4_000_000_000,
            lifetime in 3600i64..40_000_000, age in 0.0f64..1.0, seed: u64
        ) {
            let bounds = Bounds { earliest: at(0), not_before: at(0), not_after: at(lifetime) };
            let now = at(0) + Duration::seconds(lifetime) * age;
            let planned = renew_at(&window(start, start + long), &bounds, now, seed);
            prop_assert!(planned >= now);
            let safe: OffsetDateTime = at(0) + Duration::seconds(lifetime) * 0.9;
            prop_assert!(planned <= safe.max(now), "{planned} of {}", at(lifetime));
        }

        /// The wildest CA has a certificate replaced at most once in a while.
        #[test]
        fn no_window_has_a_certificate_renewed_without_end(lifetime in 86_400i64..40_000_000, seed: u64) {
            let life = Duration::seconds(lifetime);
            let mut issued = vec![(at(0), life)];
            let (mut now, mut orders) = (at(0), 0);
            while now < at(86_400) {
                let bounds = Bounds {
                    earliest: earliest(&issued).unwrap(),
                    not_before: issued[0].0,
                    not_after: issued[0].0 + life,
                };
                now = renew_at(&window(-20, -10), &bounds, now, seed) + Duration::seconds(1);
                issued.insert(0, (now, life));
                orders += 1;
            }
            prop_assert!(orders < 10, "{orders} orders in a day");
        }
    }
}
