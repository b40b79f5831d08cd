//! The guard: puts machines to sleep when a feed's meter shows more than the feed may carry.
//!
//! It decides alone, from the newest guard table and the samples of the meters, so that a feed is
//! protected when the switchboard is slow or gone. It only lowers: its machines stay off until a
//! timeline takes over their hold. Before a machine wakes, the guard says whether the feeds above it
//! have room for it.
//!
//! Pure: samples, the machines as they are seen (`Fleet`) and the time go in, holds come out.
//! Samples are placed on the monotonic clock by their age, so that a step of the wall clock makes
//! the guard neither blind nor too patient.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    FeedId, Generation, GuardHold, GuardReport, GuardTable, GuardedFeed, GuardedTime, MachineId,
    MeterId, MeterReading, ReceiverId, Watts,
};
use jiff::Timestamp;
use tracing::{info, warn};

mod choice;
mod feed;
mod holds;
mod motion;
mod moving;
mod over;
mod own;
mod table;

pub use holds::GuardSaved;
pub use over::{FeedOver, OverReason};
pub use own::OwnGuard;
pub(crate) use own::{OwnMachine, table as own_table};

use choice::{Budget, Choice};
use feed::{Judged, Watch};
use holds::Holds;
use motion::Motion;
use table::{Feed, Table};

/// What the guard asks about a machine.
pub(crate) trait Fleet {
    /// What is seen of the machine, and whether it may be chosen.
    fn seen(&self, machine: &MachineId) -> Seen;
}

/// A machine as the guard sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It draws power, and may run.
    Runs,
    /// It may run, and its device was not read or did not answer, or its driver takes no command at
    /// present: it is chosen after all others.
    Silent,
    /// It was told to wake and its device has not reported it awake yet.
    Boots,
    /// It must sleep, and its device has confirmed since the last command that it does.
    Sleeps,
    /// It must sleep, and its device does not answer or does not follow, or was not told yet.
    Defies,
    /// It is on its way to sleep, sleeps for another reason, may not run, or is not reached.
    Other,
}

/// What a sample led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sampled {
    /// The new holds. Their machines must go to sleep at once, in this order.
    pub(crate) acts: Vec<GuardHold>,
    /// The feeds that have tripped.
    pub(crate) tripped: Vec<FeedId>,
    /// The feeds for which somebody else must be called.
    pub(crate) over: Vec<FeedOver>,
    /// Whether the state of some feed has changed in a way that is reported without delay.
    pub(crate) news: bool,
    /// Whether a feed that this agent guards has a new sample.
    pub(crate) fresh: bool,
}

#[derive(Debug)]
pub(crate) struct Guard {
    own: ReceiverId,
    table: Table,
    /// Whether the table is made from the agent's own settings, because none was ever heard.
    is_own: bool,
    /// The feeds of the table, by their numbers there.
    feeds: Vec<Watch>,
    /// The machines of the table, by their numbers there.
    motions: Vec<Motion>,
    holds: Holds,
    /// What was shed in the last minute.
    shed: VecDeque<(Instant, Watts)>,
    /// How often at most somebody is called for a feed that carries too much when no machine is left;
    /// `None` if there is nobody.
    calls_every: Option<Duration>,
}

/// The time in which `ramp_per_min` is counted.
const MINUTE: Duration = Duration::from_secs(60);

impl Guard {
    /// Continues where a former process stopped. Nothing is known of the feeds before their first
    /// samples.
    pub(crate) fn restore(own: ReceiverId, saved: GuardSaved) -> Self {
        let GuardSaved { table, last_hold, holds } = saved;
        let mut guard = Self {
            own,
            table: Table::default(),
            is_own: false,
            feeds: Vec::new(),
            motions: Vec::new(),
            holds: Holds::restore(last_hold, holds),
            shed: VecDeque::new(),
            calls_every: None,
        };
        if let Some(table) = table {
            guard.take_table(&table);
        }
        guard
    }

    /// Calls somebody, at most once in `every` for each feed, when a feed carries too much and no
    /// machine is left.
    pub(crate) fn calls_every(&mut self, every: Option<Duration>) {
        self.calls_every = every;
    }

    /// Whether a feed may carry more at one time than at another, so that the guard must be told the time.
    pub(crate) fn needs_time(&self) -> bool {
        self.table.is_dated()
    }

    /// It is this time: each feed may carry what its limit of now says.
    pub(crate) fn advance(&mut self, time: GuardedTime) {
        self.table.advance(time);
    }

    /// What must survive a restart.
    pub(crate) fn saved(&self) -> GuardSaved {
        GuardSaved {
            table: self.heard().cloned(),
            last_hold: self.holds.last(),
            holds: self.holds.all(),
        }
    }

