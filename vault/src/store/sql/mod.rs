//! The store in SQL: one set of queries, which SQLite (embedded) and PostgreSQL both take.
//!
//! What both take through one driver: BIGINT, TEXT and BLOB/BYTEA. So a time is a BIGINT of
//! microseconds since 1970, a flag a BIGINT of 0 or 1, a list a TEXT of JSON.

mod accounts;
mod agent_summary;
mod agent_view;
mod agents;
mod alerts;
mod certificate_view;
mod certificates;
mod connections;
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
};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    SqlSafeStr as _,
    any::AnyPoolOptions,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use url::Url;

use connections::{Reads, Transaction, Writes};

use super::{Restoration, Snapshot, Store};
use crate::error::{Error, Result};

/// Every migration in order; a schema is never changed, only added to.
const MIGRATIONS: &[(&str, &str)] = &[("first", include_str!("../migrations/0001_first.sql"))];

/// The store on SQLite or PostgreSQL.
#[derive(Debug, Clone)]
pub struct SqlStore {
    reads: Reads,
    writes: Writes,
    /// For a connection beside those; it may hold a password.
    url: SecretString,
    dialect: Dialect,
    /// Those that are none of `key_changes`.
    changes: Arc<AtomicU64>,
    key_changes: Arc<AtomicU64>,
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
        let opened = match dialect {
            Dialect::Sqlite => connections::sqlite(&url, connections).await,
            Dialect::Postgres => connections::postgres(&url, connections).await,
        };
        let (reads, writes) = opened.map_err(|e| fail("open", "the store", e))?;
        let url = SecretString::from(url);
        let (changes, key_changes) = Default::default();
        let store = Self { reads, writes, url, dialect, changes, key_changes };
        store.refuse_newer_schema().await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Begins what [`Store::changes`] counts.
    fn changing(&self) -> Changing {
        Changing(self.changes.clone())
    }

    /// Begins what [`Store::key_changes`] counts.
    fn changing_key(&self) -> Changing {
        Changing(self.key_changes.clone())
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

    async fn migrate(&self) -> Result<()> {
        let url = self.url.expose_secret();
        let opened = AnyPoolOptions::new().max_connections(1).connect(url).await;
        let pool = opened.map_err(|e| fail("open", "the store", e))?;
        let migrated = migrator(self.dialect).run(&pool).await;
        pool.close().await;
        migrated.map_err(not_migrated)
    }

    async fn schema_version(&self) -> Result<u64> {
        let query = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
        let version: i64 = sqlx::query_scalar(query)
            .fetch_one(&self.reads)
            .await
            .map_err(|e| fail("ask", "the store", e))?;
        Ok(u64::try_from(version).unwrap_or(0))
    }

    /// Begins a transaction that may read and then write without being overtaken.
    async fn begin(&self) -> Result<Transaction> {
        self.writes.begin().await.map_err(|e| fail("begin", "a transaction", e))
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
        self.changes.load(Ordering::Acquire) + self.key_changes()
    }

    fn key_changes(&self) -> u64 {
        self.key_changes.load(Ordering::Acquire)
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
