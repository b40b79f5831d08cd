//! Chooses machines: goes through the starts and ends of the leases in order of time. At a start it
//! picks the machines that must be taken off below each feed that is short, those that earn least
//! first; at an end, those that may come back. [`super::schedule`] gives the choices their times.

mod passing_on;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::{GroupId, LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::{Chosen, Deficit, Fleet, Room, Selection};
use crate::admit::{ramp_time, shed_time};
use crate::facility::{FeedNumber, Feeds, Group, PerFeed};
use crate::lease::{Lease, later};
use crate::policy::{Merit, Policy};

/// The maximum number of rooms that a plan lists. Further ones are left out of the list; the plan
/// itself is complete.
const ROOMS: usize = 20_000;

/// A machine and the periods for which it is off.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: MachineId,
    /// The number of the machine's group. A machine whose group the policy no longer has frees
    /// nothing.
    pub(super) group: Option<usize>,
    pub(super) failing: bool,
    reached: bool,
    firm: bool,
    lately_woken: bool,
    pub(super) periods: Vec<Period>,
    /// The period that covers the moment the sweep has reached.
    active: Option<usize>,
}

/// One period for which a machine is off. Its times are set after the sweep.
#[derive(Debug)]
pub(super) struct Period {
    pub(super) lease: Option<LeaseId>,
    /// The same period in an earlier plan.
    pub(super) held: Option<Chosen>,
    /// The end of a lease that made the period unnecessary.
    pub(super) edge: Option<Timestamp>,
    pub(super) at: Timestamp,
    pub(super) until: Option<Timestamp>,
    pub(super) means: Means,
    group: GroupId,
    /// Whether the sweep has needed the period.
    used: bool,
    /// Whether the period follows a period for a different lease without a break, which fixes its
    /// beginning.
    pub(super) passed_on: bool,
}

/// What the sweep has chosen: the machines, in the order in which they are taken off.
#[derive(Debug)]
pub(super) struct Swept {
    pub(super) units: Vec<Unit>,
    pub(super) rooms: Vec<Room>,
    pub(super) deficits: Vec<Deficit>,
    /// Machines that must go when the plan runs out, as indexes into `units`.
    pub(super) fallback: Vec<usize>,
}

impl Swept {
    pub(super) fn selected(&self) -> BTreeMap<MachineId, Vec<Chosen>> {
        let chosen = |period: &Period| Chosen {
            group: period.group.clone(),
            lease: period.lease.clone(),
            at: period.at,
            until: period.until,
            edge: period.edge,
            means: period.means,
            passed_on: period.passed_on,
        };
        let off = self.units.iter().filter(|unit| !unit.periods.is_empty());
        off.map(|unit| (unit.id.clone(), unit.periods.iter().map(chosen).collect())).collect()
    }
}

struct Sweep<'a> {
    policy: &'a Policy,
    feeds: &'a Feeds,
    now: Timestamp,
    units: Vec<Unit>,
    bottom_up: Vec<FeedNumber>,
    /// The load of the house, unassigned sessions and every machine at full draw.
    fixed: PerFeed<Watts>,
    full: PerFeed<Watts>,
    committed: PerFeed<Watts>,
    /// The power that the machines that are off at the moment of the sweep free.
    freed: PerFeed<Watts>,
    deficits: Vec<Deficit>,
    rooms: Vec<Room>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    End,
    Start,
}

/// How far beyond the horizon a lease may begin and still be planned, because some of its steps may
/// come before the horizon.
pub(super) fn reach(policy: &Policy, fleet: &Fleet, horizon: Timestamp) -> Timestamp {
    let full = policy.facility.machines_load(&fleet.population, |group| group.watts);
    later(horizon, longest_lead(policy, &full))
}

