//! The one thread that writes: takes what waits, writes it at once, syncs once, answers all.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::{broadcast, oneshot};
use vault_proto::audit::hash;

use super::draft::Draft;
use super::event::Record;
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
    /// Grouped records ([`Entry::grouped`]) within this time. A crash of the vault loses none of
    /// them, since they are written; a power failure loses those of this time at most.
    Interval(Duration),
}

/// A draft and who waits for it.
pub(super) struct Request {
    pub(super) draft: Draft,
    pub(super) done: oneshot::Sender<Result<()>>,
}

/// The file and the chain's head.
pub(super) struct Writer {
    pub(super) file: File,
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) sequence: u64,
    pub(super) head: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Mutex<LogStatus>>,
    pub(super) followers: broadcast::Sender<Record>,
    /// Set after a failed write: what is behind `length` must go before anything is added.
    pub(super) torn: bool,
    /// When records reach the disk.
    pub(super) sync: Sync,
    /// A sync has failed: the next batch is synced whatever it holds.
    pub(super) distrusted: bool,
    /// Since when there is something written that is not synced.
    pub(super) unsynced: Option<Instant>,
}

impl Writer {
    /// Starts the thread; it ends when the last sender is gone.
    pub(super) fn start(mut self, queue: Receiver<Request>) -> std::io::Result<()> {
        let work = move || {
            let mut batch = Vec::with_capacity(BATCH);
            loop {
                let received = match self.sync_at() {
                    None => queue.recv().map_err(RecvTimeoutError::from),
                    Some(at) => queue.recv_deadline(at),
                };
                match received {
                    Ok(first) => batch.push(first),
                    Err(RecvTimeoutError::Timeout) => {
                        self.sync_late();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return self.sync_late(),
                }
                while batch.len() < BATCH
                    && let Ok(next) = queue.try_recv()
                {
                    batch.push(next);
                }
                self.take(&mut batch);
                // Where there is always more to write, no wait runs out.
                if self.sync_at().is_some_and(|at| Instant::now() >= at) {
                    self.sync_late();
                }
            }
        };
        thread::Builder::new().name("audit".to_owned()).spawn(work).map(drop)
    }

    /// When what is written has to be synced.
    fn sync_at(&self) -> Option<Instant> {
        match self.sync {
            Sync::Each => None,
            Sync::Interval(interval) => self.unsynced.map(|since| since + interval),
        }
    }

    /// Syncs what was written without. Where that fails, nothing goes on until a sync succeeds.
    fn sync_late(&mut self) {
        if self.unsynced.take().is_none() {
            return;
        }
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "the audit log cannot be synced: nothing is signed");
            self.status.lock().unwrap_or_else(PoisonError::into_inner).writable = false;
            self.distrusted = true;
        }
    }

    fn take(&mut self, batch: &mut Vec<Request>) {
        let now = self.sync == Sync::Each
            || self.distrusted
            || batch.iter().any(|request| !request.draft.grouped);
        let result = self.write(batch.iter().map(|request| &request.draft), now);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.writable = result.is_ok();
        status.records = self.sequence;
        status.head.clone_from(&self.head);
        drop(status);
        match result {
            Ok(written) => {
                self.tell(&written);
                for request in batch.drain(..) {
                    let _ = request.done.send(Ok(()));
                }
            }
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be written: nothing is signed");
                for request in batch.drain(..) {
                    let _ = request.done.send(Err(error.clone()));
                }
            }
        }
    }

    /// Tells followers what was written. Who begins to follow after this looked finds it in the file.
    fn tell(&self, written: &[u8]) {
        if self.followers.receiver_count() == 0 {
            return;
        }
        for line in written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                // The last follower may have gone meanwhile.
                Ok(record) => drop(self.followers.send(record)),
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
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.sync_all()?;
            self.torn = false;
        }
        self.torn = true;
        self.file.write_all(bytes)?;
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
