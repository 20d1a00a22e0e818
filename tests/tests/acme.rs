//! The ACME client's promises, kept before Pebble and before a proxy that lets Pebble fail: accounts
//! whose keys are in the HSM, orders that go on, and nothing half-made of what a CA refuses.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod acme {
    mod account_faults;
    mod accounts;
    mod authorizations;
    mod chain_choice;
    mod chains;
    mod contacts;
    mod names;
    mod order_faults;
    mod orders;
    mod problems;
    mod requests;
    mod revocation;
    mod rollover;
    mod transport;
    mod world;
}
