//! What CAs make of orders that say what they replace.

use std::sync::Arc;

use serde_json::json;
use testkit::{
    fault_ca::{Answer, Fault, Place},
    process::eventually,
};

use super::scene::Scene;

/// How many requests for an order have said that something is replaced.
fn replacing(scene: &Scene) -> usize {
    let seen = scene.ca.proxy.seen(Place::NewOrder).into_iter();
    seen.filter(|seen| seen.payload()["replaces"].is_string()).count()
}

fn wait_failed(scene: &Scene, attempts: u64) {
    eventually("an attempt fails", || {
        let shown = scene.certificate("shop");
        let failed = shown["failed_attempts"].as_u64().unwrap() > attempts;
        (failed && shown["progress"] == "backoff").then_some(())
    });
}

#[test]
fn a_ca_that_does_not_take_what_is_replaced_gets_the_order_without_and_is_not_told_again() {
    let scene = Scene::new(&["shop"]);
    scene.issue("shop", &[]);
    // Pebble alone, which passes over what it does not know: RFC 9773 has whoever takes it say so.
    scene.ca.proxy.fail(Place::NewOrder, Fault::Changed(Arc::new(|order| order)));
    scene.ca.proxy.fail(Place::Finalize, Fault::Answer(Answer::problem(400, "badCSR", "no")));
    scene.vault.ok(&["cert", "renew", "shop", "--force"]);
    wait_failed(&scene, 0);
    let told = replacing(&scene);
    assert!(told > 0);
    let last = scene.ca.proxy.seen(Place::NewOrder).pop().unwrap();
    assert!(last.payload()["replaces"].is_null(), "{last:?}");
    scene.vault.ok(&["cert", "renew", "shop"]);
    wait_failed(&scene, 1);
    assert_eq!(replacing(&scene), told);
    scene.ca.proxy.heal();
    scene.vault.ok(&["cert", "renew", "shop", "--wait"]);
    assert_eq!(replacing(&scene), told);
    // Of the next version nothing is known yet.
    let second = scene.id("shop");
    scene.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(scene.ca.placed().pop().unwrap().replaces, Some(second));
}

#[test]
fn a_fallback_account_orders_without_a_profile_that_its_ca_does_not_offer() {
    let scene = Scene::new(&["shop"]);
    let (root, directory) = (scene.pebble.root().display().to_string(), scene.pebble.directory());
    let register = ["account", "register", "plain", "--directory", &directory];
    scene.vault.ok(&[&register[..], &["--ca-root", &root, "--agree-tos"]].concat());
    let refusal = Answer::problem(403, "rejectedIdentifier", "not here");
    scene.ca.proxy.fail(Place::NewOrder, Fault::Answer(refusal));
    let ended = scene.order("shop", &["--profile", "classic", "--fallback", "plain"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    eventually("the other account's turn", || {
        (scene.certificate("shop")["orders_with"] == "plain").then_some(())
    });
    scene.vault.ok(&["cert", "renew", "shop", "--wait"]);
    let shown = scene.certificate("shop");
    assert_eq!((&shown["issued_by"], &shown["profile"]), (&json!("plain"), &json!("classic")));
    // Of another CA's certificate this one is not told that it is replaced.
    scene.ca.proxy.heal();
    scene.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    let placed = scene.ca.placed().pop().unwrap();
    assert_eq!((placed.replaces, placed.profile.as_deref()), (None, Some("classic")));
}
