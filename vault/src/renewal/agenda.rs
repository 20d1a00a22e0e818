//! What the vault knows, as the planner takes it: certificates from the store, what they have asked of
//! their CAs, what CAs allow, and how these do.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use time::OffsetDateTime;
use vault_proto::ids::{AccountName, CertificateName};

use super::Issuer;
use super::ledger::{Ledger, Pending};
use super::planner::facts::{Facts, demands};
use super::planner::forecast::{Fleet, Member};
use super::planner::gate::Gate;
use super::planner::maintenance::Hours;
use super::planner::schedule::{Id, Schedule};
use super::planner::{Moment, Window, moment};
use crate::acme;
use crate::config::CaLimits;
use crate::error::{Error, Result};
use crate::store::{
    AccountRecord, CertificateRecord, CertificateStatus, OrderKind, OrderState, PlannedRecord,
};

/// How long an order is taken to last where none was issued lately.
const ORDER_TIME: Moment = 10_000_000;

/// What is remembered between two looks.
pub struct Planning {
    limits: Vec<CaLimits>,
    ledger: tokio::sync::Mutex<Ledger>,
    gates: Mutex<HashMap<AccountName, Gate>>,
    under_way: Mutex<BTreeMap<CertificateName, Pending>>,
    places: usize,
}

/// Certificates, and the schedule that they are put into by their place in the list.
pub(super) struct Agenda {
    pub(super) schedule: Schedule,
    pub(super) items: Vec<Item>,
    pub(super) order_time: Moment,
}

/// A certificate on an agenda.
pub(super) struct Item {
    pub(super) record: PlannedRecord,
    /// How often its validation has failed since what is in force.
    refusals: usize,
    pub(super) pending: Pending,
    hours: Arc<Hours>,
}

impl Planning {
    /// For CAs that allow so much, and so many orders at once.
    pub fn new(limits: Vec<CaLimits>, places: usize) -> Self {
        Self {
            limits,
            ledger: tokio::sync::Mutex::default(),
            gates: Mutex::default(),
            under_way: Mutex::default(),
            places: places.max(1),
        }
    }

    /// How many certificates are worked on at once.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// How many more can be worked on now.
    pub(super) fn free_places(&self) -> usize {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        self.places.saturating_sub(under_way.len())
    }

    /// What a CA allows.
    pub(super) fn limits_of(&self, account: &AccountRecord) -> CaLimits {
        CaLimits::of(&self.limits, &account.directory)
    }

    /// Notes that a certificate is worked on; `false` where it is already.
    pub(super) fn begin(&self, name: &CertificateName, pending: &Pending) -> bool {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.contains_key(name) {
            return false;
        }
        under_way.insert(name.clone(), pending.clone());
        true
    }