/// The longest time that shedding can take if the machines below each feed draw `full`.
fn longest_lead(policy: &Policy, full: &PerFeed<Watts>) -> Duration {
    let everything = full.iter().copied().max().unwrap_or_default();
    let slowest = policy.facility.groups().iter().map(shed_time).max().unwrap_or_default();
    ramp_time(everything, policy.ramp.down_per_min) + slowest + policy.dispatch.proof()
}

pub(super) fn sweep(
    policy: &Policy,
    leases: &[Lease],
    fleet: &Fleet,
    held: &Selection,
    now: Timestamp,
    (horizon, reach): (Timestamp, Timestamp),
) -> Swept {
    let mut sweep = Sweep::new(policy, fleet, held, now);
    sweep.take_off_what_is_off();
    let all: BTreeMap<&LeaseId, &Lease> = leases.iter().map(|lease| (&lease.id, lease)).collect();
    let mut running: BTreeSet<&LeaseId> = BTreeSet::new();
    sweep.shed(None, &[], now);

    let mut edges: Vec<(Timestamp, Edge, &Lease)> = Vec::new();
    for lease in leases {
        if lease.reserved_from() < lease.ends()
            && lease.reserved_from() <= reach
            && now < lease.ends()
        {
            edges.push((lease.reserved_from(), Edge::Start, lease));
        }
        if now < lease.ends() && lease.ends() <= horizon {
            edges.push((lease.ends(), Edge::End, lease));
        }
    }
    edges.sort_by(|a, b| (a.0, a.1, &a.2.id).cmp(&(b.0, b.1, &b.2.id)));
    let coming = edges.partition_point(|(at, ..)| *at <= now);
    for (_, _, lease) in &edges[..coming] {
        sweep.begin(lease, &mut running, &all);
    }
    sweep.settle_what_ended(&edges[coming..], &running, &all);

    let edges = &edges[coming..];
    sweep.note_rooms(now, edges.first().map_or(horizon, |(first, ..)| (*first).min(horizon)));
    let mut fallback = None;
    for (i, (at, edge, lease)) in edges.iter().enumerate() {
        if *at > horizon && fallback.is_none() {
            fallback = Some(sweep.fallback(&running, &all));
        }
        match edge {
            Edge::Start => sweep.begin(lease, &mut running, &all),
            Edge::End => {
                if running.remove(&lease.id) {
                    sweep.commit(lease, Watts(-lease.gross.0));
                }
                let need = sweep.needed_until(later(*at, sweep.look_ahead()), &edges[i + 1..]);
                sweep.release(*at, &need, &running);
                sweep.pass_on(*at, &running, &edges[i + 1..], &all);
            }
        }
        let until = edges.get(i + 1).map_or(horizon, |(next, ..)| (*next).min(horizon));
        sweep.note_rooms(*at, until);
    }
    let fallback = fallback.unwrap_or_else(|| sweep.fallback(&running, &all));
    for unit in &mut sweep.units {
        // Periods of an earlier plan that this one did not need are dropped.
        unit.periods.retain(|period| period.used);
    }
    Swept { units: sweep.units, rooms: sweep.rooms, deficits: sweep.deficits, fallback }
}

