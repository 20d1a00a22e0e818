//! Much in a vault's store, past the vault: by its database itself.

use crate::vault::Vault;

/// Runs a statement in the store of a vault on SQLite.
///
/// # Panics
/// Where the database refuses it.
pub fn sql(vault: &Vault, statement: &str) {
    let url = format!("sqlite://{}", vault.path("vault.db"));
    tokio::runtime::Runtime::new().expect("runtime").block_on(async {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&url).await.expect("the store");
        let done = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await;
        done.expect("a statement");
        pool.close().await;
    });
}

/// Adds agents that never were, a kilobyte each: rows that hardly get smaller.
pub fn agents(vault: &Vault, count: u32) {
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO agents (name, status, software_version, created_at)
         SELECT 'web' || i, 'active', hex(randomblob(500)), i FROM n"
    );
    sql(vault, &rows);
}

/// Adds some of them where there are none: enough that a backup has more than one chunk.
pub fn agents_once(vault: &Vault) {
    sql(vault, "DELETE FROM agents");
    agents(vault, 2_000);
}
