//! `agent.toml`: everything that the agent ever writes to or runs is named here and nowhere else.
//! The vault sends chains and challenges; it cannot name a file or a command.
//!
//! Parsed, then validated; every fault is reported with its line, and a field that nobody knows is
//! a fault.

mod parse;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use vault_proto::ids::CertificateName;

pub use parse::load;

/// Everything the agent is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where identity, keys to be and proofs are kept; created 0700.
    pub state_dir: PathBuf,
    /// Which vault.
    pub vault: Vault,
    /// What to install where.
    pub install: Vec<Install>,
    /// How HTTP-01 challenges are answered.
    pub http01: Option<Http01>,
    /// How TLS-ALPN-01 challenges are answered.
    pub tls_alpn01: Option<TlsAlpn01>,
    /// How web servers here use keys that the vault keeps.
    pub signer: Option<Signer>,
}

/// `[vault]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// `HOST:PORT` of each node, tried in turn.
    pub addresses: Vec<String>,
}

/// `[[install]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The certificate's name in the vault.
    pub certificate: CertificateName,
    /// Where its chain goes, PEM, leaf first.
    pub chain: PathBuf,
    /// Where its private key goes: PKCS#8 PEM of a key made here (custody `agent`), or the PKCS#11
    /// URI of a key that the vault keeps (custody `vault`), in the PEM of OpenSSL's provider.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Where the OCSP response goes that the web server staples (RFC 6066 section 8), DER.
    #[serde(default)]
    pub staple: Option<PathBuf>,
    /// The files' owner; as the agent unless set.
    #[serde(default)]
    pub owner: Option<String>,
    /// The files' group; the agent's unless set.
    #[serde(default)]
    pub group: Option<String>,
    /// The chain's mode. Default 0644.
    #[serde(default = "Install::default_mode", deserialize_with = "octal")]
    pub mode: u32,
    /// The key's mode. Default 0600; nobody but owner and group may be let in.
    #[serde(default = "Install::default_key_mode", deserialize_with = "octal")]
    pub key_mode: u32,
    /// Checks the web server's configuration with the new files in place: program and arguments,
    /// run without a shell.
    #[serde(default)]
    pub test: Option<Vec<String>>,
    /// Makes the web server take the new files.
    #[serde(default)]
    pub reload: Option<Vec<String>>,
    /// How long either may take. Default 30 s.
    #[serde(default = "Install::default_timeout", with = "humantime_serde")]
    pub command_timeout: Duration,
    /// Where the new leaf must be seen.
    #[serde(default)]
    pub check: Option<Check>,
}

/// `[install.check]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Where the web server listens for TLS.
    pub address: SocketAddr,
    /// The name to ask for (RFC 6066 section 3).
    pub server_name: String,
    /// How long the web server may take to serve the new leaf. Default 15 s.
    #[serde(default = "Check::default_timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

/// `[http01]`: one of two ways.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Http01 {
    /// The directory that the web server serves as `/`; challenges go below `.well-known`.
    Webroot(PathBuf),
    /// The agent answers by itself on this address, where no web server uses port 80.
    Listen(SocketAddr),
}

/// `[tls_alpn01]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsAlpn01 {
    /// Where the agent answers: port 443, where no web server uses it, else where one hands over those
    /// who offer `acme-tls/1`.
    pub listen: SocketAddr,
}

/// `[signer]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The socket that `libvault_pkcs11.so` connects to. Default `/run/vault-agent/signer.sock`,
    /// where the module looks for it.
    #[serde(default = "Signer::default_socket")]
    pub socket: PathBuf,
    /// Users whose processes may have handshakes signed, beside root and the agent's own: those
    /// that web servers' workers run as.
    #[serde(default)]
    pub allow: Vec<String>,
    /// How long one signature is waited for, whatever happens in between. Default 5s: most visitors
    /// give up on a handshake later than this. The module gives up after `VAULT_AGENT_TIMEOUT_MS`.
    #[serde(default = "Signer::default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// Where the list of keys is kept for web servers that start before the agent; nothing in it is
    /// secret. Default `signer-keys.pb` in `state_dir`. Where that is another place than
    /// `/var/lib/vault-agent/signer-keys.pb`, `VAULT_AGENT_KEYS` names it to the module.
    #[serde(default)]
    pub keys: Option<PathBuf>,
}

impl Config {
    /// Where the list of keys is kept.
    pub fn signer_keys(&self, signer: &Signer) -> PathBuf {
        signer.keys.clone().unwrap_or_else(|| self.state_dir.join("signer-keys.pb"))
    }
}

impl Signer {
    fn default_socket() -> PathBuf {
        vault_proto::local::SIGNER_SOCKET.into()
    }
    fn default_deadline() -> Duration {
        Duration::from_secs(5)
    }
}

impl Install {
    fn default_mode() -> u32 {
        0o644
    }
    fn default_key_mode() -> u32 {
        0o600
    }
    fn default_timeout() -> Duration {
        Duration::from_secs(30)
    }
}

impl Check {
    fn default_timeout() -> Duration {
        Duration::from_secs(15)
    }
}

fn octal<'de, D: Deserializer<'de>>(source: D) -> Result<u32, D::Error> {
    let text = String::deserialize(source)?;
    let mode = u32::from_str_radix(&text, 8).map_err(|_| {
        D::Error::custom(format!("mode {text:?} is no octal number such as \"0644\""))
    })?;
    match mode & !0o777 {
        0 => Ok(mode),
        _ => Err(D::Error::custom(format!("mode {text:?} sets more than permissions"))),
    }
}