impl<'a> Sweep<'a> {
    fn new(policy: &'a Policy, fleet: &Fleet, held: &Selection, now: Timestamp) -> Self {
        let facility = &policy.facility;
        let feeds = facility.feeds();
        let mut sweep = Self {
            policy,
            feeds,
            now,
            units: Vec::new(),
            bottom_up: feeds.bottom_up(),
            fixed: facility.fixed_load(&fleet.population),
            full: facility.machines_load(&fleet.population, |group| group.watts),
            committed: PerFeed::all(feeds, Watts::ZERO),
            freed: PerFeed::all(feeds, Watts::ZERO),
            deficits: Vec::new(),
            rooms: Vec::new(),
        };
        let mut strangers = held.off.clone();
        for (number, machines) in fleet.groups.iter().enumerate().take(facility.groups().len()) {
            let group = &facility.groups()[number];
            for known in machines {
                let before = strangers.remove(&known.id);
                let woken = held
                    .woken
                    .get(&known.id)
                    .is_some_and(|since| later(*since, group.min_up) > now);
                sweep.units.push(unit(
                    &known.id,
                    Some((number, group)),
                    before,
                    known.reached,
                    known.failing,
                    woken,
                    now,
                ));
            }
        }
        for (id, periods) in strangers {
            let named = periods.first().and_then(|chosen| facility.group_number(&chosen.group));
            // The policy may have renamed the group since.
            let number = named.or_else(|| facility.claimed_by(&id));
            let group = number.map(|number| (number, &facility.groups()[number]));
            sweep.units.push(unit(&id, group, Some(periods), false, false, false, now));
        }
        let order = merit_order(facility.groups(), policy.dispatch.merit);
        let place = |unit: &Unit| unit.group.map_or(usize::MAX, |group| order[group]);
        sweep.units.sort_by(|a, b| {
            (!a.firm, a.lately_woken, !a.reached, place(a))
                .cmp(&(!b.firm, b.lately_woken, !b.reached, place(b)))
                .then_with(|| a.id.cmp(&b.id))
        });
        sweep
    }

    fn freed_by(&self, unit: usize) -> Watts {
        let unit = &self.units[unit];
        match unit.group {
            Some(group) if !unit.failing => self.policy.facility.groups()[group].freed(),
            _ => Watts::ZERO,
        }
    }

