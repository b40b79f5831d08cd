//! Passes on machines that stay off when their lease ends because other leases need the power: from
//! then on each is assigned to one of these, so that the plan names the lease for which a machine
//! is really off.

use std::collections::{BTreeMap, BTreeSet};

use directive::{LeaseId, Watts};
use jiff::Timestamp;

use super::{Edge, Period, Sweep};
use crate::facility::FeedNumber;
use crate::lease::{Lease, later};

/// The leases that may take over machines, in the order in which they receive them.
struct Heirs<'l> {
    running: Vec<&'l Lease>,
    /// Leases that begin within the look-ahead: machines are kept off for them.
    coming: Vec<&'l Lease>,
    /// The power that the machines of each lease free so far.
    freed: BTreeMap<LeaseId, Watts>,
}

impl Sweep<'_> {
    /// From `at` on, assigns machines of ended leases to other leases that still need them.
    pub(super) fn pass_on(
        &mut self,
        at: Timestamp,
        running: &BTreeSet<&LeaseId>,
        edges: &[(Timestamp, Edge, &Lease)],
        all: &BTreeMap<&LeaseId, &Lease>,
    ) {
        let over = |lease: &LeaseId| all.get(lease).is_none_or(|lease| lease.ends() <= at);
        let left = |sweep: &Self, unit: usize| {
            let active = sweep.units[unit].active?;
            let free = match &sweep.units[unit].periods[active].lease {
                Some(lease) => !running.contains(lease) && over(lease),
                None => at <= sweep.now && !sweep.is_short_by_itself(unit),
            };
            free.then_some(active)
        };
        if !(0..self.units.len()).any(|unit| left(self, unit).is_some()) {
            return;
        }
        let mut heirs = self.heirs(at, running, edges, all);
        // Machines that the running leases do not need are kept off for the coming ones.
        let mut freed = self.freed.clone();
        for unit in 0..self.units.len() {
            let Some(active) = left(self, unit) else { continue };
            let watts = self.freed_by(unit);
            let spare = self.spare_of(unit, &freed, &self.committed);
            let heir = self.given_before(unit, at, &heirs).or_else(|| {
                let (first, then) = if spare {
                    (&heirs.coming, &heirs.running)
                } else {
                    (&heirs.running, &heirs.coming)
                };
                self.choose(unit, first, &heirs.freed)
                    .or_else(|| self.choose(unit, then, &heirs.freed))
            });
            if let Some(heir) = &heir {
                *heirs.freed.entry(heir.clone()).or_default() += watts;
                if heirs.coming.iter().any(|lease| lease.id == *heir) {
                    for &node in self.path(unit) {
                        freed[node] = freed[node] - watts;
                    }
                }
            }
            self.hand_over(unit, active, at, heir);
        }
    }

    fn heirs<'l>(
        &self,
        at: Timestamp,
        running: &BTreeSet<&LeaseId>,
        edges: &[(Timestamp, Edge, &'l Lease)],
        all: &BTreeMap<&LeaseId, &'l Lease>,
    ) -> Heirs<'l> {
        let until = later(at, self.look_ahead());
        let soon = edges.iter().take_while(|(begins, ..)| *begins < until);
        let mut freed: BTreeMap<LeaseId, Watts> = BTreeMap::new();
        for unit in 0..self.units.len() {
            let active = self.units[unit].active;
            let lease = active.and_then(|active| self.units[unit].periods[active].lease.as_ref());
            if let Some(lease) = lease {
                *freed.entry(lease.clone()).or_default() += self.freed_by(unit);
            }
        }
        Heirs {
            running: running.iter().filter_map(|lease| all.get(*lease)).copied().collect(),
            coming: soon
                .filter(|(_, edge, _)| *edge == Edge::Start)
                .map(|(.., lease)| *lease)
                .collect(),
            freed,
        }
    }

    /// The lease that an earlier plan chose for this machine at this time.
    fn given_before(&self, unit: usize, at: Timestamp, heirs: &Heirs<'_>) -> Option<LeaseId> {
        let given = self.units[unit].periods.iter().find(|period| {
            period.passed_on && !period.used && period.at == at && period.lease.is_some()
        })?;
        let lease = given.lease.as_ref()?;
        let mut candidates = heirs.running.iter().chain(&heirs.coming);
        candidates.any(|heir| heir.id == *lease && self.is_near(unit, heir)).then(|| lease.clone())
    }

    /// Returns the first lease on the machine's path whose machines free less than it needs, else
    /// the first lease on its path.
    fn choose(
        &self,
        unit: usize,
        leases: &[&Lease],
        freed: &BTreeMap<LeaseId, Watts>,
    ) -> Option<LeaseId> {
        let mut near = leases.iter().filter(|lease| self.is_near(unit, lease)).peekable();
        let first = near.peek().map(|lease| lease.id.clone());
        let has = |lease: &Lease| freed.get(&lease.id).copied().unwrap_or_default();
        near.find(|lease| has(lease) < lease.gross).map(|lease| lease.id.clone()).or(first)
    }

    fn is_near(&self, unit: usize, lease: &Lease) -> bool {
        self.feeds.number(&lease.feed).is_some_and(|feed| self.hangs_below(unit, feed))
    }

    /// Whether a feed on the machine's path exceeds its limit even without any lease.
    fn is_short_by_itself(&self, unit: usize) -> bool {
        let short = |&node: &FeedNumber| {
            self.over(node, Watts::ZERO, self.feeds[node].usable()) > Watts::ZERO
        };
        self.path(unit).iter().any(short)
    }

    fn hand_over(&mut self, unit: usize, active: usize, at: Timestamp, heir: Option<LeaseId>) {
        if at <= self.now {
            // The machine is already off; only the lease it serves changes.
            self.units[unit].periods[active].lease = heir;
            return;
        }
        let ended = &mut self.units[unit].periods[active];
        let (means, group) = (ended.means, ended.group.clone());
        // The period was not ended by a release. With an edge here, all machines would return at
        // this one instant if the new lease is cancelled.
        ended.until = Some(at);
        // An earlier plan may have passed the machine on in the same way.
        let alike = |period: &&mut Period| {
            period.passed_on && !period.used && period.at == at && period.lease == heir
        };
        let held =
            self.units[unit].periods.iter_mut().find(alike).and_then(|period| period.held.take());
        self.units[unit].periods.push(Period {
            lease: heir,
            held,
            edge: None,
            at,
            until: None,
            means,
            group,
            used: true,
            passed_on: true,
        });
        self.units[unit].active = Some(self.units[unit].periods.len() - 1);
    }
}
