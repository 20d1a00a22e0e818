//! Web servers staple what the vault fetches: fresh, verified by the agent, and never worse than before.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod staples {
    mod haproxy;
    mod hostile;
    mod nginx;
    mod world;
}
