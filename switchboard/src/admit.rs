//! Admission: decides whether the feeds can carry one more lease in every interval of its time, and
//! shows the arithmetic. It writes nothing and chooses no machines: [`crate::plan`] does that.

use std::collections::BTreeMap;
use std::time::Duration;

use directive::{FeedId, LeaseId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facility::{Feed, FeedNumber, Group, PerFeed, Population};
use crate::lease::{Follows, Lease, earlier, later};
use crate::policy::Policy;
use crate::reservation::{Reservation, reservations};
use crate::words::kilowatts;

/// The arithmetic of one feed over one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub feed: FeedId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Limit × continuous factor − reserve, with the limit of that time.
    pub usable: Watts,
    /// The least that is usable within the lease's time, if that is less: in the tightest interval the
    /// limit need not be the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_usable: Option<Watts>,
    /// The house load at the feed and below it, and what its meter shows beyond the figures of the
    /// policy.
    pub house: Watts,
    /// The power of other leases at the feed and below it.
    pub committed: Watts,
    /// The power that the sheddable machines still draw asleep, or without work if they are starved.
    pub residual: Watts,
    /// The full power of machines that cannot be shed for a lease of this class, and the most that
    /// machines draw which wait for room, where no meter shows it.
    pub unsheddable: Watts,
    /// The power counted for sessions that no group claims.
    pub unassigned: Watts,
    /// The power left; negative if the feed is already short.
    pub available: Watts,
    pub asked: Watts,
}

impl Line {
    /// Watts missing; zero when the lease fits, or asks for nothing here.
    #[must_use]
    pub fn short(&self) -> Watts {
        if self.asked == Watts::ZERO {
            return Watts::ZERO;
        }
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
    /// The lease of the same tenant whose power it takes over; of several, the last to end.
    pub renews: Option<LeaseId>,
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
/// [`Refusal`] with the feed, the interval and the watts or seconds missing. Each interval is held against
/// the limits of its own time.
pub fn admit<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease> + Clone,
    lease: Lease,
    now: Timestamp,
) -> Result<Admission, Refusal> {
    let (lease, arithmetic) = fit(policy, population, leases.clone(), lease)?;
    let mut all: Vec<&Lease> = beside(leases, &lease);
    all.push(&lease);
    let mut reserved = reservations(&all);
    let own = reserved.pop().unwrap_or_default();
    // If it takes over what another lease was to have, that one needs power of its own, as early as it
    // is made ready.
    let others = reservations(&all[..all.len() - 1]);
    let deprived = others.iter().zip(&reserved).filter(|(before, after)| !before.is_alike(after));
    let deprived = deprived.filter_map(|(_, after)| after.needs_from()).min();
    // Nothing is shed anew for what it takes over from a lease of the same tenant.
    let most = if deprived.is_some() { lease.gross } else { own.first() };
    let lead = lead(policy, population, &all, most);
    let own_from = own.needs_from().unwrap_or_else(|| lease.reserved_from());
    let needs_from = deprived.map_or(own_from, |from| from.min(own_from));
    let latest_safe_start = in_time(lead, needs_from, now)?;
    let renews = own.takes_from().next().map(|other| all[other].id.clone());
    Ok(Admission { lease, arithmetic, lead, latest_safe_start, renews })
}

/// Decides whether `lease`, which is one of `leases`, may end at `end`, later than it does.
///
/// # Errors
/// [`Refusal`], as for a new lease in the time that is added.
pub fn extend<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease>,
    lease: &Lease,
    end: Timestamp,
    now: Timestamp,
) -> Result<Vec<Line>, Refusal> {
    let longer = Lease { end, ..lease.clone() };
    let mut before: Vec<&Lease> = beside(leases, &longer);
    let mut after = before.clone();
    before.push(lease);
    after.push(&longer);
    // Another lease may no longer take over its power, and need its own before the old end.
    let (both, window) = ((&before[..], &after[..]), (lease.reserved_from().max(now), end));
    let arithmetic = carry_change(policy, population, both, &longer, window)?;
    for window in soon(policy, population, &after, &longer, window, now) {
        shed_in_time(policy, population, both, (lease, &longer), window, now)?;
    }
    Ok(arithmetic)
}

