//! A vault that looks every second, and a CA with a responder whose answers hold for a minute.

use std::{
    fs,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testkit::{
    monitored::Monitored,
    nginx::Nginx,
    process::eventually,
    programs::{must, run},
    world::{CERTIFICATE, Install, SITE, order},
};

/// The parts, and what is asked of them here. The nginx is the web server unless there is another.
pub(super) struct World(Monitored);

impl Deref for World {
    type Target = Monitored;

    fn deref(&self) -> &Monitored {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Monitored {
        &mut self.0
    }
}

impl World {
    /// One whose agent installs what `install` says of the nginx; the responder runs and knows nothing.
    pub(super) fn new(install: impl FnOnce(&Nginx) -> Install) -> Self {
        Self::lasting(1, install)
    }

    /// The same, with answers that hold for so many minutes.
    pub(super) fn lasting(minutes: u32, install: impl FnOnce(&Nginx) -> Install) -> Self {
        let mut parts = Monitored::start(true, |_, _| String::new(), install);
        parts.revoker.minutes = minutes;
        parts.revoker.start_responder();
        Self(parts)
    }

    /// Orders a certificate that must be stapled, and waits until it is issued.
    pub(super) fn issue(&self) -> Value {
        self.vault.ok(&order(CERTIFICATE, SITE, "agent", &["--must-staple"]));
        self.wait_issued(1)
    }

    /// Waits until a version is issued.
    pub(super) fn wait_issued(&self, version: u64) -> Value {
        eventually("it is issued", || {
            let shown = self.shown();
            (shown["version"] == version).then_some(shown)
        })
    }

    /// Waits until the agent has proven a version.
    pub(super) fn wait_held(&self, version: u64) {
        eventually("it is held", || (self.held() == version).then_some(()));
    }

    pub(super) fn held(&self) -> u64 {
        self.shown()["deployments"][0]["held_version"].as_u64().unwrap()
    }

    /// Waits until a check was made after this moment.
    pub(super) fn wait_checked(&self) {
        let last = self.shown()["revocation_checked_at"].clone();
        eventually("two more checks", || {
            (self.shown()["revocation_checked_at"] != last).then_some(())
        });
    }
}

/// An `[[install]]` with a staple.
pub(super) fn stapled(nginx: &Nginx) -> Install {
    let staple = nginx.file("staple.der");
    Install { more: format!("staple = {staple:?}\n"), ..Install::into(nginx) }
}

/// What a web server staples, in OpenSSL's eyes.
pub(super) fn shown_by(server: SocketAddr) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.to_string(), "-servername", SITE, "-status"]);
    command.stdin(std::process::Stdio::null());
    run(command).stdout
}

/// Waits until a web server staples something good.
pub(super) fn wait_stapled(server: SocketAddr) {
    eventually("a good staple", || shown_by(server).contains("Cert Status: good").then_some(()));
}

/// The serial number that a staple is about, upper-case hex as OpenSSL has it.
pub(super) fn about(staple: &Path) -> String {
    let file = staple.display().to_string();
    let said = must("openssl", &["ocsp", "-respin", &file, "-resp_text", "-noverify"]);
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Serial Number: "));
    line.expect("a serial number").to_owned()
}

/// Waits until a file is another than it was.
pub(super) fn wait_other(file: &PathBuf, than: &[u8]) -> Vec<u8> {
    eventually("another file", || fs::read(file).ok().filter(|now| now != than))
}
