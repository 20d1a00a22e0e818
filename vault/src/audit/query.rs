//! Reading the log back.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{BufRead as _, BufReader},
};

use time::OffsetDateTime;
use tokio::sync::{broadcast::error::RecvError, mpsc};

use super::{AuditLog, Phase, Record, Stored};
use crate::error::{Error, Result};

/// Records on their way to a reader that does not keep up wait here.
const AHEAD: usize = 256;
/// The most records that `last` may ask for.
const MOST: usize = 100_000;

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not before this time.
    pub since: Option<OffsetDateTime>,
    /// Resource or detail names this key, by id or name.
    pub key: Option<String>,
    /// The principal ends in this.
    pub principal: Option<String>,
    /// The action begins with this.
    pub action: Option<String>,
    /// Only the last so many that match.
    pub last: Option<usize>,
}

impl Filter {
    /// Whether a record is among them.
    pub fn matches(&self, record: &Record) -> bool {
        let key = |key: &String| {
            record.resource.strip_prefix("key/") == Some(key.as_str())
                || record.detail.get("name").and_then(|name| name.as_str()) == Some(key)
                || record.detail.get("keys").and_then(|keys| keys.as_object()).is_some_and(|keys| {
                    keys.contains_key(key) || keys.values().any(|name| name == key)
                })
        };
        self.since.is_none_or(|since| record.time >= since)
            && self.key.as_ref().is_none_or(key)
            && self.principal.as_ref().is_none_or(|p| record.principal.ends_with(p.as_str()))
            && self.action.as_ref().is_none_or(|a| record.action.starts_with(a.as_str()))
    }

    /// As [`Filter::matches`], and a result is among them where its intent was: the intent alone
    /// has the key's name.
    fn matches_with(&self, record: &Record, open: &mut HashSet<String>) -> bool {
        let own = self.matches(record);
        match (&record.operation, record.phase) {
            (Some(operation), Phase::Intent) if own => {
                open.insert(operation.clone());
                true
            }
            (Some(operation), Phase::Result) => open.remove(operation) || own,
            _ => own,
        }
    }
}

impl AuditLog {
    /// Sends what matches, oldest first; with `follow` goes on with new records until the
    /// receiver is dropped.
    pub fn query(&self, filter: Filter, follow: bool) -> mpsc::Receiver<Result<Stored>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let log = self.clone();
        tokio::spawn(async move {
            let mut open = HashSet::new();
            // Subscribed before reading, so that nothing falls between file and stream.
            let mut news = log.followers.subscribe();
            let mut seen = match log.send_stored(filter.clone(), 0, &sender).await {
                Ok(seen) => seen,
                Err(error) => return drop(sender.send(Err(error)).await),
            };
            while follow && !sender.is_closed() {
                let received = tokio::select! {
                    received = news.recv() => received,
                    () = sender.closed() => return,
                };
                match received {
                    Ok(stored) if stored.record.sequence <= seen => {}
                    Ok(stored) => {
                        seen = stored.record.sequence;
                        if filter.matches_with(&stored.record, &mut open)
                            && sender.send(Ok(stored)).await.is_err()
                        {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {
                        let all = Filter { last: None, ..filter.clone() };
                        match log.send_stored(all, seen, &sender).await {
                            Ok(read) => seen = read,
                            Err(error) => return drop(sender.send(Err(error)).await),
                        }
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        receiver
    }

    /// Sends matching records after `from`; answers the last sequence number read.
    async fn send_stored(
        &self,
        filter: Filter,
        from: u64,
        sender: &mpsc::Sender<Result<Stored>>,
    ) -> Result<u64> {
        let (path, sender) = (self.path.clone(), sender.clone());
        let read = move || -> Result<u64> {
            let bad = |e: String| Error::unavailable("read", "the audit log", e);
            let file = File::open(&path).map_err(|e| bad(e.to_string()))?;
            let mut kept = VecDeque::new();
            let mut open = HashSet::new();
            let mut seen = from;
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|e| bad(e.to_string()))?;
                // The line being written now may be read half: it comes again by following.
                let Ok(stored) = Stored::read(line) else { break };
                let record = &stored.record;
                if record.sequence <= from {
                    continue;
                }
                seen = record.sequence;
                if !filter.matches_with(record, &mut open) {
                    continue;
                }
                match filter.last {
                    None => {
                        if sender.blocking_send(Ok(stored)).is_err() {
                            return Ok(seen);
                        }
                    }
                    Some(last) => {
                        kept.push_back(stored);
                        if kept.len() > last.min(MOST) {
                            kept.pop_front();
                        }
                    }
                }
            }
            for stored in kept {
                if sender.blocking_send(Ok(stored)).is_err() {
                    break;
                }
            }
            Ok(seen)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|e| Error::internal("read", "the audit log", e))?
    }
}
