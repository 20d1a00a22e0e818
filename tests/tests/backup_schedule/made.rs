//! When a backup is made, and what is on record of it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use testkit::{bulk, escrow::rows, process::eventually, scheduled::Scheduled, vault::Vault};

#[test]
fn the_first_is_made_at_once_and_is_a_backup_like_any_other() {
    let scheduled = Scheduled::in_directory();
    let vault = scheduled.vault();
    let [made] = scheduled.list().try_into().unwrap();
    let [name] = scheduled.files().try_into().unwrap();
    let vault_id = vault.json(&["status"])["vault_id"].as_str().unwrap().to_owned();
    assert!(name.starts_with(&format!("{vault_id}-")) && name.ends_with("Z.age"), "{name}");
    let file = vault.file("backups").join(&name);
    assert_eq!(made["location"], format!("file://{}", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let fetched = scheduled.fetch(&made);
    assert_eq!(fs::read(&fetched).unwrap(), fs::read(&file).unwrap());
    // By age, zstd and tar themselves.
    let settings = rows(&scheduled.escrowed.unpack(&fetched), "settings");
    assert!(settings.iter().any(|row| row["name"] == "vault"));
    let verified = scheduled.escrowed.verify(&file, &[]).json();
    assert_eq!(verified["counts"], made["counts"]);
    for (said, of) in [("sequence", "audit_sequence"), ("head", "audit_head")] {
        assert_eq!(verified[of], made[of], "{said}");
    }
    let record = vault
        .audit()
        .into_iter()
        .rfind(|record| record["action"] == "backup.create" && record["outcome"] == "ok");
    let record = record.unwrap();
    assert_eq!(record["principal"], "vault:backup");
    assert_eq!(record["detail"]["sha256"], made["sha256"]);
}

#[test]
fn status_says_which_one_is_the_last_and_when_the_next_one_is_due() {
    let scheduled = Scheduled::in_directory();
    let status = scheduled.vault().json(&["status"]);
    let [made] = scheduled.list().try_into().unwrap();
    let last = &status["last_backup"];
    for field in ["id", "size", "sha256", "location"] {
        assert_eq!(last[field], made[field], "{field}");
    }
    assert_eq!(last["at"], made["created_at"]);
    assert_eq!(last["ok"], true);
    assert!(last["age_seconds"].is_u64());
    let schedule = &status["backups"];
    assert_eq!(schedule["scheduled"], true);
    assert_eq!(schedule["overdue"], false);
    assert_eq!(schedule["failed_attempts"], 0);
    assert!(schedule["next_at"].as_str() > made["created_at"].as_str());
    assert!(schedule["destination"].as_str().unwrap().starts_with("file:///"));
}

#[test]
fn they_are_made_again_and_again() {
    let scheduled = Scheduled::in_directory_with("every = \"1s\"");
    let made = scheduled.wait_kept(3);
    let times: Vec<_> = made.iter().map(|backup| backup["created_at"].as_str().unwrap()).collect();
    assert!(times.windows(2).all(|two| two[0] > two[1]), "{times:?}");
}

#[test]
fn a_restart_makes_none_before_it_is_due_and_makes_up_for_one_that_was_missed() {
    let mut scheduled = Scheduled::in_directory();
    let vault = scheduled.vault_mut();
    vault.stop();
    vault.start();
    let next = scheduled.schedule()["next_at"].clone();
    assert_eq!(scheduled.list().len(), 1);
    let vault = scheduled.vault_mut();
    vault.stop();
    let two_days = 2_i64 * 24 * 3600 * 1_000_000;
    bulk::sql(vault, &format!("UPDATE schedules SET last_ok_at = last_ok_at - {two_days}"));
    vault.start();
    scheduled.wait_kept(2);
    eventually("the next one is due a day after it", || {
        (scheduled.schedule()["next_at"].as_str() > next.as_str()).then_some(())
    });
}

#[test]
fn one_that_was_missed_is_said_to_be_overdue() {
    let mut scheduled = Scheduled::in_directory();
    let vault = scheduled.vault_mut();
    vault.stop();
    fs::rename(vault.file("backups"), vault.file("elsewhere")).unwrap();
    let two_days = 2_i64 * 24 * 3600 * 1_000_000;
    bulk::sql(vault, &format!("UPDATE schedules SET last_ok_at = last_ok_at - {two_days}"));
    vault.start();
    let status = scheduled.vault().json(&["status"]);
    assert_eq!(status["backups"]["overdue"], true);
    assert_eq!(status["last_backup"]["ok"], false);
}

#[test]
fn one_that_is_asked_for_is_made_where_the_others_are() {
    let scheduled = Scheduled::in_directory();
    let made = scheduled.vault().json(&["backup", "run"]);
    assert_eq!(made["state"], "kept");
    assert_eq!(scheduled.list()[0], made);
    assert_eq!(scheduled.files().len(), 2);
    scheduled.fetch(&made);
}

#[test]
fn one_that_is_handed_out_is_on_record_and_cannot_be_fetched() {
    let scheduled = Scheduled::in_directory();
    let (made, _) = scheduled.escrowed.backup("by-hand.age");
    let vault = scheduled.vault();
    let listed = &scheduled.list()[0];
    assert_eq!((&listed["state"], &listed["location"]), (&"handed-out".into(), &"".into()));
    for field in ["sha256", "size", "counts", "audit_sequence", "audit_head", "kek_check_value"] {
        assert_eq!(listed[field], made[field], "{field}");
    }
    assert_eq!(vault.json(&["status"])["last_backup"]["sha256"], made["sha256"]);
    let out = vault.path("fetched.age");
    let fetch = ["backup", "fetch", listed["id"].as_str().unwrap(), "--out", &out];
    vault.ctl(&fetch).refused(1, "handed-out");
    assert!(!vault.file("fetched.age").exists());
}

#[test]
fn the_list_goes_on_where_it_was_left() {
    let scheduled = Scheduled::in_directory();
    for _ in 0..4 {
        scheduled.vault().ok(&["backup", "run"]);
    }
    let whole = scheduled.list();
    let page = |before: Option<&str>| {
        let mut list = vec!["backup", "list", "--limit", "2"];
        list.extend(before.iter().flat_map(|id| ["--before", id]));
        scheduled.vault().json(&list).as_array().unwrap().clone()
    };
    let mut pages = page(None);
    while let [.., last] = &page(pages.last().and_then(|backup| backup["id"].as_str()))[..] {
        assert_ne!(Some(last), pages.last());
        pages.extend(page(pages.last().and_then(|backup| backup["id"].as_str())));
    }
    assert_eq!(pages, whole);
}

#[test]
fn a_vault_without_a_place_for_backups_makes_none_itself_and_says_so() {
    let vault = Vault::initialized();
    let status = vault.json(&["status"]);
    assert_eq!(status["last_backup"], serde_json::Value::Null);
    assert_eq!(status["backups"]["scheduled"], false);
    vault.ctl(&["backup", "run"]).refused(1, "no place");
    vault.ctl(&["backup", "prune", "--yes"]).refused(1, "no place");
}
