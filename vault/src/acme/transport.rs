//! HTTPS to a CA: deadlines, a bound on bodies, and only the roots that were chosen.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header::RETRY_AFTER};
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::BodyWrapper;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::kept::Kept;
use crate::error::{CaState, Error, Result, with_causes};
use crate::https;

/// The longest body that is read, in bytes: a chain of ten certificates is far below.
const LONGEST_BODY: usize = 1 << 20;
/// The longest wait that a CA may ask for and get.
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3600);

/// How CAs are spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// An HTTPS client for one CA.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    timeout: Duration,
    pub(super) ca: String,
    /// Where its directory is.
    pub(super) directory: url::Url,
    pub(super) kept: Arc<Kept>,
}

/// Why there is no answer.
pub(super) struct Unanswered {
    pub(super) error: Error,
    /// Whether all the time was used up that an answer may take.
    pub(super) late: bool,
}

impl Transport {
    /// A client that trusts the system's roots, or the given ones and no other.
    pub(super) fn new(ca: &url::Url, root_pem: Option<&str>, options: Options) -> Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(https::tls(roots(root_pem)?)?)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(https::tcp());
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            timeout: options.request_timeout,
            ca: format!("CA {}", ca.host_str().unwrap_or_default()),
            directory: ca.clone(),
            kept: Arc::default(),
        })
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, Unanswered> {
        let unanswered = |why: String, ca, late| Unanswered {
            error: Error::unavailable("ask", &self.ca, why)
                .hint("check that the CA runs, its URL, and --ca-root for a private one")
                .found_ca(ca),
            late,
        };
        let whole = async {
            let response = self.client.request(request).await.map_err(|error| {
                let unheard = error.is_connect();
                let ca = if unheard { CaState::Unreached } else { CaState::Away };
                (with_causes(&error), ca)
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_BODY).collect().await;
            let body =
                body.map_err(|e| (format!("its answer cannot be read: {e}"), CaState::Away))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(self.timeout, whole).await {
            Ok(answer) => answer.map_err(|(why, ca)| unanswered(why, ca, false)),
            Err(_) => {
                let why = format!("no answer within {:?}", self.timeout);
                Err(unanswered(why, CaState::Away, true))
            }
        }
    }
}

fn roots(pem: Option<&str>) -> Result<RootCertStore> {
    let Some(pem) = pem else {
        let roots = https::system_roots();
        if roots.is_empty() {
            return Err(Error::unavailable("read", "the system's roots", "there are none")
                .hint("install ca-certificates, or pass --ca-root"));
        }
        return Ok(roots);
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate
            .map_err(|e| e.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|e| e.to_string()));
        added.map_err(|e| Error::invalid("read", "the CA's root", e))?;
    }
    if roots.is_empty() {
        return Err(Error::invalid("read", "the CA's root", "it holds no certificate")
            .hint("--ca-root takes a PEM file"));
    }
    Ok(roots)
}

/// `Retry-After` (RFC 9110 section 10.2.3) in its seconds form, bounded.
pub(super) fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let wait = match value.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let format = time::format_description::well_known::Rfc2822;
            let at = time::OffsetDateTime::parse(&value.replace("GMT", "+0000"), &format).ok()?;
            Duration::try_from(at - time::OffsetDateTime::now_utc()).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let read = |value: &str| {
            retry_after(&Response::builder().header(RETRY_AFTER, value).body(()).unwrap())
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("99999999999"), Some(LONGEST_RETRY));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
