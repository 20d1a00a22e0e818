//! A whole loss: the HSM, the store and the log are gone, and `vaultctl backup restore` makes a new vault
//! the one that was lost.

use testkit::{
    escrow::Escrowed,
    fault_ca::{Fault, Place},
    vault::Vault,
    world::SITE,
};

use super::scene::Scene;

/// A site is renewed after the backup, and everything is lost but the backup and the web server.
/// `stays` says whether what is served then is still of use.
fn is_ridden_out(custody: &str, more: &[&str], stays: bool) {
    let Escrowed { vault, custodians, keeper } = Escrowed::new();
    let mut scene = Scene::on(vault);
    let first = scene.issue(custody, more);
    let out = scene.vault.path("vault.age");
    scene.vault.ok(&["backup", "create", "--out", &out, "--recipient", &keeper.recipient]);
    let ahead = scene.renew();

    let heir = Vault::in_place_of(&scene.vault);
    let mut vault = std::mem::replace(&mut scene.vault, heir);
    vault.kill();
    let lost = Escrowed { vault, custodians, keeper };
    scene.ca.fail(Place::NewOrder, Fault::Held);
    scene.vault.start();
    let ended = lost.restore_into(&scene.vault, out.as_ref(), &[]);
    assert_eq!(ended.code, 0, "{ended:?}");

    scene.wait_connected();
    scene.wait_finding("restored 20");
    scene.nginx.wait_serves(SITE, if stays { &ahead } else { &first });
    scene.ca.heal();
    scene.wait_version(3);
    assert_eq!(scene.history(), [1, 3]);
    let record = scene.wait_recorded(1);
    assert_eq!(record["detail"]["accounts_asked"], 1, "{record}");
    scene.vault.ok(&["audit", "verify"]);
}

#[test]
fn a_site_with_a_key_of_its_own_serves_what_it_has_and_then_something_newer() {
    is_ridden_out("agent", &[], true);
}

#[test]
fn a_site_whose_key_was_lost_serves_what_was_backed_up_and_then_something_newer() {
    is_ridden_out("vault", &["--rotate-key"], false);
}
