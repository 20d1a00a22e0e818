//! When a certificate may be replaced: the hours of the week that maintenance windows leave open.

use super::Moment;
use crate::store::MaintenanceWindow;

const MINUTE: Moment = 60_000_000;
const DAY: u16 = 24 * 60;
/// The minutes of a week, from Monday on.
const WEEK: u16 = 7 * DAY;
/// 1970-01-01 was a Thursday.
const EPOCH: Moment = 3 * DAY as Moment;

/// When something may happen: minutes of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// Disjoint and in order; none goes over the end of the week.
    spans: Vec<(u16, u16)>,
}

impl Hours {
    /// Always.
    pub const ALWAYS: Self = Self { spans: Vec::new() };

    /// When any of these windows is open; always where there is none.
    pub fn of(windows: &[MaintenanceWindow]) -> Self {
        let mut open = Vec::new();
        for &(from, to) in windows.iter().flat_map(MaintenanceWindow::spans) {
            open.push((from, to.min(WEEK)));
            if to > WEEK {
                open.push((0, to - WEEK));
            }
        }
        open.sort_unstable();
        let mut spans: Vec<(u16, u16)> = Vec::new();
        for (from, to) in open {
            match spans.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => spans.push((from, to)),
            }
        }
        match spans.as_slice() {
            [(0, WEEK)] => Self::ALWAYS,
            _ => Self { spans },
        }
    }

    /// Whether that is at all times.
    pub fn is_always(&self) -> bool {
        self.spans.is_empty()
    }

    /// When both are open; `None` where they never are at once.
    pub fn and(&self, other: &Self) -> Option<Self> {
        if self.is_always() || other.is_always() {
            return Some(if self.is_always() { other.clone() } else { self.clone() });
        }
        let mut spans = Vec::new();
        for a in &self.spans {
            for b in &other.spans {
                let (from, to) = (a.0.max(b.0), a.1.min(b.1));
                if from < to {
                    spans.push((from, to));
                }
            }
        }
        (!spans.is_empty()).then_some(Self { spans })
    }

    /// The first time from `now` on at which it is open.
    pub fn next_open(&self, now: Moment) -> Moment {
        if self.is_always() {
            return now;
        }
        let week = Moment::from(WEEK) * MINUTE;
        let into = (now + EPOCH * MINUTE).rem_euclid(week);
        let monday = now - into;
        let minutes = |minute: u16| Moment::from(minute) * MINUTE;
        let ahead = self.spans.iter().find(|(_, to)| minutes(*to) > into);
        match (ahead, self.spans.first()) {
            (Some((from, _)), _) => monday + minutes(*from).max(into),
            (None, Some((from, _))) => monday + week + minutes(*from),
            (None, None) => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::renewal::planner::moment;

    fn window(text: &str) -> MaintenanceWindow {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_on_its_day_and_goes_over_midnight_and_the_week_s_end() {
        let saturday = Hours::of(&[window("Sat 02:00-04:00")]);
        let friday = moment(datetime!(2026-03-06 12:00 UTC));
        assert_eq!(saturday.next_open(friday), moment(datetime!(2026-03-07 02:00 UTC)));
        let inside = moment(datetime!(2026-03-07 03:59:59 UTC));
        assert_eq!(saturday.next_open(inside), inside);
        let over = moment(datetime!(2026-03-07 04:00 UTC));
        assert_eq!(saturday.next_open(over), moment(datetime!(2026-03-14 02:00 UTC)));
        let night = Hours::of(&[window("Sun 22:00-02:00")]);
        let monday = moment(datetime!(2026-03-09 01:00 UTC));
        assert_eq!(night.next_open(monday), monday);
        assert!(Hours::of(&[window("daily 00:00-24:00")]).is_always());
    }

    #[test]
    fn two_windows_are_followed_where_both_are_open() {
        let (a, b) = (window("Sat 02:00-06:00"), window("Fri-Sun 05:00-07:00"));
        let both = Hours::of(&[a]).and(&Hours::of(&[b])).unwrap();
        assert_eq!(both, Hours::of(&[window("Sat 05:00-06:00")]));
        assert_eq!(both.and(&Hours::of(&[window("Mon 05:00-06:00")])), None);
        assert_eq!(both.and(&Hours::ALWAYS), Some(both.clone()));
    }

    proptest! {
        #[test]
        fn the_next_opening_is_open_and_none_is_before_it(
            day in prop::sample::select(&["Mon", "Wed", "Sat", "Sun"][..]), from in 0u16..24, length in 1u16..24, now in 0i64..4_000_000_000_000_000
        ) {
            let text = format!("{day} {from:02}:00-{:02}:00", (from + length) % 24);
            let hours = Hours::of(&[window(&text)]);
            let next = hours.next_open(now);
            prop_assert!(next >= now && next - now <= Moment::from(WEEK) * MINUTE);
            prop_assert_eq!(hours.next_open(next), next);
            if next > now {
                prop_assert_eq!(hours.next_open(now + (next - now) / 2), next);
                prop_assert!(hours.next_open(next - 1) == next);
            }
        }
    }
}
