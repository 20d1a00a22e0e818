//! Who may ask an agent for signatures: the users in `[signer] allow`, root and the agent's own, by
//! what the kernel says of them.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{fs, process::Command};

use testkit::{
    keyless_world::{KeylessWorld, Server},
    namespace::{among_users, as_user},
    programs::{Ended, ours, run},
    signer_client::certificate_verify,
    vault::Vault,
    world::CERTIFICATE,
};

/// In `[signer] allow`; every Debian has both.
const ALLOWED: &str = "www-data";
/// Not in it.
const STRANGER: &str = "daemon";

/// What somebody who loads the PKCS#11 module is told.
fn pkcs11_tool(world: &KeylessWorld, user: &str, arguments: &[&str]) -> Ended {
    // Where every user may read it.
    let module = world.keyless.file("module.so");
    fs::copy(ours("libvault_pkcs11.so"), &module).unwrap();
    let words = as_user(user);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg("pkcs11-tool").arg("--module").arg(module).args(arguments);
    command.envs(world.keyless.environment()).env("VAULT_PKCS11_DEBUG", "1");
    run(command)
}

fn signs(world: &KeylessWorld, user: &str) -> Ended {
    let message = world.keyless.file("message");
    fs::write(&message, certificate_verify([7; 32])).unwrap();
    let (message, mechanism) = (message.display().to_string(), "ECDSA-SHA256");
    let sign = ["--sign", "--mechanism", mechanism, "--label", CERTIFICATE];
    pkcs11_tool(world, user, &[&sign[..], &["--input-file", &message]].concat())
}

#[test]
fn an_allowed_user_gets_signatures_and_a_stranger_none() {
    among_users("an_allowed_user_gets_signatures_and_a_stranger_none", || {
        let mut world = KeylessWorld::new(Server::Nginx, Vault::initialized());
        world.issue(&[]);
        let served = signs(&world, ALLOWED);
        assert_eq!(served.code, 0, "{served:?}");

        let before = world.vault.audit().len();
        for refused in [signs(&world, STRANGER), pkcs11_tool(&world, STRANGER, &["--list-objects"])]
        {
            assert_ne!(refused.code, 0, "{refused:?}");
            assert!(refused.stderr.contains("CKR_KEY_FUNCTION_NOT_PERMITTED"), "{refused:?}");
            assert!(!refused.stdout.contains(CERTIFICATE), "{refused:?}");
        }
        assert_eq!(world.vault.audit().len(), before, "the vault was asked");
        world.agent.wait_log("not in [signer] allow uid=");
    });
}
