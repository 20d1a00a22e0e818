//! A drill's report: what anybody can check who has written down the CA's fingerprint.

use std::fs;

use testkit::programs::{Ended, run};

use super::scene::Scene;

/// A report in the scene's directory `report`, and the CA's fingerprint.
fn reported() -> (Scene, String) {
    let scene = Scene::new();
    assert_eq!(scene.drill(&scene.backup("b.age"), "report").code, 0);
    let status = scene.vault().json(&["status"]);
    (scene, status["ca_fingerprint"].as_str().unwrap().to_owned())
}

/// `drill verify`, without any vault.
fn verify(scene: &Scene, fingerprint: &str) -> Ended {
    let mut command = std::process::Command::new(testkit::programs::ours("vaultctl"));
    command.args(["-o", "json", "drill", "verify", &scene.vault().path("report")]);
    command.args(["--ca-fingerprint", fingerprint]);
    run(command)
}

#[test]
fn a_report_is_checked_by_the_ca_s_fingerprint_without_a_vault() {
    let (mut scene, fingerprint) = reported();
    scene.escrowed.vault.stop();
    let ended = verify(&scene, &fingerprint);
    assert_eq!(ended.code, 0, "{ended:?}");
    let said = ended.json();
    assert_eq!((&said["ok"], &said["proven"]), (&true.into(), &true.into()));
    let report = fs::read_to_string(scene.vault().file("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(said["drill_id"], report["drill_id"]);
    assert_eq!(said["backup_sha256"], report["backup"]["sha256"]);
}

#[test]
fn a_report_that_was_changed_or_signed_by_another_is_7() {
    let (scene, fingerprint) = reported();
    verify(&scene, &format!("sha256:{}", "0".repeat(64))).refused(7, "it is of CA");
    let vault = scene.vault();
    for (file, from, to, why) in [
        ("report.json", "\"proven\"", "\"failed\"", "report.json: it is not the file"),
        ("report.html", "Proven", "proven", "report.html: it is not the file"),
        ("report.sig.json", "\"ok\": true", "\"ok\": false", "was changed"),
        ("report.sig.json", "\"version\": 1", "\"version\": 2", "is not known"),
        ("report.sig.json", "\"statement\"", "\"transcript\"", "malformed"),
    ] {
        let path = vault.file("report").join(file);
        let whole = fs::read_to_string(&path).unwrap();
        assert!(whole.contains(from), "{file} has no {from}");
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        verify(&scene, &fingerprint).refused(7, why);
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(verify(&scene, &fingerprint).code, 0);
}

#[test]
fn a_statement_is_no_transcript_and_a_transcript_is_no_statement() {
    let (scene, fingerprint) = reported();
    let vault = scene.vault();
    let statement = vault.path("report/report.sig.json");
    let transcript = vault.path("shares/kek-transcript.json");
    let at = ["--ca-fingerprint", &fingerprint];
    let kek = ["kek", "verify-transcript", &statement];
    vault.ctl(&[&kek[..], &at].concat()).refused(7, "malformed");
    // The signature of one under the other's text.
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut mixed = read(&statement);
    mixed["signature"] = read(&transcript)["signature"].clone();
    fs::write(&statement, mixed.to_string()).unwrap();
    verify(&scene, &fingerprint).refused(7, "was changed");
}

#[test]
fn the_page_asks_nobody_for_anything_and_shows_past_drills() {
    let (scene, _) = reported();
    assert_eq!(scene.drill(&scene.vault().file("b.age"), "second").code, 0);
    let page = fs::read_to_string(scene.vault().file("second/report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"), "{page}");
    for outside in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Two drills are two dots in each of the two curves.
    assert_eq!(page.matches("<circle").count(), 4);
    let report = fs::read_to_string(scene.vault().file("second/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let first = fs::read_to_string(scene.vault().file("report/report.json")).unwrap();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(report["past"][0]["id"], first["drill_id"]);
}

#[test]
fn what_people_have_named_is_no_markup() {
    let scene = Scene::new();
    // Names of keys cannot say it; the file's can.
    let file = scene.backup("b.age");
    let odd = scene.vault().file("<b>&\"x.age");
    fs::rename(file, &odd).unwrap();
    let ended = scene.drill(&odd, "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    let page = fs::read_to_string(scene.vault().file("report/report.html")).unwrap();
    assert!(page.contains("&lt;b&gt;&amp;&quot;x.age") && !page.contains("<b>"), "{page}");
}
