//! A CA's directory (RFC 8555 section 7.1.1), read before anything is made for an account.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use instant_acme::BodyWrapper;
use serde::Deserialize;
use url::Url;

use super::{Ca, clients::Clients, transport::Transport};
use crate::error::{Error, Result};

/// The most profiles that are kept, and the longest text of one: both are the CA's to choose.
const MOST_PROFILES: usize = 64;
const LONGEST_TEXT: usize = 300;

/// What a directory says of a CA.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Its terms of service.
    pub terms_of_service: Option<String>,
    /// Its website.
    pub website: Option<String>,
    /// Whether an account must be bound to one outside (RFC 8555 section 7.3.4).
    pub external_account_required: bool,
    /// Its profiles (draft-aaron-acme-profiles) and what it says of each.
    pub profiles: BTreeMap<String, String>,
    /// Where it says when certificates are to be renewed (RFC 9773 section 4.1).
    pub renewal_info: Option<Url>,
    /// The CA, for people.
    pub(super) ca: String,
    /// Where it gives nonces.
    pub(super) new_nonce: Url,
    /// Where orders are placed.
    pub(super) new_order: Url,
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
    new_order: Url,
    renewal_info: Option<String>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    terms_of_service: Option<String>,
    website: Option<String>,
    #[serde(default)]
    external_account_required: bool,
    #[serde(default)]
    profiles: BTreeMap<String, String>,
}

/// Text of a CA's as a terminal can take it.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

impl Directory {
    /// Reads it.
    ///
    /// # Errors
    /// `Unavailable` where the CA does not answer or answers with something else.
    pub async fn of(ca: &Ca, clients: &Clients) -> Result<Self> {
        let transport = clients.of(ca)?;
        transport.kept.forget_directory();
        Self::known(&transport).await
    }

    /// What it says, or said a short time ago.
    pub(super) async fn known(transport: &Transport) -> Result<Self> {
        let json = Self::json(transport).await?;
        Self::parse(&json, &transport.ca).map_err(|error| wrong(transport, error))
    }

    /// The same, as the CA writes it.
    pub(super) async fn json(transport: &Transport) -> Result<Bytes> {
        if let Some(json) = transport.kept.directory() {
            return Ok(json);
        }
        let request = Request::get(transport.directory.as_str())
            .body(BodyWrapper::<Bytes>::default())
            .map_err(|e| Error::invalid("ask", &transport.ca, e))?;
        let response = transport.send(request).await.map_err(|unanswered| unanswered.error)?;
        if !response.status().is_success() {
            return Err(wrong(transport, format!("it answers {}", response.status())));
        }
        let json = response.into_body();
        Self::parse(&json, &transport.ca).map_err(|error| wrong(transport, error))?;
        transport.kept.keep_directory(json.clone());
        Ok(json)
    }

    pub(super) fn parse(json: &[u8], ca: &str) -> Result<Self, String> {
        let wire: Wire =
            serde_json::from_slice(json).map_err(|e| format!("it is no ACME directory: {e}"))?;
        let profiles = wire.meta.profiles.into_iter();
        let profiles = profiles.filter(|(name, _)| *name == printable(name)).take(MOST_PROFILES);
        // An extension that is malformed is none: it must not stand in the way of an order.
        let renewal_info = wire.renewal_info.and_then(|url| url.parse().ok());
        Ok(Self {
            terms_of_service: wire.meta.terms_of_service.as_deref().map(printable),
            website: wire.meta.website.as_deref().map(printable),
            external_account_required: wire.meta.external_account_required,
            profiles: profiles.map(|(name, said)| (name, printable(&said))).collect(),
            renewal_info: renewal_info.filter(|url: &Url| url.scheme() == "https"),
            ca: ca.to_owned(),
            new_nonce: wire.new_nonce,
            new_order: wire.new_order,
            revoke_cert: wire.revoke_cert,
        })
    }
}

fn wrong(transport: &Transport, why: String) -> Error {
    Error::unavailable("read the directory", &transport.ca, why)
        .hint("check that the URL is an ACME directory, and the CA's health")
}
