//! When certificates are ordered, and the order itself.
//!
//! `declare` and `update` are what operators want; `planner` decides when, as a pure function; `issue`
//! is one order; `runner` does what is due and may begin, as `outlook`, `agenda`, `ledger` and the planner see it; `ari`
//! asks CAs when they want it done; `forecast` looks ahead; `place` notes what counts against what CAs allow;
//! `retired` ends the keys that renewals have replaced; `restored` settles what a restore leaves open; `revoke`
//! is revocation, `relinquish` what an order that is over leaves at its CA.

mod agenda;
mod ari;
mod declare;
mod forecast;
mod foresight;
mod issue;
mod ledger;
mod outlook;
mod place;
pub mod planner;
mod presenters;
mod profiles;
mod relinquish;
pub mod restored;
mod retired;
mod revoke;
mod runner;
mod turns;
mod update;
mod waits;

pub use agenda::Planning;
pub use ari::{Ari, RenewalPlan, RenewalReason};
pub use declare::{Activity, Declaration};
pub use forecast::{AccountRehearsal, PlannedOrder, Rehearsal};
pub use issue::{Issuer, Parts as IssuerParts, Progress};
pub use presenters::Presenters;
pub use restored::Aftermath;
pub use revoke::{Revocation, RevokedBy, must_have_new_key};
pub use runner::Runner;
pub use update::SettingsChange;
