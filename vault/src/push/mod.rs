//! Desired state to agents: what each web server shall serve, sent whole on connect and by
//! difference from then on, and what became of it.
//!
//! The hub keeps no queue of changes. A change marks the agents concerned as dirty; each session
//! then reads the desired state from the store and sends what differs from what it sent last, so a
//! slow or absent agent costs nothing and misses nothing.

mod desired;
mod foreign;
mod hub;
mod report;
mod staple;

pub use desired::DesiredState;
pub use foreign::Foreign;
pub use hub::{Hub, Session};
