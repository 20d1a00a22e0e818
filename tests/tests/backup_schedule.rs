//! Backups that a vault makes by itself: when, where, how long they stay, and what it says of them.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod backup_schedule {
    mod bucket;
    mod crashes;
    mod failures;
    mod made;
    mod nodes;
    mod restored;
    mod retention;
    mod roles;
}
