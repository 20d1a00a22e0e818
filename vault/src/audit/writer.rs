//! What writes the file: one thread, which takes what waits, writes it at once, syncs once and
//! answers all; and whoever may block and writes a record that needs no sync of its own.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::{broadcast, oneshot};
use vault_proto::audit::hash;

use super::draft::Draft;
use super::event::Stored;
use super::log::LogStatus;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Records written with one sync at most.
const BATCH: usize = 512;

/// When records reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Each batch at once, before any of its operations goes on: nothing that was recorded is lost
    /// by a power failure.
    Each,
    /// Grouped records ([`Entry::grouped`](super::Entry::grouped)) within this time. A crash of the vault loses none of
    /// them, since they are written; a power failure loses those of this time at most.
    Interval(Duration),
}

/// What the thread is told.
pub(super) enum Told {
    /// To write.
    Write(Request),
    /// Somebody else has written what is to be synced within the interval.
    Unsynced,
}

/// A draft and who waits for it.
pub(super) struct Request {
    pub(super) draft: Draft,
    pub(super) done: oneshot::Sender<Result<()>>,
}

/// The file and the chain's head.
pub(super) struct Writer {
    pub(super) file: Arc<File>,
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) sequence: u64,
    pub(super) head: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Mutex<LogStatus>>,
    pub(super) followers: broadcast::Sender<Stored>,
    /// Set after a failed write: what is behind `length` must go before anything is added.
    pub(super) torn: bool,
    /// When records reach the disk.
    pub(super) sync: Sync,
    /// A sync has failed: the next batch is synced whatever it holds.
    pub(super) distrusted: bool,
    /// Since when there is something written that is not synced.
    pub(super) unsynced: Option<Instant>,
}

/// The writer, shared by the thread and those who write for themselves.
#[derive(Clone)]
pub(super) struct Shared {
    writer: Arc<Mutex<Writer>>,
    unwritten: Arc<Mutex<Unwritten>>,
}

/// What was said and is not written; whoever needs it written first writes all.
#[derive(Default)]
struct Unwritten {
    drafts: Vec<Draft>,
    said: Said,
}

/// Something that was said, and whether it is written.
#[derive(Debug, Clone, Default)]
#[must_use = "what is not settled may never be written"]
pub struct Said(Arc<OnceLock<Result<()>>>);

impl Shared {
    /// Starts the thread; it ends when the last sender is gone.
    pub(super) fn start(writer: Writer, queue: Receiver<Told>) -> std::io::Result<Self> {
        let shared = Self { writer: Arc::new(Mutex::new(writer)), unwritten: Arc::default() };
        let work = {
            let shared = shared.clone();
            move || shared.run(&queue)
        };
        thread::Builder::new().name("audit".to_owned()).spawn(work)?;
        Ok(shared)
    }

