//! A backup back into a vault: all of it or nothing, on a token and a store of its own.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod restore {
    mod interrupted;
    mod refused;
    mod runbook;
    mod stale;
    mod whole;
    mod world;
}
