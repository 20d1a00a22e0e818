//! Revocation by the account's key or the certificate's, and what follows from it.

use serde_json::Value;
use testkit::{
    fault_ca::{Answer, Fault, Place},
    programs::Ended,
};
use x509_cert::der::Encode as _;

use super::world::{World, leaf};

fn issued(world: &World, custody: &str) -> Value {
    let ended = world.issue("shop", custody, &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.json()
}

fn revoke(world: &World, reason: &str, more: &[&str]) -> Ended {
    let revoke = ["-o", "json", "cert", "revoke", "shop", "--yes", "--reason", reason];
    world.vault.ctl(&[&revoke[..], more].concat())
}

/// What the CA says of a version: its status and the number of the reason.
fn at_the_ca(world: &World, version: &Value) -> (Value, Value) {
    let said = world.pebble.certificate_status(version["serial"].as_str().unwrap());
    (said["Status"].clone(), said["Reason"].clone())
}

/// The key that is certified now.
fn certified(world: &World) -> Vec<u8> {
    let chain = world.vault.ok(&["cert", "chain", "shop"]);
    leaf(&chain).tbs_certificate().subject_public_key_info().to_der().unwrap()
}

#[test]
fn a_certificate_s_own_key_revokes_it_without_an_account() {
    let world = World::with_agent(&["shop"]);
    let shop = issued(&world, "vault");
    // The account is none for the CA any more; what helps is said.
    let gone = Answer::problem(400, "accountDoesNotExist", "who are you?");
    world.ca.fail(Place::Revoke, Fault::Answer(gone));
    revoke(&world, "superseded", &[]).refused(3, "--by certificate-key");
    world.ca.heal();
    world.ca.forget();
    let ended = revoke(&world, "superseded", &["--by", "certificate-key", "--no-replace"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(at_the_ca(&world, &shop), ("Revoked".into(), 4.into()));
    let header = world.ca.seen(Place::Revoke)[0].header();
    assert!(header.get("kid").is_none() && header["jwk"]["kty"] == "EC", "{header}");
    let key = format!("key/{}", shop["key_id"].as_str().unwrap());
    let log = world.vault.audit();
    let signed =
        log.iter().filter(|r| r["action"] == "key.sign.revocation" && r["resource"] == key);
    let phases: Vec<_> = signed.map(|record| record["phase"].clone()).collect();
    assert!(phases.contains(&"intent".into()) && phases.contains(&"result".into()), "{phases:?}");
    revoke(&world, "superseded", &["--by", "certificate-key"]).refused(1, "revoked");
    revoke(&world, "superseded", &["--by", "me"]).refused(2, "me");
}

#[test]
fn a_key_that_is_not_in_the_hsm_revokes_nothing() {
    let world = World::with_agent(&["shop"]);
    let shop = issued(&world, "agent");
    revoke(&world, "superseded", &["--by", "certificate-key"]).refused(2, "not in the HSM");
    assert_eq!(at_the_ca(&world, &shop).0, "Valid");
    assert_eq!(world.certificate("shop")["status"], "issued");
    assert!(world.ca.seen(Place::Revoke).is_empty());
}

#[test]
fn what_is_revoked_is_replaced_at_once_unless_nobody_wants_it() {
    let world = World::with_agent(&["shop"]);
    let first = issued(&world, "vault");
    assert_eq!(revoke(&world, "superseded", &[]).code, 0);
    let second = world.wait_held("shop", 2);
    assert_eq!(second["status"], "issued");
    assert_eq!(second["key_id"], first["key_id"], "nothing is wrong with the key");
    assert_eq!(at_the_ca(&world, &first).0, "Revoked");
    for (version, reason, more) in
        [(2, "superseded", &["--no-replace"][..]), (3, "cessation-of-operation", &[])]
    {
        let before = world.certificate("shop")["renew_at"].clone();
        let revoked = revoke(&world, reason, more).json();
        assert_eq!((&revoked["status"], &revoked["renew_at"]), (&"revoked".into(), &before));
        assert_eq!(world.certificate("shop")["version"], version);
        world.vault.ok(&["cert", "renew", "shop", "--wait"]);
    }
}

#[test]
fn a_compromised_key_is_certified_no_more_whoever_keeps_it() {
    for (custody, by) in [("vault", "certificate-key"), ("vault", "account"), ("agent", "account")]
    {
        let mut world = World::with_agent(&["shop"]);
        let first = issued(&world, custody);
        let key = certified(&world);
        // The CA is away then, and the vault is killed: neither brings the old key back.
        world.ca.fail(Place::NewOrder, Fault::Answer(Answer::html(503)));
        let ended = revoke(&world, "key-compromise", &["--by", by]);
        assert_eq!(ended.code, 0, "{custody} {by}: {ended:?}");
        assert_eq!(at_the_ca(&world, &first), ("Revoked".into(), 1.into()));
        world.vault.kill();
        world.vault.start();
        world.ca.heal();
        world.wait_issued("shop");
        let second = world.wait_held("shop", 2);
        assert_ne!(certified(&world), key, "{custody} {by}");
        if custody == "vault" {
            assert_ne!(second["key_id"], first["key_id"]);
            let id = |key: &Value| key["key_id"].as_str().unwrap().replace('-', "");
            let in_token = world.vault.keys_in_token();
            assert!(in_token.contains(&id(&second)), "{second}");
            assert!(in_token.contains(&id(&first)), "what still serves is not destroyed yet");
        }
        // The next one stays with the good key.
        world.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
        let third = world.certificate("shop");
        assert!(custody == "agent" || third["key_id"] == second["key_id"], "{third}");
    }
}

#[test]
fn an_order_with_a_key_that_is_compromised_meanwhile_is_given_up() {
    let world = World::with_agent(&["shop"]);
    issued(&world, "vault");
    let key = certified(&world);
    world.ca.fail(Place::Finalize, Fault::Answer(Answer::html(503)));
    world.vault.ok(&["cert", "renew", "shop", "--force"]);
    world.wait_failed("shop", 0);
    assert_eq!(revoke(&world, "key-compromise", &["--no-replace"]).code, 0);
    world.ca.heal();
    world.vault.ok(&["cert", "renew", "shop"]);
    world.wait_held("shop", 2);
    assert_ne!(certified(&world), key);
}
