//! The key-encryption key (KEK) in its custodians' hands.
//!
//! Both `vaultd`, which makes a KEK, and `vaultctl`, which opens shares on an operator's machine,
//! need what is here; neither needs an HSM for it. `docs/custody.md` says where the KEK exists in
//! the clear, and for how long.

pub mod drill;
mod error;
pub mod locked;
pub mod open;
mod quorum;
mod seal;
pub mod shares;
pub mod transcript;

pub use error::{Error, Result};
