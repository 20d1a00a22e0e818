//! Keeping what must survive the HSM. The KEK and its shares are `vault-custody`'s, since custodians
//! open them where there is no vault.

mod archive;
pub mod drill;
pub mod drills;
mod keeper;
pub mod keks;
pub mod place;
mod plan;
pub mod restore;
mod retention;
mod snapshot;

pub use keeper::{Keeper, State};
pub use snapshot::{Backups, Event, LeftOut, Summary};
pub use vault_custody::shares as ceremony;
