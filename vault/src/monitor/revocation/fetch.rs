//! HTTP to where CAs publish what they revoke.
//!
//! The addresses come from certificates that a CA has signed, or from the configuration. What is there is
//! signed, so plain HTTP is as good as any; nothing is followed elsewhere, and what an answer says is never
//! shown, only whether it verifies.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Request,
    header::{CONNECTION, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::error::{Result, with_causes};
use crate::https;

/// The longest CRL that is read, in bytes.
const LONGEST_CRL: usize = 32 << 20;
/// The longest OCSP response that is read, in bytes.
const LONGEST_RESPONSE: usize = 64 << 10;

/// An HTTP client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Fetch {
    /// A client whose requests take no longer than `timeout`. Where a server speaks TLS, the system's roots
    /// are trusted.
    pub(super) fn new(timeout: Duration) -> Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(https::tls(https::system_roots())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(https::tcp());
        // Nobody is asked again within the minute: a connection that is kept would keep others waiting.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, timeout })
    }

    /// A CRL (RFC 5280 section 4.2.1.13).
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn crl(&self, url: &str) -> Result<Bytes, String> {
        let request = Request::get(url).body(Full::default()).map_err(|e| e.to_string())?;
        self.send(request, LONGEST_CRL).await
    }

    /// The answer to an OCSP request (RFC 6960 appendix A).
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn ocsp(&self, url: &str, question: Vec<u8>) -> Result<Bytes, String> {
        let request = Request::post(url)
            .header(CONTENT_TYPE, "application/ocsp-request")
            .body(Full::from(question))
            .map_err(|e| e.to_string())?;
        self.send(request, LONGEST_RESPONSE).await
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        longest: usize,
    ) -> Result<Bytes, String> {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        if !matches!(request.uri().scheme_str(), Some("http" | "https")) {
            return Err("its address is neither http nor https".to_owned());
        }
        let whole = async {
            let response = self.client.request(request).await.map_err(|e| with_causes(&e))?;
            if response.status() != http::StatusCode::OK {
                return Err(format!("HTTP {}", response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), longest).collect().await;
            body.map(|body| body.to_bytes()).map_err(|e| format!("it cannot be read: {e}"))
        };
        match tokio::time::timeout(self.timeout, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }
}
