//! What a CA says of several names is told of each, and an order that is not ready yet gets the time.

use serde_json::json;
use testkit::{
    fault_ca::{Answer, Fault, Place},
    process::{eventually, free_port},
};

use super::world::World;

const NAMES: [&str; 3] = ["a.shop.example", "b.shop.example", "c.shop.example"];

fn domains() -> Vec<&'static str> {
    NAMES.iter().flat_map(|name| ["--domain", *name]).collect()
}

#[test]
fn every_name_that_the_ca_does_not_take_is_named_with_its_reason() {
    let world = World::with_agent(&["shop"]);
    let sub = |name: &str, kind: &str, detail: &str| {
        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail,
            "identifier": { "type": "dns", "value": name } })
    };
    let problem = json!({ "type": "urn:ietf:params:acme:error:compound", "detail": "two are bad",
        "subproblems": [sub(NAMES[0], "caa", "CAA forbids"),
            sub(NAMES[2], "rejectedIdentifier", "on a \u{1b}[31mblock\u{1b}[0m list")] });
    world.ca.fail(Place::NewOrder, Fault::Answer(Answer::document(403, &problem)));
    assert_eq!(world.issue("shop", "vault", &domains()).code, 0);
    let failed = world.wait_failed("shop", 0);
    let error = failed["last_error"].as_str().unwrap();
    for said in
        ["two are bad (compound)", "a.shop.example: CAA forbids (caa)", "c.shop.example: on a"]
    {
        assert!(error.contains(said), "{said}: {error}");
    }
    assert!(!error.contains("b.shop.example") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn every_name_that_is_not_proven_is_named() {
    // The agent answers where the CA does not ask.
    let world = World::bare();
    let elsewhere = format!("[http01]\nlisten = \"127.0.0.1:{}\"\n", free_port());
    let world = world.ready_with(|agent| {
        let install = testkit::world::Install::file("shop", agent.file("shop.pem"));
        install.toml() + &elsewhere
    });
    assert_eq!(world.issue("shop", "vault", &domains()).code, 0);
    let failed = world.wait_failed("shop", 0);
    let error = failed["last_error"].as_str().unwrap();
    for name in NAMES {
        assert!(error.contains(&format!("{name}: ")), "{name}: {error}");
    }
    assert!(error.contains("3 of the order's names"), "{error}");
}

#[test]
fn an_order_that_is_not_ready_after_all_is_finalized_once_it_is() {
    let world = World::with_agent(&["shop"]);
    // The CA has said that it is ready, and takes that back.
    let not_yet = Answer::problem(403, "orderNotReady", "not yet");
    world.ca.fail(Place::Finalize, Fault::Answer(not_yet.clone()));
    assert_eq!(world.issue("shop", "vault", &["--domain", "shop.example"]).code, 0);
    let failed = world.wait_failed("shop", 0);
    assert!(failed["last_error"].as_str().unwrap().contains("not yet"), "{failed}");
    assert!(world.ca.seen(Place::Finalize).len() >= 2, "it was not tried again");
    world.ca.heal();

    // One that takes it back once issues all the same, in the same attempt.
    world.ca.once(Place::Finalize, Fault::Answer(not_yet));
    world.vault.ok(&["cert", "renew", "shop"]);
    let issued = eventually("it is issued", || {
        let now = world.certificate("shop");
        (now["version"] == 1 || now["failed_attempts"] == 2).then_some(now)
    });
    assert_eq!(issued["version"], 1, "{issued}");
}
