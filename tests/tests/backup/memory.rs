//! Memory: what a backup takes of it does not depend on how much there is to back up.

use testkit::{bulk, escrow::Escrowed};

/// Agents that never were: some 80 MB of rows.
const ROWS: u32 = 80_000;
/// What may be used more for them: parts, pages and chunks on their way, a few of each.
const ROOM_KIB: u64 = 24 * 1024;

#[test]
fn a_big_vault_s_backup_takes_no_more_memory_than_a_small_one_s() {
    let mut escrowed = Escrowed::new();
    let (small, _) = escrowed.backup("small.age");
    let before = escrowed.vault.process().peak_kib();
    bulk::agents(&escrowed.vault, ROWS);
    let (big, file) = escrowed.backup("big.age");
    let more = escrowed.vault.process().peak_kib() - before;
    assert_eq!(big["counts"]["agents"], ROWS);
    let size = |made: &serde_json::Value| made["size"].as_u64().unwrap();
    assert!(size(&big) - size(&small) > ROOM_KIB * 1024, "too small to tell");
    assert!(more < ROOM_KIB, "{more} KiB more");
    assert_eq!(escrowed.verify(&file, &[]).code, 0);
}
