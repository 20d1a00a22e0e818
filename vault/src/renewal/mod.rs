//! When certificates are ordered, and the order itself.
//!
//! `declare` and `update` are what operators want; `planner` decides when, as a pure function; `issue`
//! is one order; `runner` does what is due; `retired` ends the keys that renewals have replaced; `compromise`
//! knows the keys that may not be used again; `restored` settles what a restore leaves open.

mod compromise;
mod declare;
mod issue;
pub mod planner;
mod presenters;
pub mod restored;
mod retired;
mod runner;
mod turns;
mod update;

pub use compromise::must_have_new_key;
pub use declare::{Activity, Declaration};
pub use issue::{Issuer, Parts as IssuerParts, Progress};
pub use presenters::Presenters;
pub use restored::Aftermath;
pub use runner::Runner;
pub use update::SettingsChange;
