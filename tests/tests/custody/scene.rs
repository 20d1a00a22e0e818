//! What the tests of this file ask of a vault and its token.

use std::{collections::BTreeSet, process::Command};

use testkit::{
    programs::run,
    vault::{PIN, SOFTHSM, Vault},
};

/// Words of a command line.
pub fn words<'a>(first: &[&'a str], rest: &'a [String]) -> Vec<&'a str> {
    first.iter().copied().chain(rest.iter().map(String::as_str)).collect()
}

/// The secret keys of a token, by CKA_ID without hyphens: in the eyes of `pkcs11-tool`.
pub fn secrets(vault: &Vault, token: &str) -> BTreeSet<String> {
    let mut command = Command::new("pkcs11-tool");
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    command.args(["--module", SOFTHSM, "--token-label", token, "--login", "--pin", PIN]);
    command.args(["--list-objects", "--type", "secrkey"]);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    let ids = ended.stdout.lines().filter_map(|line| line.trim().strip_prefix("ID:"));
    ids.map(|id| id.trim().to_owned()).collect()
}

/// An id as `pkcs11-tool` writes it.
pub fn bare(id: &serde_json::Value) -> String {
    id.as_str().unwrap().replace('-', "")
}

/// The KEK in force, as `kek show` has it; the only one of the vault's token.
pub fn in_force(vault: &Vault) -> serde_json::Value {
    let keks = vault.json(&["kek", "show"]);
    let in_force: Vec<_> =
        keks.as_array().unwrap().iter().filter(|kek| kek["state"] == "in-force").collect();
    assert_eq!(in_force.len(), 1, "{keks}");
    assert_eq!(secrets(vault, "vault"), BTreeSet::from([bare(&in_force[0]["id"])]), "{keks}");
    in_force[0].clone()
}

/// Has the vault kill itself at a named place in the middle of a command, and starts it again.
pub fn crash_at(vault: &mut Vault, point: &str, command: &[&str]) {
    vault.kill();
    vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
    vault.start();
    let ended = vault.ctl(command);
    assert_ne!(ended.code, 0, "{point}: {ended:?}");
    let status = vault.process().wait_exit();
    assert!(!status.success(), "{point}: the vault did not crash");
    vault.environment.clear();
    vault.start();
}
