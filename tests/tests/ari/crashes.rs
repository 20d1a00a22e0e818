//! A vault that dies in between.

use super::scene::Scene;

/// The vault dies there; then it is started again.
fn die_at(scene: &mut Scene, point: &str) {
    scene.vault.kill();
    scene.vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
    scene.let_time_pass();
    scene.vault.spawn();
    let status = scene.vault.process().wait_exit();
    assert!(!status.success(), "{point}: the vault did not crash");
    scene.vault.environment.clear();
    scene.vault.start();
}

#[test]
fn whenever_the_vault_dies_what_has_to_go_is_replaced_once() {
    for point in ["ari.asked", "ari.kept"] {
        let mut scene = Scene::new(&["shop"]);
        scene.issue("shop", &[]);
        scene.wait_reason("shop", "ari");
        scene.ca.recall("https://ca.example/why");
        die_at(&mut scene, point);
        scene.wait_version("shop", 2);
        scene.wait_reason("shop", "ari");
        assert_eq!(scene.ca.placed().len(), 2, "{point}");
        assert_eq!(scene.alert_records("alert.raise").len(), 1, "{point}");
        assert_eq!(scene.alert_records("alert.clear").len(), 1, "{point}");
        assert_eq!(scene.vault.json(&["status"])["alerts"], serde_json::json!([]), "{point}");
        scene.vault.ok(&["audit", "verify"]);
    }
}

#[test]
fn an_order_that_was_lost_with_what_it_replaces_is_placed_again_without() {
    let mut scene = Scene::new(&["shop"]);
    scene.issue("shop", &[]);
    let first = scene.id("shop");
    scene.wait_reason("shop", "ari");
    scene.ca.recall("https://ca.example/why");
    die_at(&mut scene, "issue.ca-order");
    scene.wait_version("shop", 2);
    let placed: Vec<_> = scene.ca.placed().into_iter().map(|order| order.replaces).collect();
    assert_eq!(placed, [None, Some(first.clone()), None]);
    assert_eq!(scene.ca.refused(), [first].into());
    // Of the next version it is said again.
    let second = scene.id("shop");
    scene.vault.ok(&["cert", "renew", "shop", "--force", "--wait"]);
    assert_eq!(scene.ca.placed().pop().unwrap().replaces, Some(second));
}
