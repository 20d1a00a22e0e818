//! The rooms of `vaultd`. `ARCHITECTURE.md` says which way data goes through them.

pub mod accounts;
pub mod acme;
pub mod alerts;
pub mod api;
pub mod app;
pub mod audit;
pub mod backup;
pub mod clock;
pub mod config;
pub mod dns;
pub mod error;
pub mod fault;
mod https;
pub mod identities;
pub mod keyless;
pub mod keystore;
pub mod monitor;
mod named;
pub mod policy;
pub mod push;
pub mod renewal;
pub mod settings;
pub mod signing;
pub mod store;
mod wire;
pub mod x509;
