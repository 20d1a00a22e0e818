//! The HTTP client that `instant_acme` gets: it signs every JWS anew with the HSM key, keeps the
//! nonces, asks again where a CA stumbles, and turns every failed answer into a domain error.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use secrecy::SecretSlice;
use serde_json::{Map, Value, json};

use super::{
    away,
    directory::Directory,
    jws,
    problem::{self, Problem},
    transport::{self, Transport},
};
use crate::error::{Error, Result};
use crate::keystore::MessageSigner;

/// How often a request is signed anew after a bad nonce. A CA that rejects half of all nonces
/// fails one request in a million.
const NONCES: u32 = 20;
/// The header that brings a nonce (RFC 8555 section 6.5.1).
const NONCE: &str = "replay-nonce";
/// A CA that asks for a longer pause than this is left alone until the order's next attempt.
const SHORT: Duration = Duration::from_secs(2);
/// What an order waits for a CA that stumbles: a second try a moment later spares it the pause of a
/// minute that comes after a failed attempt.
const STUMBLES: usize = 4;

/// Why a request was not answered as it should be.
struct Failure {
    error: Error,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The CA has stumbled, and says so.
    Stumbled,
    /// The connection broke: nobody knows whether the CA has heard it.
    Cut,
    /// The same request would fail the same way.
    Lasting,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, cause: Cause::Lasting }
    }
}

impl From<transport::Unanswered> for Failure {
    fn from(unanswered: transport::Unanswered) -> Self {
        let cause = if unanswered.late { Cause::Lasting } else { Cause::Cut };
        Self { error: unanswered.error, cause }
    }
}

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
        match parts.method {
            // Each JWS gets its nonce where it is signed.
            Method::HEAD => return Ok(with_nonce("later")),
            Method::GET if parts.uri == self.transport.directory.as_str() => {
                return Directory::json(&self.transport).await.map(Response::new);
            }
            _ => {}
        }
        let once = || self.once(&parts, &body, signed);
        // Which key counts after a rollover whose answer is lost is for the account to find out. And an
        // order that may have been placed counts against what the CA allows: it is never placed twice
        // without a record of it.
        let rollover = self.keys.next.is_some();
        let again = |failure: &Failure| match failure.cause {
            Cause::Stumbled => !rollover,
            Cause::Cut => !rollover && !self.places_an_order(&parts),
            Cause::Lasting => false,
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_times(STUMBLES)
            .with_jitter();
        let answered = once.retry(pauses).when(again).await;
        answered.map_err(|failure| {
            self.transport.kept.forget_directory();
            failure.error
        })
    }

    fn places_an_order(&self, parts: &Parts) -> bool {
        let known = self.transport.kept.directory();
        let known = known.and_then(|json| Directory::parse(&json, &self.transport.ca).ok());
        known.is_none_or(|directory| parts.uri == directory.new_order.as_str())
    }

    /// One request, with as many nonces as that takes.
    async fn once(
        &self,
        parts: &Parts,
        body: &[u8],
        signed: bool,
    ) -> Result<Response<Bytes>, Failure> {
        let (mut nonce, mut left) = (None::<String>, NONCES);
        loop {
            let body = match signed {
                true => {
                    let nonce = match nonce.take() {
                        Some(nonce) => nonce,
                        None => self.nonce().await?,
                    };
                    BodyWrapper::from(self.sign_anew(body, &nonce).await?)
                }
                false => BodyWrapper::default(),
            };
            let request = Request::from_parts(parts.clone(), body);
            let mut response = self.transport.send(request).await?;
            let retry_after = transport::retry_after(&response);
            *self.keys.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = retry_after;
            let fresh = take_nonce(&mut response);
            let (status, subject) = (response.status(), &self.transport.ca);
            let problem = match status.is_success() {
                true => None,
                false => Problem::parse(response.body()),
            };
            if let (Some(problem), Some(fresh)) = (&problem, &fresh)
                && signed
                && problem.is("badNonce")
                && left > 0
            {
                nonce = Some(fresh.clone());
                left -= 1;
                continue;
            }
            fresh.into_iter().for_each(|nonce| self.transport.kept.keep_nonce(nonce));
            if status.is_success() {
                return Ok(response);
            }
            let cause = cause_of(status, retry_after);
            let error = match problem {
                // What was to be done is done: the answer to an earlier try was lost.
                Some(problem) if problem.is("alreadyRevoked") => return Ok(Response::default()),
                Some(problem) => {
                    let problem = problem.with_headers(response.headers());
                    problem.into_error(subject, status, retry_after)
                }
                None => problem::plain(subject, status, retry_after),
            };
            return Err(Failure { error, cause });
        }
    }

    /// A nonce that came with an earlier answer, else a new one (RFC 8555 section 7.2).
    async fn nonce(&self) -> Result<String, Failure> {
        if let Some(nonce) = self.transport.kept.nonce() {
            return Ok(nonce);
        }
        let url = Directory::known(&self.transport).await?.new_nonce;
        let request = Request::head(url.as_str()).body(BodyWrapper::default());
        let request = request.map_err(|e| Error::invalid("ask", &self.transport.ca, e))?;
        let mut response = self.transport.send(request).await?;
        let (status, subject) = (response.status(), &self.transport.ca);
        match take_nonce(&mut response) {
            Some(nonce) if status.is_success() => Ok(nonce),
            _ if status.is_success() => Err(away(subject, "it gives no nonce").into()),
            _ => {
                let retry_after = transport::retry_after(&response);
                let error = problem::plain(subject, status, retry_after);
                Err(Failure { error, cause: cause_of(status, retry_after) })
            }
        }
    }

    /// Takes a JWS apart and signs it with the HSM key: `jwk` becomes ours (newAccount, with the
    /// external account binding), `kid` stays; an inner JWS (keyChange) is made by the new key.
    async fn sign_anew(&self, body: &[u8], nonce: &str) -> Result<Vec<u8>> {
        let outer: Value = serde_json::from_slice(body).map_err(|_| unsigned("no JSON"))?;
        let mut payload = part(&outer, "payload")?;
        let mut protected: Map<String, Value> = serde_json::from_slice(&part(&outer, "protected")?)
            .map_err(|_| unsigned("no header"))?;
        protected.insert("nonce".to_owned(), nonce.into());
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

/// Whether a CA that answers so may have a better answer in a moment.
fn cause_of(status: StatusCode, retry_after: Option<Duration>) -> Cause {
    let stumbles = matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    match stumbles && retry_after.is_none_or(|after| after <= SHORT) {
        true => Cause::Stumbled,
        false => Cause::Lasting,
    }
}

/// Takes the nonce out of an answer: it is this client's to use.
fn take_nonce(response: &mut Response<Bytes>) -> Option<String> {
    let nonce = response.headers_mut().remove(NONCE)?;
    nonce.to_str().ok().map(str::to_owned)
}

fn with_nonce(nonce: &'static str) -> Response<Bytes> {
    let mut response = Response::default();
    response.headers_mut().insert(NONCE, http::HeaderValue::from_static(nonce));
    response
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
