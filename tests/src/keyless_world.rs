//! A vault, a CA, and a web server whose key is the vault's: the same for every web server.

use std::{net::SocketAddr, path::PathBuf};

use rustls::version::{TLS12, TLS13};

use crate::{
    agent::Agent,
    apache::Apache,
    haproxy::Haproxy,
    keyless::Keyless,
    load::Load,
    nginx::{self, Nginx},
    pebble::Pebble,
    process::free_port,
    vault::Vault,
    visitor::Visitor,
    web_server::WebServer,
    world::{AGENT, CERTIFICATE, SITE, order, register_account, wait_connected},
};

/// How long a signature is waited for, at each place that has a deadline: far longer than anything
/// here is away, however busy the machine is.
pub const DEADLINE: &str = "120s";
/// The same, as the module takes it.
const DEADLINE_MS: &str = "120000";

/// A web server, and the way in which it gets to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// nginx by OpenSSL's provider.
    Nginx,
    /// nginx by OpenSSL's engine, which hands over digests and finds keys by their name alone.
    NginxByEngine,
    /// Apache by OpenSSL's provider.
    Apache,
    /// HAProxy by OpenSSL's provider.
    Haproxy,
}

/// A web server that serves a key of the vault's, and what stands around it.
pub struct KeylessWorld {
    /// The vault.
    pub vault: Vault,
    /// The web server.
    pub server: Box<dyn WebServer>,
    /// Its agent, enrolled as [`AGENT`] and running.
    pub agent: Agent,
    /// How its web server gets to its keys.
    pub keyless: Keyless,
    kind: Server,
    pebble: Pebble,
}

impl KeylessWorld {
    /// One on this vault; nothing is ordered yet, so the server shows a certificate of nobody's.
    pub fn new(kind: Server, vault: Vault) -> Self {
        Self::with_patience(kind, vault, DEADLINE_MS)
    }

    /// The same, whose web server waits so long for a signature, in milliseconds.
    pub fn with_patience(kind: Server, vault: Vault, milliseconds: &str) -> Self {
        let pebble = Pebble::start();
        let keyless = match kind {
            Server::NginxByEngine => Keyless::by_engine(),
            _ => Keyless::new(),
        };
        let mut environment = keyless.environment();
        environment.push(("VAULT_AGENT_TIMEOUT_MS".to_owned(), milliseconds.to_owned()));
        let listen = format!("[http01]\nlisten = \"{}\"\n", pebble.http01);
        let config = format!("{listen}{}deadline = \"{DEADLINE}\"\n", keyless.signer());
        // There before the web server, whose module waits for it.
        let mut agent = Agent::enrolled(&vault, AGENT, &config);
        let server = start(kind, environment);
        agent.kill();
        agent.config = format!("{}{config}", server.install().toml());
        if kind == Server::NginxByEngine {
            nginx::configure_engine(&directory(server.as_ref()), &agent);
        }
        agent.start();
        register_account(&vault, &pebble);
        wait_connected(&vault, AGENT);
        Self { vault, server, agent, keyless, kind, pebble }
    }

    /// Orders [`CERTIFICATE`]; the agent has proven by its own handshake that it is served. Its
    /// serial number.
    ///
    /// # Panics
    /// Where it is not.
    pub fn issue(&self, more: &[&str]) -> String {
        let tls_use: &[&str] = match self.kind {
            Server::NginxByEngine => &["--tls-use", "digest"],
            _ => &[],
        };
        let more = [more, tls_use, &["--wait"]].concat();
        serving(&self.vault.json(&order(CERTIFICATE, SITE, "vault", &more)))
    }

    /// Renews it; the agent has reloaded the server and proven the new leaf. Its serial number.
    ///
    /// # Panics
    /// Where it is not served.
    pub fn renew(&self) -> String {
        serving(&self.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]))
    }

    /// Visitors who take no chain but one of the CA's, one for each version of TLS.
    pub fn visitors(&self) -> [Visitor; 2] {
        let root = self.pebble.issuer();
        [&TLS13, &TLS12].map(|version| Visitor::new(self.server.https(), SITE, &root, version))
    }

    /// Such visitors without end, half of them for each version of TLS.
    pub fn load(&self) -> Load {
        Load::start(&self.visitors())
    }

    /// The key of [`CERTIFICATE`], by its id.
    ///
    /// # Panics
    /// Where there is none.
    pub fn key_id(&self) -> String {
        let shown = self.vault.json(&["cert", "show", CERTIFICATE]);
        shown["key_id"].as_str().expect("a key").to_owned()
    }
}

fn serving(certificate: &serde_json::Value) -> String {
    assert_eq!(certificate["deployments"][0]["status"], "serving", "{certificate}");
    certificate["serial"].as_str().expect("a serial number").to_owned()
}

/// Where its configuration is: beside what is installed into it.
fn directory(server: &dyn WebServer) -> PathBuf {
    server.install().chain.parent().expect("a directory").to_owned()
}

fn start(kind: Server, environment: Vec<(String, String)>) -> Box<dyn WebServer> {
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    match kind {
        Server::Nginx | Server::NginxByEngine => {
            Box::new(Nginx::start_with(SITE, http, environment))
        }
        Server::Apache => Box::new(Apache::start_with(SITE, environment)),
        Server::Haproxy => Box::new(Haproxy::start_with(environment)),
    }
}
