//! What proves control of a name is given up when an operator says so, and what an order leaves behind
//! is given up by itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{
    fault_ca::{Answer, Fault, Place, Seen},
    pebble::Behaviour,
    process::eventually,
};

use super::world::{ACCOUNT, World};

fn deauthorize(world: &World, names: &[&str]) -> Value {
    world.vault.json(&[&["account", "deauthorize", ACCOUNT, "--yes"], names].concat())
}

/// Where the authorizations are that the CA was told to end.
fn ended(world: &World) -> BTreeSet<String> {
    let told =
        |seen: &Seen| seen.body["payload"] != "" && seen.payload()["status"] == "deactivated";
    let all = world.ca.seen(Place::Authorization).into_iter().filter(told);
    all.map(|seen| seen.path).collect()
}

/// How many challenges the CA was told are answered.
fn challenges(world: &World) -> usize {
    world.ca.done(Place::Challenge).len()
}

#[test]
fn a_name_that_is_deauthorized_is_proven_anew() {
    let behaviour = Behaviour { authorization_reuse: 100, ..Behaviour::default() };
    let world = World::behaving(behaviour).ready(&["shop"]);
    let names = ["--domain", "shop.example", "--domain", "www.shop.example", "--ip", "127.0.0.1"];
    let done = world.issue("shop", "vault", &[&names[..], &["--wait"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(challenges(&world), 3);
    world.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(challenges(&world), 3, "the CA takes what it has");

    let given_up = deauthorize(&world, &["--domain", "www.shop.example", "--ip", "127.0.0.1"]);
    let identifiers: Vec<_> =
        given_up.as_array().unwrap().iter().map(|a| &a["identifier"]).collect();
    assert_eq!(identifiers, ["www.shop.example", "127.0.0.1"]);
    let paths = ended(&world);
    assert_eq!(paths.len(), 2);
    for authorization in given_up.as_array().unwrap() {
        let url = authorization["url"].as_str().unwrap();
        assert!(paths.iter().any(|path| url.ends_with(path)), "{url}: {paths:?}");
    }
    world.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(challenges(&world), 5, "two names are proven anew");

    // Of others there is nothing to give up, and nothing is.
    assert_eq!(deauthorize(&world, &["--domain", "other.example"]), json!([]));
    assert_eq!(deauthorize(&world, &["--domain", "*.shop.example"]), json!([]));
    assert_eq!(ended(&world).len(), 2);
    world.vault.ctl(&["account", "deauthorize", ACCOUNT, "--yes"]).refused(2, "--domain");
    let nobody = ["account", "deauthorize", "nobody", "--domain", "a.example", "--yes"];
    world.vault.ctl(&nobody).refused(3, "nobody");
    world.ca.fail(Place::Order, Fault::Cut);
    let away = ["account", "deauthorize", ACCOUNT, "--domain", "shop.example", "--yes"];
    world.vault.ctl(&away).refused(6, "CA 127.0.0.1");
}

#[test]
fn what_a_failed_order_leaves_pending_is_given_up() {
    let world = World::with_agent(&["shop"]);
    let refusal = Answer::problem(403, "unauthorized", "not today");
    world.ca.fail(Place::Challenge, Fault::Answer(refusal));
    let names = ["--domain", "shop.example", "--domain", "www.shop.example"];
    assert_eq!(world.issue("shop", "vault", &names).code, 0);
    let failed = world.wait_failed("shop", 0);
    assert!(failed["last_error"].as_str().unwrap().contains("not today"), "{failed}");
    eventually("both authorizations are given up", || (ended(&world).len() == 2).then_some(()));
    world.ca.heal();
    world.wait_issued("shop");
    assert_eq!(ended(&world).len(), 2, "what serves is not given up");
}
