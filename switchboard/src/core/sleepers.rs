//! Who put which machine to sleep, as far as the ledger and the agents' reports say: what agents are
//! told of it, and the sleepers that nobody wants asleep and nobody wakes.
//!
//! The ledger has a machine as ours from the moment at which it is due to go, or at which an agent
//! says that it put it to sleep, until it is seen awake. So an agent that has lost its state learns
//! again which machines it may wake (ADR 13). A machine that somebody else put to sleep is never
//! woken; it is shown until a person has it adopted or wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{AsleepBy, DeviceState, MachineId, MachineReport, Means, OWNED_MAX};
use jiff::Timestamp;

use super::off::OffCounts;
use super::{Answer, Core, Notice, Outputs, Refused};
use crate::lease::later;
use crate::ledger::{Event, LedgerState, Sleeper};
use crate::plan::Chosen;
use crate::view::{
    API_VERSION, AdoptedAnswer, AdoptedState, AdoptedView, SleeperView, SleepersView,
};
use crate::words::Named;

/// The sleepers, as they will be known to the ledger once all waiting entries are written.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    known: BTreeMap<MachineId, Sleeper>,
    /// What the ledger does not have yet.
    ours: BTreeSet<MachineId>,
    others: BTreeSet<MachineId>,
    awake: BTreeSet<MachineId>,
    /// Machines of ours that were seen asleep since they count as such.
    seen_asleep: BTreeSet<MachineId>,
    scanned: Option<Instant>,
    /// Whether they were looked for since agents were told of them last.
    has_scanned: bool,
    /// Whether agents have not been told yet what has changed.
    is_untold: bool,
    /// Machines of ours of which some agent does not know that they are.
    needed: BTreeSet<MachineId>,
    /// Whether agents must be told without delay.
    is_urgent: bool,
    /// The machines that sleep although nothing has them off, by cause.
    idle: OffCounts,
    not_by_us: SleepersView,
    out_of_reach: SleepersView,
    /// How many machines the last line of the log was about.
    told: u32,
    /// Machines that were not noted because there are too many.
    ignored: u64,
}

/// How often machines that sleep or slept are looked through; half as often where looks do much else.
const SCAN_EVERY: Duration = Duration::from_secs(2);
/// A sleep command may take effect as late as this. A machine that was never seen asleep is ours for
/// this long, even if its device says that it is awake.
const LATE_EFFECT: Duration = Duration::from_mins(10);
/// A machine of ours that no agent reaches is forgotten after this time: it may not exist any more.
const UNREACHED: Duration = Duration::from_hours(30 * 24);
/// Names of sleepers that are shown.
const SHOWN: usize = 10;
/// A sleeper of somebody else is logged when this has passed: an agent that has just started may not
/// know yet that it is ours.
const TOLD_AFTER: Duration = Duration::from_secs(10);

impl Sleepers {
    /// Continues from the ledger. A machine that was chosen before the ledger could say that it is
    /// ours is ours, unless somebody else is known to have put it to sleep.
    pub(super) fn resume(state: &LedgerState, wall: Timestamp) -> Self {
        let known = state.sleepers.clone();
        let mut sleepers = Self { known, is_untold: true, ..Self::default() };
        let is_due = |chosen: &Chosen| chosen.means == Means::Device && chosen.at <= wall;
        let chosen = state.selection.iter().filter(|(_, chosen)| is_due(chosen));
        let returning = state.selection.returning.iter();
        let returning = returning.filter(|(_, one)| one.means == Means::Device);
        for id in chosen.map(|(id, _)| id).chain(returning.map(|(id, _)| id)) {
            if !sleepers.known.contains_key(id) {
                sleepers.note(id, AsleepBy::Us, wall);
            }
        }
        sleepers
    }

    pub(super) fn by(&self, machine: &MachineId) -> Option<AsleepBy> {
        self.known.get(machine).map(|sleeper| sleeper.by)
    }

