//! When certificates are ordered: pure functions of what is known and the time, so that a plan can be
//! computed, tested and explained.
//!
//! `wish` says when a certificate alone would be renewed or tried again, `window` what its CA wants
//! (RFC 9773), `maintenance` when its web servers may change, `budget` what its CA allows, `gate` how that does, and `schedule`
//! what all of that comes to for a fleet: what begins now, in which order, and when the next look is
//! needed. `facts` makes of what is known of a certificate what the schedule works with; `forecast` plays
//! the same schedule forward.

pub mod budget;
pub mod facts;
pub mod forecast;
pub mod gate;
pub mod maintenance;
pub mod schedule;
mod window;
mod wish;

#[cfg(test)]
mod simulation;

use time::OffsetDateTime;

pub use window::Window;
pub use wish::{Policy, counted, fraction, renew_at, retry_at, seed};

/// A time as microseconds since 1970, as the store keeps it: fleets of times are compared.
pub type Moment = i64;

/// A time as a [`Moment`].
pub fn moment(at: OffsetDateTime) -> Moment {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// A [`Moment`] as a time; the latest one there is where it is beyond all of them.
pub fn time_of(moment: Moment) -> OffsetDateTime {
    let latest = time::Date::MAX.midnight().assume_utc();
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment) * 1000).unwrap_or(latest)
}
