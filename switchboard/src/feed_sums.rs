//! Sums over the open leases at each feed and below it, kept up to date: what leases reserve over
//! time, what the tenants' own meters account for, and what active tenants may draw that no meter of
//! theirs shows. A sum is changed only where a lease, its phase or the reading of its meter changes,
//! or where a lease begins or ends to reserve; asking for one costs nothing in proportion to the
//! number of leases. What the feeds' own meters show is left to [`crate::inventory`].

use std::collections::BTreeMap;

use directive::{LeaseId, MeterId, Watts};
use jiff::Timestamp;

use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::lease::Lease;
use crate::reservation::{Reservation, reservations};

/// The sums. [`FeedSums::take_leases`] and [`FeedSums::set_active`] say what is committed,
/// [`FeedSums::read`] brings the sums to the present time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FeedSums {
    reserved: PerFeed<OverTime>,
    leased: PerFeed<Watts>,
    over: PerFeed<Watts>,
    unmetered: PerFeed<Watts>,
    leases: BTreeMap<LeaseId, Counted>,
    tenants: BTreeMap<MeterId, Tenant>,
}

/// A lease as it is counted in the sums.
#[derive(Debug, Clone, PartialEq)]
struct Counted {
    /// `None` if the policy has no such feed any more: the lease then counts nowhere.
    feed: Option<FeedNumber>,
    gross: Watts,
    reservation: Reservation,
    /// The leases whose power it takes over when they end.
    takes_from: Vec<LeaseId>,
    meter: Option<MeterId>,
    active: bool,
    /// Whether the lease is in the sums of power that its own meter does not show.
    unmetered: bool,
}

/// A tenant's own meter. Several leases may name it: a tenant that extends its rent names the same
/// meter again, and its draw counts once.
#[derive(Debug, Clone, PartialEq)]
struct Tenant {
    leases: Vec<LeaseId>,
    /// What the meter shows, if the reading is fresh.
    reading: Option<Watts>,
    /// The period in which the same leases of the tenant reserve power; empty when the tenant must
    /// be counted anew.
    same_from: Timestamp,
    same_until: Timestamp,
    /// The power that the tenant is counted with now, by feed, and what it draws beyond.
    leased: Vec<(FeedNumber, Watts, Watts)>,
}

/// Watts over time: from each instant on until the next one; nothing before the first.
#[derive(Debug, Clone, Default, PartialEq)]
struct OverTime(Vec<(Timestamp, Watts)>);

impl FeedSums {
    /// The sums for no leases.
    pub(crate) fn new(feeds: &Feeds) -> Self {
        Self {
            reserved: PerFeed::all(feeds, OverTime::default()),
            leased: PerFeed::all(feeds, Watts::ZERO),
            over: PerFeed::all(feeds, Watts::ZERO),
            unmetered: PerFeed::all(feeds, Watts::ZERO),
            leases: BTreeMap::new(),
            tenants: BTreeMap::new(),
        }
    }

    /// What the leases at `feed` and below it reserve at `at`.
    pub(crate) fn reserved(&self, feed: FeedNumber, at: Timestamp) -> Watts {
        self.reserved[feed].at(at)
    }

    /// What the tenants' own meters show to be drawn by leases at `feed` and below it, each meter up
    /// to what its leases reserve now: what a tenant draws beyond that, or after its lease has ended,
    /// is load like any other. A meter without a fresh reading counts as showing nothing.
    pub(crate) fn leased(&self, feed: FeedNumber) -> Watts {
        self.leased[feed]
    }

    /// What tenants at `feed` and below it draw by their own meters beyond what their leases reserve
    /// now.
    pub(crate) fn over(&self, feed: FeedNumber) -> Watts {
        self.over[feed]
    }

    /// What active tenants at `feed` and below it may draw that no fresh meter of their own shows.
    pub(crate) fn unmetered(&self, feed: FeedNumber) -> Watts {
        self.unmetered[feed]
    }

    /// What active leases reserve whose power `lease` takes over when they end, as far as no fresh meter
    /// of their own shows what they draw.
    pub(crate) fn renewed(&self, lease: &LeaseId, trusts: impl Fn(&LeaseId) -> bool) -> Watts {
        let counted = self.leases.get(lease).into_iter().flat_map(|counted| &counted.takes_from);
        let active = counted.filter(|other| trusts(other)).filter_map(|id| self.leases.get(id));
        active.filter(|other| other.unmetered).map(|other| other.gross).sum()
    }