    /// Notes who put `machine` to sleep.
    fn note(&mut self, machine: &MachineId, by: AsleepBy, since: Timestamp) {
        if self.known.len() >= OWNED_MAX && !self.known.contains_key(machine) {
            self.ignored += 1;
            return;
        }
        self.take(machine, Sleeper { by, since });
        self.awake.remove(machine);
        let (to, from) = match by {
            AsleepBy::Us => (&mut self.ours, &mut self.others),
            AsleepBy::Other => (&mut self.others, &mut self.ours),
        };
        from.remove(machine);
        to.insert(machine.clone());
    }

    fn take(&mut self, machine: &MachineId, sleeper: Sleeper) {
        self.known.insert(machine.clone(), sleeper);
        self.seen_asleep.remove(machine);
        self.is_untold = true;
    }

    /// Notes that `machine` is awake again.
    fn end(&mut self, machine: &MachineId) {
        if self.known.remove(machine).is_none() {
            return;
        }
        self.seen_asleep.remove(machine);
        self.ours.remove(machine);
        self.others.remove(machine);
        self.awake.insert(machine.clone());
        self.is_untold = true;
    }

    /// The machine is about to be put to sleep; `draws` says that it is seen to run.
    pub(super) fn intend(&mut self, machine: &MachineId, draws: bool, wall: Timestamp) {
        if draws && self.by(machine) != Some(AsleepBy::Us) {
            self.note(machine, AsleepBy::Us, wall);
        }
    }

    /// An entry was dropped because the ledger has failed for too long: everything that the ledger
    /// does not have is found again.
    pub(super) fn forget_unwritten(&mut self, state: &LedgerState) {
        self.known.clone_from(&state.sleepers);
        self.scanned = None;
    }

    /// How many machines were not noted because there are too many.
    pub(super) fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Since when it is known who put `machine` to sleep.
    pub(super) fn since(&self, machine: &MachineId) -> Option<Timestamp> {
        self.known.get(machine).map(|sleeper| sleeper.since)
    }

    /// The machines that we put to sleep, as far as that is known.
    pub(super) fn ours(&self) -> impl Iterator<Item = &MachineId> {
        let ours = self.known.iter().filter(|(_, sleeper)| sleeper.by == AsleepBy::Us);
        ours.map(|(machine, _)| machine)
    }

    /// The machines that sleep although nothing has them off, by cause, as of the last scan.
    pub(super) fn idle(&self) -> &OffCounts {
        &self.idle
    }

    /// The sleepers that somebody else put to sleep and that nobody wants asleep.
    pub(super) fn not_by_us(&self) -> &SleepersView {
        &self.not_by_us
    }

    /// The sleepers of ours that no agent reaches.
    pub(super) fn out_of_reach(&self) -> &SleepersView {
        &self.out_of_reach
    }

    fn change(&mut self) -> Option<Event> {
        let ours = std::mem::take(&mut self.ours);
        let others = std::mem::take(&mut self.others);
        let awake = std::mem::take(&mut self.awake);
        let is_empty = ours.is_empty() && others.is_empty() && awake.is_empty();
        (!is_empty).then_some(Event::Sleepers { ours, others, awake })
    }
}

impl SleepersView {
    fn add(&mut self, machine: &MachineId, since: Timestamp) {
        self.count = self.count.saturating_add(1);
        if self.machines.len() < SHOWN {
            self.machines.push(SleeperView { machine: machine.clone(), since });
        }
    }
}

