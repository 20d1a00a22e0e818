//! From rows to the age file's bytes, on a thread that may block. Nothing waits here but one page of
//! rows, one part and a few chunks, so memory does not grow with the vault; who reads slowly makes
//! everything before it wait.

use std::{
    io::{self, Write},
    time::Duration,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use vault_backup::{Facts, Manifest, Recipients, Table, Writer};

use super::Event;
use crate::error::{Error, Result};
use crate::fault::crash_point;

/// Bytes of one chunk.
const CHUNK: usize = 256 * 1024;
/// How long a reader may take to take one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows of one table.
pub(super) type Rows = (Table, Vec<Vec<u8>>);

/// A backup that is being written.
pub(super) struct Archive {
    rows: mpsc::Sender<Rows>,
    written: JoinHandle<io::Result<Written>>,
}

/// A backup that was written, to its last byte.
pub(super) struct Written {
    pub(super) manifest: Manifest,
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Archive {
    /// Begins one; its bytes go to `out`.
    pub(super) fn begin(
        recipients: Recipients,
        facts: Facts,
        out: mpsc::Sender<Event>,
        stopping: CancellationToken,
    ) -> Self {
        let (rows, mut more) = mpsc::channel::<Rows>(1);
        let runtime = Handle::current();
        let written = tokio::task::spawn_blocking(move || {
            let chunks = Chunks {
                runtime,
                out,
                stopping,
                chunk: Vec::with_capacity(CHUNK),
                size: 0,
                hash: Sha256::new(),
            };
            let mut writer = Writer::begin(&recipients, facts, chunks)?;
            let mut ended = false;
            while let Some((table, lines)) = more.blocking_recv() {
                // The last word of a snapshot that was read to its end.
                ended = table == Table::Audit && lines.is_empty();
                for line in lines {
                    writer.row(table, &line)?;
                }
            }
            if !ended {
                return Err(io::Error::other("the snapshot was not read to its end"));
            }
            let (manifest, chunks) = writer.finish()?;
            let Chunks { size, hash, .. } = chunks;
            Ok(Written { manifest, size, sha256: hex::encode(hash.finalize()) })
        });
        Self { rows, written }
    }

    /// Hands over rows; `false` where the writer has ended: [`Archive::end`] says why.
    pub(super) async fn rows(&self, table: Table, lines: Vec<Vec<u8>>) -> bool {
        self.rows.send((table, lines)).await.is_ok()
    }

    /// Ends it: the last rows of the audit log were handed over, where `whole`.
    pub(super) async fn end(self, whole: bool) -> Result<Written> {
        if whole {
            self.rows(Table::Audit, Vec::new()).await;
        }
        drop(self.rows);
        let written = self.written.await.map_err(|e| Error::internal("write", "a backup", e))?;
        written.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Error::internal("write", "a backup", error),
            _ => Error::unavailable("write", "a backup", error)
                .hint("nothing is left of it; begin again"),
        })
    }
}

/// Collects bytes, and sends them on chunk by chunk.
struct Chunks {
    runtime: Handle,
    out: mpsc::Sender<Event>,
    stopping: CancellationToken,
    chunk: Vec<u8>,
    size: u64,
    hash: Sha256,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        crash_point!("backup.chunk");
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.size += chunk.len() as u64;
        self.hash.update(&chunk);
        let chunk = Event::Data(Bytes::from(chunk));
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => Err(io::Error::other("the vault is stopping")),
                sent = self.out.send_timeout(chunk, PATIENCE) => {
                    sent.map_err(|_| io::Error::other("its reader has hung up or does not read"))
                }
            }
        })
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..CHUNK - self.chunk.len()).unwrap_or(bytes);
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() >= CHUNK {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
