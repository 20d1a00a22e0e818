//! When certificates are ordered, and the order itself.
//!
//! `planner` decides when, as a pure function; `issue` is one order; `runner` does what is due.

mod declare;
mod issue;
pub mod planner;
mod runner;

pub use declare::{Activity, Declaration};
pub use issue::{Issuer, Progress};
pub use runner::Runner;
