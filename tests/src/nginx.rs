//! nginx as a user's web server: high ports, no root, everything in its own directory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::must;

/// A running nginx that begins with a certificate of nobody's.
pub struct Nginx {
    dir: TempDir,
    /// Where it speaks TLS.
    pub https: SocketAddr,
    process: Process,
}

impl Nginx {
    /// Starts it; it serves its webroot on `http` and the name `server_name` over TLS.
    pub fn start(server_name: &str, http: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let https = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("webroot")).expect("webroot");
        let key = rcgen::KeyPair::generate().expect("key");
        let params = rcgen::CertificateParams::new(vec!["placeholder.invalid".to_owned()]);
        let placeholder = params.expect("name").self_signed(&key).expect("certificate");
        fs::write(at("chain.pem"), placeholder.pem()).expect("chain");
        fs::write(at("key.pem"), key.serialize_pem()).expect("key");
        let config = format!(
            "daemon off; worker_processes 2; pid {pid}; error_log stderr notice;\n\
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
            pid = at("nginx.pid"),
            tmp = at("tmp"),
            webroot = at("webroot"),
            chain = at("chain.pem"),
            key = at("key.pem"),
        );
        fs::write(at("nginx.conf"), config).expect("nginx.conf");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p", &at(""), "-c", &at("nginx.conf")]);
        let mut process = Process::spawn("nginx", command, dir.path());
        process.wait_listening(https);
        Self { dir, https, process }
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

    fn toml(&self, more: &[&str]) -> String {
        let (prefix, conf) = (self.file(""), self.file("nginx.conf"));
        let (prefix, conf) = (prefix.display().to_string(), conf.display().to_string());
        let base = ["nginx", "-e", "stderr", "-p", &prefix, "-c", &conf];
        let all: Vec<_> = base.iter().chain(more).map(|word| format!("{word:?}")).collect();
        format!("[{}]", all.join(", "))
    }

    /// The leaf that it serves for a name, in OpenSSL's eyes: `x509 -noout` with these options.
    pub fn served(&self, server_name: &str, x509: &[&str]) -> String {
        let shown = format!(
            "openssl s_client -connect {} -servername {server_name} </dev/null 2>/dev/null \
             | openssl x509 -noout {}",
            self.https,
            x509.join(" ")
        );
        must("sh", &["-c", &shown]).trim().to_owned()
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
