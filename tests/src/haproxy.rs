//! HAProxy as a user's TLS server: Debian's, on a high port, master and worker, everything in its
//! own directory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::{toml_command, with_environment};
use crate::tls;

/// A running HAProxy that begins with a certificate of nobody's.
pub struct Haproxy {
    /// Where it speaks TLS.
    pub https: SocketAddr,
    environment: Vec<(String, String)>,
    process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Haproxy {
    /// Starts it with these variables. Its workers are the user haproxy's where the test is root's.
    pub fn start_with(environment: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let https = SocketAddr::from(([127, 0, 0, 1], free_port()));
        // It finds the key of a file by the file's name.
        tls::placeholder(&dir.path().join("chain.pem"), &dir.path().join("chain.pem.key"));
        fs::write(dir.path().join("haproxy.cfg"), config(dir.path(), https)).expect("haproxy.cfg");
        let process = spawn(&environment, dir.path());
        let mut haproxy = Self { https, environment, process, dir };
        haproxy.process.wait_listening(https);
        haproxy
    }

    /// A file in its directory: `chain.pem`, `chain.pem.key`, `haproxy.cfg`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that checks its configuration, as a TOML array.
    pub fn test_command(&self) -> String {
        toml_command(&words(&self.environment, self.dir.path(), &["-c", "-q"]))
    }

    /// The command that makes it load its files anew and lets its workers finish, as a TOML array.
    pub fn reload_command(&self) -> String {
        let line = format!("kill -USR2 $(cat '{}')", self.file("haproxy.pid").display());
        toml_command(&["sh".to_owned(), "-c".to_owned(), line])
    }

    /// Makes it load its files anew and lets its worker finish.
    pub fn reload(&self) {
        self.process.signal(rustix::process::Signal::USR2);
    }

    /// Its master process.
    pub fn master(&self) -> &Process {
        &self.process
    }

    /// Kills its worker.
    pub fn kill_worker(&self) {
        self.process.kill_children();
    }

    /// Ends it and starts it anew.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn restart(&mut self) {
        self.process.terminate();
        self.restart_when_ended();
    }

    /// Waits until it has ended, and starts it anew, as systemd does with its unit.
    pub fn restart_when_ended(&mut self) {
        self.process.wait_exit();
        self.process = spawn(&self.environment, self.dir.path());
        self.process.wait_listening(self.https);
    }
}

fn spawn(environment: &[(String, String)], dir: &Path) -> Process {
    let pid = dir.join("haproxy.pid").display().to_string();
    let words = words(environment, dir, &["-W", "-db", "-p", &pid]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Process::spawn("haproxy", command, dir)
}

fn config(dir: &Path, https: SocketAddr) -> String {
    let is_root = rustix::process::geteuid().is_root();
    let user = if is_root { "  user haproxy\n  group haproxy\n" } else { "" };
    format!(
        "global\n  maxconn 64\n  nbthread 2\n{user}\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 50s\n  timeout server 5s\n\
         frontend tls\n  bind {https} ssl crt {} ssl-min-ver TLSv1.2\n  http-request return status 200\n",
        dir.join("chain.pem").display(),
    )
}

fn words(environment: &[(String, String)], dir: &Path, more: &[&str]) -> Vec<String> {
    let config = dir.join("haproxy.cfg").display().to_string();
    let base = ["haproxy", "-f", &config];
    with_environment(environment, &[&base[..], more].concat())
}

impl Drop for Haproxy {
    /// Workers outlive a master that is killed, ports and all, so it is asked first.
    fn drop(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
    }
}
