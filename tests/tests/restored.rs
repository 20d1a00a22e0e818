//! What follows a restore: agents and CAs are asked what happened since the backup, it is set right
//! where it can be, and said where it cannot.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

#[path = "restored/agents.rs"]
mod agents;
#[path = "restored/caddy.rs"]
mod caddy;
#[path = "restored/cas.rs"]
mod cas;
#[path = "restored/lost.rs"]
mod lost;
#[path = "restored/scene.rs"]
mod scene;
#[path = "restored/whole.rs"]
mod whole;
