//! The switchboard's side of the guard: the table that agents guard the feeds by, and the machines
//! that their guards have put to sleep, which the plan takes over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    FeedId, Generation, GuardCohort, GuardFeed, GuardState, GuardTable, GuardedFeed, MachineId,
    Means, MeterId, ReceiverId, UsableChange, Watts,
};
use jiff::Timestamp;

use super::{Core, Outputs};
use crate::admit::shed_time;
use crate::cause::Cause;
use crate::facility::{Feed, FeedNumber, LimitChange, PerFeed};
use crate::plan::{self, Chosen};

/// What the switchboard has told agents of the guard, and what it has taken over from them.
#[derive(Debug, Default)]
pub(super) struct Guards {
    table: Option<Arc<GuardTable>>,
    /// Whether the fleet, the policy, or which agents read meters may have changed since the table
    /// was made.
    is_stale: bool,
    made_at: Option<Instant>,
    /// When the first limit changes that the table has a change of.
    next_limit: Option<Timestamp>,
    /// For each agent, the number of its newest hold that the plan has taken over.
    taken: BTreeMap<ReceiverId, u64>,
    /// Feeds of holds that were taken over, and that no measurement was compared with since.
    taken_over: BTreeSet<FeedNumber>,
    /// What agents say of the feeds they guard.
    feeds: PerFeed<Option<(ReceiverId, GuardedFeed)>>,
}

/// When the feed may carry another power, after `at`.
fn changes(feed: &Feed, at: Timestamp) -> Vec<UsableChange> {
    let change = |change: LimitChange| UsableChange {
        from: change.at,
        usable: feed.usable_of(change.after),
    };
    feed.limit.after(at).take(CHANGES).map(change).collect()
}

/// The maximum number of changes of a feed's limit in the table. Later ones follow when these are
/// over.
const CHANGES: usize = GuardTable::CHANGES_MAX / GuardTable::FEEDS_MAX;

/// The table is made anew at most this often.
const TABLE_EVERY: Duration = Duration::from_secs(5);

impl Guards {
    /// The fleet has changed, so that the table may have to.
    pub(super) fn note_change(&mut self) {
        self.is_stale = true;
    }

    /// Meters were reported: a feed without a guard may get one.
    pub(super) fn note_meters(&mut self) {
        let is_unguarded = |feed: &GuardFeed| feed.meter.is_some() && feed.owner.is_none();
        self.is_stale |=
            self.table.as_ref().is_some_and(|table| table.feeds.iter().any(is_unguarded));
    }

    /// A new policy is in force: its table must go out at once.
    pub(super) fn forget_table(&mut self) {
        (self.is_stale, self.made_at) = (true, None);
        self.taken_over.clear();
    }

    /// For each agent, its newest hold that the plan knows.
    pub(super) fn taken(&self) -> &BTreeMap<ReceiverId, u64> {
        &self.taken
    }

    /// The agent that guards `feed`, and what it says of it.
    pub(super) fn feed(&self, feed: FeedNumber) -> Option<&(ReceiverId, GuardedFeed)> {
        self.feeds.get(feed)?.as_ref()
    }

    /// Whether machines were taken over that a guard has put to sleep for `feed`.
    pub(super) fn is_taken_over(&self, feed: FeedNumber) -> bool {
        self.taken_over.contains(&feed)
    }

    /// Measurements were compared with what was taken over.
    pub(super) fn forget_taken_over(&mut self, is_compared: impl Fn(FeedNumber) -> bool) {
        self.taken_over.retain(|feed| !is_compared(*feed));
    }

    /// Whether the guard of `feed` has found that it carries too much, and is not done.
    pub(super) fn is_tripped(&self, feed: FeedNumber) -> bool {
        self.feed(feed).is_some_and(|(_, feed)| feed.state == GuardState::Tripped)
    }
}

