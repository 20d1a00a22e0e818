//! `vaultctl init`: what it makes with custodians and without, and that it is done once.

use std::{
    fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, process::Command, thread,
};

use testkit::{
    custodians::Custodian,
    programs::{ours, run},
    vault::Vault,
};
use vault::backup::ceremony::combine;
use zeroize::Zeroizing;

fn custodians(dir: &Path) -> Vec<Custodian> {
    testkit::custodians::custodians(dir, &["ops", "security", "audit"])
}

#[test]
fn two_of_three_custodians_rebuild_the_kek_and_one_does_not() {
    let mut vault = Vault::new();
    vault.start();
    let keepers = custodians(vault.dir());
    let shares = vault.path("shares");
    let mut args = vec!["init".to_owned(), "--threshold".to_owned(), "2".to_owned()];
    args.extend(["--shares-dir".to_owned(), shares.clone()]);
    for keeper in &keepers {
        args.extend(["--custodian".to_owned(), format!("{}={}", keeper.name, keeper.recipient)]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let made = vault.json(&args);
    let (id, check) = (made["vault_id"].as_str().unwrap(), made["kek_check_value"].clone());
    assert_eq!(made["escrow"], "wrapped");
    let escrow = vault.json(&["status"])["escrow"].clone();
    assert_eq!(escrow["mode"], "wrapped");
    assert_eq!(escrow["threshold"], 2);
    assert_eq!(escrow["custodians"], serde_json::json!(["ops", "security", "audit"]));
    assert_eq!(escrow["kek_check_value"], check);

    let dir = vault.file("shares");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let mut texts = Vec::new();
    for (at, keeper) in keepers.iter().enumerate() {
        let file = dir.join(format!("{}.age", keeper.name));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let opened = keeper.open_file(&file);
        assert_eq!(opened.code, 0, "{opened:?}");
        texts.push(Zeroizing::new(opened.stdout));
        let other = &keepers[(at + 1) % keepers.len()];
        assert_ne!(other.open_file(&file).code, 0, "{} reads {}'s share", other.name, keeper.name);
    }
    for pair in [[0, 1], [1, 2], [2, 0]] {
        let kek = combine(&pair.map(|at| texts[at].clone()), id).unwrap();
        assert_eq!(check, kek.check_value(id), "{pair:?}");
    }
    assert!(combine(&texts[..1], id).is_err(), "one alone");
    assert!(combine(&[texts[0].clone(), texts[0].clone()], id).is_err(), "one twice");

    // Shares that were lost on the way are fetched once more, and open nothing else.
    let again = vault.path("again");
    vault.ok(&["shares", "--shares-dir", &again]);
    for keeper in &keepers {
        let name = format!("{}.age", keeper.name);
        let [first, second] =
            [&dir, &vault.file("again")].map(|dir| fs::read(dir.join(&name)).unwrap());
        assert_eq!(first, second, "{name}");
    }
    vault.ctl(&["shares", "--shares-dir", &again]).refused(1, "ops.age");

    vault.ok(&["key", "generate", "kept", "--algorithm", "ec-p256"]);
    vault.ok(&["key", "generate", "not", "--algorithm", "ec-p256", "--escrow", "none"]);
    assert_eq!(vault.json(&["key", "show", "kept"])["escrow"], "wrapped");
    assert_eq!(vault.json(&["key", "show", "not"])["escrow"], "none");
    let escrow = vault.json(&["status"])["escrow"].clone();
    assert_eq!((&escrow["wrapped_keys"], &escrow["unescrowed_keys"]), (&2.into(), &1.into()));
}

#[test]
fn without_custodians_nothing_is_ever_escrowed() {
    let mut vault = Vault::new();
    vault.start();
    let made = vault.ctl(&["init"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stderr.contains("never in a backup"), "{made:?}");
    let escrow = || vault.json(&["status"])["escrow"].clone();
    assert_eq!(escrow()["mode"], "none");
    assert_eq!(escrow()["custodians"], serde_json::json!([]));
    let before = (vault.json(&["key", "list"]), vault.keys_in_token());
    let wrapped = ["key", "generate", "k", "--algorithm", "ec-p256", "--escrow", "wrapped"];
    vault.ctl(&wrapped).refused(2, "this vault has no KEK");
    assert_eq!((vault.json(&["key", "list"]), vault.keys_in_token()), before);
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    assert_eq!(vault.json(&["key", "show", "k"])["escrow"], "none");
    assert_eq!(escrow()["wrapped_keys"], 0);
    assert_eq!(escrow()["unescrowed_keys"], 2);
    vault.ok(&["shares", "--shares-dir", &vault.path("shares")]);
    assert_eq!(fs::read_dir(vault.file("shares")).unwrap().count(), 0, "there are none");
}

#[test]
fn a_vault_is_initialised_once() {
    let mut vault = Vault::new();
    vault.start();
    let init = || {
        let mut command = Command::new(ours("vaultctl"));
        command.arg("--socket").arg(vault.file("admin.sock")).arg("init");
        thread::spawn(move || run(command))
    };
    let calls: Vec<_> = (0..4).map(|_| init()).collect();
    let mut codes: Vec<_> = calls.into_iter().map(|call| call.join().unwrap().code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 1, 1, 1]);
    let state = |vault: &Vault| {
        let status = vault.json(&["status"]);
        (status["vault_id"].clone(), status["ca_fingerprint"].clone(), vault.keys_in_token())
    };
    let before = state(&vault);
    for _ in 0..2 {
        let out = vault.path("ada");
        let again = vault.ctl(&["init", "--operator", "ada", "--operator-out", &out]);
        again.refused(1, "it is initialised already");
        assert!(!vault.file("ada").join("key.pem").exists(), "a key of nobody's is left");
        assert_eq!(state(&vault), before);
        vault.stop();
        vault.start();
    }
}

#[test]
fn a_token_that_is_somebody_s_is_not_initialised() {
    let mut vault = Vault::new();
    let other = Vault::initialized();
    let before = other.keys_in_token();
    let (own, theirs) = (vault.path("softhsm2.conf"), other.path("softhsm2.conf"));
    vault.reconfigure(&own, &theirs);
    vault.start();
    vault.ctl(&["init"]).refused(1, "it holds 1 key pairs already");
    assert_eq!(vault.json(&["status"])["initialized"], false);
    assert_eq!(other.keys_in_token(), before);
}

#[test]
fn an_so_pin_that_is_missing_or_wrong_makes_nothing() {
    let mut vault = Vault::new();
    let so_pin = format!("so_pin = {{ file = \"{}\" }}\n", vault.path("so-pin"));
    let with = vault.config.clone();
    vault.reconfigure(&so_pin, "");
    vault.start();
    vault.ctl(&["init"]).refused(2, "set so_pin in [hsm]");
    assert_eq!(fs::read_dir(vault.file("tokens")).unwrap().count(), 0, "the token was touched");
    vault.stop();
    // A token that an officer has made with other tools, and a PIN that is not that officer's.
    let mut command = Command::new("softhsm2-util");
    command.env("SOFTHSM2_CONF", vault.file("softhsm2.conf"));
    let pins = ["--pin", testkit::vault::PIN, "--so-pin", "another-so-pin"];
    command.args(["--init-token", "--free", "--label", "vault"]).args(pins);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    vault.config = with;
    vault.start();
    let keepers = custodians(vault.dir());
    let ops = format!("ops={}", keepers[0].recipient);
    let dir = vault.path("shares");
    let custodian = ["--custodian", &ops, "--threshold", "1", "--shares-dir", &dir];
    let init = [&["init"][..], &custodian[..]].concat();
    vault.ctl(&init).refused(4, "the PIN is wrong");
    assert_eq!(vault.json(&["status"])["initialized"], false);
    assert!(vault.keys_in_token().is_empty());
    assert!(!vault.file("shares").join("ops.age").exists());
    fs::write(vault.file("so-pin"), "another-so-pin\n").unwrap();
    vault.ok(&init);
}

#[test]
fn the_ceremony_s_answer_goes_out_even_where_the_network_cannot_be_listened_on() {
    let mut vault = Vault::new();
    let taken = TcpListener::bind(vault.address).unwrap();
    vault.start();
    let dir = vault.path("ada");
    let made = vault.ctl(&["init", "--operator", "ada", "--operator-out", &dir]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(vault.process().wait_exit().code(), Some(6));
    let said = vault.process().log();
    assert!(said.contains(&vault.address.to_string()) && said.contains("hint: "), "{said}");
    drop(taken);
    vault.start();
    let by_ada = vault.ctl_as(&vault.file("ada"), &["status"]);
    assert_eq!(by_ada.code, 0, "{by_ada:?}");
}
