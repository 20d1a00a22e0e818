//! CAs that say nothing, or nothing that makes sense.

use std::sync::Arc;

use testkit::fault_ca::{Answer, Fault, Place};

use super::scene::{Scene, time};

#[test]
fn whatever_else_a_ca_says_the_lifetime_decides() {
    let window = |start: &str, end: &str| serde_json::json!({ "suggestedWindow": { "start": start, "end": end } });
    let backwards = window("2099-01-02T00:00:00Z", "2099-01-01T00:00:00Z");
    let faults = [
        ("broken", Fault::Answer(Answer::html(500))),
        ("gone", Fault::Answer(Answer::html(404))),
        ("page", Fault::Answer(Answer::html(200))),
        ("backwards", Fault::Answer(Answer::document(200, &backwards))),
        ("never", Fault::Answer(Answer::document(200, &window("never", "ever")))),
        ("limited", Fault::Answer(Answer::problem(429, "rateLimited", "slow down"))),
        ("silent", Fault::Silence),
        ("cut", Fault::Cut),
    ];
    let names: Vec<_> = faults.iter().map(|(name, _)| *name).collect();
    let scene = Scene::new(&names);
    for (name, fault) in faults {
        scene.ca.proxy.fail(Place::RenewalInfo, fault);
        scene.issue(name, &[]);
        let row = scene.wait_asked(name);
        assert!(row.failures > 0 && row.checked_at.is_none(), "{name}: {row:?}");
        scene.ca.proxy.heal();
        let shown = scene.certificate(name);
        assert_eq!(shown["renewal_reason"], "lifetime", "{name}: {shown}");
        assert!(shown["renewal_window_start"].is_null(), "{name}: {shown}");
        let (from, to) = (time(&shown, "not_before"), time(&shown, "not_after"));
        let part = (time(&shown, "renew_at") - from) / (to - from);
        assert!((0.6..0.67).contains(&part), "{name}: {shown}");
    }
    // Once it makes sense again, it counts again.
    scene.let_time_pass();
    for name in names {
        scene.wait_reason(name, "ari");
    }
}

#[test]
fn what_was_said_stays_where_nothing_is_said_any_more() {
    let scene = Scene::new(&["shop"]);
    scene.issue("shop", &[]);
    let planned = scene.wait_reason("shop", "ari");
    scene.ca.proxy.fail(Place::RenewalInfo, Fault::Answer(Answer::html(503)));
    scene.let_time_pass();
    testkit::process::eventually("it has failed", || {
        (scene.wait_asked("shop").failures > 0).then_some(())
    });
    let after = scene.certificate("shop");
    assert_eq!(after["renew_at"], planned["renew_at"]);
    assert_eq!(after["renewal_window_end"], planned["renewal_window_end"]);
}

#[test]
fn a_ca_without_renewal_info_is_taken_as_it_is() {
    let scene = Scene::new(&["shop"]);
    let without = |directory: String| {
        let mut directory: serde_json::Value = serde_json::from_str(&directory).unwrap();
        directory.as_object_mut().unwrap().remove("renewalInfo");
        directory.to_string()
    };
    scene.ca.proxy.fail(Place::Directory, Fault::Changed(Arc::new(without)));
    scene.issue("shop", &[]);
    let row = scene.wait_asked("shop");
    assert_eq!((row.failures, row.window_start), (0, None), "{row:?}");
    assert_eq!(scene.certificate("shop")["renewal_reason"], "lifetime");
    scene.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(scene.ca.proxy.seen(Place::RenewalInfo).len(), 0);
    assert!(scene.ca.placed().iter().all(|order| order.replaces.is_none()));
}
