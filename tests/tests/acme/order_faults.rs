//! An order that meets a CA in trouble: the failure is shown, the next try is planned as the CA
//! wants it, and what was issued before stays until the next is good.

use serde_json::{Value, json};
use testkit::{
    fault_ca::{Answer, Fault, Place},
    process::free_port,
    world::Install,
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::world::{ACCOUNT, World};

fn troubles() -> Vec<(Place, Fault, &'static str)> {
    let rejected = json!({
        "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not all of them",
        "subproblems": [{ "type": "urn:ietf:params:acme:error:rejectedIdentifier",
            "detail": "forbidden by policy",
            "identifier": { "type": "dns", "value": "shop.example" } }]
    });
    let problem = |status, kind, detail| Fault::Answer(Answer::problem(status, kind, detail));
    vec![
        (Place::NewOrder, Fault::Answer(Answer::document(403, &rejected)), "forbidden by policy"),
        (Place::NewOrder, problem(403, "userActionRequired", "new terms"), "new terms"),
        (Place::NewOrder, problem(429, "rateLimited", "slowly"), "slowly"),
        (Place::NewOrder, problem(500, "serverInternal", "later"), "later"),
        (Place::NewOrder, Fault::Answer(Answer::html(200)), "makes no sense"),
        (Place::NewOrder, Fault::Answer(Answer::html(500)), "500"),
        (Place::NewOrder, Fault::Silence, "no answer within"),
        (Place::NewOrder, Fault::Cut, "CA 127.0.0.1"),
        (Place::NewOrder, Fault::Lost, "CA 127.0.0.1"),
        (Place::Finalize, problem(400, "badCSR", "a weak key"), "a weak key"),
        (Place::Finalize, problem(500, "serverInternal", "later"), "later"),
        // The order stays open and is asked about.
        (Place::Order, Fault::Answer(Answer::html(200)), "makes no sense"),
        (Place::Certificate, Fault::Answer(Answer::html(500)), "500"),
        (Place::Certificate, Fault::Cut, "CA 127.0.0.1"),
    ]
}

/// `vaultctl status` on a certificate.
fn renewal(world: &World, name: &str) -> Value {
    let status = world.vault.json(&["status"]);
    let all = status["renewals"].as_array().unwrap();
    all.iter().find(|renewal| renewal["certificate"] == name).unwrap().clone()
}

#[test]
fn a_renewal_that_meets_a_ca_in_trouble_leaves_what_was_issued() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let (made, chain) = (world.made(), world.vault.ok(&["cert", "chain", "shop"]));
    let mut attempts = 0;
    for (place, fault, why) in troubles() {
        world.ca.fail(place, fault);
        world.vault.ok(&["cert", "renew", "shop", "--force"]);
        let failed = world.wait_failed("shop", attempts);
        attempts = failed["failed_attempts"].as_u64().unwrap();
        let error = failed["last_error"].as_str().unwrap();
        assert!(error.contains(why), "{place:?}: {why:?} is not said: {error}");
        let shown = renewal(&world, "shop");
        assert_eq!(shown["last_error"], failed["last_error"]);
        assert_eq!(shown["failed_attempts"], attempts);
        assert_eq!((&failed["version"], &failed["status"]), (&1.into(), &"issued".into()));
        assert_eq!(world.vault.ok(&["cert", "chain", "shop"]), chain, "{place:?} {why}");
        world.ca.heal();
    }
    let renewed = world.vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!((&renewed["version"], &renewed["failed_attempts"]), (&2.into(), &0.into()));
    assert_eq!(renewed["last_error"], "", "a success ends the complaint");
    assert_eq!(world.made().in_token(), made.in_token(), "the key is the same, and no other");
}

#[test]
fn a_directory_and_nonces_that_are_known_are_not_missed() {
    let mut world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let away = |place| (place, Fault::Answer(Answer::html(503)));
    let troubles = [away(Place::Directory), away(Place::Nonce)];
    troubles.iter().cloned().for_each(|(place, fault)| world.ca.fail(place, fault));
    let renewed = world.vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(renewed["version"], 2);
    // A vault that knows neither yet cannot do without.
    world.vault.stop();
    world.vault.start();
    for (attempt, (place, fault)) in troubles.into_iter().enumerate() {
        world.ca.heal();
        world.ca.fail(place, fault);
        world.vault.ok(&["cert", "renew", "shop", "--force"]);
        let failed = world.wait_failed("shop", attempt as u64);
        assert!(failed["last_error"].as_str().unwrap().contains("503"), "{place:?}: {failed}");
    }
}

