//! Drills on a host whose own token has the KEK: no custodian is there.

use std::{fs, process::Command};

use testkit::{
    custodians::share_flags,
    programs::{Ended, ours, run},
    softhsm::SoftHsm,
    vault::{PIN, SOFTHSM},
};

use super::scene::{Scene, check, refuted};

/// A drill host's token, initialised by its own tools.
fn token() -> SoftHsm {
    let hsm = SoftHsm::new();
    let mut command = Command::new("softhsm2-util");
    let (name, value) = hsm.environment();
    command.env(name, value);
    command.args([
        "--init-token",
        "--free",
        "--label",
        "drill",
        "--pin",
        PIN,
        "--so-pin",
        "so-pin",
    ]);
    assert_eq!(run(command).code, 0);
    hsm
}

fn uri(label: &str) -> String {
    format!("pkcs11:token={label}?module-path={SOFTHSM}")
}

/// `kek install` by a quorum.
fn install(scene: &Scene, hsm: &SoftHsm) {
    let mut command = Command::new(ours("vaultctl"));
    let (name, value) = hsm.environment();
    command.env(name, value);
    command.args(["kek", "install", "--token", &uri("drill"), "--pin-file"]);
    command.arg(scene.vault().file("pin"));
    command.args(share_flags(&scene.escrowed.custodians[..2], &scene.vault().file("shares")));
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// A drill by a token.
fn drill(scene: &Scene, conf: &std::path::Path, label: &str, pin: &str, report: &str) -> Ended {
    let identity = scene.escrowed.identity();
    let file = scene.vault().path("b.age");
    let (token, report) = (uri(label), scene.vault().path(report));
    let words =
        ["--token", &token, "--pin-file", pin, "--identity", &identity, "--report", &report];
    let mut words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    words.insert(0, file);
    let mut command = scene.command(&words);
    command.env("SOFTHSM2_CONF", conf);
    run(command)
}

#[test]
fn a_token_that_a_quorum_has_prepared_drills_without_any_custodian_and_stays_as_it_was() {
    let (scene, hsm) = (Scene::new(), token());
    scene.backup("b.age");
    install(&scene, &hsm);
    let (_, conf) = hsm.environment();
    let objects = || {
        let found = testkit::tree::snapshot(&hsm.dir().join("tokens")).into_iter();
        // SoftHSM counts logins in the token's own file.
        let objects = found.filter(|(path, _)| {
            path.to_string_lossy().ends_with(".object") && !path.ends_with("token.object")
        });
        objects.collect::<Vec<_>>()
    };
    let before = objects();
    let pin = scene.vault().path("pin");
    for report in ["first", "second"] {
        let ended = drill(&scene, &conf, "drill", &pin, report);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(check(&ended.json(), "kek").1.contains("token drill"), "{ended:?}");
        assert_eq!(objects(), before, "the token has changed");
    }
    assert!(scene.left().is_empty());
}

#[test]
fn a_token_without_the_kek_refutes_the_drill() {
    let (scene, hsm) = (Scene::new(), token());
    scene.backup("b.age");
    let (_, conf) = hsm.environment();
    let ended = drill(&scene, &conf, "drill", &scene.vault().path("pin"), "report");
    refuted(&ended, "kek", "kek install");
}

#[test]
fn a_live_vault_s_token_is_refused_and_so_is_a_wrong_pin() {
    let (scene, hsm) = (Scene::new(), token());
    scene.backup("b.age");
    let live = scene.vault().file("softhsm2.conf");
    let pin = scene.vault().path("pin");
    drill(&scene, &live, "vault", &pin, "live").refused(1, "live vault's token");
    let (_, conf) = hsm.environment();
    drill(&scene, &conf, "none", &pin, "none").refused(3, "no token has this label");
    let wrong = scene.vault().path("wrong-pin");
    fs::write(&wrong, "not-it").unwrap();
    drill(&scene, &conf, "drill", &wrong, "wrong").refused(4, "PIN");
    assert!(scene.vault().json(&["drill", "list"]).as_array().unwrap().is_empty());
    let mut both = scene.words(&scene.vault().file("b.age"), "both");
    both.extend(["--token".to_owned(), uri("drill"), "--pin-file".to_owned(), pin]);
    assert_eq!(run(scene.command(&both)).code, 2, "shares and a token");
}
