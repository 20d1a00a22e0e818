//! A server that speaks S3 and checks signatures (`s3s-fs`), with one bucket, on loopback.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::programs::ours;

/// The bucket's name.
const BUCKET: &str = "backups";
/// The prefix in it that a vault uses.
const PREFIX: &str = "vaults/test";
/// The key that the server lets in.
const ACCESS_KEY: &str = "test-access-key";
/// Its secret half.
pub const SECRET_KEY: &str = "test-secret-key-of-a-bucket";

/// A running server and its bucket.
pub struct Bucket {
    port: u16,
    process: Option<Process>,
    /// Dropped last: the server writes into it.
    dir: TempDir,
}

impl Bucket {
    /// A server with an empty bucket.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir_all(dir.path().join("root").join(BUCKET)).expect("a bucket");
        fs::write(dir.path().join("access-key"), ACCESS_KEY).expect("access-key");
        fs::write(dir.path().join("secret-key"), format!("{SECRET_KEY}\n")).expect("secret-key");
        let mut bucket = Self { port: free_port(), process: None, dir };
        bucket.restart();
        bucket
    }

    /// Starts the server again, on the same port and with what is in the bucket.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new(ours("bucket-server"));
        command.arg(self.port.to_string()).arg(self.root());
        command.env("BUCKET_ACCESS_KEY", ACCESS_KEY).env("BUCKET_SECRET_KEY", SECRET_KEY);
        let mut process = Process::spawn("bucket-server", command, self.dir.path());
        process.wait_listening(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        self.process = Some(process);
    }

    /// Ends the server at once.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// What `[backup]` of a vault says that uses it.
    pub fn toml(&self) -> String {
        self.toml_at(&format!("http://127.0.0.1:{}", self.port))
    }

    fn toml_at(&self, endpoint: &str) -> String {
        let key = |name: &str| format!("{{ file = {:?} }}", self.dir.path().join(name));
        let (access, secret) = (key("access-key"), key("secret-key"));
        format!(
            "url = \"s3://{BUCKET}/{PREFIX}\"\n[backup.s3]\nendpoint = {endpoint:?}\n\
             access_key = {access}\nsecret_key = {secret}\n"
        )
    }

    /// Puts Caddy with a CA of its own before it, for as long as that is held; answers what
    /// `[backup]` of a vault says then, without the CA, and the CA's root.
    ///
    /// # Panics
    /// Where Caddy does not come up.
    pub fn behind_tls(&self) -> (Process, String, PathBuf) {
        let (dir, port) = (self.dir.path(), free_port());
        let storage = dir.join("storage");
        let config = format!(
            "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n \
             storage file_system {storage:?}\n}}\n\
             https://localhost:{port} {{\n bind 127.0.0.1\n tls internal\n \
             reverse_proxy 127.0.0.1:{}\n}}\n",
            self.port,
        );
        fs::write(dir.join("Caddyfile"), config).expect("Caddyfile");
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(dir.join("Caddyfile"));
        command.env("HOME", dir).env("XDG_CONFIG_HOME", dir).env("XDG_DATA_HOME", dir);
        let mut caddy = Process::spawn("caddy", command, dir);
        caddy.wait_listening(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let root = storage.join("pki/authorities/local/root.crt");
        caddy.wait_until("a root", || root.is_file());
        (caddy, self.toml_at(&format!("https://localhost:{port}")), root)
    }

    /// Changes the secret key that the vault is given.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn give_out_key(&self, secret: &str) {
        fs::write(self.dir.path().join("secret-key"), secret).expect("secret-key");
    }

    /// An object that a vault has put there.
    pub fn object(&self, name: &str) -> PathBuf {
        self.root().join(BUCKET).join(PREFIX).join(name)
    }

    /// The names of the objects that a vault has put there.
    pub fn objects(&self) -> Vec<String> {
        names(&self.root().join(BUCKET).join(PREFIX))
    }

    /// What the server holds of uploads that were neither completed nor aborted.
    pub fn uploads(&self) -> Vec<String> {
        let mut names = names(&self.root());
        names.retain(|name| name.starts_with(".upload"));
        names
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }
}

/// The names of the files in a directory, which need not be there.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<_> =
        files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
