//! Chooses the machines that go to sleep in one act.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use directive::Watts;

use super::feed::Watch;
use super::table::Table;
use super::{Fleet, Seen};

/// How much one act may shed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// What is left on the word of a suspect meter alone.
    pub(super) suspect: Option<Watts>,
    /// What the safety ramp and the largest step leave.
    pub(super) pace: Option<Watts>,
    /// The power above the feed's rating, to which `pace` does not apply.
    pub(super) above_rating: Watts,
    /// Whether one machine may go even if it frees more than `pace`: without this, a machine that is
    /// larger than the ramp would never go.
    pub(super) first: bool,
}

/// What was chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The machines by their numbers, in the order in which they go.
    pub(super) machines: Vec<usize>,
    /// Machines that are waking and draw little yet: they would add to the excess.
    pub(super) recalled: Vec<usize>,
    /// What `machines` free.
    pub(super) watts: Watts,
    /// Whether there was no further machine to choose.
    pub(super) exhausted: bool,
}

impl Budget {
    /// Whether a machine that frees `watts` may go after `shed` in the same act.
    fn allows(&self, shed: Watts, watts: Watts) -> bool {
        let after = shed + watts;
        let paced = self.pace.is_none_or(|pace| after <= pace)
            || shed < self.above_rating
            || (self.first && shed == Watts::ZERO);
        paced && self.suspect.is_none_or(|rest| after <= rest)
    }
}

/// Chooses machines at and below `feed`, in the order of the table, until they free `missing` watts.
/// Feeds below it that carry too much themselves come first, the lowest before the others: what is
/// shed there helps twice.
///
/// Machines whose devices do not answer come last, and no more of them than are missing: if a driver
/// is down, its machines do not all go to sleep when it is back.
pub(super) fn choose(
    table: &Table,
    feeds: &[Watch],
    feed: usize,
    missing: Watts,
    budget: Budget,
    fleet: &impl Fleet,
    now: Instant,
) -> Choice {
    let recalled = feeds[feed]
        .rising
        .machines()
        .filter(|machine| fleet.seen(&table.machines()[*machine].id) == Seen::Boots);
    let mut act = Act {
        table,
        fleet,
        budget,
        missing,
        chosen: HashSet::new(),
        freed: BTreeMap::new(),
        choice: Choice { recalled: recalled.collect(), ..Choice::default() },
    };
    act.choice.recalled.sort_unstable();
    let is_below = |other: usize| table.above(other).skip(1).any(|above| above == feed);
    for child in (feed + 1..feeds.len()).rev() {
        let spec = &table.feeds()[child];
        let excess = feeds[child].excess(spec, now);
        if excess > Watts::ZERO && spec.owned && is_below(child) {
            act.shed(child, excess, Seen::Runs);
        }
    }
    let exhausted = act.shed(feed, missing, Seen::Runs) == Ended::NoMachine;
    let mut bounded = false;
    if exhausted {
        let watts = |machine: usize| {
            let entry = &table.machines()[machine];
            (fleet.seen(&entry.id) == Seen::Defies).then_some(entry.frees)
        };
        let awaited: Watts = feeds[feed].chosen().filter_map(watts).sum();
        let uncovered = missing.saturating_sub(act.choice.watts + awaited);
        let freed = act.freed.get(&feed).copied().unwrap_or_default();
        if uncovered > Watts::ZERO {
            bounded = act.shed(feed, freed + uncovered, Seen::Silent) == Ended::Budget;
        }
    }
    Choice { exhausted: exhausted && !bounded, ..act.choice }
}

struct Act<'a, F> {
    table: &'a Table,
    fleet: &'a F,
    budget: Budget,
    missing: Watts,
    chosen: HashSet<usize>,
    /// What the chosen machines free at each feed.
    freed: BTreeMap<usize, Watts>,
    choice: Choice,
}

/// Why no further machine is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Covered,
    Budget,
    NoMachine,
}

impl<F: Fleet> Act<'_, F> {
    /// Chooses machines at and below `feed` that are seen as `seen`, until the chosen ones free
    /// `watts` there, or the act has all.
    fn shed(&mut self, feed: usize, watts: Watts, seen: Seen) -> Ended {
        for number in self.table.below(feed) {
            let freed = self.freed.get(&feed).copied().unwrap_or_default();
            if self.choice.watts >= self.missing || freed >= watts {
                return Ended::Covered;
            }
            let entry = &self.table.machines()[*number];
            if entry.frees <= Watts::ZERO
                || self.chosen.contains(number)
                || self.fleet.seen(&entry.id) != seen
            {
                continue;
            }
            if !self.budget.allows(self.choice.watts, entry.frees) {
                return Ended::Budget;
            }
            self.chosen.insert(*number);
            self.choice.machines.push(*number);
            self.choice.watts += entry.frees;
            for above in self.table.above(entry.feed) {
                *self.freed.entry(above).or_default() += entry.frees;
            }
        }
        let covered = self.choice.watts >= self.missing;
        if covered { Ended::Covered } else { Ended::NoMachine }
    }
}
