//! The vault that is measured, with an agent, a CA, and keys in its token.

use testkit::{
    agent::Agent,
    keyless::Keyless,
    nginx::Nginx,
    pebble::Pebble,
    vault::Vault,
    world::{AGENT, Install, register_account, wait_connected, webroot},
};

use crate::raw::How;

/// A kind of key, and where each side finds one.
#[derive(Debug, Clone)]
pub struct Key {
    /// As results name it.
    pub name: &'static str,
    /// The key that operators sign with, and the vault's name of its algorithm.
    pub algorithm: &'static str,
    /// Its CKA_ID in hex.
    pub id: String,
    /// The certificate whose key web servers sign with.
    pub certificate: &'static str,
    /// The id of its key.
    pub certificate_id: Vec<u8>,
    /// The vault's mechanism for it.
    pub remote_mechanism: &'static str,
    /// The vault's mechanism for the operators' key.
    pub mechanism: &'static str,
    /// The same, of the token.
    pub raw: How,
    /// The same, of the agent's module.
    pub remote: How,
}

/// The certificates, and of which algorithm.
const CERTIFICATES: [(&str, &str, &str); 2] =
    [("p256", "ec-p256", "p256.example"), ("rsa2048", "rsa-2048", "rsa2048.example")];

/// The name of the certificate of a kind whose key is the agent's own, on disk; all else is as in the one
/// whose key is the vault's.
pub fn on_disk(kind: &str) -> String {
    format!("{kind}-on-disk")
}

/// A vault as it is installed, with an agent whose web server uses the vault's keys.
pub struct Site {
    /// The vault.
    pub vault: Vault,
    /// The agent.
    pub agent: Agent,
    /// The agent's socket, and OpenSSL's configuration for its module.
    pub keyless: Keyless,
    /// Keys of both kinds.
    pub keys: Vec<Key>,
    _nginx: Nginx,
    pebble: Pebble,
}

impl Site {
    /// Starts everything and orders a certificate of each kind.
    pub fn new() -> Self {
        let mut vault = Vault::new();
        vault.reconfigure("[audit]\n", "[audit]\nsync = \"interval\"\n");
        let unlimited = "[policy]\ntls_signatures_per_second = 1000000\n";
        vault.reconfigure("[policy]\n", unlimited);
        vault.start();
        vault.ok(&["init"]);
        let (pebble, keyless) = (Pebble::start(), Keyless::new());
        let nginx = Nginx::start("bench.example", pebble.http01);
        let installs = CERTIFICATES.map(|(name, ..)| {
            let install = |name: &str| {
                let chain = keyless.file(&format!("{name}.pem"));
                let key = Some(keyless.file(&format!("{name}.key")));
                Install { key, ..Install::file(name, chain) }.toml()
            };
            install(name) + &install(&on_disk(name))
        });
        let config = format!("{}{}{}", installs.concat(), webroot(&nginx), keyless.signer());
        let agent = Agent::enrolled(&vault, AGENT, &config);
        register_account(&vault, &pebble);
        wait_connected(&vault, AGENT);
        let keys = CERTIFICATES.map(|(name, algorithm, domain)| {
            let order = testkit::world::order(
                name,
                domain,
                "vault",
                &["--algorithm", algorithm, "--tls-use", "digest", "--wait"],
            );
            vault.ok(&order);
            let as_file = ["--algorithm", algorithm, "--wait"];
            vault.ok(&testkit::world::order(&on_disk(name), domain, "agent", &as_file));
            let shown = vault.json(&["cert", "show", name]);
            let certificate_id = shown["key_id"].as_str().unwrap_or_default().replace('-', "");
            let made = vault.json(&["key", "generate", algorithm, "--algorithm", algorithm]);
            let id = made["id"].as_str().unwrap_or_default().replace('-', "");
            let ec = algorithm.starts_with("ec");
            Key {
                name,
                algorithm,
                id,
                certificate: name,
                certificate_id: hex::decode(certificate_id).unwrap_or_default(),
                remote_mechanism: if ec { "ecdsa-sha256" } else { "rsa-pss-sha256" },
                mechanism: if ec { "ecdsa-sha256" } else { "rsa-pkcs1-sha256" },
                raw: if ec { How::Ecdsa } else { How::RsaPkcs },
                remote: if ec { How::EcdsaSha256 } else { How::RsaPss },
            }
        });
        Self { vault, agent, keyless, keys: keys.into(), _nginx: nginx, pebble }
    }

    /// The CA's roots, PEM.
    pub fn roots(&self) -> String {
        self.pebble.issuer()
    }
}
