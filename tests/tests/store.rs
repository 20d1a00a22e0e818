//! The store's promises: one suite, run on SQLite and on PostgreSQL.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod store {
    use testkit::records;

    #[macro_use]
    mod world;
    mod accounts;
    mod agents;
    mod alerts;
    mod certificates;
    mod columns;
    mod deployments;
    mod desired;
    mod drills;
    mod history;
    mod in_use;
    mod issuance;
    mod keys;
    mod opening;
    mod orders;
    mod placements;
    mod renewal_info;
    mod restoration;
    mod revocations;
    mod rollouts;
    mod snapshot;
    mod unused_keys;
    mod views;
    mod writers;
}
