//! What these tests ask of a vault that was lost and of the one that takes its place.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use testkit::{
    escrow::Escrowed,
    programs::{must, run},
    vault::{PIN, SOFTHSM, Vault},
};

/// A vault with keys of every kind and fate, and its backup.
pub struct Lost {
    /// The vault; its daemon has stopped for ever.
    pub escrowed: Escrowed,
    /// What `backup create` has said.
    pub made: Value,
    /// The backup.
    pub backup: std::path::PathBuf,
    /// What `key list` said before.
    pub keys: Value,
    /// What `status` said before.
    pub status: Value,
    /// The public key of `k`, PEM.
    pub public: String,
}

impl Lost {
    /// Keys in use, one that was replaced, one that was destroyed, one that is not escrowed; an
    /// operator, `ada`.
    pub fn new() -> Self {
        let escrowed = Escrowed::new();
        let vault = &escrowed.vault;
        for (name, more) in [
            ("k", &["--algorithm", "ec-p256", "--label", "a=b"][..]),
            ("rsa", &["--algorithm", "rsa-2048"]),
            ("ed", &["--algorithm", "ed25519", "--escrow", "none"]),
            ("gone", &["--algorithm", "ec-p384"]),
        ] {
            vault.ok(&[&["key", "generate", name], more].concat());
        }
        vault.ok(&["key", "rotate", "rsa"]);
        vault.ok(&["--yes", "key", "destroy", "gone"]);
        vault.issue("ada", "operator");
        Self::of(escrowed)
    }

    /// Backs a vault up that has a key `k`, and ends it.
    pub fn of(mut escrowed: Escrowed) -> Self {
        let vault = &escrowed.vault;
        let (keys, status) = (vault.json(&["key", "list"]), vault.json(&["status"]));
        let public = vault.ok(&["key", "public", "k"]);
        let (made, backup) = escrowed.backup("vault.age");
        escrowed.vault.kill();
        Self { escrowed, made, backup, keys, status, public }
    }

    /// A vault in its place, not initialised, that runs.
    pub fn heir(&self) -> Vault {
        let mut vault = Vault::in_place_of(&self.escrowed.vault);
        vault.start();
        vault
    }

    /// Whether a vault signs with `k` as the lost one did.
    pub fn signs(&self, vault: &Vault) -> bool {
        let at = |name: &str| vault.path(name);
        fs::write(at("message"), "m").unwrap();
        fs::write(at("k.pem"), &self.public).unwrap();
        let _ = fs::remove_file(at("signature"));
        let (input, out) = (at("message"), at("signature"));
        let how = ["--mechanism", "ecdsa-sha256", "--signature", &out];
        vault.ok(&[&["key", "sign", "k", "--input", &input][..], &how].concat());
        let public = at("k.pem");
        let verify = ["dgst", "-sha256", "-verify", &public, "-signature", &out, &input];
        must("openssl", &verify).contains("Verified OK")
    }

    /// Holds a vault against the one that was lost: who it is, its keys, its token, its logs.
    pub fn assert_is_in(&self, vault: &Vault) {
        let status = vault.json(&["status"]);
        for same in ["vault_id", "ca_fingerprint", "trust_domain"] {
            assert_eq!(status[same], self.status[same], "{same}");
        }
        let ids = |keys: &Value| -> BTreeSet<String> {
            keys.as_array().unwrap().iter().map(|key| key["id"].to_string()).collect()
        };
        assert_eq!(ids(&vault.json(&["key", "list"])), ids(&self.keys));
        assert!(self.signs(vault), "the restored key is another");
        assert_eq!(vault.keys_in_token().len() as u64, wrapped(&self.made), "the token's keys");
        assert_eq!(secrets(vault).len(), 1, "one KEK and nothing beside it");
        vault.ok(&["audit", "verify"]);
        assert!(vault.open_operations().is_empty());
        assert_eq!(left(vault), Vec::<String>::new());
    }
}

/// How many wrapped keys a backup has.
pub fn wrapped(made: &Value) -> u64 {
    made["counts"]["keys_wrapped"].as_u64().unwrap()
}

/// The secret keys of a vault's token, by CKA_ID: in the eyes of `pkcs11-tool`.
pub fn secrets(vault: &Vault) -> BTreeSet<String> {
    let mut command = std::process::Command::new("pkcs11-tool");
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    command.args(["--module", SOFTHSM, "--token-label", "vault", "--login", "--pin", PIN]);
    command.args(["--list-objects", "--type", "secrkey"]);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    let ids = ended.stdout.lines().filter_map(|line| line.trim().strip_prefix("ID:"));
    ids.map(|id| id.trim().to_owned()).collect()
}

/// The files of a vault whose name has `part`.
pub fn files(vault: &Vault, part: &str) -> Vec<String> {
    let entries = fs::read_dir(vault.dir()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains(part));
    names.sort();
    names
}

/// What a restore has left on the disk and should not have.
pub fn left(vault: &Vault) -> Vec<String> {
    [files(vault, "restore.age"), files(vault, "audit.log.restored")].concat()
}

/// A file's bytes, changed.
pub fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(from).unwrap();
    change(&mut bytes);
    fs::write(to, bytes).unwrap();
}
