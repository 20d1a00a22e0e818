//! Starts the real thing for the tests that keep the promises: each on its own free port and in
//! its own directory, killed on drop, its output kept for the failure message. A program that is
//! not installed fails the test that needs it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a testkit fails loudly

pub mod acme_dns;
pub mod agent;
pub mod apache;
pub mod ari_ca;
pub mod bind;
pub mod bucket;
pub mod bulk;
pub mod caddy;
pub mod chaos;
pub mod custodians;
pub mod escrow;
pub mod fake_vault;
pub mod fault_ca;
pub mod faulty_hsm;
pub mod gate;
pub mod grpc;
pub mod haproxy;
pub mod inside;
pub mod keyless;
pub mod keyless_world;
pub mod knot;
pub mod kryoptic;
pub mod load;
pub mod monitored;
pub mod name_server;
pub mod namespace;
pub mod nginx;
pub mod pebble;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod records;
pub mod restored;
pub mod revoker;
pub mod runbook;
pub mod scheduled;
pub mod signer_client;
pub mod signer_key;
pub mod signer_socket;
pub mod small_disk;
pub mod softhsm;
pub mod spy;
pub mod tls;
pub mod tree;
pub mod vault;
pub mod visitor;
pub mod web_server;
pub mod world;
