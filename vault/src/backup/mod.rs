//! Keeping what must survive the HSM. The KEK and its shares are `vault-custody`'s, since custodians
//! open them where there is no vault.

mod archive;
pub mod keks;
mod snapshot;

pub use snapshot::{Backups, Event, LeftOut, Summary};
pub use vault_custody::shares as ceremony;
