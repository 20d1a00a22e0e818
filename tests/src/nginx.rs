//! nginx as a user's web server: high ports, no root, everything in its own directory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::agent::Agent;
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
        let mut process = spawn(dir.path(), &environment);
        process.wait_listening(https);
        Self { environment, dir, https, process }
    }

    /// Ends it and starts it anew.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn restart(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
        self.process = spawn(self.dir.path(), &self.environment);
        self.process.wait_listening(self.https);
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

    /// Its master process.
    pub fn master(&self) -> &Process {
        &self.process
    }

    /// Writes a configuration by OpenSSL's engine, as its agent says it. nginx takes it once the vault
    /// has the key: at the agent's first reload.
    ///
    /// # Panics
    /// Where the agent installs nothing into it.
    pub fn configure_engine(&self, agent: &Agent) {
        configure_engine(self.dir(), agent);
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

/// [`Nginx::configure_engine`] of the nginx in this directory.
///
/// # Panics
/// Where the agent installs nothing into it.
pub fn configure_engine(dir: &Path, agent: &Agent) {
    let conf = dir.join("nginx.conf");
    let config = fs::read_to_string(&conf).expect("nginx.conf");
    let snippet = agent.snippet("nginx-engine");
    let lines = |place: &str| {
        let parts = snippet["parts"].as_array().expect("parts").iter();
        let parts = parts.filter(|part| part["place"].as_str().is_some_and(|p| p.contains(place)));
        let lines = parts.flat_map(|part| part["lines"].as_array().expect("lines"));
        lines.map(|line| line.as_str().expect("a line").to_owned()).collect::<Vec<_>>()
    };
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    let (chain, key) = (chain.display(), key.display());
    let before = format!("ssl_certificate {chain}; ssl_certificate_key {key};");
    assert!(config.contains(&before), "{config}");
    let config = config.replace(&before, &lines("in the server of").join(" "));
    // What its environment is was said when it was started.
    let top = lines("at the top").into_iter().filter(|line| !config.contains(line));
    let top: Vec<_> = top.collect();
    fs::write(conf, format!("{}\n{config}", top.join("\n"))).expect("nginx.conf");
}

fn spawn(dir: &Path, environment: &[(String, String)]) -> Process {
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(dir.join("nginx.conf"));
    command.envs(environment.iter().cloned());
    Process::spawn("nginx", command, dir)
}

impl Drop for Nginx {
    /// Workers outlive a master that is killed, ports and all, so it is asked first.
    fn drop(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
    }
}
