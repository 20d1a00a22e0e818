//! The schedule played forward as if every order succeeded: the plan of the coming days, and how long it
//! would take to replace everything.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use super::budget::{Demand, KeyId, Outcome};
use super::facts::{Hold, Why, horizon};
use super::maintenance::Hours;
use super::schedule::{Class, Entry, Id, Schedule, Wait};
use super::{Moment, Policy, moment, renew_at, seed, time_of};

/// The most renewals that are planned ahead: more is no plan that anybody reads.
const MOST: usize = 1_000_000;

/// A certificate of a fleet; its number in the schedule is its place in the list.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The end of what is in force.
    pub expires: Option<Moment>,
    /// How long what is issued is valid; `None` where nothing was issued yet.
    pub lifetime: Option<Moment>,
    /// What the renewal after the next takes of budgets.
    pub again: Vec<Demand>,
    /// When its web servers may change.
    pub hours: Arc<Hours>,
}

/// Every certificate there is, as it is now.
#[derive(Debug)]
pub struct Fleet {
    /// What is put into it: one entry for each member.
    pub schedule: Schedule,
    /// The certificates.
    pub members: Vec<Member>,
    /// When certificates are renewed.
    pub policy: Policy,
    /// How many are worked on at once.
    pub places: usize,
    /// How long an order takes.
    pub order_time: Moment,
}

/// One order that is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: Moment,
    /// Of which certificate.
    pub id: Id,
    /// Why it wants to be ordered then.
    pub why: Why,
    /// What it has waited for besides.
    pub waited: Option<Wait>,
    /// When what it replaces ends.
    pub expires: Option<Moment>,
}

impl Planned {
    /// Whether what it replaces ends before it is there.
    pub fn is_late(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= self.at)
    }
}

impl Fleet {
    /// Every order from `now` until then, in the order of their times.
    pub fn plan(mut self, now: Moment, until: Moment) -> Vec<Planned> {
        self.play(now, until, Self::renew)
    }

    /// Everything replaced from `now` on, whatever the time and the maintenance windows say.
    pub fn rehearse(mut self, now: Moment, until: Moment) -> (Self, Rehearsal) {
        for at in 0..self.members.len() {
            let Ok(id) = Id::try_from(at) else { break };
            if let Some(entry) = self.schedule.entry(id).cloned() {
                self.schedule.put(id, Entry { wish: now, hold: Hold::NONE, ..entry });
            }
        }
        let mut done = BTreeMap::new();
        let order_time = self.order_time;
        for planned in self.play(now, until, |_, _, _, _| ()) {
            done.insert(planned.id, (planned.at.saturating_add(order_time), planned.waited));
        }
        (self, Rehearsal { now, done })
    }

    fn play(
        &mut self,
        now: Moment,
        until: Moment,
        after: impl Fn(&mut Self, Id, usize, Moment),
    ) -> Vec<Planned> {
        let mut all = Vec::new();
        let mut ends: BinaryHeap<Reverse<(Moment, Id)>> = BinaryHeap::new();
        let mut now = now;
        while now <= until && all.len() < MOST {
            while ends.peek().is_some_and(|Reverse((at, _))| *at <= now)
                && let Some(Reverse((_, id))) = ends.pop()
            {
                let gate = self.schedule.entry(id).map(|entry| entry.gate);
                self.schedule.ended(id, now, Outcome::Issued, true);
                if let Some(gate) = gate {
                    after(self, id, gate, now);
                }
            }
            for id in self.schedule.step(now, self.places.saturating_sub(ends.len())) {
                self.schedule.placed(id, now);
                ends.push(Reverse((now.saturating_add(self.order_time.max(1)), id)));
                let Some(entry) = self.schedule.entry(id) else { continue };
                let expires = self.members.get(id as usize).and_then(|member| member.expires);
                let waited = self.schedule.waited(id);
                all.push(Planned { at: now, id, why: entry.why, waited, expires });
            }
            let end = ends.peek().map(|Reverse((at, _))| *at);
            let Some(next) = self.schedule.next_look().into_iter().chain(end).min() else { break };
            now = next.max(now + 1);
        }
        all
    }

    /// Puts a certificate in again that was issued at a time.
    fn renew(&mut self, id: Id, gate: usize, at: Moment) {
        let Some(member) = self.members.get_mut(id as usize) else { return };
        let Some(lifetime) = member.lifetime else { return };
        let end = at.saturating_add(lifetime);
        member.expires = Some(end);
        let horizon = horizon(self.schedule.books(), &member.again);
        let jitter = seed(&member.name, at.unsigned_abs());
        let wish = moment(renew_at(&self.policy, time_of(at), time_of(end), jitter));
        let entry = Entry {
            wish,
            deadline: end,
            urgent_from: end.saturating_sub(horizon),
            class: Class::Renewal,
            gate,
            demands: member.again.clone(),
            hold: Hold::new(member.hours.clone(), end - lifetime / 10),
            insists: false,
            why: Why::Lifetime,
        };
        self.schedule.put(id, entry);
    }
}

/// How long it would take to replace everything.
#[derive(Debug)]
pub struct Rehearsal {
    /// When it begins.
    pub now: Moment,
    /// When each is done, and what it has waited for; who is not in it was not done at all.
    pub done: BTreeMap<Id, (Moment, Option<Wait>)>,
}

impl Rehearsal {
    /// Who is done within a time.
    pub fn is_done(&self, id: Id, within: Moment) -> bool {
        self.done.get(&id).is_some_and(|(at, _)| *at <= self.now.saturating_add(within))
    }

    /// The budget that most of these certificates have waited for.
    pub fn limiting(&self, ids: &[Id]) -> Option<KeyId> {
        let mut waits: BTreeMap<KeyId, usize> = BTreeMap::new();
        for id in ids {
            if let Some((_, Some(Wait::Budget(key, _)))) = self.done.get(id) {
                *waits.entry(*key).or_default() += 1;
            }
        }
        waits.into_iter().max_by_key(|(_, count)| *count).map(|(key, _)| key)
    }
}
