//! The store in SQL: one set of queries, which SQLite (embedded) and PostgreSQL both take.
//!
//! What both take through one driver: BIGINT, TEXT and BLOB/BYTEA. So a time is a BIGINT of
//! microseconds since 1970, a flag a BIGINT of 0 or 1, a list a TEXT of JSON.

mod accounts;
mod agents;
mod alerts;
mod certificates;
mod deployments;
mod dns_records;
mod drills;
mod history;
mod keys;
mod orders;
mod placements;
mod renewal_info;
mod restoration;
mod revocations;
mod rollouts;
mod row;
mod settings;
mod snapshot;
mod versions;

use std::{
    borrow::Cow,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use secrecy::SecretString;
use sqlx::{
    Any, AnyPool, Executor as _, SqlSafeStr as _, Transaction,
    any::AnyPoolOptions,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use url::Url;

use super::{Restoration, Snapshot, Store};
use crate::error::{Error, Result};

/// Every migration in order; a schema is never changed, only added to.
const MIGRATIONS: &[(&str, &str)] = &[("first", include_str!("../migrations/0001_first.sql"))];

/// How long a call may wait for a connection, and on SQLite for another writer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The store on SQLite or PostgreSQL.
#[derive(Debug, Clone)]
pub struct SqlStore {
    pool: AnyPool,
    /// For a connection beside the pool; it may hold a password.
    url: SecretString,
    dialect: Dialect,
    changes: Arc<AtomicU64>,
}

/// A change of who may do what; counted when it is over, however it ends.
struct Changing(Arc<AtomicU64>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl SqlStore {
    /// Opens `sqlite:PATH` (made with mode 0600 where it is not) or `postgres://...`, and brings
    /// its schema up to date.
    ///
    /// # Errors
    /// `Invalid` for a URL of neither kind, `Unavailable` where it cannot be opened or written,
    /// `Conflict` where its schema is newer than this program.
    pub async fn open(url: &str, connections: u32) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let (dialect, url) = match url.strip_prefix("sqlite:") {
            Some(path) => (Dialect::Sqlite, sqlite_url(Path::new(path))?),
            None if url.starts_with("postgres") => (Dialect::Postgres, url.to_owned()),
            None => {
                return Err(Error::invalid("open", "the store", "its URL has another scheme")
                    .hint("use sqlite:PATH or postgres://..."));
            }
        };
        let pool = AnyPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(PATIENCE)
            // A server may have closed a connection meanwhile; a file has nobody who would.
            .test_before_acquire(dialect == Dialect::Postgres)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if dialect == Dialect::Sqlite {
                        let pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
                                       PRAGMA foreign_keys=ON; PRAGMA busy_timeout=5000";
                        connection.execute(pragmas).await?;
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(|e| fail("open", "the store", e))?;
        let store = Self { pool, url: SecretString::from(url), dialect, changes: Arc::default() };
        store.refuse_newer_schema().await?;
        migrator(dialect).run(&store.pool).await.map_err(not_migrated)?;
        Ok(store)
    }

    /// Begins what [`Store::changes`] counts.
    fn changing(&self) -> Changing {
        Changing(self.changes.clone())
    }

    async fn refuse_newer_schema(&self) -> Result<()> {
        // No table yet: a new store.
        let Ok(version) = self.schema_version().await else { return Ok(()) };
        if version > MIGRATIONS.len() as u64 {
            let why =
                format!("its schema is version {version}, this vaultd knows {}", MIGRATIONS.len());
            return Err(Error::conflict("open", "the store", why)
                .hint("a newer vaultd has written it: run that one"));
        }
        Ok(())
    }

    async fn schema_version(&self) -> Result<u64> {
        let query = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
        let version: i64 = sqlx::query_scalar(query)
            .fetch_one(&self.pool)
            .await
            .map_err(|e| fail("ask", "the store", e))?;
        Ok(u64::try_from(version).unwrap_or(0))
    }

    /// Begins a transaction that may read and then write without being overtaken.
    async fn begin(&self) -> Result<Transaction<'static, Any>> {
        let begun = match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => self.pool.begin().await,
        };
        begun.map_err(|e| fail("begin", "a transaction", e))
    }
}

#[async_trait]
impl Store for SqlStore {
    fn backend(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "sqlite",
            Dialect::Postgres => "postgres",
        }
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    async fn ping(&self) -> Result<u64> {
        self.schema_version().await
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.read_all().await
    }

    async fn restoration(&self) -> Result<Box<dyn Restoration>> {
        self.restore_all().await
    }
}

/// Makes the file first, so that nobody else can ever read it.
fn sqlite_url(path: &Path) -> Result<String> {
    let unavailable = |e: std::io::Error| {
        Error::unavailable("open", format!("store {}", path.display()), e)
            .hint("check [store] url in vault.toml and who may write there")
    };
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(unavailable)?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(unavailable)?;
    // Encoded, so that no character of the path means anything to whoever reads the URL.
    let absolute = std::path::absolute(path).map_err(unavailable)?;
    let url = Url::from_file_path(&absolute).map_err(|()| {
        Error::invalid("open", format!("store {}", path.display()), "its path makes no URL")
    })?;
    Ok(format!("sqlite://{}", url.path()))
}

fn migrator(dialect: Dialect) -> Migrator {
    // Names have one order, that of their bytes, whatever the database's locale.
    let (blob, text) = match dialect {
        Dialect::Sqlite => ("BLOB", "TEXT"),
        Dialect::Postgres => ("BYTEA", "TEXT COLLATE \"C\""),
    };
    let migrations = (1i64..).zip(MIGRATIONS).map(|(version, (name, sql))| {
        let sql = sql.replace("{BLOB}", blob).replace("{TEXT}", text);
        let sql = sqlx::AssertSqlSafe(sql).into_sql_str();
        Migration::new(version, Cow::Borrowed(*name), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::DEFAULT;
    migrator.migrations = migrations.collect();
    migrator
}

/// Why a schema was not brought up to date: trying again helps only where the database failed.
fn not_migrated(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            fail("migrate", "the store", error)
        }
        error => Error::conflict("migrate", "the store", error)
            .hint("its schema was not made by this program: check [store] url in vault.toml"),
    }
}

/// A database's error as a domain error.
fn fail(what: &str, subject: &str, error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => {
            Error::conflict(what, subject, "it exists already")
        }
        sqlx::Error::Database(database) if database.is_foreign_key_violation() => {
            Error::conflict(what, subject, "something it refers to does not exist, or refers to it")
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            Error::internal(what, subject, error)
        }
        _ => {
            let why = match error {
                sqlx::Error::PoolTimedOut => "the database gives no connection".to_owned(),
                error => error.to_string(),
            };
            Error::unavailable(what, subject, why)
                .hint("check that the database runs and its disk has space")
        }
    }
}

/// Turns "no row was changed" into `NotFound`.
fn one(what: &str, subject: &str, rows: u64) -> Result<()> {
    match rows {
        0 => Err(Error::not_found(what, subject, "the store has no such row")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_to_sqlite_survives_a_power_loss_and_keeps_references() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("vault.db").display());
        let store = SqlStore::open(&url, 3).await.unwrap();
        // Held together, so that they are three.
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(store.pool.acquire().await.unwrap());
        }
        for connection in &mut held {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&mut **connection)
                .await
                .unwrap();
            assert_eq!(mode, "wal");
            // 2 is FULL: the log is synced at each commit, before it is acknowledged.
            for (pragma, value) in [("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)]
            {
                let query = sqlx::AssertSqlSafe(format!("PRAGMA {pragma}"));
                let read: i64 =
                    sqlx::query_scalar(query).fetch_one(&mut **connection).await.unwrap();
                assert_eq!(read, value, "{pragma}");
            }
        }
    }
}
