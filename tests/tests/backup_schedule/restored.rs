//! Scheduled backups and a restore: the newest one counts, and the restored vault begins anew.

use std::fs;

use testkit::{scheduled::Scheduled, scheduled::wait_kept, vault::Vault};

#[test]
fn an_older_one_is_not_restored_where_the_place_has_a_newer_one() {
    let mut scheduled = Scheduled::in_directory();
    let [older] = scheduled.list().try_into().unwrap();
    let older = scheduled.fetch(&older);
    let newest = scheduled.vault().json(&["backup", "run"]);
    let newest = scheduled.fetch(&newest);
    scheduled.vault_mut().stop();
    // Each alone, so that the other is known by the place only.
    let alone = scheduled.vault().file("alone");
    fs::create_dir(&alone).unwrap();
    let [older, newest] = [older, newest].map(|from| {
        let to = alone.join(from.file_stem().unwrap()).join("backup.age");
        fs::create_dir(to.parent().unwrap()).unwrap();
        fs::rename(from, &to).unwrap();
        to
    });
    let mut vault = Vault::in_place_of(scheduled.vault());
    let backup = scheduled.vault().config.split("[backup]").nth(1).unwrap().to_owned();
    vault.config += &format!("[backup]{backup}");
    vault.start();
    let refused = scheduled.escrowed.restore_into(&vault, &older, &[]);
    refused.refused(2, "there is a newer one");
    assert!(refused.stderr.contains("file:///"), "{refused:?}");
    let files = scheduled.files();
    assert_eq!(scheduled.escrowed.restore_into(&vault, &newest, &[]).code, 0);
    // It knows of none that was made before, leaves those alone, and makes one at once.
    let made = wait_kept(&vault, 1);
    let now = scheduled.files();
    assert!(files.iter().all(|name| now.contains(name)));
    assert_eq!(made.len(), 1);
    assert!(now.contains(&testkit::scheduled::name(&made[0])));
}
