//! Maintenance windows as operators write them: when a certificate may be replaced, by weekday and time of
//! the day, UTC.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The minutes of a day.
const DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// One window, such as `Sat 02:00-04:00`, `Mon-Fri 22:00-02:00` or `daily 03:00-04:00`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaintenanceWindow {
    text: String,
    spans: Vec<(u16, u16)>,
}

impl MaintenanceWindow {
    /// From when to when, in minutes of the week from Monday on; the end may lie in the next one.
    pub fn spans(&self) -> &[(u16, u16)] {
        &self.spans
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (days, times) = text.split_once(' ').ok_or("it has no days, or no times")?;
        let days = days_of(days).ok_or("its days are Mon to Sun, ranges of them, or daily")?;
        let (from, to) = times.split_once('-').unwrap_or_default();
        let (Some(from), Some(to)) = (minute_of(from), minute_of(to)) else {
            return Err("its times are HH:MM-HH:MM");
        };
        if from == to || from == DAY {
            return Err("it ends when it begins; a whole day is 00:00-24:00");
        }
        let length = if to > from { to - from } else { DAY - from + to };
        let spans = days.into_iter().map(|day| (day * DAY + from, day * DAY + from + length));
        Ok(Self { spans: spans.collect(), text })
    }
}

impl FromStr for MaintenanceWindow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|why| {
            let short: String = text.chars().take(60).collect();
            Error::invalid("read", format!("maintenance window {short:?}"), why).hint(
                "write days and times, UTC, such as \"Sat 02:00-04:00\" or \"daily 03:00-04:00\"",
            )
        })
    }
}

impl TryFrom<String> for MaintenanceWindow {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<MaintenanceWindow> for String {
    fn from(window: MaintenanceWindow) -> Self {
        window.text
    }
}

impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn days_of(text: &str) -> Option<Vec<u16>> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    if text.eq_ignore_ascii_case("daily") {
        return Some((0..7).collect());
    }
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // A range may go over the end of the week.
        let count = (last + 7 - first) % 7 + 1;
        days.extend((0..count).filter_map(|step| u16::try_from((first + step) % 7).ok()));
    }
    Some(days)
}

fn minute_of(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_as_operators_write_it() {
        for (text, spans) in [
            ("Mon 02:00-04:00", vec![(120, 240)]),
            ("  sun   22:00-02:00 ", vec![(6 * DAY + 1320, 7 * DAY + 120)]),
            ("Sun-Mon 00:00-24:00", vec![(6 * DAY, 7 * DAY), (0, DAY)]),
            ("Tue,Thu 01:00-01:01", vec![(DAY + 60, DAY + 61), (3 * DAY + 60, 3 * DAY + 61)]),
        ] {
            let window: MaintenanceWindow = text.parse().unwrap();
            assert_eq!(window.spans(), spans, "{text}");
            assert_eq!(window.to_string().parse::<MaintenanceWindow>().unwrap(), window);
        }
        assert_eq!("daily 03:00-04:00".parse::<MaintenanceWindow>().unwrap().spans().len(), 7);
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "Sat",
            "02:00-04:00",
            "Sam 02:00-04:00",
            "Sat 2:00-4:00",
            "Sat 02:00",
            "Sat 02:00-02:00",
            "Sat 25:00-26:00",
            "Sat 02:60-03:00",
            "Sat 24:00-02:00",
            "Mon- 02:00-03:00",
            "Sat -",
            "größe x",
            "Sat 02:00-04:00 UTC",
        ] {
            let refused = text.parse::<MaintenanceWindow>().unwrap_err();
            assert!(refused.hint.contains("Sat 02:00-04:00"), "{text}");
        }
    }
}
