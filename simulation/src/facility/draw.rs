//! Draws a facility by seed: a tree of feeds, groups of machines, meters, and what goes wrong.
//!
//! The figures follow what operators and vendors report: sleep 25–30 W, seconds to fall asleep, 10 s
//! to 9 min to wake, 200 W to full power without a pool, draws some percent off the nameplate.

use std::time::Duration;

use directive::{FeedId, GroupId, MeterId, Watts};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};

use super::spec::{
    FacilitySpec, FeedSpec, GroupSpec, Habits, MachineSpec, Measured, MeterSpec, Start,
};
use crate::record::MeterFault;

/// How large a facility is to be, and how much may go wrong in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Levels of feeds, 1 to 3.
    pub levels: usize,
    pub machines: usize,
    pub trouble: Trouble,
    /// How long the run lasts: faults and changes of the house lie within it.
    pub lasts: Duration,
}

/// What goes wrong. Without any trouble the facility is as the policy says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Percent of machines whose device has a bad habit.
    pub devices: u32,
    /// Machines draw up to this many percent more or less than their nameplate.
    pub draws: i64,
    /// The house grows up to this many percent of its feed's limit above what is declared.
    pub house: i64,
    /// Percent of meters with a fault.
    pub meters: u32,
    /// Percent of feeds, the root apart, that have no meter.
    pub unmetered: u32,
    /// Percent of machines that nobody switched on, or that a person put to sleep.
    pub away: u32,
}

impl Trouble {
    /// What a bad week brings.
    pub const SOME: Self =
        Self { devices: 20, draws: 8, house: 10, meters: 15, unmetered: 20, away: 5 };
}

/// A meter for each lease that names one: `tenant-1` to this number.
pub const TENANT_METERS: usize = 8;

/// Draws a facility that begins at `begins`.
#[must_use]
pub fn draw(seed: u64, shape: &Shape, begins: Timestamp) -> FacilitySpec {
    let mut rng = StdRng::seed_from_u64(seed);
    let parents = tree(shape.levels, shape.machines, &mut rng);
    let leaves: Vec<usize> =
        (0..parents.len()).filter(|feed| !parents.contains(&Some(*feed))).collect();
    let mut spec = FacilitySpec { begins, seed, ..FacilitySpec::default() };
    groups(&mut spec, &leaves, shape, &mut rng);
    feeds(&mut spec, &parents, shape, &mut rng);
    meters(&mut spec, shape, &mut rng);
    limits(&mut spec, shape);
    spec
}

/// Lowers the limit of one feed for a while, in one of eight facilities. These are drawn apart from
/// everything else, so that the other facilities do not depend on it.
fn limits(spec: &mut FacilitySpec, shape: &Shape) {
    let mut rng = StdRng::seed_from_u64(spec.seed ^ LIMITS);
    if !rng.random_ratio(1, 8) {
        return;
    }
    let Some(feed) = spec.feeds.choose_mut(&mut rng) else { return };
    let from = within(shape.lasts, &mut rng);
    let to = from + Duration::from_secs(rng.random_range(300..=3_600));
    let lower = feed.limit.scale(f64::from(rng.random_range(70..=95)) / 100.0);
    feed.limits = vec![(from, lower), (to, feed.limit)];
}

/// Distinguishes the draws of limits from those of the rest.
const LIMITS: u64 = 0x4c49_4d49_5453;

fn feed_name(feed: usize) -> FeedId {
    if feed == 0 { "poi".into() } else { format!("f{feed}").into() }
}

/// Each feed's parent, parents first.
fn tree(levels: usize, machines: usize, rng: &mut StdRng) -> Vec<Option<usize>> {
    let mut parents = vec![None];
    let mut above = vec![0];
    for _ in 1..levels {
        let mut here = Vec::new();
        for parent in above {
            for _ in 0..rng.random_range(1..=3) {
                if here.len() * 3 < machines {
                    here.push(parents.len());
                    parents.push(Some(parent));
                }
            }
        }
        above = here;
    }
    parents
}

