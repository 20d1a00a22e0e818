//! Which of the chains that a CA offers for one certificate is taken (RFC 8555 section 7.4.2).

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use url::Url;

use super::{Account, Order, order_list::links};
use crate::error::{Error, ErrorKind, Result};
use crate::x509::preferred;

/// The most alternates that are read.
const MOST: usize = 10;

/// A chain that is preferred to the CA's default one.
#[derive(Debug, Clone, Copy)]
pub struct Preference<'a> {
    /// What its topmost certificate says of its issuer, or that certificate's fingerprint.
    pub issuer: &'a str,
    /// An alternate that the CA cannot give now is waited for; else it counts as not offered.
    pub patient: bool,
}

impl Order<'_> {
    /// Waits until the certificate is there; answers the preferred one of its chains, PEM, and the
    /// CA's default one where it does not offer that.
    ///
    /// # Errors
    /// As [`Order::certificate`].
    pub async fn preferred_certificate(
        &mut self,
        deadline: Duration,
        preference: Preference<'_>,
    ) -> Result<String> {
        let account = self.account();
        let url = self.certificate_url(deadline).await?;
        let answer = account.post(&url, b"").await?;
        let default = account.pem(&answer)?;
        if preferred::is_of(&default, preference.issuer) {
            return Ok(default);
        }
        for alternate in links(answer.headers(), "alternate").take(MOST) {
            match account.alternate(&url, alternate).await {
                Ok(chain) if preferred::is_of(&chain, preference.issuer) => return Ok(chain),
                Ok(_) => {}
                Err(error) if preference.patient && passes(&error) => return Err(error),
                Err(error) => {
                    let ca = account.ca();
                    tracing::warn!(ca, alternate, %error, "an alternate chain is left out");
                }
            }
        }
        let (ca, issuer) = (account.ca(), preference.issuer);
        tracing::warn!(ca, issuer, "no such chain is offered, the default one is taken");
        Ok(default)
    }
}

impl Account {
    async fn alternate(&self, base: &Url, link: &str) -> Result<String> {
        let url = base.join(link).map_err(|e| Error::invalid("read", "a link of the CA's", e))?;
        self.pem(&self.post(&url, b"").await?)
    }

    fn pem(&self, answer: &Response<Bytes>) -> Result<String> {
        String::from_utf8(answer.body().to_vec())
            .map_err(|_| Error::unavailable("download", &self.ca, "its chain is no text"))
    }
}

fn passes(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted)
}
