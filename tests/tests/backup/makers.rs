//! Who may make a backup, for whom, and what the audit log says of it.

use std::fs;

use serde_json::Value;
use testkit::{agent::Agent, custodians::Custodian, escrow::Escrowed, vault::Vault};

/// Records of one action.
fn of(vault: &Vault, action: &str) -> Vec<Value> {
    vault.audit().into_iter().filter(|record| record["action"] == action).collect()
}

#[test]
fn operators_make_backups_and_auditors_and_agents_do_not() {
    let escrowed = Escrowed::new();
    let vault = &escrowed.vault;
    let (ada, eve) = (vault.issue("ada", "operator"), vault.issue("eve", "auditor"));
    let to = ["--recipient", &escrowed.keeper.recipient];
    let create = |out: &str| {
        let out = vault.path(out);
        let args = [&["backup", "create", "--out"], &[out.as_str()][..], &to].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let by = |dir: &std::path::Path, out: &str| {
        let args = create(out);
        vault.ctl_as(dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(by(&ada, "ada.age").code, 0);
    by(&eve, "eve.age").refused(4, "auditor/eve");
    let agent = Agent::enrolled(vault, "web1", "");
    let identity = vault.file("as-agent");
    fs::create_dir(&identity).unwrap();
    for file in ["cert.pem", "key.pem"] {
        fs::copy(agent.file("state/identity.pem"), identity.join(file)).unwrap();
    }
    fs::copy(ada.join("ca.pem"), identity.join("ca.pem")).unwrap();
    by(&identity, "agent.age").refused(4, "agent/web1");
    for out in ["eve.age", "agent.age"] {
        assert!(!vault.file(out).exists(), "{out}");
    }
    let denied = of(vault, "backup.create");
    let denied = denied.iter().filter(|record| record["detail"]["denied"].is_string());
    assert_eq!(denied.count(), 2, "each refusal is on the log");
}

#[test]
fn a_backup_and_every_wrapped_key_are_on_the_audit_log() {
    let escrowed = Escrowed::new();
    let vault = &escrowed.vault;
    let key = vault.json(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let ada = vault.issue("ada", "operator");
    let out = vault.path("b.age");
    let to = &escrowed.keeper.recipient;
    let made = ["-o", "json", "backup", "create", "--out", &out, "--recipient", to];
    let made = vault.ctl_as(&ada, &made).json();
    let [intent, result] = of(vault, "backup.create").try_into().unwrap();
    assert_eq!(intent["phase"], "intent");
    assert_eq!(intent["principal"], "spiffe://test.example/operator/ada");
    assert_eq!(intent["detail"]["recipients"], serde_json::json!([to]));
    assert_eq!((&result["phase"], &result["outcome"]), (&"result".into(), &"ok".into()));
    assert_eq!(result["detail"]["sha256"], made["sha256"]);
    let wraps = of(vault, "key.wrap");
    assert_eq!(wraps.len(), 2, "two keys are one operation");
    let id = key["id"].as_str().unwrap();
    assert_eq!(wraps[0]["detail"]["keys"][id], "k");
    // Whoever asks about the key finds it, by either name.
    for name in [id, "k"] {
        let asked = vault.json(&["audit", "query", "--key", name, "--action", "key.wrap"]);
        assert_eq!(asked.as_array().unwrap().len(), 2, "{name}");
    }
    assert!(vault.open_operations().is_empty());
}

#[test]
fn a_backup_for_nobody_is_refused_and_the_configuration_may_name_whom() {
    let mut vault = Vault::new();
    let keeper = Custodian::new(vault.dir(), "keeper");
    vault.start();
    vault.ok(&["init"]);
    let out = vault.path("b.age");
    let create = ["backup", "create", "--out", &out];
    vault.ctl(&create).refused(2, "there is no recipient");
    let wrong = [&create[..], &["--recipient", "age1nonsense"]].concat();
    vault.ctl(&wrong).refused(2, "age1nonsense");
    let twice = ["--recipient", &keeper.recipient, "--recipient", &keeper.recipient];
    vault.ctl(&[&create[..], &twice[..]].concat()).refused(2, "it is there twice");
    assert!(!vault.file("b.age").exists());
    vault.stop();
    vault.config.push_str(&format!("[backup]\nrecipients = [\"{}\"]\n", keeper.recipient));
    vault.start();
    vault.ok(&create);
    vault.ok(&["backup", "verify", &out, "--identity", &keeper.identity.display().to_string()]);
}

#[test]
fn a_file_that_is_there_stays_and_a_backup_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let escrowed = Escrowed::new();
    let (_, file) = escrowed.backup("b.age");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();
    let out = file.display().to_string();
    let again = ["backup", "create", "--out", &out, "--recipient", &escrowed.keeper.recipient];
    escrowed.vault.ctl(&again).refused(2, "it exists already");
    assert_eq!(fs::read(&file).unwrap(), before);
}