impl Core {
    /// Looks now and then through the machines that sleep or slept: who put them to sleep, and which are
    /// awake. If this look `has_done_much`, the next one does, unless that has waited for long.
    pub(super) fn see_sleepers(
        &mut self,
        wall: Timestamp,
        now: Instant,
        has_done_much: bool,
        outputs: &mut Outputs,
    ) {
        let since = |at: Instant| now.saturating_duration_since(at);
        let every = if has_done_much { 2 * SCAN_EVERY } else { SCAN_EVERY };
        if self.sleepers.scanned.is_some_and(|at| since(at) < every) {
            return;
        }
        let mut sleepers = std::mem::take(&mut self.sleepers);
        (sleepers.scanned, sleepers.has_scanned) = (Some(now), true);
        let mut not_by_us = SleepersView::default();
        let mut long_since = 0;
        let mut needed = BTreeSet::new();
        let asleep = self.inventory.sleepers().map(|(id, _)| id);
        let ids: BTreeSet<MachineId> = asleep.chain(sleepers.known.keys()).cloned().collect();
        for id in &ids {
            let is_wanted = self.states.contains_key(id);
            for (device, is_live) in self.inventory.reports_of(&self.policy, id, now) {
                if sleepers.see(id, device, is_live && !is_wanted, wall) {
                    needed.insert(id.clone());
                }
                if let Some(Sleeper { by: AsleepBy::Other, since }) = sleepers.known.get(id)
                    && device.state == DeviceState::Asleep
                    && !is_wanted
                {
                    long_since += u32::from(later(*since, TOLD_AFTER) <= wall);
                    not_by_us.add(id, *since);
                }
            }
        }
        let out_of_reach = self.unreached(&mut sleepers, &mut needed, wall, now);
        sleepers.is_urgent |= !needed.is_subset(&sleepers.needed);
        sleepers.needed = needed;
        (sleepers.not_by_us, sleepers.out_of_reach) = (not_by_us, out_of_reach);
        if sleepers.told != long_since {
            let examples = sleepers.not_by_us.machines.iter().map(|one| one.machine.clone());
            let named = Named { count: long_since, examples: examples.take(3).collect() };
            // Fewer of them are told only when there are none any more.
            if long_since > sleepers.told || long_since == 0 {
                outputs.notices.push(Notice::AsleepNotByUs(named));
            }
            sleepers.told = long_since;
        }
        self.sleepers = sleepers;
        self.sleepers.idle = self.idle_sleepers(now);
    }

    /// The machines of ours that no agent reports. Those whose sessions work are awake.
    fn unreached(
        &self,
        sleepers: &mut Sleepers,
        needed: &mut BTreeSet<MachineId>,
        wall: Timestamp,
        now: Instant,
    ) -> SleepersView {
        let mut out_of_reach = SleepersView::default();
        let mut over: Vec<MachineId> = Vec::new();
        for (id, sleeper) in &sleepers.known {
            if self.inventory.reported(id).is_some() || self.states.contains_key(id) {
                continue;
            }
            if self.inventory.draws(id) || later(sleeper.since, UNREACHED) <= wall {
                over.push(id.clone());
            } else if sleeper.by == AsleepBy::Us {
                needed.insert(id.clone());
                if !self.is_young(now) {
                    out_of_reach.add(id, sleeper.since);
                }
            }
        }
        for id in over {
            sleepers.end(&id);
        }
        out_of_reach
    }

    /// Records what has become known of sleepers, and tells agents which machines are ours.
    pub(super) fn record_sleepers(&mut self, wall: Timestamp, outputs: &mut Outputs) {
        if let Some(event) = self.sleepers.change() {
            self.note(event, wall);
        }
        let sleepers = &mut self.sleepers;
        let is_due = sleepers.is_urgent || std::mem::take(&mut sleepers.has_scanned);
        if !sleepers.is_untold && !sleepers.is_urgent || !is_due {
            return;
        }
        let ours = sleepers.known.iter().filter(|(_, sleeper)| sleeper.by == AsleepBy::Us);
        let owned = ours.map(|(id, sleeper)| (id.clone(), sleeper.since)).collect();
        outputs.owned = Some(Arc::new(owned));
        outputs.tells_owned = std::mem::take(&mut sleepers.is_urgent);
        sleepers.is_untold = false;
    }

