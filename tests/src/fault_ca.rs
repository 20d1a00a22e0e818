//! A CA that fails on command: a proxy before a real Pebble, so that everything is real up to the
//! fault, and everything that was sent to the CA can be looked at.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::CONTENT_LENGTH,
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use crate::chaos::{self, Chaos};
use crate::pebble::Pebble;

mod place;

pub use place::Place;

/// What goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// This is answered; the CA is not asked.
    Answer(Answer),
    /// Nothing is ever answered; the CA is not asked.
    Silence,
    /// The connection is cut; the CA is not asked.
    Cut,
    /// The CA does what it is asked, and its answer is lost; what it refuses is not.
    Lost,
    /// The CA is asked only when the fault is healed.
    Held,
    /// The CA is asked after a while.
    Delayed(std::time::Duration),
    /// The nonce that the answer brings is one that was used before.
    Stale,
    /// What the CA gives is changed on its way; what it refuses is not.
    Changed(Arc<dyn Fn(String) -> String + Send + Sync>),
}

/// An answer that is not the CA's.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    /// A page for people.
    ///
    /// # Panics
    /// Where the status is none of HTTP's.
    pub fn html(status: u16) -> Self {
        let body = "<html><body><h1>It works!</h1></body></html>".to_owned();
        let status = StatusCode::from_u16(status).expect("status");
        Self { status, headers: vec![("content-type", "text/html".to_owned())], body }
    }

    /// A problem document (RFC 8555 section 6.7) of an ACME error type.
    pub fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Self::document(status, &json!({ "type": kind, "detail": detail, "status": status }))
    }

    /// A problem document as it stands.
    ///
    /// # Panics
    /// Where the status is none of HTTP's.
    pub fn document(status: u16, problem: &Value) -> Self {
        let status = StatusCode::from_u16(status).expect("status");
        let headers = vec![("content-type", "application/problem+json".to_owned())];
        Self { status, headers, body: problem.to_string() }
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, text: String) -> Self {
        self.body = text;
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.body.clone()));
        *response.status_mut() = self.status;
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value).expect("header");
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
        response
    }
}

/// A request that has come.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Its body: a JWS (RFC 7515) where it is a POST.
    pub body: Value,
}

impl Seen {
    /// The JWS' protected header.
    ///
    /// # Panics
    /// Where the request holds no JWS.
    pub fn header(&self) -> Value {
        serde_json::from_slice(&self.part("protected")).expect("protected header")
    }

    /// The JWS' payload.
    ///
    /// # Panics
    /// Where the request holds no JWS with JSON in it.
    pub fn payload(&self) -> Value {
        serde_json::from_slice(&self.part("payload")).expect("payload")
    }

    fn part(&self, name: &str) -> Vec<u8> {
        let text = self.body[name].as_str().unwrap_or_else(|| panic!("no JWS: {self:?}"));
        B64.decode(text).expect("base64url")
    }
}

/// What a CA can do that Pebble cannot; where nothing goes wrong, it has its say before Pebble and after.
pub trait Skill: Send + Sync {
    /// What is answered in Pebble's place; `None` where Pebble is asked.
    fn instead(&self, seen: &Seen) -> Option<Answer>;
    /// What becomes of the text that Pebble gives with these headers.
    fn after(&self, seen: &Seen, headers: &HeaderMap, given: String) -> String;
}

