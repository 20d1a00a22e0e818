//! How a vault ends, and comes back.

use std::{process::Command, thread};

use serde_json::Value;
use testkit::{
    agent::Agent,
    pebble::Pebble,
    process::{Process, eventually},
    programs::{Ended, ours, run},
    vault::Vault,
    world::{register_account, wait_connected},
};

/// Longer than any test waits.
const NEVER: &str = "1h";

/// `vaultctl` on a vault's admin socket.
fn ctl(vault: &Vault, args: &[&str]) -> Command {
    let mut command = Command::new(ours("vaultctl"));
    command.arg("--socket").arg(vault.file("admin.sock")).args(args);
    command
}

fn vault(drain: &str) -> Vault {
    let mut vault = Vault::new();
    vault.reconfigure("drain = \"2s\"", &format!("drain = \"{drain}\""));
    vault.reconfigure("request_timeout = \"5s\"", "request_timeout = \"10m\"");
    vault.start();
    vault.ok(&["init"]);
    vault
}

/// A call that waits for a CA, which does not answer yet; `meanwhile` is done in the middle of it.
fn during_a_call(vault: &mut Vault, pebble: &Pebble, meanwhile: impl FnOnce(&mut Vault)) -> Ended {
    pebble.freeze();
    let rollover = ctl(vault, &["account", "rollover", "ca"]);
    let call = thread::spawn(move || run(rollover));
    eventually("a call that is under way", || {
        let begun = |record: &Value| record["detail"]["change"] == "rollover";
        vault.audit().iter().any(begun).then_some(())
    });
    meanwhile(vault);
    call.join().unwrap()
}

fn wait_draining(vault: &mut Vault) {
    vault.process().terminate();
    eventually("the drain", || vault.process().log().contains("draining").then_some(()));
}

#[test]
fn a_call_under_way_is_completed_before_the_vault_ends() {
    let mut vault = vault(NEVER);
    let pebble = Pebble::start();
    register_account(&vault, &pebble);
    let before = vault.json(&["account", "show", "ca"]);
    let ended = during_a_call(&mut vault, &pebble, |vault| {
        wait_draining(vault);
        assert!(vault.process().exited().is_none(), "it did not wait");
        eventually("no new callers", || {
            let refused = vault.ctl(&["status"]);
            (refused.code == 6).then_some(())
        });
        pebble.resume();
    });
    assert_eq!(ended.code, 0, "{ended:?}");
    let status = vault.process().wait_exit();
    assert!(status.success(), "{status}");
    vault.start();
    let after = vault.json(&["account", "show", "ca"]);
    assert_ne!(after["key_id"], before["key_id"], "the new key is in use");
    assert_eq!(vault.json(&["status"])["findings"], Value::Array(Vec::new()));
}

#[test]
fn a_drain_ends_even_where_a_call_does_not() {
    let mut vault = vault("1s");
    let pebble = Pebble::start();
    register_account(&vault, &pebble);
    let ended = during_a_call(&mut vault, &pebble, |vault| {
        wait_draining(vault);
        let status = vault.process().wait_exit();
        assert!(status.success(), "{status}");
    });
    ended.refused(6, "");
    pebble.resume();
    vault.start();
    vault.ok(&["account", "rollover", "ca"]);
    assert_eq!(vault.json(&["audit", "verify"])["ok"], true);
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut vault = vault(NEVER);
    let pebble = Pebble::start();
    register_account(&vault, &pebble);
    let ended = during_a_call(&mut vault, &pebble, |vault| {
        wait_draining(vault);
        vault.process().terminate();
        assert_eq!(vault.process().wait_exit().code(), Some(1));
    });
    ended.refused(6, "");
}

#[test]
fn open_streams_do_not_hold_a_drain_up() {
    let mut vault = vault(NEVER);
    let _agent = Agent::enrolled(&vault, "web1", "");
    wait_connected(&vault, "web1");
    let tail = ctl(&vault, &["audit", "tail", "-f", "-o", "json"]);
    let mut follower = Process::spawn("tail", tail, vault.dir());
    eventually("a follower", || follower.log().contains("agent.enroll").then_some(()));
    vault.stop();
    assert_eq!(follower.wait_exit().code(), Some(6));
}

#[test]
fn a_vault_that_was_stopped_comes_back_as_it_was() {
    let mut vault = Vault::initialized();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256", "--label", "of=ada"]);
    vault.issue("ada", "operator");
    vault.ok(&["agent", "token", "web1"]);
    let lists = |vault: &Vault| ["key", "agent"].map(|noun| vault.json(&[noun, "list"]));
    let (before, status) = (lists(&vault), vault.json(&["status"]));
    for _ in 0..2 {
        vault.stop();
        vault.start();
        assert_eq!(lists(&vault), before);
        let now = vault.json(&["status"]);
        for field in ["vault_id", "ca_fingerprint", "trust_domain", "hsm", "escrow", "findings"] {
            assert_eq!(now[field], status[field], "{field}");
        }
        let by_ada = vault.ctl_as(&vault.file("ada"), &["key", "list"]);
        assert_eq!(by_ada.code, 0, "an identity outlives a restart: {by_ada:?}");
    }
}