    /// Takes a table made from the agent's own settings, unless one was ever heard.
    pub(crate) fn take_own_table(&mut self, table: &Arc<GuardTable>) {
        if self.heard().is_none() {
            self.is_own = self.replace_table(table);
        }
    }

    /// Takes a table that the switchboard says, if it is newer than the one heard before and within
    /// the bounds. Returns whether it is taken.
    pub(crate) fn take_table(&mut self, table: &Arc<GuardTable>) -> bool {
        let is_taken = self.replace_table(table);
        if is_taken && std::mem::take(&mut self.is_own) {
            info!(
                "guard: by the switchboard's table from now on, not by [guard.NAME] of the configuration"
            );
        }
        is_taken
    }

    /// The table that was heard from a switchboard, if there is one.
    fn heard(&self) -> Option<&Arc<GuardTable>> {
        self.table.source().filter(|_| !self.is_own)
    }

    /// Takes a table if it is newer than the one held and within the bounds. Returns whether it is
    /// taken. What is known of feeds and machines that are in both tables is kept.
    fn replace_table(&mut self, table: &Arc<GuardTable>) -> bool {
        let have = self.table.source().map(|table| table.version);
        if have.is_some_and(|have| table.version <= have) {
            return false;
        }
        if !table.is_bounded() {
            let (feeds, cohorts) = (table.feeds.len(), table.cohorts.len());
            warn!(version = %table.version, feeds, cohorts, ?have, "guard table too large, refused");
            return false;
        }
        let former = std::mem::replace(&mut self.table, Table::new(table.clone(), &self.own));
        let feeds = std::mem::take(&mut self.feeds);
        let motions = std::mem::take(&mut self.motions);
        self.feeds = self.table.feeds().iter().map(|_| Watch::default()).collect();
        self.motions = self.table.machines().iter().map(|_| Motion::default()).collect();
        for (spec, watch) in former.feeds().iter().zip(feeds) {
            if let Some(number) = self.table.feed(&spec.id)
                && self.table.feeds()[number].meter == spec.meter
            {
                let renumbered = |machine: usize| {
                    former.machines().get(machine).and_then(|entry| self.table.machine(&entry.id))
                };
                self.feeds[number] = watch.carried(renumbered);
            }
        }
        for (entry, motion) in former.machines().iter().zip(motions) {
            if let Some(number) = self.table.machine(&entry.id) {
                self.resume(number, motion);
            }
        }
        true
    }

    /// The version of the table that was heard.
    pub(crate) fn version(&self) -> Option<Generation> {
        self.heard().map(|table| table.version)
    }

    /// Whether there is anything to report.
    pub(crate) fn is_at_work(&self) -> bool {
        self.table.source().is_some() || self.holds.last() > 0
    }

    /// The machines at the feeds that this agent guards, with their cohorts' numbers in the table.
    pub(crate) fn machines(&self) -> impl Iterator<Item = (&MachineId, usize)> {
        let machines = self.table.machines().iter().filter(|entry| entry.watched);
        machines.map(|entry| (&entry.id, entry.cohort))
    }

    /// The table held.
    pub(crate) fn table(&self) -> Option<&Arc<GuardTable>> {
        self.table.source()
    }

    /// Whether the machine is at a feed that this agent guards.
    pub(crate) fn watches(&self, machine: &MachineId) -> bool {
        self.table.machine(machine).is_some_and(|number| self.table.machines()[number].watched)
    }

    /// The machines below feeds that carry too much although the guard has no machine left to put to
    /// sleep there.
    pub(crate) fn below_bare_feeds(&self, now: Instant) -> impl Iterator<Item = &MachineId> {
        let feeds = self.feeds.iter().zip(self.table.feeds()).enumerate();
        let is_bare = move |watch: &Watch, spec: &Feed| {
            watch.wants > Watts::ZERO && watch.shows_excess(spec, now)
        };
        let bare = feeds.filter(move |(_, (watch, spec))| is_bare(watch, spec));
        let bare = bare.map(|(number, _)| number);
        let below = bare.flat_map(|feed| self.table.below(feed));
        below.map(|number| &self.table.machines()[*number].id)
    }

    /// The machines that are held, in no particular order.
    pub(crate) fn held(&self) -> impl Iterator<Item = &MachineId> {
        self.holds.held()
    }

    /// The number of the newest hold ever made.
    pub(crate) fn last_hold(&self) -> u64 {
        self.holds.last()
    }

    pub(crate) fn is_held(&self, machine: &MachineId) -> bool {
        self.holds.is_held(machine)
    }

