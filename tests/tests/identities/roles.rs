//! Operators and auditors at work over the network.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use testkit::{
    pebble::Pebble,
    programs::{must, ours, run},
    vault::Vault,
    world::{ACCOUNT, register_account},
};

/// The permission bits of a file.
fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_operator_works_over_the_network_with_the_profile_that_init_prints() {
    let mut vault = Vault::new();
    vault.start();
    let dir = vault.file("ada");
    let out = dir.display().to_string();
    let made = vault.ctl(&["init", "--operator", "ada", "--operator-out", &out]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("key.pem")), 0o600);

    let profile = made.stderr.lines().skip_while(|line| !line.starts_with("[profile."));
    let profile: Vec<_> = profile.take_while(|line| line.contains(['[', '='])).collect();
    let profile = profile.join("\n").replace("HOST:PORT", &vault.address.to_string());
    fs::write(vault.file("config.toml"), profile).unwrap();
    let by_profile = |args: &[&str]| {
        let mut command = Command::new(ours("vaultctl"));
        command.arg("--config").arg(vault.file("config.toml")).args(["--profile", "ada"]);
        run({
            command.args(args);
            command
        })
    };
    let done = by_profile(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    assert_eq!(done.code, 0, "{done:?}");
    let record = vault.audit().into_iter().rfind(|record| record["action"] == "key.generate");
    assert_eq!(record.unwrap()["principal"], "spiffe://test.example/operator/ada");
    // The chain, in the eyes of another implementation.
    let file = |name: &str| dir.join(name).display().to_string();
    let (ca, cert) = (file("ca.pem"), file("cert.pem"));
    must("openssl", &["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &ca, &cert]);
}

/// Everything that only looks.
const READS: &[&str] = &[
    "status",
    "key list",
    "key show k",
    "key public k",
    "account list",
    "account show ca",
    "cert list",
    "agent list",
    "agent show web1",
    "audit query",
    "audit tail",
    "audit verify",
    "audit export",
    "backup list",
];

/// Everything that changes something, or signs.
const CHANGES: &[&str] = &[
    "init",
    "shares --shares-dir DIR/shares",
    "key generate new --algorithm ec-p256",
    "key rotate k",
    "key destroy k --yes",
    "key sign k --mechanism ecdsa-sha256 --input DIR/message --signature DIR/out",
    "csr create --key k --domain shop.example --out DIR/out",
    "jws sign --account ca --url https://ca.example/order --payload DIR/message",
    "account register new --directory https://ca.example/dir --agree-tos",
    "account rollover ca",
    "account update ca --contact mailto:ops@shop.example",
    "account agree ca",
    "account deauthorize ca --domain shop.example --yes",
    "account deactivate ca --yes",
    "cert issue new --account ca --domain shop.example --challenge http-01 --deploy-to web1",
    "cert update shop --rotate-key true",
    "cert revoke shop --reason superseded --yes",
    "cert delete shop --yes",
    "cert deploy shop --to web1",
    "cert undeploy shop --from web1 --yes",
    "cert rollout shop --resume",
    "agent token web2",
    "agent evict web1 --yes",
    "operator issue eve2 --out DIR/eve2",
    "backup create --out DIR/out",
    "backup run",
    "backup prune --yes",
    "backup fetch 01900000-0000-7000-8000-000000000001 --out DIR/out",
];

/// A vault with one of everything.
fn vault_with_everything() -> (Vault, Pebble) {
    let vault = Vault::initialized();
    let pebble = Pebble::start();
    register_account(&vault, &pebble);
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    vault.ok(&["agent", "token", "web1"]);
    fs::write(vault.file("message"), "a message").unwrap();
    (vault, pebble)
}

fn words(line: &str, vault: &Vault) -> Vec<String> {
    let dir = vault.dir().display().to_string();
    line.split(' ').map(|word| word.replace("DIR", &dir)).collect()
}

#[test]
fn an_auditor_reads_everything_and_changes_nothing() {
    let (vault, _pebble) = vault_with_everything();
    let eve = vault.issue("eve", "auditor");
    let state = || {
        let lists = ["key", "account", "cert", "agent"].map(|noun| vault.json(&[noun, "list"]));
        (lists, vault.keys_in_token())
    };
    let before = state();
    for line in READS {
        let args = words(line, &vault);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let ended = vault.ctl_as(&eve, &args);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
    }
    for line in CHANGES {
        let args = words(line, &vault);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        vault.ctl_as(&eve, &args).refused(4, "spiffe://test.example/auditor/eve");
    }
    assert_eq!(state(), before);
    for file in ["out", "eve2/cert.pem", "eve2/key.pem", "shares/ops.age"] {
        assert!(!vault.file(file).exists(), "{file}");
    }
    let denied = vault.audit().into_iter().filter(|r| r["detail"]["denied"].is_string());
    assert_eq!(denied.count(), CHANGES.len(), "each refusal is on the log");
}

#[test]
fn an_operator_over_the_network_neither_initialises_nor_fetches_shares() {
    let vault = Vault::initialized();
    let ada = vault.issue("ada", "operator");
    vault.ctl_as(&ada, &["init"]).refused(4, "operator/ada");
    let shares = vault.path("shares");
    vault.ctl_as(&ada, &["shares", "--shares-dir", &shares]).refused(4, "operator/ada");
}

#[test]
fn an_account_is_read_and_not_used_by_an_auditor_even_with_the_right_name() {
    let (vault, _pebble) = vault_with_everything();
    let eve = vault.issue("eve", "auditor");
    // Whether a thing exists makes no difference to who may not use it.
    let (message, out) = (vault.path("message"), vault.path("out"));
    for account in [ACCOUNT, "nothing"] {
        let url = "https://ca.example/order";
        let args = ["jws", "sign", "--account", account, "--url", url, "--payload", &message];
        vault.ctl_as(&eve, &args).refused(4, "auditor/eve");
    }
    for key in ["k", "nothing"] {
        let sign = ["key", "sign", key, "--mechanism", "ecdsa-sha256"];
        let files = ["--input", &message, "--signature", &out];
        vault.ctl_as(&eve, &[&sign[..], &files[..]].concat()).refused(4, "auditor/eve");
        let csr = ["csr", "create", "--key", key, "--domain", "shop.example", "--out", &out];
        vault.ctl_as(&eve, &csr).refused(4, "auditor/eve");
    }
}
