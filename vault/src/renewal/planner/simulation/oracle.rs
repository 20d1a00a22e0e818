//! Judges what has happened by counting it again.

use std::collections::HashMap;
use std::hash::Hash;

use super::world::{DAY, Ended, HOUR, Order, Report, World};
use crate::config::Rate;
use crate::renewal::planner::Moment;

/// How long a CA may be back before everybody knows.
const NOTICED: Moment = HOUR / 2;
/// Between two looks of the oracle.
const STEP: Moment = HOUR / 6;

/// Counts each budget again: in no time of its length there is more than it allows.
pub(super) fn no_budget_is_exceeded(world: &World, report: &Report) {
    let counted = || report.orders.iter().filter(|order| !order.exempt);
    let certificates = || counted().filter(|order| order.issued);
    let placed = counted().map(|order| (world.account(order.id), order.placed));
    within("orders of account", world.orders, placed);
    let domains = certificates().map(|o| (world.registered_domain(o.id), o.ended));
    within("certificates of domain", world.domain, domains);
    within("certificates of set", world.set, certificates().map(|o| (o.id, o.ended)));
    let failed = report.orders.iter().filter(|order| !order.issued);
    within("failures of", world.failures, failed.map(|order| (order.id, order.ended)));
}

fn within<K: Hash + Eq + std::fmt::Debug>(
    what: &str,
    rate: Option<Rate>,
    uses: impl Iterator<Item = (K, Moment)>,
) {
    let Some(rate) = rate else { return };
    let mut times: HashMap<K, Vec<Moment>> = HashMap::new();
    for (key, at) in uses {
        times.entry(key).or_default().push(at);
    }
    for (key, mut times) in times {
        times.sort_unstable();
        for (first, beyond) in times.iter().zip(times.iter().skip(rate.count.get() as usize)) {
            assert!(beyond - first >= rate.micros(), "{what} {key:?}: more than {rate}");
        }
    }
}

/// Whatever has ended was never kept waiting while its CA was there, its hours were open, it was not
/// between two attempts of its own, and each of its budgets had room.
pub(super) fn whatever_ended_could_not_be_saved(world: &World, report: &Report) {
    for ended in &report.ended {
        let mut at = ended.wish;
        while at < ended.end {
            assert!(!could_begin(world, report, ended, at), "at {} h: {ended:?}", at / HOUR);
            at += STEP;
        }
    }
}

fn could_begin(world: &World, report: &Report, ended: &Ended, at: Moment) -> bool {
    let trying = ended
        .tries
        .iter()
        .any(|(from, to)| (from.saturating_sub(STEP)..=to.saturating_add(STEP)).contains(&at));
    let refused = |order: &&Order| order.id == ended.id && !order.issued && order.ended <= at;
    let refusals = report.orders.iter().filter(refused).filter(|o| o.ended > ended.issued);
    let refusals = refusals.count();
    let away = world.is_away(at) || world.is_away(at - NOTICED);
    let until = ended.end - ended.lifetime / 10;
    let open = world.hours(ended.id).next_open(at);
    let closed = open > at && open <= until;
    if trying || away || closed {
        return false;
    }
    let orders = || report.orders.iter().filter(|order| !order.exempt);
    let account = world.account(ended.id);
    let used = |rate: Option<Rate>, uses: &dyn Fn(&Order, Moment) -> bool| {
        let Some(rate) = rate else { return true };
        let count = rate.count.get() as usize;
        let (slow, fails) = (rate.micros() >= DAY, refusals >= 3);
        let left = match slow {
            _ if count < 10 => 0,
            // What has time leaves a third to the others.
            true if fails || ended.end - at > rate.micros() => count / 3,
            // What fails again and again leaves a fifth.
            false if fails => count / 5,
            _ => 0,
        };
        let allowed = count - left;
        orders().filter(|order| uses(order, at - rate.micros())).count() < allowed
    };
    let certificate = |order: &Order, from: Moment| {
        let is_under_way = order.placed <= at && at <= order.ended;
        is_under_way || (order.issued && from < order.ended && order.ended <= at)
    };
    let domain = world.registered_domain(ended.id);
    used(world.orders, &|o, from| world.account(o.id) == account && (from..=at).contains(&o.placed))
        && used(world.domain, &|o, from| {
            world.registered_domain(o.id) == domain && certificate(o, from)
        })
        && used(world.set, &|o, from| o.id == ended.id && certificate(o, from))
        && used(world.failures, &|o, from| {
            o.id == ended.id && !o.issued && (from..=at).contains(&o.ended)
        })
        && at + DAY / 1440 < ended.end
}
