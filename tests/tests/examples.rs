//! What the papers show works: example configurations are taken whole, commands are taken as they
//! stand in the README.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, process::Command};

use testkit::programs::{Ended, ours, run, workspace};

fn example(name: &str) -> String {
    fs::read_to_string(workspace().join("deploy/config").join(name)).expect("example")
}

fn check(program: &str, config: &str) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(ours(program));
    command.args(["check-config", "--config"]).arg(file);
    run(command)
}

const EXAMPLES: [(&str, &str); 2] =
    [("vaultd", "vault.example.toml"), ("vault-agent", "agent.example.toml")];

#[test]
fn the_example_configurations_have_no_fault() {
    for (program, name) in EXAMPLES {
        let ended = check(program, &example(name));
        assert_eq!(ended.code, 0, "{name}: {ended:?}");
    }
}

/// The program itself names the fields of a table when it meets one that it does not know.
#[test]
fn the_example_configurations_show_every_field() {
    for (program, name) in EXAMPLES {
        let text = example(name);
        let tables = text.lines().filter(|line| line.starts_with('['));
        // Variables have any name.
        for table in tables.filter(|table| *table != "[hsm.environment]") {
            // The one way that is shown would hide that the stranger is none of the others.
            let alone = text.replace("\nwebroot = ", "\n# webroot = ");
            let stranger = alone.replacen(table, &format!("{table}\nstranger = 1"), 1);
            let said = check(program, &stranger).stderr;
            let known = said.split("expected").nth(1).unwrap_or_else(|| panic!("{table}: {said}"));
            let known = known.lines().next().unwrap();
            for field in known.split('`').skip(1).step_by(2) {
                let shown = text.contains(field);
                assert!(shown, "{name} does not show {field} of {table}");
            }
        }
    }
}

/// The commands of `vaultctl` and `vault-agent` in the README's code blocks, one a line.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let blocks = joined.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = blocks.map(|line| line.split(" # ").next().unwrap().trim());
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let programs = ["vaultctl ", "vault-agent ", "vaultd "];
    commands.filter(|line| programs.iter().any(|p| line.starts_with(p))).map(words).collect()
}

#[test]
fn the_commands_of_the_readme_are_taken_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let commands = commands(&readme);
    assert!(commands.len() >= 7, "{commands:?}");
    for words in commands {
        let mut command = Command::new(ours(&words[0]));
        command.args(&words[1..]).current_dir(dir.path());
        command.env("VAULTCTL_SOCKET", dir.path().join("nobody.sock"));
        let ended = run(command);
        // Nobody is there to answer, and the files are not there either; the words are right.
        assert!(!ended.stderr.contains("Usage:"), "{words:?}: {ended:?}");
        assert!(!ended.stderr.contains("unexpected argument"), "{words:?}: {ended:?}");
    }
}
