//! People who keep shares of a vault's KEK, with `age` itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use vault_custody::shares::combine;
use zeroize::Zeroizing;

use crate::programs::{Ended, must, run};
use crate::vault::Vault;

/// Somebody who keeps a share.
#[derive(Debug)]
pub struct Custodian {
    /// Their name.
    pub name: String,
    /// Their age identity's file.
    pub identity: PathBuf,
    /// Their age recipient.
    pub recipient: String,
}

impl Custodian {
    /// Makes an identity with `age-keygen`, in a directory.
    ///
    /// # Panics
    /// Where `age-keygen` fails.
    pub fn new(dir: &Path, name: &str) -> Self {
        let identity = dir.join(format!("{name}.identity"));
        must("age-keygen", &["-o", &identity.display().to_string()]);
        let recipient = must("age-keygen", &["-y", &identity.display().to_string()]);
        Self { name: name.to_owned(), identity, recipient: recipient.trim().to_owned() }
    }

    /// Their share in a directory, as `age` opens it for them.
    pub fn open(&self, dir: &Path) -> Ended {
        self.open_file(&self.share(dir))
    }

    /// A share's file, as `age` opens it for them.
    pub fn open_file(&self, share: &Path) -> Ended {
        let mut command = Command::new("age");
        command.arg("--decrypt").arg("-i").arg(&self.identity).arg(share);
        run(command)
    }

    /// Where their share is in a directory.
    pub fn share(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.age", self.name))
    }
}

/// Custodians of these names, their identities in a directory.
pub fn custodians(dir: &Path, names: &[&str]) -> Vec<Custodian> {
    names.iter().map(|name| Custodian::new(dir, name)).collect()
}

/// The flags of a ceremony that gives them shares.
pub fn quorum_flags(keepers: &[Custodian], threshold: usize, shares: &Path) -> Vec<String> {
    let mut flags = vec!["--threshold".to_owned(), threshold.to_string()];
    flags.extend(["--shares-dir".to_owned(), shares.display().to_string()]);
    for keeper in keepers {
        flags.extend(["--custodian".to_owned(), format!("{}={}", keeper.name, keeper.recipient)]);
    }
    flags
}

/// The flags that bring some custodians' shares and open them.
pub fn share_flags<'a>(
    keepers: impl IntoIterator<Item = &'a Custodian>,
    shares: &Path,
) -> Vec<String> {
    let mut flags = Vec::new();
    for keeper in keepers {
        flags.extend(["--share".to_owned(), keeper.share(shares).display().to_string()]);
        flags.extend(["--identity".to_owned(), keeper.identity.display().to_string()]);
    }
    flags
}

/// The check value of the KEK that custodians rebuild out of their shares in a directory.
///
/// # Panics
/// Where they do not.
pub fn rebuilt_check_value(keepers: &[&Custodian], shares: &Path, vault_id: &str) -> String {
    let text = |keeper: &&Custodian| {
        let opened = keeper.open(shares);
        assert_eq!(opened.code, 0, "{opened:?}");
        Zeroizing::new(opened.stdout)
    };
    let texts: Vec<_> = keepers.iter().map(text).collect();
    combine(&texts, vault_id).expect("a KEK").check_value(vault_id)
}

/// A vault whose KEK two of three custodians rebuild, with their shares in its directory `shares`.
pub struct Kept {
    /// It runs.
    pub vault: Vault,
    /// Who: ops, security and audit.
    pub keepers: Vec<Custodian>,
    /// What `init` has said.
    pub made: serde_json::Value,
}

impl Kept {
    /// Has the ceremony.
    ///
    /// # Panics
    /// Where it fails.
    pub fn new() -> Self {
        let mut vault = Vault::new();
        vault.start();
        let keepers = custodians(vault.dir(), &["ops", "security", "audit"]);
        let flags = quorum_flags(&keepers, 2, &vault.file("shares"));
        let mut args = vec!["init"];
        args.extend(flags.iter().map(String::as_str));
        let made = vault.json(&args);
        Self { vault, keepers, made }
    }

    /// The vault's id.
    ///
    /// # Panics
    /// Never.
    pub fn id(&self) -> &str {
        self.made["vault_id"].as_str().expect("an id")
    }

    /// The directory of the first shares.
    pub fn shares(&self) -> PathBuf {
        self.vault.file("shares")
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::new()
    }
}
