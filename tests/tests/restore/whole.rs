//! A restored vault is the one that was lost.

use std::fs;

use serde_json::Value;
use testkit::{
    escrow::Escrowed,
    keyless_world::{KeylessWorld, Server},
    postgres::Postgres,
    process::eventually,
    vault::Vault,
    world::{AGENT, wait_connected},
};
use vault_proto::audit;

use super::world::{Lost, files, wrapped};

#[test]
fn a_restored_vault_is_the_one_that_was_lost() {
    let lost = Lost::new();
    let vault = lost.heir();
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let restored = ended.json();
    assert_eq!(restored["vault_id"], lost.made["vault_id"]);
    assert_eq!(restored["snapshot_at"], lost.made["created_at"]);
    assert_eq!(restored["backup_sha256"], lost.made["sha256"]);
    assert_eq!(restored["kek_check_value"], lost.made["kek_check_value"]);
    assert_eq!(restored["counts"], lost.made["counts"]);
    assert_eq!(restored["keys_restored"], wrapped(&lost.made));
    let names: Vec<_> = restored["lost"].as_array().unwrap().iter().map(|k| &k["name"]).collect();
    assert_eq!(names, ["ed"]);
    assert!(restored["findings"].to_string().contains("key ed "), "{}", restored["findings"]);
    lost.assert_is_in(&vault);
    // Who was let in before is let in now.
    let ada = vault.ctl_as(&lost.escrowed.vault.file("ada"), &["-o", "json", "kek", "show"]);
    assert_eq!(ada.json()[0]["check_value"], lost.made["kek_check_value"], "{ada:?}");
}

#[test]
fn a_restored_vault_makes_new_keys_and_its_backup_is_restored_again() {
    let lost = Lost::new();
    let mut vault = lost.heir();
    assert_eq!(lost.escrowed.restore_into(&vault, &lost.backup, &[]).code, 0);
    vault.ok(&["key", "generate", "new", "--algorithm", "ec-p256"]);
    let out = vault.path("again.age");
    let to = ["--recipient", &lost.escrowed.keeper.recipient];
    vault.ok(&[&["backup", "create", "--out", &out][..], &to].concat());
    let backup = vault.file("again.age");
    let verify = ["backup", "verify", &out, "--identity", &lost.escrowed.identity()];
    vault.ok(&verify);
    vault.stop();
    let mut third = Vault::in_place_of(&vault);
    third.start();
    let ended = lost.escrowed.restore_into(&third, &backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["keys_restored"], wrapped(&lost.made) + 1);
    assert!(lost.signs(&third));
    third.ok(&["key", "show", "new"]);
    third.ok(&["audit", "verify"]);
}

/// Records of one action.
fn of(records: &[Value], action: &str) -> Vec<Value> {
    records.iter().filter(|record| record["action"] == action).cloned().collect()
}

#[test]
fn the_audit_log_goes_on_and_ties_the_log_of_the_time_before_to_it() {
    let lost = Lost::new();
    let vault = lost.heir();
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let [aside] = files(&vault, "before-restore").try_into().unwrap();
    assert_eq!(ended.json()["audit_set_aside"], vault.path(&aside));
    for log in ["audit.log", &aside] {
        vault.ok(&["audit", "verify", &vault.path(log)]);
    }
    let records = vault.audit();
    let sequence = usize::try_from(lost.made["audit_sequence"].as_u64().unwrap()).unwrap();
    let link = &records[sequence];
    assert_eq!((&link["action"], &link["phase"]), (&"backup.restore".into(), &"event".into()));
    let said = &link["detail"]["restored"];
    assert_eq!(said["sha256"], lost.made["sha256"]);
    assert_eq!(said["created_at"], lost.made["created_at"]);
    assert_eq!(said["audit"]["head"], lost.made["audit_head"]);
    // The head that it names is that of the other log, at that record.
    let set_aside = &link["detail"]["set_aside"];
    assert_eq!(set_aside["file"], aside.as_str());
    let text = fs::read_to_string(vault.file(&aside)).unwrap();
    let before = usize::try_from(set_aside["audit"]["sequence"].as_u64().unwrap()).unwrap();
    let line = text.lines().nth(before - 1).unwrap();
    assert_eq!(set_aside["audit"]["head"], audit::hash(line.as_bytes()));
    // That log has all that was done on the way.
    let records: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let [intent, result] = of(&records, "backup.restore").try_into().unwrap();
    assert_eq!(intent["detail"]["sha256"], lost.made["sha256"]);
    assert_eq!(intent["detail"]["counts"]["keys_wrapped"], wrapped(&lost.made));
    assert_eq!((&result["phase"], &result["outcome"]), (&"result".into(), &"ok".into()));
    let unwrapped = of(&records, "key.unwrap");
    let named = unwrapped[0]["detail"]["keys"].as_object().unwrap();
    assert_eq!(named.len() as u64, wrapped(&lost.made));
    assert_eq!(unwrapped[1]["outcome"], "ok");
}

#[test]
fn an_operator_gets_in_by_the_certificate_that_a_restore_has_issued() {
    let lost = Lost::new();
    let vault = lost.heir();
    let out = vault.path("grace");
    let more = ["--operator", "grace", "--operator-out", &out];
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &more);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["operator"], "spiffe://test.example/operator/grace");
    assert_eq!(vault.ctl_as(&vault.file("grace"), &["key", "list"]).code, 0);
}

#[test]
fn a_backup_of_sqlite_is_restored_on_postgresql() {
    let lost = Lost::new();
    let server = Postgres::shared();
    let mut vault = Vault::in_place_of(&lost.escrowed.vault);
    let sqlite = format!("sqlite:{}", vault.path("vault.db"));
    vault.reconfigure(&sqlite, &server.database());
    vault.start();
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    lost.assert_is_in(&vault);
    assert_eq!(vault.json(&["status"])["store"]["backend"], "postgres");
    vault.stop();
    vault.start();
    lost.assert_is_in(&vault);
}

#[test]
fn web_servers_agents_and_the_ca_go_on_with_a_restored_vault() {
    let Escrowed { vault, custodians, keeper } = Escrowed::new();
    let mut world = KeylessWorld::new(Server::Nginx, vault);
    world.issue(&[]);
    world.vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let key = world.key_id();
    // Another address, nothing of its directory, and the same place in the network.
    let heir = Vault::in_place_of(&world.vault);
    let vault = std::mem::replace(&mut world.vault, heir);
    let lost = Lost::of(Escrowed { vault, custodians, keeper });
    world.vault.start();
    let ended = lost.escrowed.restore_into(&world.vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    // The agent comes back by itself, with the identity that it had.
    wait_connected(&world.vault, AGENT);
    // Full handshakes, each signed with the restored key.
    assert_eq!(world.key_id(), key);
    for visitor in world.visitors() {
        eventually("a handshake", || visitor.shake_hands().ok());
    }
    // The account's key is the CA's still: it takes an order, and the agent installs the chain.
    let serial = world.renew();
    for visitor in world.visitors() {
        eventually("the renewed leaf", || (visitor.shake_hands().ok()? == serial).then_some(()));
    }
}
