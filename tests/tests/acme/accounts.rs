//! Accounts are registered as the CA wants them, or leave nothing behind.

use std::fs;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use testkit::{fault_ca::Place, pebble::Behaviour};

use super::world::{ACCOUNT, World};

/// base64url, which may begin with a hyphen.
const KID: &str = "-kid_1";
/// 32 bytes, as Pebble wants a MAC key.
const MAC_KEY: &[u8] = b"an external account's MAC key...";

/// A CA that binds accounts to those it knows from outside.
fn binding() -> World {
    let external_account = Some((KID.to_owned(), B64.encode(MAC_KEY)));
    let world = World::behaving(Behaviour { external_account, ..Behaviour::default() });
    fs::write(world.vault.file("mac"), format!("{}\n", B64.encode(MAC_KEY))).unwrap();
    fs::write(world.vault.file("wrong-mac"), B64.encode([7; 32])).unwrap();
    fs::write(world.vault.file("no-base64"), "%%%").unwrap();
    world
}

#[test]
fn an_account_is_bound_to_one_outside() {
    let world = binding();
    let mac = world.vault.path("mac");
    let ended = world.register(&["--agree-tos", "--eab-kid", KID, "--eab-hmac-file", &mac]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let account = world.account();
    assert_eq!((&account["status"], &account["eab_kid"]), (&"valid".into(), &KID.into()));
    // The MAC key served once and is nowhere now.
    let secrets = [MAC_KEY.to_vec(), B64.encode(MAC_KEY).into_bytes()];
    for file in ["vault.db", "vault.db-wal", "audit.log", "vaultd.log"] {
        let kept = fs::read(world.vault.file(file)).unwrap_or_default();
        for secret in &secrets {
            assert!(!kept.windows(secret.len()).any(|part| part == secret), "{file}");
        }
    }
}

#[test]
fn a_binding_that_the_ca_refuses_leaves_nothing() {
    let world = binding();
    let before = world.made();
    let path = |name: &str| world.vault.path(name);
    for (args, code, why) in [
        (vec![], 2, "external account binding"),
        (vec!["--eab-kid", KID, "--eab-hmac-file", &path("wrong-mac")], 2, "check --eab-kid"),
        (vec!["--eab-kid", "kid-2", "--eab-hmac-file", &path("mac")], 2, "check --eab-kid"),
        (vec!["--eab-kid", KID, "--eab-hmac-file", &path("no-base64")], 2, "no-base64"),
        (vec!["--eab-kid", KID, "--eab-hmac-file", &path("missing")], 2, "missing"),
    ] {
        world.register(&[&["--agree-tos"], &args[..]].concat()).refused(code, why);
        assert_eq!(world.made(), before, "{args:?}");
    }
    // The name is free.
    let ended = world.register(&["--agree-tos", "--eab-kid", KID, "--eab-hmac-file", &path("mac")]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn terms_that_are_not_agreed_to_make_nothing() {
    let world = World::bare();
    let before = world.made();
    world.register(&[]).refused(2, "terms of service").refused(2, "--agree-tos");
    assert_eq!(world.made(), before);
    assert!(world.ca.seen(Place::NewAccount).is_empty(), "the CA was told of it");
}

#[test]
fn bad_input_reaches_no_ca() {
    let world = World::bare();
    let before = world.made();
    for (args, why) in
        [(&["--contact", "ops"][..], "is no URL"), (&["--algorithm", "ed25519"], "Ed25519")]
    {
        world.register(&[&["--agree-tos"], args].concat()).refused(2, why);
    }
    let directory = world.ca.directory();
    let plain = directory.replace("https:", "http:");
    for (directory, why) in [(plain.as_str(), "https://"), ("nowhere", "URL"), ("", "URL")] {
        let args = ["account", "register", ACCOUNT, "--agree-tos", "--directory", directory];
        world.vault.ctl(&args).refused(2, why);
    }
    fs::write(world.vault.file("root"), "no certificate").unwrap();
    let root = world.vault.path("root");
    let args = ["account", "register", ACCOUNT, "--agree-tos", "--directory", &directory];
    world.vault.ctl(&[&args[..], &["--ca-root", &root]].concat()).refused(2, "--ca-root");
    assert_eq!(world.made(), before);
    assert!(world.ca.all_seen().is_empty(), "{:?}", world.ca.all_seen());
}

#[test]
fn a_name_is_for_one_account() {
    let world = World::bare();
    assert_eq!(world.register(&["--agree-tos"]).code, 0);
    let before = world.made();
    world.register(&["--agree-tos"]).refused(1, "in use");
    assert_eq!(world.made(), before);
}

#[test]
fn an_account_key_may_be_of_any_algorithm_that_cas_take() {
    let mut world = World::bare();
    for (name, alg) in [("rsa-2048", "RS256"), ("ec-p384", "ES384"), ("ec-p256", "ES256")] {
        world.ca.forget();
        let (directory, root) = (world.ca.directory(), world.ca.root().display().to_string());
        world.vault.ok(&[
            "account",
            "register",
            name,
            "--directory",
            &directory,
            "--ca-root",
            &root,
            "--agree-tos",
            "--algorithm",
            name,
        ]);
        let asked = world.ca.seen(Place::NewAccount);
        assert_eq!(asked.last().unwrap().header()["alg"], alg);
    }
    // And such an account orders.
    world = world.ready(&["shop"]);
    let ended = world.vault.ctl(&[
        "cert",
        "issue",
        "shop",
        "--account",
        "rsa-2048",
        "--domain",
        "rsa.example",
        "--challenge",
        "http-01",
        "--deploy-to",
        "web1",
        "--wait",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_deactivated_account_orders_nothing_more() {
    let world = World::with_agent(&["shop"]);
    let ended = world.issue("shop", "vault", &["--domain", "shop.example", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    // Not while it is needed.
    world.vault.ctl(&["account", "deactivate", ACCOUNT, "--yes"]).refused(1, "certificate shop");
    assert_eq!(world.account()["status"], "valid");
    assert!(world.ca.seen(Place::Account).is_empty(), "the CA was told of it");
    world.vault.ok(&["cert", "undeploy", "shop", "--from", "web1"]);
    world.vault.ok(&["cert", "delete", "shop", "--yes"]);

    world.vault.ok(&["account", "deactivate", ACCOUNT, "--yes"]);
    assert_eq!(world.account()["status"], "deactivated");
    let asked = world.ca.seen(Place::Account);
    assert_eq!(asked.last().unwrap().payload()["status"], "deactivated");
    let ended = world.issue("next", "vault", &["--domain", "next.example"]);
    ended.refused(1, "deactivated");
    world.vault.ctl(&["account", "rollover", ACCOUNT]).refused(1, "deactivated");
    world.vault.ctl(&["account", "deactivate", ACCOUNT, "--yes"]).refused(1, "deactivated");
}