    /// Has agents take over machines that sleep and that they did not put to sleep, and wake them
    /// when there is room. With `wake`, they come back before others.
    pub(super) fn adopt(
        &mut self,
        number: u64,
        machines: &BTreeSet<MachineId>,
        wake: bool,
        by: Option<String>,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Answer> {
        let unknown = machines.iter().find(|id| self.inventory.reported(id).is_none());
        if let Some(unknown) = unknown {
            return Some(Answer::Refused(Refused::UnknownMachine(unknown.clone())));
        }
        if let Some(error) = self.outbox.failure() {
            return Some(Answer::Refused(Refused::from(error)));
        }
        let sleeps = |id: &&MachineId| {
            let device = self.inventory.reported(id);
            let is_awake = device.is_some_and(|device| device.state == DeviceState::Awake);
            !is_awake && (wake || self.sleepers.by(id) != Some(AsleepBy::Us))
        };
        let taken: BTreeSet<MachineId> = machines.iter().filter(sleeps).cloned().collect();
        if taken.is_empty() {
            return Some(Answer::Adopted(self.adopted_answer(machines, wall, now)));
        }
        // The machines that need nothing are in the answer, too.
        self.adopting.insert(number, machines.clone());
        let event = Event::Adopted { machines: taken, wake, by };
        self.queue(event, wall, Some(number));
        None
    }

    /// An adoption is durable.
    pub(super) fn adopted(
        &mut self,
        number: u64,
        (machines, wake): (&BTreeSet<MachineId>, bool),
        at: Timestamp,
        (wall, now): (Timestamp, Instant),
    ) -> Answer {
        for id in machines {
            self.sleepers.take(id, Sleeper { by: AsleepBy::Us, since: at });
            if self.selection.current(id, self.schedule).is_none() {
                self.release(id, self.schedule);
                if wake {
                    self.raises.prefer(id);
                }
            }
        }
        self.sleepers.is_urgent = true;
        let asked = self.adopting.remove(&number);
        let asked = asked.as_ref().unwrap_or(machines);
        Answer::Adopted(self.adopted_answer(asked, wall, now))
    }

    fn adopted_answer(
        &self,
        machines: &BTreeSet<MachineId>,
        wall: Timestamp,
        now: Instant,
    ) -> AdoptedAnswer {
        let view = |id: &MachineId| {
            let (state, waits_for) = match self.selection.current(id, self.schedule) {
                Some(chosen) => {
                    let why = match chosen.lease() {
                        Some(lease) => format!("lease {lease} needs its power"),
                        None => "its feed has no power for it".to_owned(),
                    };
                    (AdoptedState::WantedAsleep, Some(why))
                }
                None if self.inventory.draws(id) => (AdoptedState::Awake, None),
                None => {
                    let waits = self.waits_for(id, wall, now);
                    (AdoptedState::Returning, waits.map(|why| why.to_string()))
                }
            };
            AdoptedView { machine: id.clone(), state, waits_for }
        };
        AdoptedAnswer {
            api_version: API_VERSION,
            timezone: self.timezone(),
            machines: machines.iter().map(view).collect(),
        }
    }
}

impl Sleepers {
    /// Takes in what the device of a machine shows. `may_end` says that the report is recent and
    /// that the machine may run. Returns whether its agent must be told that it is ours.
    fn see(
        &mut self,
        id: &MachineId,
        device: &MachineReport,
        may_end: bool,
        wall: Timestamp,
    ) -> bool {
        let known = self.known.get(id).copied();
        let is_ours = known.is_some_and(|known| known.by == AsleepBy::Us);
        match (device.state, device.asleep_by) {
            (_, Some(AsleepBy::Us)) if !is_ours => self.note(id, AsleepBy::Us, wall),
            (DeviceState::Asleep, Some(AsleepBy::Other)) if known.is_none() => {
                self.note(id, AsleepBy::Other, wall);
            }
            (DeviceState::Awake, None) if may_end => {
                let is_read = |since: Timestamp| device.read_at.is_some_and(|read| read >= since);
                let is_over = known.is_some_and(|known| match known.by {
                    AsleepBy::Other => true,
                    AsleepBy::Us => {
                        let is_late = later(known.since, LATE_EFFECT) <= wall;
                        is_read(known.since) && (self.seen_asleep.contains(id) || is_late)
                    }
                });
                if is_over {
                    self.end(id);
                }
            }
            _ => {}
        }
        let is_asleep = device.state == DeviceState::Asleep;
        if is_asleep && is_ours && !self.seen_asleep.contains(id) {
            self.seen_asleep.insert(id.clone());
        }
        is_ours && (device.unrecorded || (is_asleep && device.asleep_by == Some(AsleepBy::Other)))
    }
}
