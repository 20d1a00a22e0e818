//! Private keys in a backup: wrapped, each under the custodians' KEK, or not there.

use std::fs;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded as _};
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use serde_json::Value;
use testkit::{
    escrow::{Escrowed, rows},
    vault::{PIN, Vault},
};
use vault::backup::ceremony::combine;

fn generate(vault: &Vault, name: &str, algorithm: &str, escrow: &str) {
    vault.ok(&["key", "generate", name, "--algorithm", algorithm, "--escrow", escrow]);
}

/// The line of the key of this name.
fn of<'a>(keys: &'a [Value], name: &str) -> &'a Value {
    keys.iter().find(|key| key["row"]["name"] == name).unwrap_or_else(|| panic!("{name}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    B64.decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn each_key_is_wrapped_or_says_why_not() {
    let escrowed = Escrowed::new();
    let vault = &escrowed.vault;
    generate(vault, "kept", "ec-p256", "wrapped");
    generate(vault, "rotated", "rsa-2048", "wrapped");
    vault.ok(&["key", "rotate", "rotated"]);
    generate(vault, "alone", "ec-p256", "none");
    generate(vault, "ended", "ec-p384", "wrapped");
    vault.ok(&["key", "destroy", "ended", "--yes"]);
    let (made, file) = escrowed.backup("b.age");
    let keys = rows(&escrowed.unpack(&file), "keys");
    let said = |name: &str| {
        let key = of(&keys, name);
        (key["status"].as_str().unwrap(), key["wrapped"].is_object())
    };
    for name in ["kept", "root", "rotated"] {
        assert_eq!(said(name), ("wrapped", true), "{name}");
    }
    assert_eq!(keys.iter().filter(|key| key["row"]["name"] == "rotated").count(), 2);
    assert_eq!(said("alone"), ("none: re-issue", false));
    assert_eq!(said("ended"), ("gone", false));
    let counted = |status: &str| keys.iter().filter(|key| key["status"] == status).count();
    for (field, status) in [
        ("keys_wrapped", "wrapped"),
        ("keys_not_escrowed", "none: re-issue"),
        ("keys_gone", "gone"),
    ] {
        assert_eq!(made["counts"][field], counted(status), "{field}");
    }
    let left_out = made["not_escrowed"].as_array().unwrap();
    assert_eq!((left_out.len(), &left_out[0]["name"]), (1, &Value::from("alone")));
}

#[test]
fn a_quorum_opens_the_wrapped_keys_and_nothing_else_in_a_backup_is_secret() {
    let escrowed = Escrowed::new();
    let vault = &escrowed.vault;
    for name in ["a", "b", "c"] {
        generate(vault, name, "ec-p256", "wrapped");
    }
    let token = vault.json(&["agent", "token", "web1"])["token"].as_str().unwrap().to_owned();
    let (made, file) = escrowed.backup("b.age");
    let dir = escrowed.unpack(&file);
    let kek = combine(&escrowed.quorum(), made["vault_id"].as_str().unwrap()).unwrap();
    let mut secrets = vec![
        kek.value().to_vec(),
        PIN.as_bytes().to_vec(),
        b"so-1234-test".to_vec(),
        token.into_bytes(),
        b"AGE-SECRET-KEY".to_vec(),
        b"PRIVATE KEY".to_vec(),
    ];
    for key in rows(&dir, "keys") {
        let blob = bytes(&key["wrapped"]["blob"]);
        let mut room = vec![0; blob.len()];
        let opened =
            AesKek::new(&AES_256, kek.value()).unwrap().unwrap_with_padding(&blob, &mut room);
        let pkcs8 = opened.expect("the quorum's KEK opens it");
        // The private value follows the version of an ECPrivateKey (RFC 5915 section 3). Before it there is
        // nothing that chance could make look like that.
        let der = pkcs8.to_vec();
        let before = [0x02, 0x01, 0x01, 0x04, 0x20];
        let at = der.windows(before.len()).position(|five| five == before);
        let at = at.expect("a private value") + before.len();
        let value = der[at..at + 32].to_vec();
        let key_pair = p256(&value, &bytes(&key["row"]["spki"]));
        assert!(key_pair, "{} is another key", key["row"]["name"]);
        secrets.push(value);
    }
    assert_eq!(secrets.len(), 6 + 4, "three keys and the CA's");
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let member = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&member).to_lowercase();
        for secret in &secrets {
            let here = |what: &[u8]| member.windows(what.len()).any(|part| part == what);
            let written = here(secret) || here(B64.encode(secret).as_bytes());
            let found = written || text.contains(&hex::encode(secret));
            assert!(!found, "{} has {:?}", path.display(), String::from_utf8_lossy(secret));
        }
    }
}

/// Whether this private value's public half is in this SubjectPublicKeyInfo.
fn p256(value: &[u8], spki: &[u8]) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    let public = &spki[spki.len() - 65..];
    let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(how, value, public);
    pair.is_ok_and(|pair| pair.public_key().as_ref() == public)
}

#[test]
fn a_key_that_the_token_does_not_wrap_is_never_called_escrowed() {
    let escrowed = Escrowed::new();
    let vault = &escrowed.vault;
    let before = vault.keys_in_token();
    let asked = ["key", "generate", "e", "--algorithm", "ed25519", "--escrow", "wrapped"];
    vault.ctl(&asked).refused(2, "the token does not wrap an ed25519 key");
    assert_eq!(vault.keys_in_token(), before);
    let made = vault.json(&["key", "generate", "e", "--algorithm", "ed25519"]);
    assert_eq!(made["escrow"], "none");
    let (made, _) = escrowed.backup("b.age");
    assert_eq!(made["not_escrowed"][0]["name"], "e");
}

#[test]
fn a_vault_without_custodians_has_a_backup_that_names_every_key_to_issue_anew() {
    let vault = Vault::initialized();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let keeper = testkit::custodians::Custodian::new(vault.dir(), "keeper");
    let out = vault.path("b.age");
    let made = vault.json(&["backup", "create", "--out", &out, "--recipient", &keeper.recipient]);
    assert_eq!(made["counts"]["keys_wrapped"], 0);
    let left_out = made["not_escrowed"].as_array().unwrap().iter();
    let mut names: Vec<_> = left_out.map(|key| key["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["k", "root"]);
    vault.ok(&["backup", "verify", &out, "--identity", &keeper.identity.display().to_string()]);
}
