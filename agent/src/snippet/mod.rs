//! What a web server needs to use keys that the vault keeps: a configuration of OpenSSL's, and the
//! lines to paste into the server's own. All of it is made of `agent.toml` and of what is installed
//! here; nothing that a vault has said is in it.

mod lines;
mod openssl;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use vault_proto::{
    ids::CertificateName,
    local::{SIGNER_KEYS, SIGNER_SOCKET},
};

use crate::config::{Config, Install, Signer};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;

use openssl::Loader;

/// Where OpenSSL's configuration is said to be where it is not written.
const DEFAULT_DIR: &str = "/etc/vault-agent";

/// A server, and how it reaches the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// nginx by OpenSSL's provider.
    Nginx,
    /// nginx by OpenSSL's engine, for keys with `--tls-use digest`.
    NginxEngine,
    /// Apache by OpenSSL's provider.
    Apache,
    /// HAProxy by OpenSSL's provider.
    Haproxy,
    /// Any other program by OpenSSL's provider.
    Openssl,
    /// Any other program by OpenSSL's engine, for keys with `--tls-use digest`.
    OpensslEngine,
}

impl Server {
    fn loader(self) -> Loader {
        match self {
            Self::NginxEngine | Self::OpensslEngine => Loader::Engine,
            Self::Nginx | Self::Apache | Self::Haproxy | Self::Openssl => Loader::Provider,
        }
    }
}

/// What the command line says.
#[derive(Debug, Args)]
pub struct Options {
    /// The web server.
    #[arg(value_enum)]
    server: Server,
    /// A certificate of agent.toml; all that have a key there unless given. May be repeated.
    #[arg(long, value_name = "NAME")]
    certificate: Vec<CertificateName>,
    /// Writes OpenSSL's configuration into this directory, and prints what is left to paste.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// libvault_pkcs11.so, where it is not found by itself.
    #[arg(long, value_name = "FILE")]
    pkcs11_module: Option<PathBuf>,
    /// OpenSSL's provider or engine, pkcs11.so, where it is not found by itself.
    #[arg(long, value_name = "FILE")]
    openssl_module: Option<PathBuf>,
}

/// Everything that one server needs.
#[derive(Debug, Serialize)]
pub struct Snippet {
    /// Which one.
    pub server: Server,
    /// OpenSSL's configuration.
    pub openssl_config: File,
    /// The variables that the server is to be started with.
    pub environment: Vec<Variable>,
    /// The lines to paste, in the order in which one does it.
    pub parts: Vec<Part>,
    /// Whether OpenSSL's configuration was written.
    #[serde(skip)]
    written: bool,
}

/// A file.
#[derive(Debug, Serialize)]
pub struct File {
    /// Where it belongs.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// A variable of the environment.
#[derive(Debug, Clone, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// Lines for one place.
#[derive(Debug, Serialize)]
pub struct Part {
    /// Where they belong.
    pub place: String,
    /// The lines.
    pub lines: Vec<String>,
}

impl Snippet {
    /// Makes it, and writes what is to be written.
    ///
    /// # Errors
    /// `Invalid` where agent.toml lacks what this server needs, `NotFound` where a certificate or a
    /// library is not there.
    pub fn make(config: &Config, options: &Options) -> Result<Self> {
        let server = options.server;
        let signer = config.signer.as_ref().ok_or_else(|| {
            Error::invalid("write the snippet", "agent.toml", "it has no [signer]")
                .hint("add [signer] with the users in `allow` that the web server's workers run as")
        })?;
        let loader = server.loader();
        let dir = options.out.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DIR));
        let dir = std::path::absolute(&dir)
            .map_err(|e| Error::local("find", dir.display().to_string(), e))?;
        let path = dir.join(loader.file_name());
        let text = loader.config(
            &openssl::ours(options.pkcs11_module.as_deref())?,
            &loader.library(options.openssl_module.as_deref())?,
        )?;
        let environment = environment(config, signer, plain(&path)?)?;
        let wanted = Wanted { server, environment: &environment, signer };
        let parts = lines::of(&wanted, &installs(config, server, &options.certificate)?, || {
            Identity::load(&config.state_dir).map(|identity| identity.name())
        })?;
        let openssl_config = File { path, text };
        if options.out.is_some() {
            openssl::write(&openssl_config)?;
        }
        let written = options.out.is_some();
        Ok(Self { server, openssl_config, environment, parts, written })
    }

    /// For people: each part below a comment that says where it belongs.
    pub fn text(&self) -> String {
        let mut blocks = Vec::new();
        if !self.written {
            let File { path, text } = &self.openssl_config;
            blocks.push(format!("# {}\n{}", path.display(), text.trim_end()));
        }
        let part = |part: &Part| format!("# {}\n{}", part.place, part.lines.join("\n"));
        blocks.extend(self.parts.iter().map(part));
        blocks.join("\n\n")
    }
}

