//! Admission: decides whether the feeds can carry one more lease in every interval of its time, and
//! shows the arithmetic. It writes nothing and chooses no machines: [`crate::plan`] does that.

use std::collections::BTreeMap;
use std::time::Duration;

use directive::{FeedId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facility::{Group, Population};
use crate::lease::{Lease, earlier};
use crate::policy::Policy;
use crate::words::kilowatts;

/// The arithmetic of one feed over one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub feed: FeedId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Limit × continuous factor − reserve.
    pub usable: Watts,
    /// The house load at the feed and below it, and what its meter shows beyond the figures of the
    /// policy.
    pub house: Watts,
    /// The power of other leases at the feed and below it.
    pub committed: Watts,
    /// The power that the sheddable machines still draw asleep.
    pub residual: Watts,
    /// The full power of machines that cannot be shed for a lease of this class.
    pub unsheddable: Watts,
    /// The power counted for sessions that no group claims.
    pub unassigned: Watts,
    /// The power left; negative if the feed is already short.
    pub available: Watts,
    pub asked: Watts,
}

impl Line {
    /// Watts missing; zero when the lease fits.
    #[must_use]
    pub fn short(&self) -> Watts {
        self.asked.saturating_sub(self.available)
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kw = |watts: Watts| format!("{:.3}", watts.kw());
        write!(
            f,
            "{} from {} to {}: usable {} − house {} − committed {} − residual {} − unsheddable {} − unassigned {} = {}; asked {}",
            self.feed,
            self.from,
            self.to,
            self.usable,
            kw(self.house),
            kw(self.committed),
            kw(self.residual),
            kw(self.unsheddable),
            kw(self.unassigned),
            kw(self.available),
            kw(self.asked),
        )?;
        if self.short() > Watts::ZERO { write!(f, " → short {}", self.short()) } else { Ok(()) }
    }
}

/// The time that is needed before a lease, in parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// The power to shed.
    pub shed: Watts,
    /// The time to shed it no faster than the ramp allows.
    pub ramp: Duration,
    /// The time until the last machine has its command: how long a command of the slowest driver takes,
    /// times its machines, by how many it is given at once. Zero until it is measured.
    pub dispatch: Duration,
    /// The measured shed time of the slowest group.
    pub shed_p95: Duration,
    /// The time until the meter shows the change.
    pub settle: Duration,
    /// How long the meter must then show the headroom.
    pub prove_for: Duration,
    pub margin: Duration,
}

impl Lead {
    /// The sum of all parts.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.ramp, self.dispatch, self.shed_p95, self.settle, self.prove_for, self.margin]
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    /// The lead for shedding `shed` for a lease at `feed` from groups whose slowest needs `shed_p95`
    /// after the last of them had its command, within `dispatch`. If nothing must be shed, only the
    /// proof takes time.
    #[must_use]
    pub fn new(
        policy: &Policy,
        feed: &FeedId,
        shed: Watts,
        dispatch: Duration,
        shed_p95: Duration,
    ) -> Self {
        let sheds = |time| if shed > Watts::ZERO { time } else { Duration::ZERO };
        let (dispatch, shed_p95) = (sheds(dispatch), sheds(shed_p95));
        let terms = &policy.dispatch;
        let (settle, prove_for, margin) = (terms.settle, terms.prove_for, terms.margin);
        Self {
            shed,
            ramp: ramp_time(shed, policy.slowest_down_per_min(feed)),
            dispatch,
            shed_p95,
            settle,
            prove_for,
            margin,
        }
    }
}

impl std::fmt::Display for Lead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secs = |duration: Duration| duration.as_secs_f64();
        write!(
            f,
            "{:.0} s = ramp {:.0} (for {})",
            secs(self.total()),
            secs(self.ramp),
            kilowatts(self.shed),
        )?;
        if self.dispatch > Duration::ZERO {
            write!(f, " + dispatch {:.0}", secs(self.dispatch))?;
        }
        write!(
            f,
            " + shed p95 {:.0} + settle {:.0} + proof {:.0} + margin {:.0}",
            secs(self.shed_p95),
            secs(self.settle),
            secs(self.prove_for),
            secs(self.margin),
        )
    }
}

