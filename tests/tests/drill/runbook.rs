//! The drill's runbook, run as it is written, and the unit that drills unattended.

use std::{fs, path::Path, process::Command};

use testkit::{
    programs::{ours, run, workspace},
    runbook,
};

use super::scene::Scene;

#[test]
fn a_drill_goes_as_its_runbook_says() {
    let scene = Scene::new();
    let vault = scene.vault();
    // What people bring with them.
    let bring = |from: &Path, to: &str| {
        fs::create_dir_all(vault.file(to).parent().unwrap()).unwrap();
        fs::copy(from, vault.file(to)).unwrap();
    };
    bring(&scene.escrowed.keeper.identity, "keeper/identity");
    for custodian in &scene.escrowed.custodians {
        let name = &custodian.name;
        bring(&custodian.identity, &format!("{name}/identity"));
        bring(&custodian.share(&vault.file("shares")), &format!("{name}/{name}.age"));
    }
    let ended = runbook::follow("drill", vault);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("bound: "), "the key to issue anew is not named: {ended:?}");
    assert!(!vault.file("drill/ops.json").exists(), "opened shares are left");
    assert_eq!(vault.json(&["drill", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn the_unattended_drill_s_command_is_taken_as_it_stands_and_fails_its_unit_where_nothing_is_proven()
{
    let file = workspace().join("deploy/systemd/vault-drill.service");
    let unit = fs::read_to_string(file).unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let command = command.replace("%d", &dir.path().display().to_string());
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/vaultctl"));
    let mut drill = Command::new(ours("vaultctl"));
    drill.args(words).env("VAULTCTL_SOCKET", dir.path().join("nobody.sock"));
    drill.current_dir(dir.path());
    run(drill).refused(6, "nobody.sock");
}
