//! The PIN: where it comes from, and what becomes of a wrong one.

use std::fs;

use testkit::{spy::Spy, vault::Vault};

use super::refused::Stopped;

/// How `vault.toml` names the PIN's file.
fn source(vault: &Vault) -> String {
    format!("pin = {{ file = \"{}\" }}\nso_pin", vault.path("pin"))
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let mut stopped = Stopped::new();
    let pin = fs::read_to_string(stopped.vault.file("pin")).unwrap();
    let config = stopped.vault.config.clone();
    let spy = Spy::on(&mut stopped.vault);
    // As many sessions as a real vault has.
    stopped.vault.reconfigure("workers = 1", "workers = 4");
    fs::write(stopped.vault.file("pin"), "4321-wrong\n").unwrap();
    let ended = stopped.vault.run_daemon();
    ended.refused(4, "the PIN is wrong");
    assert!(!ended.stderr.contains("4321-wrong"), "the PIN is repeated: {ended:?}");
    assert_eq!(spy.calls("C_Login"), 1, "logins");
    fs::write(stopped.vault.file("pin"), pin).unwrap();
    stopped.vault.config = config;
    stopped.vault.environment.clear();
    stopped.unchanged();
}

#[test]
fn a_pin_comes_from_a_file_a_variable_or_a_systemd_credential() {
    let mut vault = Vault::initialized();
    vault.stop();
    let (config, file) = (vault.config.clone(), source(&vault));
    let pin = testkit::vault::PIN.to_owned();
    let credentials = vault.file("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("hsm-pin"), &pin).unwrap();
    let credentials = credentials.display().to_string();
    for (from, variable) in [
        ("env = \"VAULT_TEST_PIN\"", ("VAULT_TEST_PIN".to_owned(), pin)),
        ("credential = \"hsm-pin\"", ("CREDENTIALS_DIRECTORY".to_owned(), credentials)),
    ] {
        vault.reconfigure(&file, &format!("pin = {{ {from} }}\nso_pin"));
        vault.run_daemon().refused(2, from.split('"').nth(1).unwrap());
        vault.environment = vec![variable];
        vault.start();
        assert_eq!(vault.json(&["status"])["hsm"]["available"], true, "{from}");
        vault.stop();
        vault.environment.clear();
        vault.config.clone_from(&config);
    }
}

#[test]
fn a_pin_that_is_empty_or_in_the_configuration_itself_is_refused() {
    let mut stopped = Stopped::new();
    let (file, empty) = (source(&stopped.vault), stopped.vault.path("empty"));
    fs::write(&empty, "\n").unwrap();
    let from_empty = format!("pin = {{ file = \"{empty}\" }}\nso_pin");
    stopped.refused(&file, &from_empty, 2, "it is empty");
    for pin in ["\"1234-test\"", "123456"] {
        let ended = stopped.refused(&file, &format!("pin = {pin}\nso_pin"), 2, "line 3: ");
        assert!(!ended.stderr.contains("1234"), "the PIN is repeated: {ended:?}");
    }
}
