//! The KEK in its custodians' hands: transcripts, rotation, new shares, a second token.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod custody {
    mod backups;
    mod install;
    mod memory;
    mod reshare;
    mod rotate;
    mod runbook;
    mod scene;
    mod transcript;
}
