//! What leases will lack with the machines known now. Admission counts the machines that the policy
//! declares; here only those count that reports show and that obey. The arithmetic is that of
//! [`crate::plan`], in sums instead of chosen machines, so that it also serves for leases beyond the
//! plan's horizon.
//!
//! A feed's shortage = house + machines at full draw + leases − usable power − what the known
//! machines below the feed can free. If several leases share a shortage, **the one that begins later
//! is short** (of two that begin at once, the one whose name sorts later). A lease is short of all
//! that its feed lacks when the lease begins, counting the leases that began before it and still
//! run: this much must be found before its power can be proven free, and the plan shows the same
//! figure as the feed's deficit. When a limit is lower from some time on while leases run, the same
//! holds at that time: the lease that began last is short first. A firm lease is also short of what firm leases alone lack if only
//! machines with a driver count, because starving machines proves nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use directive::{FeedId, LeaseId, Watts};
use jiff::Timestamp;

use crate::facility::{Facility, FeedNumber, Feeds, LimitChange, PerFeed};
use crate::lease::Lease;
use crate::plan::{Fleet, Selection};
use crate::reservation::reservations;
use crate::view::Shortage;

/// The power that the known machines below one feed can free, and the number of these machines.
#[derive(Debug, Clone, Copy, Default)]
struct Capacity {
    freed: Watts,
    seen: u32,
    failing: u32,
    declared: u32,
}

/// Sums at one feed over the leases that run at the moment in question.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    all: Watts,
    firm: Watts,
    /// The number of leases that accept starved machines.
    unverified: u32,
}

/// What a lease reserves changes. At one instant, leases take over power before others end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    at: Timestamp,
    ends: bool,
    lease: usize,
    watts: Watts,
}

/// The feeds, with the power that their known machines can free.
pub(crate) struct Supply<'a> {
    feeds: &'a Feeds,
    /// The load of the house, unassigned sessions and every machine at full draw.
    fixed: PerFeed<Watts>,
    /// Machines with a driver and a measured shed time.
    firm: PerFeed<Capacity>,
    /// Every machine.
    any: PerFeed<Capacity>,
    /// Whether some limit changes with time.
    is_dated: bool,
}

impl<'a> Supply<'a> {
    /// Sums over the machines of `fleet`, and those that `held` has chosen though no report shows
    /// them.
    pub(crate) fn new(facility: &'a Facility, fleet: &Fleet, held: &Selection) -> Self {
        let feeds = facility.feeds();
        let fixed = facility.fixed_load(&fleet.population);
        let none = PerFeed::all(feeds, Capacity::default());
        let is_dated = !facility.dated().is_empty();
        let mut supply = Self { feeds, fixed, firm: none.clone(), any: none, is_dated };
        for (number, machines) in (0..facility.groups().len()).zip(&fleet.groups) {
            let group = &facility.groups()[number];
            let absent = machines.iter().filter(|machine| machine.absent).count();
            let failing = machines.iter().filter(|machine| machine.failing).count();
            let obeying = machines.len() - failing;
            supply.add(
                facility,
                number,
                Capacity {
                    freed: Watts(
                        group.freed().0.saturating_mul(i64::try_from(obeying).unwrap_or(i64::MAX)),
                    ),
                    seen: count(machines.len() - absent),
                    failing: count(failing - absent),
                    declared: group.machines,
                },
            );
        }
        for (machine, chosen) in &held.off {
            let named = chosen.first().and_then(|chosen| facility.group_number(&chosen.group));
            if fleet.find(facility, machine, named).is_some() {
                continue;
            }
            if let Some(number) = named.or_else(|| facility.claimed_by(machine)) {
                let freed = facility.groups()[number].freed();
                supply.add(facility, number, Capacity { freed, ..Capacity::default() });
            }
        }
        supply
    }

    fn add(&mut self, facility: &Facility, group: usize, capacity: Capacity) {
        for &node in self.feeds.path(facility.group_feed(group)) {
            self.any[node].add(capacity);
            if facility.groups()[group].backs_firm() {
                self.firm[node].add(capacity);
            }
        }
    }

