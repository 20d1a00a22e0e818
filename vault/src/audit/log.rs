//! The log's handle: intents, results and events, durable when the call returns.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};
use futures_util::future::BoxFuture;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot};
use vault_proto::ids::OperationId;

use super::draft::{Deed, Draft};
use super::event::{Entry, Outcome, Phase, Record, Stored};
use super::verify::{self, VerifyReport};
use super::writer::{Request, Said, Shared, Sync, Told, Writer};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// How many records a slow follower may lag behind before it reads the file again.
const FOLLOWERS: usize = 1024;

/// How much a record may say, in bytes of JSON: far less than a line that is read.
const MOST_SAID: usize = 64 * 1024;

/// How a log is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Records that may wait to be written; past that callers are refused.
    pub queue: usize,
    /// How long a record may take to be written.
    pub deadline: Duration,
    /// When records reach the disk.
    pub sync: Sync,
}

/// What opening found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Intents without a result: the vault stopped in between.
    pub pending: Vec<Record>,
    /// Where the bytes of a torn last line went.
    pub torn_tail: Option<PathBuf>,
}

/// How the log is now.
#[derive(Debug, Clone, Default)]
pub struct LogStatus {
    /// Whether the last write succeeded.
    pub writable: bool,
    /// Records on disk.
    pub records: u64,
    /// The last record's hash, lower-case hex.
    pub head: String,
}

/// An audited intent whose result is still to be written.
#[must_use = "an intent without a result counts as uncertain"]
#[derive(Debug)]
pub struct Operation {
    id: OperationId,
    deed: Arc<Deed>,
}

impl Operation {
    fn begin(entry: Entry) -> Result<(Self, Draft)> {
        let (id, (deed, detail)) = (OperationId::random(), Deed::of(entry));
        let intent = Draft::intent(id, deed.clone(), detail)?;
        Ok((Self { id, deed }, intent))
    }

    fn end(self, outcome: Outcome, detail: Value) -> Result<Draft> {
        Draft::result(Some(self.id.to_string()), self.deed, outcome, detail.into())
    }
}

/// The audit log. Cheap to clone; the file is closed with the last clone.
#[derive(Clone)]
pub struct AuditLog {
    queue: Sender<Told>,
    writer: Shared,
    groups: bool,
    pub(super) path: Arc<Path>,
    status: Arc<Mutex<LogStatus>>,
    pub(super) followers: broadcast::Sender<Stored>,
    deadline: Duration,
}

impl AuditLog {
    /// Opens or creates a log (mode 0600), checks its whole chain and takes its lock.
    ///
    /// # Errors
    /// `Verification` where the chain does not hold, `Conflict` where another process has the
    /// log, `Unavailable` where it cannot be read or written.
    pub fn open(path: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<(Self, Recovery)> {
        let name = path.display().to_string();
        let subject = || format!("audit log {name}");
        let unavailable = |e: std::io::Error| {
            Error::unavailable("open", subject(), e)
                .hint("check [audit] path in vault.toml and who may write there")
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(unavailable)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::conflict("open", subject(), "another process has it")
                .hint("is another vaultd running on the same state?")
        })?;
        let scan = verify::scan(path)?;
        if let Some(problem) = scan.report.problem {
            return Err(Error::verification("open", subject(), problem).hint(
                "the log was changed after it was written: keep it as evidence, find out by whom, \
                 then begin a new one",
            ));
        }
        let torn_tail = match scan.torn.is_empty() {
            true => None,
            false => {
                Some(set_aside(path, &file, scan.good_bytes, &scan.torn).map_err(unavailable)?)
            }
        };
        sync_directory(path).map_err(unavailable)?;
        file.seek(SeekFrom::Start(scan.good_bytes)).map_err(unavailable)?;
        let status = LogStatus {
            writable: true,
            records: scan.report.records,
            head: scan.report.head.clone(),
        };
        let status = Arc::new(Mutex::new(status));
        let (followers, _) = broadcast::channel(FOLLOWERS);
        let (queue, requests) = bounded(options.queue.max(1));
        let writer = Writer {
            file: Arc::new(file),
            name: name.clone(),
            length: scan.good_bytes,
            sequence: scan.report.records,
            head: scan.report.head,
            clock,
            status: status.clone(),
            followers: followers.clone(),
            torn: false,
            sync: options.sync,
            distrusted: false,
            unsynced: None,
        };
        let writer = Shared::start(writer, requests).map_err(unavailable)?;
        let groups = options.sync != Sync::Each;
        let (path, deadline) = (path.into(), options.deadline);
        let log = Self { queue, writer, groups, path, status, followers, deadline };
        Ok((log, Recovery { pending: scan.pending, torn_tail }))
    }

    /// Records that something is about to be done. On disk when this returns.
    ///
    /// # Errors
    /// `Unavailable` where the log cannot be written, `Exhausted` where too much waits for it,
    /// `Invalid` where there is too much to say: then nothing may be done.
    pub async fn intent(&self, entry: Entry) -> Result<Operation> {
        let (operation, draft) = Operation::begin(entry)?;
        self.write(draft).await?;
        Ok(operation)
    }

    /// Records how it ended.
    ///
    /// # Errors
    /// As [`AuditLog::intent`]: then what was done must not be handed out.
    pub async fn finish(&self, op: Operation, outcome: Outcome, detail: Value) -> Result<()> {
        self.write(op.end(outcome, detail)?).await
    }

    /// Ends an intent of an earlier run, found in [`Recovery::pending`].
    ///
    /// # Errors
    /// As [`AuditLog::intent`].
    pub async fn conclude_pending(
        &self,
        intent: &Record,
        outcome: Outcome,
        detail: Value,
    ) -> Result<()> {
        let (deed, detail) = Deed::of(Entry {
            principal: intent.principal.clone(),
            action: intent.action.clone(),
            resource: intent.resource.clone(),
            detail: detail.into(),
            grouped: false,
        });
        self.write(Draft::result(intent.operation.clone(), deed, outcome, detail)?).await
    }

