//! What stands on the log, and that it cannot be changed unseen.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use testkit::{
    pebble::Pebble,
    spy::Spy,
    vault::Vault,
    world::{ACCOUNT, register_account},
};

#[test]
fn every_signature_has_its_intent_and_then_its_result_on_the_log() {
    let mut vault = Vault::new();
    let spy = Spy::on(&mut vault);
    vault.start();
    vault.ok(&["init"]);
    let pebble = Pebble::start();
    register_account(&vault, &pebble);
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    fs::write(vault.file("message"), "a message").unwrap();
    let (message, out) = (vault.path("message"), vault.path("out"));
    let files = ["--input", &message, "--signature", &out];
    let sign = ["key", "sign", "k", "--mechanism", "ecdsa-sha256"];
    vault.ok(&[&sign[..], &files[..]].concat());
    vault.ok(&["csr", "create", "--key", "k", "--domain", "shop.example", "--out", &out]);
    let url = "https://ca.example/order";
    vault.ok(&["jws", "sign", "--account", ACCOUNT, "--url", url, "--payload", &message]);
    vault.ok(&["operator", "issue", "ada", "--out", &vault.path("ada")]);

    let mut open: BTreeMap<String, Value> = BTreeMap::new();
    let mut signed: BTreeMap<String, usize> = BTreeMap::new();
    for record in vault.audit() {
        let action = record["action"].as_str().unwrap().to_owned();
        let Some(operation) = record["operation"].as_str().map(ToOwned::to_owned) else { continue };
        if record["phase"] == "intent" {
            assert_eq!(record["outcome"], Value::Null, "{record}");
            assert!(open.insert(operation, record).is_none(), "one intent each");
            continue;
        }
        let intent = open.remove(&operation).expect("a result after its intent");
        assert_eq!(record["outcome"], "ok", "{record}");
        for field in ["principal", "action", "resource"] {
            assert_eq!(record[field], intent[field], "{record}");
        }
        if action.starts_with("key.sign.") {
            let hash = intent["detail"]["message_sha256"].as_str().expect("what was signed");
            assert_eq!(hash.len(), 64, "{intent}");
            *signed.entry(action).or_default() += 1;
        }
    }
    assert!(open.is_empty(), "intents without a result: {open:?}");
    let of = |action: &str| signed.get(action).copied().unwrap_or_default();
    assert_eq!(of("key.sign.message"), 1);
    assert_eq!(of("key.sign.csr"), 1);
    assert!(of("key.sign.jws") >= 2, "the account's registration and ours: {signed:?}");
    assert_eq!(of("key.sign.certificate"), 3, "the root, the vault's own and ada's");
    // The HSM has signed what is on the log and nothing else.
    assert_eq!(spy.calls("C_SignInit"), signed.values().sum::<usize>());
}

/// A stopped vault with some records on its log.
fn stopped() -> Vault {
    let mut vault = Vault::initialized();
    for name in ["a", "b", "c"] {
        vault.ok(&["key", "generate", name, "--algorithm", "ec-p256"]);
    }
    vault.stop();
    vault
}

#[test]
fn a_log_that_was_changed_is_found_at_its_line_and_the_vault_does_not_start() {
    let mut vault = stopped();
    let good = fs::read_to_string(vault.file("audit.log")).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let at = 5;
    let changed = lines[at].replace("\"action\":\"", "\"action\":\"not.");
    assert_ne!(changed, lines[at]);
    let without = [&lines[..at], &lines[at + 1..]].concat();
    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    let mut edited = lines.clone();
    edited[at] = &changed;
    let garbage = [&lines[..at], &["{}"][..], &lines[at..]].concat();
    let doubled = [&lines[..=at], &lines[at..]].concat();
    // A changed line is still well-formed: the line after it no longer links to it.
    for (what, log, line) in [
        ("removed", &without, at + 1),
        ("moved", &swapped, at + 1),
        ("added", &garbage, at + 1),
        ("doubled", &doubled, at + 2),
        ("changed", &edited, at + 2),
    ] {
        let text = format!("{}\n", log.join("\n"));
        fs::write(vault.file("audit.log"), &text).unwrap();
        let said = format!("line {line}: ");
        let verified = vault.ctl(&["-o", "json", "audit", "verify", &vault.path("audit.log")]);
        verified.refused(7, &said);
        assert_eq!(verified.json()["ok"], false, "{what}");
        assert_eq!(verified.json()["records"], line - 1, "{what}");
        vault.run_daemon().refused(7, &said);
        let left = fs::read_to_string(vault.file("audit.log")).unwrap();
        assert_eq!(left, text, "{what}: the evidence was touched");
    }
    fs::write(vault.file("audit.log"), &good).unwrap();
    vault.start();
    assert_eq!(vault.json(&["audit", "verify"])["ok"], true);
}

#[test]
fn a_log_is_verified_without_a_vault() {
    let vault = stopped();
    let log = vault.path("audit.log");
    let verified = vault.json(&["audit", "verify", &log]);
    assert_eq!(verified["ok"], true);
    assert_eq!(verified["records"], vault.audit().len());
    vault.ctl(&["audit", "verify", &vault.path("nothing.log")]).refused(2, "nothing.log");
}

#[test]
fn a_torn_last_line_is_set_aside_and_reported() {
    let mut vault = stopped();
    let good = fs::read_to_string(vault.file("audit.log")).unwrap();
    let torn = "{\"sequence\":99,\"time\":\"20";
    fs::write(vault.file("audit.log"), format!("{good}{torn}")).unwrap();
    vault.ctl(&["audit", "verify", &vault.path("audit.log")]).refused(7, "it is cut off");

    vault.start();
    let aside = fs::read_dir(vault.dir()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".torn-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read_to_string(&aside[0]).unwrap(), torn);
    assert!(fs::read_to_string(vault.file("audit.log")).unwrap().starts_with(&good));
    assert_eq!(vault.json(&["audit", "verify"])["ok"], true);

    let aside = aside[0].display().to_string();
    let findings = vault.json(&["status"])["findings"].to_string();
    assert!(findings.contains(&aside), "{findings}");
    let started = vault.audit().into_iter().rfind(|record| record["action"] == "system.start");
    assert_eq!(started.expect("a record of the start")["detail"]["torn_tail"], aside.as_str());
}

#[test]
fn the_log_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let vault = Vault::initialized();
    let mode = fs::metadata(vault.file("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
