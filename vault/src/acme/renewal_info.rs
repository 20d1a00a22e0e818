//! When a CA wants a certificate renewed (ACME Renewal Information, RFC 9773). It is also the one way
//! in which a CA says by ACME that a certificate is revoked or about to be. It is asked without an
//! account, so no key is used.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use instant_acme::{BodyWrapper, CertificateIdentifier};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;

use super::{
    Account, Ca, Directory,
    clients::Clients,
    problem::{self, Problem},
    transport::{self, Transport},
};
use crate::error::{Error, ErrorKind, Result};

/// The longest explanation's address that is kept: it goes into alerts and onto the audit log.
const LONGEST_URL: usize = 1000;

/// When to renew (RFC 9773 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    /// From then on.
    pub start: OffsetDateTime,
    /// By then at last; in the past for what is revoked or has to go. Always after `start`.
    pub end: OffsetDateTime,
    /// Where the CA explains it: a web page.
    pub explanation: Option<Url>,
    /// When the CA wants to be asked again (RFC 9773 section 4.3).
    pub retry_after: Option<Duration>,
}

/// A CA's renewalInfo resource (RFC 9773 section 4.1). Cheap to clone.
#[derive(Clone)]
pub struct RenewalInfoClient {
    transport: Transport,
    base: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    suggested_window: Window,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<String>,
}

#[derive(Deserialize)]
struct Window {
    #[serde(with = "time::serde::rfc3339")]
    start: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    end: OffsetDateTime,
}

impl Account {
    /// Where the account's CA says when to renew; `None` where it does not offer to.
    ///
    /// # Errors
    /// `Unavailable` where the CA's directory cannot be read.
    pub async fn renewal_infos(&self) -> Result<Option<RenewalInfoClient>> {
        let transport = &self.client.transport;
        let directory = Directory::known(transport).await?;
        Ok(RenewalInfoClient::at(transport.clone(), &directory))
    }
}

impl RenewalInfoClient {
    /// Where a CA says when to renew; `None` where it does not offer to.
    ///
    /// # Errors
    /// `Unavailable` where the CA's directory cannot be read.
    pub async fn of(ca: &Ca, clients: &Clients) -> Result<Option<Self>> {
        let transport = clients.of(ca)?;
        let directory = Directory::of(ca, clients).await?;
        Ok(Self::at(transport, &directory))
    }

    fn at(transport: Transport, directory: &Directory) -> Option<Self> {
        let base = directory.renewal_info.as_ref()?.as_str().trim_end_matches('/').to_owned();
        Some(Self { transport, base })
    }

    /// When the CA wants a certificate (its leaf, DER) renewed; `None` of one that has no name by which
    /// it could be asked about.
    ///
    /// # Errors
    /// `Unavailable` or `Exhausted` for what may be over soon, `Verification` for an answer that makes no
    /// sense, `NotFound` or `Conflict` for what the CA refuses (RFC 9773 section 4.3.3).
    pub async fn ask(&self, leaf_der: &[u8]) -> Result<Option<RenewalInfo>> {
        let leaf = CertificateDer::from(leaf_der);
        let Ok(id) = CertificateIdentifier::try_from(&leaf) else { return Ok(None) };
        let ca = &self.transport.ca;
        let request = Request::get(format!("{}/{id}", self.base))
            .body(BodyWrapper::<Bytes>::default())
            .map_err(|e| Error::verification("ask", ca, e))?;
        let answer = self.transport.send(request).await.map_err(|unanswered| unanswered.error)?;
        match answer.status().is_success() {
            true => read(ca, &answer).map(Some),
            false => Err(refusal(ca, &answer)),
        }
    }
}