/// A lease that fits, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    pub lease: Lease,
    /// The tightest interval of every feed on the lease's path.
    pub arithmetic: Vec<Line>,
    /// The longest time that freeing the lease's power may take.
    pub lead: Lead,
    /// The latest time at which shedding must begin.
    pub latest_safe_start: Timestamp,
}

/// A refused lease, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A feed cannot carry the lease, even with all sheddable machines off.
    #[error("does not fit: {}", .worst)]
    DoesNotFit {
        /// The feed and interval that lack most.
        worst: Box<Line>,
        /// The tightest interval of every feed on the path.
        arithmetic: Vec<Line>,
    },
    /// The lease fits only if machines are starved of work, which proves nothing.
    #[error("fits only by starving machines, which proves nothing: it would need accept_unverified; without: {}", .worst)]
    NeedsUnverified {
        /// The feed and interval that lack most without starving.
        worst: Box<Line>,
        /// The tightest interval of every feed on the path, without starving.
        arithmetic: Vec<Line>,
    },
    /// The feed has no meter, so that headroom could never be proven.
    #[error(
        "feed {feed} has no meter, so that its headroom cannot be proven: it would need accept_unverified"
    )]
    NotProvable { feed: FeedId },
    /// Shedding would already have to be in progress.
    #[error("too late by {} s: shedding should have begun at {latest_safe_start}; it needs {lead}", .missing.as_secs())]
    TooLate {
        /// How much time is missing, rounded up to seconds.
        missing: Duration,
        /// When shedding should have begun.
        latest_safe_start: Timestamp,
        /// The parts of the time needed.
        lead: Box<Lead>,
    },
}

/// The shed time of a group for which none was measured. Stock firmware without work powers down
/// within ten minutes, if at all (docs/protocol.md 2.9).
pub const UNMEASURED_SHED: Duration = Duration::from_mins(10);

/// Decides whether `lease` fits beside `leases` (the open ones; one with the same id is left out).
///
/// # Errors
/// [`Refusal`] with the feed, the interval and the watts or seconds missing.
pub fn admit<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease> + Clone,
    lease: Lease,
    now: Timestamp,
) -> Result<Admission, Refusal> {
    let arithmetic = carry(policy, population, leases.clone(), &lease)?;
    let lead = lead(policy, population, leases, &lease);
    let latest_safe_start = earlier(lease.reserved_from(), lead.total());
    if latest_safe_start < now {
        let millis = now.duration_since(latest_safe_start).as_millis().unsigned_abs();
        let missing = Duration::from_secs(u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX));
        let lead = Box::new(lead);
        return Err(Refusal::TooLate { missing, latest_safe_start, lead });
    }
    Ok(Admission { lease, arithmetic, lead, latest_safe_start })
}

/// Which machines count as sheddable, for which leases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// Machines with a driver and a measured shed time, and leases that must be backed by such
    /// machines.
    Firm,
    /// Every machine, and every lease.
    Any,
}

impl Tier {
    fn sheds(self, group: &Group) -> bool {
        self == Self::Any || group.backs_firm()
    }

    fn counts(self, lease: &Lease) -> bool {
        self == Self::Any || !lease.accept_unverified
    }
}

fn carry<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease> + Clone,
    lease: &Lease,
) -> Result<Vec<Line>, Refusal> {
    let any = lines(policy, population, leases.clone(), lease, Tier::Any);
    if lease.accept_unverified {
        return if let Some(worst) = worst(&any) {
            Err(Refusal::DoesNotFit { worst, arithmetic: any })
        } else {
            Ok(any)
        };
    }
    let firm = lines(policy, population, leases, lease, Tier::Firm);
    match (worst(&firm), worst(&any)) {
        (Some(worst), None) => Err(Refusal::NeedsUnverified { worst, arithmetic: firm }),
        (Some(worst), Some(_)) => Err(Refusal::DoesNotFit { worst, arithmetic: firm }),
        (None, Some(worst)) => Err(Refusal::DoesNotFit { worst, arithmetic: any }),
        (None, None) => {
            let feeds = policy.facility.feeds();
            match feeds.number(&lease.feed).map(|feed| &feeds[feed]) {
                Some(feed) if feed.meter.is_none() => {
                    Err(Refusal::NotProvable { feed: feed.id.clone() })
                }
                _ => Ok(firm),
            }
        }
    }
}

