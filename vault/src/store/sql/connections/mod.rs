//! Connections to the database: some that read, and a way to write. PostgreSQL has one pool for both;
//! SQLite, which has one writer at a time, has one connection that writes for all.

mod group;
mod readers;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Either, Error, Executor, SqlStr,
    any::{AnyPoolOptions, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo},
};

use group::{Group, Turn};
use readers::Readers;

/// How long a call may wait for a connection, and on SQLite for another writer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type BoxStream<'a, T> = std::pin::Pin<Box<dyn stream::Stream<Item = T> + Send + 'a>>;
type Step = Either<AnyQueryResult, AnyRow>;

/// Runs queries that only read, each on a connection that is free.
#[derive(Clone)]
pub(super) enum Reads {
    Sqlite(Readers),
    Postgres(AnyPool),
}

/// Runs statements that write. When one has ended, what it has written is durable, or it has failed.
#[derive(Clone)]
pub(super) enum Writes {
    Sqlite(Arc<Group>),
    Postgres(AnyPool),
}

/// A transaction that may read and then write without being overtaken. Dropped without
/// [`commit`](Self::commit), it has written nothing.
pub(super) enum Transaction {
    Sqlite(Turn),
    Postgres(sqlx::Transaction<'static, Any>),
}

/// Opens connections to an SQLite file, at least one that reads beside the one that writes.
pub(super) async fn sqlite(url: &str, connections: u32) -> Result<(Reads, Writes), Error> {
    // First the writer: it says of a new file how it is kept.
    let writes = Writes::Sqlite(Group::open(url).await?);
    let readers = usize::try_from(connections.saturating_sub(1).max(1)).unwrap_or(1);
    Ok((Reads::Sqlite(Readers::new(url, readers)?), writes))
}

/// Opens connections to a PostgreSQL database.
pub(super) async fn postgres(url: &str, connections: u32) -> Result<(Reads, Writes), Error> {
    let pool = AnyPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(PATIENCE)
        .connect(url)
        .await?;
    Ok((Reads::Postgres(pool.clone()), Writes::Postgres(pool)))
}

/// A connection to an SQLite file that survives a power loss and keeps references.
async fn connect(url: &str) -> Result<AnyConnection, Error> {
    let mut connection = AnyConnection::connect(url).await?;
    let pragmas = "PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
                   PRAGMA foreign_keys=ON";
    connection.execute(pragmas).await?;
    Ok(connection)
}

impl Writes {
    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction, Error> {
        Ok(match self {
            Self::Sqlite(group) => Transaction::Sqlite(Group::begin(group).await?),
            Self::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }
}

impl Transaction {
    /// Ends it; what it has written is durable then.
    pub(super) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(turn) => turn.keep().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}

impl Deref for Transaction {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Sqlite(turn) => turn.connection(),
            Self::Postgres(transaction) => transaction,
        }
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Sqlite(turn) => turn.connection_mut(),
            Self::Postgres(transaction) => transaction,
        }
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reads")
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writes")
    }
}

impl<'c> Executor<'c> for &'c Reads {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, Any>,
    {
        match self {
            Reads::Sqlite(readers) => steps(async move {
                let mut reader = readers.take().await?;
                let steps = reader.fetch_many(query).try_collect().await;
                Readers::give_back(reader, steps)
            }),
            Reads::Postgres(pool) => pool.fetch_many(query),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, Any>,
    {
        match self {
            Reads::Sqlite(readers) => Box::pin(async move {
                let mut reader = readers.take().await?;
                let row = reader.fetch_optional(query).await;
                Readers::give_back(reader, row)
            }),
            Reads::Postgres(pool) => pool.fetch_optional(query),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        match self {
            Reads::Sqlite(readers) => Box::pin(async move {
                let mut reader = readers.take().await?;
                let statement = reader.prepare_with(sql, parameters).await;
                Readers::give_back(reader, statement)
            }),
            Reads::Postgres(pool) => pool.prepare_with(sql, parameters),
        }
    }
}

impl<'c> Executor<'c> for &'c Writes {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, Any>,
    {
        match self {
            Writes::Sqlite(group) => steps(async move {
                let mut turn = Group::enter(group).await?;
                let steps = turn.connection_mut().fetch_many(query).try_collect().await;
                // Even a refusal may be for what another has written that is not durable yet.
                turn.keep().await?;
                steps
            }),
            Writes::Postgres(pool) => pool.fetch_many(query),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + sqlx::Execute<'q, Any>,
    {
        match self {
            Writes::Sqlite(_) => Box::pin(async move {
                let steps: Vec<Step> = self.fetch_many(query).try_collect().await?;
                Ok(steps.into_iter().find_map(Either::right))
            }),
            Writes::Postgres(pool) => pool.fetch_optional(query),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        match self {
            Writes::Sqlite(group) => Box::pin(async move {
                let mut turn = Group::enter(group).await?;
                turn.connection_mut().prepare_with(sql, parameters).await
            }),
            Writes::Postgres(pool) => pool.prepare_with(sql, parameters),
        }
    }
}

/// What a query has answered, as a stream.
fn steps<'e>(
    answered: impl Future<Output = Result<Vec<Step>, Error>> + Send + 'e,
) -> BoxStream<'e, Result<Step, Error>> {
    let answered = async move { Ok::<_, Error>(stream::iter(answered.await?.into_iter().map(Ok))) };
    stream::once(answered).try_flatten().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_to_sqlite_survives_a_power_loss_and_keeps_references() {
        sqlx::any::install_default_drivers();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", dir.path().join("vault.db").display());
        let (Reads::Sqlite(readers), Writes::Sqlite(group)) = sqlite(&url, 3).await.unwrap() else {
            panic!("it is an SQLite");
        };
        // Held together, so that they are two beside the one that writes.
        let mut held = [readers.take().await.unwrap(), readers.take().await.unwrap()];
        let mut turn = Group::enter(&group).await.unwrap();
        let all = held.iter_mut().map(|reader| &mut **reader).chain([turn.connection_mut()]);
        for connection in all {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            assert_eq!(mode, "wal");
            // 2 is FULL: the log is synced at each commit, before it is acknowledged.
            for (pragma, value) in [("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)]
            {
                let query = sqlx::AssertSqlSafe(format!("PRAGMA {pragma}"));
                let read: i64 =
                    sqlx::query_scalar(query).fetch_one(&mut *connection).await.unwrap();
                assert_eq!(read, value, "{pragma}");
            }
        }
    }
}