    /// The lease of the same tenant whose power `lease` takes over; of several, the last to end.
    pub(crate) fn renews(&self, lease: &LeaseId) -> Option<&LeaseId> {
        self.leases.get(lease)?.takes_from.first()
    }

    /// Makes `open` the leases that count. A lease that is new is not active yet.
    pub(crate) fn take_leases(&mut self, feeds: &Feeds, open: &[Lease]) {
        let mut before = std::mem::take(&mut self.leases);
        let reservations = reservations(&open.iter().collect::<Vec<_>>());
        for (lease, reservation) in open.iter().zip(reservations) {
            let takes_from = reservation.takes_from().map(|other| open[other].id.clone()).collect();
            let counted = Counted::of(feeds, lease, reservation, takes_from);
            let counted = match before.remove(&lease.id) {
                Some(old) if old.is_same_lease(&counted) => old,
                Some(old) => {
                    let active = old.active;
                    self.remove(feeds, &lease.id, &old);
                    self.add(feeds, &lease.id, Counted { active, ..counted })
                }
                None => self.add(feeds, &lease.id, counted),
            };
            self.leases.insert(lease.id.clone(), counted);
        }
        for (id, old) in &before {
            self.remove(feeds, id, old);
        }
    }

    /// Sets whether the tenant of `lease` may draw its power now.
    pub(crate) fn set_active(&mut self, feeds: &Feeds, lease: &LeaseId, active: bool) {
        let Some(counted) = self.leases.get_mut(lease) else { return };
        counted.active = active;
        count_unmetered(&mut self.unmetered, feeds, counted, &self.tenants);
    }

    /// Applies what the tenants' meters show at `wall`. `reading` returns what a meter shows, if
    /// the reading is fresh.
    pub(crate) fn read(
        &mut self,
        feeds: &Feeds,
        wall: Timestamp,
        reading: impl Fn(&MeterId) -> Option<Watts>,
    ) {
        let mut appeared_or_silent = Vec::new();
        for (meter, tenant) in &mut self.tenants {
            let watts = reading(meter);
            let same_leases = tenant.same_from <= wall && wall < tenant.same_until;
            if same_leases && watts == tenant.reading {
                continue;
            }
            if watts.is_some() != tenant.reading.is_some() {
                appeared_or_silent.extend(tenant.leases.iter().cloned());
            }
            tenant.reading = watts;
            tenant.count(feeds, &self.leases, (&mut self.leased, &mut self.over), wall);
        }
        for lease in appeared_or_silent {
            if let Some(counted) = self.leases.get_mut(&lease) {
                count_unmetered(&mut self.unmetered, feeds, counted, &self.tenants);
            }
        }
        // The draw of a meter that no lease names any more is removed.
        self.tenants.retain(|_, tenant| !tenant.leases.is_empty());
    }

    fn add(&mut self, feeds: &Feeds, id: &LeaseId, mut counted: Counted) -> Counted {
        self.reserve(feeds, &counted, 1);
        if let Some(meter) = &counted.meter {
            let tenant = self.tenants.entry(meter.clone()).or_insert_with(Tenant::new);
            tenant.leases.push(id.clone());
            tenant.count_anew();
        }
        count_unmetered(&mut self.unmetered, feeds, &mut counted, &self.tenants);
        counted
    }

    fn remove(&mut self, feeds: &Feeds, id: &LeaseId, counted: &Counted) {
        self.reserve(feeds, counted, -1);
        if let Some(tenant) = counted.meter.as_ref().and_then(|meter| self.tenants.get_mut(meter)) {
            tenant.leases.retain(|lease| lease != id);
            tenant.count_anew();
        }
        if let Some(feed) = counted.feed.filter(|_| counted.unmetered) {
            feeds.add(&mut self.unmetered, feed, Watts(-counted.gross.0));
        }
    }

    /// Adds what a lease reserves `times` times.
    fn reserve(&mut self, feeds: &Feeds, counted: &Counted, times: i64) {
        let until = counted.reservation.until();
        for &feed in counted.path(feeds) {
            for (from, more) in counted.reservation.rises() {
                self.reserved[feed].add(from, until, Watts(more.0 * times));
            }
        }
    }
}

impl Counted {
    fn of(
        feeds: &Feeds,
        lease: &Lease,
        reservation: Reservation,
        takes_from: Vec<LeaseId>,
    ) -> Self {
        Self {
            feed: feeds.number(&lease.feed),
            gross: lease.gross,
            reservation,
            takes_from,
            meter: lease.meter.clone(),
            active: false,
            unmetered: false,
        }
    }

