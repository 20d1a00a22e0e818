//! What begins now, in which order, and when to look again: the whole decision for a fleet, as a function
//! of what was put into it and the time.
//!
//! What is due and may begin waits nowhere; what may not waits for exactly one thing: its own time, a
//! budget, its CA, or a free place. Who comes first is the same everywhere: first what is served and ends,
//! by its end, then what was never issued, then what fails again and again. So an hour's work is what has
//! changed in it, however many certificates there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Moment;
use super::budget::{Books, Demand, KeyId, Outcome, Patience};
use super::facts::{Hold, Why};
use super::gate::Gate;

/// A certificate's number in a schedule.
pub type Id = u32;

/// What an order is to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The CA has it already.
    Placed,
    /// What it is for is served, and ends.
    Renewal,
    /// It was never issued.
    First,
    /// Its validation has failed several times in a row: it may not take what others need.
    Failing,
}

/// Who comes first. What is about to end comes before what has ended: the one can be saved. What has ended
/// comes before what has time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Placed,
    EndsSoon,
    Ended,
    Due,
    First,
    Failing,
}

/// What is known of a certificate.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it wants to begin.
    pub wish: Moment,
    /// By when it should be done.
    pub deadline: Moment,
    /// From when on it comes before what has ended: as long before its deadline as what is used now may
    /// be missing.
    pub urgent_from: Moment,
    /// What it is to the fleet.
    pub class: Class,
    /// Whose CA is asked, by the number from [`Schedule::gate`].
    pub gate: usize,
    /// What it takes of budgets; nothing where its order is placed already.
    pub demands: Vec<Demand>,
    /// When its web servers may change.
    pub hold: Hold,
    /// An operator wants its CA to be asked now, whatever it has said before.
    pub insists: bool,
    /// Why it wants to begin then.
    pub why: Why,
}

impl Entry {
    fn patience(&self) -> Patience {
        match self.class {
            Class::First | Class::Failing => Patience::Long,
            Class::Placed | Class::Renewal => Patience::Until(self.deadline),
        }
    }

    fn rank(&self, now: Moment) -> Rank {
        match self.class {
            Class::Placed => Rank::Placed,
            Class::Renewal if now >= self.deadline => Rank::Ended,
            Class::Renewal if now >= self.urgent_from => Rank::EndsSoon,
            Class::Renewal => Rank::Due,
            Class::First => Rank::First,
            Class::Failing => Rank::Failing,
        }
    }

    /// When it comes to have another rank.
    fn shift(&self, now: Moment) -> Option<Moment> {
        let next = [self.urgent_from, self.deadline].into_iter().filter(|at| *at > now).min();
        next.filter(|_| self.class == Class::Renewal)
    }
}

/// What a certificate waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Its own time.
    Wish(Moment),
    /// A maintenance window that opens then.
    Window(Moment),
    /// A budget, and when there is room in it; `None` where something under way has to end first.
    Budget(KeyId, Option<Moment>),
    /// Its CA, which is away until then at least, or takes no more orders at once.
    Ca(Moment),
    /// A place among those that are worked on.
    Place,
    /// Nothing: it is under way.
    Nothing,
}

/// Everybody's turn: rank, deadline, number.
type Turn = (Rank, Moment, Id);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Block {
    Place,
    Gate(usize),
    Budget(KeyId),
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Later(Moment, bool),
    Blocked(Block),
    UnderWay { placed: bool },
}

/// A certificate, what it waits for, and what it has waited for besides its time and its turn.
#[derive(Debug)]
struct Slot {
    entry: Entry,
    place: Place,
    /// In the queue where it is blocked.
    turn: Turn,
    waited: Option<Wait>,
}

/// The first of what is due.
fn pop_due<T: Ord + Copy>(set: &mut BTreeSet<(Moment, T)>, now: Moment) -> Option<T> {
    let (at, first) = *set.first()?;
    if at > now {
        return None;
    }
    set.pop_first();
    Some(first)
}

/// A fleet's certificates, and what each waits for.
#[derive(Debug, Default)]
pub struct Schedule {
    books: Books,
    gates: Vec<Gate>,
    slots: Vec<Option<Slot>>,
    later: BTreeSet<(Moment, Id)>,
    queues: BTreeMap<Block, BTreeSet<Turn>>,
    /// When whoever is blocked comes to have another rank.
    shifts: BTreeSet<(Moment, Id)>,
    alarms: BTreeSet<(Moment, Block)>,
    alarm_of: HashMap<Block, Moment>,
    stirred: BTreeSet<Block>,
    now: Moment,
}

impl Schedule {
    /// An empty one over these budgets.
    pub fn new(books: Books) -> Self {
        Self { books, ..Self::default() }
    }

    /// Its budgets.
    pub fn books(&mut self) -> &mut Books {
        &mut self.books
    }

    /// Its budgets, to look at.
    pub fn ledger(&self) -> &Books {
        &self.books
    }

    /// A CA's place; entries name it by the number.
    pub fn gate(&mut self, gate: Gate) -> usize {
        self.gates.push(gate);
        self.gates.len() - 1
    }

