//! The transcript of a ceremony.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::{custodians::Kept, programs::Ended, vault::Vault};

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn verify(vault: &Vault, file: &Path, fingerprint: &str, more: &[&str]) -> Ended {
    let file = file.display().to_string();
    let args = ["-o", "json", "kek", "verify-transcript", &file, "--ca-fingerprint", fingerprint];
    vault.ctl(&[&args[..], more].concat())
}

#[test]
fn a_transcript_says_who_got_what_signed_in_the_hsm() {
    let kept = Kept::new();
    let (vault, dir) = (&kept.vault, kept.shares());
    let file = dir.join("kek-transcript.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let fingerprint = kept.made["ca_fingerprint"].as_str().unwrap();
    let shares = dir.display().to_string();
    let said = verify(vault, &file, fingerprint, &["--shares-dir", &shares]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = said.json();
    let status = vault.json(&["status"]);
    let kek = vault.json(&["kek", "show"])[0].clone();
    assert_eq!(said["occasion"], "init");
    assert_eq!(said["vault_id"], kept.made["vault_id"]);
    assert_eq!(said["kek_id"], kek["id"]);
    assert_eq!(said["kek_check_value"], kept.made["kek_check_value"]);
    assert_eq!(said["threshold"], 2);
    assert_eq!(said["time"], kek["made_at"]);
    assert_eq!(said["token_serial"], status["hsm"]["token_serial"]);
    let entry = |keeper: &testkit::custodians::Custodian| {
        json!({ "custodian": keeper.name, "recipient_sha256": sha256(&keeper.recipient),
            "share_sha256": sha256(fs::read(keeper.share(&dir)).unwrap()) })
    };
    let entries: Vec<_> = kept.keepers.iter().map(entry).collect();
    assert_eq!(said["custodians"], json!(entries));
    // Its signature went the way that every signature goes.
    let records = vault.audit();
    let phases: Vec<_> = records
        .iter()
        .filter(|record| record["action"] == "key.sign.transcript")
        .map(|record| record["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["intent", "result"]);
    // Checked without a vault, and against its CA's own file.
    let mut kept = kept;
    kept.vault.stop();
    let text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let ca = kept.vault.file("ca.pem");
    fs::write(&ca, text["ca_pem"].as_str().unwrap()).unwrap();
    let (file, ca) = (file.display().to_string(), ca.display().to_string());
    kept.vault.ok(&["kek", "verify-transcript", &file, "--ca-file", &ca]);
}

#[test]
fn a_transcript_that_was_changed_or_is_another_vault_s_does_not_verify() {
    let kept = Kept::new();
    let (vault, dir) = (&kept.vault, kept.shares());
    let text = fs::read_to_string(dir.join("kek-transcript.json")).unwrap();
    let fingerprint = kept.made["ca_fingerprint"].as_str().unwrap();
    let other = Kept::new();
    let theirs = fs::read_to_string(other.shares().join("kek-transcript.json")).unwrap();
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let file = vault.file("changed.json");
    let changed = |pointer: &str, to: Value| {
        let mut changed: Value = serde_json::from_str(&text).unwrap();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = to;
        changed.to_string()
    };
    let signature = theirs["signature"].clone();
    for (text, why) in [
        (changed("/transcript/occasion", json!("rotate")), "was changed"),
        (changed("/transcript/vault_id", json!("another")), "was changed"),
        (changed("/transcript/kek_id", theirs["transcript"]["kek_id"].clone()), "was changed"),
        (changed("/transcript/kek_check_value", json!("00")), "was changed"),
        (changed("/transcript/threshold", json!(1)), "was changed"),
        (changed("/transcript/time", json!("2020-01-01T00:00:00Z")), "was changed"),
        (changed("/transcript/token_serial", json!("another")), "was changed"),
        (changed("/transcript/custodians/0/custodian", json!("eve")), "was changed"),
        (changed("/transcript/custodians/1/recipient_sha256", json!("00")), "was changed"),
        (changed("/transcript/custodians/2/share_sha256", json!("00")), "was changed"),
        (changed("/transcript/custodians", json!([])), "was changed"),
        (changed("/signature", signature), "was changed"),
        (changed("/signature", json!("no base64!")), "verify failed on the transcript"),
        (changed("/algorithm", json!("none")), "signed by none"),
        (changed("/ca_pem", theirs["ca_pem"].clone()), "it is of CA"),
        (changed("/transcript/version", json!(2)), "is not known"),
        (changed("/transcript", json!({})), "malformed"),
        (theirs.to_string(), "it is of CA"),
        (text[..text.len() / 2].to_owned(), "malformed"),
        (String::new(), "malformed"),
    ] {
        fs::write(&file, &text).unwrap();
        verify(vault, &file, fingerprint, &[]).refused(7, why);
    }
    // Set out in another way, it says the same.
    let compact: Value = serde_json::from_str(&text).unwrap();
    fs::write(&file, compact.to_string()).unwrap();
    assert_eq!(verify(vault, &file, fingerprint, &[]).code, 0);
    verify(vault, &vault.file("none.json"), fingerprint, &[]).refused(2, "none.json");
}

#[test]
fn a_share_that_is_not_the_one_in_the_transcript_is_named() {
    let kept = Kept::new();
    let (vault, dir) = (&kept.vault, kept.shares());
    let file = dir.join("kek-transcript.json");
    let fingerprint = kept.made["ca_fingerprint"].as_str().unwrap();
    let shares = dir.display().to_string();
    let check = || verify(vault, &file, fingerprint, &["--shares-dir", &shares]);
    assert_eq!(check().code, 0);
    let [first, second] = [0, 1].map(|at| kept.keepers[at].share(&dir));
    let own = fs::read(&second).unwrap();
    fs::copy(&first, &second).unwrap();
    check().refused(7, "security.age");
    fs::remove_file(&second).unwrap();
    check().refused(2, "security.age");
    fs::write(&second, own).unwrap();
    assert_eq!(check().code, 0);
}

#[test]
fn auditors_see_the_keks_and_no_share_of_them() {
    let kept = Kept::new();
    let auditor = kept.vault.issue("eve", "auditor");
    let shown = kept.vault.ctl_as(&auditor, &["-o", "json", "kek", "show"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(shown.json()[0]["custodians"], json!(["ops", "security", "audit"]));
    assert_eq!(shown.json()[0]["state"], "in-force");
    assert!(!shown.stdout.contains("AGE"), "shares are shown");
    let bare = Vault::initialized();
    assert_eq!(bare.json(&["kek", "show"]), json!([]));
}
