//! An account's key is replaced, or stays; whatever happens, the account is not lost.

use std::thread;

use testkit::{
    fault_ca::{Answer, Fault, Place},
    process::eventually,
};

use super::world::{ACCOUNT, World};

fn thumbprint(world: &World) -> String {
    world.account()["thumbprint"].as_str().unwrap().to_owned()
}

#[test]
fn an_account_rolls_over_to_another_algorithm_and_back_and_orders_on() {
    let world = World::with_agent(&["first", "second", "third"]);
    let issue = |name: &str, alg: &str| {
        world.ca.forget();
        let domain = format!("{name}.example");
        let ended = world.issue(name, "vault", &["--domain", &domain, "--wait"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(world.ca.seen(Place::NewOrder).last().unwrap().header()["alg"], alg);
    };
    let (url, first) = (world.account()["url"].clone(), thumbprint(&world));
    issue("first", "ES256");
    world.vault.ok(&["account", "rollover", ACCOUNT, "--algorithm", "rsa-2048"]);
    let second = thumbprint(&world);
    issue("second", "RS256");
    world.vault.ok(&["account", "rollover", ACCOUNT, "--algorithm", "ec-p256"]);
    let third = thumbprint(&world);
    issue("third", "ES256");
    assert!(first != second && second != third && first != third, "a key came twice");
    assert_eq!(world.account()["url"], url, "it is the same account");
}

#[test]
fn a_rollover_that_the_ca_refuses_leaves_the_key_and_nothing_else() {
    let world = World::with_agent(&["shop"]);
    let (before, key) = (world.made(), thumbprint(&world));
    for (answer, code, why) in [
        (Answer::problem(403, "unauthorized", "not you"), 7, "not you"),
        (Answer::problem(400, "badPublicKey", "too weak"), 2, "too weak"),
        (Answer::problem(429, "rateLimited", "slowly").header("retry-after", "60"), 6, "slowly"),
    ] {
        world.ca.fail(Place::Rollover, Fault::Answer(answer));
        world.vault.ctl(&["account", "rollover", ACCOUNT]).refused(code, why);
        world.ca.heal();
        assert_eq!(world.made(), before, "{why}");
    }
    assert_eq!(thumbprint(&world), key);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_rollover_whose_answer_is_lost_is_settled_by_asking() {
    let world = World::with_agent(&["cut", "lost"]);
    for (name, fault, rolled_over) in [("cut", Fault::Cut, false), ("lost", Fault::Lost, true)] {
        let before = thumbprint(&world);
        world.ca.fail(Place::Rollover, fault);
        world.vault.ctl(&["account", "rollover", ACCOUNT]).refused(6, "CA 127.0.0.1");
        world.ca.heal();
        // While the CA says nothing of use, both keys are kept.
        let both = world.vault.keys_in_token();
        for answer in [
            Answer::html(200),
            Answer::problem(500, "serverInternal", "later"),
            Answer::problem(429, "rateLimited", "slowly"),
            Answer::problem(403, "userActionRequired", "new terms"),
            Answer::problem(401, "unauthorized", "not you"),
        ] {
            world.ca.fail(Place::NewAccount, Fault::Answer(answer.clone()));
            assert_ne!(world.vault.ctl(&["account", "rollover", ACCOUNT]).code, 0, "{answer:?}");
            world.ca.heal();
            assert_eq!(world.vault.keys_in_token(), both, "{name}: {answer:?}");
        }
        // The next use asks which key counts.
        let domain = format!("{name}.example");
        let ended = world.issue(name, "vault", &["--domain", &domain, "--wait"]);
        assert_eq!(ended.code, 0, "{name}: {ended:?}");
        assert_eq!(thumbprint(&world) != before, rolled_over, "{name}");
    }
}

#[test]
fn a_rollover_in_the_midst_of_an_order_is_not_undone() {
    let world = World::with_agent(&["shop"]);
    let before = thumbprint(&world);
    // The order waits for its chain; what it knows of the account is old by then.
    world.ca.fail(Place::Certificate, Fault::Held);
    assert_eq!(world.issue("shop", "vault", &["--domain", "shop.example"]).code, 0);
    eventually("the chain is asked for", || {
        (!world.ca.seen(Place::Certificate).is_empty()).then_some(())
    });
    world.vault.ok(&["account", "rollover", ACCOUNT]);
    let after = thumbprint(&world);
    assert_ne!(after, before);
    world.ca.heal();
    // Pebble may not take the old key's request any more; the next attempt is the new key's.
    world.wait_issued("shop");
    assert_eq!(thumbprint(&world), after, "the account has its old key back");
    world.vault.ok(&["account", "rollover", ACCOUNT]);
}

#[test]
fn nobody_takes_a_rollover_under_way_for_one_that_failed() {
    let mut world = World::bare();
    // The CA takes its time, and gets it.
    world.vault.reconfigure("request_timeout = \"5s\"", "request_timeout = \"100s\"");
    world.vault.stop();
    world.vault.start();
    let world = world.ready(&["shop"]);
    let before = thumbprint(&world);
    world.ca.fail(Place::Rollover, Fault::Held);
    thread::scope(|scope| {
        let rollover = || world.vault.ctl(&["account", "rollover", ACCOUNT]);
        let first = scope.spawn(rollover);
        eventually("the CA is told", || (!world.ca.seen(Place::Rollover).is_empty()).then_some(()));
        // An order and another rollover want the account now; the CA knows the old key only.
        let ended = world.issue("shop", "vault", &["--domain", "shop.example"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let second = scope.spawn(rollover);
        eventually("the order has its key and goes to the CA", || {
            let keys = world.vault.json(&["key", "list"]);
            keys.as_array().unwrap().iter().any(|key| key["name"] == "shop").then_some(())
        });
        world.ca.heal();
        for (what, ended) in [("first", first), ("second", second)] {
            let ended = ended.join().unwrap();
            assert_eq!(ended.code, 0, "{what}: {ended:?}");
        }
    });
    assert_ne!(thumbprint(&world), before);
    world.wait_issued("shop");
}
