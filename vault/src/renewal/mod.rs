//! When certificates are ordered, and the order itself.
//!
//! `declare` and `update` are what operators want; `planner` decides when, as a pure function; `issue`
//! is one order; `runner` does what is due; `retired` ends the keys that renewals have replaced; `restored`
//! settles what a restore leaves open.

mod declare;
mod issue;
pub mod planner;
pub mod restored;
mod retired;
mod runner;
mod update;

pub use declare::{Activity, Declaration};
pub use issue::{Issuer, Progress};
pub use restored::Aftermath;
pub use runner::Runner;
pub use update::SettingsChange;