impl Core {
    /// Makes a new guard table if something in it has changed. If this look `has_done_much`, the next
    /// one does, unless the table has waited for long. Returns whether one was made.
    pub(super) fn make_guard_table(
        &mut self,
        now: Instant,
        has_done_much: bool,
        outputs: &mut Outputs,
    ) -> bool {
        let every = if has_done_much { 2 * TABLE_EVERY } else { TABLE_EVERY };
        let is_due = |at: Instant| now.saturating_duration_since(at) >= every;
        self.guards.is_stale |= self.guards.next_limit.is_some_and(|at| at <= self.schedule);
        if !self.guards.is_stale || !self.guards.made_at.is_none_or(is_due) {
            return false;
        }
        // After a start, agents keep the table they have until their reports have come: one without
        // machines and owners would switch their guards off.
        if self.guards.table.is_none() && self.is_young(now) && !self.is_all_reported() {
            return false;
        }
        (self.guards.is_stale, self.guards.made_at) = (false, Some(now));
        let former = self.guards.table.clone();
        let version = former.as_ref().map_or(0, |table| table.version.generation) + 1;
        let version = Generation { epoch: self.number.epoch, generation: version };
        let mut table = self.guard_table(former.as_ref().map_or(version, |table| table.version));
        let next = table.feeds.iter().filter_map(|feed| Some(feed.changes.first()?.from));
        self.guards.next_limit = next.min();
        if former.is_none_or(|former| table != *former) {
            table.version = version;
            let table = Arc::new(table);
            self.guards.table = Some(table.clone());
            outputs.guard = Some(table);
        }
        true
    }

    fn guard_table(&self, version: Generation) -> GuardTable {
        let (facility, rules) = (&self.policy.facility, &self.policy.guard);
        let feeds = facility.feeds();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let former = self.guards.table.as_deref().into_iter().flat_map(|table| &table.feeds);
        let owners: HashMap<&FeedId, &ReceiverId> =
            former.filter_map(|feed| Some((&feed.feed, feed.owner.as_ref()?))).collect();
        let guard_feed = |number: FeedNumber| {
            let feed = &feeds[number];
            let spec = feed.meter.as_ref().and_then(|meter| facility.meters().get(meter));
            let former = owners.get(&feed.id).copied();
            GuardFeed {
                feed: feed.id.clone(),
                parent: feed.parent.clone(),
                owner: feed.meter.as_ref().and_then(|meter| self.owner(meter, former)),
                meter: feed.meter.clone(),
                usable: feed.usable(self.schedule),
                rating: feed.limit.highest(),
                band: facility.band(number),
                after: rules.after,
                lag_ms: millis(self.policy.dispatch.settle),
                stale_after_ms: millis(spec.map(|spec| spec.stale_after).unwrap_or_default()),
                changes: changes(feed, self.schedule),
            }
        };
        let cohort = |number: usize| {
            let group = &facility.groups()[number];
            // An agent learns of machines by this table: no device report names them before.
            let seen = self.fleet.groups.get(number).filter(|_| group.driver.is_some());
            GuardCohort {
                feed: group.feed.clone(),
                group: group.id.clone(),
                frees: group.freed_asleep(),
                sheds_within_ms: millis(shed_time(group)),
                restores_within_ms: millis(group.restore_p95),
                machines: seen
                    .into_iter()
                    .flatten()
                    .filter(|known| !known.absent)
                    .map(|known| known.id.clone())
                    .collect(),
            }
        };
        let mut in_order = plan::order(&self.policy);
        in_order.sort_by_key(|group| facility.groups()[*group].protected);
        GuardTable {
            version,
            feeds: feeds.numbers().map(guard_feed).collect(),
            cohorts: in_order
                .into_iter()
                .map(cohort)
                .filter(|cohort| !cohort.machines.is_empty())
                .collect(),
            ramp_per_min: rules.ramp_per_min,
            step_max: rules.step_max,
            suspect_max_pct: rules.suspect_max_pct,
        }
    }

    /// Whether machines are known, and every meter of a feed has an agent that reads it.
    fn is_all_reported(&self) -> bool {
        let feeds = self.policy.facility.feeds();
        let mut meters = feeds.iter().filter_map(|feed| feed.meter.as_ref());
        self.fleet.groups.iter().any(|machines| !machines.is_empty())
            && meters.all(|meter| self.inventory.readers(meter).next().is_some())
    }