/// One group at each leaf, two at some, and its machines.
fn groups(spec: &mut FacilitySpec, leaves: &[usize], shape: &Shape, rng: &mut StdRng) {
    let mut homes = leaves.to_vec();
    homes.extend(leaves.iter().filter(|_| rng.random_ratio(1, 3)));
    let each = shape.machines / homes.len();
    let mut left = shape.machines - each * homes.len();
    for (number, home) in homes.into_iter().enumerate() {
        let count = each + std::mem::take(&mut left);
        let id = GroupId::from(format!("g{number}"));
        // The seldom-driven group: only the proxy reaches it.
        let reachable = number == 0 || rng.random_ratio(9, 10);
        let fast = rng.random_bool(0.6);
        let (shed, restore) = if fast {
            (rng.random_range(5..=15), rng.random_range(10..=60))
        } else {
            (rng.random_range(20..=60), rng.random_range(120..=540))
        };
        spec.groups.push(GroupSpec {
            id,
            feed: feed_name(home),
            declared: count,
            nameplate: Watts(rng.random_range(28..=36) * 100),
            residual: Watts(30),
            poolless: None,
            j_per_th: f64::from(rng.random_range(150..=300)) / 10.0,
            shed_p95: Duration::from_secs(shed),
            restore_p95: Duration::from_secs(restore),
            min_up: Duration::from_secs(rng.random_range(1..=10) * 60),
            min_down: Duration::from_secs(rng.random_range(1..=5) * 60),
            reachable,
        });
        for machine in 0..count {
            let machine = machine_of(&spec.groups[number], machine, shape, rng);
            spec.machines.push(machine);
        }
    }
}

fn machine_of(group: &GroupSpec, number: usize, shape: &Shape, rng: &mut StdRng) -> MachineSpec {
    let off = match shape.trouble.draws {
        0 => 0,
        draws => rng.random_range(-draws..=draws),
    };
    let awake = Watts(group.nameplate.0 * (100 + off) / 100);
    let part = |declared: Duration, rng: &mut StdRng| declared * rng.random_range(30..=95) / 100;
    let poolless = *[Watts(200), Watts(1_500), awake].choose(rng).expect("three of them");
    let start = match rng.random_range(0..100) {
        chance if chance >= shape.trouble.away => Start::Awake,
        chance if chance % 2 == 0 && group.reachable => Start::Asleep,
        _ => Start::OffUntil(within(shape.lasts, rng)),
    };
    MachineSpec {
        id: format!("{}-{number}", group.id).into(),
        group: group.id.clone(),
        feed: group.feed.clone(),
        awake,
        residual: group.residual,
        poolless,
        poolless_after: Duration::from_secs(rng.random_range(120..=600)),
        sleep_time: part(group.shed_p95, rng),
        wake_time: part(group.restore_p95, rng),
        habits: habits(group, shape, rng),
        start,
    }
}

/// The habits of one device: most are good, a bad one has one or two faults.
fn habits(group: &GroupSpec, shape: &Shape, rng: &mut StdRng) -> Habits {
    let mut habits = Habits {
        answers_after: Duration::from_millis(rng.random_range(20..=800)),
        keeps_session: rng.random_ratio(1, 4),
        ..Habits::default()
    };
    if shape.trouble.devices == 0 || !rng.random_ratio(shape.trouble.devices.min(100), 100) {
        return habits;
    }
    for _ in 0..rng.random_range(1..=2) {
        match rng.random_range(0..9) {
            0 => habits.lies = true,
            1 => habits.refuses = true,
            2 => habits.hangs_percent = rng.random_range(5..=60),
            3 => habits.late = Some((rng.random_range(10..=80), group.shed_p95 * 2)),
            4 => {
                let after = Duration::from_secs(rng.random_range(5..=120));
                habits.repeated = Some((rng.random_range(10..=50), after));
            }
            5 => habits.wake_starts_over = true,
            6 => habits.wakes_after = Some(Duration::from_secs(rng.random_range(30..=1_200))),
            7 => habits.reboots_every = Some(Duration::from_secs(rng.random_range(600..=3_600))),
            _ => habits.dies_at = Some(within(shape.lasts, rng)),
        }
    }
    habits
}

