//! A registration that meets a CA in trouble: one clear error, and either nothing is there or the
//! same command completes what was begun.

use serde_json::json;
use testkit::fault_ca::{Answer, Fault, Place};

use super::world::World;

/// What nobody has done: the CA says so, or was never asked.
fn refusals() -> Vec<(Place, Fault, i32, &'static str)> {
    let terms = Answer::problem(403, "userActionRequired", "agree to the new terms")
        .header("link", "<https://ca.example/terms>; rel=\"terms-of-service\"");
    let subproblems = json!({
        "type": "urn:ietf:params:acme:error:invalidContact", "detail": "some contacts are bad",
        "subproblems": [{ "type": "urn:ietf:params:acme:error:invalidContact",
            "detail": "no such mailbox", "identifier": { "type": "dns", "value": "mail.example" } }]
    });
    let endless = Answer::html(200).body(" ".repeat(2 << 20));
    let limited = Answer::problem(429, "rateLimited", "too many accounts");
    vec![
        (Place::Directory, Fault::Answer(Answer::html(200)), 6, "no ACME directory"),
        (Place::Directory, Fault::Answer(Answer::html(404)), 6, "404"),
        (Place::Directory, Fault::Answer(Answer::html(500)), 6, "500"),
        (
            Place::Directory,
            Fault::Answer(Answer::document(200, &json!({}))),
            6,
            "no ACME directory",
        ),
        (Place::Directory, Fault::Answer(endless), 6, "cannot be read"),
        (Place::Directory, Fault::Cut, 6, "CA 127.0.0.1"),
        (Place::Directory, Fault::Silence, 6, "no answer within"),
        (Place::NewAccount, Fault::Answer(terms), 2, "agree to the new terms"),
        (
            Place::NewAccount,
            Fault::Answer(Answer::document(400, &subproblems)),
            2,
            "no such mailbox",
        ),
        (Place::NewAccount, Fault::Answer(limited.clone()), 6, "too many accounts"),
        (Place::NewAccount, Fault::Answer(limited.header("retry-after", "3600")), 6, "again in 1h"),
        (Place::NewAccount, Fault::Answer(Answer::html(429)), 6, "429"),
        (Place::NewAccount, Fault::Answer(Answer::problem(403, "unauthorized", "no")), 2, "no"),
        (Place::NewAccount, Fault::Answer(Answer::problem(400, "malformed", "what?")), 2, "what?"),
    ]
}

#[test]
fn what_a_ca_refuses_leaves_nothing() {
    let world = World::bare();
    let before = world.made();
    for (place, fault, code, why) in refusals() {
        world.ca.fail(place, fault);
        world.register(&["--agree-tos"]).refused(code, why);
        world.ca.heal();
        assert_eq!(world.made(), before, "{why}");
    }
    // The name is free, and the CA has no account of ours.
    let ended = world.register(&["--agree-tos"]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_registration_whose_outcome_is_unknown_is_completed_with_the_same_key() {
    for fault in [
        Fault::Answer(Answer::html(200)),
        Fault::Answer(Answer::html(500)),
        Fault::Answer(Answer::problem(500, "serverInternal", "later")),
        Fault::Silence,
        Fault::Cut,
        Fault::Lost,
    ] {
        let world = World::bare();
        world.ca.fail(Place::NewAccount, fault);
        world.register(&["--agree-tos"]).refused(6, "CA 127.0.0.1").refused(6, "same command");
        let pending = world.account();
        assert_eq!(pending["status"], "pending");
        let key = world.made();
        // Nothing is ordered with it meanwhile.
        world.issue("shop", "vault", &["--domain", "shop.example"]).refused(1, "pending");
        world.ca.heal();
        let ended = world.register(&["--agree-tos"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let account = world.account();
        assert_eq!(account["status"], "valid");
        assert_eq!(account["key_id"], pending["key_id"], "a second key was made");
        assert_eq!(world.vault.keys_in_token(), *key.in_token(), "a second key was made");
    }
}

#[test]
fn a_registration_whose_outcome_is_unknown_survives_a_restart() {
    let mut world = World::bare();
    world.ca.fail(Place::NewAccount, Fault::Lost);
    world.register(&["--agree-tos"]).refused(6, "same command");
    let pending = world.account();
    world.vault.stop();
    world.vault.start();
    world.ca.heal();
    let ended = world.register(&["--agree-tos"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.account()["key_id"], pending["key_id"]);
}
