//! Desired state to agents: what each web server shall serve, sent whole on connect and by
//! difference from then on, and what became of it.
//!
//! The hub keeps no queue of changes. A change marks the certificate for the agents concerned; each
//! session then reads what the store says of it and sends what differs from what it sent last, so a
//! slow or absent agent costs nothing and misses nothing.

mod changes;
mod desired;
mod foreign;
mod hub;
mod presented;
mod report;
mod rollout;
mod rollouts;
mod staple;

pub use changes::Changes;
pub use desired::{DesiredState, View};
pub use foreign::Foreign;
pub use hub::{Hub, Session};
pub use rollouts::Rollouts;
