//! Knot DNS as the name server of zones that take dynamic updates.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use crate::name_server::{KEY, KEY_NAME};
use crate::process::Process;

/// Debian has it where an ordinary user's PATH does not look.
const KNOTD: &str = "/usr/sbin/knotd";

/// Starts it over the zones whose files are in this directory.
pub(crate) fn spawn(dir: &Path, address: SocketAddr, zones: &[&str]) -> Process {
    let mut config = format!(
        "server:\n  rundir: {dir}\n  listen: {ip}@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n  storage: {dir}\n\
         key:\n  - id: {KEY_NAME}\n    algorithm: hmac-sha256\n    secret: {KEY}\n\
         acl:\n  - id: updates\n    key: {KEY_NAME}\n    action: update\n\
         template:\n  - id: default\n    storage: {dir}\n    file: \"%s.zone\"\n    acl: updates\n\
         zone:\n  - domain: .\n    file: root.zone\n",
        dir = dir.display(),
        ip = address.ip(),
        port = address.port(),
    );
    for zone in zones {
        config.push_str(&format!("  - domain: {zone}\n"));
    }
    let file = dir.join("knot.conf");
    fs::write(&file, config).expect("knot.conf");
    let mut command = Command::new(KNOTD);
    command.arg("-c").arg(file);
    Process::spawn("knotd", command, dir)
}
