//! What leases will lack with the machines known now. Admission counts the machines that the policy
//! declares; here only those count that reports show and that do as told. Pure, and for any instant:
//! a lease beyond the plan's horizon is judged by the same arithmetic as one that begins today. It is
//! the arithmetic of [`crate::plan`], in sums instead of choices.
//!
//! A feed lacks what house, machines at full draw and leases take, less its usable power, less what
//! the known machines below it free. Several leases share a shortage by one rule: **who begins later
//! lacks it** (of two that begin at once, the one whose name sorts later). A lease is short of all
//! that its feed lacks when it begins, counting the leases that began before it and still run: that
//! is what must be found before its power can be proven free, and what the plan shows as the feed's
//! deficit. A firm lease counts, besides, what firm leases alone lack with firm machines alone:
//! starving machines proves nothing to it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use directive::{FeedId, LeaseId, Watts};
use jiff::Timestamp;

use crate::facility::Tree;
use crate::facility::{Group, Policy};
use crate::lease::Lease;
use crate::plan::{Fleet, Selection};
use crate::view::Shortage;

/// What the known machines below one feed free, and how many they are.
#[derive(Debug, Clone, Copy, Default)]
struct Capacity {
    freed: Watts,
    seen: u32,
    failing: u32,
    declared: u32,
}

/// One feed's sums over the leases that run at the moment looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    all: Watts,
    firm: Watts,
    /// Leases for which starving machines is enough.
    unverified: u32,
}

/// The feeds, with what their known machines free.
pub(crate) struct Supply<'a> {
    tree: Tree<'a>,
    /// House, unassigned sessions and every machine at full draw.
    fixed: Vec<Watts>,
    /// Machines with a driver and a measured shed time.
    firm: Vec<Capacity>,
    /// Every machine.
    any: Vec<Capacity>,
}

impl<'a> Supply<'a> {
    /// Sums over the machines known, and those that `held` has chosen though no report shows them.
    pub(crate) fn new(policy: &'a Policy, fleet: &Fleet, held: &Selection) -> Self {
        let tree = Tree::new(policy);
        let (house, unassigned) = (tree.house(), tree.unassigned(&fleet.population));
        let full = tree.machines(&fleet.population, |group| group.watts);
        let fixed =
            (0..tree.len()).map(|node| house[node] + unassigned[node] + full[node]).collect();
        let none = vec![Capacity::default(); tree.len()];
        let mut supply = Self { tree, fixed, firm: none.clone(), any: none };
        let mut unreported = held.off.clone();
        for (group, machines) in policy.groups.iter().zip(&fleet.groups) {
            let absent = machines.iter().filter(|machine| machine.absent).count();
            let failing = machines.iter().filter(|machine| machine.failing).count();
            let obeying = machines.len() - failing;
            supply.add(
                group,
                Capacity {
                    freed: Watts(
                        group.freed().0.saturating_mul(i64::try_from(obeying).unwrap_or(i64::MAX)),
                    ),
                    seen: count(machines.len() - absent),
                    failing: count(failing - absent),
                    declared: group.machines,
                },
            );
            for machine in machines {
                unreported.remove(&machine.id);
            }
        }
        for (machine, chosen) in &unreported {
            let named = chosen.first().and_then(|chosen| policy.group(&chosen.group));
            if let Some(group) = named.or_else(|| policy.group_of(machine)) {
                supply.add(group, Capacity { freed: group.freed(), ..Capacity::default() });
            }
        }
        supply
    }

    fn add(&mut self, group: &Group, capacity: Capacity) {
        for &node in self.tree.path(&group.feed) {
            self.any[node].add(capacity);
            if group.backs_firm() {
                self.firm[node].add(capacity);
            }
        }
    }

