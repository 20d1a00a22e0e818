//! Where programs are, and how they are run to their end.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// This workspace's folder.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_owned()
}

/// A program of this workspace, built beside the tests.
///
/// # Panics
/// Where it is not built: `cargo build --workspace` does.
pub fn ours(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    let dir = test.ancestors().find(|dir| dir.join(name).is_file());
    dir.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace` first"))
        .join(name)
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its stdout as JSON.
    ///
    /// # Panics
    /// Where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Checks that it was refused as the contract says: the code, and an `error:` line that
    /// contains `why`, and a hint.
    ///
    /// # Panics
    /// Where it was not.
    pub fn refused(&self, code: i32, why: &str) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        let error = self.stderr.lines().find(|line| line.starts_with("error: "));
        assert!(error.is_some(), "no error line: {self:?}");
        assert!(self.stderr.contains(why), "{why:?} is not said: {self:?}");
        assert!(self.stderr.contains("hint: "), "no hint: {self:?}");
        self
    }
}

/// Runs a program to its end.
///
/// # Panics
/// Where it cannot be started.
pub fn run(mut command: Command) -> Ended {
    let output = command.output();
    Ended::of(output.unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program())))
}

/// Runs a program that must succeed; answers its stdout.
///
/// # Panics
/// Where it does not exit with 0.
pub fn must(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{program} {args:?}: {ended:?}");
    ended.stdout
}

/// A command as `agent.toml` has it, an array of strings.
pub fn toml_command(words: &[String]) -> String {
    let all: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", all.join(", "))
}

/// `env` with these variables, before the words of a command.
pub fn with_environment(environment: &[(String, String)], words: &[&str]) -> Vec<String> {
    let set = environment.iter().map(|(name, value)| format!("{name}={value}"));
    let all = ["env".to_owned()].into_iter().chain(set);
    all.chain(words.iter().map(|word| (*word).to_owned())).collect()
}
