//! `vault-agent` on a web server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::Process;
use crate::programs::{Ended, ours, run};
use crate::vault::Vault;

/// An agent's directory: configuration and state. The program comes and goes.
pub struct Agent {
    /// What `agent.toml` says after `state_dir` and `[vault]`; written at each start.
    pub config: String,
    /// What `[vault] addresses` says; written at each start.
    pub addresses: Vec<String>,
    /// A command that the agent is run by, `unshare` with its options for example.
    pub through: Vec<String>,
    vault: String,
    process: Option<Process>,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Agent {
    /// A directory with a configuration; nothing runs yet.
    pub fn new(vault: &Vault, config: &str) -> Self {
        Self::at(vault.address, config)
    }

    /// The same, of whatever listens there as a vault.
    pub fn at(vault: SocketAddr, config: &str) -> Self {
        Self {
            dir: tempfile::tempdir().expect("directory"),
            config: config.to_owned(),
            addresses: vec![vault.to_string()],
            through: Vec::new(),
            vault: vault.to_string(),
            process: None,
        }
    }

    /// An agent that is enrolled under `name` and runs.
    pub fn enrolled(vault: &Vault, name: &str, config: &str) -> Self {
        let mut agent = Self::new(vault, config);
        let ended = agent.enroll(vault, name);
        assert_eq!(ended.code, 0, "{ended:?}");
        agent.start();
        agent
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The agent with these arguments and its configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let state = self.file("state");
        let text = format!(
            "state_dir = {state:?}\n[vault]\naddresses = {:?}\n{}",
            self.addresses, self.config
        );
        fs::write(self.file("agent.toml"), text).expect("agent.toml");
        let mut words = self.through.iter().map(PathBuf::from).chain([ours("vault-agent")]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(args).arg("--config").arg(self.file("agent.toml"));
        command
    }

    /// Enrols with a fresh token.
    pub fn enroll(&self, vault: &Vault, name: &str) -> Ended {
        let invited = vault.json(&["agent", "token", name]);
        let token = invited["token"].as_str().expect("token");
        let fingerprint = invited["ca_fingerprint"].as_str().expect("fingerprint");
        self.enroll_with(token, fingerprint)
    }

    /// Enrols with this token and fingerprint.
    pub fn enroll_with(&self, token: &str, fingerprint: &str) -> Ended {
        fs::write(self.file("token"), token).expect("token");
        run(self.enrolment(fingerprint))
    }

    /// The command that enrols with the token in the file `token`.
    pub fn enrolment(&self, fingerprint: &str) -> Command {
        let mut command = self.command(&["enroll", "--vault", &self.vault]);
        command.args(["--ca-fingerprint", fingerprint]);
        command.arg("--token-file").arg(self.file("token"));
        command
    }

    /// Starts the agent; it connects when it can.
    pub fn start(&mut self) {
        self.process = None;
        self.process = Some(Process::spawn("vault-agent", self.command(&["run"]), self.dir.path()));
    }

    /// The running agent.
    ///
    /// # Panics
    /// Where none was started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("no agent was started")
    }

    /// Waits until it has written `text`.
    ///
    /// # Panics
    /// Where it does not, or ends.
    pub fn wait_log(&mut self, text: &str) {
        let log = self.file("vault-agent.log");
        let said = || fs::read_to_string(&log).is_ok_and(|all| all.contains(text));
        self.process().wait_until(&format!("{text:?} in its log"), said);
    }

    /// Its identity: key, certificate and the vault's root, PEM.
    pub fn identity(&self) -> String {
        fs::read_to_string(self.file("state/identity.pem")).expect("identity.pem")
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// What it prints for a web server, `nginx` for example.
    ///
    /// # Panics
    /// Where it refuses.
    pub fn snippet(&self, server: &str) -> serde_json::Value {
        let ended = run(self.command(&["snippet", server, "-o", "json"]));
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()
    }

    /// What it says of itself.
    pub fn status(&self) -> serde_json::Value {
        let ended = run(self.command(&["status", "-o", "json"]));
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()
    }
}
