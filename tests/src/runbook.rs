//! Runbooks, run as they are written.

use std::{env, fs, process::Command};

use crate::{
    programs::{Ended, ours, run, workspace},
    vault::Vault,
};

/// Runs every block of `deploy/runbooks/NAME.md` that is to be run, in their order, each failing as
/// a whole: in a vault's directory, with its admin socket.
///
/// # Panics
/// Where the runbook is not there or has no steps.
pub fn follow(name: &str, vault: &Vault) -> Ended {
    let file = workspace().join("deploy/runbooks").join(name);
    let runbook = fs::read_to_string(file.with_extension("md")).expect("a runbook");
    let programs = ours("vaultctl").parent().expect("a directory").display().to_string();
    let mut command = Command::new("bash");
    command.args(["-c", &steps(&runbook)]).current_dir(vault.dir());
    command.env("PATH", format!("{programs}:{}", env::var("PATH").expect("PATH")));
    command.env("VAULTCTL_SOCKET", vault.file("admin.sock"));
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    run(command)
}

fn steps(runbook: &str) -> String {
    let blocks = runbook.split("```sh\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 3, "the runbook has no steps");
    format!("set -euo pipefail\n{}", blocks.join("\n"))
}