fn worst(lines: &[Line]) -> Option<Box<Line>> {
    lines
        .iter()
        .filter(|line| line.short() > Watts::ZERO)
        .max_by_key(|line| line.short())
        .cloned()
        .map(Box::new)
}

/// The tightest interval of each feed from the lease's to the root.
fn lines<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease> + Clone,
    lease: &Lease,
    tier: Tier,
) -> Vec<Line> {
    let facility = &policy.facility;
    let feeds = facility.feeds();
    let house = facility.house_load();
    let unassigned = facility.unassigned_load(population);
    let none = |keep: bool, watts: Watts| if keep { watts } else { Watts::ZERO };
    let residual =
        facility.machines_load(population, |group| none(tier.sheds(group), group.residual));
    let unsheddable =
        facility.machines_load(population, |group| none(!tier.sheds(group), group.watts));
    let path = feeds.path_of(&lease.feed).iter();
    path.map(|&node| {
        let usable = feeds[node].usable();
        // What the meter does not show, sessions that no group claims do not draw.
        let correction = population.corrections.get(node).copied().unwrap_or_default();
        let house = house[node] + correction.max(Watts::ZERO);
        let unassigned = (unassigned[node] + correction.min(Watts::ZERO)).max(Watts::ZERO);
        let fixed = house + residual[node] + unsheddable[node] + unassigned;
        let others = leases.clone().into_iter().filter(|other| {
            other.id != lease.id && tier.counts(other) && feeds.carries(node, &other.feed)
        });
        let (committed, from, to) = peak(others, lease.reserved_from(), lease.ends());
        Line {
            feed: feeds[node].id.clone(),
            from,
            to,
            usable,
            house,
            committed,
            residual: residual[node],
            unsheddable: unsheddable[node],
            unassigned,
            available: usable - fixed - committed,
            asked: lease.gross,
        }
    })
    .collect()
}

/// The highest power that `leases` reserve at one time within `[from, to)`, and the first interval
/// in which they reserve it.
fn peak<'l>(
    leases: impl Iterator<Item = &'l Lease>,
    from: Timestamp,
    to: Timestamp,
) -> (Watts, Timestamp, Timestamp) {
    let mut edges: Vec<(Timestamp, Watts)> = Vec::new();
    for lease in leases {
        let (begin, end) = (lease.reserved_from().max(from), lease.ends().min(to));
        if begin < end {
            edges.push((begin, lease.gross));
            edges.push((end, Watts(-lease.gross.0)));
        }
    }
    edges.sort_unstable_by_key(|(at, _)| *at);
    let mut most = (Watts::ZERO, from, edges.first().map_or(to, |(at, _)| *at));
    if most.1 == most.2 {
        // If power is reserved from the first instant on, there is no interval before it.
        most.0 = Watts(i64::MIN);
    }
    let mut sum = Watts::ZERO;
    let mut i = 0;
    while i < edges.len() {
        let at = edges[i].0;
        while i < edges.len() && edges[i].0 == at {
            sum += edges[i].1;
            i += 1;
        }
        let until = edges.get(i).map_or(to, |(next, _)| *next);
        if at < until && sum > most.0 {
            most = (sum, at, until);
        }
    }
    most
}