    /// A timeline was taken that knows this agent's holds up to number `taken`: they are lifted.
    /// Returns the machines that are no longer held, in the order in which they went off.
    pub(crate) fn lift(&mut self, taken: u64) -> Vec<MachineId> {
        self.holds.lift(taken)
    }

    /// Takes an answer of a meter: `None` if it has no measurement.
    pub(crate) fn measured(
        &mut self,
        meter: &MeterId,
        reading: Option<&MeterReading>,
        fleet: &impl Fleet,
        wall: Timestamp,
        now: Instant,
    ) -> Sampled {
        let mut sampled = Sampled::default();
        // Children come after their parents in the table, and act before them: what a child sheds
        // is credited to its parents.
        for place in (0..self.table.metered(meter).len()).rev() {
            let feed = self.table.metered(meter)[place];
            let spec = &self.table.feeds()[feed];
            let was_faulty = self.feeds[feed].is_faulty();
            let is_new = self.feeds[feed].note(spec, reading, wall, now);
            sampled.news |= spec.owned && was_faulty != self.feeds[feed].is_faulty();
            if is_new && spec.owned {
                sampled.fresh = true;
                self.judge(feed, fleet, now, &mut sampled);
            }
        }
        sampled
    }

    /// Judges a feed by its newest sample, and acts.
    fn judge(&mut self, feed: usize, fleet: &impl Fleet, now: Instant, sampled: &mut Sampled) {
        let spec = &self.table.feeds()[feed];
        let (watts, wants) = (self.feeds[feed].watts(), self.feeds[feed].wants);
        match self.feeds[feed].judge(spec) {
            Judged::Quiet => return,
            Judged::Cleared => {
                info!(feed = %spec.id, watts = watts.0, "guard: the feed is within its limit again");
                sampled.news = true;
                return;
            }
            Judged::Tripped => {
                let guardable = self.guardable(feed, fleet);
                self.feeds[feed].trip(guardable);
                sampled.tripped.push(spec.id.clone());
            }
            Judged::StillTripped => {}
        }
        let was_suspect = self.feeds[feed].is_suspect();
        let asleep = |machine: usize| {
            let entry = &self.table.machines()[machine];
            (fleet.seen(&entry.id) == Seen::Sleeps).then_some(entry.frees)
        };
        let is_new = self.feeds[feed].suspect(spec, asleep);
        let tripped_now = sampled.tripped.last() == Some(&spec.id);
        let suspect = self.feeds[feed].is_suspect();
        if is_new {
            warn!(feed = %spec.id, watts = watts.0, "guard: the meter is suspect, it does not show what machines do");
        }
        let act = self.act(feed, fleet, now);
        sampled.over.extend(self.look_at_bare(feed, act.is_some(), now));
        if tripped_now {
            let spec = &self.table.feeds()[feed];
            let machines = act.as_ref().map_or(0, |hold| hold.machines.len());
            warn!(
                feed = %spec.id,
                watts = watts.0,
                usable = spec.usable.0,
                machines,
                "guard: the feed carries too much, machines go to sleep"
            );
        }
        sampled.news |= tripped_now
            || suspect != was_suspect
            || act.is_some()
            || self.feeds[feed].wants != wants;
        sampled.acts.extend(act);
    }

    /// Whether somebody must be called because the feed carries too much and no machine is left. The
    /// word of a suspect meter alone is not enough.
    fn look_at_bare(&mut self, feed: usize, acted: bool, now: Instant) -> Option<FeedOver> {
        let every = self.calls_every?;
        let (spec, watch) = (&self.table.feeds()[feed], &self.feeds[feed]);
        let is_covered = watch.wants <= Watts::ZERO;
        let is_over = watch.shows_excess(spec, now) && !self.is_capped(feed, now);
        if !is_over || (is_covered && acted) {
            self.feeds[feed].bare.end();
            return None;
        }
        if is_covered {
            self.feeds[feed].bare.pause();
            return None;
        }
        let below = self.table.below(feed).iter().map(|number| &self.table.machines()[*number]);
        let sheds = below.map(|entry| entry.sheds).max().unwrap_or_default();
        let (at, taken, gap) = watch.newest()?;
        let patience = sheds + spec.lag + gap * 2;
        let is_above_rating = watch.above_rating(spec) > Watts::ZERO;
        let bare = &mut self.feeds[feed].bare;
        let reason = bare.note(taken, is_above_rating, patience, every, now)?;
        let since = bare.over_since.unwrap_or(at);
        Some(FeedOver {
            feed: spec.id.clone(),
            reason,
            metered: self.feeds[feed].watts(),
            usable: spec.usable,
            rating: spec.rating,
            since,
            at,
        })
    }