    /// The greatest shortage of each lease that has one. Leases that run already count as beginning
    /// at `now`.
    pub(crate) fn shortages<'l>(
        &self,
        leases: impl IntoIterator<Item = &'l Lease>,
        now: Timestamp,
    ) -> BTreeMap<LeaseId, Shortage> {
        let open = |lease: &&Lease| lease.reserved_from() < lease.ends() && now < lease.ends();
        let mut leases: Vec<&Lease> = leases.into_iter().filter(open).collect();
        leases.sort_by(|a, b| (a.reserved_from(), &a.id).cmp(&(b.reserved_from(), &b.id)));
        let reservations = reservations(&leases);
        let mut running = PerFeed::all(self.feeds, Running::default());
        let mut changes: BinaryHeap<Reverse<Change>> = BinaryHeap::new();
        let mut shortages = BTreeMap::new();
        for (number, (lease, reservation)) in leases.iter().zip(&reservations).enumerate() {
            let begins = lease.reserved_from().max(now);
            while let Some(&Reverse(change)) = changes.peek()
                && change.at <= begins
            {
                changes.pop();
                self.change(&mut running, &leases, change);
            }
            self.begin(&mut running, lease, reservation.at(begins));
            for (at, more) in reservation.rises().filter(|(at, _)| *at > begins) {
                changes.push(Reverse(Change { at, ends: false, lease: number, watts: more }));
            }
            let (at, watts) = (lease.ends(), Watts(-reservation.last().0));
            changes.push(Reverse(Change { at, ends: true, lease: number, watts }));
            // With limits that do not change, a lease lacks most when it begins: leases that begin later
            // are short themselves, leases that end only relieve it, and what it takes over from one of
            // them was needed before, too.
            let firm = !lease.accept_unverified;
            let mut most = self.worst(lease, firm, begins, &running).map(|(node, missing)| {
                let to = self.relieved(&leases, &changes, lease, (node, begins), &running);
                self.shortage(node, firm, missing, begins, Some(to))
            });
            if self.is_dated {
                self.with_lower_limits(&leases, &changes, lease, begins, &running, &mut most);
            }
            shortages.extend(most.map(|shortage| (lease.id.clone(), shortage)));
        }
        shortages
    }

    /// Makes `most` the greatest shortage of `lease`, with those at times after its beginning at which a
    /// limit on its path becomes lower. It is short from the first of them on.
    fn with_lower_limits(
        &self,
        leases: &[&Lease],
        changes: &BinaryHeap<Reverse<Change>>,
        lease: &Lease,
        begins: Timestamp,
        running: &PerFeed<Running>,
        most: &mut Option<Shortage>,
    ) {
        let path = self.feeds.path_of(&lease.feed).iter();
        let falls = path.flat_map(|feed| self.feeds[*feed].limit.after(begins));
        let falls = falls.take_while(|change| change.at < lease.ends());
        let mut falls: Vec<Timestamp> =
            falls.filter(LimitChange::lowers).map(|change| change.at).collect();
        if falls.is_empty() {
            return;
        }
        falls.sort_unstable();
        falls.dedup();
        let firm = !lease.accept_unverified;
        let mut coming: Vec<Change> = changes.iter().map(|Reverse(change)| *change).collect();
        coming.sort_unstable();
        let mut coming = coming.into_iter().peekable();
        let mut running = running.clone();
        for at in falls {
            while let Some(change) = coming.next_if(|change| change.at <= at) {
                self.change(&mut running, leases, change);
            }
            let Some((node, missing)) = self.worst(lease, firm, at, &running) else { continue };
            let from = most.as_ref().map_or(at, |most| most.from);
            if most.as_ref().is_some_and(|most| missing <= most.missing) {
                continue;
            }
            let to = self.relieved(leases, changes, lease, (node, at), &running);
            *most = Some(self.shortage(node, firm, missing, from, Some(to)));
        }
    }

    /// Describes the shortage of `feed` at `at`, where the plan has found that `missing` watts are
    /// missing: how long the shortage lasts with these leases, and which machines there are.
    pub(crate) fn at_feed<'l>(
        &self,
        feed: &FeedId,
        missing: Watts,
        at: Timestamp,
        leases: impl IntoIterator<Item = &'l Lease>,
    ) -> Option<Shortage> {
        let node = self.feeds.number(feed)?;
        let here: Vec<&Lease> = leases
            .into_iter()
            .filter(|lease| at < lease.ends() && self.feeds.carries(node, &lease.feed))
            .collect();
        let reservations = reservations(&here);
        // By how much more is reserved from each instant on, and by how many more leases that accept
        // machines that are only starved.
        let mut changes: Vec<(Timestamp, Watts, i64)> = Vec::new();
        for (lease, reserved) in here.iter().zip(&reservations) {
            let (from, end) = (lease.reserved_from(), lease.ends());
            let unverified = i64::from(lease.accept_unverified && from < end);
            changes.extend(reserved.rises().map(|(at, more)| (at, more, 0)));
            changes.push((from, Watts::ZERO, unverified));
            changes.push((end, Watts(-reserved.last().0), -unverified));
        }
        changes.sort_unstable_by_key(|(at, ..)| *at);
        let mut changes = changes.into_iter().peekable();
        let (mut all, mut unverified) = (Watts::ZERO, 0);
        let mut ends: Vec<Timestamp> = here.iter().map(|lease| lease.ends()).collect();
        ends.extend(self.feeds[node].limit.after(at).map(|change| change.at));
        ends.sort_unstable();
        ends.dedup();
        let to = ends.into_iter().find(|end| {
            while let Some((_, watts, leases)) = changes.next_if(|(at, ..)| at <= end) {
                (all, unverified) = (all + watts, unverified + leases);
            }
            let unverified = u32::try_from(unverified).unwrap_or(0);
            let sum = Running { all, unverified, ..Running::default() };
            self.lacks_with(node, false, *end, sum) == Watts::ZERO
        });
        let firm = !here.iter().any(|lease| lease.accept_unverified && lease.reserves(at));
        Some(self.shortage(node, firm, missing, at, to))
    }

    /// A lease begins with `watts`.
    fn begin(&self, running: &mut PerFeed<Running>, lease: &Lease, watts: Watts) {
        for &node in self.feeds.path_of(&lease.feed) {
            running[node].unverified += u32::from(lease.accept_unverified);
        }
        self.count(running, lease, watts);
    }

    fn change(&self, running: &mut PerFeed<Running>, leases: &[&Lease], change: Change) {
        let lease = leases[change.lease];
        for &node in self.feeds.path_of(&lease.feed) {
            running[node].unverified -= u32::from(lease.accept_unverified && change.ends);
        }
        self.count(running, lease, change.watts);
    }

    fn count(&self, running: &mut PerFeed<Running>, lease: &Lease, watts: Watts) {
        for &node in self.feeds.path_of(&lease.feed) {
            running[node].all += watts;
            if !lease.accept_unverified {
                running[node].firm += watts;
            }
        }
    }

    /// What a feed lacks at `at` with all leases. For a firm lease, what firm leases alone lack with firm
    /// machines alone counts if that is more.
    fn lacks(
        &self,
        node: FeedNumber,
        firm: bool,
        at: Timestamp,
        running: &PerFeed<Running>,
    ) -> Watts {
        self.lacks_with(node, firm, at, running[node])
    }

    /// The same, where `sum` is what leases reserve at the feed.
    fn lacks_with(&self, node: FeedNumber, firm: bool, at: Timestamp, sum: Running) -> Watts {
        let usable = self.feeds[node].usable(at);
        let lacks = |leases: Watts, capacity: Capacity| {
            (self.fixed[node] + leases).saturating_sub(usable).saturating_sub(capacity.freed)
        };
        // Machines are starved only for leases that accept this, so they count only if such a lease
        // runs.
        let capacity = if sum.unverified > 0 { self.any[node] } else { self.firm[node] };
        let all = lacks(sum.all, capacity);
        if firm { all.max(lacks(sum.firm, self.firm[node])) } else { all }
    }

    /// The feed on the lease's path that lacks most at `at`; of equal ones, the lowest.
    fn worst(
        &self,
        lease: &Lease,
        firm: bool,
        at: Timestamp,
        running: &PerFeed<Running>,
    ) -> Option<(FeedNumber, Watts)> {
        let path = self.feeds.path_of(&lease.feed).iter().rev();
        path.map(|&node| (node, self.lacks(node, firm, at, running)))
            .filter(|(_, missing)| *missing > Watts::ZERO)
            .max_by_key(|(_, missing)| *missing)
    }

    /// When `lease` no longer lacks what it lacks at `node` from `from` on: when enough other leases have
    /// ended or the limit is higher, at the latest at its own end.
    fn relieved(
        &self,
        leases: &[&Lease],
        changes: &BinaryHeap<Reverse<Change>>,
        lease: &Lease,
        (node, from): (FeedNumber, Timestamp),
        running: &PerFeed<Running>,
    ) -> Timestamp {
        let mut running = running.clone();
        let mut coming: Vec<Change> = changes.iter().map(|Reverse(change)| *change).collect();
        coming.retain(|change| change.at > from && change.at < lease.ends());
        coming.sort_unstable();
        let mut coming = coming.into_iter().peekable();
        let mut limits = self.feeds[node].limit.after(from).map(|change| change.at).peekable();
        loop {
            let at = match (coming.peek().map(|change| change.at), limits.peek().copied()) {
                (None, None) => return lease.ends(),
                (lease, limit) => lease.into_iter().chain(limit).min().unwrap_or(from),
            };
            if at >= lease.ends() {
                return lease.ends();
            }
            limits.next_if(|limit| *limit <= at);
            if let Some(change) = coming.next_if(|change| change.at <= at) {
                self.change(&mut running, leases, change);
            }
            if self.lacks(node, !lease.accept_unverified, at, &running) == Watts::ZERO {
                return at;
            }
        }
    }

    fn shortage(
        &self,
        node: FeedNumber,
        firm: bool,
        missing: Watts,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Shortage {
        let Capacity { seen, failing, declared, .. } =
            if firm { self.firm[node] } else { self.any[node] };
        Shortage {
            feed: self.feeds[node].id.clone(),
            from,
            to,
            missing,
            machines_seen: seen,
            machines_failing: failing,
            machines_declared: declared,
            known_since: None,
        }
    }
}

impl Capacity {
    fn add(&mut self, other: Self) {
        self.freed += other.freed;
        self.seen = self.seen.saturating_add(other.seen);
        self.failing = self.failing.saturating_add(other.failing);
        self.declared = self.declared.saturating_add(other.declared);
    }
}

fn count(machines: usize) -> u32 {
    u32::try_from(machines).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
