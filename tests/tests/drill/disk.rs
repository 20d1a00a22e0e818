//! Disks that fill at every stage of a drill.

use std::{fs, process::Command};

use testkit::{programs::run, small_disk::SmallDisk};

use super::scene::Scene;

/// A drill of a file with a small disk under a directory.
fn on(scene: &Scene, dir: &str, bytes: u64, words: &[String]) -> testkit::programs::Ended {
    let through = SmallDisk::over(&scene.vault().file(dir), bytes).through();
    let drill = scene.command(words);
    let mut command = Command::new(&through[0]);
    command.args(&through[1..]).arg(drill.get_program()).args(drill.get_args());
    command.current_dir(scene.vault().dir());
    run(command)
}

#[test]
fn a_scratch_disk_that_fills_at_any_stage_is_said_and_is_no_verdict_on_the_backup() {
    let scene = Scene::new();
    let file = scene.backup("b.age");
    let (mut refused, mut proven) = (0, 0);
    for kib in [0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 4096] {
        let words = scene.words(&file, &format!("report-{kib}"));
        // A tmpfs of no bytes has no limit.
        let ended = on(&scene, "scratch", (kib * 1024).max(1), &words);
        if ended.code == 0 {
            proven += 1;
            continue;
        }
        assert_eq!(proven, 0, "{kib} KiB are not enough, less were: {ended:?}");
        refused += 1;
        assert!([1, 6].contains(&ended.code), "{kib} KiB: {ended:?}");
        assert!(ended.stderr.contains("error: ") && ended.stderr.contains("hint: "), "{ended:?}");
        assert_eq!(ended.stdout, "", "{kib} KiB: a verdict");
        assert!(!scene.vault().file(&format!("report-{kib}/report.json")).exists());
    }
    assert!(refused > 3 && proven > 0, "{refused} refused, {proven} proven");
    let recorded = scene.vault().json(&["drill", "list"]);
    assert_eq!(recorded.as_array().unwrap().len(), proven, "what was not held is on record");
}

#[test]
fn a_report_that_cannot_be_written_is_said_and_nothing_is_recorded() {
    let scene = Scene::new();
    let file = scene.backup("b.age");
    fs::create_dir(scene.vault().file("full")).unwrap();
    let ended = on(&scene, "full", 4096, &scene.words(&file, "full"));
    ended.refused(1, "report.");
    assert!(scene.vault().json(&["drill", "list"]).as_array().unwrap().is_empty());
    assert!(scene.left().is_empty());
}