    /// Whether there is nothing but the word of a suspect meter.
    fn is_capped(&self, feed: usize, now: Instant) -> bool {
        let agrees = || {
            let mut above = self.table.above(feed).skip(1);
            let parent = above.find(|above| self.table.feeds()[*above].meter.is_some());
            parent.is_some_and(|parent| {
                self.feeds[parent].shows_excess(&self.table.feeds()[parent], now)
            })
        };
        self.feeds[feed].is_suspect() && !agrees()
    }

    /// Chooses machines for what the feed carries too much, as far as no command covers it yet.
    fn act(&mut self, feed: usize, fleet: &impl Fleet, now: Instant) -> Option<GuardHold> {
        let spec = &self.table.feeds()[feed];
        let missing = self.feeds[feed].missing(spec);
        if missing <= Watts::ZERO {
            self.feeds[feed].wants = Watts::ZERO;
            return None;
        }
        let budget = self.budget(feed, now);
        let Choice { machines, recalled, watts, exhausted } =
            choice::choose(&self.table, &self.feeds, feed, missing, budget, fleet, now);
        self.feeds[feed].wants =
            if exhausted { missing.saturating_sub(watts) } else { Watts::ZERO };
        if machines.is_empty() && recalled.is_empty() {
            return None;
        }
        self.feeds[feed].acted(&machines, watts);
        self.shed.push_back((now, watts));
        for machine in &machines {
            self.fall(*machine, now);
        }
        let id = |machine: &usize| self.table.machines()[*machine].id.clone();
        let machines = recalled.iter().chain(&machines).map(id).collect();
        Some(self.holds.add(self.table.feeds()[feed].id.clone(), machines))
    }

    /// How much an act may shed.
    fn budget(&mut self, feed: usize, now: Instant) -> Budget {
        while self.shed.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
            self.shed.pop_front();
        }
        let in_last_minute: Watts = self.shed.iter().map(|(_, watts)| *watts).sum();
        let (spec, watch) = (&self.table.feeds()[feed], &self.feeds[feed]);
        let ramp = self.table.ramp_per_min().map(|ramp| ramp.saturating_sub(in_last_minute));
        let step = self.table.step_max();
        let capped = self.is_capped(feed, now);
        Budget {
            suspect: capped.then(|| watch.suspect_rest(self.table.suspect_max_pct())),
            pace: ramp.into_iter().chain(step).min(),
            above_rating: watch.above_rating(spec),
            first: in_last_minute == Watts::ZERO || ramp.is_none(),
        }
    }

    /// What the machines at and below the feed that draw would free.
    fn guardable(&self, feed: usize, fleet: &impl Fleet) -> Watts {
        let below = self.table.below(feed).iter().map(|number| &self.table.machines()[*number]);
        below.filter(|entry| fleet.seen(&entry.id) == Seen::Runs).map(|entry| entry.frees).sum()
    }

    /// Whether the feeds above the machine have room for it now. A machine or feed that no table
    /// names is no reason against it.
    pub(crate) fn allows_wake(&self, machine: &MachineId, now: Instant) -> bool {
        let Some(number) = self.table.machine(machine) else { return true };
        let entry = &self.table.machines()[number];
        self.table.above(entry.feed).all(|feed| {
            let spec = &self.table.feeds()[feed];
            !spec.owned
                || spec.meter.is_none()
                || self.feeds[feed].has_room(spec, number, entry.frees, now)
        })
    }

    /// The whole state, for a report.
    pub(crate) fn report(&self, fleet: &impl Fleet, at: Timestamp, now: Instant) -> GuardReport {
        let mut guardable = vec![Watts::ZERO; self.feeds.len()];
        for entry in self.table.machines() {
            if entry.watched && fleet.seen(&entry.id) == Seen::Runs {
                guardable[entry.feed] += entry.frees;
            }
        }
        let specs = self.table.feeds();
        for feed in (0..specs.len()).rev() {
            if let Some(parent) = specs[feed].parent {
                let watts = guardable[feed];
                guardable[parent] += watts;
            }
        }
        let owned =
            specs.iter().zip(&self.feeds).zip(guardable).filter(|((spec, _), _)| spec.owned);
        let feeds = owned.map(|((spec, watch), guardable)| GuardedFeed {
            feed: spec.id.clone(),
            state: watch.state(spec, now),
            guardable,
            wants: watch.wants,
            acts: watch.acts,
        });
        GuardReport {
            at,
            table: self.version(),
            last_hold: self.holds.last(),
            holds: self.holds.all(),
            feeds: feeds.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
