//! What a vault asks of its HSM, written down by OpenSC's `pkcs11-spy`, which stands between the
//! two and shares nothing with either.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::vault::{SOFTHSM, Vault};

/// A spy between a vault and its token.
#[derive(Debug)]
pub struct Spy {
    log: PathBuf,
}

impl Spy {
    /// Puts itself between a vault that is not started yet and its SoftHSM.
    ///
    /// # Panics
    /// Where Debian's opensc-pkcs11 is not installed.
    pub fn on(vault: &mut Vault) -> Self {
        let module = module().display().to_string();
        vault.reconfigure(&format!("module-path={SOFTHSM}"), &format!("module-path={module}"));
        // One session: the spy does not keep the lines of two threads apart.
        vault.reconfigure("workers = 2", "workers = 1");
        let log = vault.file("spy.log");
        let variables = [
            ("PKCS11SPY".to_owned(), SOFTHSM.to_owned()),
            ("PKCS11SPY_OUTPUT".to_owned(), log.display().to_string()),
        ];
        vault.environment.extend(variables);
        Self { log }
    }

    /// How often a function was called, by all starts of the vault.
    ///
    /// # Panics
    /// Where the spy has seen nothing at all.
    pub fn calls(&self, function: &str) -> usize {
        let log = fs::read(&self.log).expect("the spy's log");
        let log = String::from_utf8_lossy(&log);
        let named = log.lines().filter_map(|line| line.split_once(": "));
        named.filter(|(number, name)| number.parse::<u64>().is_ok() && *name == function).count()
    }
}

fn module() -> PathBuf {
    let dirs = fs::read_dir("/usr/lib").expect("/usr/lib");
    let all = dirs.map(|dir| dir.expect("/usr/lib").path().join("pkcs11-spy.so"));
    let found = all.into_iter().find(|file: &PathBuf| Path::is_file(file));
    found.expect("pkcs11-spy.so is not there: install opensc-pkcs11")
}