/// An upper bound of the time that freeing the lease's power takes; the plan may find that less
/// must be shed.
fn lead<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease> + Clone,
    lease: &Lease,
) -> Lead {
    let facility = &policy.facility;
    let feeds = facility.feeds();
    let full = facility.machines_load(population, |group| group.watts);
    let mut shed = Watts::ZERO;
    let mut widest = None;
    for (line, &node) in
        lines(policy, population, leases, lease, Tier::Any).iter().zip(feeds.path_of(&lease.feed))
    {
        let mining = line.usable - line.house - line.unassigned - line.committed - full[node];
        let short = (line.asked - mining).min(line.asked);
        if short > Watts::ZERO {
            shed = shed.max(short);
            widest = Some(node);
        }
    }
    let Some(widest) = widest else {
        return Lead::new(policy, &lease.feed, Watts::ZERO, Duration::ZERO, Duration::ZERO);
    };
    let candidates = facility.groups().iter().enumerate();
    let candidates = candidates
        .filter(|(number, _)| feeds.is_below(facility.group_feed(*number), widest))
        .map(|(_, group)| group);
    let candidates: Vec<&Group> =
        candidates.filter(|group| lease.accept_unverified || group.backs_firm()).collect();
    let shed_p95 = candidates.iter().map(|group| shed_time(group)).max();
    let with_make_up = shed.scale(1.0 + policy.dispatch.make_up_pct / 100.0);
    let dispatch = most_dispatch(population, &candidates, with_make_up);
    Lead::new(policy, &lease.feed, with_make_up, dispatch, shed_p95.unwrap_or_default())
}

/// The longest time until the last machine has its command, whatever machines of `groups` free `shed`.
fn most_dispatch(population: &Population, groups: &[&Group], shed: Watts) -> Duration {
    let mut machines: BTreeMap<&str, (u32, Watts)> = BTreeMap::new();
    for group in groups.iter().filter(|group| group.freed() > Watts::ZERO) {
        let Some(driver) = &group.driver else { continue };
        let (count, least) = machines.entry(driver).or_insert((0, group.freed()));
        *count = count.saturating_add(population.machines(group));
        *least = group.freed().min(*least);
    }
    let needed = |count: u32, least: Watts| {
        let most = u64::try_from(shed.0).unwrap_or(0).div_ceil(least.0.unsigned_abs().max(1));
        u32::try_from(most).unwrap_or(u32::MAX).min(count)
    };
    let machines = machines.into_iter();
    population.dispatch(machines.map(|(driver, (count, least))| (driver, needed(count, least))))
}

/// How long a machine of the group takes to be shed.
pub(crate) fn shed_time(group: &Group) -> Duration {
    if group.backs_firm() { group.shed_p95.unwrap_or(UNMEASURED_SHED) } else { UNMEASURED_SHED }
}

