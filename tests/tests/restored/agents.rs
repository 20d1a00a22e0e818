//! Agents that are ahead of the vault, and agents that it does not know.

use testkit::{
    fault_ca::{Fault, Place},
    process::eventually,
    world::{AGENT, CERTIFICATE, SITE, order},
};

use super::scene::Scene;

#[test]
fn an_agent_that_is_ahead_keeps_what_it_has_until_something_newer_is_issued() {
    let mut scene = Scene::new();
    scene.issue("agent", &[]);
    let kept = scene.back_up();
    scene.wait_connected();
    let ahead = scene.renew();
    scene.ca.fail(Place::NewOrder, Fault::Held);
    scene.restore(kept);
    let said = eventually("the agent says what it holds", || {
        let shown = scene.certificate();
        let detail = shown["deployments"][0]["detail"].to_string();
        detail.contains("it holds version 2").then_some(detail)
    });
    assert!(said.contains(&ahead), "{said}");
    // The vault knows version 1 only, and has an agent that is connected.
    assert_eq!(scene.certificate()["version"], 1);
    eventually("it is ordered anew", || (!scene.ca.seen(Place::NewOrder).is_empty()).then_some(()));
    scene.nginx.wait_serves(SITE, &ahead);
    scene.ca.heal();
    let newer = scene.wait_version(3);
    assert_ne!(newer["serial"], ahead.as_str());
    // A number that an agent holds is given to nothing else; and nothing older was installed.
    assert_eq!(scene.history(), [1, 3]);
    let log = scene.agent.process().log();
    let installed = log.lines().filter(|line| line.contains("installed certificate")).count();
    assert_eq!(installed, 3, "{log}");
}

#[test]
fn a_version_that_is_ahead_but_cannot_sign_any_more_gives_way_to_one_that_can() {
    let mut scene = Scene::new();
    let first = scene.issue("vault", &["--rotate-key"]);
    let kept = scene.back_up();
    scene.wait_connected();
    scene.renew();
    let key = scene.key(CERTIFICATE);
    scene.ca.fail(Place::NewOrder, Fault::Held);
    scene.put_back(kept);
    // It was made after the backup and went with the HSM.
    scene.lose_key(&key);
    scene.vault.start();
    scene.nginx.wait_serves(SITE, &first);
    scene.ca.heal();
    scene.wait_version(3);
    assert_eq!(scene.history(), [1, 3]);
}

#[test]
fn an_agent_that_was_forgotten_serves_on_and_is_told_to_enrol_anew() {
    let mut scene = Scene::without_agent();
    let kept = scene.back_up();
    scene.enroll();
    let serial = scene.issue("agent", &[]);
    scene.restore(kept);
    scene.agent.wait_log("enroll --replace");
    scene.nginx.wait_serves(SITE, &serial);

    scene.enroll_anew();
    scene.agent.start();
    // What it holds is known to nobody but it.
    let finding = scene.wait_finding(&format!("agent {AGENT} holds certificate {CERTIFICATE}"));
    assert!(finding.contains("cert issue shop") && finding.contains(&serial), "{finding}");
    scene.nginx.wait_serves(SITE, &serial);
    scene.vault.ok(&order(CERTIFICATE, SITE, "agent", &[]));
    // Version 1 is what it holds.
    scene.wait_version(2);
    assert!(!scene.findings().iter().any(|finding| finding.contains("holds certificate")));
}

#[test]
fn an_agent_whose_new_identity_was_forgotten_comes_back_with_the_one_before() {
    let mut scene = Scene::new();
    let kept = scene.back_up();
    // As a renewal leaves it: a new one, which the vault registers, and the one before beside it.
    let before = scene.agent.identity();
    scene.enroll_anew();
    std::fs::write(scene.agent.file("state/identity-previous.pem"), before).unwrap();
    scene.agent.start();
    scene.wait_connected();
    scene.restore(kept);
    scene.wait_connected();
    scene.agent.wait_log("this agent's identity before this one");
}
