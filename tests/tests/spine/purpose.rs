//! A key signs what its purpose allows, whoever asks.

use std::fs;

use testkit::{
    pebble::Pebble,
    process::eventually,
    vault::Vault,
    world::{ACCOUNT, SITE, order, register_account},
};

#[test]
fn a_key_signs_what_its_purpose_allows_and_a_refusal_is_on_the_log() {
    let vault = Vault::initialized();
    let pebble = Pebble::start();
    register_account(&vault, &pebble);
    // Nobody answers the challenge: the order waits, and its key is there.
    vault.ok(&["agent", "token", "web1"]);
    vault.ok(&order("shop", SITE, "vault", &[]));
    eventually("the certificate's key", || {
        (vault.ctl(&["key", "show", "shop"]).code == 0).then_some(())
    });
    eventually("the CSR's signature", || {
        let signed = |record: &serde_json::Value| {
            record["action"] == "key.sign.csr" && record["phase"] == "result"
        };
        vault.audit().iter().any(signed).then_some(())
    });
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    fs::write(vault.file("message"), "a message").unwrap();
    let (message, out) = (vault.path("message"), vault.path("out"));
    let sign = |key: &str| -> Vec<String> {
        let line = "--mechanism ecdsa-sha256 --input";
        format!("key sign {key} {line} {message} --signature {out}")
            .split(' ')
            .map(Into::into)
            .collect()
    };
    let csr = |key: &str| -> Vec<String> {
        format!("csr create --key {key} --domain {SITE} --out {out}")
            .split(' ')
            .map(Into::into)
            .collect()
    };
    for (command, action, purpose) in [
        (sign(ACCOUNT), "key.sign.message", "acme-account"),
        (csr(ACCOUNT), "key.sign.csr", "acme-account"),
        (sign("root"), "key.sign.message", "internal-ca"),
        (csr("root"), "key.sign.csr", "internal-ca"),
        (sign("shop"), "key.sign.message", "certificate"),
    ] {
        let before = vault.audit().len();
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let said = format!("a key for {purpose} does not sign this");
        vault.ctl(&command).refused(4, &said);
        assert!(!vault.file("out").exists(), "{command:?}");
        let news = vault.audit().split_off(before);
        let refusals = news.iter().filter(|r| r["action"] == action && r["phase"] == "event");
        let refusals: Vec<_> = refusals.map(|r| r["detail"]["denied"].clone()).collect();
        assert_eq!(refusals, [said], "{command:?}");
        let intents = news.iter().filter(|r| r["action"] == action && r["phase"] == "intent");
        assert_eq!(intents.count(), 0, "{command:?}");
    }
}

#[test]
fn no_operator_ends_or_replaces_a_key_of_the_vault_s_own() {
    let vault = Vault::initialized();
    let before = (vault.json(&["key", "list"]), vault.keys_in_token());
    vault.ctl(&["key", "destroy", "root", "--yes"]).refused(3, "key root");
    vault.ctl(&["key", "rotate", "root"]).refused(3, "key root");
    assert_eq!((vault.json(&["key", "list"]), vault.keys_in_token()), before);
}