/// A running proxy.
pub struct FaultCa {
    dir: TempDir,
    address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Script {
    faults: Vec<(Place, Fault)>,
    /// What goes wrong with one request and no more.
    once: Vec<(Place, Fault)>,
    chaos: Option<Chaos>,
    seen: Vec<Seen>,
    /// What the CA has done: path and status of its answers.
    done: Vec<(String, StatusCode)>,
}

struct State {
    script: Mutex<Script>,
    healed: tokio::sync::Notify,
    skill: OnceLock<Arc<dyn Skill>>,
    pebble: SocketAddr,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl State {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a request; answers what shall go wrong with it.
    fn note(&self, method: &Method, path: &str, body: &[u8]) -> (Seen, Option<Fault>) {
        let mut script = self.script();
        let body = serde_json::from_slice(body).unwrap_or_default();
        let seen = Seen { method: method.to_string(), path: path.to_owned(), body };
        script.seen.push(seen.clone());
        if let Some(at) = script.once.iter().position(|(place, _)| place.is(path)) {
            return (seen, Some(script.once.remove(at).1));
        }
        let hit = script.faults.iter().find(|(place, _)| place.is(path));
        let hit = hit.map(|(_, fault)| fault.clone());
        let fault = hit.or_else(|| script.chaos.as_mut().and_then(|chaos| chaos.fault(path)));
        (seen, fault)
    }
}

impl FaultCa {
    /// A proxy that passes everything on until it is told otherwise.
    pub fn before(pebble: &Pebble) -> Self {
        let names = vec!["127.0.0.1".to_owned()];
        Self::with_certificate(pebble, rcgen::CertificateParams::new(names).expect("names"))
    }

    /// The same with another TLS certificate, for its clients to doubt.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn with_certificate(pebble: &Pebble, mut params: rcgen::CertificateParams) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        fs::write(dir.path().join("tls.pem"), certificate.pem()).expect("tls.pem");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let acceptor = TlsAcceptor::from(Arc::new(
            ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .expect("certificate"),
        ));
        let state = Arc::new(State {
            script: Mutex::default(),
            healed: tokio::sync::Notify::new(),
            skill: OnceLock::new(),
            pebble: pebble.address(),
            client: client(pebble),
        });
        let runtime = Runtime::new().expect("runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("bind");
        let address = listener.local_addr().expect("address");
        runtime.spawn(serve(listener, acceptor, state.clone()));
        Self { dir, address, state, runtime: Some(runtime) }
    }

    /// Its directory URL.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The root of its HTTPS server, a PEM file.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("tls.pem")
    }

    /// Gives it a skill, once.
    ///
    /// # Panics
    /// Where it has one.
    pub fn learn(&self, skill: Arc<dyn Skill>) {
        assert!(self.state.skill.set(skill).is_ok(), "it has a skill already");
    }

    /// Lets a place fail until [`FaultCa::heal`], beside those that fail already.
    pub fn fail(&self, place: Place, fault: Fault) {
        self.state.script().faults.push((place, fault));
    }

    /// Lets the next request to a place fail, and none after it.
    pub fn once(&self, place: Place, fault: Fault) {
        self.state.script().once.push((place, fault));
    }

    /// How many faults of [`FaultCa::once`] have not been met.
    pub fn waiting_faults(&self) -> usize {
        self.state.script().once.len()
    }

    /// Lets requests fail at random from now on.
    pub fn rage(&self, chaos: Chaos) {
        self.state.script().chaos = Some(chaos);
    }

    /// Ends that; what has gone wrong.
    pub fn calm(&self) -> Chaos {
        self.state.script().chaos.take().unwrap_or_default()
    }

    /// How often the CA has done something at each path of a place; what it refused does not count.
    pub fn done(&self, place: Place) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for (path, status) in &self.state.script().done {
            if place.is(path) && status.is_success() {
                *all.entry(path.clone()).or_default() += 1;
            }
        }
        all
    }

    /// Offers renewalInfo (RFC 9773): every certificate shall be renewed between these times (RFC 3339).
    ///
    /// # Panics
    /// Where the CA's directory is none.
    pub fn offer_renewal_info(&self, start: &str, end: &str) {
        let url = format!("https://{}/renewal-info", self.address);
        let offer = move |directory: String| {
            let mut directory: Value = serde_json::from_str(&directory).expect("a directory");
            directory["renewalInfo"] = url.clone().into();
            directory.to_string()
        };
        self.fail(Place::Directory, Fault::Changed(Arc::new(offer)));
        let window = json!({ "suggestedWindow": { "start": start, "end": end } });
        let answer = Answer::document(200, &window).header("retry-after", "21600");
        self.fail(Place::RenewalInfo, Fault::Answer(answer));
    }

    /// Lets everything pass again, and what was held, too.
    pub fn heal(&self) {
        self.state.script().faults.clear();
        self.state.healed.notify_waiters();
    }

    /// The requests to a place that have come since the start or [`FaultCa::forget`].
    pub fn seen(&self, place: Place) -> Vec<Seen> {
        self.all_seen().into_iter().filter(|seen| place.is(&seen.path)).collect()
    }

    /// Every request that has come since the start or [`FaultCa::forget`].
    pub fn all_seen(&self) -> Vec<Seen> {
        self.state.script().seen.clone()
    }

    /// Forgets what has come.
    pub fn forget(&self) {
        self.state.script().seen.clear();
    }
}

