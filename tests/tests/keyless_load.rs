//! Keyless under load, the web servers' side: reloads, renewals and killed workers, and what visitors
//! see of them. Half of the visitors speak TLS 1.2, half TLS 1.3.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use testkit::{
    keyless_world::{KeylessWorld, Server},
    load::Load,
    vault::Vault,
    world::CERTIFICATE,
};

fn world(server: Server, algorithm: &str) -> (KeylessWorld, String) {
    let world = KeylessWorld::new(server, Vault::initialized());
    let serial = world.issue(&["--algorithm", algorithm]);
    (world, serial)
}

/// Renews while `served` is shown: both chains are seen meanwhile, and the new one alone once the old
/// workers have ended.
fn renews_unnoticed(what: &str, world: &KeylessWorld, load: &Load, served: &str) -> String {
    let before = world.server.master().children();
    let renewed = load.unnoticed(what, || {
        load.wait_shown(served);
        let renewed = world.renew();
        load.wait_shown(&renewed);
        world.server.master().wait_gone(&before);
        renewed
    });
    assert_ne!(renewed, served);
    assert_eq!(load.leaves(what), [renewed.as_str()]);
    renewed
}

fn reloads_unnoticed(server: Server, algorithm: &str) {
    let (world, _) = world(server, algorithm);
    let load = world.load();
    load.unnoticed("a reload", || {
        let before = world.server.master().children();
        world.server.reload();
        world.server.master().wait_gone(&before);
    });
}

fn takes_renewals_unnoticed(server: Server, algorithm: &str) {
    let (world, first) = world(server, algorithm);
    let (load, key) = (world.load(), world.key_id());
    let second = renews_unnoticed("a renewal", &world, &load, &first);
    assert_eq!(world.key_id(), key);
    // The engine, which finds keys by their name alone, is not for new ones.
    if server != Server::NginxByEngine {
        world.vault.ok(&["cert", "update", CERTIFICATE, "--rotate-key", "true"]);
        renews_unnoticed("a renewal for a new key", &world, &load, &second);
        assert_ne!(world.key_id(), key);
    }
}

fn replaces_killed_workers(server: Server, algorithm: &str) {
    let (mut world, _) = world(server, algorithm);
    let load = world.load();
    load.healed("its workers are killed", || world.server.lose_workers());
}

macro_rules! servers {
    ($($name:ident: $server:ident;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn costs_no_handshake_where_it_is_reloaded() {
                reloads_unnoticed(Server::$server, "rsa-2048");
            }

            #[test]
            fn costs_no_handshake_where_a_renewal_is_pushed() {
                takes_renewals_unnoticed(Server::$server, "ec-p256");
            }

            #[test]
            fn serves_every_visitor_again_after_its_workers_were_killed() {
                replaces_killed_workers(Server::$server, "rsa-2048");
            }
        }
    )*};
}

servers! {
    nginx: Nginx;
    nginx_by_the_engine: NginxByEngine;
    apache: Apache;
    haproxy: Haproxy;
}