    fn path(&self, unit: usize) -> &'a [FeedNumber] {
        let group = self.units[unit].group;
        group.map_or(&[], |group| self.feeds.path(self.policy.facility.group_feed(group)))
    }

    fn hangs_below(&self, unit: usize, feed: FeedNumber) -> bool {
        let group = self.units[unit].group;
        group.is_some_and(|group| self.feeds.is_below(self.policy.facility.group_feed(group), feed))
    }

    /// Counts `watts`, which may be negative, for `lease` at every feed that carries it.
    fn commit(&mut self, lease: &Lease, watts: Watts) {
        for &feed in self.feeds.path_of(&lease.feed) {
            self.committed[feed] += watts;
        }
    }

    fn take_off(&mut self, unit: usize, period: usize) {
        let freed = self.freed_by(unit);
        for &node in self.path(unit) {
            self.freed[node] += freed;
        }
        self.units[unit].periods[period].used = true;
        self.units[unit].active = Some(period);
    }

    /// Releases the machine at `edge`.
    fn give_back(&mut self, unit: usize, edge: Timestamp) {
        let freed = self.freed_by(unit);
        for &node in self.path(unit) {
            self.freed[node] = self.freed[node] - freed;
        }
        if let Some(period) = self.units[unit].active.take() {
            self.units[unit].periods[period].edge = Some(edge);
        }
    }

    fn take_off_what_is_off(&mut self) {
        for unit in 0..self.units.len() {
            if let Some(period) =
                self.units[unit].periods.iter().rposition(|period| period.at <= self.now)
            {
                self.take_off(unit, period);
            }
        }
    }

    /// By how many watts `node` would exceed `ceiling` if every machine mined; never negative.
    fn over(&self, node: FeedNumber, committed: Watts, ceiling: Watts) -> Watts {
        (self.fixed[node] + committed).saturating_sub(ceiling)
    }

    fn with_make_up(&self, watts: Watts) -> Watts {
        watts.scale(1.0 + self.policy.dispatch.make_up_pct / 100.0)
    }

    /// Sheds machines until no feed is short, on behalf of `lease`, which has begun at `at`.
    fn shed(&mut self, lease: Option<&Lease>, unverified: &[&Lease], at: Timestamp) {
        // Machines that an earlier plan chose for this lease stay chosen, except those that failed
        // before they were commanded.
        for unit in 0..self.units.len() {
            if lease.is_none() || self.units[unit].active.is_some() || self.units[unit].failing {
                continue;
            }
            let held = |period: &Period| {
                period.lease.as_ref() == lease.map(|lease| &lease.id)
                    && period.at > self.now
                    && !period.passed_on
            };
            if let Some(period) = self.units[unit].periods.iter().position(held) {
                self.take_off(unit, period);
            }
        }
        for node in self.bottom_up.clone() {
            let over = self.over(node, self.committed[node], self.feeds[node].usable());
            if over == Watts::ZERO {
                continue;
            }
            let target = self.with_make_up(over);
            self.pick(node, target, |sweep, unit| {
                if sweep.units[unit].firm {
                    return Some(lease.map(|lease| lease.id.clone()));
                }
                // A machine is starved only for a lease that accepts it.
                let here = |other: &&&Lease| sweep.feeds.carries(node, &other.feed);
                unverified.iter().find(here).map(|other| Some(other.id.clone()))
            });
            if self.freed[node] < over {
                let (feed, from) = (self.feeds[node].id.clone(), at.max(self.now));
                self.deficits.push(Deficit { feed, from, short: over - self.freed[node] });
            }
        }
    }

    /// Picks machines below `node` in order until `target` is freed there. `whose` returns the lease
    /// that a machine goes for, or `None` if it must not go.
    fn pick(
        &mut self,
        node: FeedNumber,
        target: Watts,
        whose: impl Fn(&Self, usize) -> Option<Option<LeaseId>>,
    ) {
        for unit in 0..self.units.len() {
            if self.freed[node] >= target {
                return;
            }
            let candidate = &self.units[unit];
            if candidate.active.is_some()
                || candidate.failing
                || !self.hangs_below(unit, node)
                || self.freed_by(unit) == Watts::ZERO
            {
                continue;
            }
            let Some(lease) = whose(self, unit) else { continue };
            let Some(group) =
                self.units[unit].group.map(|group| self.policy.facility.groups()[group].id.clone())
            else {
                continue;
            };
            let means = if self.units[unit].firm { Means::Device } else { Means::Starve };
            let planned = self.units[unit].periods.iter().position(|period| {
                period.at > self.now && period.lease == lease && !period.passed_on
            });
            let period = planned.unwrap_or_else(|| {
                let (at, used) = (Timestamp::MAX, true);
                let period = Period {
                    lease,
                    held: None,
                    edge: None,
                    at,
                    until: None,
                    means,
                    group,
                    used,
                    passed_on: false,
                };
                self.units[unit].periods.push(period);
                self.units[unit].periods.len() - 1
            });
            self.take_off(unit, period);
        }
    }

    /// Lets a lease begin: takes off the machines that it needs.
    fn begin<'l>(
        &mut self,
        lease: &'l Lease,
        running: &mut BTreeSet<&'l LeaseId>,
        all: &BTreeMap<&LeaseId, &Lease>,
    ) {
        self.commit(lease, lease.gross);
        running.insert(&lease.id);
        let running = running.iter().filter_map(|id| all.get(*id)).copied();
        let unverified: Vec<&Lease> = running.filter(|lease| lease.accept_unverified).collect();
        self.shed(Some(lease), &unverified, lease.reserved_from());
    }

    /// Sets free the machines of leases that are over or unknown, as far as no lease needs them,
    /// and continues the releases that an earlier plan began. The edge of a release is the lease's
    /// own end, so that a machine's turn to come back does not move with each new plan.
    fn settle_what_ended(
        &mut self,
        coming: &[(Timestamp, Edge, &Lease)],
        running: &BTreeSet<&LeaseId>,
        all: &BTreeMap<&LeaseId, &Lease>,
    ) {
        let now = self.now;
        let over = all.values().map(|lease| lease.ends()).filter(|end| *end <= now);
        let last_end = over.max();
        for ended_only in [true, false] {
            for unit in (0..self.units.len()).rev() {
                let Some(period) =
                    self.units[unit].active.map(|active| &self.units[unit].periods[active])
                else {
                    continue;
                };
                if period.at > now {
                    continue;
                }
                let needed = period.lease.as_ref().is_some_and(|lease| running.contains(lease));
                let waits = period
                    .lease
                    .as_ref()
                    .and_then(|lease| all.get(lease))
                    .is_some_and(|lease| now < lease.ends());
                if ended_only == (needed || waits) || (needed && self.units[unit].failing) {
                    continue;
                }
                let begun =
                    period.held.as_ref().and_then(|held| held.edge).filter(|edge| *edge <= now);
                let ended = period
                    .lease
                    .as_ref()
                    .and_then(|lease| all.get(lease))
                    .map(|lease| lease.ends());
                // A running lease gives back a machine only if the end of a different lease has
                // made the machine unnecessary.
                let end = if ended_only {
                    ended.or(Some(now))
                } else {
                    last_end.filter(|end| *end > period.at)
                };
                let Some(edge) = begun.or(end) else { continue };
                // A release that has begun continues unless a lease needs the machine that was
                // looked at then; a new release looks ahead from now.
                let from = if begun.is_some() { edge } else { now };
                let need = self.needed_until(later(from, self.look_ahead()).max(now), coming);
                if self.spare(unit, &need) {
                    self.give_back(unit, edge);
                }
            }
        }
        self.pass_on(now, running, coming, all);
    }

    /// What is committed now plus what the leases that begin before `until` will need.
    fn needed_until(
        &self,
        until: Timestamp,
        coming: &[(Timestamp, Edge, &Lease)],
    ) -> PerFeed<Watts> {
        let mut need = self.committed.clone();
        let soon = coming
            .iter()
            .take_while(|(at, ..)| *at < until)
            .filter(|(_, edge, _)| *edge == Edge::Start);
        for (.., lease) in soon {
            for &feed in self.feeds.path_of(&lease.feed) {
                need[feed] += lease.gross;
            }
        }
        need
    }

    /// Whether no feed needs `unit` to be off.
    fn spare(&self, unit: usize, committed: &PerFeed<Watts>) -> bool {
        self.spare_of(unit, &self.freed, committed)
    }

    /// Whether no feed needs `unit` to be off, if the machines that are off free `freed`.
    fn spare_of(&self, unit: usize, freed: &PerFeed<Watts>, committed: &PerFeed<Watts>) -> bool {
        let own = self.freed_by(unit);
        self.path(unit).iter().all(|&node| {
            let over = self.over(node, committed[node], self.feeds[node].usable());
            freed[node] - own >= self.with_make_up(over) || own == Watts::ZERO
        })
    }

    /// Releases machines at `at` that are not needed: first those of ended leases, and of these the
    /// ones that earn most first.
    fn release(&mut self, at: Timestamp, committed: &PerFeed<Watts>, running: &BTreeSet<&LeaseId>) {
        for ended_only in [true, false] {
            for unit in (0..self.units.len()).rev() {
                let Some(period) =
                    self.units[unit].active.map(|active| &self.units[unit].periods[active])
                else {
                    continue;
                };
                let needed = period.lease.as_ref().is_some_and(|lease| running.contains(lease));
                // A machine that does not obey stays commanded as long as its lease runs.
                if ended_only == needed
                    || (needed && self.units[unit].failing)
                    || !self.spare(unit, committed)
                {
                    continue;
                }
                self.give_back(unit, at);
            }
        }
    }

    /// Chooses the machines that are shed when the plan runs out: below a feed with a running firm
    /// lease, load falls to the feed's default constraint.
    fn fallback(
        &self,
        running: &BTreeSet<&LeaseId>,
        all: &BTreeMap<&LeaseId, &Lease>,
    ) -> Vec<usize> {
        let mut freed = self.freed.clone();
        let mut off: Vec<bool> = self.units.iter().map(|unit| unit.active.is_some()).collect();
        let mut picked = Vec::new();
        for &node in &self.bottom_up {
            let Some(ceiling) = self.feeds[node].default_constraint else { continue };
            let firm = |lease: &&LeaseId| {
                all.get(*lease).is_some_and(|lease| self.feeds.carries(node, &lease.feed))
            };
            if !running.iter().any(firm) {
                continue;
            }
            let over =
                self.over(node, self.committed[node], ceiling.min(self.feeds[node].usable()));
            for (unit, off) in off.iter_mut().enumerate() {
                if freed[node] >= over {
                    break;
                }
                if *off || self.units[unit].failing || !self.hangs_below(unit, node) {
                    continue;
                }
                *off = true;
                picked.push(unit);
                for &above in self.path(unit) {
                    freed[above] += self.freed_by(unit);
                }
            }
        }
        picked
    }

    fn note_rooms(&mut self, from: Timestamp, to: Timestamp) {
        if from >= to || self.rooms.len() + self.feeds.len() > ROOMS {
            return;
        }
        for node in self.feeds.numbers() {
            let feed = &self.feeds[node];
            let other = self.fixed[node] - self.full[node];
            let left = feed.usable() - other - self.committed[node];
            let mining = self.full[node] - self.freed[node];
            self.rooms.push(Room {
                feed: feed.id.clone(),
                from,
                to,
                committed: self.committed[node],
                left,
                mining,
            });
        }
    }

    /// How far ahead a release looks, so that no machine is woken that would have to be shed again
    /// before its shortest time awake is over.
    fn look_ahead(&self) -> Duration {
        let awake = self
            .policy
            .facility
            .groups()
            .iter()
            .map(|group| group.min_up + group.restore_p95)
            .max();
        awake.unwrap_or_default() + self.longest_lead()
    }

    fn longest_lead(&self) -> Duration {
        longest_lead(self.policy, &self.full)
    }
}

