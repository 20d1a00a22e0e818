//! When certificates are ordered, and the order itself.
//!
//! `declare` and `update` are what operators want; `planner` decides when, as a pure function; `issue`
//! is one order; `runner` does what is due; `retired` ends the keys that renewals have replaced; `restored`
//! settles what a restore leaves open; `revoke` is revocation, `relinquish` what an order that is over
//! leaves at its CA.

mod declare;
mod issue;
pub mod planner;
mod presenters;
mod relinquish;
pub mod restored;
mod retired;
mod revoke;
mod runner;
mod turns;
mod update;

pub use declare::{Activity, Declaration};
pub use issue::{Issuer, Parts as IssuerParts, Progress};
pub use presenters::Presenters;
pub use restored::Aftermath;
pub use revoke::{Revocation, RevokedBy};
pub use runner::Runner;
pub use update::SettingsChange;
