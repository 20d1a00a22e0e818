//! The key ceremony's runbook, run as it is written.

use testkit::{runbook, vault::Vault};

#[test]
fn the_key_ceremony_goes_as_its_runbook_says() {
    let mut vault = Vault::new();
    vault.start();
    let ended = runbook::follow("key-ceremony", &vault);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(vault.file("audit/audit.age").is_file(), "a custodian without a share");
    assert!(!vault.file("shares").exists());
    let by_ada = vault.ctl_as(&vault.file("ada"), &["-o", "json", "kek", "show"]);
    assert_eq!(by_ada.json()[0]["state"], "in-force", "{by_ada:?}");
}
