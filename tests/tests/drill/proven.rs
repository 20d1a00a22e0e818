//! What a drill proves of a good backup.

use std::fs;

use serde_json::Value;
use testkit::{
    agent::Agent,
    escrow::Escrowed,
    nginx::Nginx,
    pebble::Pebble,
    programs::run,
    scheduled::Scheduled,
    spy::Spy,
    tree,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, SITE, order, register_account, webroot},
};

use super::scene::{Scene, check, with_status};

#[test]
fn a_good_backup_is_proven_to_its_last_key() {
    let scene = Scene::new();
    let (made, file) = scene.escrowed.backup("b.age");
    let ended = scene.drill(&file, "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    let said = ended.json();
    assert_eq!((&said["ok"], &said["recorded"]), (&true.into(), &true.into()));
    assert_eq!(with_status(&said, "ok").len(), 9, "{said}");
    assert_eq!(said["keys_proven"], made["counts"]["keys_wrapped"]);
    assert_eq!(said["backup_sha256"], made["sha256"]);
    assert!(said["rto_seconds"].as_f64().unwrap() > 0.0);
    assert!(said["rpo_seconds"].as_f64().unwrap() >= 0.0);
    assert!(scene.left().is_empty(), "{:?}", scene.left());
}

/// `report.json` of a drill.
fn report(scene: &Scene, name: &str) -> Value {
    let text = fs::read_to_string(scene.vault().file(name).join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Rows of a report's table, by name.
fn named<'a>(report: &'a Value, table: &str, name: &str) -> &'a Value {
    let rows = report[table].as_array().unwrap().iter();
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn keys_of_every_algorithm_and_certificates_of_both_custodies_are_proven_and_named() {
    let scene = Scene::new();
    let vault = scene.vault();
    for algorithm in ["ec-p384", "rsa-2048", "rsa-3072"] {
        vault.ok(&["key", "generate", algorithm, "--algorithm", algorithm]);
    }
    let (pebble, other) = (Pebble::start(), "other");
    let nginx = Nginx::start(SITE, pebble.http01);
    let install = |name: &str| {
        let key = Some(nginx.file(&format!("{name}.key")));
        Install { key, ..Install::file(name, nginx.file(&format!("{name}.pem"))) }.toml()
    };
    let config = format!("{}{}{}", install(CERTIFICATE), install(other), webroot(&nginx));
    let _agent = Agent::enrolled(vault, AGENT, &config);
    register_account(vault, &pebble);
    vault.ok(&order(CERTIFICATE, SITE, "vault", &["--wait"]));
    vault.ok(&order(other, "other.example", "agent", &["--wait"]));
    let ended = scene.drill(&scene.backup("b.age"), "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = report(&scene, "report");
    for name in ["root", "k", "ec-p384", "rsa-2048", "rsa-3072", "ca", CERTIFICATE] {
        assert_eq!(named(&report, "keys", name)["outcome"], "proven", "{name}");
    }
    for (name, custody) in [(CERTIFICATE, "vault"), (other, "agent")] {
        let certificate = named(&report, "certificates", name);
        assert_eq!((&certificate["ok"], &certificate["custody"]), (&true.into(), &custody.into()));
        assert_eq!(certificate["chain_length"], 2, "{certificate}");
    }
    assert!(check(&ended.json(), "chains").1.ends_with(": 2"), "{ended:?}");
}

#[test]
fn what_is_not_escrowed_is_named_with_what_becomes_of_it() {
    let scene = Scene::new();
    let ended = scene.drill(&scene.backup("b.age"), "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = report(&scene, "report");
    let bound = named(&report, "keys", "bound");
    assert_eq!(bound["outcome"], "re-issue");
    assert!(bound["detail"].as_str().unwrap().contains("key generate"), "{bound}");
    let page = fs::read_to_string(scene.vault().file("report/report.html")).unwrap();
    assert!(page.contains("bound") && page.contains("not escrowed"), "{page}");
}

#[test]
fn a_vault_that_has_no_kek_has_no_backup_that_restores_it() {
    let vault = Vault::initialized();
    let keeper = testkit::custodians::Custodian::new(vault.dir(), "keeper");
    let out = vault.path("b.age");
    vault.ok(&["backup", "create", "--out", &out, "--recipient", &keeper.recipient]);
    let identity = keeper.identity.display().to_string();
    let ended = vault.ctl(&["-o", "json", "drill", "run", &out, "--identity", &identity]);
    ended.refused(7, "not proven: ca");
    assert!(check(&ended.json(), "ca").1.contains("enrols again"), "{ended:?}");
}

#[test]
fn the_live_vault_and_its_token_are_not_touched() {
    let mut vault = Vault::new();
    let spy = Spy::on(&mut vault);
    let scene = Scene::on(vault);
    let file = scene.backup("b.age");
    let tokens = scene.vault().file("tokens");
    // In this order: who looks at keys logs in, which SoftHSM counts in the token's file.
    let keys = scene.vault().keys_in_token();
    let objects = tree::snapshot(&tokens);
    let calls =
        || ["C_Initialize", "C_OpenSession", "C_UnwrapKey", "C_SignInit"].map(|f| spy.calls(f));
    let before = calls();
    let mut words = scene.words(&file, "report");
    words.push("--offline".to_owned());
    let ended = run(scene.command(&words));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(calls(), before, "the live module was asked");
    assert_eq!(tree::snapshot(&tokens), objects, "the live token has changed");
    // Recording it takes one signature of the internal CA, and no other call for keys.
    assert_eq!(scene.drill(&file, "recorded").code, 0);
    assert_eq!(spy.calls("C_UnwrapKey"), 0);
    assert_eq!(spy.calls("C_SignInit"), before[3] + 1);
    assert_eq!(scene.vault().keys_in_token(), keys);
}

#[test]
fn without_a_file_the_newest_backup_that_the_vault_keeps_is_drilled() {
    let scheduled = Scheduled::in_directory();
    let newest = scheduled.vault().json(&["backup", "run"]);
    let escrowed: Escrowed = scheduled.escrowed;
    // One that was handed out is no backup that the vault could give.
    escrowed.backup("later.age");
    fs::create_dir(escrowed.vault.file("scratch")).unwrap();
    let scene = Scene { escrowed };
    let mut words = vec!["--report".to_owned(), scene.vault().path("report")];
    words.extend(scene.quorum());
    let ended = run(scene.command(&words));
    assert_eq!(ended.code, 0, "{ended:?}");
    let said = ended.json();
    assert_eq!(said["backup_sha256"], newest["sha256"]);
    assert!(said["rpo_worst_seconds"].as_f64().unwrap() > 0.0, "{said}");
    assert!(scene.left().is_empty(), "{:?}", scene.left());
}
