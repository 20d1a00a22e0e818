//! By CRL.

use testkit::nginx::Nginx;
use testkit::process::eventually;
use testkit::world::{CERTIFICATE, Install, SITE};

use super::world::{By, World, serial};

#[test]
fn a_revoked_certificate_is_noticed_alerted_and_replaced() {
    let mut world = World::new(By::Crl, "");
    world.revoker.publish_crl(&world.crl());
    let first = world.issue("agent", &[]);
    let good = world.wait_found("good");
    assert_eq!(good["revocation_source"], "crl");
    assert!(good["revocation_checked_at"].is_string(), "{good}");
    // Nobody proves a successor while the agent is away: the old one stays in place.
    world.agent.kill();
    world.revoker.revokes(serial(&first), "superseded");
    world.revoker.publish_crl(&world.crl());
    let detail = eventually("an alert", || world.alert("revoked"));
    assert!(detail.contains("superseded") && detail.contains("2025-01-01"), "{detail}");
    assert!(world.recorded("alert.raise", "revoked"));
    let history = world.vault.json(&["cert", "history", CERTIFICATE]);
    let of_first = history.as_array().unwrap().iter().find(|v| v["version"] == 1).unwrap();
    assert_eq!(of_first["revoked"], "superseded");
    world.nginx.wait_serves(SITE, serial(&first));
    assert!(world.alert("revoked").is_some(), "nobody has proven a successor");
    world.agent.start();
    let second = world.wait_replaced(1);
    assert_ne!(serial(&second), serial(&first));
    world.nginx.wait_serves(SITE, serial(&second));
    world.wait_over("revoked");
    assert!(world.recorded("alert.clear", "revoked"));
    assert_eq!(world.wait_found("good")["version"], second["version"]);
}

#[test]
fn a_compromised_key_is_replaced_with_its_certificate() {
    let install = |nginx: &Nginx| Install::file(CERTIFICATE, nginx.file("shop.pem"));
    let world = World::with(By::Crl, "", install);
    world.revoker.publish_crl(&world.crl());
    let first = world.issue("vault", &[]);
    world.revoker.revokes(serial(&first), "superseded");
    world.revoker.publish_crl(&world.crl());
    let second = world.wait_replaced(1);
    assert_eq!(second["key_id"], first["key_id"], "the key is as good as it was");
    world.revoker.revokes(serial(&second), "keyCompromise");
    world.revoker.publish_crl(&world.crl());
    let third = world.wait_replaced(2);
    assert_ne!(third["key_id"], first["key_id"]);
    let history = world.vault.json(&["cert", "history", CERTIFICATE]);
    let of_second = history.as_array().unwrap().iter().find(|v| v["version"] == 2).unwrap();
    assert_eq!(of_second["revoked"], "key-compromise");
    world.wait_over("revoked");
    assert_eq!(world.shown()["version"], 3, "its successor is no reason for more");
}

#[test]
fn a_list_for_some_certificates_says_nothing_of_others() {
    let world = World::new(By::Crl, "");
    let first = world.issue("agent", &[]);
    let wait_unknown = |why: &str| {
        eventually(why, || {
            let shown = world.wait_found("unknown");
            shown["revocation_detail"].as_str().unwrap().contains(why).then_some(())
        })
    };
    // It is not on this list, and might be on that for another part.
    world.revoker.publish_crl_for("another-part", &world.crl());
    wait_unknown("it is for a part");
    world.revoker.revokes(serial(&first), "superseded");
    world.revoker.publish_crl_for("only-cas", &world.crl());
    wait_unknown("it is not for this certificate");
    assert!(world.alert("revoked").is_none());
    // Who is on it, is of this part.
    world.revoker.publish_crl_for("another-part", &world.crl());
    let detail = eventually("an alert", || world.alert("revoked"));
    assert!(detail.contains("superseded"), "{detail}");
}
