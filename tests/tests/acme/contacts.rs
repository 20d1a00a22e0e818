//! An account's contacts and its agreement to terms change at the CA and here, or neither.

use serde_json::{Value, json};
use testkit::fault_ca::{Answer, Fault, Place};

use super::world::{ACCOUNT, World};

const NEW: &str = "mailto:new@shop.example";

fn update(world: &World, more: &[&str]) -> testkit::programs::Ended {
    world.vault.ctl(&[&["-o", "json", "account", "update", ACCOUNT], more].concat())
}

/// What the vault says: the contacts, and those that the CA has not confirmed.
fn contacts(world: &World) -> (Value, Value) {
    let account = world.account();
    (account["contacts"].clone(), account["pending_contacts"].clone())
}

#[test]
fn contacts_are_replaced_and_taken_away() {
    let world = World::bare();
    assert_eq!(world.register(&["--agree-tos", "--contact", "mailto:old@shop.example"]).code, 0);
    let both = ["--contact", NEW, "--contact", "mailto:two@shop.example"];
    let cases: [(&[&str], Value); 2] =
        [(&both, json!([NEW, "mailto:two@shop.example"])), (&["--no-contact"], json!([]))];
    for (more, expected) in cases {
        let ended = update(&world, more);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.json()["contacts"], expected);
        assert_eq!(contacts(&world), (expected.clone(), Value::Null));
        let told = world.ca.seen(Place::Account);
        assert_eq!(told.last().unwrap().payload(), json!({ "contact": expected }));
    }
}

#[test]
fn contacts_that_cannot_be_leave_those_before() {
    let world = World::bare();
    let old = "mailto:old@shop.example";
    assert_eq!(world.register(&["--agree-tos", "--contact", old]).code, 0);
    update(&world, &[]).refused(2, "--contact");
    update(&world, &["--contact", NEW, "--no-contact"]).refused(2, "--no-contact");
    update(&world, &["--contact", "ops"]).refused(2, "is no URL");
    assert!(world.ca.seen(Place::Account).is_empty(), "the CA was told of it");
    let refusal = Answer::problem(400, "invalidContact", "no such mailbox");
    world.ca.fail(Place::Account, Fault::Answer(refusal));
    update(&world, &["--contact", NEW]).refused(2, "no such mailbox").refused(2, "account update");
    world.ca.heal();
    assert_eq!(contacts(&world), (json!([old]), Value::Null));
    world.vault.ctl(&["account", "update", "nobody", "--no-contact"]).refused(3, "nobody");
}

#[test]
fn contacts_whose_answer_is_lost_are_told_again_by_whoever_uses_the_account() {
    let mut world = World::with_agent(&["shop"]);
    for fault in [Fault::Lost, Fault::Cut, Fault::Answer(Answer::html(500))] {
        world.ca.fail(Place::Account, fault);
        update(&world, &["--contact", NEW]).refused(6, "told again");
        assert_eq!(contacts(&world), (json!([]), json!([NEW])));
        // That the CA does not take them now stops no order.
        world.vault.kill();
        world.vault.start();
        assert_eq!(contacts(&world), (json!([]), json!([NEW])));
        if world.vault.json(&["cert", "list"]) == json!([]) {
            let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
            assert_eq!(ended.code, 0, "{ended:?}");
            assert_eq!(contacts(&world), (json!([]), json!([NEW])));
        }
        world.ca.heal();
        world.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
        assert_eq!(contacts(&world), (json!([NEW]), Value::Null));
        assert_eq!(update(&world, &["--no-contact"]).code, 0);
    }
}

#[test]
fn new_terms_are_named_and_agreed_to() {
    let world = World::with_agent(&["shop"]);
    let terms = "https://ca.example/terms/2";
    let problem = json!({ "type": "urn:ietf:params:acme:error:userActionRequired",
        "detail": "terms of service have changed", "instance": "https://ca.example/agree?a=1" });
    let wanted = Answer::document(403, &problem)
        .header("link", &format!("<{terms}>;rel=\"terms-of-service\""));
    world.ca.fail(Place::NewOrder, Fault::Answer(wanted));
    assert_eq!(world.issue("shop", "vault", &["--domain", "shop.example"]).code, 0);
    let failed = world.wait_failed("shop", 0);
    let error = failed["last_error"].as_str().unwrap();
    for said in [terms, "https://ca.example/agree?a=1", "vaultctl account agree"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    world.ca.heal();
    world.vault.ok(&["account", "agree", ACCOUNT]);
    let told = world.ca.seen(Place::Account).last().unwrap().payload();
    assert_eq!(told["termsOfServiceAgreed"], true, "{told}");
    world.vault.ok(&["cert", "renew", "shop"]);
    world.wait_issued("shop");
    world.vault.ctl(&["account", "agree", "nobody"]).refused(3, "nobody");
}