/// Draws the feeds, from the leaves up. The usable power of each is 95 to 130 % of the nameplates
/// and the declared house at and below it, but at least 5 kW.
fn feeds(spec: &mut FacilitySpec, parents: &[Option<usize>], shape: &Shape, rng: &mut StdRng) {
    let mut below = vec![Watts::ZERO; parents.len()];
    let mut houses = vec![Watts::ZERO; parents.len()];
    for group in &spec.groups {
        let count = i64::try_from(group.declared).unwrap_or(i64::MAX);
        let leaf = (0..parents.len()).find(|feed| feed_name(*feed) == group.feed);
        below[leaf.expect("a group stands at a leaf")] += Watts(group.nameplate.0 * count);
    }
    for feed in (0..parents.len()).rev() {
        let house = below[feed].scale(0.02);
        houses[feed] += house;
        let room = rng.random_range(95..=130);
        let usable = Watts((below[feed] + houses[feed]).0 * room / 100).max(Watts(5_000));
        let continuous_factor = *[0.8, 0.95, 1.0].choose(rng).expect("three of them");
        let reserve = usable.scale(0.01);
        let limit = (usable + reserve).scale(1.0 / continuous_factor);
        let limit = Watts(limit.0 / 10 * 10 + 10);
        let mut house_over_time = vec![(Duration::ZERO, house)];
        if shape.trouble.house > 0 && rng.random_ratio(1, 3) {
            let grown = house + Watts(usable.0 * rng.random_range(1..=shape.trouble.house) / 100);
            let grows = within(shape.lasts, rng);
            house_over_time.push((grows, grown));
            house_over_time
                .push((grows + Duration::from_secs(rng.random_range(30..=1_800)), house));
        }
        let constraint = rng.random_range(30..=90);
        spec.feeds.push(FeedSpec {
            id: feed_name(feed),
            parent: parents[feed].map(feed_name),
            limit,
            limits: Vec::new(),
            continuous_factor,
            reserve,
            declared_house: house,
            default_constraint: houses[feed].max(Watts(usable.0 * constraint / 100)),
            house: house_over_time,
        });
        if let Some(parent) = parents[feed] {
            let (load, house) = (below[feed], houses[feed]);
            below[parent] += load;
            houses[parent] += house;
        }
    }
    spec.feeds.reverse();
}

/// A meter at each feed but some, and one for each tenant that brings one.
fn meters(spec: &mut FacilitySpec, shape: &Shape, rng: &mut StdRng) {
    let trouble = shape.trouble;
    let mut measured: Vec<(MeterId, Measured)> = Vec::new();
    for (number, feed) in spec.feeds.iter().enumerate() {
        if number == 0 || trouble.unmetered == 0 || !rng.random_ratio(trouble.unmetered, 100) {
            measured.push((format!("m-{}", feed.id).into(), Measured::Feed(feed.id.clone())));
        }
    }
    for number in 1..=TENANT_METERS {
        measured.push((format!("tenant-{number}").into(), Measured::Tenants));
    }
    for (id, of) in measured {
        let is_feed = of != Measured::Tenants;
        let mut faults = Vec::new();
        if is_feed && trouble.meters > 0 && rng.random_ratio(trouble.meters.min(100), 100) {
            let fault = match rng.random_range(0..6) {
                0 => MeterFault::Frozen,
                1 => MeterFault::Factor(1_000.0),
                2 => MeterFault::Factor(0.001),
                3 => MeterFault::Factor(3_f64.sqrt()),
                4 => MeterFault::Factor(1.0 / 3_f64.sqrt()),
                _ => MeterFault::Lost,
            };
            let begins = within(shape.lasts, rng);
            faults.push((begins, Some(fault)));
            faults.push((begins + Duration::from_secs(rng.random_range(20..=1_200)), None));
        }
        spec.meters.push(MeterSpec {
            id,
            of,
            period: Duration::from_secs(*[1, 2, 5].choose(rng).expect("three of them")),
            lag: Duration::from_millis(rng.random_range(0..=3_000)),
            noise_ppm: rng.random_range(0..=5_000),
            faults,
        });
    }
}

