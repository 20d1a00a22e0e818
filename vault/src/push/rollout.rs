//! A new version on one agent first: from what is known now, who shall hold what. Pure, so that
//! every node comes to the same answer; `docs/rollout.md` has the rules.

use std::{cmp::Reverse, collections::BTreeMap};

use time::{Duration, OffsetDateTime};
use vault_proto::ids::AgentName;

use crate::store::{DeploymentStatus, RolloutRecord, RolloutState};

/// The last part of the base's lifetime, in which nobody is waited for that is away.
const MARGIN: i32 = 10;
/// That part at most: a certificate of months needs no weeks for it.
const MOST_MARGIN: Duration = Duration::days(1);

/// Everything that the decision looks at.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: OffsetDateTime,
    /// How long a canary has before another agent is tried.
    pub(super) patience: Duration,
    pub(super) rollout: RolloutRecord,
    /// The life of the version that is kept; `None` where it is revoked or not there.
    pub(super) base: Option<Life>,
    /// The agent that the operator wants asked first.
    pub(super) chosen: Option<AgentName>,
    /// Where the certificate goes.
    pub(super) agents: Vec<Place>,
}

/// From when to when a version can be served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

/// An agent that the certificate goes to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) agent: AgentName,
    /// Whether it has a stream to this node.
    pub(super) near: bool,
    /// Whether it has a stream, here or, by all that is known, to another node.
    pub(super) reachable: bool,
    pub(super) held_version: u64,
    pub(super) status: DeploymentStatus,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until this time at most or until something happens.
    Wait(Option<OffsetDateTime>),
    /// The rollout goes on so.
    Move(Next),
}

/// The rollout and what each agent is sent from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) state: RolloutState,
    pub(super) canary: Option<AgentName>,
    pub(super) detail: String,
    pub(super) wanted: BTreeMap<AgentName, u64>,
}

impl Facts {
    /// What is to be done now.
    pub(super) fn decide(&self) -> Step {
        let everywhere = self.agents.iter().all(|place| self.has_it(place));
        match self.rollout.state {
            RolloutState::Done => Step::Wait(None),
            RolloutState::Proven | RolloutState::Released if everywhere => {
                self.step(RolloutState::Done, String::new())
            }
            RolloutState::Proven | RolloutState::Released => Step::Wait(None),
            // An expired chain helps nobody: each agent tries the new one for itself then, and
            // keeps the old one where that fails.
            RolloutState::Stopped | RolloutState::Abandoned => match self.ending() {
                Ending::Not { margin } => Step::Wait(Some(margin)),
                Ending::Soon { why, .. } | Ending::Now { why } => self.release(&why),
            },
            RolloutState::Running if self.agents.len() < 2 => {
                self.step(RolloutState::Proven, "it goes to no other agent".to_owned())
            }
            RolloutState::Running => self.run(),
        }
    }

    fn run(&self) -> Step {
        if let Some(proof) = self.agents.iter().find(|place| self.has_it(place)) {
            return self.step(RolloutState::Proven, format!("agent {} has proven it", proof.agent));
        }
        let (ending, call) = match self.ending() {
            Ending::Now { why } => return self.release(&why),
            Ending::Soon { why, call } => (Some(why), call),
            Ending::Not { margin } => (None, margin),
        };
        let patience = self.rollout.since + self.patience;
        let is_late = self.now >= patience;
        let canary = self.rollout.canary.as_ref();
        let canary = self.agents.iter().find(|place| Some(&place.agent) == canary);
        if let Some(canary) = canary
            && !is_late
            && (canary.reachable || ending.is_none())
        {
            return Step::Wait(Some(patience.min(call)));
        }
        let waits_for_chosen = canary.is_none() && !is_late && ending.is_none();
        match self.candidate(canary.map(|place| &place.agent), waits_for_chosen) {
            Some(next) => self.ask(next),
            None => match ending {
                Some(why) => self.release(&format!("{why} and no other agent is connected")),
                None if is_late => Step::Wait(Some(call)),
                None => Step::Wait(Some(patience.min(call))),
            },
        }
    }

