//! The KEK in a second token, by a quorum: for unwrapping, where no live vault is.

use std::process::Command;

use testkit::{
    custodians::{Custodian, Kept, share_flags},
    programs::{Ended, ours, run},
    vault::{PIN, SOFTHSM, Vault},
};

use super::scene::{bare, in_force, secrets};

/// A token of a drill host, made by its own tools.
fn token(vault: &Vault, label: &str) {
    let mut command = Command::new("softhsm2-util");
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    command.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "so-pin"]);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// `kek install`, without any vault.
fn install(vault: &Vault, label: &str, shares: &[String], pin: &str) -> Ended {
    let mut command = Command::new(ours("vaultctl"));
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    let uri = format!("pkcs11:token={label}?module-path={SOFTHSM}");
    command.args(["-o", "json", "kek", "install", "--token", &uri, "--pin-file", pin]);
    command.args(shares);
    run(command)
}

#[test]
fn a_quorum_puts_the_kek_into_a_second_token_for_unwrapping_only() {
    let mut kept = Kept::new();
    let kek = in_force(&kept.vault);
    kept.vault.stop();
    let vault = &kept.vault;
    token(vault, "drill");
    let shares = share_flags(&kept.keepers[1..], &kept.shares());
    let pin = vault.path("pin");
    let made = install(vault, "drill", &shares, &pin);
    assert_eq!(made.code, 0, "{made:?}");
    let said = made.json();
    assert_eq!((&said["kek_id"], &said["check_value"]), (&kek["id"], &kek["check_value"]));
    assert_eq!(said["vault_id"], kept.made["vault_id"]);
    assert_eq!(secrets(vault, "drill").into_iter().collect::<Vec<_>>(), [bare(&kek["id"])]);
    let mut command = Command::new("pkcs11-tool");
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    command.args(["--module", SOFTHSM, "--token-label", "drill", "--login", "--pin", PIN]);
    command.args(["--list-objects", "--type", "secrkey"]);
    let listed = run(command).stdout;
    let usage = listed.lines().find_map(|line| line.trim().strip_prefix("Usage:")).unwrap();
    assert_eq!(usage.trim(), "unwrap", "{listed}");
    install(vault, "drill", &shares, &pin).refused(1, "has it already");
}

#[test]
fn what_is_no_quorum_or_no_place_for_a_kek_that_unwraps_is_refused() {
    let kept = Kept::new();
    let vault = &kept.vault;
    let other = Kept::new();
    token(vault, "drill");
    let dir = kept.shares();
    let [ops, security] = [&kept.keepers[0], &kept.keepers[1]];
    let flags = |keepers: &[&Custodian]| share_flags(keepers.iter().copied(), &dir);
    let quorum = flags(&[ops, security]);
    let foreign = [flags(&[ops]), share_flags([&other.keepers[1]], &other.shares())].concat();
    let pin = vault.path("pin");
    let wrong = vault.path("so-pin");
    for (label, shares, pin, code, why) in [
        ("drill", flags(&[ops]), &pin, 7, "too few"),
        ("drill", flags(&[ops, ops]), &pin, 7, "there twice"),
        ("drill", foreign, &pin, 7, "of another ceremony"),
        ("vault", quorum.clone(), &pin, 1, "live vault"),
        ("none", quorum.clone(), &pin, 3, "no token has this label"),
        ("drill", quorum.clone(), &wrong, 4, "the PIN is wrong"),
        ("drill", quorum.clone(), &vault.path("no-pin"), 2, "no-pin"),
    ] {
        install(vault, label, &shares, pin).refused(code, why);
        assert!(secrets(vault, "drill").is_empty(), "{why}");
    }
    in_force(vault);
    assert_eq!(install(vault, "drill", &quorum, &pin).code, 0);
}
