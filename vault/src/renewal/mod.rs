//! When certificates are ordered, and the order itself.
//!
//! `declare` and `update` are what operators want; `planner` decides when, as a pure function; `issue`
//! is one order; `runner` does what is due; `ari` asks CAs when they want it done; `retired` ends the keys that renewals have replaced; `restored`
//! settles what a restore leaves open.

mod ari;
mod declare;
mod issue;
pub mod planner;
mod presenters;
mod profiles;
pub mod restored;
mod retired;
mod runner;
mod turns;
mod update;

pub use ari::{Ari, RenewalPlan, RenewalReason};
pub use declare::{Activity, Declaration};
pub use issue::{Issuer, Parts as IssuerParts, Progress};
pub use presenters::Presenters;
pub use restored::Aftermath;
pub use runner::Runner;
pub use update::SettingsChange;
