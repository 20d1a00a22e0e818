//! The daemon, whose store says of certificates that they ended earlier than they did.

use testkit::{
    process::eventually,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, SITE, World, order, webroot},
};
use time::{Duration, OffsetDateTime};

/// A second certificate; by its name its keys come before the first one's.
const OTHER: &str = "other";

/// A vault with an agent that takes what is issued.
fn world() -> World {
    World::with(Vault::initialized(), |nginx| {
        let files = |name: &str| {
            let key = Some(nginx.file(&format!("{name}.key")));
            let chain = nginx.file(&format!("{name}.pem"));
            Install { key, ..Install::file(name, chain) }.toml()
        };
        format!("{}{}{}", files(CERTIFICATE), files(OTHER), webroot(nginx))
    })
}

/// The key in a certificate's answer, as the token writes its CKA_ID.
fn key(certificate: &serde_json::Value) -> String {
    certificate["key_id"].as_str().unwrap().replace('-', "")
}

/// Orders a certificate and renews it until it has had that many keys; answers them.
fn issue(vault: &Vault, name: &str, keys: usize) -> Vec<String> {
    let domain = if name == CERTIFICATE { SITE.to_owned() } else { format!("{name}.example") };
    let issued = vault.json(&order(name, &domain, "vault", &["--rotate-key", "--wait"]));
    let mut all = vec![key(&issued)];
    while all.len() < keys {
        let renewed = vault.json(&["cert", "renew", name, "--force", "--wait"]);
        assert!(!all.contains(&key(&renewed)), "{renewed}");
        all.push(key(&renewed));
    }
    all
}

/// Has a version of a certificate have ended that long ago. The vault must not run.
fn backdate(vault: &Vault, name: &str, version: i64, ago: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = (OffsetDateTime::now_utc() - ago).unix_timestamp_nanos() / 1000;
    runtime.block_on(async {
        let url = format!("sqlite://{}", vault.path("vault.db"));
        let store = sqlx::SqlitePool::connect(&url).await.unwrap();
        let done = sqlx::query(
            "UPDATE certificate_versions SET not_after = $3 WHERE certificate = $1 AND version = $2",
        )
        .bind(name)
        .bind(version)
        .bind(i64::try_from(end).unwrap())
        .execute(&store)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1);
        store.close().await;
    });
}

/// The records of a key's destruction.
fn destructions(vault: &Vault, id: &str) -> Vec<serde_json::Value> {
    let of_key = |resource: &str| resource.replace('-', "") == format!("key/{id}");
    let destroys = |r: &serde_json::Value| {
        r["action"] == "key.destroy" && r["resource"].as_str().is_some_and(of_key)
    };
    vault.audit().into_iter().filter(destroys).collect()
}

/// Waits until a key is gone from the token.
fn wait_gone(vault: &Vault, id: &str) {
    eventually(&format!("key {id} is gone"), || {
        (!vault.keys_in_token().contains(id)).then_some(())
    });
}

#[test]
fn at_its_start_a_vault_destroys_what_no_certificate_needs_and_says_so() {
    let mut world = world();
    let vault = &mut world.vault;
    let (other, shop) = (issue(vault, OTHER, 2), issue(vault, CERTIFICATE, 2));
    let before = vault.keys_in_token();
    vault.stop();
    backdate(vault, OTHER, 1, Duration::hours(23));
    backdate(vault, CERTIFICATE, 1, Duration::hours(25));
    vault.start();
    wait_gone(vault, &shop[0]);
    // The other one's day is not over; it was looked at first.
    let mut expected = before;
    expected.remove(&shop[0]);
    assert_eq!(vault.keys_in_token(), expected);
    assert_eq!(destructions(vault, &other[0]).len(), 0);
    eventually("its destruction is on the log", || {
        let records = destructions(vault, &shop[0]);
        let phases: Vec<_> = records.iter().map(|record| record["phase"].clone()).collect();
        (phases == ["intent", "result"]).then(|| {
            assert_eq!(records[0]["principal"], "vault:renewal", "{records:?}");
            assert_eq!(records[1]["outcome"], "ok", "{records:?}");
        })
    });
    // Both certificates go on.
    for name in [OTHER, CERTIFICATE] {
        vault.ok(&["cert", "renew", name, "--force", "--wait"]);
    }
    vault.stop();
    vault.start();
    assert_eq!(vault.json(&["status"])["findings"], serde_json::json!([]));
    vault.ok(&["audit", "verify"]);
}

#[test]
fn a_crash_while_a_replaced_key_is_destroyed_leaves_nothing_half_done() {
    let points = ["destroy.intent", "destroy.hsm", "destroy.store"];
    let mut world = world();
    let vault = &mut world.vault;
    let keys = issue(vault, CERTIFICATE, points.len() + 1);
    vault.stop();
    for ((point, version), id) in points.iter().zip(1..).zip(&keys) {
        backdate(vault, CERTIFICATE, version, Duration::days(2));
        vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        vault.spawn();
        let status = vault.process().wait_exit();
        assert!(!status.success(), "{point}: the vault did not crash");
        vault.environment.clear();
        vault.start();
        wait_gone(vault, id);
        eventually("nothing is left open", || vault.open_operations().is_empty().then_some(()));
        vault.stop();
        vault.start();
        assert_eq!(vault.json(&["status"])["findings"], serde_json::json!([]), "{point}");
        vault.ok(&["audit", "verify"]);
        vault.stop();
    }
    vault.start();
    let left = vault.keys_in_token();
    let of_shop: Vec<_> = keys.iter().filter(|id| left.contains(*id)).collect();
    assert_eq!(of_shop, [keys.last().unwrap()]);
    vault.ok(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
}

#[test]
fn a_certificate_that_is_deleted_takes_the_keys_that_it_had_with_it() {
    let mut world = world();
    let vault = &mut world.vault;
    let before = vault.keys_in_token();
    issue(vault, CERTIFICATE, 3);
    assert_eq!(vault.keys_in_token().len(), before.len() + 3);
    vault.ok(&["cert", "undeploy", CERTIFICATE, "--from", AGENT]);
    vault.ok(&["cert", "delete", CERTIFICATE, "--yes"]);
    assert_eq!(vault.keys_in_token(), before);
}

#[test]
fn a_deletion_that_a_crash_has_interrupted_is_finished_by_the_next() {
    let mut world = world();
    let vault = &mut world.vault;
    let before = vault.keys_in_token();
    for point in ["destroy.intent=return", "destroy.hsm=return", "destroy.hsm=1*off->return"] {
        issue(vault, CERTIFICATE, 2);
        vault.ok(&["cert", "undeploy", CERTIFICATE, "--from", AGENT]);
        vault.stop();
        vault.environment = vec![("FAILPOINTS".to_owned(), point.to_owned())];
        vault.start();
        assert_ne!(vault.ctl(&["cert", "delete", CERTIFICATE, "--yes"]).code, 0, "{point}");
        assert!(!vault.process().wait_exit().success(), "{point}: the vault did not crash");
        vault.environment.clear();
        vault.start();
        vault.ok(&["cert", "delete", CERTIFICATE, "--yes"]);
        assert_eq!(vault.keys_in_token(), before, "{point}");
        vault.ctl(&["cert", "show", CERTIFICATE]).refused(3, "no such one");
    }
}
