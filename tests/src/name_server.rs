//! The authoritative name servers of zones that take dynamic updates, one like the other.

use std::{fs, net::SocketAddr, path::Path, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::process::{Process, eventually, free_port};
use crate::programs::{must, run};
use crate::{bind, knot};

/// The name of the TSIG key that may change every zone.
pub const KEY_NAME: &str = "acme.";
/// The TSIG key, base64.
pub const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// ISC's BIND.
    Bind,
    /// CZ.NIC's Knot DNS.
    Knot,
}

/// A running name server on loopback that answers for its zones and nothing else; the zones' own
/// names lead to 127.0.0.1.
pub struct NameServer {
    /// Where it answers.
    pub address: SocketAddr,
    _process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl NameServer {
    /// Starts one with these zones, for example `shop.example`, on a port of its own.
    pub fn start(software: Software, zones: &[&str]) -> Self {
        Self::start_on(software, SocketAddr::from(([127, 0, 0, 1], free_port())), zones)
    }

    /// Starts one at this address.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn start_on(software: Software, address: SocketAddr, zones: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        // With a root of its own nothing leaves the machine.
        let root = "$TTL 1\n@ SOA ns. ops. 1 60 60 600 1\n@ NS ns.\nns A 127.0.0.1\n";
        fs::write(dir.path().join("root.zone"), root).expect("root");
        for zone in zones {
            let text = format!(
                "$TTL 1\n@ SOA ns.{zone}. ops.{zone}. 1 60 60 600 1\n@ NS ns.{zone}.\n\
                 @ A 127.0.0.1\nns A 127.0.0.1\n"
            );
            fs::write(dir.path().join(format!("{zone}.zone")), text).expect("zone");
        }
        fs::write(dir.path().join("tsig"), format!("{KEY}\n")).expect("tsig");
        let process = match software {
            Software::Bind => bind::spawn(dir.path(), address, zones),
            Software::Knot => knot::spawn(dir.path(), address, zones),
        };
        let server = Self { address, _process: process, dir };
        for zone in zones {
            let start = || server.records(zone, "SOA").is_empty();
            eventually(&format!("{zone} is answered for"), || (!start()).then_some(()));
        }
        server
    }

    /// The file with [`KEY`].
    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("tsig")
    }

    /// The records of a type that it has of a name, as `dig +short` prints them.
    pub fn records(&self, name: &str, kind: &str) -> Vec<String> {
        asked(self.address, name, kind)
    }

    /// Changes a zone: a line of `nsupdate`, for example `update add NAME 1 CNAME OTHER`.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn update(&self, line: &str) {
        update(self.address, self.dir.path(), line);
    }

    /// `nsupdate`'s line that names this server.
    pub fn server_line(&self) -> String {
        server_line(self.address)
    }
}

/// Changes a zone of the server at an address by a line of `nsupdate`, which is written into this
/// directory.
///
/// # Panics
/// Where it is refused.
pub fn update(server: SocketAddr, dir: &Path, line: &str) {
    let script = dir.join("update");
    fs::write(&script, format!("{}\n{line}\nsend\n", server_line(server))).expect("script");
    let key = format!("hmac-sha256:{KEY_NAME}:{KEY}");
    must("nsupdate", &["-y", &key, &script.display().to_string()]);
}

fn server_line(server: SocketAddr) -> String {
    format!("server {} {}", server.ip(), server.port())
}

/// What the server at an address has of a name.
pub(crate) fn asked(server: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    let mut command = Command::new("dig");
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    command.args([&at, "-p", &port, "+short", "+norecurse", "+tries=1", name, kind]);
    let said = run(command).stdout;
    said.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}