/// The parts of `window` in which reservations and limits stay the same and that begin so soon that shedding for
/// them could be late.
fn soon(
    policy: &Policy,
    population: &Population,
    leases: &[&Lease],
    longer: &Lease,
    (from, to): (Timestamp, Timestamp),
    now: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let path = policy.facility.feeds().path_of(&longer.feed).iter();
    let leads = path.map(|feed| lead_to_shed(policy, population, longer, *feed, longer.gross));
    let until = later(now, leads.map(|lead| lead.total()).max().unwrap_or_default());
    let feeds = policy.facility.feeds();
    let limits = feeds.path_of(&longer.feed).iter().flat_map(|feed| feeds[*feed].limit.changes());
    let changes = leases.iter().flat_map(|lease| [lease.reserved_from(), lease.ends()]);
    let changes = changes.chain(limits.map(|change| change.at));
    let mut edges: Vec<Timestamp> =
        changes.filter(|at| from < *at && *at < to).chain([from]).collect();
    edges.sort_unstable();
    edges.dedup();
    let ends = edges.iter().skip(1).copied().chain([to]);
    edges.iter().copied().zip(ends).filter(|(begins, _)| *begins <= until).collect()
}

/// Checks that what `longer` needs more than `lease` did can be shed in time in `window`.
fn shed_in_time(
    policy: &Policy,
    population: &Population,
    both: (&[&Lease], &[&Lease]),
    (lease, longer): (&Lease, &Lease),
    window: (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<(), Refusal> {
    let before = both.0;
    // Where others begin when the lease was to end, they were to have its power.
    let any = lines(policy, population, both, (longer, window), Tier::Any);
    let feeds = policy.facility.feeds();
    let full = full_load(policy, population);
    let reserved = reservations(before);
    let last = earlier(lease.ends().min(window.0), Duration::from_nanos(1));
    for (line, &node) in any.iter().zip(feeds.path_of(&lease.feed)) {
        let here =
            before.iter().zip(&reserved).filter(|(other, _)| feeds.carries(node, &other.feed));
        let so_far: Watts = here.map(|(_, reserved)| reserved.at(last)).sum();
        let free = line.usable - line.house - line.unassigned - full[node];
        let more = line.committed + line.asked - so_far.max(free);
        let shed = more.min(line.asked);
        if line.asked > Watts::ZERO && shed > Watts::ZERO {
            let lead = lead_to_shed(policy, population, longer, node, shed);
            in_time(lead, line.from, now)?;
        }
    }
    Ok(())
}

/// When shedding must begin at the latest, if that is not past.
fn in_time(lead: Lead, needed_from: Timestamp, now: Timestamp) -> Result<Timestamp, Refusal> {
    let latest_safe_start = earlier(needed_from, lead.total());
    if latest_safe_start >= now {
        return Ok(latest_safe_start);
    }
    let millis = now.duration_since(latest_safe_start).as_millis().unsigned_abs();
    let missing = Duration::from_secs(u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX));
    Err(Refusal::TooLate { missing, latest_safe_start, lead: Box::new(lead) })
}

/// Decides when `lease` is made ready, so that the feeds can carry it: `ready_before` its start, or if
/// they lack power for that, when another lease at the same feed ends.
fn fit<'l>(
    policy: &Policy,
    population: &Population,
    leases: impl IntoIterator<Item = &'l Lease> + Clone,
    mut lease: Lease,
) -> Result<(Lease, Vec<Line>), Refusal> {
    let refusal = match carry(policy, population, leases.clone(), &lease) {
        Ok(arithmetic) => return Ok((lease, arithmetic)),
        Err(refusal @ (Refusal::DoesNotFit { .. } | Refusal::NeedsUnverified { .. })) => refusal,
        Err(refusal) => return Err(refusal),
    };
    let ends_meanwhile = |other: &&Lease| {
        other.id != lease.id
            && other.feed == lease.feed
            && other.reserved_from() < other.ends()
            && lease.reserved_from() < other.ends()
            && other.ends() <= lease.start
    };
    let before = leases.clone().into_iter().filter(ends_meanwhile);
    let mut ends: Vec<(Timestamp, &LeaseId)> =
        before.map(|other| (other.ends(), &other.id)).collect();
    ends.sort_unstable();
    ends.dedup_by_key(|(end, _)| *end);
    // The later it is made ready, the fewer leases run beside it.
    let follows = |(ready_from, other): (Timestamp, &LeaseId)| {
        Some(Follows { lease: other.clone(), ready_from })
    };
    let mut carries = |end: (Timestamp, &LeaseId)| {
        lease.follows = follows(end);
        carry(policy, population, leases.clone(), &lease)
    };
    let (mut low, mut high) = (0, ends.len());
    let mut found = None;
    while low < high {
        let middle = usize::midpoint(low, high);
        match carries(ends[middle]) {
            Ok(arithmetic) => (high, found) = (middle, Some((middle, arithmetic))),
            Err(_) => low = middle + 1,
        }
    }
    let Some((place, arithmetic)) = found else { return Err(refusal) };
    lease.follows = follows(ends[place]);
    Ok((lease, arithmetic))
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
    let window = (lease.reserved_from(), lease.ends());
    let before: Vec<&Lease> = beside(leases, lease);
    let after: Vec<&Lease> = before.iter().copied().chain([lease]).collect();
    carry_change(policy, population, (&before, &after), lease, window)
}

