//! What is no backup for this vault, or does not open it: refused, and nothing was changed.

use std::{fs, path::PathBuf};

use sha2::{Digest as _, Sha256};
use testkit::{custodians::share_flags, escrow::Escrowed, grpc, programs::Ended, vault::Vault};
use vault_proto::{
    error::{ErrorDetail, ErrorKind},
    v1::{self, restore_request::Part, restore_service_client::RestoreServiceClient},
};

use super::world::{Lost, changed, files, left};

/// A backup of a vault, and a vault of its own for each try.
struct Scene {
    lost: Lost,
    other: Escrowed,
}

impl Scene {
    fn new() -> Self {
        Self { lost: Lost::new(), other: Escrowed::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lost.escrowed.vault.file(name)
    }

    /// A restore of the backup with the flags that stand for it.
    fn restore(&self, vault: &Vault, backup: &std::path::Path, open: &[String]) -> Ended {
        let file = backup.display().to_string();
        let flags = ["--yes", "backup", "restore", &file];
        let flags = flags.into_iter().chain(open.iter().map(String::as_str));
        vault.ctl(&flags.collect::<Vec<_>>())
    }

    fn identity(&self) -> Vec<String> {
        vec!["--identity".to_owned(), self.lost.escrowed.identity()]
    }

    fn shares(&self, who: &[usize]) -> Vec<String> {
        let escrowed = &self.lost.escrowed;
        let keepers = who.iter().map(|at| &escrowed.custodians[*at]);
        share_flags(keepers, &escrowed.vault.file("shares"))
    }
}

/// What is done to a backup's bytes.
type Change = Box<dyn Fn(&mut Vec<u8>)>;

/// Nothing was changed: no token, no state, and the vault waits as before.
fn assert_untouched(vault: &Vault, case: &str) {
    assert_eq!(vault.json(&["status"])["initialized"], false, "{case}");
    assert_eq!(fs::read_dir(vault.file("tokens")).unwrap().count(), 0, "{case}: a token was made");
    assert_eq!(left(vault), Vec::<String>::new(), "{case}");
    assert_eq!(files(vault, "before-restore"), Vec::<String>::new(), "{case}");
}

#[test]
fn a_backup_that_does_not_hold_is_refused_and_nothing_is_touched() {
    let scene = Scene::new();
    let whole = &scene.lost.backup;
    let length = fs::metadata(whole).unwrap().len() as usize;
    let open = [scene.identity(), scene.shares(&[0, 1])].concat();
    let vault = scene.lost.heir();
    let cases: [(&str, i32, Change); 5] = [
        ("truncated", 7, Box::new(move |bytes| bytes.truncate(length / 2))),
        ("without its last byte", 7, Box::new(move |bytes| bytes.truncate(length - 1))),
        ("a bit flipped", 7, Box::new(move |bytes| bytes[length / 2] ^= 1)),
        ("more behind it", 7, Box::new(|bytes| bytes.push(0))),
        ("something else", 7, Box::new(|bytes| *bytes = b"no backup".to_vec())),
    ];
    for (case, code, change) in cases {
        let file = scene.file("changed");
        changed(whole, &file, change);
        scene.restore(&vault, &file, &open).refused(code, "");
        assert_untouched(&vault, case);
    }
}

#[test]
fn what_does_not_open_a_backup_is_refused_and_nothing_is_touched() {
    let scene = Scene::new();
    let vault = scene.lost.heir();
    let foreign = share_flags(&scene.other.custodians[..2], &scene.other.vault.file("shares"));
    let stranger = vec!["--identity".to_owned(), scene.other.identity()];
    for (case, open, code, why) in [
        ("a stranger's identity", [stranger, scene.shares(&[0, 1])], 2, "no identity given"),
        ("too few shares", [scene.identity(), scene.shares(&[0])], 7, "1 shares are too few"),
        ("one share twice", [scene.identity(), scene.shares(&[0, 0])], 7, "twice"),
        ("another vault's shares", [scene.identity(), foreign], 7, "is of vault"),
        ("no share", [scene.identity(), Vec::new()], 2, "--share"),
    ] {
        scene.restore(&vault, &scene.lost.backup, &open.concat()).refused(code, why);
        assert_untouched(&vault, case);
    }
}

#[test]
fn shares_of_another_kek_of_the_same_vault_are_refused() {
    let mut lost = Lost::new();
    lost.escrowed.vault.start();
    let again = lost.escrowed.vault.file("again");
    let flags = testkit::custodians::quorum_flags(&lost.escrowed.custodians, 2, &again);
    let rotate = ["--yes", "kek", "rotate"].into_iter().chain(flags.iter().map(String::as_str));
    lost.escrowed.vault.ok(&rotate.collect::<Vec<_>>());
    lost.escrowed.vault.kill();
    let vault = lost.heir();
    let file = lost.backup.display().to_string();
    let mut restore: Vec<_> =
        ["--yes", "backup", "restore", &file, "--identity"].map(str::to_owned).into();
    restore.push(lost.escrowed.identity());
    restore.extend(share_flags(&lost.escrowed.custodians[..2], &again));
    let ended = vault.ctl(&restore.iter().map(String::as_str).collect::<Vec<_>>());
    ended.refused(7, "the shares are of KEK");
    assert_untouched(&vault, "another KEK");
}

#[test]
fn a_vault_that_cannot_become_the_one_of_the_backup_says_so() {
    let lost = Lost::new();
    type Change = fn(&mut Vault);
    let cases: [(&str, Change, i32, &str); 2] = [
        (
            "another trust domain",
            |vault| vault.reconfigure("test.example", "other.example"),
            2,
            "trust domain other.example",
        ),
        (
            "no SO PIN",
            |vault| {
                let so_pin = format!("so_pin = {{ file = \"{}\" }}\n", vault.path("so-pin"));
                vault.reconfigure(&so_pin, "");
            },
            2,
            "the security officer's PIN is not configured",
        ),
    ];
    for (case, change, code, why) in cases {
        let mut vault = Vault::in_place_of(&lost.escrowed.vault);
        change(&mut vault);
        vault.start();
        lost.escrowed.restore_into(&vault, &lost.backup, &[]).refused(code, why);
        assert_untouched(&vault, case);
    }
}

#[test]
fn an_initialised_vault_is_not_restored_into() {
    let lost = Lost::new();
    let mut vault = lost.heir();
    vault.ok(&["init"]);
    let before = vault.json(&["status"]);
    for _ in 0..2 {
        lost.escrowed.restore_into(&vault, &lost.backup, &[]).refused(1, "initialised already");
        let after = vault.json(&["status"]);
        for same in ["vault_id", "ca_fingerprint"] {
            assert_eq!(after[same], before[same]);
        }
        assert_eq!(vault.keys_in_token().len(), 1);
        // After a start, too.
        vault.stop();
        vault.start();
    }
}

#[test]
fn a_token_that_somebody_uses_is_not_restored_into_and_an_empty_one_is() {
    let lost = Lost::new();
    let mut user = Vault::in_place_of(&lost.escrowed.vault);
    user.start();
    user.ok(&["init"]);
    user.stop();
    // The same token, another store: to this one it is somebody's.
    for left in files(&user, "vault.db").into_iter().chain(files(&user, "audit.log")) {
        fs::remove_file(user.file(&left)).unwrap();
    }
    user.start();
    let keys = user.keys_in_token();
    lost.escrowed.restore_into(&user, &lost.backup, &[]).refused(1, "it is in use");
    assert_eq!(user.keys_in_token(), keys);
    assert_eq!(user.json(&["status"])["initialized"], false);
    // One that the HSM's own tools have made, and nobody has used.
    let vault = lost.heir();
    let mut make = std::process::Command::new("softhsm2-util");
    make.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    make.args(["--init-token", "--free", "--label", "vault", "--pin", testkit::vault::PIN]);
    make.args(["--so-pin", fs::read_to_string(vault.file("so-pin")).unwrap().trim()]);
    assert_eq!(testkit::programs::run(make).code, 0);
    let ended = lost.escrowed.restore_into(&vault, &lost.backup, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    lost.assert_is_in(&vault);
}

#[test]
fn a_backup_without_the_internal_ca_s_key_is_refused_with_what_to_do() {
    let lost = Lost::new();
    // A vault without custodians escrows nothing.
    let mut bare = Vault::initialized();
    let out = bare.path("bare.age");
    bare.ok(&["backup", "create", "--out", &out, "--recipient", &lost.escrowed.keeper.recipient]);
    bare.stop();
    let vault = lost.heir();
    let ended = lost.escrowed.restore_into(&vault, &bare.file("bare.age"), &[]);
    ended.refused(2, "its vault has no KEK");
    assert!(ended.stderr.contains("vaultctl init"), "{ended:?}");
    assert_untouched(&vault, "no KEK");
}

#[test]
fn nobody_restores_over_the_network_or_without_being_asked() {
    let lost = Lost::new();
    let vault = lost.heir();
    let flags = lost.escrowed.restore_flags(&lost.backup);
    let unasked: Vec<_> = flags.iter().map(String::as_str).filter(|f| *f != "--yes").collect();
    vault.ctl(&unasked).refused(2, "nobody can be asked here");
    assert_untouched(&vault, "not asked");
    assert!(std::net::TcpStream::connect(vault.address).is_err(), "it serves the network");
}

/// What a vault answers to a restore that `vaultctl` would not have sent.
async fn answer(vault: &Vault, begin: v1::RestoreBegin, bytes: Vec<u8>) -> ErrorDetail {
    let channel = grpc::local(&vault.file("admin.sock")).await.unwrap();
    let part = |part| v1::RestoreRequest { part: Some(part) };
    let parts = [part(Part::Begin(begin)), part(Part::Data(bytes))];
    let mut client = RestoreServiceClient::new(channel);
    let mut told = client.restore(tokio_stream::iter(parts)).await.unwrap().into_inner();
    loop {
        match told.message().await {
            Ok(said) => assert!(said.is_some(), "it was restored"),
            Err(status) => return ErrorDetail::from_status(&status),
        }
    }
}

#[tokio::test]
async fn the_vault_checks_for_itself_and_says_nothing_of_what_opens_a_backup() {
    let lost = Lost::new();
    let mut vault = lost.heir();
    let whole = fs::read(&lost.backup).unwrap();
    let identity = fs::read(&lost.escrowed.keeper.identity).unwrap();
    let shares: Vec<_> =
        lost.escrowed.quorum().iter().map(|share| share.as_bytes().to_vec()).collect();
    let begin = |bytes: &[u8]| v1::RestoreBegin {
        identities: vec![identity.clone()],
        shares: shares.clone(),
        size: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
        allow_stale: true,
    };
    let cut = whole[..whole.len() - 1].to_vec();
    let few = v1::RestoreBegin { shares: vec![shares[0].clone()], ..begin(&whole) };
    let stranger = fs::read(&lost.escrowed.custodians[0].identity).unwrap();
    let stranger = v1::RestoreBegin { identities: vec![stranger], ..begin(&whole) };
    for (case, begin, bytes, kind) in [
        ("cut off", begin(&cut), cut.clone(), ErrorKind::Verification),
        ("not what was announced", begin(&whole), cut, ErrorKind::Verification),
        ("too few shares", few, whole.clone(), ErrorKind::Verification),
        ("a stranger's identity", stranger, whole, ErrorKind::Invalid),
    ] {
        let error = answer(&vault, begin, bytes).await;
        assert_eq!(error.kind(), kind, "{case}: {error:?}");
        assert_untouched(&vault, case);
    }
    let mut said = vault.process().log();
    said.push_str(&fs::read_to_string(vault.file("audit.log")).unwrap());
    for share in lost.escrowed.quorum() {
        let share: serde_json::Value = serde_json::from_str(&share).unwrap();
        assert!(!said.contains(share["share"].as_str().unwrap()), "a share is in a log");
    }
    assert!(!said.contains("AGE-SECRET-KEY"), "an identity is in a log");
}
