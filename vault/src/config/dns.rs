//! `[[acme.dns]]`: who writes the records of dns-01 challenges, for which zones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use url::{Host, Url};

use super::SecretSource;
use super::dns_kinds::{DNS_KINDS, DnsKind};

/// One `[[acme.dns]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsProvider {
    /// `rfc2136`, `exec`, `acme-dns`, or a hosted provider's name.
    pub provider: String,
    /// The zones that it writes, with all that is below them; of several entries that of the
    /// longest zone does. Default none: it writes what no other entry names.
    #[serde(default)]
    pub zones: Vec<String>,
    /// `rfc2136`: the server that takes updates.
    #[serde(default)]
    pub server: Option<DnsServer>,
    /// `rfc2136`: the TSIG key's name.
    #[serde(default)]
    pub key_name: Option<String>,
    /// `rfc2136`: the TSIG key's algorithm. Default `hmac-sha256`.
    #[serde(default = "DnsProvider::default_algorithm")]
    pub algorithm: String,
    /// `rfc2136`: the TSIG key, base64.
    #[serde(default)]
    pub secret: Option<SecretSource>,
    /// `exec`: a program and its first arguments. `present` or `cleanup`, the record's name and its
    /// value follow them.
    #[serde(default)]
    pub command: Vec<String>,
    /// `acme-dns`: where its API is.
    #[serde(default)]
    pub url: Option<Url>,
    /// `acme-dns` and hosted providers: what they know the vault by, each by its name.
    #[serde(default)]
    pub credentials: BTreeMap<String, SecretSource>,
    /// Hosted providers: what some want to know besides and is no secret.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// How long one change may take. Default 60 s.
    #[serde(default = "DnsProvider::default_timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// The servers that must show a record before the CA is told, where they are others than those
    /// that the zone names: behind a split horizon, for example.
    #[serde(default)]
    pub nameservers: Vec<DnsServer>,
}

/// A DNS server: `ADDRESS` or `ADDRESS:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsServer(pub SocketAddr);

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        let address = text.parse::<SocketAddr>().or_else(|_| with_port());
        let why = "is no DNS server, such as \"192.0.2.1\" or \"[2001:db8::1]:5353\"";
        address.map(Self).map_err(|_| format!("{text:?} {why}"))
    }
}

impl DnsProvider {
    fn default_algorithm() -> String {
        "hmac-sha256".to_owned()
    }

    fn default_timeout() -> Duration {
        Duration::from_secs(60)
    }

    /// What is wrong with it: the field, empty where it is the entry, and why.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = match DNS_KINDS.iter().find(|kind| kind.name == self.provider) {
            Some(kind) => self.faults_as(kind),
            None => {
                let names: Vec<_> = DNS_KINDS.iter().map(|kind| kind.name).collect();
                let why = format!("there is none of this name: {}", names.join(", "));
                vec![("provider".to_owned(), why)]
            }
        };
        let mut wrong = |field: &str, why: &str| faults.push((field.to_owned(), why.to_owned()));
        if self.provider == "acme-dns" && !self.zones.is_empty() {
            wrong("zones", "acme-dns writes below its subdomain and nowhere else");
        }
        if self.command.first().is_some_and(|program| !Path::new(program).is_absolute()) {
            wrong("command", "it must begin with an absolute path");
        }
        if self.url.as_ref().is_some_and(|url| !is_confidential(url)) {
            wrong("url", "it must be https, or http to a loopback address");
        }
        if self.timeout < Duration::from_secs(1) {
            wrong("timeout", "it must be at least 1s");
        }
        faults
    }

    /// What it says that a provider of this kind does not take, and what is missing.
    fn faults_as(&self, kind: &DnsKind) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let strange = format!("it is not for provider {}", kind.name);
        let missing = |what: &str| format!("provider {} needs {what}", kind.name);
        for (field, set) in [
            ("server", self.server.is_some()),
            ("key_name", self.key_name.is_some()),
            ("secret", self.secret.is_some()),
            ("command", !self.command.is_empty()),
            ("url", self.url.is_some()),
        ] {
            match (set, kind.fields.contains(&field)) {
                (true, false) => faults.push((field.to_owned(), strange.clone())),
                (false, true) => faults.push((String::new(), missing(field))),
                _ => {}
            }
        }
        let credentials = self.credentials.keys().map(String::as_str).collect();
        let options = self.options.keys().map(String::as_str).collect();
        for (table, given, needed, more) in [
            ("credentials", credentials, kind.credentials, &[][..]),
            ("options", options, kind.options, kind.more_options),
        ] {
            let given: BTreeSet<&str> = given;
            for name in &given {
                if !needed.contains(name) && !more.contains(name) {
                    faults.push((format!("{table}.{name}"), strange.clone()));
                }
            }
            for name in needed.iter().filter(|name| !given.contains(*name)) {
                faults.push((String::new(), missing(&format!("{table}.{name}"))));
            }
        }
        faults
    }
}

/// Whether nobody on the way reads what is sent there.
fn is_confidential(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    url.scheme() == "https" || url.scheme() == "http" && is_here
}
