//! Kryoptic, the second and independent PKCS#11 implementation, with token files of its own, gone
//! when dropped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

/// What cargo calls the module of `tests/kryoptic`.
const MODULE: &str = "libkryoptic_module.so";

/// How many slots there are; Kryoptic makes none by itself.
const SLOTS: u32 = 2;

/// Where Kryoptic keeps its tokens and what it is configured by.
///
/// The module reads its configuration from the environment, once, when it is loaded: hand
/// [`environment`](Self::environment) to the process that loads it.
#[derive(Debug)]
pub struct Kryoptic {
    dir: TempDir,
}

impl Kryoptic {
    /// A fresh Kryoptic with two free slots.
    ///
    /// # Panics
    /// Where the directory cannot be written.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let mut config = String::new();
        for slot in 1..=SLOTS {
            let file = dir.path().join(format!("token-{slot}.sql"));
            config.push_str(&format!(
                "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = {file:?}\n"
            ));
        }
        fs::write(dir.path().join("kryoptic.conf"), config).expect("kryoptic.conf");
        Self { dir }
    }

    /// The module's file, built where it is not there yet.
    ///
    /// # Panics
    /// Where it cannot be built.
    pub fn module() -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        BUILT.get_or_init(|| find().unwrap_or_else(build)).clone()
    }

    /// The variable that the module reads, and its value.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        ("KRYOPTIC_CONF", self.dir().join("kryoptic.conf"))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Default for Kryoptic {
    fn default() -> Self {
        Self::new()
    }
}

/// Beside the test's own program: `cargo build --workspace` puts it there.
fn find() -> Option<PathBuf> {
    let test = env::current_exe().expect("the test's own path");
    test.ancestors().map(|dir| dir.join(MODULE)).find(|file| file.is_file())
}

fn build() -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "kryoptic-module"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    let ended = crate::programs::run(cargo);
    assert_eq!(ended.code, 0, "kryoptic-module is not built: {ended:?}");
    find().unwrap_or_else(|| panic!("cargo built no {MODULE} beside the tests"))
}
