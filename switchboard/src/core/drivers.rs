//! Drivers that answer nothing. A machine that does not obey is replaced by another one, but if its
//! driver is down, the next machine of the same driver does not obey either: one after the other, all
//! would be told to sleep, and all would sleep once the driver is back. So what is missing then comes
//! from machines of other drivers.
//!
//! A driver is first *in doubt*: half of the machines that it is to put to sleep, three at least, do
//! not answer. Agents read every machine each ten seconds, so a driver that works shows it in this
//! time; one that does not is *down*, until more than half of its machines have been read again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use directive::{DeviceState, MachineId, Means};
use jiff::Timestamp;

use super::{Core, Notice, Outputs};
use crate::admit::shed_time;
use crate::facility::FeedNumber;
use crate::inventory::MachineState;
use crate::lease::later;
use crate::plan::{Chosen, Fleet};
use crate::view::DriverDownView;

/// What is known of the drivers that do not answer. At most as many as the policy names.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    doubted: BTreeMap<String, Doubt>,
    /// The drivers that proved to work, and when they were doubted.
    cleared: BTreeMap<String, Instant>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Doubt {
    since: Timestamp,
    stage: Stage,
    /// When each of the driver's machines had been read last when it was first doubted.
    read: HashMap<MachineId, Option<Timestamp>>,
    /// Machines that it was to put to sleep and that count as awake, until they answer.
    given_up: BTreeSet<MachineId>,
    machines: u32,
    unanswered: u32,
    fault: Option<String>,
}

/// How far a doubt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Since then, the driver has been in doubt.
    Doubted(Instant),
    Down,
    /// The driver was down and has answered again since then. Its machines have their time to follow
    /// from then on.
    Back(Instant),
}

/// What a look finds of the machines that a driver is to put to sleep.
#[derive(Debug, Default)]
struct Told {
    answered: u32,
    silent: u32,
    /// The first of those that are silent.
    example: Option<MachineId>,
}

/// The shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The minimum number of silent machines for which a driver is doubted.
const SILENT_MIN: u32 = 3;
/// In this time, an agent reads every machine of a driver that works.
const QUIET: Duration = Duration::from_secs(12);
/// A driver works if more than this part of its machines was read.
const FEW: u32 = 8;
/// A driver that proved to work is not doubted again for this time.
const CLEARED: Duration = Duration::from_secs(60);
/// Machines that are to go only later than this stay chosen: drivers are mostly back soon.
const NEAR: Duration = Duration::from_mins(10);

impl Drivers {
    /// The drivers that are down.
    pub(super) fn down(&self) -> Vec<DriverDownView> {
        let down = self.doubted.iter().filter(|(_, doubt)| doubt.stage == Stage::Down);
        down.map(|(driver, doubt)| doubt.view(driver)).collect()
    }

    /// Whether `machine` is to sleep, and its driver does not answer and is down.
    pub(super) fn is_given_up(&self, machine: &MachineId) -> bool {
        let mut down = self.doubted.values().filter(|doubt| doubt.stage == Stage::Down);
        down.any(|doubt| doubt.given_up.contains(machine))
    }

    /// Whether some driver is in doubt or down.
    pub(super) fn are_doubted(&self) -> bool {
        !self.doubted.is_empty()
    }
}

impl Doubt {
    fn view(&self, driver: &str) -> DriverDownView {
        DriverDownView {
            driver: driver.to_owned(),
            since: self.since,
            machines_reached: self.machines,
            machines_unanswered: self.unanswered,
            fault: self.fault.clone(),
        }
    }
}

/// Whether the state says that a machine has had its time to follow and has not.
fn is_overdue(state: MachineState) -> bool {
    matches!(state, MachineState::Unknown | MachineState::Disobedient)
}

fn is_confirmed(state: MachineState) -> bool {
    matches!(state, MachineState::Curtailed | MachineState::Asleep)
}

