//! PostgreSQL on loopback, with password authentication and a locale that orders names otherwise
//! than bytes do, as real servers have one.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::{must, run};

/// The role that owns every database.
const USER: &str = "vault";
/// Its password.
pub const PASSWORD: &str = "postgres-test-password";

/// A running PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    port: u16,
    owner: Option<(u32, u32)>,
    databases: AtomicU32,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a server of one's own, for tests that stop it.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let owner = owner();
        if let Some((uid, gid)) = owner {
            chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        }
        let databases = AtomicU32::new(0);
        let mut server = Self { dir, port: free_port(), owner, databases, process: None };
        server.initialize();
        server.restart();
        server
    }

    /// The server that every test of this program shares while any of them holds it: making one
    /// takes seconds.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Makes an empty database; answers its URL, password and all.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn database(&self) -> String {
        let name = format!("vault_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut command = self.program("createdb");
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--username", USER, &name]).env("PGPASSWORD", PASSWORD);
        let ended = run(command);
        assert_eq!(ended.code, 0, "{ended:?}");
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends it at once, as a crash does: every connection breaks, nothing is written out.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Not SIGKILL, which leaves its shared memory behind.
        process.end_by(Signal::QUIT);
    }

    /// Starts it again, on the same port and with the same databases.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        // No fsync: the tests end the server, never the machine.
        for option in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"] {
            command.args(["-c", option]);
        }
        let mut process = Process::spawn("postgres", command, self.dir.path());
        process.wait_until("readiness", || {
            let mut ask = self.program("pg_isready");
            ask.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
            run(ask).code == 0
        });
        self.process = Some(process);
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn initialize(&self) {
        let password = self.dir.path().join("password");
        fs::write(&password, PASSWORD).expect("password");
        let mut command = self.program("initdb");
        command.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password);
        command.args(["--username", USER, "--auth", "scram-sha-256", "--no-sync"]);
        command.args(["--encoding", "UTF8", "--locale", "C.UTF-8"]);
        command.args(["--locale-provider", "icu", "--icu-locale", "en-US"]);
        let ended = run(command);
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// One of its programs, run by who may run it.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(binaries().join(name));
        command.current_dir(self.dir.path());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whom it runs as where the test is root, whom PostgreSQL refuses.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |flag: &str| must("id", &[flag, "postgres"]).trim().parse().expect("an id");
    Some((id("-u"), id("-g")))
}

/// Where Debian has the newest version's programs.
fn binaries() -> PathBuf {
    let versions = Path::new("/usr/lib/postgresql");
    let found = fs::read_dir(versions).into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = found.map(|entry| entry.path()).max_by_key(|path| version(path));
    newest
        .unwrap_or_else(|| panic!("{}: PostgreSQL is not installed", versions.display()))
        .join("bin")
}