    /// Whether both are the same lease, active or not.
    fn is_same_lease(&self, other: &Self) -> bool {
        (self.feed, self.gross, &self.meter, &self.takes_from)
            == (other.feed, other.gross, &other.meter, &other.takes_from)
            && self.reservation.is_alike(&other.reservation)
    }

    fn path<'f>(&self, feeds: &'f Feeds) -> &'f [FeedNumber] {
        self.feed.map_or(&[], |feed| feeds.path(feed))
    }
}

/// Adds a lease to the sums of power that no meter shows, or removes it from them.
fn count_unmetered(
    sums: &mut PerFeed<Watts>,
    feeds: &Feeds,
    counted: &mut Counted,
    tenants: &BTreeMap<MeterId, Tenant>,
) {
    let reads = |meter: &MeterId| tenants.get(meter).is_some_and(|t| t.reading.is_some());
    let unmetered = counted.active && !counted.meter.as_ref().is_some_and(reads);
    if unmetered == counted.unmetered {
        return;
    }
    counted.unmetered = unmetered;
    let watts = if unmetered { counted.gross } else { Watts(-counted.gross.0) };
    if let Some(feed) = counted.feed {
        feeds.add(sums, feed, watts);
    }
}

impl Tenant {
    fn new() -> Self {
        let (same_from, same_until) = (Timestamp::MAX, Timestamp::MAX);
        Self { leases: Vec::new(), reading: None, same_from, same_until, leased: Vec::new() }
    }

    /// Makes the next reading count the tenant anew, because its leases have changed.
    fn count_anew(&mut self) {
        (self.same_from, self.same_until) = (Timestamp::MAX, Timestamp::MAX);
    }

    /// Counts the tenant at `wall`, and removes what was counted for it before.
    fn count(
        &mut self,
        feeds: &Feeds,
        leases: &BTreeMap<LeaseId, Counted>,
        (sums, over): (&mut PerFeed<Watts>, &mut PerFeed<Watts>),
        wall: Timestamp,
    ) {
        for (feed, watts, beyond) in self.leased.drain(..) {
            sums[feed] += Watts(-watts.0);
            over[feed] += Watts(-beyond.0);
        }
        (self.same_from, self.same_until) = (Timestamp::MIN, Timestamp::MAX);
        // The sum of the leases at and below a feed that reserve now.
        let mut rented: BTreeMap<FeedNumber, Watts> = BTreeMap::new();
        for counted in self.leases.iter().filter_map(|lease| leases.get(lease)) {
            let rises = counted.reservation.rises().map(|(at, _)| at);
            for edge in rises.chain([counted.reservation.until()]) {
                if edge <= wall {
                    self.same_from = self.same_from.max(edge);
                } else {
                    self.same_until = self.same_until.min(edge);
                }
            }
            for &feed in counted.path(feeds) {
                *rented.entry(feed).or_default() += counted.reservation.at(wall);
            }
        }
        let Some(reading) = self.reading else { return };
        for (feed, rented) in rented {
            // A tenant that draws more than its lease reduces the headroom.
            let watts = reading.min(rented);
            let beyond = reading - watts;
            sums[feed] += watts;
            over[feed] += beyond;
            self.leased.push((feed, watts, beyond));
        }
    }
}

impl OverTime {
    fn at(&self, at: Timestamp) -> Watts {
        self.before(self.0.partition_point(|(from, _)| *from <= at))
    }

    /// The watts before the instant at `place`.
    fn before(&self, place: usize) -> Watts {
        place.checked_sub(1).map_or(Watts::ZERO, |place| self.0[place].1)
    }

    /// Adds `watts`, which may be negative, from `from` until `to`.
    fn add(&mut self, from: Timestamp, to: Timestamp, watts: Watts) {
        if from >= to {
            return;
        }
        let first = self.cut(from);
        let last = self.cut(to);
        for (_, sum) in &mut self.0[first..last] {
            *sum += watts;
        }
        for place in [last, first] {
            if self.0[place].1 == self.before(place) {
                self.0.remove(place);
            }
        }
    }

    /// Makes `at` one of the instants. Returns its index.
    fn cut(&mut self, at: Timestamp) -> usize {
        let place = self.0.partition_point(|(from, _)| *from < at);
        if self.0.get(place).is_none_or(|(from, _)| *from != at) {
            self.0.insert(place, (at, self.before(place)));
        }
        place
    }
}

#[cfg(test)]
mod tests;