impl Drop for FaultCa {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client(pebble: &Pebble) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(pebble.root()).expect("Pebble's root");
    roots.add(root).expect("Pebble's root");
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
    // Pebble may be stopped and started again in between.
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            // A client that does not like the certificate goes away here.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(state.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error ends the connection without an answer.
async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let cut = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    // Waiting begins before the look at the faults, so that no healing is missed.
    let healed = state.healed.notified();
    let (seen, fault) = state.note(&parts.method, parts.uri.path(), &body);
    let asked = pass_on(&state, Request::from_parts(parts, Full::from(body)));
    let response = match fault {
        None => match state.skill.get() {
            None => asked.await?,
            Some(skill) => skilled(skill.as_ref(), &seen, asked).await?,
        },
        Some(Fault::Answer(answer)) => answer.response(),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Cut) => return Err(cut()),
        Some(Fault::Lost) => match asked.await? {
            given if given.status().is_success() => return Err(cut()),
            refused => refused,
        },
        Some(Fault::Held) => {
            healed.await;
            asked.await?
        }
        Some(Fault::Delayed(wait)) => {
            tokio::time::sleep(wait).await;
            asked.await?
        }
        Some(Fault::Stale) => chaos::stale(asked.await?),
        Some(Fault::Changed(change)) => match asked.await? {
            given if given.status().is_success() => changed(given, |_, text| change(text)),
            refused => refused,
        },
    };
    Ok(response.map(Full::from))
}

async fn skilled(
    skill: &dyn Skill,
    seen: &Seen,
    asked: impl Future<Output = Result<Response<Bytes>, io::Error>>,
) -> Result<Response<Bytes>, io::Error> {
    if let Some(answer) = skill.instead(seen) {
        return Ok(answer.response());
    }
    Ok(match asked.await? {
        given if given.status().is_success() => {
            changed(given, |headers, text| skill.after(seen, headers, text))
        }
        refused => refused,
    })
}

fn changed(
    given: Response<Bytes>,
    change: impl FnOnce(&HeaderMap, String) -> String,
) -> Response<Bytes> {
    let (mut parts, body) = given.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let body = change(&parts.headers, String::from_utf8_lossy(&body).into_owned());
    Response::from_parts(parts, body.into())
}

/// Asks Pebble. The Host header stays, so the URLs that it answers lead here. What is under way ends,
/// and is remembered, also where whoever asked has been killed meanwhile.
async fn pass_on(
    state: &Arc<State>,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, io::Error> {
    let path = request.uri().path().to_owned();
    let uri = format!("https://{}{}", state.pebble, request.uri());
    *request.uri_mut() = uri.parse::<Uri>().map_err(io::Error::other)?;
    let state = state.clone();
    let asked = tokio::spawn(async move {
        let response = state.client.request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        state.script().done.push((path, parts.status));
        Ok(Response::from_parts(parts, body))
    });
    asked.await.map_err(io::Error::other)?
}