    /// What each of `leases` lacks at its worst, for those that lack something. `now` is the
    /// beginning of what runs already.
    pub(crate) fn shortages<'l>(
        &self,
        leases: impl IntoIterator<Item = &'l Lease>,
        now: Timestamp,
    ) -> BTreeMap<LeaseId, Shortage> {
        let open = |lease: &&Lease| lease.reserved_from() < lease.ends() && now < lease.ends();
        let mut leases: Vec<&Lease> = leases.into_iter().filter(open).collect();
        leases.sort_by(|a, b| (a.reserved_from(), &a.id).cmp(&(b.reserved_from(), &b.id)));
        let mut running = vec![Running::default(); self.tree.len()];
        let mut ends: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
        let mut shortages = BTreeMap::new();
        for (number, lease) in leases.iter().enumerate() {
            let begins = lease.reserved_from().max(now);
            while let Some(&Reverse((end, over))) = ends.peek()
                && end <= begins
            {
                ends.pop();
                self.count(&mut running, leases[over], false);
            }
            self.count(&mut running, lease, true);
            ends.push(Reverse((lease.ends(), number)));
            // Later beginnings are not this lease's, and ends only relieve it: it lacks most at its
            // beginning.
            let firm = !lease.accept_unverified;
            let Some((node, missing)) = self.worst(lease, firm, &running) else { continue };
            let to = self.relieved(&leases, &ends, lease, node, &running);
            let shortage = self.shortage(node, firm, missing, begins, Some(to));
            shortages.insert(lease.id.clone(), shortage);
        }
        shortages
    }

    /// What `feed` lacks at `at` with all of `leases` that run then, in the words of a shortage;
    /// for `missing` that the plan has found.
    pub(crate) fn at_feed<'l>(
        &self,
        feed: &FeedId,
        missing: Watts,
        at: Timestamp,
        leases: impl IntoIterator<Item = &'l Lease>,
    ) -> Option<Shortage> {
        let node = self.tree.of(feed)?;
        let here: Vec<&Lease> = leases
            .into_iter()
            .filter(|lease| at < lease.ends() && self.tree.path(&lease.feed).contains(&node))
            .collect();
        let lacks = |at: Timestamp| {
            let mut running = vec![Running::default(); self.tree.len()];
            here.iter()
                .filter(|lease| lease.reserves(at))
                .for_each(|lease| self.count(&mut running, lease, true));
            self.lacks(node, false, &running) > Watts::ZERO
        };
        let mut ends: Vec<Timestamp> = here.iter().map(|lease| lease.ends()).collect();
        ends.sort_unstable();
        ends.dedup();
        let to = ends.into_iter().find(|end| !lacks(*end));
        let firm = !here.iter().any(|lease| lease.accept_unverified && lease.reserves(at));
        Some(self.shortage(node, firm, missing, at, to))
    }

    fn count(&self, running: &mut [Running], lease: &Lease, begins: bool) {
        let watts = if begins { lease.gross } else { Watts(-lease.gross.0) };
        for &node in self.tree.path(&lease.feed) {
            let sum = &mut running[node];
            sum.all += watts;
            match (lease.accept_unverified, begins) {
                (false, _) => sum.firm += watts,
                (true, true) => sum.unverified += 1,
                (true, false) => sum.unverified -= 1,
            }
        }
    }

    /// What a feed lacks: to all leases; to a firm one also what firm leases lack of firm machines.
    fn lacks(&self, node: usize, firm: bool, running: &[Running]) -> Watts {
        let usable = self.tree.feed(node).usable();
        let lacks = |leases: Watts, capacity: Capacity| {
            (self.fixed[node] + leases).saturating_sub(usable).saturating_sub(capacity.freed)
        };
        let sum = running[node];
        // Machines are starved only for leases that accept it.
        let capacity = if sum.unverified > 0 { self.any[node] } else { self.firm[node] };
        let all = lacks(sum.all, capacity);
        if firm { all.max(lacks(sum.firm, self.firm[node])) } else { all }
    }

    /// The feed on the lease's path that lacks most, the lowest of equals.
    fn worst(&self, lease: &Lease, firm: bool, running: &[Running]) -> Option<(usize, Watts)> {
        let path = self.tree.path(&lease.feed).iter().rev();
        path.map(|&node| (node, self.lacks(node, firm, running)))
            .filter(|(_, missing)| *missing > Watts::ZERO)
            .max_by_key(|(_, missing)| *missing)
    }

    /// When `lease` lacks nothing at `node` any more: when enough of what runs beside it has ended,
    /// at the latest with its own end.
    fn relieved(
        &self,
        leases: &[&Lease],
        ends: &BinaryHeap<Reverse<(Timestamp, usize)>>,
        lease: &Lease,
        node: usize,
        running: &[Running],
    ) -> Timestamp {
        let mut running = running.to_vec();
        let mut coming: Vec<(Timestamp, usize)> = ends.iter().map(|Reverse(end)| *end).collect();
        coming.sort_unstable();
        for (end, over) in coming {
            if end >= lease.ends() {
                break;
            }
            self.count(&mut running, leases[over], false);
            if self.lacks(node, !lease.accept_unverified, &running) == Watts::ZERO {
                return end;
            }
        }
        lease.ends()
    }

    fn shortage(
        &self,
        node: usize,
        firm: bool,
        missing: Watts,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Shortage {
        let Capacity { seen, failing, declared, .. } =
            if firm { self.firm[node] } else { self.any[node] };
        Shortage {
            feed: self.tree.feed(node).id.clone(),
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
