//! The one pass over a backup: its rows into the store, its keys into the token.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::Sender;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use vault_backup::{Entry, Fault, KeyEntry, Manifest, Reader, Row, Table, drill::Event};
use vault_proto::audit::Chain;

use super::{
    Say,
    keys::{Keys, Line},
};
use crate::error::{Error, ErrorKind, Result};
use crate::keystore::pkcs11::Recovery;
use crate::store::{Columns, Restoration};

/// Rows that are written at once.
const PAGE: usize = 128;
/// Pages that wait for the store.
const AHEAD: usize = 4;

/// A table's rows and a hash over all of them.
#[derive(Default, Clone)]
pub(super) struct Digest {
    /// How many.
    pub(super) rows: u64,
    hash: Sha256,
}

impl Digest {
    /// Takes the next row.
    ///
    /// # Errors
    /// Never for columns.
    pub(super) fn take(&mut self, row: &Columns) -> Result<()> {
        let line =
            serde_json::to_vec(row).map_err(|e| Error::internal("hash", "a row of a backup", e))?;
        self.hash.update((line.len() as u64).to_be_bytes());
        self.hash.update(line);
        self.rows += 1;
        Ok(())
    }

    /// The hash.
    pub(super) fn value(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }
}

/// What a pass has found.
pub(super) struct Done {
    /// The manifest, or why the archive does not hold.
    pub(super) archive: Result<Manifest, Fault>,
    /// What went into the store.
    pub(super) tables: BTreeMap<Table, Digest>,
    /// The audit log's chain.
    pub(super) audit: Chain,
    /// Why the store has not taken it.
    pub(super) refused: Option<Error>,
    /// What became of the wrapped keys.
    pub(super) keys: Keys,
    /// Seconds that the HSM was busy.
    pub(super) hsm: f64,
}

/// What reads.
struct Reading {
    reader: Reader<BufReader<File>>,
    rows: mpsc::Sender<(Table, Vec<Columns>)>,
    keys: Sender<Box<KeyEntry>>,
    done: Arc<AtomicU64>,
    say: Say,
    tables: BTreeMap<Table, Digest>,
    audit: Chain,
}

/// Why reading has ended before the backup's end.
enum Stopped {
    Fault(Fault),
    /// Whom it hands over to has ended, and knows better why.
    Elsewhere,
}

/// Goes through the backup; the store has all of it at the end, or nothing.
///
/// # Errors
/// Those of this machine: `Unavailable` where token or scratch directory is.
pub(super) async fn pass(
    reader: Reader<BufReader<File>>,
    mut restoration: Box<dyn Restoration>,
    recovery: Option<Recovery>,
    say: &Say,
) -> Result<Done> {
    let (rows, mut pages) = mpsc::channel(AHEAD);
    let line = Line::start(recovery, say);
    let mut reading = Reading {
        reader,
        rows,
        keys: line.keys.clone(),
        done: line.done.clone(),
        say: say.clone(),
        tables: BTreeMap::new(),
        audit: Chain::default(),
    };
    let read = tokio::task::spawn_blocking(move || {
        let read = reading.all();
        (read, reading.tables, reading.audit)
    });
    let mut refused: Option<Error> = None;
    while let Some((table, page)) = pages.recv().await {
        if refused.is_none() {
            refused = restoration.put(table, &page).await.err();
        }
        // A scratch disk that is full: it says nothing about the backup.
        if refused.as_ref().is_some_and(|error| error.kind == ErrorKind::Unavailable) {
            break;
        }
    }
    drop(pages);
    let lost = |e| Error::internal("read", "a backup", e);
    let (read, tables, audit) = read.await.map_err(lost)?;
    let (keys, busy) = tokio::task::spawn_blocking(move || line.end()).await.map_err(lost)??;
    if let Some(error) = refused.take_if(|error| error.kind == ErrorKind::Unavailable) {
        return Err(error);
    }
    let archive = match read {
        Ok(manifest) => Ok(manifest),
        Err(Stopped::Fault(fault)) => Err(fault),
        Err(Stopped::Elsewhere) => {
            return Err(Error::internal("read", "a backup", "the drill has ended before it"));
        }
    };
    if archive.is_ok() && refused.is_none() {
        restoration.commit().await?;
    }
    Ok(Done { archive, tables, audit, refused, keys, hsm: busy.as_secs_f64() })
}

impl Reading {
    fn all(&mut self) -> Result<Manifest, Stopped> {
        let (mut table, mut page) = (Table::Settings, Vec::new());
        while let Some(Row { table: next, line, entry }) =
            self.reader.row().map_err(Stopped::Fault)?
        {
            if next != table || page.len() >= PAGE {
                self.hand_over(table, std::mem::take(&mut page))?;
                table = next;
            }
            if table == Table::Audit {
                self.audit(&line)?;
                continue;
            }
            let row = columns(table, &line)?;
            self.tables.entry(table).or_default().take(&row).map_err(internal)?;
            page.push(row);
            if let Entry::Key(key) = entry
                && key.wrapped.is_some()
                && self.keys.send(key).is_err()
            {
                return Err(Stopped::Elsewhere);
            }
        }
        self.hand_over(table, page)?;
        let end = || Stopped::Fault(Fault::broken("manifest.json", "it was not reached"));
        self.reader.manifest().cloned().ok_or_else(end)
    }

    fn audit(&mut self, line: &str) -> Result<(), Stopped> {
        let taken = self.audit.take(line.as_bytes());
        taken.map_err(|why| Stopped::Fault(Fault::broken("audit log", why)))?;
        if self.audit.records.is_multiple_of(1024) {
            self.progress();
        }
        Ok(())
    }

    fn hand_over(&self, table: Table, page: Vec<Columns>) -> Result<(), Stopped> {
        self.progress();
        if page.is_empty() {
            return Ok(());
        }
        self.rows.blocking_send((table, page)).map_err(|_| Stopped::Elsewhere)
    }

    fn progress(&self) {
        let keys = self.done.load(Ordering::Relaxed);
        (self.say)(Event::Progress { bytes: self.reader.position(), keys });
    }
}

fn internal(error: Error) -> Stopped {
    Stopped::Fault(Fault::broken("a row", error.why))
}

/// A row's columns; a key's stand beside its status.
fn columns(table: Table, line: &str) -> Result<Columns, Stopped> {
    let broken = |e: serde_json::Error| Stopped::Fault(Fault::broken(table.as_str(), e));
    let mut row: Columns = serde_json::from_str(line).map_err(broken)?;
    if table == Table::Keys {
        let inner = row.remove("row").unwrap_or_default();
        return serde_json::from_value(inner).map_err(broken);
    }
    Ok(row)
}
