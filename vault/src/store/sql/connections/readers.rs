//! Connections that read an SQLite file. None is asked whether it still lives before or after a query,
//! as a pool of connections to a server has to: each question is a way to another thread and back.

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, RecycleResult, Timeouts},
};
use sqlx::{AnyConnection, Error};

use super::{PATIENCE, connect};

/// A bounded number of connections, opened as they are needed.
#[derive(Clone)]
pub(in super::super) struct Readers(Pool<Opener>);

/// One of them, for as long as a query takes.
pub(super) type Reader = Object<Opener>;

/// Opens connections to a file.
pub(in super::super) struct Opener {
    url: String,
}

impl Manager for Opener {
    type Type = AnyConnection;
    type Error = Error;

    async fn create(&self) -> Result<AnyConnection, Error> {
        connect(&self.url).await
    }

    async fn recycle(&self, _: &mut AnyConnection, _: &Metrics) -> RecycleResult<Error> {
        Ok(())
    }
}

impl Readers {
    /// At most so many connections to a file.
    pub(super) fn new(url: &str, connections: usize) -> Result<Self, Error> {
        let patience = Some(PATIENCE);
        let timeouts = Timeouts { wait: patience, create: patience, recycle: None };
        let pool = Pool::builder(Opener { url: url.to_owned() })
            .max_size(connections)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build();
        pool.map(Self).map_err(|e| Error::Configuration(Box::new(e)))
    }

    /// Waits for one that is free.
    pub(super) async fn take(&self) -> Result<Reader, Error> {
        self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) => Error::PoolTimedOut,
            _ => Error::PoolClosed,
        })
    }

    /// Gives it back with what it has answered; one that may be broken is not used again.
    pub(super) fn give_back<T>(reader: Reader, answer: Result<T, Error>) -> Result<T, Error> {
        if matches!(answer, Err(Error::WorkerCrashed | Error::Io(_))) {
            drop(Object::take(reader));
        }
        answer
    }
}
