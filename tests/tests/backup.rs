//! Backups: what is in one, who may make one, what becomes of one that is not whole.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod backup {
    mod content;
    mod corrupt;
    mod custody;
    mod interrupted;
    mod makers;
    mod memory;
    mod verify;
}
