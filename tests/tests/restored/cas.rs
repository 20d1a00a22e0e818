//! CAs that know more than the vault.

use testkit::{
    fault_ca::{Fault, Place},
    process::eventually,
    world::{ACCOUNT, CERTIFICATE, SITE, order},
};

use super::scene::Scene;

/// How a year of windows is written.
const PAST: [&str; 2] = ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"];
const FUTURE: [&str; 2] = ["2099-01-01T00:00:00Z", "2099-01-02T00:00:00Z"];

#[test]
fn what_its_ca_wants_replaced_is_ordered_anew_and_nothing_else() {
    for (window, version) in [(PAST, 2), (FUTURE, 1)] {
        let mut scene = Scene::new();
        scene.issue("agent", &[]);
        let kept = scene.back_up();
        scene.wait_connected();
        scene.ca.offer_renewal_info(window[0], window[1]);
        scene.restore(kept);
        let record = scene.wait_recorded(1);
        assert_eq!(record["detail"]["ordered_anew"]["count"], version - 1, "{record}");
        scene.wait_version(version);
        let silent = |finding: &String| finding.contains("RFC 9773");
        assert!(!scene.findings().iter().any(silent), "{:?}", scene.findings());
    }
}

#[test]
fn what_the_ca_has_issued_since_is_fetched_and_not_ordered_again() {
    let mut scene = Scene::new();
    scene.issue("vault", &[]);
    let kept = scene.back_up();
    scene.wait_connected();
    let ahead = scene.renew();
    scene.agent.kill();
    scene.ca.forget();
    scene.restore(kept);
    eventually("it is fetched", || (scene.certificate()["serial"] == ahead.as_str()).then_some(()));
    let record = scene.wait_recorded(1);
    assert_eq!(record["detail"]["fetched"]["names"], CERTIFICATE, "{record}");
    scene.agent.start();
    let shown = scene.wait_version(2);
    assert_eq!(shown["serial"], ahead.as_str());
    assert_eq!(scene.ca.seen(Place::NewOrder).len(), 0);
    // It is one like any other: the next one follows it.
    scene.renew();
    assert_eq!(scene.history(), [1, 2, 3]);
}

#[test]
fn what_was_declared_since_and_what_nobody_can_ask_is_said() {
    let mut scene = Scene::new();
    let kept = scene.back_up();
    scene.wait_connected();
    scene.issue("agent", &[]);
    let serial = scene.certificate()["serial"].as_str().unwrap().to_owned();
    scene.agent.kill();
    scene.restore(kept);
    let finding = scene.wait_finding("belong to none of this vault's");
    assert!(finding.contains(&serial), "{finding}");
    scene.wait_finding("restored 20");
    // Nothing is issued: of revocations there is nothing to ask. It is said once, in one record.
    let record = scene.wait_recorded(1);
    assert_eq!(record["detail"]["accounts_asked"], 1, "{record}");
    scene.vault.stop();
    scene.vault.start();
    scene.wait_finding("belong to none of this vault's");
    scene.vault.ok(&order(CERTIFICATE, SITE, "agent", &[]));
    scene.agent.start();
    scene.wait_version(2);
    assert_eq!(scene.recorded().len(), 1);
    scene.vault.ok(&["audit", "verify"]);
}

#[test]
fn a_ca_without_renewal_info_is_named_with_what_to_look_for_there() {
    let mut scene = Scene::new();
    scene.issue("agent", &[]);
    let kept = scene.back_up();
    scene.restore(kept);
    let finding = scene.wait_finding("RFC 9773");
    assert!(finding.contains("CA 127.0.0.1") && finding.contains(CERTIFICATE), "{finding}");
}

#[test]
fn an_account_that_was_rolled_over_since_is_named_and_can_be_registered_anew() {
    let mut scene = Scene::new();
    scene.issue("agent", &[]);
    let kept = scene.back_up();
    scene.wait_connected();
    scene.vault.ok(&["account", "rollover", ACCOUNT]);
    scene.restore(kept);
    let finding = scene.wait_finding("rolled over or deactivated since");
    assert!(finding.contains(&format!("account register {ACCOUNT}")), "{finding}");
    scene.vault.ok(&scene.registration());
    assert!(!scene.findings().iter().any(|finding| finding.contains("rolled over")));
    scene.wait_connected();
    scene.renew();
    // One that its CA knows is not registered a second time.
    scene.vault.ctl(&scene.registration()).refused(1, "the name is in use");
}

#[test]
fn a_ca_that_is_away_is_asked_again() {
    let mut scene = Scene::new();
    scene.issue("vault", &[]);
    let kept = scene.back_up();
    scene.wait_connected();
    let ahead = scene.renew();
    scene.agent.kill();
    scene.ca.fail(Place::Orders, Fault::Cut);
    scene.restore(kept);
    let finding = scene.wait_finding("could not be asked");
    assert!(finding.contains(ACCOUNT), "{finding}");
    let record = scene.wait_recorded(1);
    assert_eq!(record["detail"]["accounts_not_asked"]["names"], ACCOUNT, "{record}");
    scene.ca.heal();
    eventually("it is fetched", || (scene.certificate()["serial"] == ahead.as_str()).then_some(()));
    let record = scene.wait_recorded(2);
    assert_eq!(record["detail"]["accounts_not_asked"]["count"], 0, "{record}");
    assert!(!scene.findings().iter().any(|finding| finding.contains("could not be asked")));
}

#[test]
fn a_vault_that_dies_in_between_does_the_rest_when_it_starts() {
    for point in ["restored.asked", "restored.recorded"] {
        let mut scene = Scene::new();
        scene.issue("vault", &[]);
        let kept = scene.back_up();
        scene.wait_connected();
        let ahead = scene.renew();
        scene.agent.kill();
        scene.put_back(kept);
        scene.vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        scene.vault.spawn();
        let status = scene.vault.process().wait_exit();
        assert!(!status.success(), "{point}: the vault did not crash");
        scene.vault.environment.clear();
        scene.vault.start();
        eventually("it is fetched", || {
            (scene.certificate()["serial"] == ahead.as_str()).then_some(())
        });
        let record = scene.wait_recorded(1);
        assert_eq!(record["detail"]["fetched"]["names"], CERTIFICATE, "{point}: {record}");
        scene.vault.ok(&["audit", "verify"]);
    }
}
