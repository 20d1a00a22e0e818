//! Keyless: nginx serves certificates whose keys are in the vault's HSM, by remote signing.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::fs;

use testkit::{
    agent::Agent,
    keyless::Keyless,
    nginx::Nginx,
    pebble::Pebble,
    process::eventually,
    tls,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, SITE, order, register_account, wait_connected, webroot},
};

/// A vault, a CA, and an nginx whose key is the vault's.
struct World {
    vault: Vault,
    nginx: Nginx,
    agent: Agent,
    keyless: Keyless,
    _pebble: Pebble,
}

impl World {
    fn new() -> Self {
        let vault = Vault::initialized();
        let (pebble, keyless) = (Pebble::start(), Keyless::new());
        let nginx = Nginx::start_with(SITE, pebble.http01, keyless.environment());
        let install = Install::into(&nginx).toml();
        let config = format!("{install}{}{}", webroot(&nginx), keyless.signer());
        let agent = Agent::enrolled(&vault, AGENT, &config);
        register_account(&vault, &pebble);
        wait_connected(&vault, AGENT);
        Self { vault, nginx, agent, keyless, _pebble: pebble }
    }

    fn issue(&self, more: &[&str]) -> serde_json::Value {
        let more = [more, &["--wait"]].concat();
        self.vault.json(&order(CERTIFICATE, SITE, "vault", &more))
    }

    /// One full handshake; what OpenSSL says of it.
    fn handshake(&self, version: &str) -> Option<String> {
        tls::handshake(self.nginx.https, SITE, version)
    }

    fn shake_hands(&self, version: &str) -> String {
        eventually(&format!("a handshake with {version}"), || self.handshake(version))
    }

    /// What was signed, as far as the vault could see it.
    fn kinds(&self) -> Vec<serde_json::Value> {
        let signed = |r: serde_json::Value| r["detail"]["context"]["signed"].clone();
        self.signatures().into_iter().map(signed).collect()
    }

    fn signatures(&self) -> Vec<serde_json::Value> {
        let records = self.vault.audit().into_iter();
        records.filter(|r| r["action"] == "key.sign.tls" && r["phase"] == "intent").collect()
    }
}

#[test]
fn nginx_serves_ec_and_rsa_certificates_whose_keys_are_in_the_hsm() {
    for algorithm in ["ec-p256", "rsa-2048"] {
        let world = World::new();
        let issued = world.issue(&["--algorithm", algorithm]);
        assert_eq!(issued["deployments"][0]["status"], "serving", "{issued}");
        let key = fs::read_to_string(world.nginx.file("key.pem")).unwrap();
        assert!(key.starts_with("-----BEGIN PKCS#11 PROVIDER URI-----"), "{key}");
        for (version, kind) in
            [("-tls1_3", "tls13-certificate-verify"), ("-tls1_2", "tls12-server-key-exchange")]
        {
            // A worker that began before the reload may answer first, with its own key.
            eventually(&format!("{algorithm}: {kind} is signed"), || {
                world.shake_hands(version);
                world.kinds().contains(&kind.into()).then_some(())
            });
        }
        let kinds = world.kinds();
        assert!(!kinds.contains(&"digest".into()), "{algorithm}: {kinds:?}");
        let id = issued["key_id"].as_str().unwrap();
        assert!(world.signatures().iter().all(|r| r["resource"] == format!("key/{id}")));
        world.vault.ok(&["audit", "verify"]);
    }
}

#[test]
fn a_key_for_tls13_alone_signs_no_other_handshake() {
    let world = World::new();
    world.issue(&["--tls-use", "tls13"]);
    world.shake_hands("-tls1_3");
    eventually("TLS 1.2 is refused", || world.handshake("-tls1_2").is_none().then_some(()));
    world.shake_hands("-tls1_3");
    let refused = world.vault.audit().into_iter().any(|r| {
        r["action"] == "key.sign.tls" && r["detail"]["denied"].to_string().contains("tls13")
    });
    assert!(refused, "the refusal is not on record");
}

#[test]
fn handshakes_go_on_after_agent_vault_and_web_server_were_restarted() {
    let mut world = World::new();
    world.issue(&[]);
    world.shake_hands("-tls1_3");
    world.agent.kill();
    world.agent.start();
    world.shake_hands("-tls1_3");
    world.vault.kill();
    world.vault.start();
    world.shake_hands("-tls1_3");
    world.nginx.reload();
    world.shake_hands("-tls1_3");
}

#[test]
fn a_renewal_for_a_new_key_switches_chain_and_key_together() {
    let world = World::new();
    let first = world.issue(&["--rotate-key"]);
    world.shake_hands("-tls1_3");
    let second = world.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    assert_ne!(first["key_id"], second["key_id"]);
    assert_eq!(second["deployments"][0]["status"], "serving", "{second}");
    world.nginx.wait_serves(SITE, second["serial"].as_str().unwrap());
    world.shake_hands("-tls1_3");
}

#[test]
fn what_is_not_deployed_to_an_agent_is_not_signed_for_it() {
    let world = World::new();
    world.issue(&[]);
    world.shake_hands("-tls1_3");
    world.vault.ok(&["cert", "undeploy", CERTIFICATE, "--from", AGENT]);
    eventually("the vault refuses", || world.handshake("-tls1_3").is_none().then_some(()));
    world.vault.ok(&["cert", "deploy", CERTIFICATE, "--to", AGENT]);
    world.shake_hands("-tls1_3");
    assert!(world.keyless.socket().exists());
}
