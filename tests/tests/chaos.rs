//! A CA behind a bad line: whatever goes wrong with requests, and whenever the vault is killed, each
//! certificate is issued, and once.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

#[path = "acme/world.rs"]
#[allow(dead_code)] // of other tests' world
mod world;

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{chaos::Chaos, fault_ca::Place, pebble::Behaviour};
use world::World;

/// How many certificates are ordered at once.
const CERTIFICATES: usize = 60;
/// How many requests of a hundred meet a fault.
const PERCENT: u64 = 15;
/// The disorder.
const SEED: u64 = 8555;
/// How long all of it may take: as long as the slowest machine needs.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Every certificate, after those whose last attempt failed are due at once: nobody waits for the
/// pauses of minutes and hours here.
fn look(world: &World) -> Vec<Value> {
    let all = world.vault.json(&["cert", "list"]).as_array().unwrap().clone();
    for waiting in all.iter().filter(|c| c["progress"] == "backoff") {
        world.vault.ok(&["cert", "renew", waiting["name"].as_str().unwrap()]);
    }
    all
}

fn issued(all: &[Value]) -> usize {
    all.iter().filter(|certificate| certificate["version"] != 0).count()
}

#[test]
fn every_certificate_is_issued_once_whatever_goes_wrong_on_the_way() {
    let names: Vec<_> = (0..CERTIFICATES).map(|n| format!("c{n:02}")).collect();
    let named: Vec<_> = names.iter().map(String::as_str).collect();
    let behaviour = Behaviour { nonce_reject: 5, ..Behaviour::default() };
    let mut world = World::behaving(behaviour).ready(&named);
    let before = world.vault.keys_in_token();
    world.ca.rage(Chaos::new(SEED, PERCENT));
    for name in &named {
        let domain = format!("{name}.example");
        assert_eq!(world.issue(name, "vault", &["--domain", &domain]).code, 0, "{name}");
    }
    let end = Instant::now() + PATIENCE;
    let mut kills = [CERTIFICATES / 4, CERTIFICATES / 2].into_iter().peekable();
    loop {
        let all = look(&world);
        let done = issued(&all);
        if done == CERTIFICATES {
            break;
        }
        if kills.next_if(|kill| done >= *kill).is_some() {
            world.vault.kill();
            world.vault.start();
        }
        let left = all.iter().filter(|c| c["version"] == 0).map(|c| &c["last_error"]);
        assert!(
            Instant::now() < end,
            "{done} are issued, of the others: {:?}",
            left.collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(kills.next(), None, "the vault was not killed often enough");
    let chaos = world.ca.calm();

    // It was as bad as it should be.
    let kinds: BTreeSet<_> = chaos.faults.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds.len(), 11, "{kinds:?}");
    let share = chaos.faults.len() as u64 * 100 / chaos.requests;
    assert!((PERCENT / 2..=PERCENT * 2).contains(&share), "{share} % of {}", chaos.requests);

    // One certificate each: what was finalized is what was stored, whatever answer was lost.
    let finalized = world.ca.done(Place::Finalize);
    assert_eq!(finalized.len(), CERTIFICATES, "{finalized:?}");
    let all = look(&world);
    let serials: BTreeSet<_> = all.iter().map(|c| c["serial"].as_str().unwrap()).collect();
    assert_eq!(serials.len(), CERTIFICATES);
    assert!(all.iter().all(|certificate| certificate["version"] == 1), "{all:?}");
    for serial in serials {
        assert_eq!(world.pebble.certificate_status(serial)["Status"], "Valid");
    }

    // One key each, in the token as in the store, and a log that holds.
    let keys = world.vault.json(&["key", "list"]);
    let keys = keys.as_array().unwrap().iter().filter(|key| key["state"] == "active");
    let ids: BTreeSet<_> = keys.map(|key| key["id"].as_str().unwrap().replace('-', "")).collect();
    let in_token = world.vault.keys_in_token();
    assert_eq!(ids, in_token);
    assert_eq!(in_token.len(), before.len() + CERTIFICATES, "a key is left over");
    world.vault.ok(&["audit", "verify"]);
}