#[test]
fn what_the_ca_has_done_though_its_answer_is_lost_is_not_done_twice() {
    let world = World::with_agent(&["shop"]);
    world.ca.fail(Place::Finalize, Fault::Lost);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.ca.done(Place::NewOrder).into_values().sum::<usize>(), 1);
    assert_eq!(world.certificate("shop")["failed_attempts"], 0);
}

#[test]
fn a_ca_that_stumbles_once_costs_no_attempt() {
    let world = World::with_agent(&["shop"]);
    for (place, fault) in [
        (Place::NewOrder, Fault::Answer(Answer::html(502))),
        (Place::Order, Fault::Cut),
        (Place::Challenge, Fault::Answer(Answer::problem(500, "serverInternal", "busy"))),
        (Place::Certificate, Fault::Lost),
    ] {
        world.ca.once(place, fault);
    }
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.certificate("shop")["failed_attempts"], 0);
    assert_eq!(world.ca.waiting_faults(), 0, "each was met");
}

#[test]
fn a_ca_that_asks_for_patience_gets_it() {
    let world = World::with_agent(&["first", "second"]);
    let limited = Answer::problem(429, "rateLimited", "slowly").header("retry-after", "7200");
    let busy = Answer::html(503).header("retry-after", "10800");
    for (name, place, answer, wait) in [
        ("first", Place::Finalize, busy, Duration::hours(3)),
        // After this the account is left alone, for whatever certificate.
        ("second", Place::NewOrder, limited, Duration::hours(2)),
    ] {
        let before = OffsetDateTime::now_utc();
        world.ca.fail(place, Fault::Answer(answer));
        let domain = format!("{name}.example");
        assert_eq!(world.issue(name, "vault", &["--domain", &domain]).code, 0);
        let failed = world.wait_failed(name, 0);
        world.ca.heal();
        let planned = failed["renew_at"].as_str().unwrap();
        let planned = OffsetDateTime::parse(planned, &Rfc3339).unwrap();
        assert!(planned >= before + wait - Duration::SECOND, "{name}: {planned} is too soon");
        assert_eq!(renewal(&world, name)["renew_at"], failed["renew_at"]);
    }
}

#[test]
fn whoever_waits_for_an_order_is_told_why_it_failed() {
    let world = World::with_agent(&["shop"]);
    let rejected = Answer::problem(403, "rejectedIdentifier", "shop.example is not for you");
    world.ca.fail(Place::NewOrder, Fault::Answer(rejected));
    let ended = world.issue("shop", "agent", &["--domain", "shop.example", "--wait"]);
    ended.refused(1, "shop.example is not for you").refused(1, "tries again by itself");
}

#[test]
fn a_ca_that_is_away_shows_in_status_and_is_forgiven() {
    let mut world = World::with_agent(&["shop"]);
    world.pebble.stop();
    assert_eq!(world.issue("shop", "vault", &["--domain", "shop.example"]).code, 0);
    world.wait_failed("shop", 0);
    let ca = |world: &World| world.vault.json(&["status"])["cas"][0].clone();
    let shown = ca(&world);
    assert_eq!((&shown["account"], &shown["status"]), (&ACCOUNT.into(), &"failing".into()));
    assert!(shown["last_error"].as_str().unwrap().contains("CA 127.0.0.1"), "{shown}");
    let last_ok = shown["last_ok_at"].clone();
    assert!(last_ok.is_string(), "{shown}");
    // It comes back with nothing in its memory, as Pebble does: then the account is gone, too.
    world.pebble.restart();
    world.vault.ok(&["cert", "renew", "shop"]);
    let failed = world.wait_failed("shop", 1);
    assert!(failed["last_error"].as_str().unwrap().contains("accountDoesNotExist"), "{failed}");
    assert_eq!(world.account()["status"], "valid", "that is for an operator to say");
}

#[test]
fn a_name_that_does_not_lead_to_the_agent_is_named() {
    let world = World::bare().ready_with(|agent| {
        let listen = format!("[http01]\nlisten = \"127.0.0.1:{}\"\n", free_port());
        Install::file("shop", agent.file("shop.pem")).toml() + &listen
    });
    assert_eq!(world.issue("shop", "vault", &["--domain", "astray.example"]).code, 0);
    let failed = world.wait_failed("shop", 0);
    let error = failed["last_error"].as_str().unwrap();
    assert!(error.contains("astray.example"), "{error}");
}
