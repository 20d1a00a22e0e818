//! The agenda that the runner goes by: read anew when something may have changed, and kept in between, so
//! that of a thousand certificates that are due at once each is not read a thousand times.

use std::time::Duration;

use tokio::time::Instant;
use vault_proto::ids::CertificateName;

use super::Issuer;
use super::agenda::Agenda;
use super::ledger::Pending;
use super::planner::budget::Outcome;
use super::planner::schedule::Id;
use super::planner::{moment, time_of};
use crate::error::Result;

/// How long an agenda is kept: what other nodes change, and a change of the machine's clock, is noticed
/// within this.
const LONGEST: Duration = Duration::from_secs(15);
/// The shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(20);
/// Reading takes at most one part in so many of the time.
const SELDOM: u32 = 20;

/// The runner's view of what may begin.
pub(super) struct Outlook {
    issuer: Issuer,
    kept: Option<Kept>,
    /// Something may have changed since.
    doubted: bool,
    /// It is not read anew before that.
    rests_until: Instant,
    reads: u64,
}

struct Kept {
    agenda: Agenda,
    read_at: Instant,
}

/// A certificate whose turn it is.
pub(super) struct Turn {
    pub(super) name: CertificateName,
    pub(super) pending: Pending,
    pub(super) ticket: Ticket,
}

/// Names what has begun, when it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    read: u64,
    id: Id,
}

impl Outlook {
    /// One that has seen nothing yet.
    pub(super) fn new(issuer: Issuer) -> Self {
        Self { issuer, kept: None, doubted: false, rests_until: Instant::now(), reads: 0 }
    }

    /// Something may have changed.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Whose turn it is where so many places are free; they count as begun.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) async fn turns(&mut self, free: usize) -> Result<Vec<Turn>> {
        if self.is_to_be_read() {
            let began = Instant::now();
            self.doubted = false;
            let due_by = self.issuer.clock.now() + LONGEST;
            let agenda = self.issuer.agenda(Some(due_by)).await?;
            let read_at = Instant::now();
            self.rests_until = read_at + (read_at - began) * (SELDOM - 1);
            self.kept = Some(Kept { agenda, read_at });
            self.reads += 1;
        }
        let now = moment(self.issuer.clock.now());
        let Some(Kept { agenda, .. }) = &mut self.kept else { return Ok(Vec::new()) };
        let begun = agenda.schedule.step(now, free);
        let turn = |id: Id| {
            let item = agenda.items.get(id as usize)?;
            let name = item.record.certificate.name.clone();
            let ticket = Ticket { read: self.reads, id };
            Some(Turn { name, pending: item.pending.clone(), ticket })
        };
        Ok(begun.into_iter().filter_map(turn).collect())
    }

    fn is_to_be_read(&self) -> bool {
        let now = Instant::now();
        match &self.kept {
            None => true,
            Some(kept) if kept.read_at + LONGEST <= now => true,
            Some(_) => self.doubted && self.rests_until <= now,
        }
    }

    /// What had begun has ended: well, or so that everything has to be looked at again.
    pub(super) fn ended(&mut self, ticket: Ticket, well: bool) {
        let now = moment(self.issuer.clock.now());
        match &mut self.kept {
            Some(kept) if ticket.read == self.reads && well => {
                drop(kept.agenda.schedule.ended(ticket.id, now, Outcome::Issued, true));
            }
            _ => self.doubt(),
        }
    }

    /// Until something more may begin, within bounds.
    pub(super) fn rest(&self) -> Duration {
        let next = self.kept.as_ref().and_then(|kept| kept.agenda.schedule.next_look());
        let left = next.map(|at| Duration::try_from(time_of(at) - self.issuer.clock.now()));
        let left = left.map_or(LONGEST, Result::unwrap_or_default);
        let doubt =
            self.doubted.then(|| self.rests_until.saturating_duration_since(Instant::now()));
        doubt.map_or(left, |doubt| doubt.min(left)).clamp(SHORTEST, LONGEST)
    }
}
