//! The command contract: what scripts and people rely on, of every verb that there is.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod cli {
    mod connection;
    mod consent;
    mod exit;
    mod export;
    mod help;
    mod inputs;
    mod json;
    mod lists;
    mod names;
    mod scene;
    mod terminal;
    mod update;
    mod verbs;
}
