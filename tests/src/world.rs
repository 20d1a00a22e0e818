//! The smallest whole: a web server with an agent, a CA and a vault, and an account at the CA.

use std::{net::SocketAddr, path::PathBuf};

use crate::{agent::Agent, nginx::Nginx, pebble::Pebble, process::eventually, vault::Vault};

/// The name that nginx serves, that is ordered and that is checked.
pub const SITE: &str = "shop.example";
/// The certificate that [`World::issue`] orders.
pub const CERTIFICATE: &str = "shop";
/// The agent on the web server.
pub const AGENT: &str = "web1";
/// The account at the CA.
pub const ACCOUNT: &str = "ca";

/// A web server with an agent, a CA and a vault, and an account at the CA.
pub struct World {
    /// The vault; initialised, without custodians.
    pub vault: Vault,
    /// The CA.
    pub pebble: Pebble,
    /// The web server.
    pub nginx: Nginx,
    /// Its agent, enrolled as [`AGENT`] and running.
    pub agent: Agent,
}

impl World {
    /// One whose agent installs [`CERTIFICATE`] into nginx and answers challenges by its webroot.
    pub fn new() -> Self {
        Self::with(Vault::initialized(), |nginx| {
            format!("{}{}", Install::into(nginx).toml(), webroot(nginx))
        })
    }

    /// One on this vault, whose agent is configured by what `config` says of the web server.
    pub fn with(vault: Vault, config: impl FnOnce(&Nginx) -> String) -> Self {
        let pebble = Pebble::start();
        let nginx = Nginx::start(SITE, pebble.http01);
        let config = config(&nginx);
        let agent = Agent::enrolled(&vault, AGENT, &config);
        register_account(&vault, &pebble);
        Self { vault, pebble, nginx, agent }
    }

    /// Orders [`CERTIFICATE`] in custody `agent` and waits for its proof.
    pub fn issue(&self) -> serde_json::Value {
        self.vault.json(&order(CERTIFICATE, SITE, "agent", &["--wait"]))
    }

    /// What the vault says of a certificate.
    pub fn certificate(&self, name: &str) -> serde_json::Value {
        self.vault.json(&["cert", "show", name])
    }

    /// The serial number that nginx serves now, lower-case hex as the vault writes it.
    pub fn served_serial(&self) -> String {
        let shown = self.nginx.served(SITE, &["-serial"]).to_lowercase();
        shown.trim_start_matches("serial=").to_owned()
    }

    /// Waits until nginx serves this serial number, lower-case hex: after a reload the old workers
    /// answer for a moment more.
    pub fn wait_serves(&self, serial: &str) {
        self.nginx.wait_serves(SITE, serial);
    }

    /// Waits until the agent's stream is open.
    pub fn wait_connected(&self) {
        wait_connected(&self.vault, AGENT);
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers [`ACCOUNT`] at a CA.
pub fn register_account(vault: &Vault, pebble: &Pebble) {
    let (root, directory) = (pebble.root().display().to_string(), pebble.directory());
    let contact = "mailto:ops@shop.example";
    let at = ["account", "register", ACCOUNT, "--directory", &directory, "--ca-root", &root];
    let rest = ["--contact", contact, "--agree-tos"];
    vault.ok(&[&at[..], &rest[..]].concat());
}

/// `vaultctl`'s arguments that order a certificate for a domain and [`AGENT`].
pub fn order<'a>(
    name: &'a str,
    domain: &'a str,
    custody: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let order = ["cert", "issue", name, "--account", ACCOUNT, "--domain", domain];
    let how = ["--challenge", "http-01", "--custody", custody, "--deploy-to", AGENT];
    [&order[..], &how[..], more].concat()
}

/// Waits until an agent's stream is open.
pub fn wait_connected(vault: &Vault, agent: &str) {
    eventually(&format!("{agent} is connected"), || {
        let shown = vault.ctl(&["-o", "json", "agent", "show", agent]);
        (shown.code == 0 && shown.json()["connected"] == true).then_some(())
    });
}

/// `[http01]` by nginx's webroot.
pub fn webroot(nginx: &Nginx) -> String {
    format!("[http01]\nwebroot = {:?}\n", nginx.file("webroot"))
}

/// One `[[install]]` of an agent's configuration.
#[derive(Debug, Clone)]
pub struct Install {
    /// The certificate's name.
    pub certificate: String,
    /// Where its chain goes.
    pub chain: PathBuf,
    /// Where its key goes.
    pub key: Option<PathBuf>,
    /// The command that tests, a TOML array.
    pub test: Option<String>,
    /// The command that reloads, a TOML array.
    pub reload: Option<String>,
    /// Where the new leaf must be seen, and for how long that is tried.
    pub check: Option<(SocketAddr, String)>,
    /// Further lines, `mode = "0640"` for example.
    pub more: String,
}

impl Install {
    /// [`CERTIFICATE`] into nginx, tested, reloaded and checked.
    pub fn into(nginx: &Nginx) -> Self {
        Self {
            certificate: CERTIFICATE.to_owned(),
            chain: nginx.file("chain.pem"),
            key: Some(nginx.file("key.pem")),
            test: Some(nginx.test_command()),
            reload: Some(nginx.reload_command()),
            check: Some((nginx.https, "15s".to_owned())),
            more: String::new(),
        }
    }

    /// A certificate whose chain goes into a file, and nothing more.
    pub fn file(certificate: &str, chain: PathBuf) -> Self {
        Self {
            certificate: certificate.to_owned(),
            chain,
            key: None,
            test: None,
            reload: None,
            check: None,
            more: String::new(),
        }
    }

    /// As `agent.toml` has it.
    pub fn toml(&self) -> String {
        let mut text = format!(
            "[[install]]\ncertificate = \"{}\"\nchain = {:?}\n{}",
            self.certificate, self.chain, self.more
        );
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{name} = {value}\n"));
            }
        };
        line("key", self.key.as_ref().map(|key| format!("{key:?}")));
        line("test", self.test.clone());
        line("reload", self.reload.clone());
        let check = self.check.as_ref().map(|(address, timeout)| {
            let name = SITE;
            format!(
                "{{ address = \"{address}\", server_name = \"{name}\", timeout = {timeout:?} }}"
            )
        });
        line("check", check);
        text
    }
}
