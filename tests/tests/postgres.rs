//! A whole vault on PostgreSQL, and what an outage of the database does to it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{collections::BTreeSet, fs};

use testkit::{
    postgres::{PASSWORD, Postgres},
    process::eventually,
    programs::Ended,
    vault::Vault,
    world::{CERTIFICATE, Install, SITE, World, order, webroot},
};

/// A vault whose store is at `url`; nothing runs yet.
fn vault_on(url: &str) -> Vault {
    let mut vault = Vault::new();
    let sqlite = format!("sqlite:{}", vault.path("vault.db"));
    vault.reconfigure(&sqlite, url);
    vault
}

/// One that is initialised and runs.
fn initialized_on(url: &str) -> Vault {
    let mut vault = vault_on(url);
    vault.start();
    vault.ok(&["init"]);
    vault
}

/// A vault on this server, a CA, and a web server with an agent.
fn world_on(server: &Postgres) -> World {
    World::with(initialized_on(&server.database()), |nginx| {
        format!("{}{}", Install::into(nginx).toml(), webroot(nginx))
    })
}

fn sign(vault: &Vault, key: &str) -> Ended {
    fs::write(vault.file("message"), "m").unwrap();
    let (input, signature) = (vault.path("message"), vault.path("signature"));
    let how = ["--mechanism", "ecdsa-sha256", "--signature", &signature];
    vault.ctl(&[&["key", "sign", key, "--input", &input][..], &how[..]].concat())
}

/// Waits until nginx serves the version that was answered: old workers go on for a moment.
fn wait_served(world: &World, version: &serde_json::Value) {
    world.nginx.wait_serves(SITE, version["serial"].as_str().unwrap());
}

#[test]
fn a_vault_on_postgresql_keeps_what_it_acknowledged() {
    let server = Postgres::shared();
    let mut vault = initialized_on(&server.database());
    let status = vault.json(&["status"]);
    assert_eq!(status["store"]["backend"], "postgres");
    assert_eq!(status["store"]["available"], true);
    let key = vault.json(&["key", "generate", "k", "--algorithm", "ec-p256", "--label", "a=b"]);
    assert_eq!(sign(&vault, "k").code, 0);
    vault.stop();
    vault.start();
    assert_eq!(vault.json(&["key", "show", "k"]), key);
    vault.kill();
    vault.start();
    assert_eq!(vault.json(&["key", "show", "k"]), key);
    assert_eq!(sign(&vault, "k").code, 0);
    let after = vault.json(&["status"]);
    for same in ["vault_id", "ca_fingerprint", "trust_domain", "findings", "store"] {
        assert_eq!(after[same], status[same], "{same}");
    }
    assert!(!vault.file("vault.db").exists());
}

#[test]
fn a_certificate_is_issued_and_renewed_from_postgresql() {
    let server = Postgres::shared();
    let world = world_on(&server);
    let issued = world.issue();
    wait_served(&world, &issued);
    let renewed = world.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    assert_eq!(renewed["version"], 2);
    wait_served(&world, &renewed);
}

#[test]
fn a_database_that_goes_and_comes_back_needs_no_restart_of_the_vault() {
    let mut server = Postgres::start();
    let mut world = world_on(&server);
    world.vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let issued = world.issue();
    let keys = world.vault.json(&["key", "list"]);
    let (daemon, audited) = (world.vault.process().id(), world.vault.audit().len());

    server.stop();
    let _ = fs::remove_file(world.vault.file("signature"));
    let calls: [&[&str]; 7] = [
        &["status"],
        &["key", "list"],
        &["key", "generate", "new", "--algorithm", "ec-p256"],
        &["key", "destroy", "k", "--yes"],
        &["cert", "list"],
        &["agent", "token", "web2"],
        &["account", "show", "ca"],
    ];
    for call in calls {
        world.vault.ctl(call).refused(6, "database");
    }
    sign(&world.vault, "k").refused(6, "");
    assert!(!world.vault.file("signature").exists());
    // Nothing that serves depends on the database.
    wait_served(&world, &issued);

    server.restart();
    eventually("the vault answers again", || {
        (world.vault.ctl(&["key", "list"]).code == 0).then_some(())
    });
    assert_eq!(world.vault.process().id(), daemon);
    assert_eq!(world.vault.json(&["key", "list"]), keys);
    assert_eq!(sign(&world.vault, "k").code, 0);
    world.wait_connected();
    let renewed = world.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    wait_served(&world, &renewed);
    assert!(world.vault.audit().len() > audited);
    world.vault.ok(&["audit", "verify"]);
}

#[test]
fn an_order_goes_on_when_the_database_comes_back() {
    let mut server = Postgres::start();
    let world = world_on(&server);
    world.wait_connected();
    world.vault.ok(&order(CERTIFICATE, SITE, "agent", &[]));
    server.stop();
    // Whatever step it had come to, it comes no further.
    world.vault.ctl(&["status"]).refused(6, "database");
    server.restart();
    let issued = eventually("the certificate is issued and served", || {
        let now = world.vault.ctl(&["-o", "json", "cert", "show", CERTIFICATE]);
        let now = (now.code == 0).then(|| now.json())?;
        (now["version"] != 0 && now["deployments"][0]["held_version"] == now["version"])
            .then_some(now)
    });
    wait_served(&world, &issued);
}

#[test]
fn a_key_whose_row_was_refused_by_an_outage_leaves_nothing_unexplained() {
    let mut server = Postgres::start();
    let mut vault = initialized_on(&server.database());
    for round in 0..3 {
        server.stop();
        let name = format!("k{round}");
        vault.ctl(&["key", "generate", &name, "--algorithm", "ec-p256"]).refused(6, "database");
        server.restart();
    }
    vault.stop();
    vault.start();
    let listed = vault.json(&["key", "list"]);
    let ids = listed.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap());
    let ids: BTreeSet<_> = ids.map(|id| id.replace('-', "")).collect();
    assert_eq!(vault.keys_in_token(), ids);
    assert_eq!(vault.json(&["status"])["findings"].as_array().unwrap().len(), 0);
}

#[test]
fn a_vault_without_its_database_does_not_start_and_never_says_the_password() {
    let mut server = Postgres::start();
    let url = server.database();
    let mut vault = vault_on(&url);
    server.stop();
    let absent = vault.run_daemon();
    server.restart();
    vault.reconfigure(PASSWORD, "another-password");
    let locked_out = vault.run_daemon();
    vault.reconfigure("another-password", PASSWORD);
    for ended in [&absent, &locked_out] {
        ended.refused(6, "open failed on the store");
        let said = format!("{ended:?}");
        assert!(!said.contains(PASSWORD) && !said.contains("another-password"), "{said}");
    }
    vault.start();
    vault.ok(&["init"]);
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    vault.stop();
    for entry in fs::read_dir(vault.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("vault.toml") {
            let text = fs::read(&path).unwrap();
            let found = text.windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD.as_bytes());
            assert!(!found, "{} has it", path.display());
        }
    }
}
