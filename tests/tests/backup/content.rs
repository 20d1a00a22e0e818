//! What is in a backup: everything but challenges and join tokens, as it was at one moment.

use std::fs;

use serde_json::Value;
use testkit::{
    escrow::{Escrowed, rows},
    nginx::Nginx,
    postgres::Postgres,
    process::eventually,
    programs::must,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, World, webroot},
};

/// The names in a list of `vaultctl`'s.
fn names(vault: &Vault, list: &[&str]) -> Vec<String> {
    let all = vault.json(list);
    let all = all.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn column(rows: &[Value], column: &str) -> Vec<String> {
    rows.iter().map(|row| row[column].as_str().unwrap().to_owned()).collect()
}

fn count(list: &[impl Sized]) -> Value {
    Value::from(list.len())
}

/// A vault with one of everything, and its backup, in the eyes of age, zstd and tar.
fn everything_of(escrowed: Escrowed) {
    let Escrowed { vault, custodians, keeper } = escrowed;
    let world = World::with(vault, |nginx: &Nginx| {
        format!("{}{}", Install::into(nginx).toml(), webroot(nginx))
    });
    world.issue();
    let renewed = world.vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    eventually("the agent holds the renewed version", || {
        let shown = world.vault.json(&["cert", "show", CERTIFICATE]);
        (shown["deployments"][0]["held_version"] == renewed["version"]).then_some(())
    });
    world.vault.ok(&["agent", "token", "web2"]);
    world.vault.issue("ada", "operator");
    let World { vault, pebble: _pebble, nginx: _nginx, agent } = world;
    drop(agent);
    let escrowed = Escrowed { vault, custodians, keeper };
    let vault = &escrowed.vault;

    let (made, file) = escrowed.backup("b.age");
    let dir = escrowed.unpack(&file);
    let counts = &made["counts"];
    for (table, noun) in [("accounts", "account"), ("agents", "agent"), ("certificates", "cert")] {
        let listed = names(vault, &[noun, "list"]);
        assert_eq!(column(&rows(&dir, table), "name"), listed, "{table}");
        assert!(!listed.is_empty(), "{table}");
        assert_eq!(counts[table], count(&listed), "{table}");
    }
    let versions = rows(&dir, "versions");
    let chain = vault.ok(&["cert", "chain", CERTIFICATE]);
    assert_eq!(versions.last().unwrap()["chain_pem"], chain);
    assert_eq!((&counts["versions"], versions.len()), (&count(&versions), 2));
    let deployments = rows(&dir, "deployments");
    assert_eq!(column(&deployments, "agent"), [AGENT]);
    assert_eq!(deployments[0]["held_version"], 2);
    assert_eq!(counts["deployments"], 1);
    let identities = rows(&dir, "identities");
    for name in ["operator/ada", "agent/web1", "vault/server"] {
        assert!(column(&identities, "spiffe_id").iter().any(|id| id.ends_with(name)), "{name}");
    }
    assert_eq!(counts["identities"], count(&identities));
    assert_eq!((&counts["orders"], rows(&dir, "orders").len()), (&Value::from(2), 2));

    // The log's own bytes, up to the checkpoint and no further.
    let part = rows(&dir, "audit");
    let sequence = usize::try_from(made["audit_sequence"].as_u64().unwrap()).unwrap();
    assert_eq!((part.len(), &counts["audit_records"]), (sequence, &made["audit_sequence"]));
    assert_eq!(part, vault.audit()[..sequence]);
    let head = vault.audit()[sequence]["previous"].clone();
    assert_eq!(made["audit_head"], head);

    let verified = escrowed.verify(&file, &[]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(&verified.json()["counts"], counts);
}

#[test]
fn a_backup_has_everything_but_what_is_of_the_moment() {
    everything_of(Escrowed::new());
}

#[test]
fn a_backup_of_a_vault_on_postgresql_has_everything_too() {
    let server = Postgres::shared();
    let mut vault = Vault::new();
    let sqlite = format!("sqlite:{}", vault.path("vault.db"));
    vault.reconfigure(&sqlite, &server.database());
    everything_of(Escrowed::on(vault));
}

#[test]
fn the_commands_age_zstd_and_tar_open_a_backup_for_each_recipient() {
    let escrowed = Escrowed::new();
    let (vault, other) = (&escrowed.vault, &escrowed.custodians[0]);
    let out = vault.path("b.age");
    let to = ["--recipient", &escrowed.keeper.recipient, "--recipient", &other.recipient];
    vault.ok(&[&["backup", "create", "--out", &out][..], &to[..]].concat());
    let list = "set -o pipefail; age -d -i \"$0\" \"$1\" | zstd -dc | tar -t";
    for identity in [escrowed.identity(), other.identity.display().to_string()] {
        let members = must("bash", &["-c", list, &identity, &out]);
        let members: Vec<_> = members.lines().collect();
        assert_eq!(members.first(), Some(&"backup.json"), "{members:?}");
        assert_eq!(members.last(), Some(&"manifest.json"), "{members:?}");
    }
    assert_ne!(
        escrowed.custodians[1].open_file(&vault.file("b.age")).code,
        0,
        "a stranger opens it"
    );
}

#[test]
fn what_is_said_of_a_backup_is_what_the_file_is() {
    let escrowed = Escrowed::new();
    let (made, file) = escrowed.backup("b.age");
    let sum = must("sha256sum", &[&file.display().to_string()]);
    assert_eq!(made["sha256"].as_str(), sum.split_whitespace().next());
    assert_eq!(made["size"], fs::metadata(&file).unwrap().len());
    assert_eq!(made["vault_id"], escrowed.vault.json(&["status"])["vault_id"]);
    let manifest = fs::read_to_string(escrowed.unpack(&file).join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    for field in ["vault_id", "created_at"] {
        assert_eq!(manifest["facts"][field], made[field], "{field}");
    }
    assert_eq!(manifest["facts"]["kek"]["check_value"], made["kek_check_value"]);
    for part in manifest["parts"].as_array().unwrap() {
        let path = file.with_extension("unpacked").join(part["name"].as_str().unwrap());
        assert_eq!(part["size"], fs::metadata(&path).unwrap().len(), "{part}");
        let sum = must("sha256sum", &[&path.display().to_string()]);
        assert_eq!(part["sha256"].as_str(), sum.split_whitespace().next(), "{part}");
    }
}