fn unit(
    id: &MachineId,
    group: Option<(usize, &Group)>,
    held: Option<Vec<Chosen>>,
    reached: bool,
    failing: bool,
    lately_woken: bool,
    now: Timestamp,
) -> Unit {
    let period = |chosen: Chosen| Period {
        lease: chosen.lease.clone(),
        edge: None,
        at: chosen.at,
        until: None,
        means: chosen.means,
        group: chosen.group.clone(),
        used: false,
        passed_on: chosen.passed_on && chosen.at > now,
        held: Some(chosen),
    };
    Unit {
        id: id.clone(),
        group: group.map(|(number, _)| number),
        failing,
        reached,
        firm: group.is_some_and(|(_, group)| group.backs_firm()),
        lately_woken,
        periods: held.into_iter().flatten().map(period).collect(),
        active: None,
    }
}

/// What a group's machines earn above the price of their power, in USD per MWh, if prices are known.
pub(super) fn margin(policy: &Policy, group: &Group) -> Option<f64> {
    let earned =
        policy.dispatch.hashprice_usd_per_ph_day? * 1000.0 / (24.0 * group.joules_per_terahash);
    Some(earned - policy.dispatch.power_usd_per_mwh.unwrap_or(0.0))
}

/// Each group's place in the order in which machines are taken off. With one hashprice and one power
/// price for all, the margin per kW falls as the joules per terahash rise: both rules give the same
/// order, and the prices need not be known.
fn merit_order(groups: &[Group], merit: Merit) -> Vec<usize> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    match merit {
        Merit::Listed => {}
        Merit::MarginPerKw | Merit::JoulesPerTerahash => {
            order.sort_by(|a, b| {
                groups[*b].joules_per_terahash.total_cmp(&groups[*a].joules_per_terahash)
            });
        }
    }
    let mut place = vec![0; groups.len()];
    for (rank, group) in order.into_iter().enumerate() {
        place[group] = rank;
    }
    place
}
