//! Keyless: what the PKCS#11 module in this machine's web servers asks is answered from here, and
//! signed by the vault.

pub mod held;
mod socket;
mod upstream;
pub mod uri;

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Signer as Config;
use crate::desired::Desired;
use crate::error::Result;
use crate::identity::Identity;

use socket::Socket;
use upstream::Upstream;

/// The signer: a socket for web servers, a stream to the vault, and what is known of the keys.
pub struct Signer {
    socket: Socket,
    upstream: Upstream,
    keys: held::Keys,
}

impl Signer {
    /// Binds the socket and reads what is known of the keys, the list at `keys`.
    ///
    /// # Errors
    /// `Invalid` where a user or group is not there, `Unavailable` where the socket cannot be made.
    pub async fn new(
        config: &Config,
        keys: PathBuf,
        identity: Arc<Identity>,
        addresses: Vec<String>,
    ) -> Result<Self> {
        let keys = held::Keys::load(keys, &identity)?;
        let (upstream, client) = Upstream::new(identity, addresses, config.deadline);
        let socket = Socket::bind(config, client, keys.watch()).await?;
        Ok(Self { socket, upstream, keys })
    }

    /// The desired state as far as web servers can find its keys: what is installed follows this one.
    pub fn listed(&self) -> watch::Receiver<Desired> {
        self.keys.listed()
    }

    /// Serves until `stop`.
    pub async fn run(self, desired: watch::Receiver<Desired>, stop: CancellationToken) {
        let mut parts = JoinSet::new();
        parts.spawn(self.socket.run(stop.clone()));
        parts.spawn(self.upstream.run(stop.clone()));
        parts.spawn(self.keys.run(desired, stop.clone()));
        while parts.join_next().await.is_some() {}
    }
}
