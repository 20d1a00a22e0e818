//! What a drill takes of the machine's memory: no more for thousands of keys than for three.

use std::{fs, time::Duration};

use testkit::process::{Process, eventually};
use vault_proto::ids::KeyId;

use super::{
    forged::{Rows, scene},
    scene::Scene,
};

/// Enough that collecting what is known of each would be seen.
const KEYS: usize = 10_000;
/// How often its memory is looked at; the peak only grows.
const OFTEN: Duration = Duration::from_millis(2);
/// What a drill may take more for them.
const MORE_KIB: u64 = 64 * 1024;

/// The most that the two processes of a drill have ever had in memory.
fn peak_kib(scene: &Scene, rows: Rows, name: &str) -> u64 {
    let file = rows.write(scene, name);
    let mut words = scene.words(&file, &format!("{name}-report"));
    words.push("--offline".to_owned());
    let mut command = scene.command(&words);
    // However short the drill is, its process is seen.
    command.env("FAILPOINTS", "drill.token=sleep(1000)");
    let mut drill = Process::spawn("drill", command, scene.vault().dir());
    let child = eventually("the drill's process", || drill.children().pop());
    let mut peaks = [0; 2];
    while drill.exited().is_none() {
        for (peak, id) in peaks.iter_mut().zip([&drill.id().to_string(), &child]) {
            // Gone, or not yet the drill's own program.
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let said = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let said = said.map_or("0", |said| said.trim().trim_end_matches(" kB"));
            *peak = said.parse::<u64>().unwrap().max(*peak);
        }
        std::thread::sleep(OFTEN);
    }
    assert!(drill.wait_exit().success(), "{}", drill.log());
    peaks[0] + peaks[1]
}

#[test]
fn memory_does_not_grow_with_the_number_of_keys() {
    let (scene, file) = scene();
    let few = peak_kib(&scene, Rows::of(&scene, &file), "few");
    let mut rows = Rows::of(&scene, &file);
    let key = rows.key("k").clone();
    for at in 0..KEYS {
        let mut key = key.clone();
        key["row"]["id"] = KeyId::random().to_string().into();
        key["row"]["name"] = format!("k{at}").into();
        rows.add_last(vault_backup::Table::Keys, key);
    }
    let many = peak_kib(&scene, rows, "many");
    assert!(many < few + MORE_KIB, "{few} KiB for a few keys, {many} KiB for {KEYS}");
}
