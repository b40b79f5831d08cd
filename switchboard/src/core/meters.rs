//! Judges the meters: collects what bounds each of them, puts changes on record, and says which of
//! them are believed. What the words mean is decided by [`crate::plausible`].

use std::collections::BTreeSet;
use std::time::Instant;

use directive::{LeaseId, MeterId, Watts};
use jiff::Timestamp;

use super::Core;
use super::load::{Less, Readings};
use crate::commitment::Phase;
use crate::facility::{FeedNumber, PerFeed, times};
use crate::inventory::Headroom;
use crate::ledger::Event;
use crate::plausible::{
    Change, MeterChange, MeterState, Plausibility, Proof, Sample, Seen, Within,
};
use crate::policy::Policy;

/// The maximum number of leases that one record of a meter names.
const LEASES: usize = 100;
/// A tenant may draw this part more than it rents.
const OVER: f64 = 0.5;
/// A tenant's meter is taken as silent if it shows more than this multiple of what the whole site
/// carries: it counts in another unit.
const POSSIBLE: i64 = 3;

impl Core {
    /// Judges what the meters show, and puts what has changed on record.
    pub(super) fn judge_meters(&mut self, readings: &Readings, wall: Timestamp, now: Instant) {
        let seen = self.bounds(readings);
        let mut plausible = std::mem::take(&mut self.plausible);
        let feeds = self.policy.facility.feeds();
        let changes = plausible.judge(
            feeds,
            &seen,
            (wall, now),
            self.policy.dispatch.settle,
            |within| self.prove(within, wall, now),
            self.is_young(now),
        );
        self.plausible = plausible;
        if changes.is_empty() {
            return;
        }
        let meters: Vec<MeterChange> =
            changes.into_iter().filter_map(|change| self.meter_change(change)).collect();
        self.note(Event::MetersJudged { meters }, self.schedule);
    }

    /// What bounds the meters.
    fn bounds(&self, readings: &Readings) -> PerFeed<Option<Seen>> {
        let Readings { samples, figures, less } = readings;
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let machines = self.seen_at_full_power();
        // What the figures allow below the nearest meters below each feed.
        let mut below = PerFeed::all(feeds, Watts::ZERO);
        let most =
            |feed: FeedNumber| figures[feed] + self.sums.leased(feed) + self.sums.unmetered(feed);
        for feed in feeds.numbers().rev() {
            if let Some(&parent) = feeds.path(feed).get(1) {
                let counted = if feeds[feed].meter.is_some() { most(feed) } else { below[feed] };
                below[parent] += counted;
            }
        }
        // Tenants may come early or stay, and one without a meter shows it nowhere: every open lease may
        // draw all that it rents.
        let mut rented = PerFeed::all(feeds, Watts::ZERO);
        let mut tenants = PerFeed::all(feeds, Watts::ZERO);
        for lease in &self.leases {
            let most = lease.gross + lease.gross.scale(OVER);
            feeds.path_of(&lease.feed).iter().for_each(|feed| tenants[*feed] += most);
            let path = feeds.path_of(&lease.feed).iter().copied();
            if let Some(feed) = path.into_iter().find(|feed| feeds[*feed].meter.is_some()) {
                rented[feed] += most;
            }
        }
        PerFeed::each(feeds, |feed| {
            feeds[feed].meter.as_ref()?;
            let Less { sure, possible, .. } = less[feed];
            let (leased, unmetered) = (self.sums.leased(feed), self.sums.unmetered(feed));
            let known = (leased - sure - possible, leased + unmetered - sure);
            let middle = Watts(i64::midpoint(known.0.0, known.1.0));
            let correction = self.corrections.planned()[feed];
            let path = feeds.path(feed).iter();
            Some(Seen {
                sample: samples[feed].map(|(watts, taken_at)| Sample { watts, taken_at }),
                limit: path.map(|above| feeds[*above].limit.highest()).min().unwrap_or_default(),
                usable: feeds[feed].most_usable(),
                band: facility.band(feed),
                largest: facility.largest(feed),
                expected: (figures[feed] + middle + correction).max(Watts::ZERO),
                machines: machines[feed].saturating_sub(sure + possible) + leased,
                known,
                tenants: tenants[feed],
                judging: self.judging(feed),
                own_most: most(feed).saturating_sub(below[feed]) + rented[feed],
            })
        })
    }

    /// The full power of the machines at and below each feed that were seen.
    pub(super) fn seen_at_full_power(&self) -> PerFeed<Watts> {
        let facility = &self.policy.facility;
        let mut sums = PerFeed::all(facility.feeds(), Watts::ZERO);
        let groups = facility.groups().iter().zip(&self.fleet.groups);
        for (number, (group, known)) in groups.enumerate() {
            let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
            let watts = times(group.watts, count);
            facility.feeds().add(&mut sums, facility.group_feed(number), watts);
        }
        sums
    }