fn read(ca: &str, answer: &Response<Bytes>) -> Result<RenewalInfo> {
    let nonsense = |why: String| {
        Error::verification("ask", ca, format!("its renewal information makes no sense: {why}"))
            .hint("it is passed over: certificates are renewed after a part of their lifetime")
    };
    let wire: Wire = serde_json::from_slice(answer.body()).map_err(|e| nonsense(e.to_string()))?;
    let Window { start, end } = wire.suggested_window;
    if end <= start {
        return Err(nonsense("the window ends before it begins".to_owned()));
    }
    Ok(RenewalInfo {
        start,
        end,
        explanation: wire.explanation_url.as_deref().and_then(page),
        retry_after: transport::retry_after(answer),
    })
}

/// The address of a web page; as a URL it holds nothing that a terminal would obey.
fn page(text: &str) -> Option<Url> {
    let url: Url = text.parse().ok()?;
    let shown = matches!(url.scheme(), "https" | "http") && url.as_str().len() <= LONGEST_URL;
    shown.then_some(url)
}

/// Why there is no answer: what the CA itself could not do is over sooner than what it refuses.
fn refusal(ca: &str, answer: &Response<Bytes>) -> Error {
    let (status, retry_after) = (answer.status(), transport::retry_after(answer));
    let error = match Problem::parse(answer.body()) {
        Some(problem) => problem.into_error(ca, status, retry_after),
        None => problem::plain(ca, status, retry_after),
    };
    let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    match (passing, error.kind) {
        (true, ErrorKind::Exhausted) => error,
        (true, _) => Error { kind: ErrorKind::Unavailable, ..error },
        (false, ErrorKind::Unavailable) => Error { kind: ErrorKind::Conflict, ..error },
        (false, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn answer(status: u16, body: &str) -> Response<Bytes> {
        let answer = Response::builder().status(status).header("retry-after", "60");
        answer.body(Bytes::from(body.to_owned())).unwrap()
    }

    fn window(start: &str, end: &str, more: &str) -> Response<Bytes> {
        let window = format!(r#""start":"{start}","end":"{end}""#);
        answer(200, &format!(r#"{{"suggestedWindow":{{{window}}}{more}}}"#))
    }

    #[test]
    fn what_rfc_9773_shows_is_read() {
        let more = r#","explanationURL":"https://acme.example.com/docs/ari""#;
        let read = read("CA", &window("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z", more));
        let read = read.unwrap();
        assert_eq!(read.start, datetime!(2025-01-02 04:00 UTC));
        assert_eq!(read.end, datetime!(2025-01-03 04:00 UTC));
        assert_eq!(read.explanation.unwrap().as_str(), "https://acme.example.com/docs/ari");
        assert_eq!(read.retry_after, Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_makes_no_sense_is_never_a_window() {
        let (early, late) = ("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z");
        for nonsense in [
            window(late, early, ""),
            window(early, early, ""),
            window(early, "soon", ""),
            answer(200, ""),
            answer(200, "{}"),
            answer(200, "<html>"),
        ] {
            let error = read("CA", &nonsense).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Verification, "{error}");
        }
    }

    #[test]
    fn an_explanation_is_a_web_page_of_some_length_or_none() {
        assert!(page("https://ca.example/why").is_some());
        assert_eq!(page("https://ca.example/\u{1b}[2Jx").unwrap().as_str().find('\u{1b}'), None);
        let long = format!("https://ca.example/{}", "x".repeat(LONGEST_URL));
        for none in ["", "why", "javascript:alert(1)", "file:///etc/passwd", long.as_str()] {
            assert_eq!(page(none), None, "{none}");
        }
    }

    #[test]
    fn a_refusal_says_whether_it_may_be_over_soon() {
        let problem = r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no"}"#;
        for (status, body, passing) in [
            (500, "", true),
            (503, problem, true),
            (429, "", true),
            (404, "", false),
            (404, problem, false),
            (400, problem, false),
            (304, "", false),
        ] {
            let error = refusal("CA", &answer(status, body));
            let is = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted);
            assert_eq!(is, passing, "{status} {body}: {error}");
        }
    }
}
