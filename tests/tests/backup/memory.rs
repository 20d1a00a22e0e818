//! Memory: what a backup takes of it does not depend on how much there is to back up.

use std::fs;

use testkit::{escrow::Escrowed, vault::Vault};

/// Agents that never were: some 80 MB of rows.
const ROWS: u32 = 80_000;
/// What may be used more for them: parts, pages and chunks on their way, a few of each.
const ROOM_KIB: u64 = 24 * 1024;

/// The most memory that the daemon has used so far, in KiB.
fn peak(vault: &mut Vault) -> u64 {
    let status = format!("/proc/{}/status", vault.process().id());
    let status = fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Rows that hardly get smaller, made by the database itself.
fn fill(vault: &Vault) {
    let url = format!("sqlite://{}", vault.path("vault.db"));
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO agents (name, status, software_version, created_at)
         SELECT 'web' || i, 'active', hex(randomblob(500)), i FROM n"
    );
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

#[test]
fn a_big_vault_s_backup_takes_no_more_memory_than_a_small_one_s() {
    let mut escrowed = Escrowed::new();
    let (small, _) = escrowed.backup("small.age");
    let before = peak(&mut escrowed.vault);
    fill(&escrowed.vault);
    let (big, file) = escrowed.backup("big.age");
    let more = peak(&mut escrowed.vault) - before;
    assert_eq!(big["counts"]["agents"], ROWS);
    let size = |made: &serde_json::Value| made["size"].as_u64().unwrap();
    assert!(size(&big) - size(&small) > ROOM_KIB * 1024, "too small to tell");
    assert!(more < ROOM_KIB, "{more} KiB more");
    assert_eq!(escrowed.verify(&file, &[]).code, 0);
}
