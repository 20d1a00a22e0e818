//! The log up to a checkpoint, as it stands on disk: what a backup takes of it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
};

use tokio::sync::mpsc;
use vault_proto::audit::Chain;

use super::{AuditLog, LogStatus};
use crate::error::{Error, Result};

/// Lines that go together.
const TOGETHER: usize = 256;

impl AuditLog {
    /// Sends the lines, without newlines, up to a place that [`AuditLog::status`] has told, some at
    /// a time; the last thing sent is an error where the log does not lead there.
    pub fn copy(&self, upto: LogStatus) -> mpsc::Receiver<Result<Vec<Vec<u8>>>> {
        let (sender, receiver) = mpsc::channel(1);
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            let unreadable = |e: std::io::Error| Error::unavailable("read", "the audit log", e);
            let read = || -> Result<()> {
                let mut log = BufReader::new(File::open(&path).map_err(unreadable)?);
                let (mut chain, mut lines) = (Chain::default(), Vec::new());
                while chain.records < upto.records {
                    let mut line = Vec::new();
                    log.read_until(b'\n', &mut line).map_err(unreadable)?;
                    line.pop();
                    let wrong = |why: String| Error::verification("read", "the audit log", why);
                    chain.take(&line).map_err(|why| wrong(chain.problem(&why)))?;
                    lines.push(line);
                    let last = chain.records == upto.records;
                    if last && chain.head != upto.head {
                        return Err(wrong("it is not the log that was written".to_owned()));
                    }
                    if (last || lines.len() == TOGETHER)
                        && sender.blocking_send(Ok(std::mem::take(&mut lines))).is_err()
                    {
                        return Ok(());
                    }
                }
                Ok(())
            };
            if let Err(error) = read() {
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }
}
