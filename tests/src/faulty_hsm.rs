//! A SoftHSM that can be lost: the vault's module is `tests/faulty`, which passes every call on until
//! it is told to fail.

use std::{fs, path::PathBuf};

use crate::programs::ours;
use crate::vault::{SOFTHSM, Vault};

/// What cargo calls the module of `tests/faulty`.
const MODULE: &str = "libfaulty_module.so";

/// The switch of a vault's faulty module.
#[derive(Debug)]
pub struct FaultyHsm {
    control: PathBuf,
}

impl FaultyHsm {
    /// Puts the faulty module between a vault and its SoftHSM, from the vault's next start on. No
    /// fault is in force.
    ///
    /// # Panics
    /// Where the module is not built: `cargo build --workspace` does.
    pub fn before(vault: &mut Vault) -> Self {
        let hsm = Self { control: vault.file("fault") };
        hsm.heal();
        vault.reconfigure(SOFTHSM, &ours(MODULE).display().to_string());
        let environment = format!(
            "[hsm.environment]\nFAULTY_MODULE = \"{SOFTHSM}\"\nFAULTY_CONTROL = \"{}\"\n",
            hsm.control.display()
        );
        vault.reconfigure("[hsm.environment]\n", &environment);
        hsm
    }

    /// From now on the HSM answers `fault`, the name of a CKR_ that `tests/faulty` knows, and what its
    /// callers had of it is gone.
    pub fn lose(&self, fault: &str) {
        // Whole at once: the module reads it at every call.
        let new = self.control.with_extension("new");
        fs::write(&new, fault).expect("the control file");
        fs::rename(&new, &self.control).expect("the control file");
    }

    /// From now on the HSM answers again.
    pub fn heal(&self) {
        self.lose("");
    }
}
