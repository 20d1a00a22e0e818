//! A destructive verb asks, and without an answer nothing is destroyed.

use std::process::Command;

use serde_json::Value;
use testkit::{
    programs::{Ended, ours, run},
    world::{AGENT, CERTIFICATE, World},
};

use super::scene::Scene;

/// The verbs that cannot be undone.
const DESTRUCTIVE: &[&[&str]] = &[
    &["key", "destroy", "k"],
    &["cert", "revoke", CERTIFICATE, "--reason", "superseded"],
    &["cert", "delete", CERTIFICATE],
    &["account", "deactivate", "ca"],
    &["agent", "evict", AGENT],
    &["account", "deauthorize", "ca", "--domain", "shop.example"],
];

#[test]
fn where_nobody_can_be_asked_a_destructive_verb_is_refused() {
    let scene = Scene::new();
    for args in DESTRUCTIVE {
        let ended = scene.refuse(args, 2, "nobody can be asked here");
        assert!(ended.stderr.contains("--yes"), "{ended:?}");
    }
}

/// Runs `vaultctl` on a terminal of its own, where `answer` is typed.
fn typed(scene: &Scene, args: &[&str], answer: &str) -> Ended {
    let socket = scene.vault.path("admin.sock");
    let program = ours("vaultctl").display().to_string();
    let line = [&[program.as_str(), "--socket", &socket], args].concat().join(" ");
    let mut command = Command::new("sh");
    let typing =
        "printf '%s\\n' \"$ANSWER\" | script --quiet --return --command \"$LINE\" /dev/null";
    command.args(["-c", typing]).env("ANSWER", answer).env("LINE", line);
    run(command)
}

#[test]
fn on_a_terminal_it_asks_and_takes_yes_alone_for_a_yes() {
    let scene = Scene::new();
    for answer in ["", "n", "no", "maybe", "yess", "-y"] {
        let before = scene.everything();
        let ended = typed(&scene, &["key", "destroy", "k"], answer);
        assert_eq!(ended.code, 2, "{answer:?}: {ended:?}");
        let asked = "destroy every version of key k, for ever? [y/N]";
        assert!(ended.stdout.contains(asked), "{ended:?}");
        assert!(ended.stdout.contains("the answer was no"), "{ended:?}");
        assert_eq!(scene.everything(), before, "{answer:?}");
    }
    let ended = typed(&scene, &["key", "destroy", "k"], "y");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(scene.vault.json(&["key", "show", "k"])["state"], "destroyed");
    assert_eq!(typed(&scene, &["key", "destroy", "r"], "yes").code, 0);
}

#[test]
fn with_yes_it_does_not_ask() {
    let world = World::new();
    world.issue();
    let vault = &world.vault;
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let yes = |args: &[&str]| -> Value { vault.json(&[args, &["--yes"]].concat()) };
    assert_eq!(yes(DESTRUCTIVE[0])["state"], "destroyed");
    assert_eq!(yes(DESTRUCTIVE[1])["status"], "revoked");
    vault.ok(&["cert", "undeploy", CERTIFICATE, "--from", AGENT]);
    vault.ok(&[DESTRUCTIVE[2], &["--yes"]].concat());
    vault.ctl(&["cert", "show", CERTIFICATE]).refused(3, CERTIFICATE);
    assert_eq!(yes(DESTRUCTIVE[3])["status"], "deactivated");
    assert_eq!(yes(DESTRUCTIVE[4])["status"], "evicted");
}
