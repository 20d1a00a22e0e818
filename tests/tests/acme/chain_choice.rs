//! Of the chains that a CA offers, the preferred one is taken; where it is not offered, the default one.

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::{
    fault_ca::{Answer, Fault, Place},
    pebble::Behaviour,
};
use x509_cert::der::Decode as _;

use super::world::{World, leaf};

/// A CA with three chains for each certificate.
fn world() -> World {
    let behaviour = Behaviour { alternate_roots: 2, ..Behaviour::default() };
    World::behaving(behaviour).ready(&["shop", "other"])
}

/// The common name of the root of one of the CA's chains.
fn root(world: &World, chain: u32) -> String {
    let root = leaf(&world.pebble.root_of(chain));
    root.tbs_certificate().subject().common_name().unwrap().unwrap().value().into_owned()
}

fn topmost(chain: &str) -> Vec<u8> {
    let all = CertificateDer::pem_slice_iter(chain.as_bytes());
    all.last().expect("a certificate").expect("PEM").to_vec()
}

/// Who has issued the topmost certificate of what is in force.
fn in_force(world: &World, name: &str) -> String {
    let top = topmost(&world.vault.ok(&["cert", "chain", name]));
    let top = x509_cert::Certificate::from_der(&top).unwrap();
    top.tbs_certificate().issuer().common_name().unwrap().unwrap().value().into_owned()
}

fn note(shown: &Value) -> &str {
    shown["chain_note"].as_str().unwrap()
}

#[test]
fn a_chain_is_chosen_by_its_root_s_name_or_its_topmost_fingerprint() {
    let world = world();
    let roots: Vec<_> = (0..3).map(|chain| root(&world, chain)).collect();
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(in_force(&world, "shop"), roots[0], "the default one");
    let mut fingerprints = Vec::new();
    for root in &roots[1..] {
        let update = ["cert", "update", "shop", "--preferred-chain", root];
        // What is in force is the old one, and that is said.
        assert!(note(&world.vault.json(&update)).contains(&roots[0]) || !fingerprints.is_empty());
        let shop = world.vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
        assert_eq!((in_force(&world, "shop"), note(&shop)), (root.clone(), ""));
        let top = topmost(&world.vault.ok(&["cert", "chain", "shop"]));
        fingerprints.push(hex::encode(Sha256::digest(top)));
    }
    // From the first order on, by fingerprint.
    let more = ["--domain", "other.example", "--preferred-chain", &fingerprints[0], "--wait"];
    let ended = world.issue("other", "agent", &more);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!((in_force(&world, "other"), note(&ended.json())), (roots[1].clone(), ""));
    let none = world.vault.json(&["cert", "update", "other", "--no-preferred-chain"]);
    assert_eq!(note(&none), "");
}

#[test]
fn a_chain_that_is_not_offered_leaves_the_default_one_and_a_note() {
    let world = world();
    let more = ["--domain", "shop.example", "--preferred-chain", "No Such Root", "--wait"];
    let ended = world.issue("shop", "vault", &more);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(in_force(&world, "shop"), root(&world, 0));
    let shop = world.certificate("shop");
    assert!(note(&shop).contains("No Such Root"), "{shop}");
    assert!(note(&shop).contains(&root(&world, 0)), "{shop}");
    assert_eq!(world.ca.done(Place::Alternate).len(), 2, "both were looked at");
}

#[test]
fn a_chain_is_chosen_after_a_restart_as_before_it() {
    let mut world = world();
    let second = root(&world, 2);
    world.ca.fail(Place::Alternate, Fault::Answer(Answer::html(503)));
    let more = ["--domain", "shop.example", "--preferred-chain", &second];
    assert_eq!(world.issue("shop", "vault", &more).code, 0);
    let failed = world.wait_failed("shop", 0);
    assert_eq!(failed["version"], 0, "the preferred chain is waited for");
    world.vault.kill();
    world.vault.start();
    world.ca.heal();
    world.vault.ok(&["cert", "renew", "shop"]);
    world.wait_held("shop", 1);
    assert_eq!(in_force(&world, "shop"), second);
    assert_eq!(world.ca.done(Place::Finalize).len(), 1, "the order went on");
}

#[test]
fn an_alternate_chain_that_is_away_for_long_stops_no_renewal() {
    let world = world();
    world.ca.fail(Place::Alternate, Fault::Cut);
    let second = root(&world, 2);
    let more = ["--domain", "shop.example", "--preferred-chain", &second];
    assert_eq!(world.issue("shop", "vault", &more).code, 0);
    for attempts in 0..3 {
        let failed = world.wait_failed("shop", attempts);
        assert_eq!(failed["version"], 0);
        world.vault.ok(&["cert", "renew", "shop"]);
    }
    let shop = world.wait_held("shop", 1);
    assert!(note(&shop).contains(&second), "{shop}");
    assert_eq!(in_force(&world, "shop"), root(&world, 0));
}
