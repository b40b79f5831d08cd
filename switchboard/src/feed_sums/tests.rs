use proptest::prelude::*;

use super::*;
use crate::fixture::{at, lease, policy};

/// What can happen to the leases of a site.
#[derive(Debug, Clone)]
enum Happens {
    Committed { watts: i64, feed: usize, start: i64, lasts: i64, meter: Option<usize> },
    Cancelled { which: prop::sample::Index, at: i64 },
    Closed { which: prop::sample::Index },
    Active { which: prop::sample::Index, active: bool },
    Reads { meter: usize, watts: Option<i64> },
    TimePasses { to: i64 },
}

/// The feeds that leases name. The policy does not have the one called `gone`.
const FEEDS: [&str; 4] = ["root", "a", "b", "gone"];
const METERS: [&str; 2] = ["tenant", "other"];

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let index = any::<prop::sample::Index>;
    let meter = || prop::option::of(0..METERS.len());
    prop_oneof![
        3 => (1..40_000_i64, 0..FEEDS.len(), 60..500_i64, 0..300_i64, meter()).prop_map(
            |(watts, feed, start, lasts, meter)| Committed { watts, feed, start, lasts, meter }
        ),
        1 => (index(), 0..500_i64).prop_map(|(which, at)| Cancelled { which, at }),
        1 => index().prop_map(|which| Closed { which }),
        2 => (index(), any::<bool>()).prop_map(|(which, active)| Active { which, active }),
        2 => (0..METERS.len(), prop::option::of(0..60_000_i64))
            .prop_map(|(meter, watts)| Reads { meter, watts }),
        // Time may also go backward, because clocks are set.
        2 => (0..900_i64).prop_map(|to| TimePasses { to }),
    ]
}

/// The open leases and whether each is active, what the meters show, and the time.
struct Site {
    leases: Vec<(Lease, bool)>,
    readings: [Option<Watts>; METERS.len()],
    now: i64,
}

impl Site {
    fn reading(&self, meter: &MeterId) -> Option<Watts> {
        METERS.iter().position(|name| *name == meter.as_str()).and_then(|n| self.readings[n])
    }

    fn here<'s>(
        &'s self,
        feeds: &'s Feeds,
        feed: FeedNumber,
    ) -> impl Iterator<Item = &'s (Lease, bool)> {
        self.leases.iter().filter(move |(lease, _)| feeds.path_of(&lease.feed).contains(&feed))
    }

    fn reserved(&self, feeds: &Feeds, feed: FeedNumber, when: Timestamp) -> Watts {
        let here: Vec<&Lease> = self.here(feeds, feed).map(|(lease, _)| lease).collect();
        reservations(&here).iter().map(|reservation| reservation.at(when)).sum()
    }

    fn unmetered(&self, feeds: &Feeds, feed: FeedNumber) -> Watts {
        let draws = |(lease, active): &&(Lease, bool)| {
            *active && lease.meter.as_ref().and_then(|meter| self.reading(meter)).is_none()
        };
        self.here(feeds, feed).filter(draws).map(|(lease, _)| lease.gross).sum()
    }

    fn leased(&self, feeds: &Feeds, feed: FeedNumber) -> Watts {
        let of_meter = |name: &&str| {
            let meter = MeterId::from(*name);
            let reading = self.reading(&meter)?;
            let here: Vec<&Lease> = self.here(feeds, feed).map(|(lease, _)| lease).collect();
            let of_meter = here.iter().zip(reservations(&here));
            let of_meter = of_meter.filter(|(lease, _)| lease.meter.as_ref() == Some(&meter));
            Some(reading.min(of_meter.map(|(_, reserved)| reserved.at(at(self.now))).sum()))
        };
        METERS.iter().filter_map(of_meter).sum()
    }
}

fn open(site: &Site) -> Vec<Lease> {
    site.leases.iter().map(|(lease, _)| lease.clone()).collect()
}

/// Makes `what` happen at the site, and tells the sums what they would be told of it.
fn happen(site: &mut Site, sums: &mut FeedSums, feeds: &Feeds, what: Happens) {
    let pick = |which: prop::sample::Index, count: usize| (count > 0).then(|| which.index(count));
    match what {
        Happens::Committed { watts, feed, start, lasts, meter } => {
            let id = format!("l{}", site.leases.len() + 100 * usize::try_from(watts).unwrap());
            if site.leases.iter().any(|(lease, _)| lease.id.as_str() == id) {
                return;
            }
            let mut lease = lease(&id, FEEDS[feed], watts, start, start + lasts);
            lease.meter = meter.map(|meter| METERS[meter].into());
            site.leases.push((lease, false));
        }
        Happens::Cancelled { which, at: when } => {
            let Some(which) = pick(which, site.leases.len()) else { return };
            site.leases[which].0.cancelled_at = Some(at(when));
        }
        Happens::Closed { which } => {
            let Some(which) = pick(which, site.leases.len()) else { return };
            site.leases.remove(which);
        }
        Happens::Active { which, active } => {
            let Some(which) = pick(which, site.leases.len()) else { return };
            site.leases[which].1 = active;
            sums.set_active(feeds, &site.leases[which].0.id, active);
        }
        Happens::Reads { meter, watts } => site.readings[meter] = watts.map(Watts),
        Happens::TimePasses { to } => site.now = to,
    }
    sums.take_leases(feeds, &open(site));
    sums.read(feeds, at(site.now), |meter| site.reading(meter));
}

proptest! {
    /// After any events, the sums are the same as when all leases are added up again.
    #[test]
    fn sums_agree_with_adding_up_all_leases(events in prop::collection::vec(happens(), 1..40)) {
        let policy = policy();
        let feeds = policy.facility.feeds();
        let mut sums = FeedSums::new(feeds);
        let mut site = Site { leases: Vec::new(), readings: [None; METERS.len()], now: 0 };
        for event in events {
            happen(&mut site, &mut sums, feeds, event);
            for feed in feeds.numbers() {
                prop_assert_eq!(sums.unmetered(feed), site.unmetered(feeds, feed));
                prop_assert_eq!(sums.leased(feed), site.leased(feeds, feed));
                for when in (0..900).step_by(37).map(at) {
                    prop_assert_eq!(sums.reserved(feed, when), site.reserved(feeds, feed, when));
                }
            }
        }
        // When all leases are gone, the sums are empty.
        site.leases.clear();
        sums.take_leases(feeds, &[]);
        sums.read(feeds, at(0), |_| None);
        prop_assert_eq!(sums, FeedSums::new(feeds));
    }
}
