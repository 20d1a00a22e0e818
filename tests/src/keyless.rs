//! What a web server needs to use keys that the vault keeps: the PKCS#11 module, OpenSSL's provider
//! or engine for it, and the agent's socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::programs::ours;

/// A directory that web servers' workers can reach, with the agent's socket and OpenSSL's
/// configuration.
pub struct Keyless {
    dir: TempDir,
}

impl Keyless {
    /// With OpenSSL's provider.
    ///
    /// # Panics
    /// Where module or provider are missing.
    pub fn new() -> Self {
        Self::with(&format!(
            "openssl_conf = openssl_init\n\
             [openssl_init]\nproviders = provider_sect\n\
             [provider_sect]\ndefault = default_sect\npkcs11 = pkcs11_sect\n\
             [default_sect]\nactivate = 1\n\
             [pkcs11_sect]\nmodule = {}\npkcs11-module-path = {}\n\
             pkcs11-module-load-behavior = early\nactivate = 1\n",
            library("ossl-modules").display(),
            ours("libvault_pkcs11.so").display(),
        ))
    }

    /// With OpenSSL's engine.
    ///
    /// # Panics
    /// Where module or engine are missing.
    pub fn by_engine() -> Self {
        Self::with(&format!(
            "openssl_conf = openssl_init\n\
             [openssl_init]\nengines = engine_sect\n\
             [engine_sect]\npkcs11 = pkcs11_sect\n\
             [pkcs11_sect]\nengine_id = pkcs11\ndynamic_path = {}\nMODULE_PATH = {}\n",
            library("engines-3").display(),
            ours("libvault_pkcs11.so").display(),
        ))
    }

    fn with(config: &str) -> Self {
        let everybody = fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().permissions(everybody).tempdir().expect("directory");
        let keyless = Self { dir };
        fs::write(keyless.file("openssl.cnf"), config).expect("openssl.cnf");
        keyless
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.file("signer.sock")
    }

    /// The variables of a web server.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("OPENSSL_CONF".to_owned(), text(self.file("openssl.cnf"))),
            ("VAULT_AGENT_SOCKET".to_owned(), text(self.socket())),
        ]
    }

    /// The agent's `[signer]`, for workers that run as any of the users that Debian's web servers
    /// run as.
    pub fn signer(&self) -> String {
        let there = |user: &&str| {
            let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
            users.lines().any(|line| line.split(':').next() == Some(*user))
        };
        let users: Vec<_> = ["www-data", "nobody", "haproxy"].into_iter().filter(there).collect();
        format!("[signer]\nsocket = {:?}\nallow = {users:?}\n", self.socket())
    }
}

impl Default for Keyless {
    fn default() -> Self {
        Self::new()
    }
}

/// Where Debian keeps a library of OpenSSL's.
fn library(folder: &str) -> PathBuf {
    let machines = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut places = machines.map(|entry| entry.path().join(folder).join("pkcs11.so"));
    let found = places.find(|file| Path::is_file(file));
    found.unwrap_or_else(|| panic!("no {folder}/pkcs11.so: deploy/dependencies.sh --for-tests"))
}