    /// What machines and tenants prove to draw in a time, for each feed that has one.
    fn prove(
        &self,
        within: &PerFeed<Option<Within>>,
        wall: Timestamp,
        now: Instant,
    ) -> PerFeed<Proof> {
        let mut proofs = self.inventory.proofs(&self.policy, within, wall);
        let feeds = self.policy.facility.feeds();
        let mut counted: BTreeSet<&MeterId> = BTreeSet::new();
        for lease in &self.leases {
            let Some(meter) = lease.meter.as_ref().filter(|meter| counted.insert(meter)) else {
                continue;
            };
            let Some((watts, taken_at)) = self.tenant_meter(meter, wall, now) else { continue };
            for &feed in feeds.path_of(&lease.feed) {
                if within[feed]
                    .is_some_and(|within| within.from < taken_at && taken_at <= within.to)
                {
                    // The tenant's own meter may be off, too; it is not read at the same moment.
                    let part = Watts(watts.min(lease.gross + lease.gross).0 / 2);
                    proofs[feed].proven += part;
                    proofs[feed].claimed += part;
                }
            }
        }
        proofs
    }

    /// What a tenant's own meter shows, unless that is impossible.
    pub(super) fn tenant_meter(
        &self,
        meter: &MeterId,
        wall: Timestamp,
        now: Instant,
    ) -> Option<(Watts, Timestamp)> {
        let site = self.policy.facility.feeds().as_slice().first()?.limit.highest();
        let possible = Watts(site.0.saturating_mul(POSSIBLE));
        self.inventory.metered(meter, wall, now).filter(|(watts, _)| *watts <= possible)
    }

    fn meter_change(&self, Change { feed, from, to }: Change) -> Option<MeterChange> {
        let feeds = self.policy.facility.feeds();
        let figures = self.plausible.figures(feed);
        let relies = |lease: &LeaseId| {
            let phase = self.commitments.get(lease).map(|commitment| commitment.phase);
            phase.is_some_and(Phase::is_proven)
        };
        let leases = self.leases.iter().filter(|lease| feeds.carries(feed, &lease.feed));
        Some(MeterChange {
            feed: feeds[feed].id.clone(),
            meter: feeds[feed].meter.clone()?,
            from,
            to,
            shown: figures.map(|(shown, _)| shown),
            bound: figures.map(|(_, bound)| bound),
            why: self.plausible.why(feeds, feed),
            leases: leases
                .map(|lease| &lease.id)
                .filter(|lease| relies(lease))
                .take(LEASES)
                .cloned()
                .collect(),
        })
    }

    /// What is thought of each feed's meter, but for those whose first sample is awaited and those that
    /// are being found out.
    pub fn meter_states(&self) -> impl Iterator<Item = (&MeterId, MeterState)> {
        let feeds = self.policy.facility.feeds();
        feeds.numbers().filter_map(move |feed| {
            self.plausible.since(feed)?;
            let state = self.plausible.state(feed);
            let is_known = state != MeterState::Ok || self.is_believed(feed);
            is_known.then_some((feeds[feed].meter.as_ref()?, state))
        })
    }

    /// Whether what the meter of `feed` shows may be used.
    pub(super) fn is_believed(&self, feed: FeedNumber) -> bool {
        self.plausible.is_believed(feed)
    }

    /// The headroom that the feed's meter proves; `None` if it is silent or not believed.
    pub(super) fn headroom(
        &self,
        feed: FeedNumber,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Headroom> {
        if !self.is_believed(feed) {
            return None;
        }
        let of = &self.policy.facility.feeds()[feed];
        let headroom = self.inventory.headroom(of, self.sums.leased(feed), wall, now)?;
        // A stepped clock neither ends a lower limit nor puts one off.
        let lower = of.usable(wall).saturating_sub(of.usable(self.schedule));
        Some(Headroom { watts: headroom.watts - lower, ..headroom })
    }

    /// Why the meter of `feed` proves nothing, in words.
    pub(super) fn doubt(&self, feed: FeedNumber) -> Option<String> {
        let feeds = self.policy.facility.feeds();
        let name = &feeds[feed].id;
        match self.plausible.state(feed) {
            MeterState::Silent => None,
            state if state.is_implausible() => {
                let why = self.plausible.why(feeds, feed);
                Some(format!("the meter of {name} is implausible ({state}): it {why}"))
            }
            _ if !self.is_believed(feed) => {
                Some(format!("it is being found out whether the meter of {name} is right"))
            }
            _ => None,
        }
    }

    /// What is thought of the meters under a new policy.
    pub(super) fn carried_plausibility(&self, policy: &Policy) -> Plausibility {
        self.plausible.carried(self.policy.facility.feeds(), policy.facility.feeds())
    }
}
