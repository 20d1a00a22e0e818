//! Apache as a user's web server: Debian's, on a high port, everything in its own directory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::{must, toml_command, with_environment};
use crate::tls;

/// What it loads, of what Debian's package brings.
const MODULES: [&str; 3] = ["mpm_event", "authz_core", "ssl"];

/// A running Apache that begins with a certificate of nobody's.
pub struct Apache {
    /// Where it speaks TLS.
    pub https: SocketAddr,
    environment: Vec<(String, String)>,
    process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Apache {
    /// Starts it with these variables; it serves the name `server_name` over TLS. Its workers are
    /// www-data's where the test is root's.
    pub fn start_with(server_name: &str, environment: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let https = SocketAddr::from(([127, 0, 0, 1], free_port()));
        tls::placeholder(&dir.path().join("chain.pem"), &dir.path().join("key.pem"));
        fs::write(dir.path().join("apache.conf"), config(dir.path(), server_name, https))
            .expect("apache.conf");
        let mut process = spawn(&environment, dir.path());
        process.wait_listening(https);
        Self { https, environment, process, dir }
    }

    /// Ends it and starts it anew.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn restart(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
        self.process = spawn(&self.environment, self.dir.path());
        self.process.wait_listening(self.https);
    }

    /// A file in its directory: `chain.pem`, `key.pem`, `apache.conf`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that checks its configuration, as a TOML array.
    pub fn test_command(&self) -> String {
        toml_command(&words(&self.environment, self.dir.path(), &["-t"]))
    }

    /// The command that makes it load its files anew and lets its workers finish, as a TOML array.
    pub fn reload_command(&self) -> String {
        toml_command(&words(&self.environment, self.dir.path(), &["-k", "graceful"]))
    }

    /// Makes it load its files anew and lets its workers finish.
    ///
    /// # Panics
    /// Where it refuses.
    pub fn reload(&self) {
        let words = words(&self.environment, self.dir.path(), &["-k", "graceful"]);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        must(words[0], &words[1..]);
    }

    /// Its master process.
    pub fn master(&self) -> &Process {
        &self.process
    }

    /// Kills its workers.
    pub fn kill_workers(&self) {
        self.process.kill_children();
    }
}

fn spawn(environment: &[(String, String)], dir: &Path) -> Process {
    let words = words(environment, dir, &["-D", "FOREGROUND"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Process::spawn("apache", command, dir)
}

fn config(dir: &Path, server_name: &str, https: SocketAddr) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    let modules = MODULES
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    // Workers that are root's are not compiled in.
    let user =
        if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
    format!(
        "{modules}{user}ServerRoot {root}\nDefaultRuntimeDir {root}\nPidFile {pid}\n\
         ServerName {server_name}\nErrorLog /dev/stderr\nListen {https}\n\
         StartServers 2\nThreadsPerChild 4\nMinSpareThreads 4\nMaxRequestWorkers 16\nSSLSessionCache none\n\
         <VirtualHost {https}>\n\
           SSLEngine on\nSSLProtocol -all +TLSv1.2 +TLSv1.3\n\
           SSLCertificateFile {chain}\nSSLCertificateKeyFile {key}\n\
         </VirtualHost>\n",
        modules = modules.concat(),
        root = dir.display(),
        pid = at("apache.pid"),
        chain = at("chain.pem"),
        key = at("key.pem"),
    )
}

fn words(environment: &[(String, String)], dir: &Path, more: &[&str]) -> Vec<String> {
    let conf = dir.join("apache.conf").display().to_string();
    let base = ["apache2", "-f", &conf];
    with_environment(environment, &[&base[..], more].concat())
}

impl Drop for Apache {
    /// Workers outlive a master that is killed, ports and all, so it is asked first.
    fn drop(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
    }
}