    /// Adds a certificate, or replaces what was known of it. What is under way stays as it is.
    pub fn put(&mut self, id: Id, entry: Entry) {
        let at = id as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        if self.wait(id) == Some(Wait::Nothing) {
            return;
        }
        self.remove(id);
        let wish = entry.wish;
        self.later.insert((wish, id));
        if let Some(slot) = self.slots.get_mut(at) {
            let turn = (entry.rank(wish), entry.deadline, id);
            *slot = Some(Slot { entry, place: Place::Later(wish, false), turn, waited: None });
        }
    }

    /// Forgets a certificate.
    pub fn remove(&mut self, id: Id) {
        let Some(slot) = self.slots.get_mut(id as usize).and_then(Option::take) else { return };
        match slot.place {
            Place::Later(at, _) => drop(self.later.remove(&(at, id))),
            Place::Blocked(block) => self.leave(block, &slot.turn),
            Place::UnderWay { .. } => {}
        }
    }

    /// What is known of a certificate.
    pub fn entry(&self, id: Id) -> Option<&Entry> {
        Some(&self.slots.get(id as usize)?.as_ref()?.entry)
    }

    /// The last thing that a certificate has waited for besides its time and its turn.
    pub fn waited(&self, id: Id) -> Option<Wait> {
        self.slots.get(id as usize)?.as_ref()?.waited
    }

    /// What a certificate waits for.
    pub fn wait(&self, id: Id) -> Option<Wait> {
        let Slot { entry, place, .. } = self.slots.get(id as usize)?.as_ref()?;
        Some(match place {
            Place::Later(at, true) => Wait::Window(*at),
            Place::Later(at, false) => Wait::Wish(*at),
            Place::UnderWay { .. } => Wait::Nothing,
            Place::Blocked(Block::Place) => Wait::Place,
            Place::Blocked(Block::Gate(gate)) => {
                Wait::Ca(self.gates.get(*gate).map_or(0, Gate::away_until))
            }
            Place::Blocked(Block::Budget(key)) => {
                Wait::Budget(*key, self.books.free_at(*key, self.now, entry.patience()))
            }
        })
    }

    /// What begins now, in this order, where so many places are free. It counts as under way from here on.
    pub fn step(&mut self, now: Moment, places: usize) -> Vec<Id> {
        self.now = now;
        let mut places = places;
        let mut started = Vec::new();
        let mut turns: BTreeSet<(Turn, Option<Block>)> = BTreeSet::new();
        while let Some(id) = pop_due(&mut self.later, now) {
            turns.extend(self.turn_of(id, now).map(|turn| (turn, None)));
        }
        self.shift(now);
        for block in self.woken(now, places) {
            self.next_of(block, &mut turns);
        }
        while let Some((turn, from)) = turns.pop_first() {
            let id = turn.2;
            match self.obstacle(id, now, places) {
                None => {
                    places -= 1;
                    self.start(id);
                    started.push(id);
                }
                Some(Place::Later(at, window)) => {
                    self.later.insert((at, id));
                    self.move_to(id, Place::Later(at, window));
                }
                Some(place) => {
                    self.move_to(id, place);
                    if let Place::Blocked(block) = place {
                        self.enqueue(id, block, now);
                    }
                    // All behind it in the same queue wait for the same.
                    if matches!(place, Place::Blocked(block) if Some(block) == from) {
                        continue;
                    }
                }
            }
            if let Some(block) = from {
                self.next_of(block, &mut turns);
            }
        }
        self.set_alarms(now);
        started
    }

    /// When something may begin that may not now: the next look.
    pub fn next_look(&self) -> Option<Moment> {
        let later = self.later.first().map(|(at, _)| *at);
        let alarm = self.alarms.first().map(|(at, _)| *at);
        later.into_iter().chain(alarm).min()
    }

    /// The CA has been asked for an order.
    pub fn placed(&mut self, id: Id, now: Moment) {
        let Some(Some(Slot { entry, place, .. })) = self.slots.get_mut(id as usize) else { return };
        if let Place::UnderWay { placed } = place
            && !*placed
        {
            *placed = true;
            self.books.placed(&entry.demands, now);
        }
    }

    /// What was under way has ended, and the CA did answer or did not; it is forgotten until it is put in
    /// again.
    pub fn ended(
        &mut self,
        id: Id,
        now: Moment,
        outcome: Outcome,
        answered: bool,
    ) -> Option<Entry> {
        let slot = self.slots.get_mut(id as usize)?;
        slot.take_if(|slot| matches!(slot.place, Place::UnderWay { .. })).map(|slot| {
            self.settle(&slot, now, outcome, answered);
            slot.entry
        })
    }

    fn settle(&mut self, slot: &Slot, now: Moment, outcome: Outcome, answered: bool) {
        let Slot { entry, place, .. } = slot;
        let placed = matches!(place, Place::UnderWay { placed: true });
        self.books.ended(&entry.demands, placed, now, outcome);
        if let Some(gate) = self.gates.get_mut(entry.gate) {
            gate.leave(now, answered);
        }
        let freed = entry.demands.iter().map(|demand| Block::Budget(demand.key));
        for block in freed.chain([Block::Gate(entry.gate)]) {
            if self.queues.contains_key(&block) {
                self.stirred.insert(block);
            }
        }
    }

