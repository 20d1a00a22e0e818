//! A start with something wrong: one clear error, a hint, the right exit code, and nothing changed.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod startup {
    mod config;
    mod pin;
    mod refused;
    mod token;
}
