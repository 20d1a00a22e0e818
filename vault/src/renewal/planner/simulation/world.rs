//! A world that happens: its certificates, its CAs and its weather.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use crate::config::{CaLimits, Rate};
use crate::renewal::planner::budget::{Demand, Outcome};
use crate::renewal::planner::facts::Facts;
use crate::renewal::planner::gate::Gate;
use crate::renewal::planner::maintenance::Hours;
use crate::renewal::planner::schedule::{Class, Id, Schedule, Wait};
use crate::renewal::planner::{
    Moment, Policy, Window, counted, moment, renew_at, retry_at, time_of,
};
use crate::store::{Identifier, OrderKind};

pub(super) const HOUR: Moment = 3600 * 1_000_000;
pub(super) const DAY: Moment = 24 * HOUR;
/// How long an order takes.
const ORDER: Moment = 30 * 1_000_000;
const POLICY: Policy = Policy { renew_after: 2.0 / 3.0 };

/// A number that is as good as random: the finalizer of SplitMix64. Millions of digests would take
/// longer than all the rest.
fn dice(seed: u64, id: Id, count: u64) -> u64 {
    let mut mixed = seed
        .wrapping_add(u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(count.wrapping_mul(0xd1b5_4a32_d192_ed03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What there is, and what goes wrong.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) count: usize,
    pub(super) accounts: usize,
    /// So many certificates have names below one registered domain.
    pub(super) per_domain: usize,
    /// In days; certificates have them in turn.
    pub(super) lifetimes: Vec<i64>,
    pub(super) orders: Option<Rate>,
    pub(super) domain: Option<Rate>,
    pub(super) set: Option<Rate>,
    pub(super) failures: Option<Rate>,
    /// Whether the CA exempts what it has asked for.
    pub(super) exempt: bool,
    /// When the CAs are away.
    pub(super) outages: Vec<(Moment, Moment)>,
    /// The part of all validations that fails.
    pub(super) failing: f64,
    /// When the CAs want everything replaced within a day.
    pub(super) replace_all_on: Option<Moment>,
    /// Whether every third certificate may be replaced on Saturday nights only.
    pub(super) windows: bool,
    pub(super) days: i64,
    pub(super) places: usize,
}

/// One order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) id: Id,
    pub(super) placed: Moment,
    pub(super) ended: Moment,
    pub(super) issued: bool,
    pub(super) exempt: bool,
}

/// A certificate that has ended before there was another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) id: Id,
    pub(super) lifetime: Moment,
    pub(super) issued: Moment,
    pub(super) wish: Moment,
    pub(super) end: Moment,
    /// From the beginning of each attempt to the next one's time.
    pub(super) tries: Vec<(Moment, Moment)>,
}

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// By the time of their placing.
    pub(super) orders: Vec<Order>,
    pub(super) ended: Vec<Ended>,
    pub(super) replaced_in_time: Option<bool>,
    /// When a CA was asked that was away.
    pub(super) in_vain: Vec<Moment>,
}

struct Certificate {
    identifiers: Vec<Identifier>,
    demands: [Vec<Demand>; 2],
    start: Moment,
    end: Moment,
    attempts: u32,
    refusals: u32,
    wish: Moment,
    tries: Vec<(Moment, Moment)>,
    versions: u64,
    window: Option<Window>,
    counted_as_ended: bool,
}

struct Life<'a> {
    world: &'a World,
    limits: CaLimits,
    schedule: Schedule,
    certificates: Vec<Certificate>,
    ends: BinaryHeap<Reverse<(Moment, Id, usize)>>,
    report: Report,
    saturday: Arc<Hours>,
}

impl World {
    /// One in which nothing goes wrong and nothing is limited.
    pub(super) fn quiet(seed: u64, count: usize) -> Self {
        Self {
            seed,
            count,
            accounts: 1,
            per_domain: 10,
            lifetimes: vec![90],
            orders: None,
            domain: None,
            set: None,
            failures: None,
            exempt: false,
            outages: Vec::new(),
            failing: 0.0,
            replace_all_on: None,
            windows: false,
            days: 120,
            places: usize::MAX,
        }
    }

    pub(super) fn account(&self, id: Id) -> usize {
        // Each has certificates of every lifetime.
        id as usize / self.lifetimes.len() % self.accounts
    }

    pub(super) fn registered_domain(&self, id: Id) -> usize {
        id as usize / self.per_domain
    }

