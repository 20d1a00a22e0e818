//! Faults of `vault.toml`.

use std::{fs, process::Command};

use testkit::{
    programs::{ours, run},
    vault::Vault,
};

#[test]
fn every_fault_of_the_configuration_is_said_with_its_line() {
    let mut vault = Vault::new();
    vault.reconfigure("workers = 2", "workers = 0\ncolour = \"red\"");
    vault.reconfigure("drain = \"2s\"", "drain = \"soon\"");
    vault.reconfigure("[acme]", "[acne]\nx = 1\n[acme]");
    let lines: Vec<_> = vault.config.lines().collect();
    let line = |begin: &str| 1 + lines.iter().position(|line| line.starts_with(begin)).unwrap();
    let said = [line("colour"), line("drain"), line("[acne]")];
    let file = vault.file("vault.toml");
    fs::write(&file, &vault.config).unwrap();
    for verb in ["check-config", "run"] {
        let mut command = Command::new(ours("vaultd"));
        command.arg(verb).arg("--config").arg(&file);
        let ended = run(command);
        for line in said {
            ended.refused(2, &format!("line {line}: "));
        }
    }
    let made = ["vault.db", "audit.log", "admin.sock"].map(|name| vault.file(name).exists());
    assert_eq!(made, [false; 3], "something was made");
}

#[test]
fn values_that_cannot_be_are_said_with_their_line() {
    for (from, to) in [
        ("workers = 2", "workers = 0"),
        ("pkcs11:token=vault?", "pkcs12:token=vault?"),
        ("test.example", "Test Example"),
        ("sqlite:", "mysql:"),
        ("request_timeout = \"5s\"", "renew_after = 1.5"),
    ] {
        let mut vault = Vault::new();
        vault.reconfigure(from, to);
        let at = 1 + vault.config.lines().position(|line| line.contains(to)).unwrap();
        vault.run_daemon().refused(2, &format!("line {at}: "));
    }
}

#[test]
fn what_a_dns_provider_lacks_is_said_with_its_line() {
    let mut vault = Vault::new();
    let entries = "[[acme.dns]]\nprovider = \"route35\"\n[[acme.dns]]\nprovider = \"ovh\"\n";
    vault.reconfigure("[policy]\n", &format!("{entries}[policy]\n"));
    let line = |text: &str| 1 + vault.config.lines().position(|line| line == text).unwrap();
    let (unknown, lacking) = (line("provider = \"route35\""), line("provider = \"ovh\"") - 1);
    let file = vault.file("vault.toml");
    fs::write(&file, &vault.config).unwrap();
    let mut command = Command::new(ours("vaultd"));
    command.arg("check-config").arg("--config").arg(&file);
    let ended = run(command);
    ended.refused(2, &format!("line {unknown}: [[acme.dns]] provider: there is none"));
    ended.refused(2, &format!("line {lacking}: [[acme.dns]]: provider ovh needs credentials"));
}

#[test]
fn a_configuration_that_is_right_is_said_to_be() {
    let vault = Vault::new();
    let file = vault.file("vault.toml");
    fs::write(&file, &vault.config).unwrap();
    let mut command = Command::new(ours("vaultd"));
    command.arg("check-config").arg("--config").arg(&file);
    assert_eq!(run(command).code, 0);
    let mut command = Command::new(ours("vaultd"));
    command.arg("run").arg("--config").arg(vault.file("nothing.toml"));
    run(command).refused(2, "nothing.toml");
}
