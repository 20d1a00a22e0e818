//! nginx as a user's web server: high ports, no root, everything in its own directory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::namespace;
use crate::process::{Process, eventually, free_port};
use crate::programs::{must, toml_command, with_environment};
use crate::tls;

/// A running nginx that begins with a certificate of nobody's.
pub struct Nginx {
    /// Where it speaks TLS.
    pub https: SocketAddr,
    /// Variables that it is started with and hands to its workers.
    environment: Vec<(String, String)>,
    process: Process,
    /// Dropped last: what the program has written is read when it is dropped.
    dir: TempDir,
}

impl Nginx {
    /// Starts it; it serves its webroot on `http` and the name `server_name` over TLS.
    pub fn start(server_name: &str, http: SocketAddr) -> Self {
        Self::start_with(server_name, http, Vec::new())
    }

    /// The same, with these variables, which its workers have, too.
    pub fn start_with(
        server_name: &str,
        http: SocketAddr,
        environment: Vec<(String, String)>,
    ) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let https = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("webroot")).expect("webroot");
        tls::placeholder(&dir.path().join("chain.pem"), &dir.path().join("key.pem"));
        let user = if namespace::is_inside() { "user root root; " } else { "" };
        let config = format!(
            "{user}{variables}daemon off; worker_processes 2; pid {pid}; error_log stderr notice;\n\
             events {{ worker_connections 64; }}\n\
             http {{\n\
               access_log off;\n\
               client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp};\n\
               uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
               server {{ listen {http}; root {webroot}; }}\n\
               server {{ listen {https} ssl; server_name {server_name}; root {webroot};\n\
                 ssl_protocols TLSv1.2 TLSv1.3;\n\
                 ssl_certificate {chain}; ssl_certificate_key {key}; }}\n\
             }}\n",
            variables =
                environment.iter().map(|(name, _)| format!("env {name}; ")).collect::<String>(),
            pid = at("nginx.pid"),
            tmp = at("tmp"),
            webroot = at("webroot"),
            chain = at("chain.pem"),
            key = at("key.pem"),
        );
        fs::write(at("nginx.conf"), config).expect("nginx.conf");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p", &at(""), "-c", &at("nginx.conf")]);
        command.envs(environment.iter().cloned());
        let mut process = Process::spawn("nginx", command, dir.path());
        process.wait_listening(https);
        Self { environment, dir, https, process }
    }

    /// A file in its directory: `chain.pem`, `key.pem`, `webroot`, `nginx.conf`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The command that checks its configuration, as a TOML array.
    pub fn test_command(&self) -> String {
        self.toml(&["-t", "-q"])
    }

    /// The command that makes it load its files anew, as a TOML array.
    pub fn reload_command(&self) -> String {
        self.toml(&["-s", "reload"])
    }

    /// The command that makes it load its files anew, as a shell's line.
    pub fn reload_line(&self) -> String {
        let words = self.words(&["-s", "reload"]);
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    }

    /// Makes it load its files anew.
    ///
    /// # Panics
    /// Where it refuses.
    pub fn reload(&self) {
        let words = self.words(&["-s", "reload"]);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        must(words[0], &words[1..]);
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let (prefix, conf) = (self.file(""), self.file("nginx.conf"));
        let (prefix, conf) = (prefix.display().to_string(), conf.display().to_string());
        let base = ["nginx", "-e", "stderr", "-p", &prefix, "-c", &conf];
        with_environment(&self.environment, &[&base[..], more].concat())
    }

    fn toml(&self, more: &[&str]) -> String {
        toml_command(&self.words(more))
    }

    /// The leaf that it serves for a name, in OpenSSL's eyes: `x509 -noout` with these options.
    pub fn served(&self, server_name: &str, x509: &[&str]) -> String {
        tls::leaf(self.https, server_name, x509)
    }

    /// Waits until the leaf that it serves for a name has this serial number, lower-case hex as the
    /// vault writes it: after a reload its old workers answer for a moment more.
    ///
    /// # Panics
    /// Where it serves another.
    pub fn wait_serves(&self, server_name: &str, serial: &str) {
        eventually(&format!("{serial} is served"), || {
            let served = self.served(server_name, &["-serial"]).to_lowercase();
            (served == format!("serial={serial}")).then_some(())
        });
    }

    /// Kills its workers.
    pub fn kill_workers(&self) {
        self.process.kill_children();
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Nginx {
    /// Workers outlive a master that is killed, ports and all, so it is asked first.
    fn drop(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
    }
}
