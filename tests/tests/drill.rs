//! Drills: what one proves, what it finds, what it leaves, and who can check it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod drill {
    mod disk;
    mod forged;
    mod found;
    mod killed;
    mod memory;
    mod proven;
    mod record;
    mod report;
    mod runbook;
    mod scene;
    mod token;
}
