//! What a drill leaves that was ended in the middle: nothing, at once or with the next one.

use std::{fs, path::PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use testkit::process::{Process, eventually};

use super::scene::Scene;

/// Kills processes, whoever has started them.
fn kill(ids: &[String]) {
    for id in ids {
        let pid = id.parse().ok().and_then(Pid::from_raw).unwrap();
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Waits until processes have ended, whether or not somebody has taken note of it.
fn wait_ended(ids: &[String]) {
    eventually("the drill's processes have ended", || {
        let ended = |id: &String| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
        };
        ids.iter().all(ended).then_some(())
    });
}

/// A drill that waits with everything there: token, KEK and keys.
fn waiting(scene: &Scene, report: &str) -> Process {
    let file = scene.vault().file("b.age");
    if !file.exists() {
        scene.backup("b.age");
    }
    let before = scene.left();
    let mut command = scene.command(&scene.words(&file, report));
    command.env("FAILPOINTS", "drill.restored=pause");
    let drill = Process::spawn("drill", command, scene.vault().dir());
    eventually("the drill has restored", || {
        let mut new = scene.left().into_iter().filter(|dir| !before.contains(dir));
        // Everything was committed: the write-ahead log has it.
        let filled =
            |dir: &PathBuf| fs::metadata(dir.join("store.db-wal")).is_ok_and(|meta| meta.len() > 0);
        new.find(filled).map(drop)
    });
    drill
}

#[test]
fn a_drill_that_is_interrupted_leaves_nothing_and_no_record() {
    let scene = Scene::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut drill = waiting(&scene, "report");
        let children = drill.children();
        assert!(!children.is_empty(), "no process does the work");
        drill.signal(signal);
        assert!(!drill.wait_exit().success());
        assert!(scene.left().is_empty(), "{signal:?}: {:?}", scene.left());
        wait_ended(&children);
        assert!(!scene.vault().file("report").exists(), "an empty report is left");
    }
    assert!(scene.vault().json(&["drill", "list"]).as_array().unwrap().is_empty());
}

#[test]
fn what_does_the_work_destroys_it_where_vaultctl_is_killed() {
    let scene = Scene::new();
    let mut drill = waiting(&scene, "report");
    let children = drill.children();
    drill.signal(Signal::KILL);
    drill.wait_exit();
    wait_ended(&children);
    eventually("nothing is left", || scene.left().is_empty().then_some(()));
}

#[test]
fn vaultctl_destroys_it_where_what_does_the_work_is_killed() {
    let scene = Scene::new();
    let mut drill = waiting(&scene, "report");
    kill(&drill.children());
    assert_eq!(drill.wait_exit().code(), Some(1), "{}", drill.log());
    assert!(drill.log().contains("ended in the middle"), "{}", drill.log());
    assert!(scene.left().is_empty(), "{:?}", scene.left());
}

#[test]
fn where_both_are_killed_the_next_drill_destroys_it_and_leaves_one_that_lives_alone() {
    let scene = Scene::new();
    let mut drill = waiting(&scene, "killed");
    let children = drill.children();
    // So that neither has time to tidy up after the other.
    drill.signal(Signal::STOP);
    kill(&children);
    wait_ended(&children);
    drill.signal(Signal::KILL);
    drill.wait_exit();
    let [left] = scene.left().try_into().unwrap();
    let mut living = waiting(&scene, "living");
    let [lives] = scene.left().try_into().unwrap();
    assert_ne!(lives, left, "what was left is still there");
    let ended = scene.drill(&scene.vault().file("b.age"), "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(scene.left(), [lives], "a drill that lives has lost its directory");
    living.terminate();
    living.wait_exit();
    assert!(scene.left().is_empty(), "{:?}", scene.left());
}

#[test]
fn nothing_that_a_drill_has_on_its_disk_is_a_secret() {
    let scene = Scene::new();
    let mut drill = waiting(&scene, "report");
    let [dir] = scene.left().try_into().unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&dir).unwrap().permissions()) & 0o777,
        0o700
    );
    // A token's own files and no object: KEK and keys are the session's.
    let objects = testkit::tree::snapshot(&dir.join("tokens"));
    let objects = objects.keys().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.ends_with(".object") && name != "token.object"
    });
    assert_eq!(objects.count(), 0);
    drill.terminate();
    drill.wait_exit();
}
