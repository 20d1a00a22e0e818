//! `vaultctl backup verify`: without a vault, with shares and without, and what it refuses.

use std::{fs, path::Path, process::Command};

use testkit::{
    custodians::{Custodian, quorum_flags, share_flags},
    escrow::Escrowed,
    programs::{Ended, ours, run},
};

#[test]
fn a_backup_is_verified_where_there_is_no_vault() {
    let mut escrowed = Escrowed::new();
    let (made, file) = escrowed.backup("b.age");
    escrowed.vault.stop();
    let mut command = Command::new(ours("vaultctl"));
    command.env_clear().args(["-o", "json", "backup", "verify"]).arg(&file);
    let ended = run({
        command.arg("--identity").arg(&escrowed.keeper.identity);
        command
    });
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let verified = ended.json();
    for field in ["vault_id", "created_at", "kek_check_value", "audit_sequence", "audit_head"] {
        assert_eq!(verified[field], made[field], "{field}");
    }
    assert_eq!(verified["counts"], made["counts"]);
    assert_eq!((&verified["ok"], &verified["kek_rebuilt"]), (&true.into(), &().into()));
}

#[test]
fn a_quorum_s_shares_are_held_against_the_kek_of_the_backup() {
    let escrowed = Escrowed::new();
    let other = Escrowed::new();
    let (_, file) = escrowed.backup("b.age");
    let share = |escrowed: &Escrowed, at: usize| {
        let identity = escrowed.custodians[at].identity.display().to_string();
        vec!["--share".to_owned(), escrowed.share(at), "--identity".to_owned(), identity]
    };
    let verify = |shares: &[Vec<String>]| {
        let more = shares.concat();
        escrowed.verify(&file, &more.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for pair in [[0, 1], [1, 2], [2, 0]] {
        let ended = verify(&pair.map(|at| share(&escrowed, at)));
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.json()["kek_rebuilt"], true);
    }
    // As custodians hand them over who have decrypted theirs themselves.
    let opened: Vec<_> = escrowed
        .quorum()
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let path = escrowed.vault.file(&format!("share-{at}"));
            fs::write(&path, text.as_bytes()).unwrap();
            vec!["--share".to_owned(), path.display().to_string()]
        })
        .collect();
    assert_eq!(verify(&opened).code, 0);

    verify(&[share(&escrowed, 0)]).refused(7, "1 shares are too few: 2 are needed");
    verify(&[share(&escrowed, 0), share(&escrowed, 0)]).refused(7, "twice");
    verify(&[share(&other, 0), share(&other, 1)]).refused(7, "is of vault");
    verify(&[share(&escrowed, 0), share(&other, 1)]).refused(7, "the KEK");
    let unopened = [share(&escrowed, 0), share(&escrowed, 1)[..2].to_vec()];
    verify(&unopened).refused(7, "share ");
}

#[test]
fn a_rotated_kek_wraps_the_next_backup_and_earlier_ones_open_with_the_earlier_shares() {
    let escrowed = Escrowed::new();
    let vault = &escrowed.vault;
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let (old, before) = escrowed.backup("before.age");
    let again = vault.file("again");
    let flags = quorum_flags(&escrowed.custodians, 2, &again);
    let rotate = ["--yes", "kek", "rotate"].into_iter().chain(flags.iter().map(String::as_str));
    vault.ok(&rotate.collect::<Vec<_>>());
    let (new, after) = escrowed.backup("after.age");
    assert_ne!(old["kek_check_value"], new["kek_check_value"]);
    let verify = |file: &Path, shares: &Path| {
        let more = share_flags(&escrowed.custodians[..2], shares);
        escrowed.verify(file, &more.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (file, shares, others) in
        [(&before, vault.file("shares"), &again), (&after, again.clone(), &vault.file("shares"))]
    {
        assert_eq!(verify(file, &shares).json()["kek_rebuilt"], true);
        verify(file, others).refused(7, "the shares are of KEK");
    }
}

fn verify(file: &Path, identity: &Path) -> Ended {
    let mut command = Command::new(ours("vaultctl"));
    command.args(["backup", "verify"]).arg(file).arg("--identity").arg(identity);
    run(command)
}

#[test]
fn what_opens_no_backup_is_refused_as_a_wrong_input() {
    let escrowed = Escrowed::new();
    let (_, file) = escrowed.backup("b.age");
    let stranger = Custodian::new(escrowed.vault.dir(), "stranger");
    let mine = &escrowed.keeper.identity;
    let missing = escrowed.vault.file("missing");
    verify(&file, &stranger.identity).refused(2, "no identity given opens it");
    verify(&file, &file).refused(2, "identity ");
    verify(&file, &missing).refused(2, "missing");
    verify(&missing, mine).refused(2, "missing");
    let empty = escrowed.vault.file("empty");
    fs::write(&empty, "").unwrap();
    verify(&file, &empty).refused(2, "age identities");
}

#[test]
fn what_is_no_backup_is_refused_with_the_reason() {
    let escrowed = Escrowed::new();
    let (vault, keeper) = (&escrowed.vault, &escrowed.keeper);
    let file = vault.file("other.age");
    for (content, why) in [
        ("echo -n", "age header"),
        ("echo a text", "age header"),
        ("echo a text | age -r RECIPIENT", "frame descriptor"),
        ("echo a text | zstd | age -r RECIPIENT", "cut off"),
        (
            "tar -c -C / etc/hostname | zstd | age -r RECIPIENT",
            "header is not as a vault writes it",
        ),
        ("head -c 4096 /dev/zero | zstd | age -r RECIPIENT", "this is no backup"),
    ] {
        let script = format!("({}) > \"$0\"", content.replace("RECIPIENT", &keeper.recipient));
        testkit::programs::must("bash", &["-c", &script, &file.display().to_string()]);
        let ended = verify(&file, &keeper.identity);
        assert_eq!(ended.code, 7, "{content}: {ended:?}");
        assert!(ended.stderr.contains(why), "{content}: {ended:?}");
    }
}
