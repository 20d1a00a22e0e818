//! BIND as the name server of zones that take dynamic updates.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::process::{Process, eventually, free_port};
use crate::programs::{must, run};

/// The name of the TSIG key that may change TXT records of every zone.
pub const KEY_NAME: &str = "acme.";
/// The TSIG key, base64.
pub const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A running BIND on loopback that answers for its zones and nothing else; every name in them
/// leads to 127.0.0.1.
pub struct Bind {
    /// Where it answers.
    pub address: SocketAddr,
    _process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Bind {
    /// Starts it with these zones, for example `shop.example`.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn start(zones: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "options {{ directory \"{dir}\"; pid-file none; session-keyfile \"{key}\";\n\
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             dnssec-validation no; notify no; }};\ncontrols {{ }};\n\
             zone \".\" {{ type primary; file \"root.zone\"; }};\n\
             key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n",
            dir = dir.path().display(),
            key = at("session.key"),
            port = address.port(),
        );
        // Aliases are followed from zone to zone, and with a root of its own nothing leaves the machine.
        let root = "$TTL 1\n@ SOA ns. ops. 1 60 60 600 1\n@ NS ns.\nns A 127.0.0.1\n";
        fs::write(at("root.zone"), root).expect("root");
        for zone in zones {
            let text = format!(
                "$TTL 1\n@ SOA ns.{zone}. ops.{zone}. 1 60 60 600 1\n@ NS ns.{zone}.\n\
                 @ A 127.0.0.1\nns A 127.0.0.1\n"
            );
            fs::write(at(&format!("{zone}.zone")), text).expect("zone");
            config.push_str(&format!(
                "zone \"{zone}\" {{ type primary; file \"{zone}.zone\";\n\
                 update-policy {{ grant {KEY_NAME} zonesub ANY; }}; }};\n"
            ));
        }
        fs::write(at("named.conf"), config).expect("named.conf");
        fs::write(at("tsig"), format!("{KEY}\n")).expect("tsig");
        let mut command = Command::new(named());
        command.args(["-g", "-n", "1", "-c", &at("named.conf")]);
        let process = Process::spawn("named", command, dir.path());
        let bind = Self { address, _process: process, dir };
        for zone in zones {
            let start = || bind.records(zone, "SOA").is_empty();
            eventually(&format!("{zone} is answered for"), || (!start()).then_some(()));
        }
        bind
    }

    /// The file with [`KEY`].
    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("tsig")
    }

    /// The records of a type that it has of a name, as `dig +short` prints them.
    pub fn records(&self, name: &str, kind: &str) -> Vec<String> {
        let mut command = Command::new("dig");
        let port = self.address.port().to_string();
        command.args(["@127.0.0.1", "-p", &port, "+short", "+norecurse", "+tries=1", name, kind]);
        let said = run(command).stdout;
        said.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
    }

    /// Changes a zone: a line of `nsupdate`, for example `add NAME 1 CNAME OTHER`.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn update(&self, line: &str) {
        let script = self.dir.path().join("update");
        fs::write(&script, format!("{}\n{line}\nsend\n", self.server_line())).expect("script");
        let key = format!("hmac-sha256:{KEY_NAME}:{KEY}");
        must("nsupdate", &["-y", &key, &script.display().to_string()]);
    }

    /// `nsupdate`'s line that names this server.
    pub fn server_line(&self) -> String {
        format!("server 127.0.0.1 {}", self.address.port())
    }
}

/// Debian has it where an ordinary user's PATH does not look.
fn named() -> &'static str {
    "/usr/sbin/named"
}
