//! One check: what the CA of a version says of it, by CRL and by OCSP.

use time::OffsetDateTime;
use vault_revocation::{Issued, Reason, Response, Status, request};

use super::Revocation;
use crate::config::MonitoredCa;
use crate::store::{RevocationStatus, VersionRecord};

/// The longest reason that is kept, in characters.
const LONGEST_DETAIL: usize = 500;

/// What a check has found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) status: RevocationStatus,
    /// Who has said so.
    pub(super) source: &'static str,
    pub(super) detail: String,
    /// Why it was revoked, where it was.
    pub(super) reason: Option<Reason>,
    /// A good OCSP response, DER, and what it says.
    pub(super) staple: Option<(Vec<u8>, Response)>,
}

impl Finding {
    fn none(status: RevocationStatus, detail: String) -> Self {
        let detail = detail.chars().take(LONGEST_DETAIL).collect();
        Self { status, source: "", detail, reason: None, staple: None }
    }
}

/// Where a certificate's CA is asked.
pub(super) struct Sources {
    pub(super) crls: Vec<String>,
    pub(super) responders: Vec<String>,
}

impl Sources {
    /// What the configuration says of the issuer, and the certificate itself.
    pub(super) fn of(issued: &Issued, configured: &[MonitoredCa]) -> Self {
        let own = || configured.iter().filter(|ca| issued.is_issued_by(&ca.issuer));
        let crls = own().filter_map(|ca| ca.crl.as_ref()).map(ToString::to_string);
        let responders = own().filter_map(|ca| ca.ocsp.as_ref()).map(ToString::to_string);
        Self {
            crls: crls.chain(issued.crl_urls()).collect(),
            responders: responders.chain(issued.ocsp_urls()).collect(),
        }
    }
}

impl Revocation {
    /// Asks the CA of a version. Whoever says that it is revoked is believed, once that is verified; good it is
    /// where somebody says so and nobody says otherwise.
    pub(super) async fn check(&self, version: &VersionRecord, now: OffsetDateTime) -> Finding {
        let unchecked = |why: &str| Finding::none(RevocationStatus::Unchecked, why.to_owned());
        let issued = match Issued::parse(&version.chain_pem) {
            Ok(Some(issued)) => issued,
            Ok(None) => return unchecked("its issuer is not in its chain"),
            Err(error) => return unchecked(&format!("its chain cannot be read: {error}")),
        };
        let sources = Sources::of(&issued, &self.options.ca);
        if sources.crls.is_empty() && sources.responders.is_empty() {
            return unchecked("neither it nor [[monitor.ca]] names a CRL or a responder");
        }
        let mut failures = Vec::new();
        let ocsp = self.first_response(&issued, &sources.responders, now, &mut failures).await;
        let crl = self.first_crl(&issued, &sources.crls, now, &mut failures).await;
        let said = [
            ocsp.as_ref().map(|(url, _, response)| ("ocsp", url.as_str(), response.status)),
            crl.as_ref().map(|(url, status)| ("crl", url.as_str(), *status)),
        ];
        for (source, url, status) in said.iter().flatten() {
            if let Status::Revoked { reason, at } = status {
                let detail = format!("revoked for {reason} since {at}, says {url}");
                let found = Finding::none(RevocationStatus::Revoked, detail);
                return Finding { source, reason: Some(*reason), ..found };
            }
        }
        let good = said.iter().flatten().next().map(|(source, url, _)| {
            let found = Finding::none(RevocationStatus::Good, format!("says {url}"));
            Finding { source, ..found }
        });
        match good {
            Some(found) => {
                Finding { staple: ocsp.map(|(_, der, response)| (der, response)), ..found }
            }
            None => Finding::none(RevocationStatus::Unknown, failures.join("; ")),
        }
    }

    /// The first response that holds.
    async fn first_response(
        &self,
        issued: &Issued,
        urls: &[String],
        now: OffsetDateTime,
        failures: &mut Vec<String>,
    ) -> Option<(String, Vec<u8>, Response)> {
        for url in urls {
            let answer = async {
                let question = request(issued).map_err(|e| e.to_string())?;
                let der = self.fetch.ocsp(url, question).await?;
                let response = Response::verify(issued, &der, now).map_err(|e| e.to_string())?;
                Ok::<_, String>((der, response))
            };
            match answer.await {
                Ok((der, response)) => return Some((url.clone(), der.to_vec(), response)),
                Err(why) => failures.push(format!("OCSP {url}: {why}")),
            }
        }
        None
    }

    /// What the first CRL says that holds.
    async fn first_crl(
        &self,
        issued: &Issued,
        urls: &[String],
        now: OffsetDateTime,
        failures: &mut Vec<String>,
    ) -> Option<(String, Status)> {
        for url in urls {
            match self.crls.status(url, issued, now).await {
                Ok(status) => return Some((url.clone(), status)),
                Err(why) => failures.push(format!("CRL {url}: {why}")),
            }
        }
        None
    }
}