/// How long `watts` take at `per_min`. Without a ramp they take no time.
pub(crate) fn ramp_time(watts: Watts, per_min: Watts) -> Duration {
    if per_min <= Watts::ZERO || watts <= Watts::ZERO {
        return Duration::ZERO;
    }
    let millis = i128::from(watts.0) * 60_000 / i128::from(per_min.0);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, lease, policy, policy_with};

    fn ask(others: &[Lease], lease: Lease) -> Result<Admission, Refusal> {
        admit(&policy(), &Population::default(), others, lease, at(0))
    }

    // Feed a: usable 50,000 − house 1,000 − residual 14 × 30 = 48,580.
    // Root: usable 100,000 − house 5,000 − residual 22 × 30 − unsheddable 5 × 3,000 = 79,340.
    #[test]
    fn what_fits_to_the_watt_is_taken_and_one_more_is_refused() {
        assert!(ask(&[], lease("l", "a", 48_580, 9000, 9999)).is_ok());
        let Err(Refusal::DoesNotFit { worst, arithmetic }) =
            ask(&[], lease("l", "a", 48_581, 9000, 9999))
        else {
            panic!("one watt too many was taken")
        };
        assert_eq!(
            (worst.feed.as_str(), worst.short(), worst.available),
            ("a", Watts(1), Watts(48_580))
        );
        assert_eq!(arithmetic.len(), 2, "one line per feed on the path");
    }

    #[test]
    fn a_refusal_says_its_arithmetic() {
        let refusal = ask(&[], lease("l", "a", 60_000, 9000, 9999)).unwrap_err().to_string();
        let want = "usable 50.000 kW − house 1.000 − committed 0.000 − residual 0.420 − unsheddable 0.000 − unassigned 0.000 \
                    = 48.580; asked 60.000 → short 11.420 kW";
        assert!(refusal.contains(want), "{refusal}");
    }

    #[test]
    fn the_feed_above_may_be_the_short_one() {
        let others = [lease("x", "a", 45_000, 9000, 20_000)];
        let Err(refusal) = ask(&others, lease("y", "b", 34_500, 8000, 30_000)) else {
            panic!("must be refused")
        };
        let Refusal::NeedsUnverified { worst, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!((worst.feed.as_str(), worst.short()), ("root", Watts(160)));
        assert_eq!((worst.from, worst.to), (at(8940), at(20_000)), "only while both run");
    }

    #[test]
    fn leases_that_follow_each_other_do_not_add_up() {
        let others = [lease("x", "a", 45_000, 1000, 5000)];
        assert!(ask(&others, lease("y", "a", 45_000, 5060, 9000)).is_ok());
        let Err(Refusal::DoesNotFit { worst, .. }) =
            ask(&others, lease("y", "a", 45_000, 5059, 9000))
        else {
            panic!("one second of overlap was taken")
        };
        assert_eq!((worst.from, worst.to, worst.short()), (at(4999), at(5000), Watts(41_420)));
    }

    #[test]
    fn starving_backs_only_those_who_accept_it() {
        // Feed b with its five starved machines off: 50,000 − 13 × 30 = 49,610; firm only: 50,000 −
        // 240 − 15,000 = 34,760.
        let mut asked = lease("l", "b", 40_000, 90_000, 99_999);
        let Err(Refusal::NeedsUnverified { worst, .. }) = ask(&[], asked.clone()) else {
            panic!("must need it")
        };
        assert_eq!(worst.available, Watts(34_760));
        asked.accept_unverified = true;
        assert!(ask(&[], asked.clone()).is_ok());
        asked.gross = Watts(49_611);
        assert!(matches!(ask(&[], asked), Err(Refusal::DoesNotFit { .. })));
    }

    #[test]
    fn a_start_that_shedding_cannot_reach_is_refused_with_the_seconds() {
        // On a, all 14 machines mine with 42 kW of 50 kW. With 1 kW for the house, 7 kW are free,
        // so a lease of 30 kW needs 23 kW to be shed: 46 s at 30 kW/min + 20 + 10 + 5 + 30 = 111 s
        // before start − 60 s.
        let Err(Refusal::TooLate { missing, lead, .. }) =
            ask(&[], lease("l", "a", 30_000, 170, 999))
        else {
            panic!("must be late")
        };
        assert_eq!((missing, lead.total()), (Duration::from_secs(1), Duration::from_secs(111)));
        assert!(ask(&[], lease("l", "a", 30_000, 171, 999)).is_ok());
    }

    #[test]
    fn free_power_needs_time_for_proof_only() {
        let admission = ask(&[], lease("l", "a", 7_000, 105, 999)).unwrap();
        assert_eq!(
            admission.lead.total(),
            Duration::from_secs(45),
            "settle 10 + proof 5 + margin 30"
        );
        assert!(ask(&[], lease("l", "a", 7_000, 104, 999)).is_err());
    }

    #[test]
    fn a_firm_lease_needs_a_meter() {
        let policy = policy_with(|parts| parts.feeds[1].meter = None);
        let refused =
            admit(&policy, &Population::default(), &[], lease("l", "a", 1000, 9000, 9999), at(0));
        assert!(matches!(refused, Err(Refusal::NotProvable { .. })));
    }

    #[test]
    fn undeclared_sessions_are_counted() {
        let crowd = Population { unassigned: 20, ..Population::default() };
        let refused = admit(&policy(), &crowd, &[], lease("l", "a", 10_000, 9000, 9999), at(0));
        let Err(Refusal::NeedsUnverified { worst, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(worst.unassigned, Watts(70_000));
    }
}
