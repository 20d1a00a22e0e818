//! The API of acme-dns (`POST /update`), which Debian does not have: it writes what it is told into a
//! real name server.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use crate::name_server::{NameServer, update};

/// The account's user name.
pub const USERNAME: &str = "c36f50e8-4632-44f0-83fe-e070fef28a10";
/// The account's password.
pub const PASSWORD: &str = "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9KW3F7Z";
/// The account's subdomain.
pub const SUBDOMAIN: &str = "8e5700ea-a4bf-41c7-8a77-e990661dcc6a";

/// A running server with one account.
pub struct AcmeDns {
    address: SocketAddr,
    runtime: Option<Runtime>,
    dir: TempDir,
}

struct Account {
    server: SocketAddr,
    /// What the subdomain's name leads to.
    name: String,
    dir: PathBuf,
    /// The texts it shows, the oldest first.
    texts: Mutex<Vec<String>>,
}

impl AcmeDns {
    /// Starts one that writes below a zone of this name server.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn before(server: &NameServer, zone: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let names = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]);
        let mut params = names.expect("names");
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        fs::write(dir.path().join("tls.pem"), certificate.pem()).expect("tls.pem");
        for (name, secret) in
            [("username", USERNAME), ("password", PASSWORD), ("subdomain", SUBDOMAIN)]
        {
            fs::write(dir.path().join(name), format!("{secret}\n")).expect("a secret");
        }
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("certificate");
        let account = Arc::new(Account {
            server: server.address,
            name: format!("{SUBDOMAIN}.{zone}"),
            dir: dir.path().to_owned(),
            texts: Mutex::default(),
        });
        let runtime = Runtime::new().expect("runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("bind");
        let address = listener.local_addr().expect("address");
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), account));
        Self { address, runtime: Some(runtime), dir }
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The root of its HTTPS server, a PEM file.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("tls.pem")
    }

    /// The file with the account's `username`, `password` or `subdomain`.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for AcmeDns {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, account: Arc<Account>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, account) = (acceptor.clone(), account.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(account.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    account: Arc<Account>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let wanted: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_ours = header("x-api-user") == Some(USERNAME)
        && header("x-api-key") == Some(PASSWORD)
        && wanted["subdomain"] == SUBDOMAIN;
    let (status, body) = match (&parts.method, parts.uri.path(), wanted["txt"].as_str()) {
        (&Method::POST, "/update", _) if !is_ours => {
            (StatusCode::UNAUTHORIZED, json!({ "error": "forbidden" }))
        }
        (&Method::POST, "/update", Some(text)) if text.len() == 43 => {
            account.show(text);
            (StatusCode::OK, json!({ "txt": text }))
        }
        (&Method::POST, "/update", _) => (StatusCode::BAD_REQUEST, json!({ "error": "bad_txt" })),
        _ => (StatusCode::NOT_FOUND, json!({ "error": "not_found" })),
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    Ok(response)
}

impl Account {
    /// Shows this text and the one before it.
    fn show(&self, text: &str) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.push(text.to_owned());
        let old = texts.len().saturating_sub(2);
        for gone in texts.drain(..old) {
            update(self.server, &self.dir, &format!("update delete {} TXT {gone}", self.name));
        }
        update(self.server, &self.dir, &format!("update add {} 1 TXT {text}", self.name));
    }
}