/// A time in the middle of the run.
fn within(lasts: Duration, rng: &mut StdRng) -> Duration {
    let secs = lasts.as_secs().max(10);
    Duration::from_secs(rng.random_range(secs / 10..=secs * 8 / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(levels: usize, machines: usize) -> Shape {
        let lasts = Duration::from_secs(3_600);
        Shape { levels, machines, trouble: Trouble::SOME, lasts }
    }

    #[test]
    fn every_seed_draws_a_sound_facility() {
        for seed in 0..500 {
            let levels = 1 + usize::try_from(seed % 3).unwrap();
            let machines = 3 + usize::try_from(seed % 58).unwrap();
            let spec = draw(seed, &shape(levels, machines), Timestamp::UNIX_EPOCH);
            assert_eq!(spec.machines.len(), machines, "seed {seed}");
            assert_eq!(spec.feeds[0].parent, None);
            for (number, feed) in spec.feeds.iter().enumerate() {
                let parent = feed.parent.as_ref();
                let stands_before =
                    |parent: &FeedId| spec.feeds[..number].iter().any(|f| f.id == *parent);
                assert!(number == 0 || parent.is_some_and(stands_before), "seed {seed}");
                assert!(feed.default_constraint <= feed.usable(), "seed {seed}: {feed:?}");
                assert!(feed.declared_house + feed.reserve <= feed.limit, "seed {seed}: {feed:?}");
            }
            for group in &spec.groups {
                let is_parent = spec.feeds.iter().any(|f| f.parent.as_ref() == Some(&group.feed));
                assert!(!is_parent, "seed {seed}: {} does not stand at a leaf", group.id);
            }
        }
    }

    #[test]
    fn in_some_facilities_a_limit_is_lower_for_a_while() {
        let shape = shape(3, 40);
        let mut dated = 0;
        for seed in 0..400 {
            let spec = draw(seed, &shape, Timestamp::UNIX_EPOCH);
            let feeds = spec.feeds.iter().filter(|feed| !feed.limits.is_empty());
            for feed in feeds {
                let falls: Vec<(Duration, Watts)> = feed.falls().collect();
                let [(from, lower)] = falls[..] else { panic!("seed {seed}: {falls:?}") };
                assert!(lower < feed.usable() && from < shape.lasts, "seed {seed}: {feed:?}");
                assert_eq!(
                    (feed.usable_at(from), feed.usable_at(Duration::MAX)),
                    (lower, feed.usable())
                );
                assert!(lower >= feed.declared_house, "seed {seed}: {feed:?}");
                dated += 1;
            }
        }
        assert!((30..80).contains(&dated), "{dated} of 400");
    }

    #[test]
    fn a_facility_without_trouble_is_as_declared() {
        let calm = Shape { trouble: Trouble::default(), ..shape(3, 40) };
        let spec = draw(7, &calm, Timestamp::UNIX_EPOCH);
        for machine in &spec.machines {
            let group = spec.groups.iter().find(|group| group.id == machine.group).unwrap();
            assert_eq!((machine.awake, machine.start), (group.nameplate, Start::Awake));
            assert!(machine.sleep_time < group.shed_p95 && machine.wake_time < group.restore_p95);
        }
        assert!(
            spec.feeds.iter().all(|feed| feed.house == [(Duration::ZERO, feed.declared_house)])
        );
        assert!(spec.meters.iter().all(|meter| meter.faults.is_empty()));
    }
}
