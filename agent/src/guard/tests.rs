use std::collections::BTreeMap;

use directive::{GuardCohort, GuardFeed, GuardState};
use rand::prelude::*;

use super::*;

mod changes;
mod faults;
mod feeds;
mod over;
mod wakes;

/// An arbitrary instant: tests only add to it.
#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now() + Duration::from_secs(100_000)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(millis).unwrap()).unwrap()
}

const MACHINE: i64 = 3_000;
const SHEDS_MS: u64 = 45_000;
const RESTORES_MS: u64 = 60_000;
const LAG_MS: u64 = 1_000;

fn feed(id: &str, parent: Option<&str>, usable: i64) -> GuardFeed {
    GuardFeed {
        feed: id.into(),
        parent: parent.map(FeedId::from),
        owner: Some("agent".into()),
        meter: Some(MeterId::from(id)),
        usable: Watts(usable),
        rating: Watts(usable * 5 / 4),
        band: Watts(3_000),
        after: 2,
        lag_ms: LAG_MS,
        stale_after_ms: 15_000,
        changes: Vec::new(),
    }
}

fn cohort(feed: &str, machines: std::ops::Range<usize>) -> GuardCohort {
    GuardCohort {
        feed: feed.into(),
        group: "g".into(),
        frees: Watts(MACHINE),
        sheds_within_ms: SHEDS_MS,
        restores_within_ms: RESTORES_MS,
        machines: machines.map(|number| MachineId::from(format!("m{number:02}"))).collect(),
    }
}

fn table(feeds: Vec<GuardFeed>, cohorts: Vec<GuardCohort>) -> GuardTable {
    GuardTable {
        version: Generation { epoch: 1, generation: 1 },
        feeds,
        cohorts,
        ramp_per_min: None,
        step_max: None,
        suspect_max_pct: 25,
    }
}

/// One feed of 60 kW with 16 machines of 3 kW.
fn one_feed() -> GuardTable {
    table(vec![feed("f", None, 60_000)], vec![cohort("f", 0..16)])
}

/// A facility: machines that take their time to fall asleep, and a house at each feed.
struct Plant {
    guard: Guard,
    start: Instant,
    now: u64,
    parents: BTreeMap<FeedId, Option<FeedId>>,
    units: Units,
    house: BTreeMap<FeedId, i64>,
    acts: Vec<(u64, GuardHold)>,
}

#[derive(Default)]
struct Units {
    now: u64,
    units: BTreeMap<MachineId, Unit>,
}

struct Unit {
    feed: FeedId,
    told_to_sleep: Option<u64>,
    /// Whether the machine does what it is told.
    obeys: bool,
    boots: bool,
    /// Whether the device does not answer.
    silent: bool,
}

impl Unit {
    fn sleeps(&self, now: u64) -> bool {
        self.told_to_sleep.is_some_and(|told| now >= told + SHEDS_MS)
    }
}

impl Fleet for Units {
    fn seen(&self, machine: &MachineId) -> Seen {
        let Some(unit) = self.units.get(machine) else { return Seen::Other };
        match unit.told_to_sleep {
            None if unit.boots => Seen::Boots,
            None if unit.silent => Seen::Silent,
            Some(_) if unit.silent => Seen::Defies,
            None => Seen::Runs,
            Some(_) if unit.sleeps(self.now) => Seen::Sleeps,
            Some(_) => Seen::Other,
        }
    }
}

