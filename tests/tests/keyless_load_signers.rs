//! Keyless under load, the side of those who sign: agent, vault and HSM go and come back, and what
//! visitors see of it. No web server is started anew here, and nothing else but what a test says.
//! Half of the visitors speak TLS 1.2, half TLS 1.3.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{thread::sleep, time::Duration};

use testkit::{
    faulty_hsm::FaultyHsm,
    keyless_world::{DEADLINE, KeylessWorld, Server},
    process::eventually,
    vault::Vault,
};

/// How long an agent or a vault is away: long enough for every visitor to come upon it.
const AWAY: Duration = Duration::from_millis(500);
/// How long the HSM is away.
const HSM_AWAY: Duration = Duration::from_secs(2);
/// What a web server waits for a signature where it shall wait in vain, in milliseconds: long enough
/// for one that does come.
const SHORT: &str = "3000";

/// A vault whose records of signatures are synced one by one or in groups: then a signature on a curve is
/// made on the thread that its agent's connection has.
fn vault_that_syncs(sync: &str) -> Vault {
    let mut vault = Vault::new();
    vault.reconfigure("[audit]\n", &format!("[audit]\nsync = \"{sync}\"\n"));
    vault
}

fn rides_out_restarts(server: Server, sync: &str, algorithm: &str) {
    let mut vault = vault_that_syncs(sync);
    vault.start();
    vault.ok(&["init"]);
    let mut world = KeylessWorld::new(server, vault);
    world.issue(&["--algorithm", algorithm]);
    let load = world.load();
    load.unnoticed("the agent is killed and started anew", || {
        world.agent.kill();
        sleep(AWAY);
        world.agent.start();
    });
    load.unnoticed("the agent is stopped and started anew", || {
        world.agent.process().terminate();
        assert!(world.agent.process().wait_exit().success());
        sleep(AWAY);
        world.agent.start();
    });
    load.unnoticed("the vault is killed and started anew", || {
        world.vault.kill();
        sleep(AWAY);
        world.vault.start();
    });
    load.unnoticed("the vault is stopped and started anew", || {
        world.vault.stop();
        let open = world.vault.open_operations();
        assert!(open.is_empty(), "intents without a result: {open:?}");
        sleep(AWAY);
        world.vault.start();
    });
    drop(load);
    let log = world.vault.process().log();
    assert!(!log.contains("calls were still under way"), "the drain has waited in vain");
    world.vault.ok(&["audit", "verify"]);
}

fn rides_out_a_lost_hsm(server: Server, sync: &str, fault: &str) {
    let mut vault = vault_that_syncs(sync);
    vault.hsm_deadline(DEADLINE);
    let hsm = FaultyHsm::before(&mut vault);
    vault.start();
    vault.ok(&["init"]);
    let mut world = KeylessWorld::new(server, vault);
    world.issue(&["--algorithm", "ec-p256"]);
    let load = world.load();
    load.unnoticed("the HSM is lost and comes back", || {
        hsm.lose(fault);
        sleep(HSM_AWAY);
        hsm.heal();
    });
    drop(load);
    let vault = &mut world.vault;
    assert!(vault.process().exited().is_none(), "vaultd has ended");
    assert!(vault.process().log().contains("the HSM dropped a session"), "nothing was lost");
    vault.ok(&["audit", "verify"]);
}

fn goes_on_with_known_visitors(server: Server) {
    let mut world = KeylessWorld::with_patience(server, Vault::initialized(), SHORT);
    world.issue(&["--algorithm", "ec-p256"]);
    let load = world.load();
    let known = world.visitors().map(|visitor| visitor.who_returns());
    for visitor in &known {
        eventually("a session is resumed", || visitor.visit().ok()?.then_some(()));
    }
    load.noticed("the vault is gone", || world.vault.kill());
    for visitor in &known {
        let version = visitor.version();
        assert!(visitor.visit().unwrap(), "{version:?}: it was a session that is not resumed");
    }
    load.healed("the vault is back", || world.vault.start());
}

macro_rules! servers {
    ($($name:ident: $server:ident, $sync:literal, $algorithm:literal, $fault:literal;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn costs_no_handshake_where_agent_and_vault_are_restarted() {
                rides_out_restarts(Server::$server, $sync, $algorithm);
            }

            #[test]
            fn costs_no_handshake_where_the_hsm_is_lost_and_comes_back() {
                rides_out_a_lost_hsm(Server::$server, $sync, $fault);
            }

            #[test]
            fn goes_on_with_known_visitors_without_a_vault_and_with_all_once_it_is_back() {
                goes_on_with_known_visitors(Server::$server);
            }
        }
    )*};
}

servers! {
    nginx: Nginx, "interval", "ec-p256", "CKR_DEVICE_REMOVED";
    nginx_by_the_engine: NginxByEngine, "each", "rsa-2048", "CKR_SESSION_HANDLE_INVALID";
    apache: Apache, "each", "rsa-2048", "CKR_TOKEN_NOT_PRESENT";
    haproxy: Haproxy, "interval", "ec-p256", "CKR_CRYPTOKI_NOT_INITIALIZED";
}
