//! What exists at a site: the feeds as one tree, the groups of machines below them, and the meters.
//! The loader makes it once from the policy file, with every name resolved and every figure checked.
//! What is wanted of the facility is left to [`crate::policy`].

mod feed;
mod feeds;
mod group;
mod limit;
mod meter;
mod population;

use std::collections::{BTreeMap, HashMap};

use directive::{FeedId, GroupId, MachineId, MeterId, Watts};
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use feed::Feed;
pub use feeds::{FeedNumber, Feeds, PerFeed};
pub use group::Group;
pub use limit::{Limit, LimitChange};
pub use meter::MeterSpec;
pub use population::{CommandTime, Population};

/// The facility of a site. It never changes: an edited policy file makes a new one.
///
/// A feed is identified by its [`FeedNumber`], a group by its index in [`Facility::groups`], called its
/// number.
#[derive(Debug, Clone, PartialEq)]
pub struct Facility {
    site: String,
    timezone: TimeZone,
    feeds: Feeds,
    groups: Vec<Group>,
    group_numbers: HashMap<GroupId, usize>,
    /// The feed of each group.
    group_feeds: Vec<FeedNumber>,
    meters: BTreeMap<MeterId, MeterSpec>,
    unassigned: Watts,
    unassigned_feed: FeedNumber,
    /// The house load at each feed and below it.
    house: PerFeed<Watts>,
    /// The power below its usable limit that plans leave free at each feed.
    bands: PerFeed<Watts>,
    /// The full power of the largest machine at each feed and below it.
    largest: PerFeed<Watts>,
    /// The feeds whose limits change at some time.
    dated: Vec<FeedNumber>,
}

/// What a facility is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct FacilityParts {
    /// The site's name.
    pub site: String,
    /// The site's time zone, for people; everything inside is UTC.
    pub timezone: TimeZone,
    /// The feeds, parents before children.
    pub feeds: Vec<Feed>,
    /// The groups, in the order of the file.
    pub groups: Vec<Group>,
    pub meters: BTreeMap<MeterId, MeterSpec>,
    /// Watts to count for a session that no group claims.
    pub unassigned: Watts,
    /// The feed that such sessions are counted at.
    pub unassigned_feed: FeedId,
}

impl Facility {
    /// Builds the facility. `None` if a name leads nowhere, two feeds have one name, or a feed comes
    /// before its parent.
    #[must_use]
    pub fn new(parts: FacilityParts) -> Option<Self> {
        let FacilityParts { site, timezone, feeds, groups, meters, unassigned, unassigned_feed } =
            parts;
        let feeds = Feeds::new(feeds)?;
        let group_feeds: Option<Vec<FeedNumber>> =
            groups.iter().map(|group| feeds.number(&group.feed)).collect();
        let mut house = PerFeed::all(&feeds, Watts::ZERO);
        for feed in feeds.numbers() {
            feeds.add(&mut house, feed, feeds[feed].house);
        }
        let group_feeds = group_feeds?;
        let largest = largest(&feeds, &groups, &group_feeds);
        let bands = bands(&feeds, &largest);
        let dated = feeds.numbers().filter(|feed| feeds[*feed].limit.is_dated()).collect();
        Some(Self {
            dated,
            bands,
            largest,
            site,
            timezone,
            group_numbers: (0..groups.len()).map(|at| (groups[at].id.clone(), at)).collect(),
            group_feeds,
            groups,
            meters,
            unassigned,
            unassigned_feed: feeds.number(&unassigned_feed)?,
            house,
            feeds,
        })
    }

    /// The site's name.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The site's time zone, for people; everything inside is UTC.
    #[must_use]
    pub fn timezone(&self) -> &TimeZone {
        &self.timezone
    }

    /// The name of the site's time zone.
    #[must_use]
    pub fn timezone_name(&self) -> &str {
        self.timezone.iana_name().unwrap_or("UTC")
    }

    #[must_use]
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// The groups in the order of the file.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The feed that the machines of the group `number` hang on.
    #[must_use]
    pub fn group_feed(&self, number: usize) -> FeedNumber {
        self.group_feeds[number]
    }

    /// The number of the group of that name.
    #[must_use]
    pub fn group_number(&self, name: &GroupId) -> Option<usize> {
        self.group_numbers.get(name).copied()
    }

    /// The group of that name.
    #[must_use]
    pub fn group(&self, name: &GroupId) -> Option<&Group> {
        self.group_number(name).map(|number| &self.groups[number])
    }

    /// The number of the first group that claims `machine`. This matches globs, so callers should
    /// keep the answer.
    #[must_use]
    pub fn claimed_by(&self, machine: &MachineId) -> Option<usize> {
        self.groups.iter().position(|group| group.claims(machine))
    }

    #[must_use]
    pub fn meters(&self) -> &BTreeMap<MeterId, MeterSpec> {
        &self.meters
    }

