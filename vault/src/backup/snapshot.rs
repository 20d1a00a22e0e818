//! A backup: one consistent read of the store, every escrowed key wrapped inside the HSM, the audit
//! log up to its checkpoint.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use vault_backup::{Checkpoint, Facts, Kek, KeyStatus, Manifest, Recipients, Table, Wrapped};
use vault_proto::ids::{BackupId, KeyId};

use super::archive::{Archive, Written};
use crate::audit::{AuditLog, Entry, LogStatus, Outcome};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::keystore::{WrapMechanism, WrappedKey};
use crate::policy::{Action, Principal};
use crate::settings::Vault;
use crate::signing::{Escrowed, MOST_WRAPPED, Signing};
use crate::store::{BackupRecord, BackupState, Columns, KeyState, Snapshot, Store};

/// Pages of keys that are wrapped at once.
const AT_ONCE: usize = 2;

/// What a backup's reader gets, in this order: bytes and words about keys, and one summary.
#[derive(Debug)]
pub enum Event {
    /// The next bytes of the age file.
    Data(Bytes),
    /// A key in use that is not escrowed.
    LeftOut(LeftOut),
}

/// A key that a restore will not have.
#[derive(Debug)]
pub struct LeftOut {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it may sign.
    pub purpose: String,
}

/// What was made.
#[derive(Debug)]
pub struct Summary {
    /// Under which id it is on record.
    pub id: BackupId,
    /// As it stands in it.
    pub manifest: Manifest,
    /// Bytes of the age file.
    pub size: u64,
    /// SHA-256 over them, lower-case hex.
    pub sha256: String,
}

/// Makes backups, one at a time.
#[derive(Clone)]
pub struct Backups {
    store: Arc<dyn Store>,
    signing: Signing,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    recipients: Vec<String>,
    busy: Arc<Mutex<()>>,
}

/// What is handed from page to page.
struct Making<'a> {
    who: &'a Principal,
    archive: &'a Archive,
    out: &'a mpsc::Sender<Event>,
    stopping: &'a CancellationToken,
}

impl Backups {
    /// Over these; `recipients` are those of the configuration.
    pub fn new(
        store: Arc<dyn Store>,
        signing: Signing,
        audit: AuditLog,
        clock: Arc<dyn Clock>,
        recipients: Vec<String>,
    ) -> Self {
        Self { store, signing, audit, clock, recipients, busy: Arc::default() }
    }

    /// Whom a backup is encrypted to: those who are named, else those of the configuration.
    ///
    /// # Errors
    /// `Invalid` where there is none, or naming one that is malformed.
    pub fn recipients(&self, named: &[String]) -> Result<Recipients> {
        let list = if named.is_empty() { &self.recipients } else { named };
        Recipients::parse(list).map_err(|fault| {
            Error::invalid("make", "a backup", fault).hint(
                "name those who may open it with --recipient age1..., or set recipients in \
                 [backup] of vault.toml; `age-keygen -y` prints an identity's recipient",
            )
        })
    }

    /// Makes a backup and hands it out. Its bytes go to `out`; it counts once this has answered, and
    /// is on the audit log and on record then.
    ///
    /// # Errors
    /// `Exhausted` where another one is being made, `Conflict` where the token's KEK is not the
    /// store's, `Unavailable` where HSM, store, audit log or reader is, or the vault stops.
    pub async fn create(
        &self,
        who: &Principal,
        recipients: Recipients,
        out: mpsc::Sender<Event>,
        stopping: CancellationToken,
    ) -> Result<Summary> {
        self.create_at("", who, recipients, out, stopping).await
    }

    /// Makes a backup that is put at `location`; it is on record as [`BackupState::Storing`] then.
    pub(super) async fn create_at(
        &self,
        location: &str,
        who: &Principal,
        recipients: Recipients,
        out: mpsc::Sender<Event>,
        stopping: CancellationToken,
    ) -> Result<Summary> {
        let _alone = self.busy.try_lock().map_err(|_| {
            Error::exhausted("make", "a backup", "another one is being made")
                .retry_after(Duration::from_secs(30))
        })?;
        let detail = match location {
            "" => json!({ "recipients": recipients.names() }),
            _ => json!({ "recipients": recipients.names(), "location": location }),
        };
        let operation = self
            .audit
            .intent(Entry {
                principal: who.to_string(),
                action: Action::BackupCreate.as_str().to_owned(),
                resource: "backup".to_owned(),
                detail: detail.into(),
                grouped: false,
            })
            .await?;
        let made = self.make(who, recipients, out, &stopping).await;
        let (outcome, detail) = Outcome::of(&made, |Summary { manifest, size, sha256, .. }| {
            let Manifest { facts, counts, .. } = manifest;
            json!({
                "created_at": facts.created_at.format(&Rfc3339).ok(), "size": size,
                "sha256": sha256, "audit": facts.audit, "counts": counts,
            })
        });
        self.audit.finish(operation, outcome, detail).await?;
        if let Ok(summary) = &made {
            self.store.insert_backup(&record(summary, location)).await?;
        }
        made
    }

