//! A new KEK: what it changes, what it leaves, and where it is cut off.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use testkit::{
    custodians::{Custodian, Kept, custodians, quorum_flags, rebuilt_check_value},
    programs::{ours, run},
    vault::{PIN, SOFTHSM, Vault},
};
use vault_proto::ids::KeyId;

use super::scene::{bare, crash_at, in_force, secrets, words};

fn newcomers(vault: &Vault) -> Vec<Custodian> {
    custodians(vault.dir(), &["legal", "board"])
}

/// `kek rotate` among newcomers, into this directory.
fn rotate(vault: &Vault, keepers: &[Custodian], dir: &str) -> Vec<String> {
    let flags = quorum_flags(keepers, 2, &vault.file(dir));
    words(&["kek", "rotate", "--yes"], &flags).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_new_kek_takes_over_and_the_old_one_stays_in_its_custodians_hands() {
    let kept = Kept::new();
    let vault = &kept.vault;
    let old = in_force(vault);
    let new_keepers = newcomers(vault);
    let made = vault.json(&words(&[], &rotate(vault, &new_keepers, "shares-2")));
    let new = in_force(vault);
    assert_ne!(new["id"], old["id"]);
    assert_eq!((&new["id"], &new["check_value"]), (&made["kek_id"], &made["kek_check_value"]));
    let shown = vault.json(&["kek", "show"]);
    assert_eq!(shown[1]["state"], "replaced");
    for field in ["id", "check_value", "threshold", "custodians", "made_at"] {
        assert_eq!(shown[1][field], old[field], "{field}");
    }
    let old_ones: Vec<_> = kept.keepers.iter().take(2).collect();
    let new_ones: Vec<_> = new_keepers.iter().collect();
    let second = vault.file("shares-2");
    assert_eq!(old["check_value"], rebuilt_check_value(&old_ones, &kept.shares(), kept.id()));
    assert_eq!(new["check_value"], rebuilt_check_value(&new_ones, &second, kept.id()));
    let escrow = vault.json(&["status"])["escrow"].clone();
    assert_eq!(escrow["kek_check_value"], new["check_value"]);
    assert_eq!(escrow["custodians"], serde_json::json!(["legal", "board"]));
    // Its transcript is of its own occasion, and keys are escrowed as before.
    let transcript = second.join("kek-transcript.json").display().to_string();
    let fingerprint = kept.made["ca_fingerprint"].as_str().unwrap();
    let verify = ["kek", "verify-transcript", &transcript, "--ca-fingerprint", fingerprint];
    assert_eq!(vault.json(&verify)["occasion"], "rotate");
    vault.ok(&["key", "generate", "later", "--algorithm", "ec-p256", "--escrow", "wrapped"]);
    vault.ok(&["audit", "verify"]);
}

#[test]
fn a_rotation_that_is_cut_off_anywhere_leaves_one_kek_whose_shares_are_kept() {
    for (point, switched) in [
        ("rotate.kept", false),
        ("rotate.created", true),
        ("rotate.switched", true),
        ("rotate.settled", true),
    ] {
        let mut kept = Kept::new();
        let old = in_force(&kept.vault);
        let new_keepers = newcomers(&kept.vault);
        let command = rotate(&kept.vault, &new_keepers, "shares-2");
        crash_at(&mut kept.vault, point, &words(&[], &command));
        let vault = &kept.vault;
        let now = in_force(vault);
        assert_eq!(now["id"] != old["id"], switched, "{point}");
        // The answer was lost, the shares were not.
        let again = vault.file("again");
        vault.ok(&["shares", "--shares-dir", &again.display().to_string()]);
        let holders: Vec<_> = match switched {
            true => new_keepers.iter().collect(),
            false => kept.keepers.iter().take(2).collect(),
        };
        let check = rebuilt_check_value(&holders, &again, kept.id());
        assert_eq!(now["check_value"], check, "{point}");
        vault.ok(&["audit", "verify"]);
        assert!(vault.open_operations().is_empty(), "{point}");
        // It is begun anew like any.
        vault.ok(&words(&[], &rotate(vault, &new_keepers, "shares-3")));
        assert_ne!(in_force(vault)["id"], now["id"], "{point}");
    }
}

#[test]
fn a_rotation_that_is_refused_changes_nothing() {
    let mut kept = Kept::new();
    let old = in_force(&kept.vault);
    let new_keepers = newcomers(&kept.vault);
    let command = rotate(&kept.vault, &new_keepers, "shares-2");
    let args = words(&[], &command);
    let so_pin = kept.vault.file("so-pin");
    let right = fs::read(&so_pin).unwrap();
    fs::write(&so_pin, "not-the-so-pin\n").unwrap();
    kept.vault.ctl(&args).refused(4, "the PIN is wrong");
    assert_eq!(in_force(&kept.vault), old);
    fs::write(&so_pin, right).unwrap();

    let ada = kept.vault.issue("ada", "operator");
    kept.vault.ctl_as(&ada, &args).refused(4, "kek.manage");
    let same = ["--custodian", "ops=age1x", "--threshold", "1", "--shares-dir"];
    let dir = kept.vault.path("shares-2");
    kept.vault.ctl(&[&["kek", "rotate", "--yes"], &same[..], &[&dir]].concat()).refused(2, "ops");

    let line = format!("so_pin = {{ file = \"{}\" }}\n", kept.vault.path("so-pin"));
    kept.vault.reconfigure(&line, "");
    kept.vault.stop();
    kept.vault.start();
    kept.vault.ctl(&args).refused(2, "set so_pin in [hsm]");
    assert_eq!(in_force(&kept.vault), old);
    let left: Vec<_> = fs::read_dir(&dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(secrets(&kept.vault, "vault").into_iter().collect::<Vec<_>>(), [bare(&old["id"])]);

    let bare = Vault::initialized();
    bare.ctl(&words(&[], &rotate(&bare, &new_keepers, "shares"))).refused(1, "escrows nothing");
}

#[test]
fn a_kek_that_was_destroyed_is_missed_at_start_and_replaced_by_a_rotation() {
    let mut kept = Kept::new();
    let old = in_force(&kept.vault);
    // What a thief with the user PIN can do to it, and nothing more.
    let mut command = Command::new("pkcs11-tool");
    command.env("SOFTHSM2_CONF", kept.vault.file("softhsm2.conf"));
    command.args(["--module", SOFTHSM, "--token-label", "vault", "--login", "--pin", PIN]);
    command.args(["--delete-object", "--type", "secrkey", "--id", &bare(&old["id"])]);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    let findings = |vault: &Vault| vault.json(&["status"])["findings"].to_string();
    kept.vault.stop();
    kept.vault.start();
    assert!(findings(&kept.vault).contains("the KEK is GONE from the token"));
    let new_keepers = newcomers(&kept.vault);
    kept.vault.ok(&words(&[], &rotate(&kept.vault, &new_keepers, "shares-2")));
    kept.vault.stop();
    kept.vault.start();
    assert_eq!(findings(&kept.vault), "[]");
    assert_ne!(in_force(&kept.vault)["id"], old["id"]);
}

#[test]
fn a_kek_that_nobody_has_shares_of_is_reported_and_no_longer_wraps_after_a_rotation() {
    let mut kept = Kept::new();
    let old = in_force(&kept.vault);
    // A security officer's own doing, past the vault.
    let foreign = KeyId::random();
    let so_pin = fs::read_to_string(kept.vault.file("so-pin")).unwrap();
    let mut said = foreign.as_bytes().to_vec();
    said.extend([7; 32]);
    said.extend(so_pin.trim().as_bytes());
    let mut command = Command::new(ours("vaultd"));
    command.env("SOFTHSM2_CONF", kept.vault.file("softhsm2.conf")).stdin(Stdio::piped());
    command.args(["create-kek", "--token", &format!("pkcs11:token=vault?module-path={SOFTHSM}")]);
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&said).unwrap();
    assert!(child.wait().unwrap().success());
    kept.vault.stop();
    kept.vault.start();
    let findings = kept.vault.json(&["status"])["findings"].to_string();
    assert!(findings.contains(&format!("KEK {foreign} of the token is nobody's")), "{findings}");
    assert_eq!(kept.vault.json(&["kek", "show"])[0]["id"], old["id"]);
    // It is the token's newest, so it would wrap: no backup is made that nobody could open.
    let reader = Custodian::new(kept.vault.dir(), "reader");
    let out = kept.vault.path("vault.age");
    let backup = ["backup", "create", "--out", &out, "--recipient", &reader.recipient];
    kept.vault.ctl(&backup).refused(1, "not the one that the store names");
    assert!(!kept.vault.file("vault.age").exists());
    let new_keepers = newcomers(&kept.vault);
    let made = kept.vault.json(&words(&[], &rotate(&kept.vault, &new_keepers, "shares-2")));
    kept.vault.stop();
    kept.vault.start();
    assert_eq!(kept.vault.json(&["status"])["findings"], serde_json::json!([]));
    assert_eq!(kept.vault.json(&["kek", "show"])[0]["id"], made["kek_id"]);
    let left = secrets(&kept.vault, "vault");
    assert!(left.contains(&bare(&made["kek_id"])) && !left.contains(&bare(&old["id"])), "{left:?}");
    kept.vault.ok(&backup);
}
