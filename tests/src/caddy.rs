//! Caddy's `acme_server`: an ACME server that shares nothing with Pebble.
//!
//! It validates on ports 80 and 443 and by the system's resolver, so it runs in
//! [`namespace::inside`](crate::namespace::inside).

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::process::{Process, free_port};

/// The name of its site; it must lead to 127.0.0.1.
pub const NAME: &str = "acme.example";
/// Where it validates HTTP-01.
pub const HTTP01: &str = "127.0.0.1:80";
/// Where it validates TLS-ALPN-01.
pub const TLS_ALPN01: &str = "127.0.0.1:443";

/// A running Caddy.
pub struct Caddy {
    address: SocketAddr,
    process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Caddy {
    /// Starts it with a CA of its own.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("directory"))
    }

    /// Starts it with its database in memory: it syncs that more than fifty times for a certificate,
    /// one after the other, and what is measured then is the disk.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_in_memory() -> Self {
        Self::start_in(TempDir::new_in("/dev/shm").expect("directory"))
    }

    fn start_in(dir: TempDir) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let storage = dir.path().join("storage");
        let config = format!(
            "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n \
             storage file_system {storage:?}\n}}\n\
             https://{NAME}:{port} {{\n bind {ip}\n tls internal\n acme_server\n}}\n",
            port = address.port(),
            ip = address.ip(),
        );
        fs::write(dir.path().join("Caddyfile"), config).expect("Caddyfile");
        let mut command = Command::new("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(dir.path().join("Caddyfile"));
        command.env("HOME", dir.path()).env("XDG_CONFIG_HOME", dir.path());
        command.env("XDG_DATA_HOME", dir.path());
        let mut caddy =
            Self { address, process: Process::spawn("caddy", command, dir.path()), dir };
        caddy.process.wait_listening(address);
        let root = caddy.root();
        caddy.process.wait_until("a root", || root.is_file());
        caddy
    }

    /// Its directory URL.
    pub fn directory(&self) -> String {
        format!("https://{NAME}:{}/acme/local/directory", self.address.port())
    }

    /// The root of its HTTPS server and of the certificates that it issues, a PEM file.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("storage/pki/authorities/local/root.crt")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
