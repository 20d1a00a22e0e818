//! By OCSP.

use std::fs;

use testkit::{process::eventually, revoker::Revoker};

use super::world::{By, World, serial};

#[test]
fn what_a_responder_says_is_noticed() {
    let mut world = World::new(By::Ocsp, "");
    world.revoker.start_responder();
    let first = world.issue("agent", &[]);
    // The responder does not know it yet.
    let unknown = world.wait_found("unknown");
    let why = unknown["revocation_detail"].as_str().unwrap();
    assert!(why.contains("does not know"), "{why}");
    world.revoker.knows(serial(&first));
    assert_eq!(world.wait_found("good")["revocation_source"], "ocsp");
    let key = fs::read_to_string(world.nginx.file("key.pem")).unwrap();
    world.revoker.revokes(serial(&first), "keyCompromise");
    let detail = eventually("an alert", || world.alert("revoked"));
    assert!(detail.contains("key-compromise"), "{detail}");
    let second = world.wait_replaced(1);
    assert_ne!(serial(&second), serial(&first));
    assert_ne!(fs::read_to_string(world.nginx.file("key.pem")).unwrap(), key);
    world.wait_over("revoked");
}

#[test]
fn a_responder_with_another_key_is_not_believed() {
    let mut world = World::new(By::Ocsp, "");
    let first = world.issue("agent", &[]);
    let mut forger = Revoker::forging(&world.pebble);
    forger.address = world.revoker.address;
    forger.revokes(serial(&first), "keyCompromise");
    forger.start_responder();
    let shown = eventually("it was asked", || {
        let shown = world.wait_found("unknown");
        let why = shown["revocation_detail"].as_str().unwrap().to_owned();
        why.contains("signature").then_some(shown)
    });
    assert_eq!((&shown["status"], &shown["version"]), (&"issued".into(), &1.into()));
    assert!(world.alert("revoked").is_none());
    // The true one is heard as soon as it is there.
    forger.stop_responder();
    world.revoker.knows(serial(&first));
    world.revoker.start_responder();
    world.wait_found("good");
}

#[test]
fn a_responder_is_believed_that_the_ca_has_named_for_that_and_for_nothing_else() {
    let world = World::new(By::Ocsp, "");
    let first = world.issue("agent", &[]);
    let address = world.revoker.address;
    for usage in ["serverAuth", "codeSigning"] {
        let mut other = Revoker::delegating(&world.pebble, usage);
        other.address = address;
        other.revokes(serial(&first), "keyCompromise");
        other.start_responder();
        eventually(&format!("{usage} is refused"), || {
            let shown = world.wait_found("unknown");
            let why = shown["revocation_detail"].as_str().unwrap();
            why.contains("the responder's certificate").then_some(())
        });
        other.stop_responder();
        // What comes next is said of nobody.
        eventually("nobody answers", || {
            let shown = world.wait_found("unknown");
            let why = shown["revocation_detail"].as_str().unwrap();
            (!why.contains("the responder's certificate")).then_some(())
        });
    }
    assert!(world.alert("revoked").is_none());
    let mut named = Revoker::delegating(&world.pebble, "OCSPSigning");
    named.address = address;
    named.knows(serial(&first));
    named.start_responder();
    world.wait_found("good");
    named.revokes(serial(&first), "superseded");
    let detail = eventually("an alert", || world.alert("revoked"));
    assert!(detail.contains("superseded"), "{detail}");
    world.wait_replaced(1);
}
