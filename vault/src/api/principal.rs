//! From a connection to a principal: a TLS peer by its certificate, a process on this machine by
//! its credentials on the admin socket.

use std::sync::Arc;

use tonic::Request;
use vault_proto::ids::{AgentName, Identity};

use super::Context;
use crate::error::{Error, Result};
use crate::policy::{Action, Principal};
use crate::store::Recent;

/// What a connection says of its peer; tonic hands it to every request.
#[derive(Debug, Clone)]
pub enum PeerInfo {
    /// mTLS: the client's certificate; `None` without one.
    Tls(Option<Arc<TlsPeer>>),
    /// The admin socket: the peer's user id.
    Local(u32),
}

/// The other end of a TLS connection.
#[derive(Debug)]
pub struct TlsPeer {
    /// Its leaf certificate, DER, verified by the handshake.
    certificate: Vec<u8>,
    /// Whose it is, as the last request found.
    principal: Recent<Principal>,
}

impl TlsPeer {
    /// One with this leaf certificate, DER.
    pub fn new(certificate: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { certificate, principal: Recent::default() })
    }
}

impl Context {
    /// Who asks. Asked for each request, so that a revocation counts at once; looked up again
    /// where anything may have changed.
    ///
    /// # Errors
    /// `Unavailable` before `init`, `Unauthenticated` for nobody known and for a certificate that
    /// does not count (any more).
    pub(super) async fn principal<T>(&self, request: &Request<T>) -> Result<Principal> {
        self.known(request.extensions().get()).await
    }

    /// The agent that a connection is of.
    ///
    /// # Errors
    /// Those of [`Context::principal`], `Denied` for everybody else.
    pub(super) async fn agent(&self, peer: Option<&PeerInfo>) -> Result<(Principal, AgentName)> {
        let who = self.known(peer).await?;
        let name = match who.identity() {
            Some(Identity::Agent(name)) => Some(name.clone()),
            _ => None,
        };
        let resource = name.as_ref().map_or("agent".to_owned(), |name| format!("agent/{name}"));
        self.allow(&who, Action::AgentSession, &resource).await?;
        name.map(|name| (who, name))
            .ok_or_else(|| Error::denied("hold a session", resource, "the caller is no agent"))
    }

    /// As [`Context::principal`], for a connection.
    ///
    /// # Errors
    /// Those of [`Context::principal`].
    pub(super) async fn known(&self, peer: Option<&PeerInfo>) -> Result<Principal> {
        self.rooms()?;
        match self.of(peer).await? {
            Principal::Anonymous => {
                let why = "it has no client certificate";
                Err(Error::unauthenticated("authenticate", "the connection", why)
                    .hint("use a profile with a client certificate, or the local admin socket"))
            }
            known => Ok(known),
        }
    }

    /// Who asks, for the few calls that are answered before `init`, or to nobody known.
    ///
    /// # Errors
    /// `Unauthenticated` for a certificate that does not count (any more).
    pub(super) async fn peer<T>(&self, request: &Request<T>) -> Result<Principal> {
        self.of(request.extensions().get()).await
    }

    async fn of(&self, peer: Option<&PeerInfo>) -> Result<Principal> {
        match peer {
            Some(PeerInfo::Local(uid)) => Ok(Principal::Local(*uid)),
            Some(PeerInfo::Tls(Some(peer))) => {
                let read = self.rooms()?.identities.principal(&peer.certificate);
                peer.principal.read(self.store.changes(), read).await
            }
            Some(PeerInfo::Tls(None)) => Ok(Principal::Anonymous),
            None => Err(Error::internal("authenticate", "the connection", "it has no peer")),
        }
    }
}
