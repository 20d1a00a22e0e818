//! The key ceremony's runbook, run as it is written.

use std::{env, fs, path::Path, process::Command};

use testkit::{
    programs::{ours, run},
    vault::Vault,
};

/// The blocks of a runbook that are to be run, in their order, each failing as a whole.
fn steps(runbook: &str) -> String {
    let blocks = runbook.split("```sh\n").skip(1);
    let blocks: Vec<_> = blocks.map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 3, "the runbook has no steps");
    format!("set -euo pipefail\n{}", blocks.join("\n"))
}

#[test]
fn the_key_ceremony_goes_as_its_runbook_says() {
    let mut vault = Vault::new();
    vault.start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/runbooks/key-ceremony.md");
    let runbook = fs::read_to_string(file).unwrap();
    let programs = ours("vaultctl").parent().unwrap().display().to_string();
    let mut command = Command::new("bash");
    command.args(["-c", &steps(&runbook)]).current_dir(vault.dir());
    command.env("PATH", format!("{programs}:{}", env::var("PATH").unwrap()));
    command.env("VAULTCTL_SOCKET", vault.file("admin.sock"));
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(vault.file("audit/audit.age").is_file(), "a custodian without a share");
    assert!(!vault.file("shares").exists());
    let by_ada = vault.ctl_as(&vault.file("ada"), &["-o", "json", "kek", "show"]);
    assert_eq!(by_ada.json()[0]["state"], "in-force", "{by_ada:?}");
}