    pub(super) fn is_away(&self, at: Moment) -> bool {
        self.outages.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    fn lifetime(&self, id: Id) -> Moment {
        self.lifetimes[id as usize % self.lifetimes.len()] * DAY
    }

    fn limits(&self) -> CaLimits {
        CaLimits {
            orders_per_account: self.orders,
            certificates_per_registered_domain: self.domain,
            certificates_per_exact_set: self.set,
            failures_per_name: self.failures,
            replacements_exempt: self.exempt,
            ..CaLimits::none(&"https://ca.example/".parse().unwrap())
        }
    }

    pub(super) fn hours(&self, id: Id) -> Arc<Hours> {
        match self.windows && id.is_multiple_of(3) {
            true => Arc::new(Hours::of(&["Sat 01:00-05:00".parse().unwrap()])),
            false => Arc::new(Hours::ALWAYS),
        }
    }

    /// Lets it happen; `closely` holds each step against the rule of who comes first.
    pub(super) fn run(&self, closely: bool) -> Report {
        let mut life = Life {
            world: self,
            limits: self.limits(),
            schedule: Schedule::default(),
            certificates: Vec::with_capacity(self.count),
            ends: BinaryHeap::new(),
            report: Report::default(),
            saturday: Arc::new(Hours::of(&["Sat 01:00-05:00".parse().unwrap()])),
        };
        for _ in 0..self.accounts {
            life.schedule.gate(Gate::new(None));
        }
        for id in 0..u32::try_from(self.count).unwrap() {
            life.begin(id);
        }
        life.run(closely);
        life.report
    }
}

impl Life<'_> {
    /// A certificate that was issued some time before, so that all ages are there.
    fn begin(&mut self, id: Id) {
        let lifetime = self.world.lifetime(id);
        let part = dice(self.world.seed, id, u64::MAX) % 600;
        let start = -lifetime * i64::try_from(part).unwrap() / 1000;
        let name = format!("c{id}.d{}.example", self.world.registered_domain(id));
        self.certificates.push(Certificate {
            identifiers: vec![Identifier::Dns(name)],
            demands: [Vec::new(), Vec::new()],
            start,
            end: start + lifetime,
            attempts: 0,
            refusals: 0,
            wish: 0,
            tries: Vec::new(),
            versions: 0,
            window: None,
            counted_as_ended: false,
        });
        self.renew(id, 0);
    }

    /// Makes its renewal due by its lifetime.
    fn renew(&mut self, id: Id, not_before: Moment) {
        let certificate = &self.certificates[id as usize];
        let jitter = dice(self.world.seed ^ 1, id, certificate.versions);
        let wish = renew_at(&POLICY, time_of(certificate.start), time_of(certificate.end), jitter);
        let wish = moment(wish).max(not_before);
        self.certificates[id as usize].wish = wish;
        self.put(id, wish);
    }

    fn put(&mut self, id: Id, wish: Moment) {
        let account = self.world.account(id);
        let certificate = &mut self.certificates[id as usize];
        let replaces = certificate.window.is_some();
        let cached = &mut certificate.demands[usize::from(replaces)];
        let facts = Facts {
            account: &format!("a{account}"),
            limits: &self.limits,
            identifiers: &certificate.identifiers,
            kind: if replaces { OrderKind::Replacement } else { OrderKind::Renewal },
            wish: time_of(wish),
            valid: Some((time_of(certificate.start), time_of(certificate.end))),
            window: certificate.window,
            failed_attempts: certificate.attempts,
            refusals: certificate.refusals,
            requested: false,
            insists: false,
            hours: match self.world.windows && id.is_multiple_of(3) {
                true => self.saturday.clone(),
                false => Arc::new(Hours::ALWAYS),
            },
            placed: false,
        };
        if cached.is_empty() {
            *cached = facts.entry(self.schedule.books(), account).demands;
        }
        let entry = facts.with_demands(self.schedule.books(), account, cached.clone());
        self.schedule.put(id, entry);
    }