    /// Records something that has one side only.
    ///
    /// # Errors
    /// As [`AuditLog::intent`].
    pub async fn event(&self, entry: Entry) -> Result<()> {
        self.write(Draft::event(entry)?).await
    }

    /// Tries a log that could not be written, with a record that says so.
    ///
    /// # Errors
    /// As [`AuditLog::intent`]: it still cannot be written.
    pub async fn resume(&self) -> Result<()> {
        self.event(Entry {
            principal: "vault:audit".to_owned(),
            action: "audit.resume".to_owned(),
            resource: "audit".to_owned(),
            detail: json!({ "found": "the log could not be written before this record" }).into(),
            grouped: false,
        })
        .await
    }

    /// How the log is now.
    pub fn status(&self) -> LogStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Recomputes the chain of what is on disk.
    ///
    /// # Errors
    /// Where the file cannot be read; a broken chain is in the report.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let path = self.path.clone();
        let scanned = tokio::task::spawn_blocking(move || verify::scan(&path)).await;
        let scan = scanned.map_err(|e| Error::internal("verify", "the audit log", e))??;
        Ok(scan.report)
    }

    /// Whether records of [`Entry::grouped`] entries need no sync of their own, so that whoever may
    /// block writes them himself.
    pub fn groups(&self) -> bool {
        self.groups
    }

    /// Says that something is about to be done. It may be done once that is [settled](AuditLog::settle).
    ///
    /// # Errors
    /// `Invalid` where there is too much to say.
    pub fn say_intent(&self, entry: Entry) -> Result<(Operation, Said)> {
        let (operation, draft) = Operation::begin(entry)?;
        Ok((operation, self.say(draft)?))
    }

    /// Says how it ended. What was done may be handed out once that is [settled](AuditLog::settle).
    ///
    /// # Errors
    /// `Internal` where it cannot be said.
    pub fn say_result(&self, op: Operation, outcome: Outcome, detail: Value) -> Result<Said> {
        self.say(op.end(outcome, detail)?)
    }

    fn say(&self, mut draft: Draft) -> Result<Said> {
        self.bound(&mut draft)?;
        Ok(self.writer.say(draft))
    }

    /// Writes what was said, with all that others have said meanwhile, on this thread, which blocks until it
    /// is done.
    ///
    /// # Errors
    /// `Unavailable` where the log cannot be written.
    pub fn settle(&self, said: &Said) -> Result<()> {
        if self.writer.settle(said)? {
            // A full queue has the thread look, too.
            let _ = self.queue.try_send(Told::Unsynced);
        }
        Ok(())
    }

    /// As [`AuditLog::intent`], on this thread, which blocks meanwhile.
    ///
    /// # Errors
    /// As [`AuditLog::intent`].
    pub fn intent_blocking(&self, entry: Entry) -> Result<Operation> {
        let (operation, said) = self.say_intent(entry)?;
        self.settle(&said)?;
        Ok(operation)
    }

    /// As [`AuditLog::finish`], on this thread, which blocks meanwhile.
    ///
    /// # Errors
    /// As [`AuditLog::finish`].
    pub fn finish_blocking(&self, op: Operation, outcome: Outcome, detail: Value) -> Result<()> {
        let said = self.say_result(op, outcome, detail)?;
        self.settle(&said)
    }

    /// No record says more than a line that is read can hold.
    fn bound(&self, draft: &mut Draft) -> Result<()> {
        let said = draft.said();
        if said > MOST_SAID {
            if draft.phase == Phase::Intent {
                let why = format!("the record of this would have {said} bytes");
                let subject = format!("audit log {}", self.path.display());
                return Err(Error::invalid("write", subject, why).hint("ask for less at once"));
            }
            // What has happened must be on the log.
            draft.cut()?;
        }
        Ok(())
    }

    /// Has it written, on the heap: what waits for a disk shall take no room in what is done thousands of
    /// times a second.
    fn write(&self, draft: Draft) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.hand_over(draft))
    }

    async fn hand_over(&self, mut draft: Draft) -> Result<()> {
        let subject = || format!("audit log {}", self.path.display());
        self.bound(&mut draft)?;
        let (done, answer) = oneshot::channel();
        self.queue.try_send(Told::Write(Request { draft, done })).map_err(|_| {
            Error::exhausted("write", subject(), "too many records wait to be written")
                .retry_after(Duration::from_secs(1))
        })?;
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::unavailable("write", subject(), "its writer has ended")),
            Err(_) => {
                Err(Error::unavailable("write", subject(), "the disk did not answer in time")
                    .hint("nothing is signed until it does"))
            }
        }
    }
}

/// Moves a torn tail, which was never acknowledged, out of the log.
fn set_aside(path: &Path, file: &File, good: u64, torn: &[u8]) -> std::io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".torn-{}", time::OffsetDateTime::now_utc().unix_timestamp()));
    let aside = PathBuf::from(name);
    fs::write(&aside, torn)?;
    file.set_len(good)?;
    file.sync_all()?;
    Ok(aside)
}

/// Syncs the directory that a log is in, so that its name is durable.
///
/// # Errors
/// Where that cannot be done.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// What `Recovery` says as an audit detail.
impl Recovery {
    /// For the record that the vault writes about its own start.
    pub fn detail(&self) -> Value {
        json!({
            "pending_intents": self.pending.len(),
            "torn_tail": self.torn_tail.as_ref().map(|path| path.display().to_string()),
        })
    }
}