impl Core {
    /// Finds the drivers that do not answer. Returns whether the plan may see other machines by that.
    pub(super) fn see_drivers(
        &mut self,
        wall: Timestamp,
        now: Instant,
        outputs: &mut Outputs,
    ) -> bool {
        let is_early = |at: Instant| now.saturating_duration_since(at) < LOOK_EVERY;
        let is_quiet = !self.drivers.are_doubted() && !self.states.values().any(|s| is_overdue(*s));
        if is_quiet || (self.drivers.are_doubted() && self.drivers.looked.is_some_and(is_early)) {
            return false;
        }
        self.drivers.looked = Some(now);
        let is_doubted = self.drivers.are_doubted();
        let told = self.told(wall, now);
        let mut drivers = std::mem::take(&mut self.drivers);
        drivers.cleared.retain(|_, at| now.saturating_duration_since(*at) < CLEARED);
        for (name, told) in &told {
            let is_silent = told.silent >= SILENT_MIN && told.silent >= told.answered;
            let is_known = drivers.doubted.contains_key(name) || drivers.cleared.contains_key(name);
            if is_silent && !is_known {
                drivers.doubted.insert(name.clone(), self.doubt_driver(name, wall, now));
            }
        }
        let named: BTreeSet<&String> = self
            .policy
            .facility
            .groups()
            .iter()
            .filter_map(|group| group.driver.as_ref())
            .collect();
        let names: Vec<String> = drivers.doubted.keys().cloned().collect();
        for name in names {
            let Some(doubt) = drivers.doubted.get_mut(&name) else { continue };
            let (all, read) = self.read_since(&name, &doubt.read, now);
            let of_told = told.get(&name);
            doubt.machines = all.max(doubt.machines);
            doubt.unanswered = of_told.map_or(0, |told| told.silent);
            if let Some(example) = of_told.and_then(|told| told.example.as_ref()) {
                let reported = self.inventory.reported(example);
                doubt.fault =
                    reported.and_then(|report| report.fault.clone()).or(doubt.fault.take());
            }
            let lasts = |since: Instant, time| now.saturating_duration_since(since) >= time;
            let is_named = named.contains(&name);
            match doubt.stage {
                Stage::Doubted(_) if !is_named || read.saturating_mul(FEW) > all => {
                    drivers.doubted.remove(&name);
                    drivers.cleared.insert(name, now);
                    continue;
                }
                Stage::Doubted(since) if lasts(since, QUIET) => {
                    doubt.stage = Stage::Down;
                    outputs.notices.push(Notice::DriverDown(doubt.view(&name)));
                }
                Stage::Down if !is_named || read.saturating_mul(2) > all => {
                    doubt.stage = Stage::Back(now);
                    doubt.given_up.clear();
                    let driver = name.clone();
                    outputs.notices.push(Notice::DriverUp { driver, since: doubt.since });
                }
                Stage::Back(since) if lasts(since, self.follows_within(&name)) => {
                    drivers.doubted.remove(&name);
                    continue;
                }
                Stage::Doubted(_) | Stage::Down | Stage::Back(_) => {}
            }
            self.give_up(&name, doubt, wall, now);
        }
        self.drivers = drivers;
        self.drivers.are_doubted() || is_doubted
    }

    /// How long the machines of `driver` may take to be asleep once it answers again.
    fn follows_within(&self, driver: &str) -> Duration {
        let groups = self.policy.facility.groups().iter();
        let of_it = groups.filter(|group| group.driver.as_deref() == Some(driver));
        let slowest = of_it.map(shed_time).max().unwrap_or_default();
        slowest.saturating_add(self.policy.dispatch.settle)
    }

    /// The machines that each driver is to have asleep now, by whether they answer.
    fn told(&self, wall: Timestamp, now: Instant) -> BTreeMap<String, Told> {
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        for (machine, state) in &self.states {
            let Some((driver, chosen)) = self.driver_of(machine) else { continue };
            let Some(answers) = self.inventory.answers(&self.policy, machine, chosen, wall, now)
            else {
                continue;
            };
            if !answers && !is_overdue(*state) {
                continue;
            }
            if !all.contains_key(driver) {
                all.insert(driver.to_owned(), Told::default());
            }
            let Some(told) = all.get_mut(driver) else { continue };
            if answers {
                told.answered += 1;
            } else {
                told.silent += 1;
                told.example.get_or_insert_with(|| machine.clone());
            }
        }
        all
    }

    /// The driver that is to have `machine` asleep now, and why it is off.
    fn driver_of(&self, machine: &MachineId) -> Option<(&str, &Chosen)> {
        let chosen = self.selection.current(machine, self.schedule)?;
        let group = self.policy.facility.group(&chosen.group)?;
        let driver = group.driver.as_deref().filter(|_| chosen.means == Means::Device)?;
        Some((driver, chosen))
    }

