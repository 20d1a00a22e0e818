//! From a connection to a principal: a TLS peer by its certificate, a process on this machine by
//! its credentials on the admin socket.

use tonic::Request;

use super::Context;
use crate::error::{Error, Result};
use crate::policy::Principal;

/// What a connection says of its peer; tonic hands it to every request.
#[derive(Debug, Clone)]
pub enum PeerInfo {
    /// mTLS: the client's leaf certificate, DER, verified by the handshake; `None` without one.
    Tls(Option<Vec<u8>>),
    /// The admin socket: the peer's user id.
    Local(u32),
}

impl Context {
    /// Who asks. Looked up for each request, so that a revocation counts at once.
    ///
    /// # Errors
    /// `Unavailable` before `init`, `Unauthenticated` for nobody known and for a certificate that
    /// does not count (any more).
    pub(super) async fn principal<T>(&self, request: &Request<T>) -> Result<Principal> {
        self.rooms()?;
        match self.peer(request).await? {
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
        match request.extensions().get::<PeerInfo>() {
            Some(PeerInfo::Local(uid)) => Ok(Principal::Local(*uid)),
            Some(PeerInfo::Tls(Some(certificate))) => {
                self.rooms()?.identities.principal(certificate).await
            }
            Some(PeerInfo::Tls(None)) => Ok(Principal::Anonymous),
            None => Err(Error::internal("authenticate", "the connection", "it has no peer")),
        }
    }
}
