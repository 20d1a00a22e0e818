//! Starts the real thing for the tests that keep the promises: each on its own free port and in
//! its own directory, killed on drop, its output kept for the failure message. A program that is
//! not installed fails the test that needs it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a testkit fails loudly

pub mod agent;
pub mod kryoptic;
pub mod nginx;
pub mod pebble;
pub mod process;
pub mod programs;
pub mod softhsm;
pub mod vault;
