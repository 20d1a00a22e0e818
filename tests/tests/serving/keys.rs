//! A key's life: versions, and its end.

use std::fs;

use testkit::{programs::Ended, vault::Vault};

use super::signatures::verifies;

fn sign(vault: &Vault, name: &str) -> Ended {
    let (input, signature) = (vault.path("pin"), vault.path("signature"));
    let files = ["--input", &input, "--signature", &signature];
    let sign = ["key", "sign", name, "--mechanism", "ecdsa-sha256"];
    vault.ctl(&[&sign[..], &files[..]].concat())
}

/// Whether `k` signs so that `public`, PEM, verifies it.
fn signs_for(vault: &Vault, public: &str) -> bool {
    let ended = sign(vault, "k");
    assert_eq!(ended.code, 0, "{ended:?}");
    fs::write(vault.file("public"), public).unwrap();
    let [public, signature, input] = ["public", "signature", "pin"].map(|name| vault.path(name));
    verifies(&public, &signature, &input, &["-digest", "sha256"])
}

#[test]
fn a_rotated_key_signs_anew_and_its_last_version_stays_in_the_token() {
    let mut vault = Vault::initialized();
    let made = ["key", "generate", "k", "--algorithm", "ec-p256", "--label", "of=ada"];
    let first = vault.json(&made);
    let old = vault.ok(&["key", "public", "k"]);
    assert!(signs_for(&vault, &old));
    let in_token = vault.keys_in_token();

    let second = vault.json(&["key", "rotate", "k"]);
    assert_eq!((&first["version"], &second["version"]), (&1.into(), &2.into()));
    assert_ne!(first["id"], second["id"]);
    for field in ["name", "algorithm", "purpose", "escrow", "labels", "state"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    let new = vault.ok(&["key", "public", "k"]);
    assert!(signs_for(&vault, &new));
    assert!(!signs_for(&vault, &old));
    assert!(vault.keys_in_token().is_superset(&in_token), "the last version is gone");
    assert_eq!(vault.keys_in_token().len(), in_token.len() + 1);
    // The same after a restart.
    vault.stop();
    vault.start();
    assert!(signs_for(&vault, &new));
    assert_eq!(vault.json(&["status"])["hsm"]["keys"], 3);
}

#[test]
fn a_destroyed_key_is_gone_with_every_version_and_its_name_is_free() {
    let vault = Vault::initialized();
    let before = vault.keys_in_token();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    vault.ok(&["key", "rotate", "k"]);
    vault.ok(&["key", "generate", "other", "--algorithm", "ec-p256"]);
    let public = vault.ok(&["key", "public", "k"]);
    let destroyed = vault.json(&["key", "destroy", "k", "--yes"]);
    assert_eq!(destroyed["state"], "destroyed");
    assert_eq!(vault.keys_in_token().len(), before.len() + 1, "the CA's and the other key");
    sign(&vault, "k").refused(1, "it is destroyed");
    assert!(!vault.file("signature").exists());
    for verb in ["rotate", "destroy"] {
        vault.ctl(&["key", verb, "k", "--yes"]).refused(3, "the vault has no such key");
    }
    assert_eq!(sign(&vault, "other").code, 0);

    // What was, stays on record; what comes is another key.
    assert_eq!(vault.json(&["key", "show", "k"])["state"], "destroyed");
    let again = vault.json(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    assert_eq!(again["version"], 3);
    assert!(!signs_for(&vault, &public));
}

#[test]
fn a_name_in_use_is_refused_and_its_key_stays() {
    let vault = Vault::initialized();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let before = (vault.json(&["key", "list"]), vault.keys_in_token());
    let again = vault.ctl(&["key", "generate", "k", "--algorithm", "rsa-2048"]);
    again.refused(1, "the name is in use");
    assert_eq!((vault.json(&["key", "list"]), vault.keys_in_token()), before);
}
