//! The runbook of a restore, run as it is written.

use std::fs;

use testkit::runbook;

use super::world::Lost;

#[test]
fn a_restore_goes_as_its_runbook_says() {
    let lost = Lost::new();
    let vault = lost.heir();
    // What people bring with them.
    let old = &lost.escrowed.vault;
    let bring = |from: std::path::PathBuf, to: &str| {
        fs::create_dir_all(vault.file(to).parent().unwrap()).unwrap();
        fs::copy(from, vault.file(to)).unwrap();
    };
    bring(lost.backup.clone(), "backups/vault.age");
    bring(lost.escrowed.keeper.identity.clone(), "keeper/identity");
    for custodian in &lost.escrowed.custodians {
        let name = &custodian.name;
        bring(custodian.identity.clone(), &format!("{name}/identity"));
        bring(custodian.share(&old.file("shares")), &format!("{name}/{name}.age"));
    }
    let ended = runbook::follow("restore", &vault);
    assert_eq!(ended.code, 0, "{ended:?}");
    lost.assert_is_in(&vault);
    assert!(ended.stdout.contains("ed\n"), "the lost key is not named: {ended:?}");
    assert!(!vault.file("opened").exists(), "opened shares are left");
    let by_grace = vault.ctl_as(&vault.file("grace"), &["-o", "json", "backup", "list"]);
    assert_eq!(by_grace.json().as_array().unwrap().len(), 1, "{by_grace:?}");
}
