//! Keyless with several nodes of a vault: where the one that is asked dies or falls silent, the next
//! one signs the same handshake.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{net::TcpListener, thread};

use testkit::{
    gate::Gate,
    keyless_world::{DEADLINE, KeylessWorld, Server},
    postgres::Postgres,
    process::eventually,
    tls,
    vault::Vault,
    world::{AGENT, SITE, wait_connected},
};

/// How often the vault was asked for a signature and has made it.
fn signed(vault: &Vault) -> usize {
    let records = vault.audit();
    records.iter().filter(|r| r["action"] == "key.sign.tls" && r["phase"] == "result").count()
}

/// Starts the agent anew, which knows these nodes now and asks the first.
fn restart(world: &mut KeylessWorld, addresses: Vec<String>) {
    world.agent.kill();
    world.agent.addresses = addresses;
    world.agent.start();
    wait_connected(&world.vault, AGENT);
}

/// A vault behind a gate as the first node, and the same without a gate as the second.
fn gated() -> (KeylessWorld, Gate) {
    let mut world = KeylessWorld::new(Server::Nginx, Vault::initialized());
    world.issue(&[]);
    let gate = Gate::before(world.vault.address);
    // Shorter than what a connection needs to find out by itself that nobody answers.
    world.agent.config = world.agent.config.replace(DEADLINE, "20s");
    let addresses = [gate.address, world.vault.address].map(|address| address.to_string());
    restart(&mut world, addresses.to_vec());
    world.agent.wait_log(&format!("signatures go here address=\"{}\"", gate.address));
    (world, gate)
}

/// A handshake whose signature the first node has made and cannot hand over; what happens then.
fn in_one_handshake(world: &KeylessWorld, gate: &mut Gate, then: impl FnOnce(&mut Gate)) {
    assert!(tls::handshake(world.server.https(), SITE, "-tls1_3").is_some(), "all is well");
    let before = signed(&world.vault);
    gate.withhold_answers();
    let https = world.server.https();
    let visitor = thread::spawn(move || tls::handshake(https, SITE, "-tls1_3"));
    eventually("the first node has signed", || (signed(&world.vault) > before).then_some(()));
    then(gate);
    assert!(visitor.join().unwrap().is_some(), "the handshake that was under way failed");
    assert_eq!(signed(&world.vault), before + 2, "it was signed by both");
}

#[test]
fn a_node_that_dies_within_a_handshake_costs_no_handshake() {
    let (world, mut gate) = gated();
    in_one_handshake(&world, &mut gate, Gate::cut);
}

#[test]
fn a_node_that_falls_silent_within_a_handshake_costs_no_handshake() {
    let (world, mut gate) = gated();
    in_one_handshake(&world, &mut gate, |_| {});
}

#[test]
fn a_node_that_accepts_and_never_answers_is_passed_over() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = hole.local_addr().unwrap().to_string();
    let mut world = KeylessWorld::new(Server::Nginx, Vault::initialized());
    world.issue(&[]);
    let second = world.vault.address.to_string();
    restart(&mut world, vec![first, second]);
    assert!(tls::handshake(world.server.https(), SITE, "-tls1_3").is_some());
}

/// Two nodes of one vault: one store, one HSM.
fn nodes(postgres: &Postgres) -> (Vault, Vault) {
    let (mut first, mut second) = (Vault::new(), Vault::new());
    first.reconfigure(&format!("sqlite:{}", first.path("vault.db")), &postgres.database());
    second.config = first.config.clone();
    for file in ["admin.sock", "audit.log"] {
        second.reconfigure(&first.path(file), &second.path(file));
    }
    second.reconfigure(&first.address.to_string(), &second.address.to_string());
    first.start();
    first.ok(&["init"]);
    second.start();
    (first, second)
}

#[test]
fn a_node_that_is_killed_under_load_costs_no_handshake() {
    let postgres = Postgres::shared();
    let (first, second) = nodes(&postgres);
    let addresses = [first.address, second.address].map(|address| address.to_string());
    let mut world = KeylessWorld::new(Server::Nginx, first);
    world.issue(&[]);
    restart(&mut world, addresses.to_vec());
    let load = world.load();
    load.unnoticed("the first node is killed", || world.vault.kill());
    assert!(signed(&second) > 0, "the second node was not asked");
}
