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

/// The numbers from one to `count`, as `n(i)`.
fn numbers(count: u32) -> String {
    format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})")
}

/// Adds agents that never were, a kilobyte each: rows that hardly get smaller.
pub fn agents(vault: &Vault, count: u32) {
    let rows = format!(
        "{} INSERT INTO agents (name, status, software_version, created_at)
         SELECT 'web' || i, 'active', hex(randomblob(500)), i FROM n",
        numbers(count)
    );
    sql(vault, &rows);
}

/// Adds certificates of an account that never was, with chains as long as a CA's.
pub fn certificates(vault: &Vault, count: u32) {
    sql(
        vault,
        "INSERT INTO keys (id, name, version, purpose, algorithm, escrow, state, spki, labels, created_at)
         VALUES ('018f0000-0000-7000-8000-000000000001', 'many', 1, 'acme-account', 'ec-p256', 'none',
                 'destroyed', x'00', '{}', 1)",
    );
    sql(
        vault,
        "INSERT INTO accounts (name, directory, status, contacts, key_id, created_at)
         VALUES ('many', 'https://ca.example/directory', 'deactivated', '[]',
                 '018f0000-0000-7000-8000-000000000001', 1)",
    );
    let numbers = numbers(count);
    let never = "9000000000000000";
    sql(
        vault,
        &format!(
            "{numbers} INSERT INTO certificates (name, account, identifiers, challenge, custody,
             algorithm, must_staple, tls_use, rotate_key, fallback, ca_place, ca_failures, status,
             current_version, renew_at, failed_attempts, created_at)
             SELECT 'many' || i, 'many', '[\"many' || i || '.example\"]', 'http-01', 'agent', 'ec-p256', 0,
             'message', 0, '[]', 0, 0, 'issued', 1, {never}, 0, i FROM n"
        ),
    );
    sql(
        vault,
        &format!(
            "{numbers} INSERT INTO certificate_versions (certificate, version, account, chain_pem, serial,
             not_before, not_after, fingerprint, issued_at)
             SELECT 'many' || i, 1, 'many', hex(randomblob(2000)), hex(i), i, {never}, 'ab', i FROM n"
        ),
    );
}

/// Adds some of them where there are none: enough that a backup has more than one chunk.
pub fn agents_once(vault: &Vault) {
    sql(vault, "DELETE FROM agents");
    agents(vault, 2_000);
}