impl Plant {
    fn new(table: GuardTable, house: &[(&str, i64)]) -> Self {
        let mut units = Units::default();
        for cohort in &table.cohorts {
            for machine in &cohort.machines {
                let feed = cohort.feed.clone();
                let unit =
                    Unit { feed, told_to_sleep: None, obeys: true, boots: false, silent: false };
                units.units.insert(machine.clone(), unit);
            }
        }
        let parents = table.feeds.iter().map(|feed| (feed.feed.clone(), feed.parent.clone()));
        let parents = parents.collect();
        let saved = GuardSaved { table: Some(Arc::new(table)), ..GuardSaved::default() };
        Self {
            guard: Guard::restore("agent".into(), saved),
            start: origin(),
            now: 0,
            parents,
            units,
            house: house.iter().map(|(feed, watts)| (FeedId::from(*feed), *watts)).collect(),
            acts: Vec::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    /// What the feed carries.
    fn load(&self, id: &str) -> i64 {
        let is_below = |feed: &FeedId| {
            std::iter::successors(Some(feed), |feed| self.parents[*feed].as_ref())
                .any(|above| above.as_str() == id)
        };
        let house: i64 =
            self.house.iter().filter(|(feed, _)| is_below(feed)).map(|(_, watts)| watts).sum();
        let awake = |unit: &&Unit| !(unit.boots || unit.obeys && unit.sleeps(self.now));
        let units = self.units.units.values().filter(|unit| is_below(&unit.feed)).filter(awake);
        house + i64::try_from(units.count()).unwrap() * MACHINE
    }

    /// The meter shows this power. Machines that are chosen are told at once.
    fn shows(&mut self, meter: &str, watts: i64) -> Sampled {
        let reading = MeterReading { watts: Watts(watts), taken_at: at(self.now) };
        self.answers(meter, Some(&reading))
    }

    fn answers(&mut self, meter: &str, reading: Option<&MeterReading>) -> Sampled {
        let (wall, now) = (at(self.now), self.instant());
        self.units.now = self.now;
        let sampled = self.guard.measured(&meter.into(), reading, &self.units, wall, now);
        for act in &sampled.acts {
            for machine in &act.machines {
                let unit = self.units.units.get_mut(machine).expect("it is in the table");
                assert_eq!(unit.told_to_sleep, None, "{machine} is chosen twice");
                let drew = !unit.boots;
                unit.told_to_sleep = Some(self.now);
                unit.boots = false;
                self.guard.must_sleep(machine, drew, now);
                self.guard.told_to_sleep(machine, drew, now);
            }
            self.acts.push((self.now, act.clone()));
        }
        sampled
    }

    /// Lets a second pass, and then each meter shows what its feed carries, in this order.
    fn second(&mut self, meters: &[&str]) {
        self.now += 1_000;
        for meter in meters {
            self.shows(meter, self.load(meter));
        }
    }

    fn held(&self) -> usize {
        self.acts.iter().map(|(_, act)| act.machines.len()).sum()
    }

    fn held_at(&self, feed: &str) -> usize {
        let acts = self.acts.iter().filter(|(_, act)| act.feed.as_str() == feed);
        acts.map(|(_, act)| act.machines.len()).sum()
    }

    fn state(&self, feed: &str) -> GuardedFeed {
        let report = self.guard.report(&self.units, at(self.now), self.instant());
        report.feeds.into_iter().find(|one| one.feed.as_str() == feed).expect("it is guarded")
    }
}

#[test]
fn a_house_that_draws_more_is_answered_by_the_second_sample_with_exactly_enough() {
    let mut plant = Plant::new(one_feed(), &[("f", 10_000)]);
    for _ in 0..10 {
        plant.second(&["f"]);
    }
    assert_eq!(plant.held(), 0, "58 kW of 60");
    *plant.house.get_mut("f").unwrap() += 20_000;
    plant.second(&["f"]);
    assert_eq!(plant.held(), 7, "78 kW is above the rating of 75, so the first sample counts");
    // 78 kW down to 58.5 kW are 19.5 kW.
    for _ in 0..300 {
        plant.second(&["f"]);
    }
    assert_eq!(plant.held(), 7, "nothing is shed twice while machines fall asleep");
    assert_eq!((plant.load("f"), plant.state("f").state), (57_000, GuardState::Watching));
}

#[test]
fn an_excess_below_the_rating_waits_for_a_second_sample_in_a_row() {
    let mut plant = Plant::new(one_feed(), &[("f", 10_000)]);
    plant.second(&["f"]);
    for (watts, held) in [(70_000, 0), (58_000, 0), (61_000, 0), (70_000, 1), (70_000, 4)] {
        plant.now += 1_000;
        plant.shows("f", watts);
        assert_eq!(plant.held(), held, "{watts} W");
    }
    assert_eq!(plant.state("f").state, GuardState::Tripped);
    let order: Vec<&str> =
        plant.acts.iter().flat_map(|(_, act)| &act.machines).map(MachineId::as_str).collect();
    assert_eq!(order, ["m00", "m01", "m02", "m03"], "in the order of the table");
    let numbers: Vec<u64> = plant.acts.iter().map(|(_, act)| act.number).collect();
    assert_eq!(numbers, [1, 2], "the second act covers what the first did not");
}

#[test]
fn a_reading_that_is_repeated_or_older_is_no_sample() {
    let mut plant = Plant::new(one_feed(), &[]);
    plant.now = 10_000;
    plant.shows("f", 70_000);
    let again = MeterReading { watts: Watts(70_000), taken_at: at(10_000) };
    let older = MeterReading { watts: Watts(70_000), taken_at: at(9_000) };
    for _ in 0..5 {
        plant.now += 1_000;
        plant.answers("f", Some(&again));
        plant.answers("f", Some(&older));
    }
    assert_eq!(plant.held(), 0);
    plant.now += 1_000;
    plant.shows("f", 70_000);
    assert_eq!(plant.held(), 4);
}

#[test]
fn noise_around_a_load_that_fits_trips_nothing_and_around_one_that_does_not_sheds_once() {
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        // 57 kW with 3 % are 55.3 to 58.7 kW; 62 kW are 60.1 to 63.9 kW.
        for (house, most) in [(9_000, 0), (14_000, 2)] {
            let mut plant = Plant::new(one_feed(), &[("f", house)]);
            for _ in 0..600 {
                plant.now += 1_000;
                let load = plant.load("f");
                let noise = rng.random_range(-load * 3 / 100..=load * 3 / 100);
                plant.shows("f", load + noise);
            }
            assert!(plant.held() <= most, "seed {seed}: {} held with {house} W", plant.held());
            assert!(plant.load("f") <= 60_000, "seed {seed}");
            assert_eq!(plant.state("f").state, GuardState::Watching, "seed {seed}");
        }
    }
}

#[test]
fn what_the_plan_takes_off_is_credited_until_the_meter_must_have_shown_it() {
    let mut plant = Plant::new(one_feed(), &[("f", 22_000)]);
    let now = plant.instant();
    for number in 0..4 {
        let machine = MachineId::from(format!("m{number:02}"));
        plant.guard.must_sleep(&machine, true, now);
        plant.guard.told_to_sleep(&machine, true, now);
        let unit = plant.units.units.get_mut(&machine).unwrap();
        (unit.told_to_sleep, unit.obeys) = (Some(0), false);
    }
    for second in 1..=45 {
        plant.second(&["f"]);
        assert_eq!(plant.held(), 0, "70 kW less 12 kW is enough, at {second} s");
    }
    plant.second(&["f"]);
    assert_eq!(plant.held(), 4, "the four did not obey: others go");
    // A command that is repeated, because it was not followed, is no credit.
    let now = plant.instant();
    plant.guard.told_to_sleep(&"m00".into(), true, now);
    for _ in 0..60 {
        plant.second(&["f"]);
    }
    assert_eq!((plant.held(), plant.load("f")), (4, 58_000));
}
