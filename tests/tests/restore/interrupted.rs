//! SIGKILL between every two steps of a restore: an uninitialised vault that goes on with it, or the
//! one that was lost, and nothing in between.

use std::path::Path;

use testkit::{
    process::{Process, eventually},
    programs::{ours, run},
    small_disk::SmallDisk,
    vault::{PIN, SOFTHSM, Vault},
};

use super::world::{Lost, files, left, wrapped};

/// A vault in the place of the lost one that kills itself at a place of its restore.
fn killed_at(lost: &Lost, point: &str) -> Vault {
    let mut vault = Vault::in_place_of(&lost.escrowed.vault);
    crash(&mut vault, lost, point, &lost.backup);
    vault
}

/// Starts a vault, has it kill itself in the middle of a restore, and starts it again.
fn crash(vault: &mut Vault, lost: &Lost, point: &str, backup: &Path) {
    vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
    vault.start();
    let mut command = std::process::Command::new(ours("vaultctl"));
    command.arg("--socket").arg(vault.file("admin.sock")).args(lost.escrowed.restore_flags(backup));
    // Killed with this: where the vault has died after its answer, it waits for one that comes up.
    let restoring = Process::spawn("vaultctl", command, vault.dir());
    let status = vault.process().wait_exit();
    assert!(!status.success(), "{point}: the vault did not crash");
    drop(restoring);
    vault.environment.clear();
    vault.start();
}

fn is_initialized(vault: &Vault) -> bool {
    vault.json(&["status"])["initialized"] == true
}

/// Every place before the one transaction, in the order that a restore passes them.
const BEFORE: &[&str] = &[
    "restore.spooled",
    "restore.verified",
    "restore.noted",
    "restore.token",
    "restore.ready",
    "restore.unwrapped",
    "restore.published",
    "restore.keys",
    "restore.kek",
    "restore.linked",
    "restore.rows",
];

/// Every place after it.
const AFTER: &[&str] =
    &["restore.committed", "restore.concluded", "restore.aside", "restore.swapped"];

#[test]
fn a_restore_that_is_killed_goes_on_with_the_same_command() {
    let lost = Lost::new();
    for point in BEFORE {
        let vault = killed_at(&lost, point);
        assert!(!is_initialized(&vault), "{point}");
        assert_eq!(left(&vault), Vec::<String>::new(), "{point}");
        let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
        assert_eq!(ended.code, 0, "{point}: {ended:?}");
        assert_eq!(ended.json()["keys_restored"], wrapped(&lost.made), "{point}");
        lost.assert_is_in(&vault);
        let [aside] = files(&vault, "before-restore").try_into().unwrap();
        vault.ok(&["audit", "verify", &vault.path(&aside)]);
    }
}

#[test]
fn a_restore_that_is_killed_when_it_is_done_is_done() {
    let lost = Lost::new();
    for point in AFTER {
        let mut vault = killed_at(&lost, point);
        eventually(point, || is_initialized(&vault).then_some(()));
        lost.assert_is_in(&vault);
        let [aside] = files(&vault, "before-restore").try_into().unwrap();
        vault.ok(&["audit", "verify", &vault.path(&aside)]);
        // And it stays so.
        vault.stop();
        vault.start();
        lost.assert_is_in(&vault);
        assert_eq!(files(&vault, "before-restore"), [aside], "{point}");
    }
}

#[test]
fn a_restored_log_that_is_taken_away_before_it_is_in_place_is_missed() {
    let lost = Lost::new();
    let mut vault = Vault::in_place_of(&lost.escrowed.vault);
    vault.environment = vec![("FAILPOINTS".to_owned(), "restore.committed=return".to_owned())];
    vault.start();
    assert_ne!(lost.escrowed.restore_into(&vault, &lost.backup, &[]).code, 0);
    assert!(!vault.process().wait_exit().success());
    vault.environment.clear();
    let (restored, taken) = (vault.file("audit.log.restored"), vault.file("taken"));
    std::fs::rename(&restored, &taken).unwrap();
    let before = std::fs::read(vault.file("audit.log")).unwrap();
    vault.run_daemon().refused(7, "it was restored and is gone");
    assert_eq!(std::fs::read(vault.file("audit.log")).unwrap(), before);
    std::fs::rename(&taken, &restored).unwrap();
    vault.start();
    lost.assert_is_in(&vault);
}

#[test]
fn what_an_interrupted_restore_has_unwrapped_is_not_unwrapped_again() {
    let lost = Lost::new();
    let mut vault = killed_at(&lost, "restore.kek");
    let before = vault.keys_in_token();
    assert_eq!(before.len() as u64, wrapped(&lost.made));
    // One that would be asked to unwrap dies of it.
    vault.kill();
    vault.environment = vec![("FAILPOINTS".to_owned(), "restore.unwrapped=return".to_owned())];
    vault.start();
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(vault.keys_in_token(), before);
    lost.assert_is_in(&vault);
}

/// Enough for the audit log, a backup on its way in, and the log that is restored.
const DISK: u64 = 2 * 1024 * 1024;