    /// Who is asked next: whom the operator wants, else, of those that are connected here or else
    /// elsewhere, the first by name that has proven its version by a handshake, that holds one, of all.
    fn candidate(&self, not: Option<&AgentName>, waits_for_chosen: bool) -> Option<&Place> {
        let chosen = |place: &Place| Some(&place.agent) == self.chosen.as_ref();
        let is_away = |place: &Place| chosen(place) && !place.reachable;
        if waits_for_chosen && self.agents.iter().any(is_away) {
            return None;
        }
        let rank = |place: &Place| match place.status {
            DeploymentStatus::Serving => 2,
            DeploymentStatus::Installed => 1,
            DeploymentStatus::Pending | DeploymentStatus::Failed => 0,
        };
        let others =
            self.agents.iter().filter(|place| place.reachable && Some(&place.agent) != not);
        others.min_by_key(|place| {
            (!chosen(place), !place.near, Reverse(rank(place)), place.agent.clone())
        })
    }

    fn ask(&self, canary: &Place) -> Step {
        let detail = match &self.rollout.canary {
            Some(last) => format!("agent {last} has not answered"),
            None => String::new(),
        };
        self.next(RolloutState::Running, Some(canary.agent.clone()), detail)
    }

    fn release(&self, why: &str) -> Step {
        let detail = format!("version {} went to all agents unproven: {why}", self.rollout.version);
        self.step(RolloutState::Released, detail)
    }

    /// What becomes of it where an agent has refused the new version; `None` where that stops
    /// nothing: the agent was not asked, or has had it.
    pub(super) fn refused(&self, agent: &AgentName, why: &str) -> Option<Step> {
        let place = self.agents.iter().find(|place| place.agent == *agent)?;
        let asked = match self.rollout.state {
            RolloutState::Running => self.rollout.canary.as_ref() == Some(agent),
            RolloutState::Proven => true,
            _ => false,
        };
        let detail = || format!("agent {agent} refused version {}: {why}", self.rollout.version);
        (asked && !self.has_it(place)).then(|| self.step(RolloutState::Stopped, detail()))
    }

    /// What an operator's second try comes down to.
    pub(super) fn resumed(&self) -> Step {
        self.step(RolloutState::Running, String::new())
    }

    /// What an operator's end of it comes down to.
    pub(super) fn abandoned(&self) -> Step {
        self.step(RolloutState::Abandoned, "an operator has called it off".to_owned())
    }

    fn step(&self, state: RolloutState, detail: String) -> Step {
        self.next(state, self.rollout.canary.clone(), detail)
    }

    fn next(&self, state: RolloutState, canary: Option<AgentName>, detail: String) -> Step {
        let RolloutRecord { version, base, .. } = self.rollout;
        let wanted = self.agents.iter().map(|place| {
            let held = place.held_version;
            let is_canary = Some(&place.agent) == canary.as_ref();
            let to = match state {
                RolloutState::Abandoned => base,
                _ if state.is_open() || held == version => version,
                RolloutState::Running if is_canary => version,
                // What it has proven since the base.
                _ if held > base && held < version => held,
                _ => base,
            };
            (place.agent.clone(), to)
        });
        let wanted = wanted.collect();
        Step::Move(Next { state, canary, detail, wanted })
    }

    fn has_it(&self, place: &Place) -> bool {
        place.held_version == self.rollout.version
    }

    fn ending(&self) -> Ending {
        let base = self.rollout.base;
        let Some(Life { not_before, not_after }) = self.base else {
            return Ending::Now { why: format!("version {base} is revoked") };
        };
        let part = ((not_after - not_before) / MARGIN).min(MOST_MARGIN);
        let (margin, call) = (not_after - part, not_after - part / 2);
        let why = format!("version {base} ends at {not_after}");
        match self.now {
            now if now >= call => Ending::Now { why },
            now if now >= margin => Ending::Soon { why, call },
            _ => Ending::Not { margin },
        }
    }
}

/// How near the end of the version is that is kept.
enum Ending {
    /// Not before this time.
    Not { margin: OffsetDateTime },
    /// Nobody is waited for who is away.
    Soon { why: String, call: OffsetDateTime },
    /// Nobody is waited for.
    Now { why: String },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::hours(1);

    fn at(hours: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::hours(hours)
    }

    fn name(agent: usize) -> AgentName {
        format!("web{agent}").parse().unwrap()
    }

