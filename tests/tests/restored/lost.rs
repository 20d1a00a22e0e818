//! Keys that went with the HSM.

use testkit::{
    fault_ca::{Fault, Place},
    process::eventually,
    world::{ACCOUNT, CERTIFICATE, SITE, order},
};

use super::scene::Scene;

#[test]
fn a_certificate_whose_key_is_lost_gets_another_at_once() {
    let mut scene = Scene::new();
    scene.issue("vault", &[]);
    let lost = scene.key(CERTIFICATE);
    scene.vault.stop();
    scene.lose_key(&lost);
    scene.vault.start();
    let shown = scene.wait_version(2);
    assert_ne!(shown["key_id"], lost.as_str());
    // That it was lost stays said; that it was replaced is not done again.
    scene.wait_finding("LOST");
    scene.vault.stop();
    scene.vault.start();
    scene.wait_connected();
    scene.wait_version(2);
}

#[test]
fn an_order_whose_key_is_lost_is_given_up_for_one_with_another() {
    let mut scene = Scene::new();
    scene.ca.fail(Place::NewOrder, Fault::Held);
    scene.vault.ok(&order(CERTIFICATE, SITE, "vault", &[]));
    eventually("it is ordered", || (!scene.ca.seen(Place::NewOrder).is_empty()).then_some(()));
    let lost = scene.key(CERTIFICATE);
    scene.vault.kill();
    scene.lose_key(&lost);
    scene.ca.heal();
    scene.vault.start();
    let shown = scene.wait_version(1);
    assert_ne!(shown["key_id"], lost.as_str());
}

#[test]
fn an_account_whose_key_is_lost_is_named_and_can_be_registered_anew() {
    let mut scene = Scene::new();
    let serial = scene.issue("agent", &[]);
    let (lost, url) = (scene.key(ACCOUNT), account_url(&scene));
    let kept = scene.back_up();
    scene.put_back(kept);
    scene.lose_key(&lost);
    scene.vault.start();
    let finding = scene.wait_finding(&format!("account register {ACCOUNT}"));
    assert!(finding.contains("its key is lost"), "{finding}");
    // What is ordered with it meanwhile fails, and says what to do; what is served stays.
    scene.wait_connected();
    scene.vault.ok(&["cert", "renew", CERTIFICATE, "--force"]);
    eventually("its failure is said", || {
        let shown = scene.certificate();
        shown["last_error"].to_string().contains("its key is lost").then_some(())
    });
    scene.nginx.wait_serves(SITE, &serial);

    // A refusal leaves everything as it is.
    let refusal = testkit::fault_ca::Answer::problem(403, "unauthorized", "not now");
    scene.ca.fail(Place::NewAccount, Fault::Answer(refusal));
    let before = scene.vault.keys_in_token();
    scene.vault.ctl(&scene.registration()).refused(2, "not now");
    assert_eq!(scene.vault.keys_in_token(), before);
    scene.ca.heal();
    scene.vault.ok(&scene.registration());
    assert_ne!(account_url(&scene), url);
    let finding = |finding: &String| finding.contains("account register");
    assert!(!scene.findings().iter().any(finding), "{:?}", scene.findings());
    scene.renew();
}

fn account_url(scene: &Scene) -> serde_json::Value {
    scene.vault.json(&["account", "show", ACCOUNT])["url"].clone()
}
