//! acme-dns: a name server for challenges and nothing else, whose records anybody may change who has
//! the account of their subdomain. `_acme-challenge.NAME` is a CNAME to that subdomain's name.

use reqwest::{
    Client, StatusCode, Url,
    header::{HeaderMap, HeaderValue},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::provider::{invalid, secret};
use crate::config::DnsProvider;
use crate::error::{Error, Result, with_causes};
use crate::store::DnsRecord;

/// How much of its answer an error repeats, in bytes.
const MOST_ANSWER: usize = 500;

/// One account at one server.
pub(super) struct AcmeDns {
    client: Client,
    update: Url,
    headers: HeaderMap,
    subdomain: String,
}

impl AcmeDns {
    /// As configured.
    pub(super) fn new(entry: &DnsProvider) -> Result<Self> {
        let read = |name: &str| match entry.credentials.get(name) {
            Some(source) => secret(entry, name, source),
            None => Err(invalid(entry, format!("credentials.{name} is missing"))),
        };
        let base = entry.url.as_ref().ok_or_else(|| invalid(entry, "it needs url"))?;
        let mut update = base.clone();
        let opaque = || invalid(entry, format!("url {base} has no path"));
        update.path_segments_mut().map_err(|()| opaque())?.pop_if_empty().push("update");
        let mut headers = HeaderMap::new();
        headers.insert("x-api-user", header(entry, "username", &read("username")?)?);
        headers.insert("x-api-key", header(entry, "password", &read("password")?)?);
        // An answer that leads elsewhere would take the password along.
        let client = Client::builder().timeout(entry.timeout).redirect(Policy::none()).build();
        let subdomain = read("subdomain")?.expose_secret().trim().to_lowercase();
        Ok(Self { client: client.map_err(|e| invalid(entry, e))?, update, headers, subdomain })
    }

    /// Whether a name is its subdomain's.
    pub(super) fn writes(&self, name: &str) -> bool {
        name.split('.').next().is_some_and(|label| label.eq_ignore_ascii_case(&self.subdomain))
    }

    /// Adds a text; the server keeps the newest two.
    pub(super) async fn update(&self, record: &DnsRecord) -> Result<()> {
        let failed = |why: String| {
            let subject = format!("record {} in zone {}", record.name, record.zone);
            Error::unavailable("add", subject, format!("acme-dns at {}: {why}", self.update))
                .hint("check url and credentials of its [[acme.dns]] in vault.toml")
        };
        let body = json!({ "subdomain": self.subdomain, "txt": record.value });
        let request = self.client.post(self.update.clone()).headers(self.headers.clone());
        let sent = request.json(&body).send().await;
        let mut answer = sent.map_err(|e| failed(with_causes(&e)))?;
        if answer.status() == StatusCode::OK {
            return Ok(());
        }
        let said = answer.chunk().await.ok().flatten().unwrap_or_default();
        let said = String::from_utf8_lossy(&said[..said.len().min(MOST_ANSWER)]).into_owned();
        Err(failed(format!("{}: {}", answer.status(), said.trim())))
    }
}

fn header(entry: &DnsProvider, name: &str, secret: &SecretString) -> Result<HeaderValue> {
    let value = HeaderValue::from_str(secret.expose_secret().trim());
    let mut value = value.map_err(|e| invalid(entry, format!("credentials.{name}: {e}")))?;
    value.set_sensitive(true);
    Ok(value)
}