    fn turn_of(&self, id: Id, now: Moment) -> Option<Turn> {
        let entry = self.entry(id)?;
        Some((entry.rank(now), entry.deadline, id))
    }

    /// Puts a certificate into a queue by the rank that it has now.
    fn enqueue(&mut self, id: Id, block: Block, now: Moment) {
        let Some(turn) = self.turn_of(id, now) else { return };
        if let Some(Some(slot)) = self.slots.get_mut(id as usize) {
            slot.turn = turn;
            self.shifts.extend(slot.entry.shift(now).map(|at| (at, id)));
        }
        self.queues.entry(block).or_default().insert(turn);
        self.stirred.insert(block);
    }

    /// Gives whoever has come to have another rank its new place in its queue.
    fn shift(&mut self, now: Moment) {
        while let Some(id) = pop_due(&mut self.shifts, now) {
            let Some(Some(slot)) = self.slots.get(id as usize) else { continue };
            if let Place::Blocked(block) = slot.place {
                let turn = slot.turn;
                self.leave(block, &turn);
                self.enqueue(id, block, now);
            }
        }
    }

    fn move_to(&mut self, id: Id, to: Place) {
        let Some(Some(slot)) = self.slots.get_mut(id as usize) else { return };
        slot.place = to;
        slot.waited = match to {
            Place::Later(at, true) => Some(Wait::Window(at)),
            Place::Blocked(Block::Budget(key)) => Some(Wait::Budget(key, None)),
            Place::Blocked(Block::Gate(_)) => Some(Wait::Ca(0)),
            _ => slot.waited,
        };
    }

    fn start(&mut self, id: Id) {
        let Some(Some(Slot { entry, place, .. })) = self.slots.get_mut(id as usize) else { return };
        *place = Place::UnderWay { placed: false };
        self.books.hold(&entry.demands);
        if let Some(gate) = self.gates.get_mut(entry.gate) {
            gate.enter();
        }
    }

    /// What keeps a certificate from beginning now.
    fn obstacle(&mut self, id: Id, now: Moment, places: usize) -> Option<Place> {
        let entry = &self.slots.get(id as usize)?.as_ref()?.entry;
        let open = entry.hold.open_at(now);
        if open > now {
            return Some(Place::Later(open, true));
        }
        for demand in &entry.demands {
            let closed = match demand.exempt {
                _ if entry.insists => self.books.is_full(demand, now),
                true => self.books.is_closed(demand.key, now),
                false => self.books.room(demand.key, now, entry.patience()) == 0,
            };
            if closed {
                return Some(Place::Blocked(Block::Budget(demand.key)));
            }
        }
        let gate = self.gates.get(entry.gate).filter(|_| !entry.insists);
        if gate.is_some_and(|gate| gate.room(now) == 0) {
            return Some(Place::Blocked(Block::Gate(entry.gate)));
        }
        (places == 0).then_some(Place::Blocked(Block::Place))
    }

    /// What may have room again.
    fn woken(&mut self, now: Moment, places: usize) -> BTreeSet<Block> {
        let mut woken = std::mem::take(&mut self.stirred);
        while let Some(block) = pop_due(&mut self.alarms, now) {
            self.alarm_of.remove(&block);
            woken.insert(block);
        }
        if places > 0 {
            woken.insert(Block::Place);
        }
        self.stirred.extend(&woken);
        woken
    }

    /// Lets the first of a queue try again.
    fn next_of(&mut self, block: Block, turns: &mut BTreeSet<(Turn, Option<Block>)>) {
        let Some(queue) = self.queues.get_mut(&block) else { return };
        if let Some(turn) = queue.pop_first() {
            turns.insert((turn, Some(block)));
        }
        if queue.is_empty() {
            self.queues.remove(&block);
        }
    }

    fn leave(&mut self, block: Block, turn: &Turn) {
        if let Some(queue) = self.queues.get_mut(&block) {
            queue.remove(turn);
            if queue.is_empty() {
                self.queues.remove(&block);
            }
        }
    }

    /// Sees to it that each queue that was touched is looked at when there may be room again.
    fn set_alarms(&mut self, now: Moment) {
        for block in std::mem::take(&mut self.stirred) {
            if let Some(at) = self.alarm_of.remove(&block) {
                self.alarms.remove(&(at, block));
            }
            let Some((_, _, id)) = self.queues.get(&block).and_then(BTreeSet::first) else {
                continue;
            };
            let Some(patience) = self.entry(*id).map(Entry::patience) else { continue };
            let at = match block {
                Block::Place => None,
                Block::Gate(gate) => {
                    self.gates.get(gate).map(Gate::away_until).filter(|at| *at > now)
                }
                Block::Budget(key) => self.books.free_at(key, now, patience),
            };
            if let Some(at) = at {
                self.alarms.insert((at, block));
                self.alarm_of.insert(block, at);
            }
        }
    }
}
