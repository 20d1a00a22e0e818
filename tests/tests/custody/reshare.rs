//! New shares of the same KEK, made by a quorum of the old ones.

use std::{fs, path::Path};

use serde_json::json;
use testkit::{
    custodians::{Custodian, Kept, custodians, quorum_flags, rebuilt_check_value, share_flags},
    vault::Vault,
};

use super::scene::{crash_at, in_force, words};

/// `kek reshare` by these shares, among newcomers, into the directory `shares-2`.
fn reshare(vault: &Vault, shares: Vec<String>, newcomers: &[Custodian]) -> Vec<String> {
    let mut args: Vec<String> =
        ["kek", "reshare", "--yes"].iter().map(|word| (*word).to_owned()).collect();
    args.extend(shares);
    args.extend(quorum_flags(newcomers, 2, &vault.file("shares-2")));
    args
}

#[test]
fn new_custodians_rebuild_the_same_kek_and_who_had_it_before_stays_known() {
    let kept = Kept::new();
    let vault = &kept.vault;
    let before = in_force(vault);
    let newcomers = custodians(vault.dir(), &["legal", "board", "escrow"]);
    let old = share_flags([&kept.keepers[0], &kept.keepers[2]], &kept.shares());
    let made = vault.json(&words(&[], &reshare(vault, old, &newcomers)));
    let after = in_force(vault);
    assert_eq!((&after["id"], &after["check_value"]), (&before["id"], &before["check_value"]));
    assert_eq!(after["custodians"], json!(["legal", "board", "escrow"]));
    assert_eq!(made["kek_check_value"], before["check_value"]);
    let second = vault.file("shares-2");
    let holders: Vec<_> = newcomers.iter().skip(1).collect();
    assert_eq!(after["check_value"], rebuilt_check_value(&holders, &second, kept.id()));
    let shown = vault.json(&["kek", "show"]);
    assert_eq!(shown[1]["state"], "reshared", "the old shares still rebuild it");
    assert_eq!(shown[1]["custodians"], before["custodians"]);
    let transcript = second.join("kek-transcript.json").display().to_string();
    let dir = second.display().to_string();
    let fingerprint = kept.made["ca_fingerprint"].as_str().unwrap();
    let verify = ["kek", "verify-transcript", &transcript, "--ca-fingerprint", fingerprint];
    let said = vault.json(&[&verify[..], &["--shares-dir", &dir]].concat());
    assert_eq!(said["occasion"], "reshare");
    // Shares of two ceremonies do not mix, although the KEK is the same.
    let mixed: Vec<_> =
        [share_flags([&kept.keepers[0]], &kept.shares()), share_flags([&newcomers[0]], &second)]
            .concat();
    let mut again = reshare(vault, mixed, &kept.keepers);
    let at = again.iter().position(|word| *word == dir).unwrap();
    again[at] = vault.path("shares-3");
    vault.ctl(&words(&[], &again)).refused(7, "of another ceremony");
}

#[test]
fn shares_that_do_not_make_the_kek_are_refused_with_the_reason() {
    let kept = Kept::new();
    let other = Kept::new();
    let vault = &kept.vault;
    let before = vault.json(&["kek", "show"]);
    let newcomers = custodians(vault.dir(), &["legal", "board"]);
    let [ops, security] = [&kept.keepers[0], &kept.keepers[1]];
    let dir = kept.shares();
    let changed = vault.file("changed.age");
    let mut bytes = fs::read(ops.share(&dir)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    fs::write(&changed, bytes).unwrap();
    let opened = vault.file("opened.json");
    let text = security.open(&dir).stdout;
    let mut share: serde_json::Value = serde_json::from_str(&text).unwrap();
    share["share"] = json!(share["share"].as_str().unwrap().replace('A', "B").replace('c', "d"));
    fs::write(&opened, share.to_string()).unwrap();
    let file = |path: &Path| vec!["--share".to_owned(), path.display().to_string()];
    let flags = |keepers: &[&Custodian]| share_flags(keepers.iter().copied(), &dir);
    let theirs = share_flags(&other.keepers, &other.shares());
    let identity =
        |keeper: &Custodian| vec!["--identity".to_owned(), keeper.identity.display().to_string()];
    let all = [
        (flags(&[ops]), 7, "too few"),
        (flags(&[ops, ops]), 7, "there twice"),
        (theirs.clone(), 7, "not the one in force here"),
        ([flags(&[ops]), theirs].concat(), 7, "of another ceremony"),
        ([file(&changed), flags(&[ops, security])].concat(), 7, "changed.age"),
        ([flags(&[ops]), file(&opened)].concat(), 7, "was changed"),
        ([file(&ops.share(&dir)), identity(security)].concat(), 7, "ops.age"),
        (file(&ops.share(&dir)), 7, "ops.age"),
        (file(&vault.file("none.age")), 2, "none.age"),
        ([file(&vault.file("pin")), flags(&[ops])].concat(), 7, "malformed"),
        ([flags(&[ops]), vec!["--identity".to_owned(), vault.path("pin")]].concat(), 2, "identity"),
    ];
    for (shares, code, why) in all {
        vault.ctl(&words(&[], &reshare(vault, shares, &newcomers))).refused(code, why);
    }
    assert_eq!(vault.json(&["kek", "show"]), before);
    assert_eq!(fs::read_dir(vault.file("shares-2")).map_or(0, Iterator::count), 0);
}

#[test]
fn the_shares_of_a_kek_that_was_replaced_make_no_new_shares() {
    let kept = Kept::new();
    let vault = &kept.vault;
    let newcomers = custodians(vault.dir(), &["legal", "board"]);
    let flags = quorum_flags(&newcomers, 2, &vault.file("rotated"));
    vault.ok(&words(&["kek", "rotate", "--yes"], &flags));
    let old = share_flags(&kept.keepers, &kept.shares());
    let refused = vault.ctl(&words(&[], &reshare(vault, old, &newcomers)));
    refused.refused(7, "not the one in force here");
}

#[test]
fn new_shares_whose_answer_was_lost_are_fetched_once_more() {
    let mut kept = Kept::new();
    let newcomers = custodians(kept.vault.dir(), &["legal", "board"]);
    let old = share_flags(&kept.keepers[..2], &kept.shares());
    let command = reshare(&kept.vault, old, &newcomers);
    crash_at(&mut kept.vault, "reshare.kept", &words(&[], &command));
    let again = kept.vault.file("again");
    kept.vault.ok(&["shares", "--shares-dir", &again.display().to_string()]);
    let holders: Vec<_> = newcomers.iter().collect();
    let check = rebuilt_check_value(&holders, &again, kept.id());
    assert_eq!(in_force(&kept.vault)["check_value"], check);
    assert!(kept.vault.open_operations().is_empty());
}
