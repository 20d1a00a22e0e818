//! BIND as the name server of zones that take dynamic updates, and as a resolver over one.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use tempfile::TempDir;

use crate::name_server::{KEY, KEY_NAME};
use crate::process::{Process, free_port};

/// Debian has it where an ordinary user's PATH does not look.
const NAMED: &str = "/usr/sbin/named";

/// Starts it over the zones whose files are in this directory.
pub(crate) fn spawn(dir: &Path, address: SocketAddr, zones: &[&str]) -> Process {
    let mut config = options(dir, address, "");
    config.push_str(&format!(
        "zone \".\" {{ type primary; file \"root.zone\"; }};\n\
         key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n"
    ));
    for zone in zones {
        config.push_str(&format!(
            "zone \"{zone}\" {{ type primary; file \"{zone}.zone\";\n\
             update-policy {{ grant {KEY_NAME} zonesub ANY; }}; }};\n"
        ));
    }
    named(dir, &config)
}

fn options(dir: &Path, address: SocketAddr, more: &str) -> String {
    format!(
        "options {{ directory \"{dir}\"; pid-file none; session-keyfile \"{dir}/session.key\";\n\
         listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }};\n\
         dnssec-validation no; notify no; {more} }};\ncontrols {{ }};\n",
        dir = dir.display(),
        ip = address.ip(),
        port = address.port(),
    )
}

fn named(dir: &Path, config: &str) -> Process {
    let file = dir.join("named.conf");
    fs::write(&file, config).expect("named.conf");
    let mut command = Command::new(NAMED);
    command.args(["-g", "-n", "1", "-c"]).arg(file);
    Process::spawn("named", command, dir)
}

/// A running BIND on loopback that asks one name server, and follows aliases from zone to zone.
pub struct Resolver {
    /// Where it answers.
    pub address: SocketAddr,
    _process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    _dir: TempDir,
}

impl Resolver {
    /// Starts one over the name server at this address. What it has found, or not found, it remembers
    /// until the second ends.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn over(server: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let more = format!(
            "recursion yes; allow-recursion {{ 127.0.0.1; }}; qname-minimization off;\n\
             forward only; forwarders port {} {{ {}; }}; max-cache-ttl 0; max-ncache-ttl 0;",
            server.port(),
            server.ip(),
        );
        let mut process = named(dir.path(), &options(dir.path(), address, &more));
        process.wait_listening(address);
        Self { address, _process: process, _dir: dir }
    }

    /// Waits until it has forgotten what it was asked before.
    pub fn wait_forgotten(&self) {
        // It counts whole seconds, by a clock that may be some milliseconds behind.
        thread::sleep(Duration::from_millis(1100));
    }
}
