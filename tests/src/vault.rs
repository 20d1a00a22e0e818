//! `vaultd` on its own SoftHSM token, store, audit log and sockets, and `vaultctl` on its admin
//! socket.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::{Ended, ours, run};

/// Where Debian's softhsm2 has its module.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// How long the vault waits for the HSM and for its audit log where no test is about that: far longer than the
/// defaults, of which a busy machine needs all for a few RSA keys.
const DEADLINE: &str = "1m";
/// The user PIN of every test's token.
pub const PIN: &str = "1234-test";

/// A vault's directory: configuration, token, state. The daemon comes and goes.
pub struct Vault {
    /// Where it listens.
    pub address: SocketAddr,
    /// What `vault.toml` says; written at each start.
    pub config: String,
    /// Variables of the daemon, for example `FAILPOINTS`.
    pub environment: Vec<(String, String)>,
    /// A command that the daemon is run by; see [`SmallDisk`](crate::small_disk::SmallDisk).
    pub through: Vec<String>,
    process: Option<Process>,
    /// Dropped last: what the daemon has written is read when it is dropped.
    dir: TempDir,
}

impl Vault {
    /// A directory with a configuration and an empty SoftHSM; nothing runs yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(dir.path().join("tokens")).expect("tokens");
        fs::write(at("softhsm2.conf"), format!("directories.tokendir = {}\n", at("tokens")))
            .expect("softhsm2.conf");
        fs::write(at("pin"), format!("{PIN}\n")).expect("pin");
        fs::write(at("so-pin"), "so-1234-test\n").expect("so-pin");
        let config = format!(
            r#"[hsm]
uri = "pkcs11:token=vault?module-path={SOFTHSM}"
pin = {{ file = "{pin}" }}
so_pin = {{ file = "{so_pin}" }}
workers = 2
deadline = "{DEADLINE}"
[hsm.environment]
SOFTHSM2_CONF = "{softhsm}"
[store]
url = "sqlite:{store}"
[listen]
address = "{address}"
admin_socket = "{socket}"
drain = "2s"
[audit]
path = "{audit}"
deadline = "{DEADLINE}"
[acme]
request_timeout = "5s"
[policy]
trust_domain = "test.example"
"#,
            pin = at("pin"),
            so_pin = at("so-pin"),
            softhsm = at("softhsm2.conf"),
            store = at("vault.db"),
            socket = at("admin.sock"),
            audit = at("audit.log"),
        );
        Self { dir, address, config, environment: Vec::new(), through: Vec::new(), process: None }
    }

    /// A vault that is initialised without custodians and runs.
    pub fn initialized() -> Self {
        let mut vault = Self::new();
        vault.start();
        vault.ok(&["init"]);
        vault
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file in its directory, as text for a command line.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Changes the configuration for the next start.
    ///
    /// # Panics
    /// Where `from` is not in it.
    pub fn reconfigure(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from} is not in the configuration");
        self.config = self.config.replace(from, to);
    }

    /// Sets how long the vault waits for the HSM, for the next start.
    ///
    /// # Panics
    /// Where it was set before.
    pub fn hsm_deadline(&mut self, wanted: &str) {
        let lines = |deadline: &str| format!("deadline = \"{deadline}\"\n[hsm.environment]\n");
        self.reconfigure(&lines(DEADLINE), &lines(wanted));
    }

    fn command(&self, program: &str, through: &[String]) -> Command {
        fs::write(self.file("vault.toml"), &self.config).expect("vault.toml");
        let program = ours(program);
        let mut command = match through {
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            [] => Command::new(program),
        };
        command.current_dir(self.dir.path()).env_remove("FAILPOINTS");
        command
    }

    fn daemon(&self) -> Command {
        let mut command = self.command("vaultd", &self.through);
        command.args(["run", "--config"]).arg(self.file("vault.toml"));
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Starts the daemon and waits until it answers on its admin socket.
    ///
    /// # Panics
    /// Where it does not; with its log.
    pub fn start(&mut self) {
        self.spawn();
        let socket = self.file("admin.sock");
        let process = self.process.as_mut().expect("just started");
        process.wait_until("admin socket", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&mut self) {
        self.process = None;
        self.process = Some(Process::spawn("vaultd", self.daemon(), self.dir.path()));
    }

    /// Runs the daemon where it is expected to end by itself.
    pub fn run_daemon(&self) -> Ended {
        run(self.daemon())
    }

    /// The running daemon.
    ///
    /// # Panics
    /// Where none was started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("no daemon was started")
    }

    /// Ends the daemon with SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Ends the daemon with SIGTERM; it must exit with 0.
    ///
    /// # Panics
    /// Where it does not.
    pub fn stop(&mut self) {
        let process = self.process();
        process.terminate();
        let status = process.wait_exit();
        assert!(status.success(), "{status}: {}", self.process().log());
        self.process = None;
    }

    /// Runs `vaultctl` on the admin socket.
    pub fn ctl(&self, args: &[&str]) -> Ended {
        let mut command = self.command("vaultctl", &[]);
        command.arg("--socket").arg(self.file("admin.sock")).args(args);
        run(command)
    }

    /// Runs `vaultctl` over the network with the certificate in a directory, as `operator issue`
    /// writes it.
    pub fn ctl_as(&self, dir: &Path, args: &[&str]) -> Ended {
        let mut command = self.command("vaultctl", &[]);
        command.args(["--address", &self.address.to_string()]);
        for (flag, file) in [("--ca", "ca.pem"), ("--cert", "cert.pem"), ("--key-file", "key.pem")]
        {
            command.arg(flag).arg(dir.join(file));
        }
        command.args(args);
        run(command)
    }

    /// Has a client certificate issued; answers its directory, for [`Vault::ctl_as`].
    ///
    /// # Panics
    /// Where it is refused.
    pub fn issue(&self, name: &str, role: &str) -> PathBuf {
        let dir = self.file(name);
        let out = dir.display().to_string();
        self.ok(&["operator", "issue", name, "--role", role, "--out", &out]);
        dir
    }

    /// Runs `vaultctl`, which must succeed; answers its stdout.
    ///
    /// # Panics
    /// Where it does not; with what it said.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.ctl(args);
        assert_eq!(ended.code, 0, "vaultctl {args:?}: {ended:?}");
        ended.stdout
    }

    /// Runs `vaultctl -o json`, which must succeed.
    ///
    /// # Panics
    /// Where it does not; with what it said.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let args: Vec<_> = ["-o", "json"].iter().chain(args).copied().collect();
        let ended = self.ctl(&args);
        assert_eq!(ended.code, 0, "vaultctl {args:?}: {ended:?}");
        ended.json()
    }

    /// The private keys in the token itself, by their CKA_ID in hex: in the eyes of `pkcs11-tool`,
    /// which shares nothing with the vault.
    ///
    /// # Panics
    /// Where it cannot tell.
    pub fn keys_in_token(&self) -> BTreeSet<String> {
        let mut command = Command::new("pkcs11-tool");
        command.env("SOFTHSM2_CONF", self.file("softhsm2.conf"));
        command.args(["--module", SOFTHSM, "--token-label", "vault", "--login", "--pin", PIN]);
        command.args(["--list-objects", "--type", "privkey"]);
        let ended = run(command);
        assert_eq!(ended.code, 0, "{ended:?}");
        let ids = ended.stdout.lines().filter_map(|line| line.trim().strip_prefix("ID:"));
        ids.map(|id| id.trim().to_owned()).collect()
    }

    /// The audit log's records; not one that is being written just now.
    ///
    /// # Panics
    /// Where a line is no record.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.file("audit.log")).expect("audit log");
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// The operations in the audit log whose result is not recorded yet.
    ///
    /// # Panics
    /// Where a line is no record.
    pub fn open_operations(&self) -> BTreeSet<String> {
        let mut open = BTreeSet::new();
        for record in self.audit() {
            let Some(operation) = record["operation"].as_str() else { continue };
            match record["phase"].as_str().expect("a phase") {
                "intent" => open.insert(operation.to_owned()),
                _ => open.remove(operation),
            };
        }
        open
    }
}

impl Default for Vault {
    fn default() -> Self {
        Self::new()
    }
}
