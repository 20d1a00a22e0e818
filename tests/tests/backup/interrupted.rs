//! A backup that is interrupted is none: no file has its name, and what was begun is accounted for.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use testkit::{
    escrow::Escrowed,
    process::{Process, eventually},
    programs::{Ended, ours, run},
    small_disk::SmallDisk,
    vault::Vault,
};

/// Files in a directory whose names contain this.
fn named(dir: &Path, part: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(part)).collect()
}

/// How many failed backups are on the log.
fn failed(vault: &Vault) -> usize {
    let records = vault.audit();
    let failed =
        |r: &&serde_json::Value| r["action"] == "backup.create" && r["outcome"] == "failed";
    records.iter().filter(failed).count()
}

/// `vaultctl backup create`, to be run through something.
fn create(escrowed: &Escrowed, through: &[String], out: &Path) -> Command {
    let own = ours("vaultctl").display().to_string();
    let words: Vec<_> = through.iter().cloned().chain([own]).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg("--socket").arg(escrowed.vault.file("admin.sock"));
    command.args(["backup", "create", "--recipient", &escrowed.keeper.recipient, "--out"]).arg(out);
    command
}

/// Makes the backup longer than the way to its reader: labels of random letters.
fn grow(vault: &Vault) {
    for at in 0..40 {
        let mut random = vec![0u8; 45_000];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let label = format!("noise={}", hex::encode(random));
        let name = format!("long-{at}");
        vault.ok(&["key", "generate", &name, "--algorithm", "ec-p256", "--label", &label]);
    }
}

#[test]
fn a_disk_that_fills_leaves_nothing_of_a_backup() {
    let escrowed = Escrowed::new();
    grow(&escrowed.vault);
    for (at, bytes) in [4096, 64 * 1024, 512 * 1024].into_iter().enumerate() {
        let dir = escrowed.vault.file("small");
        fs::create_dir_all(&dir).unwrap();
        let disk = SmallDisk::over(&dir, bytes);
        // What is left there is looked at before the disk goes with its program.
        let look = ["sh", "-c", "\"$@\"; code=$?; ls -A \"$0\"; exit $code"];
        let look = look.iter().map(|word| (*word).to_owned()).chain([dir.display().to_string()]);
        let through: Vec<_> = disk.through().into_iter().chain(look).collect();
        let ended: Ended = run(create(&escrowed, &through, &dir.join("b.age")));
        ended.refused(1, "No space left on device");
        assert_eq!(ended.stdout, "", "{bytes}: something is left");
        let noticed = || (failed(&escrowed.vault) == at + 1).then_some(());
        eventually("the vault has noticed", noticed);
    }
    assert!(escrowed.vault.open_operations().is_empty());
    escrowed.backup("b.age");
}

/// A backup that has begun to be written, by a vault that takes its time over every further chunk.
fn begun(escrowed: &mut Escrowed, dir: &Path, chunk: &str) -> Process {
    grow(&escrowed.vault);
    escrowed.vault.stop();
    let failpoints = format!("backup.chunk=1*off->sleep({chunk})");
    escrowed.vault.environment = vec![("FAILPOINTS".to_owned(), failpoints)];
    escrowed.vault.start();
    fs::create_dir(dir).unwrap();
    let command = create(escrowed, &["env".to_owned()], &dir.join("b.age"));
    let process = Process::spawn("vaultctl", command, escrowed.vault.dir());
    eventually("it has begun to write", || {
        let begun = named(dir, "b.age").first().map(|name| dir.join(name));
        begun.and_then(|path| fs::metadata(path).ok()).is_some_and(|m| m.size() > 0).then_some(())
    });
    process
}

#[test]
fn kill_9_of_vaultctl_leaves_no_backup_and_the_vault_goes_on() {
    let mut escrowed = Escrowed::new();
    let dir = escrowed.vault.file("out");
    let mut process = begun(&mut escrowed, &dir, "2000");
    process.kill();
    assert!(!dir.join("b.age").exists());
    eventually("the vault has noticed", || (failed(&escrowed.vault) == 1).then_some(()));
    assert!(escrowed.vault.open_operations().is_empty());
    escrowed.vault.stop();
    escrowed.vault.environment.clear();
    escrowed.vault.start();
    let (_, file) = escrowed.backup("next.age");
    assert_eq!(escrowed.verify(&file, &[]).code, 0);
}

#[test]
fn one_backup_is_made_at_a_time() {
    let mut escrowed = Escrowed::new();
    let dir = escrowed.vault.file("out");
    let mut first = begun(&mut escrowed, &dir, "2000");
    let second = run(create(&escrowed, &["env".to_owned()], &dir.join("second.age")));
    second.refused(6, "another one is being made");
    assert!(first.wait_exit().success(), "{}", first.log());
    assert!(dir.join("b.age").exists() && !dir.join("second.age").exists());
}

#[test]
fn kill_9_of_vaultd_at_any_place_leaves_no_backup_and_a_log_that_says_so() {
    let mut escrowed = Escrowed::new();
    grow(&escrowed.vault);
    let keeper = escrowed.keeper.recipient.clone();
    for point in ["wrap.intent", "wrap.hsm", "backup.chunk", "2*off->backup.chunk"] {
        let (skipped, point) = match point.split_once("->") {
            Some((skipped, point)) => (format!("{skipped}->"), point),
            None => (String::new(), point),
        };
        let vault = &mut escrowed.vault;
        vault.kill();
        let failpoints = format!("{point}={skipped}return");
        vault.environment = vec![("FAILPOINTS".to_owned(), failpoints)];
        vault.start();
        let out = vault.path("b.age");
        let ended = vault.ctl(&["backup", "create", "--out", &out, "--recipient", &keeper]);
        ended.refused(6, "");
        assert!(!vault.process().wait_exit().success(), "{point}: the vault did not crash");
        assert_eq!(named(vault.dir(), "b.age"), Vec::<String>::new(), "{point}");
        vault.environment.clear();
        vault.start();
        let last = vault.audit().into_iter().rfind(|r| r["action"] == "backup.create").unwrap();
        assert_eq!(last["outcome"], "unknown", "{point}");
        assert!(vault.open_operations().is_empty(), "{point}");
        vault.ok(&["audit", "verify"]);
    }
    let (_, file) = escrowed.backup("b.age");
    assert_eq!(escrowed.verify(&file, &[]).code, 0);
}

#[test]
fn a_vault_that_is_stopped_ends_the_backup_that_it_makes() {
    let mut escrowed = Escrowed::new();
    let dir = escrowed.vault.file("out");
    let mut process = begun(&mut escrowed, &dir, "1000");
    escrowed.vault.stop();
    assert_eq!(process.wait_exit().code(), Some(6), "{}", process.log());
    assert_eq!(named(&dir, ""), Vec::<String>::new());
    escrowed.vault.start();
    assert!(escrowed.vault.open_operations().is_empty());
}