    /// Whether it is worked on.
    pub(super) fn is_under_way(&self, name: &CertificateName) -> bool {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Notes that it is worked on no more.
    pub(super) fn end(&self, name: &CertificateName) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Notes how an account's CA has done.
    pub(super) fn note(
        &self,
        account: &AccountName,
        now: OffsetDateTime,
        result: Result<(), &Error>,
    ) {
        let answered = !result.is_err_and(acme::is_away);
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry(account.clone()).or_insert_with(|| Gate::new(None)).note(moment(now), answered);
    }

    fn gate(&self, account: &AccountName, limits: &CaLimits, under_way: &[Pending]) -> Gate {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let at_once = limits.orders_at_once.map(|count| count.get() as usize);
        let mut gate = Gate::new(at_once).doing_as(gates.get(account));
        for _ in under_way.iter().filter(|pending| pending.account == account.as_str()) {
            gate.enter();
        }
        gate
    }
}

impl Issuer {
    /// Certificates that are due by then and not worked on, or all of them.
    pub(super) async fn agenda(&self, due_by: Option<OffsetDateTime>) -> Result<Agenda> {
        let now = self.clock.now();
        // Before the ledger is read: what is asked meanwhile may be in both, and never in neither.
        let under_way: BTreeMap<_, _> = {
            let under_way = self.planning.under_way.lock();
            under_way.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let pending: Vec<_> = under_way.values().cloned().collect();
        let (books, order_time, refusals) = {
            let mut ledger = self.planning.ledger.lock().await;
            ledger.refresh(self.store.as_ref(), now).await?;
            let books = ledger.books(&self.planning.limits, &pending);
            (books, ledger.order_time(), ledger.refusals())
        };
        let mut schedule = Schedule::new(books);
        let accounts = self.accounts_by_name().await?;
        let mut gates: HashMap<&AccountName, usize> = HashMap::new();
        for (name, account) in &accounts {
            let limits = self.planning.limits_of(account);
            gates.insert(name, schedule.gate(self.planning.gate(name, &limits, &pending)));
        }
        let windows = self.windows_of_agents().await?;
        let mut items = Vec::new();
        for mut record in self.store.planned(due_by).await? {
            if let Some(in_force) = record.in_force.as_mut().filter(|_| !self.ari) {
                in_force.window = None;
            }
            let certificate = &record.certificate;
            // The agent's CSR wakes the runner.
            let waits_for_agent = matches!(record.order, Some((OrderState::AwaitingCsr, _)));
            if under_way.contains_key(&certificate.name) || (waits_for_agent && due_by.is_some()) {
                continue;
            }
            let name = certificate.account_in_turn();
            let (Some(account), Some(gate)) = (accounts.get(name), gates.get(name)) else {
                continue;
            };
            let limits = self.planning.limits_of(account);
            let hours = hours_of(certificate, windows.get(&certificate.name));
            let since = record.in_force.as_ref().map(|version| version.not_before);
            let failed = refusals.get(certificate.name.as_str()).map_or(&[][..], Vec::as_slice);
            let failed = failed.iter().filter(|at| since.is_none_or(|since| **at > since)).count();
            let pending = pending_of(&record, limits, now);
            let item = Item { pending, record, refusals: failed, hours };
            let entry = item.facts().entry(schedule.books(), *gate);
            let Ok(id) = Id::try_from(items.len()) else { break };
            schedule.put(id, entry);
            items.push(item);
        }
        Ok(Agenda { schedule, items, order_time: order_time.unwrap_or(ORDER_TIME) })
    }

    async fn accounts_by_name(&self) -> Result<HashMap<AccountName, AccountRecord>> {
        let accounts = self.store.accounts().await?;
        Ok(accounts.into_iter().map(|account| (account.name.clone(), account)).collect())
    }

    /// When each certificate's agents are all open to changes; nothing of those that always are. Where
    /// that is never, no window can be kept to.
    async fn windows_of_agents(&self) -> Result<HashMap<CertificateName, Hours>> {
        let mut hours: HashMap<CertificateName, Hours> = HashMap::new();
        for (certificate, windows) in self.store.windows_of_agents().await? {
            let open = Hours::of(&windows);
            let known = hours.remove(&certificate).unwrap_or(Hours::ALWAYS);
            hours.insert(certificate, known.and(&open).unwrap_or(Hours::ALWAYS));
        }
        Ok(hours)
    }

    /// Everything there is, for a look ahead.
    pub(super) async fn fleet(&self) -> Result<(Fleet, Vec<Item>)> {
        let Agenda { mut schedule, items, order_time } = self.agenda(None).await?;
        let members = items.iter().map(|item| item.member(schedule.books())).collect();
        let (policy, places) = (self.policy, self.planning.places());
        Ok((Fleet { schedule, members, policy, places, order_time }, items))
    }
}

/// When a certificate's own windows and its agents' are open at once.
fn hours_of(certificate: &CertificateRecord, agents: Option<&Hours>) -> Arc<Hours> {
    let own = Hours::of(&certificate.windows);
    let both = agents.map_or(Some(own.clone()), |agents| own.and(agents));
    Arc::new(both.unwrap_or(Hours::ALWAYS))
}

fn pending_of(record: &PlannedRecord, limits: CaLimits, now: OffsetDateTime) -> Pending {
    let certificate = &record.certificate;
    let known = record.in_force.as_ref().filter(|v| v.directory == limits.directory);
    Pending {
        certificate: certificate.name.to_string(),
        account: certificate.account_in_turn().to_string(),
        limits,
        identifiers: certificate.identifiers.clone(),
        kind: match known {
            Some(version) if version.window.is_some() && !version.replaces_refused => {
                OrderKind::Replacement
            }
            Some(_) => OrderKind::Renewal,
            None => OrderKind::First,
        },
        since: now,
    }
}

impl Item {
    /// Its own maintenance windows, as operators have written them.
    pub(super) fn windows(&self) -> String {
        let windows = &self.record.certificate.windows;
        windows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn facts(&self) -> Facts<'_> {
        let PlannedRecord { certificate, in_force, requested, asked_anew, order } = &self.record;
        // What is revoked is as good as ended, and waits for no window.
        let revoked = certificate.status == CertificateStatus::Revoked;
        Facts {
            account: &self.pending.account,
            limits: &self.pending.limits,
            identifiers: &certificate.identifiers,
            kind: self.pending.kind,
            wish: certificate.renew_at,
            valid: in_force.as_ref().map(|version| (version.not_before, version.not_after)),
            window: match revoked {
                true => Some(Window { start: certificate.renew_at, end: certificate.renew_at }),
                false => in_force
                    .as_ref()
                    .and_then(|version| version.window)
                    .and_then(|(start, end)| Window::new(start, end)),
            },
            failed_attempts: certificate.failed_attempts,
            refusals: u32::try_from(self.refusals).unwrap_or(u32::MAX),
            requested: *requested || revoked,
            insists: *asked_anew,
            hours: self.hours.clone(),
            placed: order.is_some_and(|(_, placed)| placed),
        }
    }

    fn member(&self, books: &mut super::planner::budget::Books) -> Member {
        let Pending { account, limits, identifiers, kind, .. } = &self.pending;
        let again = match kind {
            OrderKind::First => OrderKind::Renewal,
            kind => *kind,
        };
        let valid = self.record.in_force.as_ref();
        Member {
            name: self.record.certificate.name.to_string(),
            expires: valid.map(|version| moment(version.not_after)),
            lifetime: valid.map(|v| moment(v.not_after) - moment(v.not_before)),
            again: demands(books, account, limits, identifiers, again),
            hours: self.hours.clone(),
        }
    }
}
