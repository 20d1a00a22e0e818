//! An account's list of orders (RFC 8555 section 7.1.2.1), which many CAs do not offer, and what has
//! become of an order that somebody else placed with the account.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use instant_acme::BodyWrapper;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    Account, OrderStatus,
    account::{parse_url, within},
    away,
    resign::Resigner,
};
use crate::error::{Error, Result};

/// The most orders that are read: a list that does not end must not fill the memory.
const MOST: usize = 10_000;

/// The orders that a CA lists for an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Their URLs.
    pub orders: BTreeSet<Url>,
    /// Whether these are all.
    pub whole: bool,
}

#[derive(Deserialize)]
struct AccountObject {
    orders: Option<Url>,
}

/// A page of the list; step-ca and Caddy send the array alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Page {
    Object { orders: Vec<Url> },
    Array(Vec<Url>),
}

impl Page {
    fn orders(self) -> Vec<Url> {
        let (Self::Object { orders } | Self::Array(orders)) = self;
        orders
    }
}

impl Account {
    /// The account's orders; `None` where the CA offers no list.
    ///
    /// # Errors
    /// What the CA says.
    pub async fn orders(&self) -> Result<Option<Listed>> {
        let account = self.inner.id().to_owned();
        let account = parse_url(&self.ca, &account)?;
        let object: AccountObject = self.read(&self.post(&account, b"").await?)?;
        let Some(mut next) = object.orders else { return Ok(None) };
        let (mut listed, mut pages) = (Listed::default(), BTreeSet::new());
        while pages.insert(next.clone()) {
            let answer = self.post(&next, b"").await?;
            listed.orders.extend(self.read::<Page>(&answer)?.orders());
            if listed.orders.len() > MOST || pages.len() > MOST {
                return Ok(Some(listed));
            }
            match link(answer.headers(), "next").and_then(|link| next.join(link).ok()) {
                Some(link) => next = link,
                None => break,
            }
        }
        listed.whole = true;
        Ok(Some(listed))
    }

    /// The chain of an order, PEM; `None` where it has none (yet).
    ///
    /// # Errors
    /// `NotFound` where the CA has forgotten the order.
    pub async fn chain_of(&self, url: &Url) -> Result<Option<String>> {
        let mut order = within(&self.ca, self.inner.order(url.to_string())).await?;
        match OrderStatus::from(order.state().status) {
            OrderStatus::Valid => within(&self.ca, order.certificate()).await,
            _ => Ok(None),
        }
    }

    /// Posts to a resource of the account's; an empty payload makes a POST-as-GET.
    pub(super) async fn post(&self, url: &Url, payload: &[u8]) -> Result<Response<Bytes>> {
        let header = json!({ "kid": self.inner.id(), "url": url });
        self.client.post(url, &header, payload).await
    }

    pub(super) fn read<T: serde::de::DeserializeOwned>(
        &self,
        answer: &Response<Bytes>,
    ) -> Result<T> {
        let read = serde_json::from_slice(answer.body());
        read.map_err(|e| away(&self.ca, format!("its answer makes no sense: {e}")))
    }
}

impl Resigner {
    /// Posts to a resource; the header says whose request it is (`kid` or `jwk`).
    pub(super) async fn post(
        &self,
        url: &Url,
        header: &Value,
        payload: &[u8],
    ) -> Result<Response<Bytes>> {
        let header = header.to_string();
        let unsigned = json!({ "protected": B64.encode(header), "payload": B64.encode(payload),
            "signature": "" });
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/jose+json")
            .body(BodyWrapper::from(unsigned.to_string().into_bytes()))
            .map_err(|e| Error::invalid("ask", &self.transport.ca, e))?;
        // Signed there, as every JWS is.
        self.exchange(request).await
    }
}

/// The target of a link relation (RFC 8288).
fn link<'a>(headers: &'a HeaderMap, relation: &str) -> Option<&'a str> {
    links(headers, relation).next()
}

/// The targets of a link relation, in their order.
pub(super) fn links<'a>(
    headers: &'a HeaderMap,
    relation: &str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let links = headers.get_all(header::LINK).iter().filter_map(|link| link.to_str().ok());
    let (quoted, bare) = (format!("rel=\"{relation}\""), format!("rel={relation}"));
    links
        .flat_map(|links| links.split(','))
        .filter(move |link| link.contains(&quoted) || link.contains(&bare))
        .filter_map(|link| link.split('<').nth(1)?.split('>').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_in_both_forms() {
        for text in [
            r#"{"orders":["https://ca/o/1","https://ca/o/2"]}"#,
            r#"["https://ca/o/1","https://ca/o/2"]"#,
        ] {
            let page: Page = serde_json::from_str(text).unwrap();
            assert_eq!(page.orders().len(), 2, "{text}");
        }
        assert!(serde_json::from_str::<Page>(r#"{"error":"none"}"#).is_err());
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        let mut headers = HeaderMap::new();
        for link in [
            "<https://ca/dir>;rel=\"index\"",
            "<https://ca/1>; rel=\"up\", <https://ca/2>;rel=\"next\"",
        ] {
            headers.append(header::LINK, link.parse().unwrap());
        }
        assert_eq!(link(&headers, "next"), Some("https://ca/2"));
        assert_eq!(link(&headers, "last"), None);
    }
}