    /// The machines that agents reach through `driver` now.
    fn of_driver<'a>(
        &'a self,
        driver: &'a str,
        now: Instant,
    ) -> impl Iterator<Item = (&'a MachineId, &'a directive::MachineReport)> {
        let groups = self.policy.facility.groups();
        let is_of_it = move |machine: &MachineId| {
            let group = self.inventory.group(&self.policy, machine);
            group.is_some_and(|number| groups[number].driver.as_deref() == Some(driver))
        };
        let devices = self.inventory.devices(&self.policy, now);
        devices
            .filter(move |(machine, _, is_live)| *is_live && is_of_it(machine))
            .map(|(machine, report, _)| (machine, report))
    }

    fn doubt_driver(&self, driver: &str, since: Timestamp, at: Instant) -> Doubt {
        let machines = self.of_driver(driver, at);
        Doubt {
            since,
            stage: Stage::Doubted(at),
            read: machines.map(|(machine, report)| (machine.clone(), report.read_at)).collect(),
            given_up: BTreeSet::new(),
            machines: 0,
            unanswered: 0,
            fault: None,
        }
    }

    /// How many machines agents reach through `driver`, and how many of these were read since those
    /// in `before`, by the agents' clocks.
    fn read_since(
        &self,
        driver: &str,
        before: &HashMap<MachineId, Option<Timestamp>>,
        now: Instant,
    ) -> (u32, u32) {
        let (mut all, mut read) = (0, 0);
        for (machine, report) in self.of_driver(driver, now) {
            all += 1;
            let is_new = before.get(machine).is_none_or(|before| *before != report.read_at);
            read += u32::from(report.state != DeviceState::Unknown && is_new);
        }
        (all, read)
    }

    /// Gives up the machines that the driver was to put to sleep, unless the meters show that what
    /// they are to free is free.
    fn give_up(&self, driver: &str, doubt: &mut Doubt, wall: Timestamp, now: Instant) {
        doubt.given_up.retain(|machine| {
            let state = self.states.get(machine);
            state.is_some_and(|state| !is_confirmed(*state))
        });
        if let Stage::Back(_) = doubt.stage {
            return;
        }
        let mut free: BTreeMap<(FeedNumber, Timestamp), bool> = BTreeMap::new();
        for (machine, state) in &self.states {
            let is_late = doubt.stage == Stage::Down || *state == MachineState::Disobedient;
            if is_confirmed(*state) || !is_late || doubt.given_up.contains(machine) {
                continue;
            }
            let Some((_, chosen)) = self.driver_of(machine).filter(|(of, _)| *of == driver) else {
                continue;
            };
            if self.inventory.answers(&self.policy, machine, chosen, wall, now) == Some(true) {
                continue;
            }
            let Some(group) = self.policy.facility.group_number(&chosen.group) else { continue };
            let feed = self.policy.facility.group_feed(group);
            let due = self.due(chosen);
            let is_free =
                *free.entry((feed, due)).or_insert_with(|| self.is_free(feed, due, wall, now));
            if !is_free {
                doubt.given_up.insert(machine.clone());
            }
        }
    }

    /// When the power is needed that `chosen` frees.
    fn due(&self, chosen: &Chosen) -> Timestamp {
        let lease = chosen.lease().and_then(|id| self.state.leases.get(id));
        let begins = lease.map(|standing| standing.lease.reserved_from());
        begins.map_or(self.schedule, |begins| begins.max(self.schedule))
    }

    /// Whether the meters on the path of `feed` show what leases reserve at `at` to be free, or drawn by
    /// tenants: one without a meter of its own may draw all that it rents.
    pub(super) fn is_free(
        &self,
        feed: FeedNumber,
        at: Timestamp,
        wall: Timestamp,
        now: Instant,
    ) -> bool {
        let feeds = self.policy.facility.feeds();
        let mut metered =
            feeds.path(feed).iter().filter(|feed| feeds[**feed].meter.is_some()).peekable();
        metered.peek().is_some()
            && metered.all(|feed| {
                let headroom = self.headroom(*feed, wall, now);
                let unmetered = self.sums.unmetered(*feed);
                headroom.is_some_and(|headroom| {
                    headroom.watts + unmetered >= self.sums.reserved(*feed, at)
                })
            })
    }

    /// Has the plan choose no machine of a driver that does not answer, and count those that it was
    /// to put to sleep only if they sleep.
    pub(super) fn leave_out_unanswered(&self, fleet: &mut Fleet) {
        if !self.drivers.are_doubted() {
            return;
        }
        let soon = later(self.schedule, NEAR);
        let groups = self.policy.facility.groups();
        for (group, machines) in groups.iter().zip(&mut fleet.groups) {
            let Some(doubt) =
                group.driver.as_ref().and_then(|driver| self.drivers.doubted.get(driver))
            else {
                continue;
            };
            let is_back = matches!(doubt.stage, Stage::Back(_));
            for known in machines.iter_mut().filter(|known| known.reached) {
                let is_given_up = doubt.given_up.contains(&known.id);
                match self.states.get(&known.id) {
                    Some(state) if is_confirmed(*state) => {}
                    Some(_) if is_back => known.failing = false,
                    None if is_back => {}
                    // Its commands fail because of the driver: only the meter says whether it sleeps.
                    Some(_) if self.is_unanswered(&known.id) => known.failing = is_given_up,
                    Some(_) => known.failing |= is_given_up,
                    None => {
                        let periods = self.selection.off.get(&known.id);
                        let is_for_later =
                            periods.is_some_and(|all| all.iter().all(|one| one.at > soon));
                        known.failing |= !is_for_later;
                    }
                }
            }
        }
    }

    pub(super) fn is_unanswered(&self, machine: &MachineId) -> bool {
        let report = self.inventory.reported(machine);
        report.is_some_and(|report| report.state == DeviceState::Unknown)
    }

    /// The machines by which leases count as short. Those of a driver that is only in doubt count: in
    /// some seconds it is known whether it works.
    pub(super) fn fleet_for_shortages(&self) -> Cow<'_, Fleet> {
        let is_down = |doubt: &Doubt| doubt.stage == Stage::Down;
        if !self.drivers.are_doubted() || self.drivers.doubted.values().any(is_down) {
            return Cow::Borrowed(&self.fleet);
        }
        Cow::Owned(Fleet {
            groups: self.inventory.last_fleet().groups.clone(),
            population: self.fleet.population.clone(),
        })
    }
}