    fn run(&self, queue: &Receiver<Told>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let sync_at = self.writer().sync_at();
            let received = match sync_at {
                None => queue.recv().map_err(RecvTimeoutError::from),
                Some(at) => queue.recv_deadline(at),
            };
            match received {
                Ok(Told::Write(first)) => batch.push(first),
                Ok(Told::Unsynced) => continue,
                Err(RecvTimeoutError::Timeout) => {
                    self.sync_late();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.sync_late(),
            }
            while batch.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                if let Told::Write(next) = next {
                    batch.push(next);
                }
            }
            let late = {
                let mut writer = self.writer();
                writer.take(&mut batch);
                // Where there is always more to write, no wait runs out.
                writer.sync_at().is_some_and(|at| Instant::now() >= at)
            };
            if late {
                self.sync_late();
            }
        }
    }

    /// Notes what is to be written with the next write.
    pub(super) fn say(&self, draft: Draft) -> Said {
        let mut unwritten = self.unwritten();
        unwritten.drafts.push(draft);
        unwritten.said.clone()
    }

    /// Writes it and all that was said meanwhile on this thread, which blocks until it is done. Answers
    /// whether the thread has to be told that there is something to sync.
    pub(super) fn settle(&self, said: &Said) -> Result<bool> {
        if let Some(written) = said.0.get() {
            return written.clone().map(|()| false);
        }
        let mut writer = self.writer();
        if let Some(written) = said.0.get() {
            return written.clone().map(|()| false);
        }
        let Unwritten { drafts, said } = mem::take(&mut *self.unwritten());
        let waited = writer.unsynced.is_some();
        let written = said.0.get_or_init(|| writer.put(drafts.iter()));
        written.clone().map(|()| !waited && writer.unsynced.is_some())
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs what was written without, while others write on. Where that fails, nothing goes on
    /// until a sync succeeds.
    fn sync_late(&self) {
        let file = {
            let mut writer = self.writer();
            if writer.unsynced.take().is_none() {
                return;
            }
            writer.file.clone()
        };
        if let Err(error) = file.sync_data() {
            tracing::error!(%error, "the audit log cannot be synced: nothing is signed");
            let mut writer = self.writer();
            writer.status().writable = false;
            writer.distrusted = true;
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// When what is written has to be synced.
    fn sync_at(&self) -> Option<Instant> {
        match self.sync {
            Sync::Each => None,
            Sync::Interval(interval) => self.unsynced.map(|since| since + interval),
        }
    }

    fn take(&mut self, batch: &mut Vec<Request>) {
        let result = self.put(batch.iter().map(|request| &request.draft));
        for request in batch.drain(..) {
            // Nobody may wait any more.
            let _ = request.done.send(result.clone());
        }
    }

    /// Writes records, says how the log is, and tells who follows it.
    fn put<'a>(&mut self, drafts: impl Iterator<Item = &'a Draft> + Clone) -> Result<()> {
        let now = self.sync == Sync::Each
            || self.distrusted
            || drafts.clone().any(|draft| !draft.deed.grouped);
        let result = self.write(drafts, now);
        let mut status = self.status();
        status.writable = result.is_ok();
        status.records = self.sequence;
        status.head.clone_from(&self.head);
        drop(status);
        match result {
            Ok(written) => {
                self.tell(&written);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be written: nothing is signed");
                Err(error)
            }
        }
    }

    fn status(&self) -> MutexGuard<'_, LogStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells followers what was written. Who begins to follow after this looked finds it in the file.
    fn tell(&self, written: &[u8]) {
        if self.followers.receiver_count() == 0 {
            return;
        }
        for line in written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match Stored::read(String::from_utf8_lossy(line).into_owned()) {
                // The last follower may have gone meanwhile.
                Ok(stored) => drop(self.followers.send(stored)),
                Err(error) => tracing::error!(%error, "a record cannot be read back"),
            }
        }
    }

    /// Appends records and syncs them where that cannot wait; on any failure nothing of it counts.
    /// Answers what it wrote.
    fn write<'a>(
        &mut self,
        drafts: impl Iterator<Item = &'a Draft>,
        sync: bool,
    ) -> Result<Vec<u8>> {
        let (mut sequence, mut head) = (self.sequence, self.head.clone());
        let mut bytes = Vec::new();
        let internal = |e| Error::internal("write", format!("audit log {}", self.name), e);
        for draft in drafts {
            sequence += 1;
            let begin = bytes.len();
            let line = draft.at(sequence, self.clock.now(), &head);
            serde_json::to_writer(&mut bytes, &line).map_err(internal)?;
            let line = bytes.get(begin..).unwrap_or_default();
            head = hash(line);
            bytes.push(b'\n');
        }
        self.append(&bytes, sync).map_err(|e| {
            Error::unavailable("write", format!("audit log {}", self.name), e)
                .hint("free space or repair the disk; nothing is signed until it can be written")
        })?;
        self.length += bytes.len() as u64;
        self.sequence = sequence;
        self.head = head;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8], sync: bool) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            (&*self.file).seek(SeekFrom::Start(self.length))?;
            self.file.sync_all()?;
            self.torn = false;
        }
        self.torn = true;
        (&*self.file).write_all(bytes)?;
        match sync {
            true => {
                self.file.sync_data()?;
                self.unsynced = None;
                self.distrusted = false;
            }
            false => drop(self.unsynced.get_or_insert_with(Instant::now)),
        }
        self.torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::{AuditLog, Entry, Options, Outcome, verify};
    use super::*;
    use crate::audit::Record;
    use crate::clock::SystemClock;

    fn entry(resource: &str) -> Entry {
        Entry {
            principal: "local:0".to_owned(),
            action: "key.sign".to_owned(),
            resource: resource.to_owned(),
            detail: json!({}).into(),
            grouped: true,
        }
    }

    #[test]
    fn whoever_needs_it_first_writes_what_all_have_said_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let sync = Sync::Interval(Duration::from_hours(1));
        let options = Options { queue: 8, deadline: Duration::from_secs(10), sync };
        let (log, _) = AuditLog::open(&path, options, Arc::new(SystemClock)).unwrap();
        let lines = || fs::read_to_string(&path).unwrap().lines().count();

        let said: Vec<_> = ["a", "b", "c"].map(|key| log.say_intent(entry(key)).unwrap()).into();
        assert_eq!(lines(), 0);
        let (ops, said): (Vec<_>, Vec<_>) = said.into_iter().unzip();
        log.settle(&said[1]).unwrap();
        assert_eq!(lines(), 3);
        let result = |op| log.say_result(op, Outcome::Ok, json!({})).unwrap();
        let results: Vec<_> = ops.into_iter().map(result).collect();
        for one in said.iter().chain(&said) {
            log.settle(one).unwrap();
        }
        assert_eq!(lines(), 3, "what is written already writes nothing");
        for one in &results {
            log.settle(one).unwrap();
            assert_eq!(lines(), 6);
        }

        let read = fs::read_to_string(&path).unwrap();
        let records = read.lines().map(|line| serde_json::from_str(line).unwrap());
        let order: Vec<_> =
            records.map(|r: Record| (r.resource, r.phase.to_string(), r.operation)).collect();
        let named = order.iter().map(|(key, phase, _)| (key.as_str(), phase.as_str()));
        let phases = ["intent", "result"].map(|phase| ["a", "b", "c"].map(|key| (key, phase)));
        assert!(named.eq(phases.into_iter().flatten()), "{order:?}");
        assert!((0..3).all(|i| order[i].2.is_some() && order[i].2 == order[i + 3].2));
        assert_eq!(verify::scan(&path).unwrap().report.problem, None);
    }
}
