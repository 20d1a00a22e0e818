//! nginx with `ssl_stapling_file`.

use std::fs;

use testkit::{
    process::eventually,
    world::{CERTIFICATE, SITE},
};

use super::world::{World, about, shown_by, stapled, wait_other, wait_stapled};

#[test]
fn nginx_staples_what_is_fresh_and_never_what_is_worse() {
    let mut world = World::new(stapled);
    let first = world.issue();
    let serial = first["serial"].as_str().unwrap();
    // The responder does not know it: a certificate that must be stapled is not handed out without.
    world.wait_checked();
    world.wait_checked();
    assert_eq!(world.held(), 0);
    world.revoker.knows(serial);
    world.wait_held(1);
    let file = world.nginx.file("staple.der");
    assert_eq!(about(&file), serial.to_uppercase());
    let conf = fs::read_to_string(world.nginx.file("nginx.conf")).unwrap();
    let key = format!("ssl_certificate_key {};", world.nginx.file("key.pem").display());
    let with = format!("{key} ssl_stapling on; ssl_stapling_file {};", file.display());
    fs::write(world.nginx.file("nginx.conf"), conf.replace(&key, &with)).unwrap();
    world.nginx.reload();
    wait_stapled(world.nginx.https);
    assert!(world.agent.status()["certificates"][0]["staple_next_update"].is_string());
    assert!(world.shown()["staple_next_update"].is_string());
    // Half of its time is over: a new one, and no new certificate.
    wait_other(&file, &fs::read(&file).unwrap());
    wait_stapled(world.nginx.https);
    assert_eq!(world.shown()["version"], 1);
    // Nobody has a newer one: what is there stays, and somebody is told in time.
    world.revoker.stop_responder();
    eventually("an alert", || {
        let status = world.vault.json(&["status"]);
        let alerts = status["alerts"].as_array().unwrap();
        alerts.iter().any(|alert| alert["kind"] == "staple-ending").then_some(())
    });
    assert_eq!(about(&file), serial.to_uppercase());
    // What says "revoked" is never stapled; the successor comes with a staple of its own, both at once.
    world.revoker.revokes(serial, "superseded");
    world.revoker.start_responder();
    let next = world.wait_issued(2);
    assert_eq!(world.held(), 1, "it waits for its staple");
    assert_eq!(about(&file), serial.to_uppercase());
    assert!(shown_by(world.nginx.https).contains("Cert Status: good"));
    let next_serial = next["serial"].as_str().unwrap();
    world.revoker.knows(next_serial);
    world.wait_held(2);
    world.nginx.wait_serves(SITE, next_serial);
    assert_eq!(about(&file), next_serial.to_uppercase());
    wait_stapled(world.nginx.https);
    let history = world.vault.json(&["cert", "history", CERTIFICATE]);
    assert_eq!(history.as_array().unwrap().len(), 2);
    eventually("all alerts are over", || {
        let status = world.vault.json(&["status"]);
        status["alerts"].as_array().unwrap().is_empty().then_some(())
    });
}
