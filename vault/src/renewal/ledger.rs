//! What was asked of CAs lately, kept in memory as the store has it: what counts against budgets.

use std::collections::HashMap;

use time::{Duration, OffsetDateTime};
use vault_proto::ids::OrderId;

use super::planner::budget::{Books, Counted, Demand, Key, Outcome};
use super::planner::facts::{demands, registered_domains, set_of};
use super::planner::{Moment, moment};
use crate::config::CaLimits;
use crate::error::Result;
use crate::store::{Identifier, PlacementRecord, PlacementState, Store};

/// Nothing is counted for longer: the longest time that a configured rate may have.
const REMEMBERED: Duration = Duration::days(31);
/// Clocks of several nodes, and transactions that end later than they began, differ by less.
const OVERLAP: Duration = Duration::minutes(1);
/// Everything is read anew as often.
const ANEW: Duration = Duration::hours(1);

/// What was asked of CAs lately.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: HashMap<OrderId, PlacementRecord>,
    read_at: Option<OffsetDateTime>,
    anew_at: Option<OffsetDateTime>,
}

impl Ledger {
    /// Reads what has changed since it was read last; from time to time all of it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) async fn refresh(&mut self, store: &dyn Store, now: OffsetDateTime) -> Result<()> {
        let anew = self.anew_at.is_none_or(|at| now >= at || at > now + ANEW);
        let since = match self.read_at {
            Some(at) if !anew => at - OVERLAP,
            _ => now - REMEMBERED,
        };
        if anew {
            store.forget_placements(now - REMEMBERED).await?;
        }
        let changed = store.placements_since(since).await?;
        if anew {
            self.rows.clear();
            self.anew_at = Some(now + ANEW);
        }
        self.rows.extend(changed.into_iter().map(|row| (row.id, row)));
        self.read_at = Some(now);
        Ok(())
    }

    /// Every budget with what is used of it. `under_way` are certificates that are worked on since a time:
    /// what they will ask for, they may not have asked for yet.
    pub(super) fn books(&self, limits: &[CaLimits], under_way: &[Pending]) -> Books {
        let mut books = Books::default();
        let mut known: HashMap<&url::Url, CaLimits> = HashMap::new();
        for row in self.rows.values() {
            let limits =
                known.entry(&row.directory).or_insert_with(|| CaLimits::of(limits, &row.directory));
            enter(&mut books, row, limits);
        }
        for pending in under_way.iter().filter(|pending| !self.has_asked(pending)) {
            let demands = pending.demands(&mut books);
            books.hold(&demands);
        }
        books
    }

    fn has_asked(&self, pending: &Pending) -> bool {
        self.rows.values().any(|row| {
            row.certificate.as_str() == pending.certificate
                && row.state != PlacementState::Limited
                && row.placed_at >= pending.since
        })
    }

    /// When each certificate's validation has failed lately.
    pub(super) fn refusals(&self) -> HashMap<String, Vec<OffsetDateTime>> {
        let mut refusals: HashMap<String, Vec<OffsetDateTime>> = HashMap::new();
        for row in self.rows.values().filter(|row| row.state == PlacementState::Failed) {
            if !row.refused.is_empty() {
                refusals.entry(row.certificate.to_string()).or_default().push(row.changed_at);
            }
        }
        refusals
    }

    /// How long an order takes from its placing to its certificate, by those that were issued lately.
    pub(super) fn order_time(&self) -> Option<Moment> {
        let issued = self.rows.values().filter(|row| row.state == PlacementState::Issued);
        let (mut count, mut total) = (0, 0);
        for row in issued {
            count += 1;
            total += moment(row.changed_at) - moment(row.placed_at);
        }
        (count > 0).then(|| (total / count).max(1))
    }
}

/// A certificate that is worked on.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) certificate: String,
    pub(super) account: String,
    pub(super) limits: CaLimits,
    pub(super) identifiers: Vec<Identifier>,
    pub(super) kind: crate::store::OrderKind,
    pub(super) since: OffsetDateTime,
}

impl Pending {
    fn demands(&self, books: &mut Books) -> Vec<Demand> {
        demands(books, &self.account, &self.limits, &self.identifiers, self.kind)
    }
}

/// Enters one row into the books.
fn enter(books: &mut Books, row: &PlacementRecord, limits: &CaLimits) {
    let account = row.account.as_str();
    match row.state {
        PlacementState::Void => {}
        PlacementState::Limited => close(books, row, limits),
        state => {
            let all = demands(books, account, limits, &row.identifiers, row.kind);
            books.hold(&all);
            books.placed(&all, moment(row.placed_at));
            let ended = moment(row.changed_at);
            match state {
                PlacementState::Issued => books.ended(&all, true, ended, Outcome::Issued),
                PlacementState::Failed => {
                    books.ended(&all, true, ended, Outcome::Nothing);
                    count_failures(books, row, &all, ended);
                }
                _ => {}
            }
        }
    }
}

fn count_failures(books: &mut Books, row: &PlacementRecord, all: &[Demand], at: Moment) {
    for demand in all.iter().filter(|demand| demand.counted == Counted::Failures) {
        let refused = matches!(books.describe(demand.key), Some((Key::Failures { name, .. }, _))
            if row.refused.iter().any(|refused| refused.to_string() == *name));
        if refused {
            books.count(demand.key, at);
        }
    }
}

/// The CA wants no more of an account, or of these names.
fn close(books: &mut Books, row: &PlacementRecord, limits: &CaLimits) {
    let Some(until) = row.closed_until.map(moment) else { return };
    let ca = row.directory.to_string();
    if row.identifiers.is_empty() {
        let orders = Key::Orders { account: row.account.to_string() };
        let key = books.key(orders, limits.orders_per_account);
        return books.close(key, until);
    }
    let set = Key::Set { ca: ca.clone(), names: set_of(&row.identifiers) };
    let key = books.key(set, limits.certificates_per_exact_set);
    books.close(key, until);
    for domain in registered_domains(&row.refused) {
        let domain = Key::Domain { ca: ca.clone(), domain };
        let key = books.key(domain, limits.certificates_per_registered_domain);
        books.close(key, until);
    }
}
