//! `agent.toml`: everything that the agent ever writes to or runs is named here and nowhere else.
//! The vault sends chains and challenges; it cannot name a file or a command.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use vault_proto::ids::CertificateName;

use crate::error::{Error, Result};

/// Everything the agent is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where identity, keys to be and proofs are kept; created 0700.
    pub state_dir: PathBuf,
    /// Which vault.
    pub vault: Vault,
    /// What to install where.
    #[serde(default)]
    pub install: Vec<Install>,
    /// How HTTP-01 challenges are answered.
    #[serde(default)]
    pub http01: Option<Http01>,
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
    /// Where its private key goes (custody `agent`), PKCS#8 PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
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

/// Reads and checks a configuration file.
///
/// # Errors
/// `Invalid`, naming the field and its line.
pub fn load(path: &Path) -> Result<Config> {
    let subject = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|e| Error::invalid("read the configuration", &subject, e))?;
    parse(&text).map_err(|why| {
        Error::invalid("check the configuration", &subject, why)
            .hint("deploy/config/agent.example.toml shows every field")
    })
}

/// Parses and checks a configuration.
///
/// # Errors
/// The fault, with its line where it is one of syntax or type.
pub fn parse(text: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
    let absolute = |what: &str, path: &Path| match path.is_absolute() {
        true => Ok(()),
        false => Err(format!("{what} {} is not an absolute path", path.display())),
    };
    absolute("state_dir", &config.state_dir)?;
    if config.vault.addresses.is_empty() {
        return Err("[vault] addresses is empty".to_owned());
    }
    for (at, install) in config.install.iter().enumerate() {
        let name = &install.certificate;
        if config.install.iter().take(at).any(|other| other.certificate == *name) {
            return Err(format!("certificate {name} has two [[install]] tables"));
        }
        absolute("chain", &install.chain)?;
        if let Some(key) = &install.key {
            absolute("key", key)?;
            if *key == install.chain {
                return Err(format!("certificate {name}: chain and key are the same file"));
            }
        }
        if install.key_mode & 0o007 != 0 {
            return Err(format!("certificate {name}: key_mode lets everybody read the key"));
        }
        for (field, command) in [("test", &install.test), ("reload", &install.reload)] {
            if command.as_ref().is_some_and(Vec::is_empty) {
                return Err(format!("certificate {name}: {field} is empty"));
            }
        }
        for other in config.install.iter().take(at) {
            let files = |i: &Install| [Some(i.chain.clone()), i.key.clone()];
            let shared = files(install)
                .into_iter()
                .flatten()
                .find(|file| files(other).into_iter().flatten().any(|theirs| theirs == *file));
            if let Some(file) = shared {
                let other = &other.certificate;
                return Err(format!("{name} and {other} both go to {}", file.display()));
            }
        }
    }
    if let Some(Http01::Webroot(path)) = &config.http01 {
        absolute("webroot", path)?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
state_dir = "/var/lib/vault-agent"
[vault]
addresses = ["vault.example:8200"]
[[install]]
certificate = "shop"
chain = "/etc/nginx/tls/shop.pem"
key = "/etc/nginx/tls/shop.key"
test = ["nginx", "-t"]
reload = ["systemctl", "reload", "nginx"]
check = { address = "127.0.0.1:443", server_name = "shop.example" }
[http01]
webroot = "/var/www/html"
"#;

    #[test]
    fn a_whole_configuration_reads_with_its_defaults() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.install[0].mode, 0o644);
        assert_eq!(config.install[0].key_mode, 0o600);
        assert!(matches!(config.http01, Some(Http01::Webroot(_))));
    }

    #[test]
    fn what_would_be_unsafe_or_is_unknown_is_refused_by_name() {
        for (from, to, why) in [
            ("reload =", "reloads =", "unknown field `reloads`"),
            ("\"/etc/nginx/tls/shop.pem\"", "\"tls/shop.pem\"", "not an absolute path"),
            ("shop.key\"", "shop.pem\"", "same file"),
            ("test = [\"nginx\", \"-t\"]", "test = []", "test is empty"),
            ("test = [\"nginx\", \"-t\"]", "test = \"nginx -t\"", "line 9"),
            ("[http01]", "key_mode = \"0644\"\n[http01]", "everybody"),
            ("[http01]", "mode = \"4755\"\n[http01]", "more than permissions"),
            ("\"vault.example:8200\"", "", "addresses is empty"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(why), "{error} / {why}");
        }
    }
}