    /// Version 2 begins to replace version 1, which lives for 100 days from hour 0 on.
    fn begun(agents: usize) -> Facts {
        let place = |agent| Place {
            agent: name(agent),
            near: true,
            reachable: true,
            held_version: 1,
            status: DeploymentStatus::Serving,
        };
        Facts {
            now: at(0),
            patience: PATIENCE,
            rollout: RolloutRecord {
                certificate: "shop".parse().unwrap(),
                version: 2,
                base: 1,
                canary: None,
                state: RolloutState::Running,
                since: at(0),
                detail: String::new(),
                revision: 1,
            },
            base: Some(Life { not_before: at(0), not_after: at(2400) }),
            chosen: None,
            agents: (0..agents).map(place).collect(),
        }
    }

    /// Takes a step, as the store would.
    fn take(facts: &mut Facts, step: Step) -> Next {
        let Step::Move(next) = step else { panic!("{step:?}: {facts:?}") };
        if next.canary != facts.rollout.canary || next.state != facts.rollout.state {
            facts.rollout.since = facts.now;
        }
        facts.rollout.state = next.state;
        facts.rollout.canary = next.canary.clone();
        next
    }

    fn wanted(next: &Next) -> Vec<u64> {
        next.wanted.values().copied().collect()
    }

    #[test]
    fn the_first_that_can_prove_it_is_asked_and_the_rest_follows() {
        let mut facts = begun(3);
        facts.agents[0].status = DeploymentStatus::Installed;
        let step = facts.decide();
        let next = take(&mut facts, step);
        assert_eq!((next.canary.as_ref(), wanted(&next)), (Some(&name(1)), vec![1, 2, 1]));
        assert_eq!(facts.decide(), Step::Wait(Some(at(1))));
        facts.agents[1].held_version = 2;
        let step = facts.decide();
        let next = take(&mut facts, step);
        assert_eq!((next.state, wanted(&next)), (RolloutState::Proven, vec![2, 2, 2]));
        assert_eq!(facts.decide(), Step::Wait(None));
        facts.agents.iter_mut().for_each(|place| place.held_version = 2);
        let step = facts.decide();
        assert_eq!(take(&mut facts, step).state, RolloutState::Done);
        assert_eq!(facts.decide(), Step::Wait(None));
    }

    #[test]
    fn a_refusal_stops_it_and_a_second_try_begins_with_the_same_agent() {
        let mut facts = begun(3);
        let step = facts.decide();
        take(&mut facts, step);
        assert_eq!(facts.refused(&name(1), "who was not asked"), None);
        let step = facts.refused(&name(0), "nginx -t").unwrap();
        let next = take(&mut facts, step);
        assert_eq!((next.state, wanted(&next)), (RolloutState::Stopped, vec![1, 1, 1]));
        assert!(next.detail.contains("web0") && next.detail.contains("nginx -t"), "{next:?}");
        assert_eq!(facts.decide(), Step::Wait(Some(at(2400 - 24))));
        let step = facts.resumed();
        let next = take(&mut facts, step);
        assert_eq!((next.state, wanted(&next)), (RolloutState::Running, vec![2, 1, 1]));
    }

    #[test]
    fn a_follower_s_refusal_leaves_the_new_version_where_it_is_proven() {
        let mut facts = begun(3);
        let step = facts.decide();
        take(&mut facts, step);
        facts.agents[0].held_version = 2;
        let step = facts.decide();
        take(&mut facts, step);
        assert_eq!(facts.refused(&name(0), "it has had it"), None);
        let step = facts.refused(&name(2), "no").unwrap();
        assert_eq!(wanted(&take(&mut facts, step)), [2, 1, 1]);
        let step = facts.abandoned();
        let next = take(&mut facts, step);
        assert_eq!(wanted(&next), [1, 1, 1]);
    }

    #[test]
    fn the_operator_s_canary_is_waited_for_and_then_another_is_asked() {
        let mut facts = begun(3);
        (facts.chosen, facts.agents[2].reachable) = (Some(name(2)), false);
        assert_eq!(facts.decide(), Step::Wait(Some(at(1))));
        facts.now = at(1);
        let step = facts.decide();
        assert_eq!(take(&mut facts, step).canary, Some(name(0)));
        facts.agents[2].reachable = true;
        assert_eq!(facts.decide(), Step::Wait(Some(at(2))), "one that is asked stays it");
        facts.now = at(2);
        let step = facts.decide();
        let next = take(&mut facts, step);
        assert_eq!((next.canary.as_ref(), wanted(&next)), (Some(&name(2)), vec![1, 1, 2]));
    }