    /// Watts counted for a session that no group claims.
    #[must_use]
    pub fn unassigned(&self) -> Watts {
        self.unassigned
    }

    /// The feed at which sessions are counted that no group claims.
    #[must_use]
    pub fn unassigned_feed(&self) -> FeedNumber {
        self.unassigned_feed
    }

    /// The feeds whose limits change at some time, parents before children. Most facilities have none.
    #[must_use]
    pub fn dated(&self) -> &[FeedNumber] {
        &self.dated
    }

    /// When the limit of a feed changes next, after `at`.
    #[must_use]
    pub fn next_limit_change(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.dated.iter().filter_map(|feed| self.feeds[*feed].limit.after(at).next());
        next.map(|change| change.at).min()
    }

    /// The house load at each feed and below it.
    #[must_use]
    pub fn house_load(&self) -> &PerFeed<Watts> {
        &self.house
    }

    /// The power below the usable limit of `feed` that plans leave free. By default one hundredth of
    /// the usable power or the largest machine below the feed, whichever is more; nothing at a feed
    /// without a meter, because no measurement can exceed its limit.
    #[must_use]
    pub fn band(&self, feed: FeedNumber) -> Watts {
        self.bands[feed]
    }

    /// The full power of the largest machine at `feed` and below it; zero if there is none.
    #[must_use]
    pub fn largest(&self, feed: FeedNumber) -> Watts {
        self.largest[feed]
    }

    /// The load at each feed of the sessions that no group claims.
    #[must_use]
    pub fn unassigned_load(&self, population: &Population) -> PerFeed<Watts> {
        let mut sums = PerFeed::all(&self.feeds, Watts::ZERO);
        let watts = times(self.unassigned, population.unassigned);
        self.feeds.add(&mut sums, self.unassigned_feed, watts);
        sums
    }

    /// The load at each feed with every machine hashing and without leases: house, sessions that no
    /// group claims, and all machines, corrected by what the meters show.
    #[must_use]
    pub fn fixed_load(&self, population: &Population) -> PerFeed<Watts> {
        let figures = self.load_by_figures(population);
        PerFeed::each(&self.feeds, |feed| {
            let correction = population.corrections.get(feed).copied().unwrap_or_default();
            (figures[feed] + correction).max(Watts::ZERO)
        })
    }

    /// The same by the figures of the policy alone.
    #[must_use]
    pub fn load_by_figures(&self, population: &Population) -> PerFeed<Watts> {
        let unassigned = self.unassigned_load(population);
        let full = self.machines_load(population, |group| group.watts);
        // Sessions alone must put no machine to sleep: what nobody has measured does not count here.
        let waiting = self.waiting_load(population, Group::idle_at_least);
        PerFeed::each(&self.feeds, |feed| {
            self.house[feed] + unassigned[feed] + full[feed] + waiting[feed]
        })
    }

    /// Whether what machines of the group `number` draw while they wait for room counts as load.
    #[must_use]
    pub fn counts_waiting(&self, number: usize) -> bool {
        let group = self.groups.get(number).zip(self.group_feeds.get(number));
        group.is_some_and(|(group, feed)| {
            group.idle_at_least() > Watts::ZERO && self.feeds[*feed].meter.is_none()
        })
    }

    /// What machines that wait for room draw by `of`, as far as no meter shows it: at the feed of their
    /// group and at those above it, below the first that has a meter. What that meter shows corrects the
    /// feeds from there on.
    #[must_use]
    pub fn waiting_load(
        &self,
        population: &Population,
        of: impl Fn(&Group) -> Watts,
    ) -> PerFeed<Watts> {
        let mut sums = PerFeed::all(&self.feeds, Watts::ZERO);
        for (group, feed) in self.groups.iter().zip(&self.group_feeds) {
            let watts = times(of(group), population.waiting_beyond(group));
            let path = self.feeds.path(*feed).iter();
            for &feed in path.take_while(|feed| self.feeds[**feed].meter.is_none()) {
                sums[feed] += watts;
            }
        }
        sums
    }

    /// Sums `of(group)` over the machines that must be counted in the groups at each feed and below
    /// it.
    #[must_use]
    pub fn machines_load(
        &self,
        population: &Population,
        of: impl Fn(&Group) -> Watts,
    ) -> PerFeed<Watts> {
        let mut sums = PerFeed::all(&self.feeds, Watts::ZERO);
        for (group, feed) in self.groups.iter().zip(&self.group_feeds) {
            self.feeds.add(&mut sums, *feed, times(of(group), population.machines(group)));
        }
        sums
    }
}

fn largest(feeds: &Feeds, groups: &[Group], group_feeds: &[FeedNumber]) -> PerFeed<Watts> {
    let mut largest = PerFeed::all(feeds, Watts::ZERO);
    for (group, &feed) in groups.iter().zip(group_feeds) {
        for &above in feeds.path(feed) {
            largest[above] = largest[above].max(group.watts);
        }
    }
    largest
}