    fn run(&mut self, closely: bool) {
        let (mut now, last) = (0, self.world.days * DAY);
        let mut replace_all = self.world.replace_all_on;
        while now < last {
            while self.ends.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Reverse((_, id, order)) = self.ends.pop().unwrap();
                self.end(id, order, now);
            }
            if replace_all.is_some_and(|at| at <= now) {
                replace_all = None;
                self.replace_all(now);
            }
            let free = self.world.places.saturating_sub(self.ends.len());
            let started = self.schedule.step(now, free);
            if closely {
                self.who_waits_comes_after_who_does_not(&started, now);
            }
            for id in started {
                self.start(id, now);
            }
            let end = self.ends.peek().map(|Reverse((at, ..))| *at);
            let next = [self.schedule.next_look(), end, replace_all].into_iter().flatten().min();
            let Some(next) = next else { break };
            assert!(next > now, "a look at {next} does nothing: it is {now}");
            now = next;
        }
        for id in 0..self.certificates.len() {
            self.note_end(u32::try_from(id).unwrap(), last);
        }
    }

    fn start(&mut self, id: Id, now: Moment) {
        let away = self.world.is_away(now);
        let certificate = &mut self.certificates[id as usize];
        certificate.tries.push((now, Moment::MAX));
        let exempt = certificate.window.is_some() && self.world.exempt;
        let order = self.report.orders.len();
        if away {
            self.report.in_vain.push(now);
            self.ends.push(Reverse((now + ORDER / 6, id, usize::MAX)));
            return;
        }
        self.schedule.placed(id, now);
        let count = certificate.versions * 1000 + u64::from(certificate.attempts);
        let dice = dice(self.world.seed ^ 2, id, count) % 10_000;
        let issued = f64::from(u32::try_from(dice).unwrap()) >= self.world.failing * 10_000.0;
        let ended = now + ORDER;
        self.report.orders.push(Order { id, placed: now, ended, issued, exempt });
        self.ends.push(Reverse((ended, id, order)));
    }

    fn end(&mut self, id: Id, order: usize, now: Moment) {
        let issued = self.report.orders.get(order).map(|order| order.issued);
        let outcome = match issued {
            Some(true) => Outcome::Issued,
            Some(false) => Outcome::Refused(None),
            None => Outcome::Nothing,
        };
        self.schedule.ended(id, now, outcome, issued.is_some());
        if issued == Some(true) {
            self.note_end(id, now);
            let lifetime = self.world.lifetime(id);
            let certificate = &mut self.certificates[id as usize];
            (certificate.start, certificate.end) = (now, now + lifetime);
            (certificate.attempts, certificate.refusals) = (0, 0);
            certificate.window = None;
            certificate.versions += 1;
            certificate.tries.clear();
            certificate.counted_as_ended = false;
            return self.renew(id, now);
        }
        let certificate = &mut self.certificates[id as usize];
        certificate.attempts += 1;
        certificate.refusals += u32::from(issued.is_some());
        let jitter = dice(3, id, u64::from(certificate.attempts));
        let end = time_of(certificate.end);
        let attempts = counted(certificate.attempts, issued.is_none());
        let next = moment(retry_at(time_of(now), attempts, Some(end), None, jitter));
        if let Some(last) = certificate.tries.last_mut() {
            last.1 = next;
        }
        self.put(id, next);
    }

    /// The CAs revoke everything a day from now.
    fn replace_all(&mut self, now: Moment) {
        self.report.replaced_in_time = Some(true);
        for id in 0..u32::try_from(self.certificates.len()).unwrap() {
            self.note_end(id, now);
            let certificate = &mut self.certificates[id as usize];
            let window = Window { start: time_of(now), end: time_of(now + DAY) };
            certificate.end = certificate.end.min(now + DAY);
            certificate.window = Some(window);
            if self.schedule.wait(id) == Some(Wait::Nothing) {
                continue;
            }
            certificate.wish = now;
            certificate.tries.clear();
            self.put(id, now);
        }
    }

    /// Notes a certificate whose end has passed without another one.
    fn note_end(&mut self, id: Id, now: Moment) {
        let lifetime = self.world.lifetime(id);
        let certificate = &mut self.certificates[id as usize];
        if certificate.end > now || certificate.counted_as_ended {
            return;
        }
        certificate.counted_as_ended = true;
        if certificate.window.is_some() {
            self.report.replaced_in_time = Some(false);
        }
        let Certificate { wish, end, start: issued, .. } = *certificate;
        let tries = certificate.tries.clone();
        self.report.ended.push(Ended { id, lifetime, issued, wish, end, tries });
    }

    /// Whoever a budget lets through comes before whoever it keeps waiting: what ends soon, then what has
    /// ended, then what has time, then what fails again and again; each by its end.
    fn who_waits_comes_after_who_does_not(&self, started: &[Id], now: Moment) {
        if started.is_empty() {
            return;
        }
        let turn = |id: Id| {
            let entry = self.schedule.entry(id).unwrap();
            let place = match entry.class {
                Class::Renewal if now >= entry.deadline => 1,
                Class::Renewal if now >= entry.urgent_from => 0,
                Class::Renewal => 2,
                _ => 3,
            };
            (place, entry.deadline, id)
        };
        for id in 0..u32::try_from(self.certificates.len()).unwrap() {
            let Some(Wait::Budget(key, _)) = self.schedule.wait(id) else { continue };
            for other in started {
                let entry = self.schedule.entry(*other).unwrap();
                let shares = entry.demands.iter().any(|d| d.key == key && !d.exempt);
                assert!(!shares || turn(*other) < turn(id), "{other} began before {id} at {now}");
            }
        }
    }
}