/// What the lines depend on.
struct Wanted<'a> {
    server: Server,
    environment: &'a [Variable],
    signer: &'a Signer,
}

/// Variables, as few as there can be: what is well known need not be said.
fn environment(config: &Config, signer: &Signer, openssl_conf: String) -> Result<Vec<Variable>> {
    let mut all = vec![Variable { name: "OPENSSL_CONF", value: openssl_conf }];
    let (socket, keys) = (plain(&signer.socket)?, plain(&config.signer_keys(signer))?);
    let elsewhere = socket != SIGNER_SOCKET;
    if elsewhere {
        all.push(Variable { name: "VAULT_AGENT_SOCKET", value: socket });
    }
    if elsewhere || keys != SIGNER_KEYS {
        all.push(Variable { name: "VAULT_AGENT_KEYS", value: keys });
    }
    Ok(all)
}

/// What is installed for this server, as far as agent.toml can tell.
fn installs<'a>(
    config: &'a Config,
    server: Server,
    named: &[CertificateName],
) -> Result<Vec<&'a Install>> {
    let there = |name: &CertificateName| config.install.iter().any(|i| i.certificate == *name);
    if let Some(name) = named.iter().find(|name| !there(name)) {
        let subject = format!("certificate {name}");
        let why = "agent.toml has no [[install]] for it";
        return Err(Error::new(ErrorKind::NotFound, "find", subject, why)
            .hint("add one with `chain` and `key`"));
    }
    let wanted = |install: &&Install| match named {
        [] => install.key.is_some(),
        named => named.contains(&install.certificate),
    };
    let found: Vec<_> = config.install.iter().filter(wanted).collect();
    if found.is_empty() && !matches!(server, Server::Openssl | Server::OpensslEngine) {
        let why = "it has no [[install]] with a key";
        return Err(Error::invalid("write the snippet", "agent.toml", why)
            .hint("add one with `certificate`, `chain` and `key`"));
    }
    Ok(found)
}

/// A path as text that means itself in every configuration that it is pasted into.
///
/// # Errors
/// `Invalid` where it does not.
fn plain(path: &std::path::Path) -> Result<String> {
    let text = path.to_str().unwrap_or_default();
    let means_itself = |c: char| c.is_ascii_alphanumeric() || "/._-+@:~=".contains(c);
    if path.is_absolute() && !text.is_empty() && text.chars().all(means_itself) {
        return Ok(text.to_owned());
    }
    let why = "a character in it means something else to OpenSSL, systemd or the web server";
    Err(Error::invalid("paste", path.display().to_string(), why)
        .hint("use an absolute path of letters, digits and / . _ - + @ : ~ ="))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_that_would_be_read_otherwise_is_refused() {
        assert_eq!(plain(Path::new("/etc/a-b_c.d/x:1")).unwrap(), "/etc/a-b_c.d/x:1");
        for odd in ["/a b", "/a$b", "/a#b", "/a;b", "/a\"b", "/a\\b", "/a%b", "/ä", "/a\nb", "a"] {
            assert!(plain(Path::new(odd)).is_err(), "{odd:?}");
        }
    }
}
