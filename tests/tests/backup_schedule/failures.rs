//! What fails the making of a backup fails nothing else, is said, and is tried again.

use std::fs;

use serde_json::Value;
use testkit::{
    bulk,
    process::eventually,
    scheduled::{Scheduled, list},
    small_disk::SmallDisk,
    vault::Vault,
};

/// The failed attempts on the audit log.
fn failures(vault: &Vault) -> Vec<Value> {
    let records = vault.audit().into_iter();
    records.filter(|record| record["detail"]["failed"].is_string()).collect()
}

/// The vault does its work.
fn serves(vault: &Vault, key: &str) {
    vault.ok(&["key", "generate", key, "--algorithm", "ec-p256"]);
}

#[test]
fn a_directory_that_is_away_is_said_everywhere_and_used_once_it_is_back() {
    let scheduled = Scheduled::begun_on(Vault::new(), |vault| {
        format!("directory = {:?}\nevery = \"2s\"\n", vault.file("backups"))
    });
    let vault = scheduled.vault();
    let failed = eventually("a failure is shown", || {
        let schedule = scheduled.schedule();
        (schedule["failed_attempts"].as_u64() >= Some(2)).then_some(schedule)
    });
    assert!(failed["last_error"].as_str().unwrap().contains("No such file"), "{failed}");
    assert!(failed["last_failed_at"].is_string());
    assert_eq!(failed["overdue"], true);
    assert!(failures(vault).len() >= 2);
    vault.ctl(&["backup", "run"]).refused(6, "No such file");
    serves(vault, "k");
    fs::create_dir(vault.file("backups")).unwrap();
    let made = scheduled.wait_kept(1);
    let now = eventually("the failure is over", || {
        let schedule = scheduled.schedule();
        (schedule["failed_attempts"] == 0).then_some(schedule)
    });
    assert_eq!((&now["last_error"], &now["overdue"]), (&"".into(), &false.into()));
    scheduled.fetch(&made[0]);
    vault.ok(&["audit", "verify"]);
}

#[test]
fn a_full_disk_fails_the_backup_alone_and_leaves_nothing_of_it() {
    let mut vault = Vault::new();
    let dir = vault.file("backups");
    fs::create_dir(&dir).unwrap();
    let disk = SmallDisk::over(&dir, 4 << 20);
    vault.through = disk.through();
    let place = format!("directory = {dir:?}\n");
    let mut scheduled = Scheduled::on(vault, |_| place);
    bulk::agents(scheduled.vault(), 8_000);
    let names = |scheduled: &mut Scheduled| {
        let at = disk.file(scheduled.vault_mut().process(), "");
        let names = fs::read_dir(at).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let before = names(&mut scheduled);
    assert_eq!(before.len(), 1);
    // Too much for what is left of it: it is full in the middle of the backup.
    scheduled.vault().ctl(&["backup", "run"]).refused(6, "No space left on device");
    assert_eq!(names(&mut scheduled), before);
    disk.fill(scheduled.vault_mut().process());
    scheduled.vault().ctl(&["backup", "run"]).refused(6, "No space left on device");
    disk.free(scheduled.vault_mut().process());
    assert_eq!(names(&mut scheduled), before);
    let vault = scheduled.vault();
    serves(vault, "k");
    assert!(vault.open_operations().is_empty());
    bulk::sql(vault, "DELETE FROM agents");
    let made = vault.json(&["backup", "run"]);
    scheduled.fetch(&made);
}

#[test]
fn one_that_is_gone_from_its_place_is_not_said_to_be_there() {
    let scheduled = Scheduled::in_directory();
    let [first] = scheduled.list().try_into().unwrap();
    let [name] = scheduled.files().try_into().unwrap();
    fs::remove_file(scheduled.vault().file("backups").join(name)).unwrap();
    scheduled.vault().ok(&["backup", "run"]);
    let [_, gone] = scheduled.list().try_into().unwrap();
    assert_eq!((&gone["id"], &gone["state"]), (&first["id"], &"missing".into()));
}

#[test]
fn one_that_was_changed_in_its_place_is_not_fetched() {
    let scheduled = Scheduled::in_directory();
    let [made] = scheduled.list().try_into().unwrap();
    let [name] = scheduled.files().try_into().unwrap();
    let file = scheduled.vault().file("backups").join(name);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let vault = scheduled.vault();
    let out = vault.path("out.age");
    let fetch = ["backup", "fetch", made["id"].as_str().unwrap(), "--out", &out];
    for changed in [&flipped[..], &whole[..whole.len() - 1], &[&whole[..], b"\0"].concat(), b""] {
        fs::write(&file, changed).unwrap();
        vault.ctl(&fetch).refused(7, "is not what the vault has made");
        assert!(!vault.file("out.age").exists());
    }
    fs::write(&file, whole).unwrap();
    vault.ok(&fetch);
}

#[test]
fn one_is_made_at_a_time() {
    let mut scheduled = Scheduled::in_directory();
    let vault = scheduled.vault_mut();
    vault.stop();
    vault.environment = vec![("FAILPOINTS".to_owned(), "backup.chunk=1*sleep(15000)".to_owned())];
    vault.start();
    let vault = scheduled.vault();
    let begun = |vault: &Vault| {
        let records = vault.audit().into_iter();
        records.filter(|r| r["action"] == "backup.create" && r["phase"] == "intent").count()
    };
    let before = begun(vault);
    std::thread::scope(|threads| {
        let first = threads.spawn(|| vault.ctl(&["backup", "run"]));
        eventually("the first has begun", || (begun(vault) > before).then_some(()));
        vault.ctl(&["backup", "run"]).refused(6, "is being made");
        vault.ctl(&["backup", "prune", "--yes"]).refused(6, "is being made");
        assert_eq!(first.join().unwrap().code, 0);
    });
    assert_eq!(list(vault).len(), 2);
}
