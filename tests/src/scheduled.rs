//! A vault that makes backups by itself.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{escrow::Escrowed, process::eventually, vault::Vault};

/// A vault with a KEK that puts backups for its keeper somewhere.
pub struct Scheduled {
    /// The vault, its custodians and its keeper.
    pub escrowed: Escrowed,
}

impl Scheduled {
    /// One that puts them where `place` says, lines of `[backup]`; it has made the first.
    ///
    /// # Panics
    /// Where it does not.
    pub fn at(place: &str) -> Self {
        let scheduled = Self::begun(place);
        scheduled.wait_kept(1);
        scheduled
    }

    /// One that has a directory for them, `backups`, and has made the first.
    pub fn in_directory() -> Self {
        Self::in_directory_with("")
    }

    /// The same with more lines of `[backup]`.
    ///
    /// # Panics
    /// Where the directory cannot be made.
    pub fn in_directory_with(more: &str) -> Self {
        Self::on(Vault::new(), |vault| {
            let directory = vault.file("backups");
            fs::create_dir_all(&directory).expect("a directory");
            format!("directory = {directory:?}\n{more}\n")
        })
    }

    /// One that is initialised and starts to make them.
    pub fn begun(place: &str) -> Self {
        Self::begun_on(Vault::new(), |_| place.to_owned())
    }

    /// One on a vault that is to be started; it has made the first.
    pub fn on(vault: Vault, place: impl FnOnce(&Vault) -> String) -> Self {
        let scheduled = Self::begun_on(vault, place);
        scheduled.wait_kept(1);
        scheduled
    }

    /// One on a vault that is to be started.
    pub fn begun_on(vault: Vault, place: impl FnOnce(&Vault) -> String) -> Self {
        let mut escrowed = Escrowed::on(vault);
        let vault = &mut escrowed.vault;
        vault.stop();
        let place = place(vault);
        vault.config += &format!("[backup]\nrecipients = [{:?}]\n", escrowed.keeper.recipient);
        vault.config += &place;
        vault.start();
        Self { escrowed }
    }

    /// The vault.
    pub fn vault(&self) -> &Vault {
        &self.escrowed.vault
    }

    /// The vault, to be stopped and started.
    pub fn vault_mut(&mut self) -> &mut Vault {
        &mut self.escrowed.vault
    }

    /// Backups on record, newest first.
    pub fn list(&self) -> Vec<Value> {
        list(self.vault())
    }

    /// Those that are kept, once there are so many.
    pub fn wait_kept(&self, count: usize) -> Vec<Value> {
        wait_kept(self.vault(), count)
    }

    /// What `vaultctl status` says of the schedule.
    pub fn schedule(&self) -> Value {
        self.vault().json(&["status"])["backups"].clone()
    }

    /// The names of all files in the directory, temporary ones, too.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.vault().file("backups")).expect("the directory");
        let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("text"));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Fetches a backup and verifies it; answers the file.
    ///
    /// # Panics
    /// Where it does not hold.
    pub fn fetch(&self, backup: &Value) -> PathBuf {
        let id = backup["id"].as_str().expect("an id");
        let file = self.vault().file(&format!("{id}.age"));
        let _ = fs::remove_file(&file);
        self.vault().ok(&["backup", "fetch", id, "--out", &file.display().to_string()]);
        let verified = self.escrowed.verify(&file, &[]);
        assert_eq!(verified.code, 0, "{verified:?}");
        file
    }
}

/// Backups on a vault's record, newest first.
///
/// # Panics
/// Where they are no list.
pub fn list(vault: &Vault) -> Vec<Value> {
    vault.json(&["backup", "list"]).as_array().expect("a list").clone()
}

/// A vault's backups that are kept, once there are so many.
pub fn wait_kept(vault: &Vault, count: usize) -> Vec<Value> {
    eventually(&format!("{count} backups are kept"), || {
        let kept: Vec<_> = list(vault).into_iter().filter(|b| b["state"] == "kept").collect();
        (kept.len() >= count).then_some(kept)
    })
}

/// The name that a backup has in its place.
///
/// # Panics
/// Where it is in none.
pub fn name(backup: &Value) -> String {
    let location = backup["location"].as_str().expect("a location");
    location.rsplit('/').next().expect("a name").to_owned()
}
