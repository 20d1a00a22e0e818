//! SIGKILL between every two writes of a key's birth, its end and an issuance: nothing that was
//! acknowledged is lost, nothing is orphaned unreported, and an order goes on.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use testkit::world::{AGENT, Install, SITE, order, register_account, webroot};
use testkit::{agent::Agent, nginx::Nginx, pebble::Pebble, process::eventually, vault::Vault};

/// Starts the vault so that it kills itself at a named place; runs `command`, which must fail,
/// since the vault dies in the middle of it; starts the vault again.
fn crash_at(vault: &mut Vault, point: &str, command: &[&str]) {
    vault.kill();
    // Each start signs once: the vault's own server certificate.
    let skipped = if point.starts_with("sign.") { "1*off->" } else { "" };
    vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}={skipped}return"))];
    vault.start();
    let ended = vault.ctl(command);
    assert_ne!(ended.code, 0, "{point}: {ended:?}");
    let status = vault.process().wait_exit();
    assert!(!status.success(), "{point}: the vault did not crash");
    vault.environment.clear();
    vault.start();
}

fn names(vault: &Vault) -> Vec<String> {
    let keys = vault.json(&["key", "list"]);
    let living = keys.as_array().unwrap().iter().filter(|key| key["state"] == "active");
    living.map(|key| key["name"].as_str().unwrap().to_owned()).collect()
}

/// What the token itself holds, by pkcs11-tool, which shares nothing with the vault.
fn objects(vault: &Vault) -> usize {
    let mut command = std::process::Command::new("pkcs11-tool");
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    command.args(["--module", testkit::vault::SOFTHSM, "--login", "--pin", testkit::vault::PIN]);
    command.args(["--list-objects", "--type", "privkey"]);
    let ended = testkit::programs::run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout.matches("Private Key Object").count()
}

fn nothing_is_left_open(vault: &Vault) {
    let records = vault.audit();
    let mut open = std::collections::BTreeSet::new();
    for record in &records {
        let Some(operation) = record["operation"].as_str() else { continue };
        match record["phase"].as_str().unwrap() {
            "intent" => assert!(open.insert(operation.to_owned())),
            _ => assert!(open.remove(operation), "{record}"),
        }
    }
    assert!(open.is_empty(), "intents without a result: {open:?}");
    vault.ok(&["audit", "verify"]);
}

#[test]
fn a_key_is_born_whole_or_not_at_all() {
    let mut vault = Vault::initialized();
    vault.ok(&["key", "generate", "acknowledged", "--algorithm", "ec-p256"]);
    for (point, survives) in [
        ("generate.intent", false),
        ("generate.hsm", false),
        ("generate.store", true),
        ("generate.result", true),
    ] {
        let name = point.replace('.', "-");
        crash_at(&mut vault, point, &["key", "generate", &name, "--algorithm", "ec-p256"]);
        let names = names(&vault);
        assert!(names.contains(&"acknowledged".to_owned()), "{point}: {names:?}");
        assert_eq!(names.contains(&name), survives, "{point}: {names:?}");
        let living = vault.json(&["status"])["hsm"]["keys"].as_u64().unwrap();
        assert_eq!(objects(&vault) as u64, living, "{point}: objects without rows");
        nothing_is_left_open(&vault);
        if !survives {
            // The name is free: the same command works now.
            vault.ok(&["key", "generate", &name, "--algorithm", "ec-p256"]);
        }
    }
    let findings = vault.json(&["status"])["findings"].clone();
    assert!(findings.as_array().unwrap().is_empty(), "a clean start finds nothing: {findings}");
}

#[test]
fn an_object_that_nobody_was_told_of_is_destroyed_and_reported() {
    let mut vault = Vault::initialized();
    crash_at(&mut vault, "generate.hsm", &["key", "generate", "torn", "--algorithm", "ec-p256"]);
    let findings = vault.json(&["status"])["findings"].to_string();
    assert!(findings.contains("never acknowledged: destroyed"), "{findings}");
    assert_eq!(objects(&vault), 1, "the internal CA's key alone");
}

#[test]
fn a_destruction_that_began_is_completed_or_did_not_happen() {
    let mut vault = Vault::initialized();
    for (point, gone) in [("destroy.intent", false), ("destroy.hsm", true), ("destroy.store", true)]
    {
        let name = point.replace('.', "-");
        vault.ok(&["key", "generate", &name, "--algorithm", "ec-p256"]);
        crash_at(&mut vault, point, &["key", "destroy", &name, "--yes"]);
        assert_eq!(!names(&vault).contains(&name), gone, "{point}");
        let living = vault.json(&["status"])["hsm"]["keys"].as_u64().unwrap();
        assert_eq!(objects(&vault) as u64, living, "{point}");
        nothing_is_left_open(&vault);
    }
}

