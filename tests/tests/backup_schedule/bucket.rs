//! Backups in a bucket, on a server that speaks S3 and checks signatures.

use testkit::{
    bucket::{Bucket, SECRET_KEY},
    bulk,
    process::eventually,
    scheduled::Scheduled,
    vault::Vault,
};

/// More than one part of an upload.
const ROWS: u32 = 14_000;
/// Some 60 MB of what hardly gets smaller.
const MANY_ROWS: u32 = 120_000;
/// What may be used more for them: parts, pages and chunks on their way, a few of each.
const ROOM_KIB: u64 = 40 * 1024;

#[test]
fn a_backup_of_several_parts_comes_back_as_it_was_made() {
    let bucket = Bucket::start();
    let scheduled = Scheduled::at(&bucket.toml());
    let vault = scheduled.vault();
    bulk::agents(vault, ROWS);
    let made = vault.json(&["backup", "run"]);
    assert!(made["size"].as_u64().unwrap() > 6 << 20, "too small to tell");
    let objects = bucket.objects();
    assert_eq!(objects.len(), 2);
    assert!(made["location"].as_str().unwrap().ends_with(&format!("vaults/test/{}", objects[1])));
    assert!(made["location"].as_str().unwrap().starts_with("s3://backups/"));
    let file = scheduled.fetch(&made);
    assert_eq!(std::fs::read(file).unwrap(), std::fs::read(bucket.object(&objects[1])).unwrap());
    assert_eq!(bucket.uploads(), Vec::<String>::new());
}

#[test]
fn a_bucket_that_is_away_is_said_and_used_once_it_is_back() {
    let mut bucket = Bucket::start();
    let toml = format!("every = \"2s\"\n{}", bucket.toml());
    let scheduled = Scheduled::at(&toml);
    bucket.stop();
    let failed = eventually("a failure is shown", || {
        let schedule = scheduled.schedule();
        (schedule["failed_attempts"] != 0).then_some(schedule)
    });
    assert!(failed["last_error"].as_str().unwrap().contains("Connection refused"), "{failed}");
    let vault = scheduled.vault();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let before = bucket.objects().len();
    bucket.restart();
    eventually("the next one is there", || (bucket.objects().len() > before).then_some(()));
    eventually("the failure is over", || {
        (scheduled.schedule()["failed_attempts"] == 0).then_some(())
    });
    assert!(vault.open_operations().is_empty());
}

#[test]
fn kill_9_in_the_middle_of_an_upload_leaves_nothing_of_it() {
    let bucket = Bucket::start();
    let mut scheduled = Scheduled::at(&bucket.toml());
    bulk::agents(scheduled.vault(), ROWS);
    for (failpoint, objects) in [
        ("store.begun=return", 1),
        ("store.part=1*off->return", 1),
        ("store.made=return", 1),
        ("store.named=return", 2),
    ] {
        let vault = scheduled.vault_mut();
        vault.kill();
        vault.environment = vec![("FAILPOINTS".to_owned(), failpoint.to_owned())];
        vault.start();
        vault.ctl(&["backup", "run"]).refused(6, "");
        assert!(!vault.process().wait_exit().success(), "{failpoint}: the vault did not crash");
        vault.environment.clear();
        vault.start();
        eventually(&format!("{failpoint}: nothing is left"), || {
            bucket.uploads().is_empty().then_some(())
        });
        assert_eq!(scheduled.wait_kept(objects).len(), objects, "{failpoint}");
        assert_eq!(bucket.objects().len(), objects, "{failpoint}");
    }
}

#[test]
fn retention_removes_objects() {
    let bucket = Bucket::start();
    let scheduled = Scheduled::at(&format!("keep_last = 1\n{}", bucket.toml()));
    let made = scheduled.vault().json(&["backup", "run"]);
    let [object] = bucket.objects().try_into().unwrap();
    assert!(made["location"].as_str().unwrap().ends_with(&object));
}

#[test]
fn a_wrong_key_is_refused_by_the_server_and_said_without_saying_the_key() {
    let bucket = Bucket::start();
    bucket.give_out_key("another-secret-key");
    let mut scheduled = Scheduled::begun(&bucket.toml());
    let failed = eventually("the failure is shown", || {
        let schedule = scheduled.schedule();
        (schedule["failed_attempts"] != 0).then_some(schedule)
    });
    assert!(failed["last_error"].as_str().unwrap().contains("SignatureDoesNotMatch"), "{failed}");
    bucket.give_out_key(SECRET_KEY);
    let vault = scheduled.vault_mut();
    vault.stop();
    vault.start();
    vault.ok(&["backup", "run"]);
    let said = vault.process().log() + &std::fs::read_to_string(vault.file("audit.log")).unwrap();
    for secret in [SECRET_KEY, "another-secret-key"] {
        assert!(!said.contains(secret) && !failed.to_string().contains(secret));
    }
}

#[test]
fn a_key_that_cannot_be_read_keeps_the_vault_from_starting_and_says_why() {
    let bucket = Bucket::start();
    let mut vault = Vault::initialized();
    vault.stop();
    let recipient = "age1q0xadwevct54md80lvrzecx3ym3hmyatj5g36r9xhhfpmvutva2sa9tyak";
    vault.config += &format!("[backup]\nrecipients = [\"{recipient}\"]\n{}", bucket.toml());
    vault.reconfigure("secret-key\"", "no-such-key\"");
    vault.run_daemon().refused(2, "no-such-key");
}

#[test]
fn a_server_s_certificate_is_checked_against_the_roots_that_are_given() {
    let bucket = Bucket::start();
    let (_caddy, toml, root) = bucket.behind_tls();
    let mut scheduled = Scheduled::begun(&toml);
    let failed = eventually("the failure is shown", || {
        let schedule = scheduled.schedule();
        (schedule["failed_attempts"] != 0).then_some(schedule)
    });
    assert!(failed["last_error"].as_str().unwrap().contains("certificate"), "{failed}");
    assert_eq!(bucket.objects(), Vec::<String>::new());
    let vault = scheduled.vault_mut();
    vault.stop();
    vault.config += &format!("ca_file = {root:?}\n");
    vault.start();
    let made = vault.json(&["backup", "run"]);
    scheduled.fetch(&made);
    assert_eq!(bucket.objects().len(), 1);
}

#[test]
fn a_big_backup_takes_no_more_memory_on_its_way_than_a_small_one() {
    let bucket = Bucket::start();
    let mut scheduled = Scheduled::at(&bucket.toml());
    let before = scheduled.vault_mut().process().peak_kib();
    bulk::agents(scheduled.vault(), MANY_ROWS);
    let made = scheduled.vault().json(&["backup", "run"]);
    assert!(made["size"].as_u64().unwrap() > (ROOM_KIB + 8 * 1024) * 1024, "too small to tell");
    let more = scheduled.vault_mut().process().peak_kib().saturating_sub(before);
    assert!(more < ROOM_KIB, "{more} KiB more");
    let before = scheduled.vault_mut().process().peak_kib();
    scheduled.fetch(&made);
    let more = scheduled.vault_mut().process().peak_kib().saturating_sub(before);
    assert!(more < ROOM_KIB, "{more} KiB more to fetch it");
}
