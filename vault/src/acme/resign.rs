//! The HTTP client that `instant_acme` gets: it signs every JWS anew with the HSM key, fights bad
//! nonces, and turns every failed answer into a domain error.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use secrecy::SecretSlice;
use serde_json::{Map, Value, json};

use super::{
    jws,
    problem::{self, Problem},
    transport::{self, Transport},
};
use crate::error::{Error, Result};
use crate::keystore::MessageSigner;

/// How often a request is signed anew after a bad nonce. A CA that rejects half of all nonces
/// fails one request in a million.
const NONCES: u32 = 20;

/// Keys of one account, and what the answers said besides.
pub(super) struct Keys {
    pub(super) current: Arc<dyn MessageSigner>,
    /// The key of a rollover (RFC 8555 section 7.3.5).
    pub(super) next: Option<Arc<dyn MessageSigner>>,
    /// The external account binding of a registration: key id and MAC key.
    pub(super) eab: Option<(String, SecretSlice<u8>)>,
    /// What the CA last asked to wait before asking again.
    pub(super) retry_after: Mutex<Option<Duration>>,
}

impl Keys {
    pub(super) fn of(current: Arc<dyn MessageSigner>) -> Self {
        Self { current, next: None, eab: None, retry_after: Mutex::new(None) }
    }

    pub(super) fn take_retry_after(&self) -> Option<Duration> {
        self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The client.
#[derive(Clone)]
pub(super) struct Resigner {
    pub(super) transport: Transport,
    pub(super) keys: Arc<Keys>,
}

impl HttpClient for Resigner {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answered = client.exchange(request).await;
            let response = answered.map_err(|e| instant_acme::Error::Other(Box::new(e)))?;
            let (parts, body) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

impl Resigner {
    /// Signs what is a JWS, sends it, and answers what the CA gives.
    pub(super) async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(impossible) => match impossible {},
        };
        let signed = parts.headers.get(CONTENT_TYPE).is_some_and(|t| t == "application/jose+json");
        if !signed && !body.is_empty() {
            return Err(unsigned("a body that is no JWS"));
        }
        let (mut nonce, mut left) = (None::<String>, NONCES);
        loop {
            let body = match signed {
                true => BodyWrapper::from(self.sign_anew(&body, nonce.as_deref()).await?),
                false => BodyWrapper::default(),
            };
            let response = self.transport.send(Request::from_parts(parts.clone(), body)).await?;
            let retry_after = transport::retry_after(&response);
            *self.keys.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = retry_after;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let subject = &self.transport.ca;
            let Some(problem) = Problem::parse(response.body()) else {
                return Err(problem::plain("ask", subject, status, retry_after));
            };
            let fresh = response.headers().get("replay-nonce").and_then(|n| n.to_str().ok());
            match fresh {
                Some(fresh) if signed && problem.is("badNonce") && left > 0 => {
                    nonce = Some(fresh.to_owned());
                    left -= 1;
                }
                // What was to be done is done: the answer to an earlier try was lost.
                _ if problem.is("alreadyRevoked") => return Ok(Response::default()),
                _ => {
                    let problem = problem.with_headers(response.headers());
                    return Err(problem.into_error("ask", subject, status, retry_after));
                }
            }
        }
    }

    /// Takes a JWS apart and signs it with the HSM key: `jwk` becomes ours (newAccount, with the
    /// external account binding), `kid` stays; an inner JWS (keyChange) is made by the new key.
    async fn sign_anew(&self, body: &[u8], nonce: Option<&str>) -> Result<Vec<u8>> {
        let outer: Value = serde_json::from_slice(body).map_err(|_| unsigned("no JSON"))?;
        let mut payload = part(&outer, "payload")?;
        let mut protected: Map<String, Value> = serde_json::from_slice(&part(&outer, "protected")?)
            .map_err(|_| unsigned("no header"))?;
        if let Some(nonce) = nonce {
            protected.insert("nonce".to_owned(), nonce.into());
        }
        let url = protected.get("url").cloned().ok_or_else(|| unsigned("no URL"))?;
        let key = self.keys.current.as_ref();
        match (protected.contains_key("jwk"), protected.contains_key("kid")) {
            (true, false) => {
                if let Some((kid, mac_key)) = &self.keys.eab {
                    payload = bound(&payload, kid, mac_key, &url, key)?;
                }
                protected.insert("jwk".to_owned(), json!(jws::jwk(key.public_key())?));
            }
            (false, true) => {
                if let Some(inner) = inner_jws(&payload) {
                    payload = self.roll_over(&inner, url).await?;
                }
            }
            _ => return Err(unsigned("a header with not just one of jwk and kid")),
        }
        let signed = jws::sign(key, protected, &payload).await?;
        serde_json::to_vec(&signed).map_err(|e| Error::internal("encode", "a JWS", e))
    }

    async fn roll_over(&self, inner: &Value, url: Value) -> Result<Vec<u8>> {
        let next = self.keys.next.as_ref().ok_or_else(|| unsigned("a rollover without a key"))?;
        let claims: Value = serde_json::from_slice(&part(inner, "payload")?)
            .map_err(|_| unsigned("no inner payload"))?;
        let account = claims.get("account").cloned().ok_or_else(|| unsigned("no account"))?;
        let old = jws::jwk(self.keys.current.public_key())?;
        let claims = json!({ "account": account, "oldKey": old }).to_string();
        let mut header = Map::new();
        header.insert("jwk".to_owned(), json!(jws::jwk(next.public_key())?));
        header.insert("url".to_owned(), url);
        Ok(jws::sign(next.as_ref(), header, claims.as_bytes()).await?.to_string().into_bytes())
    }
}

/// Adds the external account binding to a newAccount payload.
fn bound(
    payload: &[u8],
    kid: &str,
    mac_key: &SecretSlice<u8>,
    url: &Value,
    key: &dyn MessageSigner,
) -> Result<Vec<u8>> {
    let mut account: Map<String, Value> =
        serde_json::from_slice(payload).map_err(|_| unsigned("no account"))?;
    let binding = jws::bind_external(kid, mac_key, url, key.public_key())?;
    account.insert("externalAccountBinding".to_owned(), binding);
    serde_json::to_vec(&account).map_err(|e| Error::internal("encode", "an account", e))
}

fn inner_jws(payload: &[u8]) -> Option<Value> {
    let inner: Value = serde_json::from_slice(payload).ok()?;
    (inner.get("signature").is_some() && inner.get("protected").is_some()).then_some(inner)
}

fn part(jws: &Value, name: &str) -> Result<Vec<u8>> {
    let text = jws.get(name).and_then(Value::as_str).ok_or_else(|| unsigned("a missing part"))?;
    B64.decode(text).map_err(|_| unsigned("a malformed part"))
}

/// Nothing leaves that the HSM has not signed.
fn unsigned(why: &str) -> Error {
    Error::internal("sign", "an ACME request", format!("{why} is not sent"))
}
