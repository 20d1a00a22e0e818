//! Fleets played through in no time: certificates of several lifetimes, CAs that are away and that refuse,
//! budgets, maintenance windows, and a CA that wants everything replaced within a day.
//!
//! What happens is judged by counters and rules of their own, which know nothing of how the schedule works.

mod oracle;
mod world;

use proptest::prelude::*;
use proptest::test_runner::Config;

use self::world::{DAY, HOUR, Report, World};
use crate::config::Rate;
use crate::renewal::planner::Moment;

/// Worlds of some hundred certificates, with whatever may go wrong.
fn worlds() -> impl Strategy<Value = World> {
    let rate = |count: std::ops::Range<u32>, hours: &'static [u32]| {
        let per = prop::sample::select(hours);
        prop::option::of((count, per).prop_map(|(n, hours)| Rate::seconds(n, hours * 3600)))
    };
    let budgets =
        (rate(3..60, &[1, 3]), rate(5..60, &[24, 168]), rate(2..6, &[24, 168]), rate(2..6, &[1]));
    let outages = prop::collection::vec((0i64..120, 1i64..120), 0..3);
    let fleet = (any::<u64>(), 20usize..200, 1usize..4, 1usize..30);
    let trouble = (outages, 0.0f64..0.3, prop::option::of(5i64..110), any::<bool>(), any::<bool>());
    (
        fleet,
        budgets,
        trouble,
        prop::collection::vec(prop::sample::select(&[6i64, 47, 90][..]), 1..4),
    )
        .prop_map(|((seed, count, accounts, per_domain), budgets, trouble, lifetimes)| {
            let (outages, failing, replace_all_on, windows, exempt) = trouble;
            let (orders, domain, set, failures) = budgets;
            World {
                seed,
                count,
                accounts,
                per_domain,
                lifetimes,
                orders,
                domain,
                set,
                failures,
                exempt,
                outages: outages
                    .iter()
                    .map(|(day, hours)| (day * DAY, day * DAY + hours * HOUR))
                    .collect(),
                failing,
                replace_all_on: replace_all_on.map(|day| day * DAY),
                windows,
                days: 120,
                places: usize::MAX,
            }
        })
}

proptest! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    #[test]
    fn no_budget_is_exceeded_and_nothing_ends_that_could_have_been_saved(world in worlds()) {
        let report = world.run(true);
        oracle::no_budget_is_exceeded(&world, &report);
        oracle::whatever_ended_could_not_be_saved(&world, &report);
    }

    #[test]
    fn the_same_world_has_the_same_schedule(world in worlds()) {
        prop_assert_eq!(world.run(false).orders, world.run(false).orders);
    }

    /// Hundreds are due, and each would ask by itself.
    #[test]
    fn a_ca_that_is_away_is_asked_now_and_then_and_everybody_goes_on_once_it_is_back(
        seed: u64, count in 100usize..300
    ) {
        let (away, back) = (30 * DAY, 35 * DAY);
        let world = World { outages: vec![(away, back)], ..World::quiet(seed, count) };
        let report = world.run(true);
        let quarters = usize::try_from((back - away) / (HOUR / 4)).unwrap();
        prop_assert!(report.in_vain.len() < quarters + 20, "{} times", report.in_vain.len());
        let late = report.orders.iter().filter(|order| order.placed > back).map(|o| o.placed).min();
        prop_assert!(late.is_some_and(|at| at < back + HOUR / 3), "{late:?}");
        prop_assert_eq!(&report.ended, &[]);
    }

    /// Half as much again as it needs, CAs that are away for five days: nothing that lives for weeks ends.
    #[test]
    fn a_fleet_within_its_budgets_loses_nothing_to_a_ca_that_is_away_for_five_days(
        seed: u64, count in 50usize..200, away_on in 40i64..100, windows: bool
    ) {
        let lifetimes = vec![47, 90];
        // 47 days are renewed after some 30 at the earliest: so many a day, and half as many again.
        let daily = u32::try_from(count / 20).unwrap().max(3);
        // What may be replaced on Saturday nights only fits into one.
        let daily = if windows { daily + u32::try_from(count / 3).unwrap() } else { daily };
        let world = World {
            lifetimes,
            orders: Some(Rate::seconds(daily, 24 * 3600)),
            outages: vec![(away_on * DAY, (away_on + 5) * DAY)],
            windows,
            ..World::quiet(seed, count)
        };
        let report = world.run(true);
        oracle::no_budget_is_exceeded(&world, &report);
        prop_assert_eq!(&report.ended, &[]);
    }
}

/// The fleet of the issue: 100,000 certificates for two years, three outages, and a CA that wants all of
/// them replaced within a day.
#[test]
fn a_hundred_thousand_certificates_live_through_two_years() {
    // Of twenty certificates one lives for six days, thirteen for 47, six for 90.
    let lifetimes = [vec![6], vec![47; 13], vec![90; 6]].concat();
    let world = World {
        accounts: 4,
        per_domain: 100,
        lifetimes,
        // As Let's Encrypt publishes them, but that renewals count as everything else does.
        orders: Some(Rate::seconds(300, 3 * 3600)),
        domain: Some(Rate::seconds(50, 168 * 3600)),
        set: Some(Rate::seconds(5, 168 * 3600)),
        failures: Some(Rate::seconds(5, 3600)),
        exempt: true,
        outages: vec![(100 * DAY, 101 * DAY), (200 * DAY, 205 * DAY), (500 * DAY, 503 * DAY)],
        failing: 0.01,
        replace_all_on: Some(400 * DAY),
        days: 730,
        places: 64,
        ..World::quiet(1, 100_000)
    };
    let report = world.run(false);
    oracle::no_budget_is_exceeded(&world, &report);
    let Report { orders, ended, replaced_in_time, .. } = &report;
    assert!(orders.len() > 2_000_000, "{} orders", orders.len());
    assert_eq!(*replaced_in_time, Some(true), "everything was to be replaced within a day");
    // What lives for six days does not outlive five days without a CA. Nothing else is lost: not in the weeks
    // after the replacement either, in which what was replaced on one day is due again on one day.
    for lost in ended {
        assert_eq!(lost.lifetime, 6 * DAY, "{lost:?}");
        let away = |(from, to): &(Moment, Moment)| (*from..to + HOUR).contains(&lost.end);
        assert!(world.outages.iter().any(away), "{lost:?}");
    }
    assert!(!ended.is_empty(), "five days are longer than what is left of six");
}
