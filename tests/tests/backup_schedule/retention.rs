//! How long backups stay.

use testkit::{
    bulk,
    scheduled::{Scheduled, name},
};

fn kept(scheduled: &Scheduled) -> Vec<String> {
    let kept = scheduled.list().into_iter().filter(|backup| backup["state"] == "kept");
    kept.map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_new_one_removes_what_is_not_kept_any_longer() {
    let scheduled = Scheduled::in_directory_with("keep_last = 2");
    let mut made: Vec<_> = kept(&scheduled);
    for _ in 0..3 {
        let id = scheduled.vault().json(&["backup", "run"])["id"].as_str().unwrap().to_owned();
        made.insert(0, id);
    }
    assert_eq!(kept(&scheduled), made[..2]);
    assert_eq!(scheduled.files().len(), 2);
    let removed = scheduled.list().into_iter().filter(|backup| backup["state"] == "removed");
    assert_eq!(removed.count(), 2);
}

#[test]
fn without_rules_all_stay() {
    let scheduled = Scheduled::in_directory();
    scheduled.vault().ok(&["backup", "run"]);
    assert_eq!(scheduled.vault().json(&["backup", "prune", "--yes"]), serde_json::json!([]));
    assert_eq!(kept(&scheduled).len(), 2);
}

#[test]
fn a_dry_run_names_what_would_go_and_the_log_names_what_has_gone() {
    let mut scheduled = Scheduled::in_directory();
    for _ in 0..2 {
        scheduled.vault().ok(&["backup", "run"]);
    }
    let vault = scheduled.vault_mut();
    vault.stop();
    vault.config += "keep_last = 1\n";
    vault.start();
    let vault = scheduled.vault();
    let would = vault.json(&["backup", "prune", "--dry-run"]);
    assert_eq!(kept(&scheduled).len(), 3);
    let names: Vec<_> = would.as_array().unwrap().iter().map(name).collect();
    assert_eq!(names.len(), 2);
    vault.ctl(&["backup", "prune"]).refused(2, "nobody can be asked");
    let has = vault.json(&["backup", "prune", "--yes"]);
    assert_eq!(has, would);
    let [intent, result] = {
        let records = vault.audit().into_iter();
        let records = records.filter(|record| record["action"] == "backup.prune");
        records.collect::<Vec<_>>().try_into().unwrap()
    };
    assert_eq!(intent["detail"]["names"], serde_json::json!(names));
    assert_eq!(result["outcome"], "ok");
    assert_eq!(kept(&scheduled).len(), 1);
    assert_eq!(vault.json(&["backup", "prune", "--yes"]), serde_json::json!([]));
}

#[test]
fn the_last_one_that_a_drill_has_proven_stays() {
    let scheduled = Scheduled::in_directory_with("keep_last = 1");
    let [proven] = scheduled.list().try_into().unwrap();
    let sha256 = proven["sha256"].as_str().unwrap();
    bulk::sql(
        scheduled.vault(),
        &format!(
            "INSERT INTO drills (id, started_at, recorded_at, recorded_by, backup_sha256, ok,
             checks, keys_proven, rto_milliseconds, rpo_milliseconds, report_json_sha256,
             report_html_sha256, statement)
             VALUES ('{}', 1, 1, 'test', '{sha256}', 1, '[]', 0, 0, 0, '', '', '')",
            "01900000-0000-7000-8000-000000000001"
        ),
    );
    for _ in 0..3 {
        scheduled.vault().ok(&["backup", "run"]);
    }
    let kept = kept(&scheduled);
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[1], proven["id"]);
}

#[test]
fn what_others_have_put_there_stays() {
    let scheduled = Scheduled::in_directory_with("keep_last = 1");
    let theirs = ["notes.txt", "0190-other-vault-20200101T000000.000000Z.age", ".hidden.partial"];
    for name in theirs {
        std::fs::write(scheduled.vault().file("backups").join(name), "theirs").unwrap();
    }
    for _ in 0..2 {
        scheduled.vault().ok(&["backup", "run"]);
    }
    let files = scheduled.files();
    assert!(theirs.iter().all(|name| files.contains(&(*name).to_owned())), "{files:?}");
    assert_eq!(files.len(), theirs.len() + 1);
}
