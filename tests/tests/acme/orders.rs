//! Orders: what they may name, how a CA that makes trouble is borne, how they go on, how they end.

use std::collections::BTreeSet;

use testkit::{
    fault_ca::{Answer, Fault, Place},
    pebble::Behaviour,
    process::eventually,
    programs::must,
};

use super::world::World;

#[test]
fn a_certificate_names_hosts_and_addresses() {
    let world = World::with_agent(&["shop"]);
    let names = ["--domain", "shop.example", "--domain", "www.shop.example", "--ip", "127.0.0.1"];
    let ended = world.issue("shop", "agent", &[&names[..], &["--wait"]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let chain = world.vault.file("chain.pem");
    std::fs::write(&chain, world.vault.ok(&["cert", "chain", "shop"])).unwrap();
    let chain = chain.display().to_string();
    let shown = must("openssl", &["x509", "-noout", "-ext", "subjectAltName", "-in", &chain]);
    let named: BTreeSet<_> =
        shown.lines().skip(1).flat_map(|line| line.split(", ")).map(str::trim).collect();
    let expected = ["DNS:shop.example", "DNS:www.shop.example", "IP Address:127.0.0.1"];
    assert_eq!(named, BTreeSet::from(expected));
}

#[test]
fn a_ca_that_rejects_half_of_all_nonces_issues_all_the_same() {
    let behaviour = Behaviour { nonce_reject: 50, ..Behaviour::default() };
    let world = World::behaving(behaviour).ready(&["shop"]);
    let ended = world.issue("shop", "agent", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let shop = world.certificate("shop");
    assert_eq!((&shop["version"], &shop["failed_attempts"]), (&1.into(), &0.into()));
    // Each request was signed anew, none sent twice.
    let posts = world.ca.all_seen().into_iter().filter(|seen| seen.method == "POST");
    let nonces: Vec<_> = posts.map(|post| post.header()["nonce"].to_string()).collect();
    assert_eq!(nonces.iter().collect::<BTreeSet<_>>().len(), nonces.len(), "a nonce came twice");
}

#[test]
fn a_revocation_reaches_the_ca_with_its_reason_and_counts_once() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    let serial = ended.json()["serial"].as_str().unwrap().to_owned();
    let revoke = |reason| {
        world.vault.ctl(&["cert", "revoke", "shop", "--yes", "--no-replace", "--reason", reason])
    };
    revoke("because").refused(2, "because");
    assert_eq!(world.pebble.certificate_status(&serial)["Status"], "Valid");
    let ended = revoke("key-compromise");
    assert_eq!(ended.code, 0, "{ended:?}");
    // RFC 5280 section 5.3.1: keyCompromise is 1.
    let status = world.pebble.certificate_status(&serial);
    assert_eq!((&status["Status"], &status["Reason"]), (&"Revoked".into(), &1.into()));
    assert_eq!(world.certificate("shop")["status"], "revoked");
    assert_eq!(world.vault.json(&["cert", "history", "shop"])[0]["revoked"], "key-compromise");
    let asked = world.ca.seen(Place::Revoke).len();
    revoke("superseded").refused(1, "revoked");
    assert_eq!(world.ca.seen(Place::Revoke).len(), asked, "the CA was told again");
}

#[test]
fn a_revocation_whose_answer_is_lost_is_found_to_be_done() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    let serial = ended.json()["serial"].as_str().unwrap().to_owned();
    let revoke = ["cert", "revoke", "shop", "--yes", "--no-replace", "--reason", "superseded"];
    world.ca.fail(Place::Revoke, Fault::Lost);
    world.vault.ok(&revoke);
    assert_eq!(world.pebble.certificate_status(&serial)["Status"], "Revoked");
    assert_eq!(world.certificate("shop")["status"], "revoked");
}

#[test]
fn a_revocation_that_the_ca_refuses_is_none() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for (answer, code) in [
        (Answer::problem(403, "unauthorized", "not yours"), 7),
        (Answer::problem(400, "badRevocationReason", "not this one"), 2),
        (Answer::problem(500, "serverInternal", "later"), 6),
    ] {
        world.ca.fail(Place::Revoke, Fault::Answer(answer));
        let revoke = ["cert", "revoke", "shop", "--yes", "--no-replace", "--reason", "superseded"];
        world.vault.ctl(&revoke).refused(code, "CA 127.0.0.1");
        world.ca.heal();
        assert_eq!(world.certificate("shop")["status"], "issued");
    }
}

/// The CA was asked about the one order that was placed, and one version came of it.
fn one_order_one_version(world: &World, name: &str) {
    let orders: BTreeSet<_> = world.ca.seen(Place::Order).into_iter().map(|s| s.path).collect();
    assert_eq!(orders.len(), 1, "{name}: {orders:?}");
    assert_eq!(world.vault.json(&["cert", "history", name]).as_array().unwrap().len(), 1);
}

#[test]
fn an_order_survives_a_restart_and_a_ca_that_is_away() {
    let mut world = World::with_agent(&["authorize", "finalize", "finalized", "download"]);
    let away = Fault::Answer(Answer::html(503));
    for (name, place, fault) in [
        ("authorize", Place::Authorization, away.clone()),
        ("finalize", Place::Finalize, away.clone()),
        ("finalized", Place::Finalize, Fault::Lost),
        ("download", Place::Certificate, away.clone()),
    ] {
        world.ca.forget();
        world.ca.fail(place, fault);
        if name == "finalized" {
            // Else the order would show that it is.
            world.ca.fail(Place::Order, away.clone());
        }
        let domain = format!("{name}.example");
        assert_eq!(world.issue(name, "agent", &["--domain", &domain]).code, 0);
        let failed = world.wait_failed(name, 0);
        assert_eq!(failed["version"], 0, "{failed}");
        world.vault.stop();
        world.vault.start();
        world.ca.heal();
        world.vault.ok(&["cert", "renew", name]);
        world.wait_held(name, 1);
        one_order_one_version(&world, name);
    }
}

#[test]
fn an_order_goes_on_when_a_ca_that_froze_goes_on() {
    let mut world = World::with_agent(&["shop"]);
    world.ca.fail(Place::Finalize, Fault::Held);
    assert_eq!(world.issue("shop", "vault", &["--domain", "shop.example"]).code, 0);
    eventually("the order is to be finalized", || {
        (!world.ca.seen(Place::Finalize).is_empty()).then_some(())
    });
    world.pebble.freeze();
    world.ca.heal();
    let failed = world.wait_failed("shop", 0);
    assert!(failed["last_error"].as_str().unwrap().contains("no answer within"), "{failed}");
    world.vault.stop();
    world.vault.start();
    world.pebble.resume();
    world.wait_issued("shop");
    one_order_one_version(&world, "shop");
}
