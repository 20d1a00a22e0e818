//! Keyless, the other servers: Apache and HAProxy by OpenSSL's provider, nginx by OpenSSL's engine.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, net::SocketAddr};

use testkit::{
    agent::Agent,
    apache::Apache,
    haproxy::Haproxy,
    keyless::Keyless,
    nginx::Nginx,
    pebble::Pebble,
    process::{eventually, free_port},
    tls,
    vault::Vault,
    web_server::WebServer as _,
    world::{AGENT, CERTIFICATE, Install, SITE, order, register_account, wait_connected},
};

/// A server and what stands around it: a vault, a CA and an agent.
struct World<S> {
    vault: Vault,
    server: S,
    https: SocketAddr,
    agent: Agent,
    _keyless: Keyless,
    _pebble: Pebble,
}

impl<S> World<S> {
    /// `start` starts the server and says where it speaks TLS and how it is installed into.
    fn with(keyless: Keyless, start: impl FnOnce(&Keyless) -> (S, SocketAddr, Install)) -> Self {
        let vault = Vault::initialized();
        let pebble = Pebble::start();
        let (server, https, install) = start(&keyless);
        let listen = format!("[http01]\nlisten = \"{}\"\n", pebble.http01);
        let config = format!("{}{listen}{}", install.toml(), keyless.signer());
        let agent = Agent::enrolled(&vault, AGENT, &config);
        register_account(&vault, &pebble);
        wait_connected(&vault, AGENT);
        Self { vault, server, https, agent, _keyless: keyless, _pebble: pebble }
    }

    /// Orders the certificate; the agent has proven by its own handshake that it is served.
    fn issue(&self, more: &[&str]) -> serde_json::Value {
        let more = [more, &["--wait"]].concat();
        let issued = self.vault.json(&order(CERTIFICATE, SITE, "vault", &more));
        assert_eq!(issued["deployments"][0]["status"], "serving", "{issued}");
        issued
    }

    /// Renews it; the agent has reloaded the server and proven the new leaf.
    fn renew(&self) -> serde_json::Value {
        let renewed = self.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
        assert_eq!(renewed["deployments"][0]["status"], "serving", "{renewed}");
        renewed
    }

    /// Full handshakes by OpenSSL, which checks each signature, in both versions of TLS.
    fn shakes_hands(&self) {
        for version in ["-tls1_3", "-tls1_2"] {
            eventually(&format!("a handshake with {version}"), || {
                tls::handshake(self.https, SITE, version)
            });
        }
    }

    /// Waits until a leaf with this serial number is served: after a reload the old workers answer
    /// for a moment more.
    fn wait_serves(&self, certificate: &serde_json::Value) {
        let serial = certificate["serial"].as_str().unwrap();
        eventually(&format!("{serial} is served"), || {
            let served = tls::leaf(self.https, SITE, &["-serial"]).to_lowercase();
            (served == format!("serial={serial}")).then_some(())
        });
    }

    /// What has been signed, as far as the vault saw it.
    fn signed(&self) -> Vec<String> {
        let records = self.vault.audit().into_iter();
        let signed = records.filter(|r| r["action"] == "key.sign.tls" && r["phase"] == "intent");
        signed.map(|r| r["detail"]["context"]["signed"].as_str().unwrap().to_owned()).collect()
    }

    /// Both versions of TLS were signed for, each as a whole message.
    fn signed_whole_messages(&self) {
        for kind in ["tls13-certificate-verify", "tls12-server-key-exchange"] {
            // A worker that began before the reload may answer first, with its own key.
            eventually(&format!("{kind} is signed"), || {
                self.shakes_hands();
                self.signed().iter().any(|signed| signed == kind).then_some(())
            });
        }
        let signed = self.signed();
        assert!(!signed.iter().any(|s| s == "digest"), "{signed:?}");
    }
}

/// The key algorithms that public CAs and web servers have in common.
const ALGORITHMS: [&str; 2] = ["ec-p256", "rsa-2048"];

fn apache() -> World<Apache> {
    apache_with(&[])
}

/// One whose Apache has further variables.
fn apache_with(more: &[(&str, &str)]) -> World<Apache> {
    World::with(Keyless::new(), |keyless| {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = keyless.environment().into_iter().chain(more).collect();
        let apache = Apache::start_with(SITE, environment);
        let (https, install) = (apache.https, apache.install());
        (apache, https, install)
    })
}

fn haproxy() -> World<Haproxy> {
    World::with(Keyless::new(), |keyless| {
        let haproxy = Haproxy::start_with(keyless.environment());
        let (https, install) = (haproxy.https, haproxy.install());
        (haproxy, https, install)
    })
}

