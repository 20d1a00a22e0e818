//! What no open order needs is taken out of the DNS: at the end of each attempt, at start, and again
//! and again while something stays. Who keeps it there for long is told of.

use std::{collections::BTreeMap, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Dns;
use crate::alerts::AlertKind;
use crate::error::Result;
use crate::fault::crash_point;
use crate::store::DnsRecord;

/// How soon a record that could not be taken out is tried again, at first and at most.
const SOON: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(15 * 60);
/// How long it may stay before somebody has to know: several tries, and longer than most outages of a
/// provider.
const LONG: time::Duration = time::Duration::HOUR;

impl Dns {
    /// Takes out what no open order needs: what a crash has left, and what could not be taken out
    /// when it was due. Answers how many there still are.
    ///
    /// # Errors
    /// Where the store cannot be read, or an alert cannot be raised or cleared.
    pub async fn clean_up(&self) -> Result<usize> {
        let (mut left, mut long) = (0, BTreeMap::new());
        for record in self.store.unused_dns_records().await? {
            let Err(error) = self.take_out(&record).await else { continue };
            left += 1;
            tracing::warn!(record = record.name, zone = record.zone, %error,
                "a challenge's record stays in the DNS; it is tried again");
            let now = self.clock.now();
            self.store.note_stuck_dns_record(&record, now).await?;
            if record.stuck_at.is_some_and(|since| now - since >= LONG) {
                long.insert(subject(&record), error.to_string());
            }
        }
        self.tell(&long).await?;
        Ok(left)
    }

    /// Takes one record out, and its row after it.
    async fn take_out(&self, record: &DnsRecord) -> Result<()> {
        self.provider(&record.name)?.remove(record).await?;
        crash_point!("dns.removed");
        self.store.remove_dns_record(record).await
    }

    /// Raises an alert for each of these, and clears those on records that are no more among them,
    /// whoever has raised them: a crash may have come in between.
    async fn tell(&self, long: &BTreeMap<String, String>) -> Result<()> {
        for (subject, why) in long {
            self.alerts.raise(AlertKind::DnsRecordLeft, subject, why).await?;
        }
        for open in self.store.open_alerts().await? {
            if open.kind == AlertKind::DnsRecordLeft && !long.contains_key(&open.subject) {
                self.alerts.clear(open.kind, &open.subject).await?;
            }
        }
        Ok(())
    }

    /// Cleans up at start and from then on, less and less often while something stays.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = SOON;
        while !stop.is_cancelled() {
            match self.clean_up().await {
                Ok(0) => pause = SOON,
                Ok(_) => pause = (pause * 2).min(SELDOM),
                Err(error) => tracing::warn!(%error, "the DNS is not cleaned up"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn subject(record: &DnsRecord) -> String {
    format!("record {}", record.name.trim_end_matches('.'))
}
