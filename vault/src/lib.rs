//! The rooms of `vaultd`. `ARCHITECTURE.md` says which way data goes through them.

pub mod acme;
pub mod audit;
pub mod backup;
pub mod clock;
pub mod error;
pub mod fault;
pub mod keystore;
mod named;
pub mod policy;
pub mod store;
pub mod x509;