/// The others of `leases` that reserve power while `lease` does. What they reserve in that time does not
/// depend on those that do not.
fn beside<'l>(leases: impl IntoIterator<Item = &'l Lease>, lease: &Lease) -> Vec<&'l Lease> {
    let (from, to) = (lease.reserved_from(), lease.ends());
    let is_beside =
        |other: &&Lease| other.id != lease.id && other.reserved_from() < to && from < other.ends();
    leases.into_iter().filter(is_beside).collect()
}

/// Decides whether the feeds carry what `lease` adds within `window`. It is one of the leases `after`
/// the change.
fn carry_change(
    policy: &Policy,
    population: &Population,
    (before, after): (&[&Lease], &[&Lease]),
    lease: &Lease,
    window: (Timestamp, Timestamp),
) -> Result<Vec<Line>, Refusal> {
    let lines = |tier| lines(policy, population, (before, after), (lease, window), tier);
    let any = lines(Tier::Any);
    if lease.accept_unverified {
        return if let Some(worst) = worst(&any) {
            Err(Refusal::DoesNotFit { worst, arithmetic: any })
        } else {
            Ok(any)
        };
    }
    let firm = lines(Tier::Firm);
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

/// The tightest interval within `window` of each feed from the lease's to the root, of those in which
/// it asks for power.
fn lines(
    policy: &Policy,
    population: &Population,
    (before, after): (&[&Lease], &[&Lease]),
    (lease, window): (&Lease, (Timestamp, Timestamp)),
    tier: Tier,
) -> Vec<Line> {
    let counted = |leases: &[&Lease]| -> Vec<(FeedId, Reservation)> {
        let leases: Vec<&Lease> =
            leases.iter().copied().filter(|lease| tier.counts(lease)).collect();
        let reserved = reservations(&leases).into_iter();
        leases.iter().map(|lease| lease.feed.clone()).zip(reserved).collect()
    };
    let (before, after) = (counted(before), counted(after));
    let facility = &policy.facility;
    let feeds = facility.feeds();
    let house = facility.house_load();
    let unassigned = facility.unassigned_load(population);
    let none = |keep: bool, watts: Watts| if keep { watts } else { Watts::ZERO };
    let residual = facility
        .machines_load(population, |group| none(tier.sheds(group), group.watts - group.freed()));
    let unsheddable =
        facility.machines_load(population, |group| none(!tier.sheds(group), group.watts));
    let waiting = facility.waiting_load(population, Group::idle_at_most);
    let unsheddable = PerFeed::each(feeds, |feed| unsheddable[feed] + waiting[feed]);
    let path = feeds.path_of(&lease.feed).iter();
    path.map(|&node| {
        // What the meter does not show, sessions that no group claims do not draw.
        let correction = population.corrections.get(node).copied().unwrap_or_default();
        let house = house[node] + correction.max(Watts::ZERO);
        let unassigned = (unassigned[node] + correction.min(Watts::ZERO)).max(Watts::ZERO);
        let fixed = house + residual[node] + unsheddable[node] + unassigned;
        let here = |(feed, _): &&(FeedId, Reservation)| feeds.carries(node, feed);
        let before = before.iter().filter(here).map(|(_, reservation)| (reservation, false));
        let after = after.iter().filter(here).map(|(_, reservation)| (reservation, true));
        let Peak { usable, committed, asked, from, to } =
            peak(before.chain(after), &feeds[node], window);
        let least = feeds[node].least_usable_within(window.0, window.1);
        Line {
            feed: feeds[node].id.clone(),
            from,
            to,
            usable,
            least_usable: (least < usable).then_some(least),
            house,
            committed,
            residual: residual[node],
            unsheddable: unsheddable[node],
            unassigned,
            available: usable - fixed - committed,
            asked,
        }
    })
    .collect()
}

/// An interval in which a change of the leases asks for power.
#[derive(Debug, Clone, Copy)]
struct Peak {
    usable: Watts,
    /// What is reserved without the change.
    committed: Watts,
    /// What is reserved more with it.
    asked: Watts,
    from: Timestamp,
    to: Timestamp,
}

/// The first interval within `[from, to)` in which least of what is usable is not reserved, of those in
/// which more is reserved after a change of the leases than before. Each of `reserved` is one lease's,
/// before or after it.
fn peak<'r>(
    reserved: impl Iterator<Item = (&'r Reservation, bool)>,
    feed: &Feed,
    (from, to): (Timestamp, Timestamp),
) -> Peak {
    // What is reserved without the change, and with it.
    let mut edges: Vec<(Timestamp, Watts, Watts)> = Vec::new();
    for (reservation, is_after) in reserved {
        let until = reservation.until();
        if until <= from {
            continue;
        }
        let rises = reservation.rises().map(|(at, more)| (at.max(from), more));
        for (at, more) in rises.chain([(until, Watts(-reservation.last().0))]) {
            let none = Watts::ZERO;
            edges.push(if is_after { (at, none, more) } else { (at, more, none) });
        }
    }
    // In each interval the limit stays the same, too.
    let limits = feed.limit.after(from).map(|change| (change.at, Watts::ZERO, Watts::ZERO));
    edges.extend(limits.take_while(|(at, ..)| *at < to));
    edges.retain(|(at, ..)| *at < to);
    edges.sort_unstable_by_key(|(at, ..)| *at);
    let mut most: Option<Peak> = None;
    let (mut without, mut with) = (Watts::ZERO, Watts::ZERO);
    for (place, &(at, less, more)) in edges.iter().enumerate() {
        (without, with) = (without + less, with + more);
        let until = edges.get(place + 1).map_or(to, |(next, ..)| *next);
        if at >= until || with <= without {
            continue;
        }
        let usable = feed.usable(at);
        let left = |peak: Peak| peak.usable - peak.committed - peak.asked;
        if most.is_none_or(|most| usable - with < left(most)) {
            let (committed, asked) = (without, with - without);
            most = Some(Peak { usable, committed, asked, from: at, to: until });
        }
    }
    let usable = feed.least_usable_within(from, to);
    most.unwrap_or(Peak { usable, committed: without, asked: Watts::ZERO, from, to })
}

/// An upper bound of the time that freeing the lease's power takes; the plan may find that less
/// must be shed. The lease is the last of `all`; no more than `most` is shed for it.
fn lead(policy: &Policy, population: &Population, all: &[&Lease], most: Watts) -> Lead {
    let Some((&lease, others)) = all.split_last() else { return Lead::default() };
    let facility = &policy.facility;
    let feeds = facility.feeds();
    let full = full_load(policy, population);
    let mut shed = Watts::ZERO;
    let mut widest = None;
    let window = (lease.reserved_from(), lease.ends());
    let lines = lines(policy, population, (others, all), (lease, window), Tier::Any);
    for (line, &node) in lines.iter().zip(feeds.path_of(&lease.feed)) {
        let mining = line.usable - line.house - line.unassigned - line.committed - full[node];
        let short = (line.asked - mining).min(line.asked).min(most);
        if short > Watts::ZERO {
            shed = shed.max(short);
            widest = Some(node);
        }
    }
    let Some(widest) = widest else {
        return Lead::new(policy, &lease.feed, Watts::ZERO, Duration::ZERO, Duration::ZERO);
    };
    lead_to_shed(policy, population, lease, widest, shed)
}

/// What machines draw at each feed if all of them hash that have work, and the most that others draw that
/// wait for room.
fn full_load(policy: &Policy, population: &Population) -> PerFeed<Watts> {
    let facility = &policy.facility;
    let full = facility.machines_load(population, |group| group.watts);
    let waiting = facility.waiting_load(population, Group::idle_at_most);
    PerFeed::each(facility.feeds(), |feed| full[feed] + waiting[feed])
}

/// The time that shedding `shed` below `feed` for `lease` takes at most.
fn lead_to_shed(
    policy: &Policy,
    population: &Population,
    lease: &Lease,
    feed: FeedNumber,
    shed: Watts,
) -> Lead {
    let facility = &policy.facility;
    let feeds = facility.feeds();
    let candidates = facility.groups().iter().enumerate();
    let candidates = candidates
        .filter(|(number, _)| feeds.is_below(facility.group_feed(*number), feed))
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
mod tests;
