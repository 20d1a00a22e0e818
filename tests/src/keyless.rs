//! What a web server needs to use keys that the vault keeps, as `vault-agent snippet` makes it: OpenSSL's
//! configuration and the variables that lead to the PKCS#11 module and the agent's socket.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;

use crate::programs::{ours, run};

/// A directory that web servers' workers can reach, with the agent's socket and OpenSSL's
/// configuration. The list of keys is where the agent's user and root alone can reach it, as in a
/// state directory.
pub struct Keyless {
    environment: Vec<(String, String)>,
    dir: TempDir,
}

impl Keyless {
    /// With OpenSSL's provider.
    ///
    /// # Panics
    /// Where module or provider are missing.
    pub fn new() -> Self {
        Self::with("openssl")
    }

    /// With OpenSSL's engine.
    ///
    /// # Panics
    /// Where module or engine are missing.
    pub fn by_engine() -> Self {
        Self::with("openssl-engine")
    }

    fn with(server: &str) -> Self {
        let everybody = fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().permissions(everybody).tempdir().expect("directory");
        fs::DirBuilder::new().mode(0o700).create(dir.path().join("private")).expect("directory");
        let mut keyless = Self { environment: Vec::new(), dir };
        let config = format!(
            "state_dir = {:?}\n[vault]\naddresses = [\"vault.invalid:8200\"]\n{}",
            keyless.file("private"),
            keyless.signer()
        );
        fs::write(keyless.file("agent.toml"), config).expect("agent.toml");
        let mut command = Command::new(ours("vault-agent"));
        command.args(["snippet", server, "-o", "json", "--config"]);
        command.arg(keyless.file("agent.toml")).arg("--out").arg(keyless.dir.path());
        // The one that is tested, wherever another may be installed.
        command.arg("--pkcs11-module").arg(ours("libvault_pkcs11.so"));
        let ended = run(command);
        assert_eq!(ended.code, 0, "deploy/dependencies.sh --for-tests: {ended:?}");
        keyless.environment = environment(&ended.json());
        keyless
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.file("signer.sock")
    }

    /// The agent's list of keys.
    pub fn keys(&self) -> PathBuf {
        self.file("private/keys.pb")
    }

    /// The variables of a web server.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }

    /// The agent's `[signer]`, for workers that run as any of the users that Debian's web servers
    /// run as.
    pub fn signer(&self) -> String {
        let there = |user: &&str| {
            let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
            users.lines().any(|line| line.split(':').next() == Some(*user))
        };
        let users: Vec<_> = ["www-data", "nobody", "haproxy"].into_iter().filter(there).collect();
        let (socket, keys) = (self.socket(), self.keys());
        format!("[signer]\nsocket = {socket:?}\nkeys = {keys:?}\nallow = {users:?}\n")
    }
}

impl Default for Keyless {
    fn default() -> Self {
        Self::new()
    }
}

fn environment(snippet: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let variables = snippet["environment"].as_array().expect("variables").iter();
    variables.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}
