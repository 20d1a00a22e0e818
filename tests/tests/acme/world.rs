//! A vault, a CA that can fail, and an agent that answers its challenges.

use std::collections::BTreeSet;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use testkit::{
    agent::Agent,
    fault_ca::FaultCa,
    pebble::{Behaviour, Pebble},
    process::eventually,
    programs::Ended,
    vault::Vault,
    world::{Install, wait_connected},
};
use x509_cert::der::Decode as _;

/// The account at the CA.
pub const ACCOUNT: &str = "ca";

/// A vault and a CA; an agent where it was asked for.
pub struct World {
    pub vault: Vault,
    pub pebble: Pebble,
    /// What the vault takes for the CA.
    pub ca: FaultCa,
    agent: Option<Agent>,
}

/// Everything that a refused registration must leave as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    accounts: Value,
    keys: BTreeSet<String>,
    in_token: BTreeSet<String>,
}

/// The leaf of a chain, PEM.
pub fn leaf(chain: &str) -> x509_cert::Certificate {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
    x509_cert::Certificate::from_der(&leaf).expect("a certificate")
}

impl Made {
    /// The private keys in the token.
    pub fn in_token(&self) -> &BTreeSet<String> {
        &self.in_token
    }
}

impl World {
    /// No account yet, no agent.
    pub fn bare() -> Self {
        Self::behaving(Behaviour::default())
    }

    /// The same with a CA that behaves so.
    pub fn behaving(behaviour: Behaviour) -> Self {
        let vault = Vault::initialized();
        let pebble = Pebble::start_with(behaviour);
        let ca = FaultCa::before(&pebble);
        Self { vault, pebble, ca, agent: None }
    }

    /// With an account and an agent, to which these certificates can be deployed: it answers
    /// challenges by its own listener and keeps the chains in its directory.
    pub fn with_agent(certificates: &[&str]) -> Self {
        Self::bare().ready(certificates)
    }

    /// An account is registered and an agent enrolled, as [`World::with_agent`] has it.
    pub fn ready(self, certificates: &[&str]) -> Self {
        let listen = format!("[http01]\nlisten = \"{}\"\n", self.pebble.http01);
        self.ready_with(|agent| {
            let installs = certificates.iter().map(|name| {
                let key = Some(agent.file(&format!("{name}.key")));
                Install { key, ..Install::file(name, agent.file(&format!("{name}.pem"))) }.toml()
            });
            installs.chain([listen]).collect()
        })
    }

    /// An account is registered and an agent enrolled that is configured so.
    pub fn ready_with(mut self, config: impl FnOnce(&Agent) -> String) -> Self {
        let ended = self.register(&["--agree-tos"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let mut agent = Agent::new(&self.vault, "");
        agent.config = config(&agent);
        let ended = agent.enroll(&self.vault, "web1");
        assert_eq!(ended.code, 0, "{ended:?}");
        agent.start();
        wait_connected(&self.vault, "web1");
        self.agent = Some(agent);
        self
    }

    /// Registers [`ACCOUNT`] at the CA.
    pub fn register(&self, more: &[&str]) -> Ended {
        self.register_at(&self.ca, more)
    }

    /// Registers [`ACCOUNT`] at this CA.
    pub fn register_at(&self, ca: &FaultCa, more: &[&str]) -> Ended {
        let (directory, root) = (ca.directory(), ca.root().display().to_string());
        let args = ["account", "register", ACCOUNT, "--directory", &directory, "--ca-root", &root];
        self.vault.ctl(&[&args[..], more].concat())
    }

    /// Declares a certificate; `more` has its names.
    pub fn issue(&self, name: &str, custody: &str, more: &[&str]) -> Ended {
        let args = ["-o", "json", "cert", "issue", name, "--account", ACCOUNT, "--challenge"];
        let rest = ["http-01", "--custody", custody, "--deploy-to", "web1"];
        self.vault.ctl(&[&args[..], &rest[..], more].concat())
    }

    /// What the vault says of a certificate.
    pub fn certificate(&self, name: &str) -> Value {
        self.vault.json(&["cert", "show", name])
    }

    /// Waits until a version of a certificate is issued, held by its agent and nothing is open.
    pub fn wait_held(&self, name: &str, version: u64) -> Value {
        eventually(&format!("version {version} of {name} is held"), || {
            let now = self.certificate(name);
            let held = now["deployments"][0]["held_version"] == version;
            (now["version"] == version && held && now["progress"] == "idle").then_some(now)
        })
    }

    /// Waits until more attempts have failed than these, and nothing is under way.
    pub fn wait_failed(&self, name: &str, attempts: u64) -> Value {
        eventually(&format!("an attempt at {name} fails"), || {
            let now = self.certificate(name);
            let failed = now["failed_attempts"].as_u64().expect("failed_attempts") > attempts;
            (failed && now["progress"] == "backoff").then_some(now)
        })
    }

    /// Waits until a certificate is issued, with as many attempts as that takes.
    pub fn wait_issued(&self, name: &str) {
        eventually(&format!("{name} is issued"), || {
            let now = self.certificate(name);
            if now["progress"] == "backoff" {
                self.vault.ok(&["cert", "renew", name]);
            }
            (now["status"] == "issued").then_some(())
        });
    }

    /// [`ACCOUNT`].
    pub fn account(&self) -> Value {
        self.vault.json(&["account", "show", ACCOUNT])
    }

    /// What there is of accounts and keys.
    pub fn made(&self) -> Made {
        let keys = self.vault.json(&["key", "list"]);
        let living = keys.as_array().expect("keys").iter().filter(|key| key["state"] == "active");
        let name = |key: &Value| format!("{}/{}", key["purpose"], key["name"]).replace('"', "");
        let keys = living.map(name).collect();
        let accounts = self.vault.json(&["account", "list"]);
        Made { accounts, keys, in_token: self.vault.keys_in_token() }
    }
}
