//! `[[acme.dns]]`: who writes the records of dns-01 challenges, for which zones.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use super::SecretSource;

/// One `[[acme.dns]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsProvider {
    /// `rfc2136`, `exec`, or a hosted provider's name.
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
    /// Hosted providers: what they know the vault by, each by its name.
    #[serde(default)]
    pub credentials: BTreeMap<String, SecretSource>,
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

    /// What of it names something that another provider needs, or is missing.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (rfc2136, exec) = (self.provider == "rfc2136", self.provider == "exec");
        let hosted = !rfc2136 && !exec;
        for (field, set, wanted) in [
            ("server", self.server.is_some(), rfc2136),
            ("key_name", self.key_name.is_some(), rfc2136),
            ("secret", self.secret.is_some(), rfc2136),
            ("command", !self.command.is_empty(), exec),
            ("credentials", !self.credentials.is_empty(), hosted),
        ] {
            match (set, wanted) {
                (true, false) => {
                    faults.push(format!("{field} is not for provider {}", self.provider));
                }
                (false, true) => faults.push(format!("provider {} needs {field}", self.provider)),
                _ => {}
            }
        }
        if exec && self.command.first().is_some_and(|program| !Path::new(program).is_absolute()) {
            faults.push("command must begin with an absolute path".to_owned());
        }
        if self.timeout < Duration::from_secs(1) {
            faults.push("timeout must be at least 1s".to_owned());
        }
        faults
    }
}
