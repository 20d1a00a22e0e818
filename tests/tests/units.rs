//! systemd's units: each is understood whole, and the vault's starts it anew where that helps only.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, path::PathBuf, process::Command};

use testkit::{
    programs::{ours, run, workspace},
    vault::Vault,
};

fn deploy() -> PathBuf {
    workspace().join("deploy")
}

fn unit(name: &str) -> String {
    fs::read_to_string(deploy().join("systemd").join(name)).expect("a unit")
}

/// A directive that systemd does not know, it passes over: what it should have kept away is open then.
#[test]
fn systemd_knows_every_word_of_each_unit() {
    let dir = tempfile::tempdir().unwrap();
    let programs = ours("vaultd").parent().unwrap().display().to_string();
    let mut analyze = Command::new("systemd-analyze");
    // What else this machine has is not ours to judge.
    analyze.args(["verify", "--man=no", "--recursive-errors=no"]);
    let mut units = 0;
    for entry in fs::read_dir(deploy().join("systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // Where they are installed to is not this machine's.
        let text = unit(&name).replace("ExecStart=/usr/bin", &format!("ExecStart={programs}"));
        fs::write(dir.path().join(&name), text).unwrap();
        analyze.arg(dir.path().join(name));
        units += 1;
    }
    assert!(units >= 4, "{units} units");
    let ended = run(analyze);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// The exit codes after which a unit is not started again, as it is after all others for ever.
fn stays_down(name: &str) -> Vec<i32> {
    let text = unit(name);
    let set = |directive| text.lines().find_map(|line| line.strip_prefix(directive));
    assert_eq!((set("Restart="), set("StartLimitIntervalSec=")), (Some("always"), Some("0")));
    let codes = set("RestartPreventExitStatus=").expect("codes");
    codes.split(' ').map(|code| code.parse().expect("a code")).collect()
}

#[test]
fn an_agent_whose_configuration_is_wrong_is_not_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    fs::write(&file, "state_dirs = \"/var/lib/vault-agent\"\n").unwrap();
    let mut agent = Command::new(ours("vault-agent"));
    agent.args(["run", "--config"]).arg(file);
    let ended = run(agent);
    assert!(stays_down("vault-agent.service").contains(&ended.code), "{ended:?}");
}

#[test]
fn a_vault_whose_pin_or_configuration_is_wrong_is_not_started_again_and_one_without_an_hsm_is() {
    let stays_down = stays_down("vaultd.service");
    let mut vault = Vault::initialized();
    vault.stop();
    let right = vault.config.clone();
    fs::rename(vault.file("pin"), vault.file("right")).unwrap();
    fs::write(vault.file("pin"), "not-the-pin\n").unwrap();
    let refused = vault.run_daemon();
    assert!(stays_down.contains(&refused.code), "{refused:?}");
    fs::rename(vault.file("right"), vault.file("pin")).unwrap();
    vault.config = right.replace("[store]", "[stores]");
    let misread = vault.run_daemon();
    assert!(stays_down.contains(&misread.code), "{misread:?}");
    vault.config = right;
    fs::rename(vault.file("tokens"), vault.file("away")).unwrap();
    fs::create_dir(vault.file("tokens")).unwrap();
    let absent = vault.run_daemon();
    assert!(absent.code != 0 && !stays_down.contains(&absent.code), "{absent:?}");
    fs::remove_dir_all(vault.file("tokens")).unwrap();
    fs::rename(vault.file("away"), vault.file("tokens")).unwrap();
    vault.start();
}

/// The rest of the runbook needs a machine of its own.
#[test]
fn the_configuration_of_the_install_runbook_fits_its_unit() {
    let runbook = fs::read_to_string(deploy().join("runbooks/install.md")).unwrap();
    let begin = "cat >/etc/vaultd/vault.toml <<'END'\n";
    let config = runbook.split(begin).nth(1).unwrap().split("END\n").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vault.toml");
    fs::write(&file, config).unwrap();
    let mut check = Command::new(ours("vaultd"));
    check.args(["check-config", "--config"]).arg(file);
    let ended = run(check);
    assert_eq!(ended.code, 0, "{ended:?}");
    let unit = unit("vaultd.service");
    for (directive, used) in [
        ("LoadCredential=pin:/etc/vaultd/pin", "{ credential = \"pin\" }"),
        ("RuntimeDirectory=vaultd", "\"/run/vaultd/admin.sock\""),
        ("StateDirectory=vaultd", "\"sqlite:/var/lib/vaultd/vault.db\""),
    ] {
        assert!(unit.lines().any(|line| line == directive), "{directive}");
        assert!(config.contains(used), "{used}");
    }
}
