//! Web servers alike: what a test does to each of them.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    apache::Apache, haproxy::Haproxy, nginx::Nginx, process::Process, world::CERTIFICATE,
    world::Install,
};

/// A web server that [`CERTIFICATE`] is installed into.
pub trait WebServer {
    /// Where it speaks TLS.
    fn https(&self) -> SocketAddr;

    /// How the agent installs into it.
    fn install(&self) -> Install;

    /// Its master process; its workers are the children.
    fn master(&self) -> &Process;

    /// Makes it load its files anew and lets its workers finish.
    fn reload(&self);

    /// Ends it and starts it anew.
    fn restart(&mut self);

    /// Kills its workers (SIGKILL), and starts it anew where it ends by that.
    fn lose_workers(&mut self);
}

impl WebServer for Nginx {
    fn https(&self) -> SocketAddr {
        self.https
    }

    fn install(&self) -> Install {
        Install::into(self)
    }

    fn master(&self) -> &Process {
        self.master()
    }

    fn reload(&self) {
        self.reload();
    }

    fn restart(&mut self) {
        self.restart();
    }

    fn lose_workers(&mut self) {
        self.kill_workers();
    }
}

impl WebServer for Apache {
    fn https(&self) -> SocketAddr {
        self.https
    }

    fn install(&self) -> Install {
        let files = (self.file("chain.pem"), self.file("key.pem"));
        install(files, (self.test_command(), self.reload_command()), self.https)
    }

    fn master(&self) -> &Process {
        self.master()
    }

    fn reload(&self) {
        self.reload();
    }

    fn restart(&mut self) {
        self.restart();
    }

    fn lose_workers(&mut self) {
        self.kill_workers();
    }
}

impl WebServer for Haproxy {
    fn https(&self) -> SocketAddr {
        self.https
    }

    fn install(&self) -> Install {
        let files = (self.file("chain.pem"), self.file("chain.pem.key"));
        install(files, (self.test_command(), self.reload_command()), self.https)
    }

    fn master(&self) -> &Process {
        self.master()
    }

    fn reload(&self) {
        self.reload();
    }

    fn restart(&mut self) {
        self.restart();
    }

    /// Its master ends with its worker, by design; systemd's unit starts both anew.
    fn lose_workers(&mut self) {
        self.kill_worker();
        self.restart_when_ended();
    }
}

fn install(
    (chain, key): (PathBuf, PathBuf),
    (test, reload): (String, String),
    https: SocketAddr,
) -> Install {
    Install {
        key: Some(key),
        test: Some(test),
        reload: Some(reload),
        check: Some((https, "30s".to_owned())),
        ..Install::file(CERTIFICATE, chain)
    }
}
