//! gRPC: one file per service. A service parses, asks the rooms below, and answers; it decides
//! nothing. This and `app.rs` are the only places that name `tonic`.

mod accounts;
mod agents;
mod audit;
mod backup;
mod ca;
mod certificates;
mod context;
mod convert;
mod detach;
mod drills;
mod kek;
mod keys;
mod lanes;
mod movable;
mod plan;
mod principal;
mod restore;
mod rollouts;
mod server;
mod sessions;
mod sign_stream;
mod status;
mod system;
mod tls_signing;

pub use context::{Context, Initializer, Restorer, Rooms};
pub use kek::{quorum, shares};
pub use principal::{PeerInfo, TlsPeer};
pub use server::{AdminSocket, Connection, ServerIdentity, TlsListener, router};
pub use system::identity;
pub use tls_signing::TlsSigning;