    #[test]
    fn nobody_is_waited_for_when_what_is_kept_ends() {
        let mut facts = begun(2);
        facts.agents.iter_mut().for_each(|place| place.reachable = false);
        facts.now = at(2);
        assert_eq!(facts.decide(), Step::Wait(Some(at(2400 - 24))));
        facts.now = at(2400 - 24);
        let step = facts.decide();
        let next = take(&mut facts, step);
        assert_eq!((next.state, wanted(&next)), (RolloutState::Released, vec![2, 2]));
        // A canary that is there has half of that time.
        let mut facts = begun(2);
        facts.now = at(2400 - 24);
        let step = facts.decide();
        assert_eq!(wanted(&take(&mut facts, step)), [2, 1]);
        facts.patience = Duration::days(7);
        assert_eq!(facts.decide(), Step::Wait(Some(at(2400 - 12))));
        facts.now = at(2400 - 12);
        let step = facts.decide();
        assert_eq!(take(&mut facts, step).state, RolloutState::Released);
    }

    #[test]
    fn what_is_revoked_is_kept_by_nobody() {
        let mut facts = begun(2);
        facts.base = None;
        let step = facts.decide();
        assert_eq!(wanted(&take(&mut facts, step)), [2, 2]);
    }

    /// What may happen in the course of a rollout.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Pass(i64),
        Reach(usize, bool),
        Prove(usize),
        Refuse(usize),
        Resume,
        Abandon,
    }

    fn an_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0_i64..200).prop_map(Event::Pass),
            3 => (0_usize..4, any::<bool>()).prop_map(|(agent, there)| Event::Reach(agent, there)),
            3 => (0_usize..4).prop_map(Event::Prove),
            2 => (0_usize..4).prop_map(Event::Refuse),
            1 => Just(Event::Resume),
            1 => Just(Event::Abandon),
        ]
    }

    proptest! {
        #[test]
        fn no_two_are_changed_before_a_proof_and_nobody_is_left_without(
            events in prop::collection::vec(an_event(), 1..60),
            chosen in prop::option::of(0_usize..4),
        ) {
            let mut facts = begun(4);
            facts.chosen = chosen.map(name);
            let mut sent = vec![1; 4];
            let mut refusers = BTreeSet::new();
            for event in events {
                let is_sent = |agent: usize| sent[agent] == 2;
                match event {
                    Event::Pass(hours) => facts.now += Duration::hours(hours),
                    Event::Reach(agent, there) => facts.agents[agent].reachable = there,
                    Event::Prove(agent) if is_sent(agent) => facts.agents[agent].held_version = 2,
                    Event::Refuse(agent) if is_sent(agent) => {
                        if let Some(step) = facts.refused(&name(agent), "no") {
                            sent = wanted(&take(&mut facts, step));
                            refusers.insert(agent);
                        }
                    }
                    Event::Resume if !facts.rollout.state.is_open() => {
                        refusers.clear();
                        let step = facts.resumed();
                        sent = wanted(&take(&mut facts, step));
                    }
                    Event::Abandon if !facts.rollout.state.is_open() => {
                        let step = facts.abandoned();
                        sent = wanted(&take(&mut facts, step));
                        for (place, wanted) in facts.agents.iter_mut().zip(&sent) {
                            place.held_version = *wanted;
                        }
                    }
                    _ => {}
                }
                for _ in 0..4 {
                    let step = facts.decide();
                    if let Step::Move(_) = step {
                        sent = wanted(&take(&mut facts, step));
                    }
                }
                prop_assert!(matches!(facts.decide(), Step::Wait(_)), "it settles: {facts:?}");
                let state = facts.rollout.state;
                let has_it = |agent: &usize| facts.agents[*agent].held_version == 2;
                let new = (0..4).filter(|agent| sent[*agent] == 2).collect::<Vec<_>>();
                let unproven = new.iter().filter(|agent| !has_it(agent)).count();
                if !state.is_open() {
                    prop_assert!(unproven <= 1, "{new:?} without a proof: {facts:?}");
                }
                if state == RolloutState::Stopped {
                    prop_assert!(refusers.iter().all(|agent| sent[*agent] == 1), "{facts:?}");
                }
                if facts.now >= at(2400 - 12) {
                    prop_assert_eq!(&sent, &vec![2; 4], "{:?}", facts);
                }
            }
        }
    }
}
