//! Windows that make sense.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{fault_ca::Place, process::eventually, vault::Vault};
use time::{Duration, OffsetDateTime};

use super::scene::{Scene, time};

const WHY: &str = "https://ca.example/incidents/1";

#[test]
fn what_a_ca_wants_gone_is_replaced_at_once_and_the_ca_is_told_by_what() {
    let scene = Scene::new(&["shop", "other"]);
    scene.issue("shop", &[]);
    let first = scene.id("shop");
    let planned = scene.wait_reason("shop", "ari");
    let (start, end) =
        (time(&planned, "renewal_window_start"), time(&planned, "renewal_window_end"));
    let at = time(&planned, "renew_at");
    assert!(start <= at && at < end, "{planned}");
    assert_eq!(planned["explanation_url"], "");
    // Whoever was not to be asked again yet is not, while another is.
    scene.issue("other", &[]);
    scene.wait_asked("other");
    assert_eq!(scene.ca.asked().iter().filter(|id| **id == first).count(), 1);
    scene.ca.recall(WHY);
    scene.let_time_pass();
    scene.wait_version("shop", 2);
    scene.wait_version("other", 2);
    let placed = scene.ca.placed();
    assert_eq!(placed.len(), 4, "{placed:?}");
    assert!(placed[..2].iter().all(|order| order.replaces.is_none()), "{placed:?}");
    let replaced: BTreeSet<_> = placed[2..].iter().filter_map(|o| o.replaces.clone()).collect();
    assert_eq!(replaced, scene.ca.issued()[..2].iter().cloned().collect());
    let raised = scene.alert_records("alert.raise");
    assert_eq!(raised.len(), 2, "{raised:?}");
    let detail = raised[0]["detail"].as_str().unwrap();
    assert!(detail.contains(WHY) && detail.contains("version 1"), "{detail}");
    eventually("the alerts are over", || {
        (scene.vault.json(&["status"])["alerts"] == serde_json::json!([])).then_some(())
    });
    // Of what is new, the CA says something else.
    let planned = scene.wait_reason("shop", "ari");
    assert!(time(&planned, "renew_at") > OffsetDateTime::now_utc(), "{planned}");
    scene.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(scene.certificate("shop")["version"], 3);
    scene.vault.ok(&["audit", "verify"]);
}

#[test]
fn a_later_window_is_waited_for_but_never_into_the_end() {
    let scene = Scene::new(&["shop", "last"]);
    let issued = scene.issue("shop", &[]);
    let (from, to) = (time(&issued, "not_before"), time(&issued, "not_after"));
    scene.wait_reason("shop", "ari");
    let at = |part: f64| from + (to - from) * part;
    scene.ca.suggest((at(0.75), at(0.8)));
    scene.let_time_pass();
    let later = eventually("the later window", || {
        let shown = scene.certificate("shop");
        (time(&shown, "renew_at") > at(0.7)).then_some(shown)
    });
    assert!(time(&later, "renew_at") < at(0.8), "{later}");
    assert_eq!(later["renewal_reason"], "ari");
    // It lies as it lay: what was chosen stays.
    scene.let_time_pass();
    let asked = scene.ca.asked().len();
    eventually("it is asked again", || (scene.ca.asked().len() > asked).then_some(()));
    assert_eq!(scene.certificate("shop")["renew_at"], later["renew_at"]);
    scene.ca.suggest((to + Duration::days(1), to + Duration::days(2)));
    scene.issue("last", &[]);
    let bounded = scene.wait_reason("last", "ari");
    assert!(time(&bounded, "renew_at") < at(0.91), "{bounded}");
    assert_eq!(scene.alert_records("alert.raise"), [Value::Null; 0]);
}

#[test]
fn a_mass_revocation_is_answered_by_all_of_them() {
    let names: Vec<String> = (0..20).map(|n| format!("site{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::new(&names);
    for name in &names {
        assert_eq!(scene.order(name, &[]).code, 0);
    }
    for name in &names {
        scene.wait_version(name, 1);
        scene.wait_asked(name);
    }
    let first: BTreeSet<_> = scene.ca.issued().into_iter().collect();
    assert_eq!(first.len(), 20);
    scene.ca.recall(WHY);
    scene.let_time_pass();
    for name in &names {
        scene.wait_version(name, 2);
    }
    let placed = scene.ca.placed();
    let replaced: Vec<_> = placed.into_iter().filter_map(|order| order.replaces).collect();
    assert_eq!(replaced.len(), 20);
    assert_eq!(replaced.into_iter().collect::<BTreeSet<_>>(), first);
}

#[test]
fn a_vault_that_is_told_so_asks_nobody_and_says_nothing_of_what_it_replaces() {
    let mut vault = Vault::new();
    vault.reconfigure("[acme]\n", "[acme]\nari = false\n");
    vault.start();
    vault.ok(&["init"]);
    let scene = Scene::on(vault, &["shop"]);
    assert_eq!(scene.issue("shop", &[])["renewal_reason"], "lifetime");
    scene.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert!(scene.ca.placed().iter().all(|order| order.replaces.is_none()));
    assert_eq!(scene.ca.proxy.seen(Place::RenewalInfo).len(), 0);
}