    async fn make(
        &self,
        who: &Principal,
        recipients: Recipients,
        out: mpsc::Sender<Event>,
        stopping: &CancellationToken,
    ) -> Result<Summary> {
        let mut snapshot = self.store.snapshot().await?;
        // The first page fixes what is read. What stands in the store was on the audit log before,
        // so the log as it is after that has all of it.
        let first = snapshot.page(Table::Settings).await?;
        let log = self.audit.status();
        let facts = self.facts(&first, &log).await?;
        let kek = facts.kek.as_ref().map(|kek| kek.id);
        let archive = Archive::begin(recipients, facts, out.clone(), stopping.clone());
        let making = Making { who, archive: &archive, out: &out, stopping };
        let read = self.read(&making, snapshot, first, log).await;
        // Where the writer has ended, it knows better why.
        let written = archive.end(read.is_ok()).await;
        let Written { manifest, size, sha256 } = match (read, written) {
            (Err(Unread::Failed(error)), _) => return Err(error),
            (Err(Unread::WriterEnded), Ok(_)) => {
                return Err(Error::unavailable("make", "a backup", "its writer has ended"));
            }
            (Ok(()), Ok(written)) => written,
            // The writer takes no key that is wrapped by another KEK than the store's. The token is
            // asked only then: to find its KEK takes it longer than to wrap a thousand keys.
            (_, Err(error)) => {
                return match self.signing.kek().await {
                    Ok(found) if found.as_ref().map(|found| found.id) != kek => Err(replaced()),
                    _ => Err(error),
                };
            }
        };
        Ok(Summary { id: BackupId::random(), manifest, size, sha256 })
    }

    async fn facts(&self, settings: &[Columns], log: &LogStatus) -> Result<Facts> {
        let vault = Vault::in_rows(settings)?;
        Ok(Facts {
            format: vault_backup::FORMAT.to_owned(),
            version: vault_backup::VERSION,
            vault_id: vault.id,
            created_at: self.clock.now(),
            software: concat!("vaultd ", env!("CARGO_PKG_VERSION")).to_owned(),
            schema_version: self.store.ping().await?,
            kek: vault.kek.map(|kek| Kek {
                id: kek.id,
                check_value: kek.check_value,
                threshold: kek.threshold,
                custodians: kek.custodians,
            }),
            audit: Checkpoint { sequence: log.records, head: log.head.clone() },
        })
    }

    /// Reads everything, page by page.
    async fn read(
        &self,
        making: &Making<'_>,
        mut snapshot: Box<dyn Snapshot>,
        first: Vec<Columns>,
        log: LogStatus,
    ) -> Result<(), Unread> {
        let mut page = first;
        for table in Table::ALL.iter().copied().filter(|table| *table != Table::Audit) {
            if table == Table::Keys {
                self.all_keys(making, snapshot.as_mut()).await?;
                continue;
            }
            if table != Table::Settings {
                page = snapshot.page(table).await?;
            }
            while !page.is_empty() {
                let lines = page.iter().map(line).collect::<Result<_>>()?;
                making.hand_over(table, lines).await?;
                page = snapshot.page(table).await?;
            }
        }
        drop(snapshot);
        let mut lines = self.audit.copy(log);
        while let Some(lines) = lines.recv().await {
            making.hand_over(Table::Audit, lines?).await?;
        }
        Ok(())
    }

    /// Every key, in order. What the HSM does for some goes on while others are on their way to the
    /// audit log's disk.
    async fn all_keys(
        &self,
        making: &Making<'_>,
        snapshot: &mut dyn Snapshot,
    ) -> Result<(), Unread> {
        let mut under_way = FuturesOrdered::new();
        let mut more = true;
        loop {
            while more && under_way.len() < AT_ONCE {
                let page = snapshot.page(Table::Keys).await?;
                more = !page.is_empty();
                if more {
                    under_way.push_back(self.keys(making, page).boxed());
                }
            }
            let Some(lines) = under_way.next().await else { return Ok(()) };
            making.hand_over(Table::Keys, lines?).await?;
        }
    }