fn bands(feeds: &Feeds, largest: &PerFeed<Watts>) -> PerFeed<Watts> {
    PerFeed::each(feeds, |feed| match (feeds[feed].guard_band, &feeds[feed].meter) {
        (Some(band), _) => band,
        (None, Some(_)) => feeds[feed].most_usable().scale(BAND).max(largest[feed]),
        (None, None) => Watts::ZERO,
    })
}

/// The default band, as a part of the usable power.
const BAND: f64 = 0.01;

/// `count` × `watts`, saturating.
pub(crate) fn times(watts: Watts, count: u32) -> Watts {
    Watts(watts.0.saturating_mul(i64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_is_drawn_below_counts_above() {
        let facility = fixture::policy().facility;
        let [root, a, b] =
            ["root", "a", "b"].map(|name| facility.feeds().number(&name.into()).unwrap());
        let house = facility.house_load();
        assert_eq!((house[root], house[a], house[b]), (Watts(5000), Watts(1000), Watts(0)));
        let mut seen = Population { unassigned: 2, ..Population::default() };
        seen.groups.insert("old".into(), 12);
        let full = facility.machines_load(&seen, |group| group.watts);
        assert_eq!(
            (full[a], full[b], full[root]),
            (Watts(16 * 3000), Watts(13 * 3000), Watts(29 * 3000))
        );
        let unassigned = facility.unassigned_load(&seen);
        assert_eq!((unassigned[root], unassigned[a]), (Watts(7000), Watts::ZERO));
    }

    #[test]
    fn what_machines_draw_that_wait_counts_up_to_the_first_meter() {
        let facility = fixture::policy_with(|parts| {
            parts.feeds[1].meter = None;
            parts.groups[1].poolless = Some(Watts(1800));
        })
        .facility;
        let [root, a, b] =
            ["root", "a", "b"].map(|name| facility.feeds().number(&name.into()).unwrap());
        let mut seen = Population::default();
        // Eight of the ten that are declared have work. Two of those that wait are counted already.
        seen.groups.extend([("old".into(), 8), ("new".into(), 4)]);
        seen.newcomers.extend([("old".into(), 5), ("new".into(), 6), ("far".into(), 20)]);
        let known = facility.waiting_load(&seen, Group::idle_at_least);
        assert_eq!((known[a], known[b], known[root]), (Watts(3 * 1800), Watts::ZERO, Watts::ZERO));
        // Nobody has measured the six of `new`.
        let most = facility.waiting_load(&seen, Group::idle_at_most);
        assert_eq!((most[a], most[root]), (Watts(3 * 1800 + 6 * 3000), Watts::ZERO));
        let none = Population { newcomers: [].into(), ..seen.clone() };
        let load = |seen: &Population| facility.fixed_load(seen);
        assert_eq!(load(&seen)[a], load(&none)[a] + Watts(3 * 1800));
        assert_eq!(load(&seen)[root], load(&none)[root]);
    }

    #[test]
    fn starving_frees_what_a_machine_does_not_draw_without_work() {
        let facility = fixture::policy_with(|parts| {
            parts.groups.iter_mut().for_each(|group| group.poolless = Some(Watts(1800)));
        })
        .facility;
        let freed = |name: &str| facility.group(&name.into()).unwrap().freed();
        assert_eq!((freed("old"), freed("dumb")), (Watts(2970), Watts(1200)));
        let unmeasured = fixture::policy().facility;
        assert_eq!(unmeasured.group(&"dumb".into()).unwrap().freed(), Watts(2970));
    }

    #[test]
    fn the_default_band_is_one_percent_or_the_largest_machine_where_there_is_a_meter() {
        let band = |feed: &str, change: fn(&mut FacilityParts)| {
            let mut parts = fixture::parts();
            parts.feeds.iter_mut().for_each(|feed| feed.guard_band = None);
            change(&mut parts);
            let facility = Facility::new(parts).unwrap();
            facility.band(facility.feeds().number(&feed.into()).unwrap())
        };
        assert_eq!(band("a", |_| ()), Watts(3000));
        assert_eq!(
            band("root", |parts| parts.feeds[0].limit = Watts(1_000_000).into()),
            Watts(10_000)
        );
        assert_eq!(band("a", |parts| parts.feeds[1].meter = None), Watts::ZERO);
        assert_eq!(band("a", |parts| parts.feeds[1].guard_band = Some(Watts(5))), Watts(5));
    }

    #[test]
    fn a_name_that_leads_nowhere_makes_no_facility() {
        let parts = fixture::parts();
        let feedless = FacilityParts { unassigned_feed: "nowhere".into(), ..parts.clone() };
        assert!(Facility::new(feedless).is_none());
        let mut lost = parts;
        lost.groups[0].feed = "nowhere".into();
        assert!(Facility::new(lost).is_none());
    }
}
