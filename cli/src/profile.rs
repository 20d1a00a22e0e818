//! How the vault is reached: the admin socket, a named profile, or the environment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Args, parser::ValueSource};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The connection's options; each has a variable of its own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The vault's local admin socket.
    #[arg(
        id = "connection-socket",
        long = "socket",
        global = true,
        value_name = "PATH",
        env = "VAULTCTL_SOCKET"
    )]
    pub socket: Option<PathBuf>,
    /// A profile of the configuration file.
    #[arg(
        id = "connection-profile",
        long = "profile",
        global = true,
        value_name = "NAME",
        env = "VAULTCTL_PROFILE"
    )]
    pub profile: Option<String>,
    /// The configuration file [default: ~/.config/vaultctl/config.toml].
    #[arg(
        id = "connection-config",
        long = "config",
        global = true,
        value_name = "FILE",
        env = "VAULTCTL_CONFIG"
    )]
    pub config: Option<PathBuf>,
    /// HOST:PORT of the vault.
    #[arg(
        id = "connection-address",
        long = "address",
        global = true,
        value_name = "HOST:PORT",
        env = "VAULTCTL_ADDRESS"
    )]
    pub address: Option<String>,
    /// The vault's root certificate, PEM.
    #[arg(
        id = "connection-ca",
        long = "ca",
        global = true,
        value_name = "FILE",
        env = "VAULTCTL_CA"
    )]
    pub ca: Option<PathBuf>,
    /// The client certificate, PEM.
    #[arg(
        id = "connection-cert",
        long = "cert",
        global = true,
        value_name = "FILE",
        env = "VAULTCTL_CERT"
    )]
    pub cert: Option<PathBuf>,
    /// The client certificate's key, PEM.
    #[arg(
        id = "connection-key",
        long = "key-file",
        global = true,
        value_name = "FILE",
        env = "VAULTCTL_KEY"
    )]
    pub key: Option<PathBuf>,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The admin socket.
    Socket(PathBuf),
    /// mTLS.
    Network(Profile),
}

/// One `[profile.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `HOST:PORT`.
    pub address: String,
    /// The vault's root certificate, PEM.
    pub ca: PathBuf,
    /// The client certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    profile: BTreeMap<String, Profile>,
}

impl Connection {
    /// Forgets what the environment says where an argument says otherwise: `--profile` means that
    /// profile, whatever VAULTCTL_SOCKET is.
    pub fn prefer_arguments(&mut self, matches: &ArgMatches) {
        let said = |ids: &[&str], source: ValueSource| {
            ids.iter().any(|id| matches.value_source(id) == Some(source))
        };
        let argument = |ids: &[&str]| said(ids, ValueSource::CommandLine);
        let parts = ["connection-address", "connection-ca", "connection-cert", "connection-key"];
        let (socket, profile) = ("connection-socket", "connection-profile");
        if said(&[socket], ValueSource::EnvVariable) && (argument(&[profile]) || argument(&parts)) {
            self.socket = None;
        }
        if said(&[profile], ValueSource::EnvVariable) && argument(&parts) {
            self.profile = None;
        }
    }

    /// Decides how to connect.
    ///
    /// # Errors
    /// `Invalid` where nothing is said, or the profile is not there.
    pub fn target(&self) -> Result<Target> {
        if let Some(socket) = &self.socket {
            return Ok(Target::Socket(socket.clone()));
        }
        if let Some(name) = &self.profile {
            return self.named(name).map(Target::Network);
        }
        match (&self.address, &self.ca, &self.cert, &self.key) {
            (Some(address), Some(ca), Some(cert), Some(key)) => Ok(Target::Network(Profile {
                address: address.clone(),
                ca: ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
            })),
            (None, None, None, None) => {
                Err(Error::invalid("connect", "the vault", "nothing says where it is").hint(
                    "pass --socket PATH on the vault's machine, or --profile NAME, or set \
                     VAULTCTL_SOCKET or VAULTCTL_PROFILE",
                ))
            }
            _ => {
                Err(Error::invalid("connect", "the vault", "the connection is only half described")
                    .hint("--address, --ca, --cert and --key-file go together"))
            }
        }
    }

    fn named(&self, name: &str) -> Result<Profile> {
        let path = match &self.config {
            Some(path) => path.clone(),
            None => default_file()?,
        };
        let subject = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(|e| {
            Error::invalid("read", &subject, e)
                .hint("`vaultctl init --operator NAME --operator-out DIR` prints a profile")
        })?;
        let mut file: File =
            toml::from_str(&text).map_err(|e| Error::invalid("read", &subject, e))?;
        let profile = file.profile.remove(name).ok_or_else(|| {
            let known: Vec<_> = file.profile.keys().map(String::as_str).collect();
            Error::invalid("find", format!("profile {name}"), format!("{subject} does not have it"))
                .hint(format!("it has: {}", known.join(", ")))
        })?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let beside = |file: PathBuf| if file.is_absolute() { file } else { dir.join(file) };
        Ok(Profile {
            address: profile.address,
            ca: beside(profile.ca),
            cert: beside(profile.cert),
            key: beside(profile.key),
        })
    }
}

fn default_file() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let base = base.ok_or_else(|| {
        Error::invalid("find", "the configuration file", "neither HOME nor XDG_CONFIG_HOME is set")
    })?;
    Ok(base.join("vaultctl").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Connection {
        Connection {
            socket: None,
            profile: None,
            config: None,
            address: None,
            ca: None,
            cert: None,
            key: None,
        }
    }

    #[test]
    fn a_profile_s_files_lie_beside_its_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = "[profile.p]\naddress = \"v:1\"\nca = \"ca.pem\"\ncert = \"/c\"\nkey = \"k\"\n";
        fs::write(&file, text).unwrap();
        let found = Connection { profile: Some("p".into()), config: Some(file), ..nothing() };
        let Target::Network(profile) = found.target().unwrap() else { panic!() };
        assert_eq!(profile.ca, dir.path().join("ca.pem"));
        assert_eq!(profile.cert, PathBuf::from("/c"));
    }

    #[test]
    fn half_a_connection_is_refused() {
        assert!(nothing().target().is_err());
        assert!(Connection { address: Some("v:1".into()), ..nothing() }.target().is_err());
    }
}