    /// The agent that guards by `meter`: the former one, unless only others read the meter now. An
    /// agent whose link is lost guards on.
    fn owner(&self, meter: &MeterId, former: Option<&ReceiverId>) -> Option<ReceiverId> {
        let reads = self.inventory.readers(meter).find(|reader| Some(*reader) == former);
        reads.or_else(|| self.inventory.readers(meter).next()).or(former).cloned()
    }

    /// Takes over the machines that guards have put to sleep since the last time: they are off for
    /// the plan too, until no feed needs it.
    pub(super) fn take_holds(&mut self, at: Timestamp, now: Instant) {
        let feeds = self.policy.facility.feeds();
        let mut guarded = PerFeed::all(feeds, None);
        let mut held: Vec<(MachineId, FeedId)> = Vec::new();
        let mut taken: Vec<(ReceiverId, u64)> = Vec::new();
        let mut over: Vec<FeedNumber> = Vec::new();
        for (receiver, report) in self.inventory.guards() {
            for feed in &report.feeds {
                if let Some(number) = feeds.number(&feed.feed) {
                    guarded[number] = Some((receiver.clone(), feed.clone()));
                }
            }
            let before = self.guards.taken.get(receiver).copied().unwrap_or(0);
            for hold in report.holds.iter().filter(|hold| hold.number > before) {
                let machines = hold.machines.iter().cloned();
                held.extend(machines.map(|machine| (machine, hold.feed.clone())));
                over.extend(feeds.number(&hold.feed));
            }
            if report.last_hold > before {
                taken.push((receiver.clone(), report.last_hold));
            }
        }
        self.guards.feeds = guarded;
        self.guards.taken_over.extend(over);
        self.replan |= !taken.is_empty();
        self.guards.taken.extend(taken);
        self.starve_for_guards(at);
        if held.is_empty() {
            return;
        }
        for (machine, feed) in held {
            self.hold(machine, feed, at);
        }
        self.read_states(now);
    }

    /// Notes the feeds that carry too much and whose guards have no machine left to put to sleep: the
    /// plan starves machines there. A feed is forgotten when it needs none of them any more.
    fn starve_for_guards(&mut self, at: Timestamp) {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let wants: BTreeSet<FeedNumber> = feeds
            .numbers()
            .filter(|feed| {
                let feed = self.guards.feed(*feed);
                feed.is_some_and(|(_, feed)| {
                    feed.state == GuardState::Tripped && feed.wants > Watts::ZERO
                })
            })
            // The last report of an agent that is gone says nothing of the present.
            .filter(|feed| self.is_believed(*feed))
            .collect();
        let before = &self.fleet.population.starving;
        if wants.is_empty() && before.is_empty() {
            return;
        }
        let mut starved: BTreeSet<FeedNumber> = BTreeSet::new();
        for chosen in self.selection.off.values().filter_map(|periods| plan::covering(periods, at))
        {
            if chosen.means == Means::Starve && chosen.lease().is_none() {
                let group = facility.group(&chosen.group);
                starved.extend(
                    group.into_iter().flat_map(|group| feeds.path_of(&group.feed)).copied(),
                );
            }
        }
        let starving: BTreeSet<FeedNumber> = wants
            .into_iter()
            .chain(before.iter().copied().filter(|feed| starved.contains(feed)))
            .collect();
        if starving != *before {
            self.fleet.population.starving = starving;
            self.replan = true;
        }
    }

    /// `machine` is off since `at`, by the guard of `feed`.
    fn hold(&mut self, machine: MachineId, feed: FeedId, at: Timestamp) {
        if self.selection.current(&machine, at).is_some() {
            return;
        }
        let facility = &self.policy.facility;
        let Some(group) = self.inventory.group(&self.policy, &machine) else { return };
        let chosen = Chosen {
            group: facility.groups()[group].id.clone(),
            cause: Cause::Guard(feed),
            at,
            until: None,
            edge: None,
            means: Means::Device,
            passed_on: false,
        };
        // The plan chooses anew what it had chosen the machine for later.
        self.selection.off.insert(machine, vec![chosen]);
        self.counted = None;
    }
}
