//! A vault whose keys are escrowed, its custodians, and whoever opens its backups.

use std::{
    fs,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    custodians::{Custodian, custodians, quorum_flags},
    programs::{Ended, must},
    vault::Vault,
};

/// A running vault with a KEK of which two of three custodians have a quorum.
pub struct Escrowed {
    /// The vault.
    pub vault: Vault,
    /// Who has the shares: `ops`, `security` and `audit`.
    pub custodians: Vec<Custodian>,
    /// Who opens backups.
    pub keeper: Custodian,
}

impl Escrowed {
    /// One that was initialised just now.
    pub fn new() -> Self {
        Self::on(Vault::new())
    }

    /// On a vault that is to be started.
    ///
    /// # Panics
    /// Where it cannot be initialised.
    pub fn on(mut vault: Vault) -> Self {
        let custodians = custodians(vault.dir(), &["ops", "security", "audit"]);
        let keeper = Custodian::new(vault.dir(), "keeper");
        vault.start();
        let flags = quorum_flags(&custodians, 2, &vault.file("shares"));
        let init: Vec<_> = ["init"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        vault.ok(&init);
        Self { vault, custodians, keeper }
    }

    /// The file of a custodian's share, as `init` wrote it.
    pub fn share(&self, custodian: usize) -> String {
        self.custodians[custodian].share(&self.vault.file("shares")).display().to_string()
    }

    /// The texts of a quorum's shares, opened by `age`.
    ///
    /// # Panics
    /// Where one cannot be opened.
    pub fn quorum(&self) -> Vec<Zeroizing<String>> {
        let opened = [0, 2].map(|at| self.custodians[at].open(&self.vault.file("shares")));
        opened
            .into_iter()
            .map(|ended| {
                assert_eq!(ended.code, 0, "{}", ended.stderr);
                Zeroizing::new(ended.stdout)
            })
            .collect()
    }

    /// The file of the keeper's identity, for a command line.
    pub fn identity(&self) -> String {
        self.keeper.identity.display().to_string()
    }

    /// Makes a backup for its keeper; answers what was said of it, as JSON, and the file.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn backup(&self, name: &str) -> (serde_json::Value, PathBuf) {
        let out = self.vault.path(name);
        let made = ["backup", "create", "--out", &out, "--recipient", &self.keeper.recipient];
        (self.vault.json(&made), self.vault.file(name))
    }

    /// `vaultctl backup verify` by the keeper, with what else it is given.
    pub fn verify(&self, file: &Path, more: &[&str]) -> Ended {
        let (file, identity) = (file.display().to_string(), self.identity());
        let verify = ["-o", "json", "backup", "verify", &file, "--identity", &identity];
        self.vault.ctl(&[&verify[..], more].concat())
    }

    /// Takes a backup apart by `age`, `zstd` and `tar` themselves; answers the directory.
    ///
    /// # Panics
    /// Where one of them does not take it.
    pub fn unpack(&self, backup: &Path) -> PathBuf {
        let dir = backup.with_extension("unpacked");
        fs::create_dir(&dir).expect("directory");
        let script = "set -o pipefail; age -d -i \"$0\" \"$1\" | zstd -dc | tar -x -C \"$2\"";
        let [file, out] = [backup, &dir].map(|path| path.display().to_string());
        must("bash", &["-c", script, &self.identity(), &file, &out]);
        dir
    }
}

impl Default for Escrowed {
    fn default() -> Self {
        Self::new()
    }
}

/// The rows of a table in an unpacked backup, whatever their number of parts.
///
/// # Panics
/// Where a line is no JSON.
pub fn rows(unpacked: &Path, table: &str) -> Vec<serde_json::Value> {
    let mut parts: Vec<_> = fs::read_dir(unpacked)
        .expect("members")
        .map(|entry| entry.expect("member").path())
        .collect();
    parts.sort();
    let end = format!("-{table}.jsonl");
    let of_table = parts.iter().filter(|path| path.to_string_lossy().ends_with(&end));
    let text: String = of_table.map(|path| fs::read_to_string(path).expect("a part")).collect();
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}
