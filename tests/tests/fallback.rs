//! Several CAs for one certificate: where its own cannot order it, the next one does, and says so.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use testkit::{
    nginx::Nginx,
    pebble::Pebble,
    process::eventually,
    vault::Vault,
    world::{ACCOUNT, AGENT, CERTIFICATE, Install, SITE, World, webroot},
};

/// An account at the other CA.
const OTHER: &str = "other";

fn issue<'a>(name: &'a str, fallback: &'a str) -> Vec<&'a str> {
    let order = ["cert", "issue", name, "--account", ACCOUNT, "--fallback", fallback];
    let how = ["--domain", SITE, "--challenge", "http-01", "--custody", "agent"];
    [&order[..], &how[..], &["--deploy-to", AGENT]].concat()
}

#[test]
fn the_next_ca_orders_what_the_first_refuses_and_everybody_is_told() {
    let other = Pebble::start();
    let presents = Nginx::start("other.example", other.http01);
    let config = |nginx: &Nginx| Install::into(nginx).toml() + &webroot(&presents);
    let mut world = World::with(Vault::initialized(), config);
    let vault = &world.vault;
    let (root, directory) = (other.root().display().to_string(), other.directory());
    let at = ["account", "register", OTHER, "--directory", &directory, "--ca-root", &root];
    vault.ok(&[&at[..], &["--agree-tos"]].concat());
    // It forgets the account, and refuses whatever is ordered with it.
    world.pebble.restart();
    let vault = &world.vault;
    vault.ok(&issue(CERTIFICATE, OTHER));
    eventually("the other account's turn", || {
        (world.certificate(CERTIFICATE)["orders_with"] == OTHER).then_some(())
    });
    // Not to wait for the next try's time.
    vault.ok(&["cert", "renew", CERTIFICATE]);
    let issued = eventually("a certificate", || {
        let shown = world.certificate(CERTIFICATE);
        (shown["version"] == 1).then_some(shown)
    });
    assert_eq!(issued["issued_by"], OTHER);
    assert_eq!(vault.json(&["cert", "history", CERTIFICATE])[0]["account"], OTHER);
    let status = vault.json(&["status"]);
    let alert = &status["alerts"][0];
    assert_eq!(alert["kind"], "fallback-ca", "{status}");
    assert_eq!(alert["subject"], format!("certificate {CERTIFICATE}"));
    assert!(alert["detail"].as_str().unwrap().contains(OTHER), "{alert}");
    assert!(vault.audit().iter().any(|record| record["action"] == "alert.raise"));
    // The next order begins with its own account again; revocation is the business of who issued.
    assert_eq!(issued["orders_with"], ACCOUNT);
    vault.ok(&["cert", "revoke", CERTIFICATE, "--reason", "superseded", "--yes", "--no-replace"]);
    let said = other.certificate_status(issued["serial"].as_str().unwrap());
    assert_eq!(said["Status"], "Revoked");
}

#[test]
fn accounts_that_could_not_order_are_refused() {
    let world = World::new();
    world.vault.ctl(&issue(CERTIFICATE, "nobody")).refused(3, "nobody");
    world.vault.ctl(&issue(CERTIFICATE, ACCOUNT)).refused(2, "twice");
    assert_eq!(world.vault.json(&["cert", "list"]).as_array().unwrap().len(), 0);
}
