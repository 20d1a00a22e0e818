//! A backup's rows into the store, in one transaction, together with what makes them this vault's.

use serde_json::Value;
use tokio::sync::mpsc;
use vault_backup::{Manifest, Row, Table};

use super::{
    marks::OF_THE_STORE,
    source::{Source, fault},
};
use crate::error::{Error, Result};
use crate::settings::{VAULT, Vault};
use crate::store::{Columns, Store};

/// Rows that are put at once.
const TOGETHER: usize = 128;

/// What is not as the backup has it.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    /// The new token's serial number.
    pub(super) token_serial: String,
    /// Facts of this store: names and values.
    pub(super) facts: Vec<(&'static str, String)>,
}

type Batch = (Table, Vec<Columns>);

/// Puts everything; where this fails, there is nothing of it.
///
/// # Errors
/// `Conflict` where a vault is in the store, `Verification` where the backup is not `manifest`'s any
/// more, and those of the store.
pub(super) async fn put(
    store: &dyn Store,
    source: Source,
    manifest: &Manifest,
    changes: Changes,
    mut progress: impl FnMut(u64),
) -> Result<()> {
    let mut restoration = store.restoration().await?;
    let facts = changes.facts.iter().map(|(name, value)| fact(name, value));
    restoration.put(Table::Settings, &facts.collect::<Vec<_>>()).await?;
    let (sender, mut batches) = mpsc::channel::<Batch>(1);
    let reading = tokio::task::spawn_blocking(move || read(&source, &changes, &sender));
    let mut done = 0;
    while let Some((table, rows)) = batches.recv().await {
        restoration.put(table, &rows).await?;
        done += rows.len() as u64;
        progress(done);
    }
    let read = reading.await.map_err(|e| Error::internal("read", "the backup", e))??;
    if read != *manifest {
        return Err(Error::verification("restore", "the backup", "it has changed meanwhile"));
    }
    crate::fault::crash_point!("restore.rows");
    restoration.commit().await
}

fn fact(name: &str, value: &str) -> Columns {
    let columns = [("name", name), ("value", value)];
    columns.into_iter().map(|(column, text)| (column.to_owned(), Value::from(text))).collect()
}

/// Reads to the end; answers the manifest there.
fn read(source: &Source, changes: &Changes, batches: &mpsc::Sender<Batch>) -> Result<Manifest> {
    let mut reader = source.open()?;
    let mut batch: Batch = (Table::Settings, Vec::new());
    while let Some(row) = reader.row().map_err(fault)? {
        if row.table == Table::Audit {
            continue;
        }
        if batch.0 != row.table || batch.1.len() >= TOGETHER {
            let full = std::mem::replace(&mut batch, (row.table, Vec::new()));
            if batches.blocking_send(full).is_err() {
                return Err(Error::internal("restore", "the backup's rows", "nobody takes them"));
            }
        }
        batch.1.extend(columns(&row, changes)?);
    }
    let _ = batches.blocking_send(batch);
    let unread = || Error::internal("restore", "the backup", "its end was not reached");
    reader.manifest().cloned().ok_or_else(unread)
}

/// A row as the store has it; none where it is not the vault's.
fn columns(row: &Row, changes: &Changes) -> Result<Option<Columns>> {
    let wrong = |e: serde_json::Error| Error::verification("read", "a row of the backup", e);
    let mut columns: Columns = serde_json::from_str(&row.line).map_err(wrong)?;
    match row.table {
        Table::Keys => {
            // The line has the key's status and its wrapped half beside the row.
            let inner = columns.remove("row");
            return serde_json::from_value(inner.unwrap_or_default()).map(Some).map_err(wrong);
        }
        Table::Settings => {
            let name = columns.get("name").and_then(Value::as_str).unwrap_or_default();
            if OF_THE_STORE.contains(&name) {
                return Ok(None);
            }
            if name == VAULT {
                let mut vault = Vault::in_rows(std::slice::from_ref(&columns))?;
                vault.token_serial.clone_from(&changes.token_serial);
                let text = serde_json::to_string(&vault).map_err(wrong)?;
                columns.insert("value".to_owned(), Value::from(text));
            }
        }
        _ => {}
    }
    Ok(Some(columns))
}
