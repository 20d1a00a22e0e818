//! Profiles, and what else a CA says of itself.

use serde_json::json;
use testkit::{
    fault_ca::{Fault, Place},
    process::eventually,
    vault::Vault,
    world::{ACCOUNT, AGENT, register_account},
};

use super::scene::Scene;

#[test]
fn a_profile_is_ordered_where_the_ca_offers_it_and_refused_where_not() {
    let scene = Scene::new(&["shop", "early"]);
    let vault = &scene.vault;
    let refused = scene.order("shop", &["--profile", "short"]);
    refused.refused(2, "classic, shortlived");
    assert_eq!(vault.json(&["cert", "list"]), json!([]));
    scene.issue("shop", &["--profile", "shortlived"]);
    assert_eq!(scene.ca.placed()[0].profile.as_deref(), Some("shortlived"));
    vault.ctl(&["cert", "update", "shop", "--profile", "tlsserver"]).refused(2, "classic");
    assert_eq!(scene.certificate("shop")["profile"], "shortlived");
    vault.ok(&["cert", "update", "shop", "--profile", "classic"]);
    // It vanishes: what is served stays, and everybody can see why nothing newer comes.
    scene.ca.offer_profiles(&["shortlived"]);
    vault.ok(&["cert", "renew", "shop", "--force"]);
    let failed = eventually("the renewal fails", || {
        let shown = scene.certificate("shop");
        (shown["progress"] == "backoff").then_some(shown)
    });
    let why = failed["last_error"].as_str().unwrap();
    assert!(why.contains("profile classic") && why.contains("shortlived"), "{why}");
    assert_eq!((&failed["version"], &failed["renewal_reason"]), (&json!(1), &json!("retry")));
    assert_eq!(scene.ca.placed().len(), 1, "no order was placed in vain");
    vault.ok(&["cert", "update", "shop", "--no-profile"]);
    vault.ok(&["cert", "renew", "shop", "--wait"]);
    assert_eq!(scene.ca.placed()[1].profile, None);
    // A CA that cannot be asked stands in nobody's way; the order says what is wrong.
    scene.ca.proxy.fail(Place::Directory, Fault::Cut);
    assert_eq!(scene.order("early", &["--profile", "nonsense"]).code, 0);
    scene.ca.proxy.heal();
    eventually("the order fails", || {
        let shown = scene.certificate("early");
        if shown["progress"] == "backoff" {
            vault.ok(&["cert", "renew", "early"]);
        }
        shown["last_error"].as_str().unwrap().contains("profile nonsense").then_some(())
    });
}

#[test]
fn a_ca_without_profiles_says_so() {
    let (vault, pebble) = (Vault::initialized(), testkit::pebble::Pebble::start());
    register_account(&vault, &pebble);
    vault.ok(&["agent", "token", AGENT]);
    let order = testkit::world::order("shop", "shop.example", "agent", &["--profile", "classic"]);
    vault.ctl(&order).refused(2, "offers no profiles");
    let ca = &vault.json(&["account", "show", ACCOUNT])["ca"];
    assert_eq!((&ca["renewal_info"], &ca["profiles"]), (&json!(false), &json!([])), "{ca}");
}

#[test]
fn an_account_is_shown_with_what_its_ca_says_of_itself() {
    let scene = Scene::new(&[]);
    let vault = &scene.vault;
    let ca = &vault.json(&["account", "show", ACCOUNT])["ca"];
    assert_eq!(ca["status"], "ok", "{ca}");
    assert!(ca["terms_of_service"].as_str().unwrap().starts_with("data:"), "{ca}");
    assert_eq!(ca["website"], "https://ca.example/");
    assert_eq!(ca["external_account_required"], false);
    assert_eq!(ca["renewal_info"], true);
    assert_eq!(ca["profiles"][1]["name"], "shortlived");
    let table = vault.ok(&["account", "show", ACCOUNT]);
    assert!(table.contains("shortlived") && table.contains("ca.website"), "{table}");
    assert!(!table.contains('\u{1b}'), "a CA's text moves nobody's cursor: {table:?}");
    scene.ca.proxy.fail(Place::Directory, Fault::Cut);
    let ca = &vault.json(&["account", "show", ACCOUNT])["ca"];
    assert_eq!(ca["status"], "unknown: CA unavailable", "{ca}");
    assert!(ca["profiles"].is_null() && ca["renewal_info"].is_null(), "{ca}");
    assert!(!ca["problem"].as_str().unwrap().is_empty(), "{ca}");
}