    /// Keys' lines: each row with its status and, where it is escrowed, its wrapped private half.
    async fn keys(
        &self,
        making: &Making<'_>,
        mut page: Vec<Columns>,
    ) -> Result<Vec<Vec<u8>>, Unread> {
        let mut lines = Vec::new();
        for rows in page.chunks_mut(MOST_WRAPPED) {
            let mut escrowed = Vec::new();
            for row in rows.iter() {
                if status(row) == KeyStatus::Wrapped {
                    let id: KeyId = text(row, "id").parse().map_err(Error::from)?;
                    escrowed.push((id, text(row, "name").to_owned()));
                }
            }
            let mut wrapped = match escrowed.is_empty() {
                true => Vec::new(),
                false => self.signing.wrap(making.who, &escrowed).await?,
            }
            .into_iter();
            for row in rows {
                let mut blob = None;
                if status(row) == KeyStatus::Wrapped {
                    match wrapped.next() {
                        Some(Escrowed::Wrapped(key)) => blob = Some(as_written(&key)),
                        Some(Escrowed::Gone(state)) => change_state(row, state),
                        None => {
                            return Err(Error::internal("wrap", "keys", "one has no answer").into());
                        }
                    }
                }
                let status = status(row);
                if status == KeyStatus::Reissue {
                    making.left_out(row).await?;
                }
                lines.push(line(&json!({ "row": row, "status": status, "wrapped": blob }))?);
            }
        }
        Ok(lines)
    }
}

/// Why not everything was read.
enum Unread {
    /// Nobody takes it any more; the writer's own error says more than this.
    WriterEnded,
    Failed(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Making<'_> {
    async fn hand_over(&self, table: Table, lines: Vec<Vec<u8>>) -> Result<(), Unread> {
        if self.stopping.is_cancelled() || self.out.is_closed() {
            return Err(Error::unavailable(
                "make",
                "a backup",
                "the vault is stopping, or its reader has hung up",
            )
            .into());
        }
        match self.archive.rows(table, lines).await {
            true => Ok(()),
            false => Err(Unread::WriterEnded),
        }
    }

    async fn left_out(&self, row: &Columns) -> Result<(), Unread> {
        let column = |name: &str| text(row, name).to_owned();
        let left_out =
            LeftOut { id: column("id"), name: column("name"), purpose: column("purpose") };
        self.out.send(Event::LeftOut(left_out)).await.map_err(|_| Unread::WriterEnded)
    }
}

fn record(summary: &Summary, location: &str) -> BackupRecord {
    let Manifest { facts, counts, .. } = &summary.manifest;
    BackupRecord {
        id: summary.id,
        created_at: facts.created_at,
        size: summary.size,
        sha256: summary.sha256.clone(),
        counts: counts.clone(),
        kek_check_value: facts.kek.as_ref().map_or(String::new(), |kek| kek.check_value.clone()),
        audit_sequence: facts.audit.sequence,
        audit_head: facts.audit.head.clone(),
        location: location.to_owned(),
        state: match location {
            "" => BackupState::HandedOut,
            _ => BackupState::Storing,
        },
    }
}

fn replaced() -> Error {
    Error::conflict("make", "a backup", "the token's KEK is not the one that the store names")
        .hint("where the KEK is being replaced, begin again once that is done")
}

fn text<'a>(row: &'a Columns, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

fn status(row: &Columns) -> KeyStatus {
    match (text(row, "state"), text(row, "escrow")) {
        ("active" | "retired", "wrapped") => KeyStatus::Wrapped,
        ("active" | "retired", _) => KeyStatus::Reissue,
        _ => KeyStatus::Gone,
    }
}

fn change_state(row: &mut Columns, state: KeyState) {
    row.insert("state".to_owned(), Value::from(state.as_str()));
}

fn as_written(key: &WrappedKey) -> Wrapped {
    let mechanism = match key.mechanism {
        WrapMechanism::AesKeyWrapPad => "aes-key-wrap-pad",
        WrapMechanism::AesCbcPad => "aes-cbc-pad",
    };
    Wrapped {
        mechanism: mechanism.to_owned(),
        kek: key.kek,
        iv: B64.encode(&key.iv),
        blob: B64.encode(&key.blob),
    }
}

fn line(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("write", "a row of a backup", e))
}
