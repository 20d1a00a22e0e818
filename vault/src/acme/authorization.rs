//! Authorizations of an order (RFC 8555 section 7.1.4), and their end (section 7.5.2).

use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Account, order::ours};
use crate::error::Result;
use crate::store::Identifier;

/// What an authorization is worth (RFC 8555 section 7.1.6), as far as somebody has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationState {
    /// It waits for a challenge, and counts against the CA's limit on those.
    Pending,
    /// It proves control.
    Valid,
    /// It is over.
    Ended,
}

/// One authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Where it is.
    pub url: Url,
    /// What it is for.
    pub identifier: Identifier,
    /// What it is worth.
    pub state: AuthorizationState,
}

#[derive(Deserialize)]
struct OrderObject {
    authorizations: Vec<Url>,
}

#[derive(Deserialize)]
struct AuthorizationObject {
    status: instant_acme::AuthorizationStatus,
    identifier: instant_acme::Identifier,
    #[serde(default)]
    wildcard: bool,
}

impl Account {
    /// Where the authorizations of an order are.
    ///
    /// # Errors
    /// `NotFound` or `Invalid` where the CA has forgotten the order.
    pub async fn authorizations_of(&self, order: &Url) -> Result<Vec<Url>> {
        let order: OrderObject = self.read(&self.post(order, b"").await?)?;
        Ok(order.authorizations)
    }

    /// One authorization as it is now.
    ///
    /// # Errors
    /// What the CA says.
    pub async fn authorization(&self, url: Url) -> Result<Authorization> {
        use instant_acme::AuthorizationStatus as Wire;
        let object: AuthorizationObject = self.read(&self.post(&url, b"").await?)?;
        let identifier = ours(&object.identifier, object.wildcard)?;
        let state = match object.status {
            Wire::Pending => AuthorizationState::Pending,
            Wire::Valid => AuthorizationState::Valid,
            Wire::Invalid | Wire::Revoked | Wire::Expired | Wire::Deactivated => {
                AuthorizationState::Ended
            }
        };
        Ok(Authorization { url, identifier, state })
    }

    /// Gives an authorization up, for ever.
    ///
    /// # Errors
    /// What the CA says.
    pub async fn deactivate_authorization(&self, authorization: &Authorization) -> Result<()> {
        let payload = json!({ "status": "deactivated" }).to_string();
        self.post(&authorization.url, payload.as_bytes()).await.map(drop)
    }
}