/// nginx that serves a certificate of nobody's, with a configuration for the engine: the key can
/// be found once there is one, so the agent's first reload makes nginx take it.
fn nginx_by_engine() -> World<Nginx> {
    let world = World::with(Keyless::by_engine(), |keyless| {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let nginx = Nginx::start_with(SITE, http, keyless.environment());
        let (https, install) = (nginx.https, Install::into(&nginx));
        (nginx, https, install)
    });
    world.server.configure_engine(&world.agent);
    world
}

#[test]
fn apache_serves_ec_and_rsa_certificates_whose_keys_are_in_the_hsm() {
    for algorithm in ALGORITHMS {
        let world = apache();
        world.issue(&["--algorithm", algorithm]);
        world.shakes_hands();
        world.signed_whole_messages();
    }
}

#[test]
fn haproxy_serves_ec_and_rsa_certificates_whose_keys_are_in_the_hsm() {
    for algorithm in ALGORITHMS {
        let world = haproxy();
        world.issue(&["--algorithm", algorithm]);
        world.shakes_hands();
        world.signed_whole_messages();
    }
}

#[test]
fn nginx_by_the_engine_serves_ec_and_rsa_certificates_whose_keys_are_in_the_hsm() {
    for algorithm in ALGORITHMS {
        let world = nginx_by_engine();
        world.issue(&["--algorithm", algorithm, "--tls-use", "digest"]);
        world.shakes_hands();
        let signed = world.signed();
        assert!(!signed.is_empty() && signed.iter().all(|s| s == "digest"), "{signed:?}");
    }
}

#[test]
fn apache_takes_a_renewed_chain_and_a_new_key_by_a_graceful_reload() {
    let world = apache();
    let first = world.issue(&["--rotate-key"]);
    let second = world.renew();
    assert_ne!(first["key_id"], second["key_id"]);
    world.wait_serves(&second);
    world.shakes_hands();
}

#[test]
fn haproxy_takes_a_renewed_chain_and_a_new_key_by_a_graceful_reload() {
    let world = haproxy();
    let first = world.issue(&["--rotate-key"]);
    let second = world.renew();
    assert_ne!(first["key_id"], second["key_id"]);
    world.wait_serves(&second);
    world.shakes_hands();
}

#[test]
fn nginx_by_the_engine_takes_a_renewed_chain_for_the_same_key() {
    let world = nginx_by_engine();
    let first = world.issue(&["--tls-use", "digest"]);
    let second = world.renew();
    assert_eq!(first["key_id"], second["key_id"]);
    world.wait_serves(&second);
    world.shakes_hands();
}

/// Without the file that the agent writes: Apache asks OpenSSL's STORE, where there is no engine.
#[test]
fn apache_serves_a_key_that_its_configuration_names_by_uri() {
    let world = apache_with(&[("OPENSSL_ENGINES", "/nowhere")]);
    world.issue(&[]);
    let file = world.server.file("apache.conf");
    let config = fs::read_to_string(&file).unwrap();
    let key = format!("SSLCertificateKeyFile {}\n", world.server.file("key.pem").display());
    assert!(config.contains(&key), "{config}");
    // Without the token: OpenSSL's provider has read its name when Apache started, before there was an
    // agent that could say it.
    let uri = format!("pkcs11:object={CERTIFICATE};type=private");
    fs::write(&file, config.replace(&key, &format!("SSLCertificateKeyFile \"{uri}\"\n"))).unwrap();
    fs::remove_file(world.server.file("key.pem")).unwrap();
    world.server.reload();
    world.server.kill_workers();
    world.signed_whole_messages();
}

#[test]
fn apache_goes_on_with_new_workers_where_its_workers_were_killed() {
    let world = apache();
    world.issue(&[]);
    world.shakes_hands();
    world.server.kill_workers();
    world.shakes_hands();
}

#[test]
fn nginx_by_the_engine_goes_on_with_new_workers_where_its_workers_were_killed() {
    let world = nginx_by_engine();
    world.issue(&["--tls-use", "digest"]);
    world.shakes_hands();
    world.server.kill_workers();
    world.shakes_hands();
}

/// Its master ends with its worker, by design; systemd's unit starts both anew.
#[test]
fn haproxy_started_anew_after_its_worker_was_killed_goes_on_with_the_vaults_key() {
    let mut world = haproxy();
    world.issue(&[]);
    world.shakes_hands();
    world.server.kill_worker();
    world.server.restart_when_ended();
    world.shakes_hands();
}