#[test]
fn a_disk_that_fills_at_any_stage_leaves_an_uninitialised_vault_that_goes_on() {
    let lost = Lost::new();
    let mut vault = Vault::in_place_of(&lost.escrowed.vault);
    let disk = SmallDisk::under_audit_log(&mut vault, DISK);
    vault.start();
    disk.fill(vault.process());
    let mut refused = 0;
    loop {
        let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
        if ended.code == 0 {
            break;
        }
        ended.refused(6, "");
        assert!(!is_initialized(&vault), "{ended:?}");
        refused += 1;
        disk.free_some(vault.process(), 1);
    }
    assert!(refused > 4, "it was full at {refused} stages only");
    assert!(lost.signs(&vault));
    assert_eq!(vault.keys_in_token().len() as u64, wrapped(&lost.made));
    vault.ok(&["audit", "verify"]);
    assert!(!disk.file(vault.process(), "restore.age").exists());
    assert!(!disk.file(vault.process(), "audit.log.restored").exists());
}

#[test]
fn another_backup_begins_anew_on_a_wiped_token() {
    let mut lost = Lost::new();
    // An older one, with fewer keys than the newest.
    let older = std::mem::take(&mut lost.backup);
    lost.escrowed.vault.start();
    lost.escrowed.vault.ok(&["key", "generate", "more", "--algorithm", "ec-p256"]);
    let (made, newest) = lost.escrowed.backup("newest.age");
    lost.escrowed.vault.kill();
    for point in ["restore.noted", "restore.keys", "restore.kek"] {
        let mut vault = Vault::in_place_of(&lost.escrowed.vault);
        crash(&mut vault, &lost, point, &newest);
        let ended = lost.escrowed.restore_into(&vault, &older, &["--allow-stale"]);
        assert_eq!(ended.code, 0, "{point}: {ended:?}");
        assert!(wrapped(&made) > wrapped(&lost.made));
        lost.assert_is_in(&vault);
    }
}

/// A command on a vault's SoftHSM, which must succeed.
fn on_hsm(vault: &Vault, program: &str, args: &[&str]) -> String {
    let mut command = std::process::Command::new(program);
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf")).args(args);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

#[test]
fn what_was_begun_on_one_token_wipes_no_other() {
    let lost = Lost::new();
    for (begun, point) in [("restore", "restore.unwrapped"), ("init", "generate.hsm")] {
        let mut vault = Vault::in_place_of(&lost.escrowed.vault);
        if begun == "restore" {
            crash(&mut vault, &lost, point, &lost.backup);
        } else {
            vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
            vault.start();
            assert_ne!(vault.ctl(&["init"]).code, 0);
            assert!(!vault.process().wait_exit().success());
            vault.environment.clear();
            vault.start();
        }
        // Somebody else's token, which the configuration names by mistake.
        let so_pin = std::fs::read_to_string(vault.file("so-pin")).unwrap();
        let make = ["--init-token", "--free", "--label", "other", "--pin", PIN, "--so-pin"];
        on_hsm(&vault, "softhsm2-util", &[&make[..], &[so_pin.trim()]].concat());
        let login = ["--module", SOFTHSM, "--token-label", "other", "--login", "--pin", PIN];
        let key = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "theirs"];
        on_hsm(&vault, "pkcs11-tool", &[&login[..], &key[..]].concat());
        vault.stop();
        vault.reconfigure("token=vault", "token=other");
        vault.start();
        lost.escrowed.restore_into(&vault, &lost.backup, &[]).refused(1, "it is in use");
        let list = [&login[..], &["--list-objects", "--type", "privkey"]].concat();
        assert!(on_hsm(&vault, "pkcs11-tool", &list).contains("theirs"), "{begun}: it was wiped");
    }
}

#[test]
fn a_ceremony_after_an_interrupted_restore_makes_a_new_vault() {
    let lost = Lost::new();
    for point in ["restore.noted", "restore.token", "restore.unwrapped", "restore.rows"] {
        let mut vault = killed_at(&lost, point);
        vault.ok(&["init"]);
        assert_ne!(vault.json(&["status"])["vault_id"], lost.made["vault_id"], "{point}");
        assert_eq!(vault.keys_in_token().len(), 1, "{point}: the internal CA's key alone");
        vault.stop();
        vault.start();
        assert!(is_initialized(&vault), "{point}");
        vault.ok(&["audit", "verify"]);
    }
}

#[test]
fn a_restore_after_an_interrupted_ceremony_is_whole() {
    let lost = Lost::new();
    for point in ["generate.hsm", "sign.hsm"] {
        let mut vault = Vault::in_place_of(&lost.escrowed.vault);
        vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        vault.start();
        assert_ne!(vault.ctl(&["init"]).code, 0, "{point}");
        assert!(!vault.process().wait_exit().success(), "{point}");
        vault.environment.clear();
        vault.start();
        let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
        assert_eq!(ended.code, 0, "{point}: {ended:?}");
        lost.assert_is_in(&vault);
    }
}
