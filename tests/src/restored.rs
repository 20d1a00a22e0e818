//! A vault that is lost, and one that takes its place.

use std::path::Path;

use crate::{custodians::share_flags, escrow::Escrowed, programs::Ended, vault::Vault};

impl Escrowed {
    /// The arguments of `vaultctl backup restore` by the keeper and a quorum.
    pub fn restore_flags(&self, backup: &Path) -> Vec<String> {
        let mut flags: Vec<_> =
            ["--yes", "-o", "json", "backup", "restore"].map(str::to_owned).into();
        flags.extend([backup.display().to_string(), "--identity".to_owned(), self.identity()]);
        flags.extend(share_flags(&self.custodians[..2], &self.vault.file("shares")));
        flags
    }

    /// Restores a backup into another vault, which runs and is not initialised.
    pub fn restore_into(&self, vault: &Vault, backup: &Path, more: &[&str]) -> Ended {
        let flags = self.restore_flags(backup);
        vault.ctl(&flags.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }
}

impl Vault {
    /// A new vault, not initialised, that listens where another one has: with its clients' view of
    /// the network, and nothing else of it.
    pub fn in_place_of(other: &Self) -> Self {
        let mut vault = Self::new();
        vault.reconfigure(&vault.address.to_string(), &other.address.to_string());
        vault.address = other.address;
        vault
    }
}
