//! Keyless, at boot: a web server that starts while its agent is down finds its keys by the list that
//! the agent keeps on disk, serves what needs no signature, and signs as soon as the agent is there.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::fs;

use rustix::process::Signal;
use testkit::{
    keyless_world::{KeylessWorld, Server},
    process::eventually,
    tls,
    vault::Vault,
    world::SITE,
};

/// What a web server waits for an agent that is not there, in milliseconds: its handshakes fail soon.
const IMPATIENT: &str = "500";

/// A name whose key lies on the web server's own disk.
const OWN: &str = "own.example";

fn shake_hands(world: &KeylessWorld) {
    for version in ["-tls1_3", "-tls1_2"] {
        eventually(&format!("a handshake with {version}"), || {
            tls::handshake(world.server.https(), SITE, version)
        });
    }
}

/// Its handshakes fail while the agent is down, as they must, and that does no lasting harm.
fn starts_before_its_agent(server: Server) {
    let mut world = KeylessWorld::with_patience(server, Vault::initialized(), IMPATIENT);
    world.issue(&[]);
    world.agent.kill();
    world.server.restart();
    for _ in 0..4 {
        assert_eq!(tls::handshake(world.server.https(), SITE, "-tls1_3"), None);
    }
    world.agent.start();
    shake_hands(&world);
}

#[test]
fn nginx_starts_before_its_agent() {
    starts_before_its_agent(Server::Nginx);
}

#[test]
fn nginx_by_the_engine_starts_before_its_agent() {
    starts_before_its_agent(Server::NginxByEngine);
}

#[test]
fn apache_starts_before_its_agent() {
    starts_before_its_agent(Server::Apache);
}

#[test]
fn nginx_starts_while_its_agent_hangs() {
    let mut world = KeylessWorld::new(Server::Nginx, Vault::initialized());
    world.issue(&[]);
    world.agent.process().signal(Signal::STOP);
    // Patient as it is, it would not come up in time if it waited.
    world.server.restart();
    world.agent.process().signal(Signal::CONT);
    shake_hands(&world);
}

/// No outage of the agent takes down a site that does not need it.
#[test]
fn nginx_started_without_its_agent_serves_what_lies_on_its_own_disk() {
    let mut world = KeylessWorld::with_patience(Server::Nginx, Vault::initialized(), IMPATIENT);
    world.issue(&[]);
    let conf = world.server.install().chain.with_file_name("nginx.conf");
    let (chain, key) = (conf.with_file_name("own.pem"), conf.with_file_name("own.key"));
    tls::placeholder(&chain, &key);
    let config = fs::read_to_string(&conf).unwrap();
    let inside = config.trim_end().strip_suffix('}').unwrap();
    let (https, chain, key) = (world.server.https(), chain.display(), key.display());
    let server = format!(
        "server {{ listen {https} ssl; server_name {OWN}; ssl_certificate {chain}; ssl_certificate_key {key}; }}"
    );
    fs::write(&conf, format!("{inside}{server}\n}}\n")).unwrap();
    world.agent.kill();
    world.server.restart();
    assert!(tls::handshake(https, OWN, "-tls1_2").is_some());
    assert_eq!(tls::handshake(https, SITE, "-tls1_2"), None, "it was signed by nobody");
    assert!(tls::handshake(https, OWN, "-tls1_2").is_some());
}

#[test]
fn haproxy_starts_before_its_agent() {
    starts_before_its_agent(Server::Haproxy);
}
