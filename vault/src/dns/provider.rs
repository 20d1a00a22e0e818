//! Who writes records: RFC 2136, hosted providers, a program.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dns_update::{DnsRecord as Txt, DnsRecordType, DnsUpdater, TsigAlgorithm};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::hook::Hook;
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
}

/// What a hosted provider is made of: the names of its credentials, and how.
struct Hosted {
    name: &'static str,
    credentials: &'static [&'static str],
    open: fn(&[&str], Option<Duration>) -> dns_update::Result<DnsUpdater>,
}

/// Those whose constructor takes one, two or three secrets and nothing else.
const HOSTED: &[Hosted] = &[
    Hosted {
        name: "bunny",
        credentials: &["api_key"],
        open: |c, t| DnsUpdater::new_bunny(c[0], t),
    },
    Hosted {
        name: "cloudflare",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_cloudflare(c[0], t),
    },
    Hosted { name: "desec", credentials: &["token"], open: |c, t| DnsUpdater::new_desec(c[0], t) },
    Hosted {
        name: "digitalocean",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_digitalocean(c[0], t),
    },
    Hosted {
        name: "dnsimple",
        credentials: &["token", "account"],
        open: |c, t| DnsUpdater::new_dnsimple(c[0], c[1], t),
    },
    Hosted {
        name: "duckdns",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_duckdns(c[0], t),
    },
    Hosted {
        name: "exoscale",
        credentials: &["api_key", "api_secret"],
        open: |c, t| DnsUpdater::new_exoscale(c[0], c[1], t),
    },
    Hosted {
        name: "gandi",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_gandiv5(c[0], t),
    },
    Hosted { name: "gcore", credentials: &["token"], open: |c, t| DnsUpdater::new_gcore(c[0], t) },
    Hosted {
        name: "godaddy",
        credentials: &["api_key", "api_secret"],
        open: |c, t| DnsUpdater::new_godaddy(c[0], c[1], t),
    },
    Hosted {
        name: "hetzner",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_hetzner(c[0], t),
    },
    Hosted {
        name: "infomaniak",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_infomaniak(c[0], t),
    },
    Hosted {
        name: "ionos",
        credentials: &["api_key"],
        open: |c, t| DnsUpdater::new_ionos(c[0], t),
    },
    Hosted {
        name: "linode",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_linode(c[0], t),
    },
    Hosted {
        name: "netcup",
        credentials: &["customer", "api_key", "api_password"],
        open: |c, t| DnsUpdater::new_netcup(c[0], c[1], c[2], t),
    },
    Hosted { name: "ns1", credentials: &["api_key"], open: |c, t| DnsUpdater::new_ns1(c[0], t) },
    Hosted {
        name: "porkbun",
        credentials: &["api_key", "api_secret"],
        open: |c, t| DnsUpdater::new_porkbun(c[0], c[1], t),
    },
    Hosted {
        name: "scaleway",
        credentials: &["token"],
        open: |c, t| DnsUpdater::new_scaleway(c[0], t),
    },
    Hosted {
        name: "vultr",
        credentials: &["api_key"],
        open: |c, t| DnsUpdater::new_vultr(c[0], t),
    },
];

impl Provider {
    /// As configured.
    pub(super) fn new(entry: &config::DnsProvider) -> Result<Self> {
        let way = match entry.provider.as_str() {
            "exec" => Way::Hook(Hook::new(entry.command.clone(), entry.timeout)),
            "rfc2136" => Way::Updater(Box::new(rfc2136(entry)?)),
            _ => Way::Updater(Box::new(hosted(entry)?)),
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
    pub(super) fn reach(&self, name: &str) -> Option<usize> {
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

fn invalid(entry: &config::DnsProvider, why: impl std::fmt::Display) -> Error {
    Error::invalid("use", format!("DNS provider {}", entry.provider), why)
        .hint("check its [[acme.dns]] in vault.toml")
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
    let text = secret.read()?;
    let key = STANDARD.decode(text.expose_secret().trim()).map(Zeroizing::new);
    let key = key.map_err(|_| invalid(entry, "the TSIG key is not base64"))?;
    let server = format!("tcp://{}", server.0);
    DnsUpdater::new_rfc2136_tsig(server.as_str(), name, key.to_vec(), algorithm)
        .map_err(|e| invalid(entry, e))
}

fn hosted(entry: &config::DnsProvider) -> Result<DnsUpdater> {
    let Some(hosted) = HOSTED.iter().find(|hosted| hosted.name == entry.provider) else {
        let names: Vec<_> = HOSTED.iter().map(|hosted| hosted.name).collect();
        let why = format!("there is none of this name: rfc2136, exec, {}", names.join(", "));
        return Err(invalid(entry, why));
    };
    let read = |name: &&str| match entry.credentials.get(*name) {
        Some(source) => source.read(),
        None => Err(invalid(entry, format!("credentials.{name} is missing"))),
    };
    let secrets = hosted.credentials.iter().map(read).collect::<Result<Vec<SecretString>>>()?;
    if let Some(name) = entry.credentials.keys().find(|k| !hosted.credentials.contains(&k.as_str()))
    {
        return Err(invalid(entry, format!("credentials.{name} is unknown")));
    }
    let texts: Vec<_> = secrets.iter().map(|secret| secret.expose_secret()).collect();
    (hosted.open)(&texts, Some(entry.timeout)).map_err(|e| invalid(entry, e))
}
