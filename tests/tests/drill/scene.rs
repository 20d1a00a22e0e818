//! A vault with something in it, its custodians, and whoever drills its backups.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testkit::{
    escrow::Escrowed,
    programs::{Ended, ours, run},
    vault::Vault,
};

/// A vault whose backups are drilled.
pub struct Scene {
    /// It runs.
    pub escrowed: Escrowed,
}

impl Scene {
    /// A vault with two keys besides its CA's, one of which is not escrowed.
    pub fn new() -> Self {
        Self::on(Vault::new())
    }

    /// The same on a vault that is to be started.
    pub fn on(vault: Vault) -> Self {
        let escrowed = Escrowed::on(vault);
        let vault = &escrowed.vault;
        vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
        vault.ok(&["key", "generate", "bound", "--algorithm", "ec-p256", "--escrow", "none"]);
        fs::create_dir(vault.file("scratch")).unwrap();
        Self { escrowed }
    }

    /// The vault.
    pub fn vault(&self) -> &Vault {
        &self.escrowed.vault
    }

    /// The flags by which a quorum, and whoever opens backups, take part.
    pub fn quorum(&self) -> Vec<String> {
        let mut flags = vec!["--identity".to_owned(), self.escrowed.identity()];
        for at in [0, 2] {
            let identity = self.escrowed.custodians[at].identity.display().to_string();
            flags.extend(["--share".to_owned(), self.escrowed.share(at)]);
            flags.extend(["--identity".to_owned(), identity]);
        }
        flags
    }

    /// `vaultctl drill run` with these words behind it, at the vault's socket.
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(ours("vaultctl"));
        command.arg("--socket").arg(self.vault().file("admin.sock"));
        command.args(["-o", "json", "drill", "run", "--scratch", &self.scratch()]);
        command.args(words).current_dir(self.vault().dir());
        command
    }

    /// A drill of a file by a quorum; the report goes to `report`.
    pub fn drill(&self, file: &Path, report: &str) -> Ended {
        run(self.command(&self.words(file, report)))
    }

    /// What [`Scene::drill`] says.
    pub fn words(&self, file: &Path, report: &str) -> Vec<String> {
        let own = [file.display().to_string(), "--report".to_owned(), self.vault().path(report)];
        own.into_iter().chain(self.quorum()).collect()
    }

    /// Where scratch directories are made.
    pub fn scratch(&self) -> String {
        self.vault().path("scratch")
    }

    /// What drills have left.
    pub fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// A backup of the vault as it is now.
    pub fn backup(&self, name: &str) -> PathBuf {
        self.escrowed.backup(name).1
    }
}

/// The status of each check that a drill has said, by its name.
pub fn check<'a>(said: &'a Value, name: &str) -> (&'a str, &'a str) {
    let checks = said["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} was not checked: {said}"));
    (found["status"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

/// The names of checks with this status.
pub fn with_status(said: &Value, status: &str) -> Vec<String> {
    let checks = said["checks"].as_array().unwrap().iter();
    let named = checks.filter(|check| check["status"] == status);
    named.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

/// The check that has failed, and no other but those that were not reached because of it.
pub fn refuted(ended: &Ended, name: &str, why: &str) {
    ended.refused(7, &format!("not proven: {}", with_status(&ended.json(), "failed").join(", ")));
    let said = ended.json();
    assert_eq!(said["ok"], false);
    let (status, detail) = check(&said, name);
    assert_eq!(status, "failed", "{said}");
    assert!(detail.contains(why), "{why:?}: {said}");
    for other in with_status(&said, "failed").iter().filter(|other| *other != name) {
        let (_, detail) = check(&said, other);
        let follows = ["not reached", "was not proven", "this SHA-256", "the KEK is not there"];
        let follows = follows.iter().any(|why| detail.contains(why));
        assert!(follows, "{other} fails besides {name}: {detail}");
    }
}
