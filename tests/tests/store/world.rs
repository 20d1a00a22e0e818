//! A store on an empty database, and a way past it.

use std::any::Any;

use testkit::postgres::Postgres;
use vault::{
    error::{Error, ErrorKind, Result},
    store::sql::SqlStore,
};

/// The databases that the promises are kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// Makes two tests of a promise `async fn(World)`, one per database.
macro_rules! promises {
    ($($name:ident)*) => {$(
        mod $name {
            use crate::store::world::{Database, World};

            #[test]
            fn on_sqlite() {
                World::enter(Database::Sqlite, super::$name);
            }

            #[test]
            fn on_postgres() {
                World::enter(Database::Postgres, super::$name);
            }
        }
    )*};
}

/// How many connections a store has here.
const CONNECTIONS: u32 = 4;

/// The inside of a promise: a store on a database of its own.
pub struct World {
    /// Which one it is.
    pub database: Database,
    /// Where it is.
    pub url: String,
    /// The store, as one vault has it open.
    pub store: SqlStore,
    /// Keeps the database there.
    _place: Box<dyn Any>,
}

impl World {
    /// Keeps a promise on an empty database of this kind.
    pub fn enter(database: Database, promise: impl AsyncFnOnce(World)) {
        let (url, place) = empty(database);
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let store = SqlStore::open(&url, CONNECTIONS).await.expect("store");
            promise(Self { database, url, store, _place: place }).await;
        });
    }

    /// The same database, opened once more as a second vault or a restarted one would.
    pub async fn open(&self) -> Result<SqlStore> {
        SqlStore::open(&self.url, CONNECTIONS).await
    }

    /// One more empty database of the same kind.
    pub async fn another(&self) -> Self {
        let (url, place) = empty(self.database);
        let store = SqlStore::open(&url, CONNECTIONS).await.expect("store");
        Self { database: self.database, url, store, _place: place }
    }

    /// Runs a statement past the store, in SQL that both databases take. `{BLOB}` stands for what
    /// each calls it.
    pub async fn sql(&self, statement: &str) {
        let blob = match self.database {
            Database::Sqlite => "BLOB",
            Database::Postgres => "BYTEA",
        };
        let url = match self.url.strip_prefix("sqlite:") {
            Some(path) => format!("sqlite://{path}"),
            None => self.url.clone(),
        };
        let pool = sqlx::AnyPool::connect(&url).await.expect("a connection past the store");
        let statement = sqlx::AssertSqlSafe(statement.replace("{BLOB}", blob));
        sqlx::raw_sql(statement).execute(&pool).await.expect("a statement past the store");
        pool.close().await;
    }
}

fn empty(database: Database) -> (String, Box<dyn Any>) {
    match database {
        Database::Sqlite => {
            let dir = tempfile::tempdir().expect("directory");
            (format!("sqlite:{}/vault.db", dir.path().display()), Box::new(dir))
        }
        Database::Postgres => {
            let server = Postgres::shared();
            (server.database(), Box::new(server))
        }
    }
}

/// The error of what must be refused as `kind`, with its three parts said.
///
/// # Panics
/// Where it was not.
pub fn refused<T: std::fmt::Debug>(kind: ErrorKind, result: Result<T>) -> Error {
    let error = result.expect_err("it must be refused");
    assert_eq!(error.kind, kind, "{error}");
    assert!(!error.what.is_empty() && !error.subject.is_empty() && !error.why.is_empty());
    error
}
