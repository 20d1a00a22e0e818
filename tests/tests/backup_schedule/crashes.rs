//! `kill -9` at any place leaves nothing that is not whole, and nothing that is not on record.

use testkit::{
    bulk,
    process::eventually,
    scheduled::{Scheduled, name},
};

/// What is in the directory is what is on record as kept, and each holds.
fn settled(scheduled: &Scheduled, point: &str) {
    let mut on_record: Vec<_> = scheduled
        .wait_kept(1)
        .iter()
        .map(|backup| {
            scheduled.fetch(backup);
            name(backup)
        })
        .collect();
    on_record.sort();
    assert_eq!(scheduled.files(), on_record, "{point}");
    assert!(scheduled.list().iter().all(|backup| backup["state"] != "storing"), "{point}");
    let vault = scheduled.vault();
    assert!(vault.open_operations().is_empty(), "{point}");
    vault.ok(&["audit", "verify"]);
}

fn crash(scheduled: &mut Scheduled, failpoint: &str, args: &[&str]) {
    let vault = scheduled.vault_mut();
    vault.kill();
    vault.environment = vec![("FAILPOINTS".to_owned(), failpoint.to_owned())];
    vault.start();
    vault.ctl(args).refused(6, "");
    assert!(!vault.process().wait_exit().success(), "{failpoint}: the vault did not crash");
    vault.environment.clear();
    vault.start();
}

#[test]
fn kill_9_while_one_is_made_leaves_none_or_a_whole_one() {
    let mut scheduled = Scheduled::in_directory();
    let points = [
        ("store.begun=return", 0),
        ("backup.chunk=return", 0),
        ("backup.chunk=1*off->return", 0),
        ("store.made=return", 0),
        ("store.synced=return", 0),
        // From here on it has its name.
        ("store.named=return", 1),
        ("store.kept=return", 1),
    ];
    let mut kept = 1;
    for (failpoint, more) in points {
        bulk::agents_once(scheduled.vault());
        crash(&mut scheduled, failpoint, &["backup", "run"]);
        kept += more;
        let wait = || (scheduled.files().iter().all(|name| !name.starts_with('.'))).then_some(());
        eventually("what was left is gone", wait);
        assert_eq!(scheduled.wait_kept(kept).len(), kept, "{failpoint}");
        settled(&scheduled, failpoint);
    }
}

#[test]
fn kill_9_while_old_ones_are_removed_removes_them_at_the_next_start() {
    let mut scheduled = Scheduled::in_directory();
    scheduled.vault().ok(&["backup", "run"]);
    scheduled.vault_mut().config += "keep_last = 1\n";
    crash(&mut scheduled, "prune.said=return", &["backup", "prune", "--yes"]);
    eventually("the old one is gone", || (scheduled.files().len() == 1).then_some(()));
    settled(&scheduled, "prune.said");
    assert_eq!(scheduled.list()[1]["state"], "removed");
}