#[test]
fn a_destruction_of_several_versions_that_began_is_finished_by_the_next() {
    let mut vault = Vault::initialized();
    for point in ["destroy.hsm", "destroy.store"] {
        let name = point.replace('.', "-");
        vault.ok(&["key", "generate", &name, "--algorithm", "ec-p256"]);
        vault.ok(&["key", "rotate", &name]);
        vault.ok(&["key", "rotate", &name]);
        crash_at(&mut vault, point, &["key", "destroy", &name, "--yes"]);
        assert_eq!(objects(&vault), 3, "{point}: one of three is gone");
        // Nothing is hidden that still is in the HSM.
        assert!(names(&vault).contains(&name), "{point}");
        vault.ok(&["key", "destroy", &name, "--yes"]);
        assert_eq!(objects(&vault), 1, "{point}: the internal CA's key alone");
        vault.ctl(&["key", "destroy", &name, "--yes"]).refused(3, "no such key");
        nothing_is_left_open(&vault);
    }
}

#[test]
fn a_signature_without_a_result_was_not_handed_out_and_is_accounted_for() {
    let mut vault = Vault::initialized();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    std::fs::write(vault.file("message"), "m").unwrap();
    let (input, signature) = (vault.path("message"), vault.path("signature"));
    let sign = [
        "key",
        "sign",
        "k",
        "--input",
        &input,
        "--mechanism",
        "ecdsa-sha256",
        "--signature",
        &signature,
    ];
    for point in ["sign.intent", "sign.hsm"] {
        crash_at(&mut vault, point, &sign);
        assert!(!vault.file("signature").exists(), "{point}");
        let last = vault.audit().into_iter().rfind(|r| r["action"] == "key.sign.message").unwrap();
        assert_eq!(last["outcome"], "unknown", "{point}: {last}");
        nothing_is_left_open(&vault);
    }
    vault.ok(&sign);
}

/// Every place of an issuance, in the order that an order passes them.
const ISSUANCE: &[&str] = &[
    "issue.key",
    "issue.order",
    "issue.csr",
    "issue.ca-order",
    "issue.url",
    "issue.challenges",
    "issue.finalizing",
    "issue.finalized",
    "issue.certificate",
    "issue.stored",
];

#[test]
fn an_order_goes_on_wherever_the_vault_dies() {
    let mut vault = Vault::initialized();
    let pebble = Pebble::start();
    let nginx = Nginx::start(SITE, pebble.http01);
    register_account(&vault, &pebble);
    let installs = |name: &str| {
        let chain = nginx.file(&format!("{name}.pem"));
        let key = Some(nginx.file(&format!("{name}.key")));
        Install { key, ..Install::file(name, chain) }.toml()
    };
    let cases: Vec<_> = ISSUANCE
        .iter()
        .flat_map(|point| {
            let custodies = match *point {
                "issue.key" => &["vault"][..],
                "issue.csr" => &["agent"],
                _ => &["vault", "agent"],
            };
            custodies.iter().map(move |custody| (*point, *custody))
        })
        .collect();
    let name = |point: &str, custody: &str| format!("{}-{custody}", point.replace('.', "-"));
    let all: String =
        cases.iter().map(|(point, custody)| installs(&name(point, custody))).collect();
    let _agent = Agent::enrolled(&vault, AGENT, &format!("{all}{}", webroot(&nginx)));
    for (point, custody) in &cases {
        let name = name(point, custody);
        vault.kill();
        vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        vault.start();
        // A name of its own: Pebble asks for no proof of a name that it has just seen proven.
        let domain = format!("{name}.example");
        // Where the vault dies before it answers, the command fails, and where it dies after, not.
        vault.ctl(&order(&name, &domain, custody, &[]));
        let status = vault.process().wait_exit();
        assert!(!status.success(), "{name}: the vault did not crash");
        vault.environment.clear();
        vault.start();
        eventually(&format!("{name} is issued and installed"), || {
            let now = vault.json(&["cert", "show", &name]);
            (now["status"] == "issued" && now["deployments"][0]["held_version"] == now["version"])
                .then_some(())
        });
        assert_eq!(vault.json(&["cert", "history", &name]).as_array().unwrap().len(), 1, "{name}");
        nothing_is_left_open(&vault);
    }
    let living = vault.json(&["status"])["hsm"]["keys"].as_u64().unwrap();
    assert_eq!(objects(&vault) as u64, living);
}

#[test]
fn a_ceremony_that_is_interrupted_is_begun_anew() {
    for point in ["generate.intent", "generate.hsm", "generate.store", "sign.intent", "sign.hsm"] {
        let mut vault = Vault::new();
        vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        vault.start();
        assert_ne!(vault.ctl(&["init"]).code, 0, "{point}");
        assert!(!vault.process().wait_exit().success(), "{point}");
        vault.environment.clear();
        vault.start();
        assert_eq!(vault.json(&["status"])["initialized"], false, "{point}");
        vault.ok(&["init"]);
        assert_eq!(objects(&vault), 1, "{point}");
        vault.stop();
        vault.start();
        assert_eq!(vault.json(&["status"])["hsm"]["keys"], 1, "{point}");
        nothing_is_left_open(&vault);
    }
}
