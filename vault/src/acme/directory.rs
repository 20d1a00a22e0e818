//! A CA's directory (RFC 8555 section 7.1.1), read before anything is made for an account.

use bytes::Bytes;
use http::Request;
use instant_acme::BodyWrapper;
use serde::Deserialize;
use url::Url;

use super::{
    Ca,
    transport::{Options, Transport},
};
use crate::error::{Error, Result};

/// What a directory says that decides whether an account can be registered.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Its terms of service.
    pub terms_of_service: Option<String>,
    /// Whether an account must be bound to one outside (RFC 8555 section 7.3.4).
    pub external_account_required: bool,
    /// Where it gives nonces.
    pub(super) new_nonce: Url,
    /// Where certificates are revoked.
    pub(super) revoke_cert: Option<Url>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    new_nonce: Url,
    revoke_cert: Option<Url>,
    #[serde(rename = "newAccount")]
    _new_account: Url,
    #[serde(rename = "newOrder")]
    _new_order: Url,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    terms_of_service: Option<String>,
    #[serde(default)]
    external_account_required: bool,
}

impl Directory {
    /// Reads it.
    ///
    /// # Errors
    /// `Unavailable` where the CA does not answer or answers with something else.
    pub async fn of(ca: &Ca, options: &Options) -> Result<Self> {
        let transport = Transport::new(&ca.directory, ca.root_pem.as_deref(), *options)?;
        Self::read(&transport, &ca.directory).await
    }

    pub(super) async fn read(transport: &Transport, directory: &Url) -> Result<Self> {
        let request = Request::get(directory.as_str())
            .body(BodyWrapper::<Bytes>::default())
            .map_err(|e| Error::invalid("ask", &transport.ca, e))?;
        let response = transport.send(request).await?;
        let wrong = |why: String| {
            Error::unavailable("read the directory", &transport.ca, why)
                .hint("check that the URL is an ACME directory, and the CA's health")
        };
        if !response.status().is_success() {
            return Err(wrong(format!("it answers {}", response.status())));
        }
        let wire: Wire = serde_json::from_slice(response.body())
            .map_err(|e| wrong(format!("it is no ACME directory: {e}")))?;
        Ok(Self {
            terms_of_service: wire.meta.terms_of_service,
            external_account_required: wire.meta.external_account_required,
            new_nonce: wire.new_nonce,
            revoke_cert: wire.revoke_cert,
        })
    }
}
