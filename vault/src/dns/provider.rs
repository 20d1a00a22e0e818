//! Who writes records: RFC 2136, hosted providers, acme-dns, a program.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dns_update::{DnsRecord as Txt, DnsRecordType, DnsUpdater, TsigAlgorithm};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{acme_dns::AcmeDns, hook::Hook, hosted};
use crate::config;
use crate::error::{Error, Result};
use crate::store::DnsRecord;

/// How long resolvers may remember a challenge, in seconds: it is gone soon.
const TTL: u32 = 60;

/// One `[[acme.dns]]`.
pub(super) struct Provider {
    name: String,
    zones: Vec<String>,
    nameservers: Vec<SocketAddr>,
    timeout: Duration,
    way: Way,
}

enum Way {
    Updater(Box<DnsUpdater>),
    Hook(Hook),
    AcmeDns(Box<AcmeDns>),
}

impl Provider {
    /// As configured.
    pub(super) fn new(entry: &config::DnsProvider) -> Result<Self> {
        let way = match entry.provider.as_str() {
            "exec" => Way::Hook(Hook::new(entry.command.clone(), entry.timeout)),
            "acme-dns" => Way::AcmeDns(Box::new(AcmeDns::new(entry)?)),
            "rfc2136" => Way::Updater(Box::new(rfc2136(entry)?)),
            _ => Way::Updater(Box::new(hosted::open(entry)?)),
        };
        let plain = |zone: &String| zone.trim_end_matches('.').to_lowercase();
        Ok(Self {
            name: entry.provider.clone(),
            zones: entry.zones.iter().map(plain).collect(),
            nameservers: entry.nameservers.iter().map(|server| server.0).collect(),
            timeout: entry.timeout,
            way,
        })
    }

    /// How long the longest of its zones around a name is; 0 where it has none and writes any.
    /// acme-dns writes its subdomain's name alone.
    pub(super) fn reach(&self, name: &str) -> Option<usize> {
        if let Way::AcmeDns(acme_dns) = &self.way {
            return acme_dns.writes(name).then_some(name.len());
        }
        if self.zones.is_empty() {
            return Some(0);
        }
        let name = name.trim_end_matches('.');
        let around = |zone: &&String| {
            name.strip_suffix(zone.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.zones.iter().filter(around).map(String::len).max()
    }

    /// The servers that must show a record, where the configuration names them.
    pub(super) fn nameservers(&self) -> &[SocketAddr] {
        &self.nameservers
    }

    /// Adds a text to those that a name has.
    pub(super) async fn add(&self, record: &DnsRecord) -> Result<()> {
        match &self.way {
            Way::Hook(hook) => hook.present(record).await,
            Way::AcmeDns(acme_dns) => acme_dns.update(record).await,
            Way::Updater(updater) => {
                let texts = vec![Txt::TXT(record.value.clone())];
                let added = updater.add_to_rrset(
                    record.name.as_str(),
                    DnsRecordType::TXT,
                    TTL,
                    texts,
                    record.zone.as_str(),
                );
                self.done("add", record, tokio::time::timeout(self.timeout, added).await)
            }
        }
    }

    /// Takes this text away; others stay.
    pub(super) async fn remove(&self, record: &DnsRecord) -> Result<()> {
        match &self.way {
            Way::Hook(hook) => hook.cleanup(record).await,
            // It has no way to: the next two texts push these out.
            Way::AcmeDns(_) => Ok(()),
            Way::Updater(updater) => {
                let texts = vec![Txt::TXT(record.value.clone())];
                let removed = updater.remove_from_rrset(
                    record.name.as_str(),
                    DnsRecordType::TXT,
                    texts,
                    record.zone.as_str(),
                );
                let removed = tokio::time::timeout(self.timeout, removed).await;
                match removed {
                    Ok(Err(dns_update::Error::NotFound)) => Ok(()),
                    other => self.done("remove", record, other),
                }
            }
        }
    }

    fn done(
        &self,
        what: &str,
        record: &DnsRecord,
        outcome: Result<dns_update::Result<()>, tokio::time::error::Elapsed>,
    ) -> Result<()> {
        let (zone, provider) = (&record.zone, &self.name);
        let subject = format!("record {} in zone {zone}", record.name);
        match outcome {
            Ok(Ok(())) => Ok(()),
            Err(_) => {
                let why = format!("provider {provider} did not answer within {:?}", self.timeout);
                Err(Error::unavailable(what, subject, why))
            }
            Ok(Err(error)) => {
                let why = format!("provider {provider} says: {error}");
                Err(Error::unavailable(what, subject, why).hint(format!(
                    "check the server and the secrets of the [[acme.dns]] for zone {zone}"
                )))
            }
        }
    }
}

pub(super) fn invalid(entry: &config::DnsProvider, why: impl std::fmt::Display) -> Error {
    Error::invalid("use", format!("DNS provider {}", entry.provider), why)
        .hint("check its [[acme.dns]] in vault.toml")
}

/// One of an entry's secrets.
pub(super) fn secret(
    entry: &config::DnsProvider,
    name: &str,
    source: &config::SecretSource,
) -> Result<SecretString> {
    source.read().map_err(|error| invalid(entry, format!("{name}: {source}: {}", error.why)))
}

fn rfc2136(entry: &config::DnsProvider) -> Result<DnsUpdater> {
    let (Some(server), Some(name), Some(secret)) = (entry.server, &entry.key_name, &entry.secret)
    else {
        return Err(invalid(entry, "it needs server, key_name and secret"));
    };
    let algorithm: TsigAlgorithm = entry
        .algorithm
        .parse()
        .map_err(|()| invalid(entry, format!("algorithm {} is unknown", entry.algorithm)))?;
    let text = self::secret(entry, "secret", secret)?;
    let key = STANDARD.decode(text.expose_secret().trim()).map(Zeroizing::new);
    let key = key.map_err(|_| invalid(entry, "the TSIG key is not base64"))?;
    let server = format!("tcp://{}", server.0);
    DnsUpdater::new_rfc2136_tsig(server.as_str(), name, key.to_vec(), algorithm)
        .map_err(|e| invalid(entry, e))
}
