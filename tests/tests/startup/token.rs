//! The token: another vault's, two of one name, one that is full, one that is slow.

use std::{collections::BTreeSet, fs, process::Command};

use testkit::{
    process::eventually,
    programs::run,
    small_disk::SmallDisk,
    vault::{PIN, SOFTHSM, Vault},
};

use super::refused::Stopped;

#[test]
fn a_token_of_another_vault_by_the_same_label_is_refused() {
    let mut stopped = Stopped::new();
    let other = Vault::initialized();
    let before = other.keys_in_token();
    let (own, theirs) = (stopped.vault.path("softhsm2.conf"), other.path("softhsm2.conf"));
    stopped.refused(&own, &theirs, 1, "it is another token with the same label");
    assert_eq!(other.keys_in_token(), before);
}

#[test]
fn two_tokens_by_one_label_are_told_apart_by_their_serial_only() {
    let mut stopped = Stopped::new();
    stopped.vault.start();
    let serial = stopped.vault.json(&["status"])["hsm"]["token_serial"].clone();
    stopped.vault.stop();
    let mut other = Vault::initialized();
    other.stop();
    let theirs = fs::read_dir(other.file("tokens")).unwrap().next().unwrap().unwrap();
    let copy = stopped.vault.file("tokens").join(theirs.file_name());
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(theirs.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    stopped.vault.run_daemon().refused(1, "add serial=");
    let with_serial = format!("token=vault;serial={}?", serial.as_str().unwrap());
    stopped.vault.reconfigure("token=vault?", &with_serial);
    stopped.vault.start();
    assert_eq!(stopped.vault.json(&["status"])["hsm"]["token_serial"], serial);
    stopped.vault.ok(&["key", "rotate", "k"]);
    stopped.vault.stop();
}

/// A vault whose token has a small file system of its own.
struct Small {
    vault: Vault,
    disk: SmallDisk,
}

impl Small {
    fn new() -> Self {
        let mut vault = Vault::new();
        let disk = SmallDisk::over(&vault.file("tokens"), 512 * 1024);
        vault.through = disk.through();
        vault.start();
        vault.ok(&["init"]);
        vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
        Self { vault, disk }
    }

    /// Every object in the token, public and private, in the eyes of `pkcs11-tool`.
    fn objects(&mut self) -> BTreeSet<String> {
        let tokens = self.disk.file(self.vault.process(), "");
        let conf = self.vault.file("outside.conf");
        fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
        let mut command = Command::new("pkcs11-tool");
        command.env("SOFTHSM2_CONF", conf);
        command.args(["--module", SOFTHSM, "--token-label", "vault", "--login", "--pin", PIN]);
        let ended = run({
            command.arg("--list-objects");
            command
        });
        assert_eq!(ended.code, 0, "{ended:?}");
        let lines = ended.stdout.lines().map(str::trim);
        let mut kind = String::new();
        lines
            .filter_map(|line| match line.strip_prefix("ID:") {
                Some(id) => Some(format!("{kind} {}", id.trim())),
                None if line.contains("Key Object") => {
                    kind = line.to_owned();
                    None
                }
                None => None,
            })
            .collect()
    }

    fn sign(&self) -> i32 {
        let (message, signature) = (self.vault.path("pin"), self.vault.path("signature"));
        let files = ["--input", &message, "--signature", &signature];
        let sign = ["key", "sign", "k", "--mechanism", "ecdsa-sha256"];
        self.vault.ctl(&[&sign[..], &files[..]].concat()).code
    }
}

#[test]
fn a_full_token_makes_no_key_and_leaves_nothing_half_made() {
    let mut small = Small::new();
    let (keys, objects) = (small.vault.json(&["key", "list"]), small.objects());
    assert_eq!(objects.len(), 4, "the CA's pair and k's: {objects:?}");

    small.disk.fill(small.vault.process());
    for algorithm in ["ec-p256", "rsa-2048", "ed25519"] {
        let generated = small.vault.ctl(&["key", "generate", "new", "--algorithm", algorithm]);
        generated.refused(6, "generate failed");
        assert_eq!(small.vault.json(&["key", "list"]), keys, "{algorithm}");
        assert_eq!(small.objects(), objects, "{algorithm}");
    }
    assert_eq!(small.sign(), 0, "what is there still signs");

    small.disk.free(small.vault.process());
    for algorithm in ["ec-p256", "rsa-2048", "ed25519"] {
        let name = format!("{algorithm}-new");
        small.vault.ok(&["key", "generate", &name, "--algorithm", algorithm]);
    }
    assert_eq!(small.objects().len(), objects.len() + 6);
    assert_eq!(small.vault.json(&["audit", "verify"])["ok"], true);
    assert_eq!(small.vault.json(&["status"])["hsm"]["available"], true);
}

/// A key that the HSM ends when nobody waits for it any more is nobody's.
#[test]
fn a_key_that_comes_too_late_does_not_stay() {
    let mut vault = Vault::initialized();
    vault.stop();
    let usual = vault.config.clone();
    vault.hsm_deadline("500ms");
    vault.start();
    let before = vault.keys_in_token();
    let mut in_time = Vec::new();
    eventually("one that is too late", || {
        let name = format!("k{}", in_time.len());
        let made = vault.ctl(&["key", "generate", &name, "--algorithm", "rsa-4096"]);
        if made.code == 0 {
            in_time.push(name);
            return None;
        }
        made.refused(6, "generate failed");
        Some(())
    });
    // It may take its time.
    vault.stop();
    vault.config = usual;
    vault.start();
    for name in in_time {
        vault.ok(&["key", "destroy", &name, "--yes"]);
    }
    assert_eq!(vault.keys_in_token(), before);
    let status = vault.json(&["status"]);
    assert_eq!(status["hsm"]["keys"], before.len());
    let orphan = |finding: &serde_json::Value| finding.to_string().contains("left in place");
    assert!(!status["findings"].as_array().unwrap().iter().any(orphan), "{status}");
}
