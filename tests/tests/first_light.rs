//! One certificate's whole life, from the HSM to a served handshake.

use testkit::world::World;

#[test]
fn a_certificate_is_issued_pushed_proven_and_renewed() {
    let world = World::new();
    let issued = world.issue();
    assert_eq!(issued["version"], 1);
    assert_eq!(issued["deployments"][0]["status"], "serving");
    let serial = issued["serial"].as_str().unwrap();
    world.wait_serves(serial);

    let renewed = world.vault.json(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(renewed["version"], 2);
    let second = renewed["serial"].as_str().unwrap();
    assert_ne!(second, serial);
    world.wait_serves(second);

    let status = world.agent.status();
    assert_eq!(status["certificates"][0]["served_now"], true, "{status}");
    assert_eq!(status["certificates"][0]["version"], 2);
    let history = world.vault.json(&["cert", "history", "shop"]);
    assert_eq!(history.as_array().unwrap().len(), 2);
}
