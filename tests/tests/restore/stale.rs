//! A backup that is not the newest, or whose data is old, is restored only where that is said.

use super::world::Lost;
use testkit::vault::Vault;

#[test]
fn a_backup_with_a_newer_one_beside_it_is_restored_only_where_that_is_said() {
    let mut lost = Lost::new();
    lost.escrowed.vault.start();
    let (_, newer) = lost.escrowed.backup("newer.age");
    lost.escrowed.vault.kill();
    let vault = lost.heir();
    let refused = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    refused.refused(2, &newer.display().to_string());
    assert!(refused.stderr.contains("--allow-stale"), "{refused:?}");
    assert_eq!(vault.json(&["status"])["initialized"], false);
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &["--allow-stale"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    lost.assert_is_in(&vault);
}

#[test]
fn another_vault_s_backup_beside_it_and_what_is_none_count_for_nothing() {
    let lost = Lost::new();
    let mut other = testkit::escrow::Escrowed::new();
    let out = lost.escrowed.vault.path("other.age");
    let to = &lost.escrowed.keeper.recipient;
    other.vault.ok(&["backup", "create", "--out", &out, "--recipient", to]);
    other.vault.stop();
    std::fs::write(lost.escrowed.vault.file("none.age"), "no backup").unwrap();
    let vault = lost.heir();
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_backup_whose_data_is_old_is_restored_only_where_that_is_said() {
    let lost = Lost::new();
    let mut vault = Vault::in_place_of(&lost.escrowed.vault);
    vault.config.push_str("[backup]\nstale_after = \"1s\"\n");
    vault.start();
    // However quick everything was until here.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let refused = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    refused.refused(2, "stale_after");
    assert_eq!(vault.json(&["status"])["initialized"], false);
    assert!(refused.stderr.contains("--allow-stale"), "{refused:?}");
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &["--allow-stale"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    lost.assert_is_in(&vault);
}
