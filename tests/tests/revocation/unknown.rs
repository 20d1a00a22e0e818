//! What is no proof: nothing is replaced for it, and after a while somebody is told.

use std::{fs, path::Path};

use testkit::{pebble::Pebble, process::eventually, revoker::Revoker};

use super::world::{By, World, serial};

#[test]
fn a_crl_that_proves_nothing_changes_nothing() {
    let world = World::new(By::Crl, "");
    let first = world.issue("agent", &[]);
    let other = Pebble::start();
    let forger = Revoker::forging(&world.pebble);
    forger.revokes(serial(&first), "keyCompromise");
    world.revoker.revokes(serial(&first), "keyCompromise");
    let stranger = Revoker::of(&other);
    stranger.revokes(serial(&first), "keyCompromise");
    let new = world.crl().with_extension("next");
    let of_size = |size: u64| move |to: &Path| fs::File::create(to).unwrap().set_len(size).unwrap();
    type Publish<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: [(&str, Publish<'_>); 5] = [
        ("Signature", Box::new(|to| forger.publish_crl(to))),
        ("held until", Box::new(|to| world.revoker.publish_ended_crl(to))),
        ("it cannot be used", Box::new(|to| fs::write(to, "garbage").unwrap())),
        ("cannot be read", Box::new(of_size((32 << 20) + 1))),
        ("not for this certificate", Box::new(|to| stranger.publish_crl(to))),
    ];
    for (why, publish) in cases {
        publish(&new);
        fs::rename(&new, world.crl()).unwrap();
        let shown = eventually(why, || {
            let shown = world.shown();
            let said = shown["revocation_detail"].as_str().unwrap().to_owned();
            said.to_lowercase().contains(&why.to_lowercase()).then_some(shown)
        });
        assert_eq!(shown["revocation"], "unknown", "{why}: {shown}");
        assert_eq!((&shown["status"], &shown["version"]), (&"issued".into(), &1.into()), "{why}");
        assert!(world.alert("revoked").is_none(), "{why}");
    }
    // An ended one is believed as little when it says the truth; a fresh one is.
    world.revoker.publish_crl(&world.crl());
    world.wait_replaced(1);
}

#[test]
fn a_ca_that_nobody_can_ask_is_alerted_after_its_time() {
    let world = World::new(By::Crl, "revocation_unknown_after = \"2s\"");
    world.issue("agent", &[]);
    let detail = eventually("an alert", || world.alert("revocation-unknown"));
    assert!(detail.contains("HTTP 404"), "{detail}");
    assert_eq!(world.shown()["version"], 1);
    world.revoker.publish_crl(&world.crl());
    world.wait_over("revocation-unknown");
    assert_eq!(world.wait_found("good")["version"], 1);
}
