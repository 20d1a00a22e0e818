//! `libvault_pkcs11.so`: a PKCS#11 v2.40 token whose keys stay in the vault's HSM.
//!
//! A web server loads it; every signature is asked for on the agent's Unix socket
//! (`keyvault/local/v1/signer.proto`). The token is read-only and wants no PIN: the socket's file mode
//! and the agent's list of users say who may sign.
//!
//! A host forks as it likes, kills its children and calls from many threads. So there are no threads
//! and no runtime here; what one process knows is never locked in another (`fork`); and no lock is
//! held while an answer is awaited (`transport`).
//!
//! Each C function in `api` is a thin shell around Rust that answers a `Result`; `rv` turns that
//! into a CK_RV and lets no panic through.
#![allow(unsafe_code)] // C calls us and hands us pointers: they are followed in `memory` and `api` alone
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod api;
mod attributes;
mod fork;
mod frame;
mod kept;
mod key;
mod mechanism;
mod memory;
mod objects;
mod pool;
mod rv;
mod settings;
mod state;
mod transport;
