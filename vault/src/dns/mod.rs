//! The DNS, where dns-01 challenges are shown (RFC 8555 section 8.4).
//!
//! `lookup` asks: where aliases lead to, which zone that is in, what each of its servers shows.
//! `provider` writes: by RFC 2136, at a hosted provider (`hosted`), at an `acme_dns`, or by a program (`hook`). A record's row is in the
//! store before the record is in the DNS and goes after it; what no open order needs is taken out
//! again and again until it is gone (`clean_up`).

mod acme_dns;
mod clean_up;
mod hook;
mod hosted;
mod lookup;
mod provider;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use vault_proto::ids::CertificateName;

use self::{lookup::Lookup, provider::Provider};
use crate::acme::{Challenge, ChallengePresenter};
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::store::{DnsRecord, Identifier, Store};

/// Between two looks at servers that do not show a record yet.
const LOOK: Duration = Duration::from_millis(500);

/// Writes challenges into the DNS and takes them out again. Cheap to clone.
#[derive(Clone)]
pub struct Dns {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    alerts: Alerts,
    lookup: Lookup,
    providers: Arc<Vec<Provider>>,
    propagation: Duration,
}

impl Dns {
    /// As the configuration says; `None` where it names nobody who writes.
    ///
    /// # Errors
    /// `Invalid` for an unknown provider or a secret that cannot be read.
    pub fn new(
        acme: &config::Acme,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        alerts: Alerts,
    ) -> Result<Option<Self>> {
        if acme.dns.is_empty() {
            return Ok(None);
        }
        let providers = acme.dns.iter().map(Provider::new).collect::<Result<Vec<_>>>()?;
        let resolvers: Vec<_> = acme.resolvers.iter().map(|server| server.0).collect();
        Ok(Some(Self {
            store,
            clock,
            alerts,
            lookup: Lookup::new(&resolvers)?,
            providers: providers.into(),
            propagation: acme.propagation_timeout,
        }))
    }

    /// Who writes a name: of those with a zone around it the one with the longest, else the one
    /// that has none.
    fn provider(&self, name: &str) -> Result<&Provider> {
        let fits = self.providers.iter().filter_map(|p| p.reach(name).map(|reach| (reach, p)));
        fits.max_by_key(|(reach, _)| *reach).map(|(_, provider)| provider).ok_or_else(|| {
            Error::invalid("write", format!("record {name}"), "no [[acme.dns]] has its zone").hint(
                "name the zone in an [[acme.dns]] of vault.toml, or add one without zones; for \
                     acme-dns, a CNAME must lead to its subdomain",
            )
        })
    }

    async fn add(&self, challenge: &Challenge) -> Result<DnsRecord> {
        let name = record_name(&challenge.identifier)?;
        let name = self.lookup.follow(&name).await?;
        let zone = self.lookup.zone(&name).await?;
        let record = DnsRecord {
            token: challenge.token.clone(),
            value: text(&challenge.key_authorization),
            name,
            zone,
            created_at: self.clock.now(),
            stuck_at: None,
        };
        let provider = self.provider(&record.name)?;
        self.store.put_dns_record(&record).await?;
        crash_point!("dns.row");
        provider.add(&record).await?;
        crash_point!("dns.added");
        Ok(record)
    }

    /// Waits until every server of a record's zone shows it.
    async fn wait_shown(&self, record: &DnsRecord, until: Instant) -> Result<()> {
        let provider = self.provider(&record.name)?;
        loop {
            let servers = match provider.nameservers() {
                [] => self.lookup.servers(&record.zone).await?,
                named => named.to_vec(),
            };
            let mut behind = None;
            for server in servers {
                if !self.lookup.shows(server, &record.name, &record.value).await {
                    behind = Some(server);
                    break;
                }
            }
            let Some(server) = behind else { return Ok(()) };
            if Instant::now() >= until {
                let why = format!("server {server} of zone {} does not show it", record.zone);
                return Err(Error::unavailable("publish", format!("record {}", record.name), why)
                    .hint("it is tried again; see propagation_timeout in [acme] of vault.toml"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl ChallengePresenter for Dns {
    async fn present(&self, _: &CertificateName, challenges: &[Challenge]) -> Result<()> {
        let mut records = Vec::with_capacity(challenges.len());
        for challenge in challenges {
            records.push(self.add(challenge).await?);
        }
        let until = Instant::now() + self.propagation;
        for record in &records {
            self.wait_shown(record, until).await?;
        }
        crash_point!("dns.shown");
        Ok(())
    }

    async fn withdraw(&self, name: &CertificateName, _: &[String]) {
        // Their challenges are gone from the store, so they are among what nobody needs.
        if let Err(error) = self.clean_up().await {
            tracing::warn!(certificate = %name, %error, "the DNS is not cleaned up");
        }
    }
}

/// Where a challenge for an identifier is looked for, with its last dot.
fn record_name(identifier: &Identifier) -> Result<String> {
    match identifier {
        Identifier::Dns(name) => {
            let name = name.strip_prefix("*.").unwrap_or(name);
            Ok(format!("_acme-challenge.{name}."))
        }
        Identifier::Ip(address) => {
            Err(Error::invalid("prove control", address.to_string(), "dns-01 proves no addresses")
                .hint("RFC 8738 section 7: use --challenge http-01"))
        }
    }
}

/// What the record says (RFC 8555 section 8.4).
fn text(key_authorization: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(key_authorization.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_proven_where_its_parent_is() {
        for name in ["shop.example", "*.shop.example"] {
            let name = Identifier::dns(name).unwrap();
            assert_eq!(record_name(&name).unwrap(), "_acme-challenge.shop.example.");
        }
        assert!(record_name(&Identifier::Ip([127, 0, 0, 1].into())).is_err());
    }
}
