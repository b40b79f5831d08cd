//! The guard inside the core: what it sees of the machines, and what follows from its holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    Action, DeviceState, GuardFeed, GuardTable, MachineId, Means, MeterId, MeterReading, Offer,
    Standing, Timeline,
};
use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::machine::{Machine, Want};
use super::{AgentCore, Output};
use crate::guard::{Fleet, OwnMachine, Sampled, Seen, own_table};

/// The longest time between two reports of the guard.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// What the core keeps for the guard's sake.
#[derive(Debug, Default)]
pub(super) struct Guarding {
    /// The hold up to which the newest timeline has taken the holds over. They are lifted when that
    /// timeline's due steps have been applied.
    taken: Option<u64>,
    /// Whether the guard has kept back a wake since the last sample.
    refused: bool,
    /// Whether there is a new sample or table since wakes were last looked through.
    sampled: bool,
    reported: Option<Instant>,
    news: bool,
    /// Whether machines became known since the agent's own table was made.
    met: bool,
    /// How many tables were made of the agent's own settings.
    own_tables: u64,
    /// The machines that are read more often, because one that sleeps may have woken by itself.
    doubted: BTreeSet<MachineId>,
    /// Whether it was logged, or need not be, that the agent's own settings are not used.
    told_unused: bool,
}

/// The machines, as the guard sees them.
struct Reached<'a> {
    machines: &'a BTreeMap<MachineId, Machine>,
    applied: &'a BTreeMap<MachineId, Standing>,
    /// Which drivers take no further command now.
    stuck: Vec<bool>,
}

impl Fleet for Reached<'_> {
    fn seen(&self, id: &MachineId) -> Seen {
        let Some(machine) = self.machines.get(id) else { return Seen::Other };
        if self.applied.get(id).is_some_and(|standing| standing.action.sheds())
            && machine.want() != Want::Asleep
        {
            return Seen::Other;
        }
        match machine.guarded() {
            Seen::Runs if self.stuck[machine.driver] => Seen::Silent,
            seen => seen,
        }
    }
}

impl AgentCore {
    /// What the machine may do: by the timeline, and asleep as long as the guard holds it.
    pub(super) fn standing(&self, id: &MachineId) -> Standing {
        let planned = self.receiver.applied().get(id).copied().unwrap_or_default();
        if self.guard.is_held(id) {
            let action = planned.action.max(Action::Curtail);
            return Standing { action, means: Means::Device };
        }
        planned
    }

    /// Takes the guard table that the switchboard says.
    pub(super) fn take_guard_table(&mut self, table: &Arc<GuardTable>, now: Instant) {
        if !self.guard.take_table(table) {
            return;
        }
        debug!(version = %table.version, "guard table taken");
        let is_own = |feed: &&GuardFeed| feed.owner.as_ref() == Some(&self.config.receiver);
        for GuardFeed { feed, meter, .. } in table.feeds.iter().filter(is_own) {
            if !meter.as_ref().is_some_and(|meter| self.meters.has(meter)) {
                warn!(%feed, ?meter, "guard: this agent does not read the feed's meter");
            }
        }
        self.version += 1;
        self.guarding.news = true;
        self.guarding.sampled = true;
        self.meet_guarded(now);
    }

    /// Guards by the agent's own settings, until a table is heard. The machines are all that are
    /// known, in the order of the assignments and then of their names.
    pub(super) fn guard_alone(&mut self) {
        self.guarding.met = false;
        if self.config.own_guards.is_empty() {
            return;
        }
        if self.guard.version().is_some() {
            if !std::mem::replace(&mut self.guarding.told_unused, true) {
                info!("guard: by the table held, [guard.NAME] of the configuration is not used");
            }
            return;
        }
        self.guarding.told_unused = true;
        let mut machines: Vec<(usize, &MachineId)> =
            self.machines.iter().map(|(id, machine)| (machine.assignment, id)).collect();
        machines.sort_unstable();
        let reached = |(assignment, id): (usize, &MachineId)| OwnMachine {
            id: id.clone(),
            sleeps: self.timings[assignment].follow_sleep,
            wakes: self.timings[assignment].follow_wake,
        };
        let machines: Vec<OwnMachine> = machines.into_iter().map(reached).collect();
        self.guarding.own_tables += 1;
        let own = &self.config.receiver;
        let table = own_table(own, &self.config.own_guards, &machines, self.guarding.own_tables);
        self.guard.take_own_table(&Arc::new(table));
        self.guarding.news = true;
    }

    /// A machine became known: the agent's own settings may be about it.
    pub(super) fn note_met(&mut self) {
        self.guarding.met = true;
    }

    /// Whether machines became known that are not in the agent's own table yet.
    pub(super) fn has_met(&self) -> bool {
        self.guarding.met
    }

    /// Adds the machines that the guard may choose, so that they are read before they are needed.
    pub(super) fn meet_guarded(&mut self, now: Instant) {
        let Some(table) = self.guard.table().cloned() else { return };
        let machines: Vec<(MachineId, usize)> =
            self.guard.machines().map(|(id, cohort)| (id.clone(), cohort)).collect();
        for (id, cohort) in machines {
            self.meet(&id, now);
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.group.get_or_insert_with(|| table.cohorts[cohort].group.clone());
            }
        }
    }

    /// Notes which holds a timeline takes over, if it is taken.
    pub(super) fn note_holds_taken(&mut self, timeline: &Timeline, offer: Offer) {
        if offer == Offer::Taken {
            self.guarding.taken = timeline.holds_taken.get(&self.config.receiver).copied();
        }
    }

    /// Lifts the holds that the newest timeline has taken over. Its lowerings that are due have
    /// been applied, so that no machine may run in between.
    pub(super) fn lift_holds(&mut self, now: Instant) {
        let Some(taken) = self.guarding.taken.take() else { return };
        let last = self.guard.last_hold();
        let free = self.guard.lift(taken);
        if !free.is_empty() || self.guard.last_hold() != last {
            self.version += 1;
            self.guarding.news = true;
        }
        for id in free {
            debug!(machine = %id, "guard hold lifted");
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.raised_in = self.version;
            }
            self.restand(&id, now);
        }
    }

    /// For each driver, whether no further command can be handed to it, and those under way take
    /// longer than they normally do.
    fn stuck(&self, now: Instant) -> Vec<bool> {
        let drivers = self.queues.iter().enumerate();
        drivers.map(|(driver, queue)| queue.is_stuck(self.command_time(driver), now)).collect()
    }

    /// Gives the guard a meter's answer, and commands the machines that it chooses.
    pub(super) fn guard_sample(
        &mut self,
        meter: &MeterId,
        reading: Option<&MeterReading>,
        wall: Timestamp,
        now: Instant,
    ) {
        if self.guard.needs_time() {
            self.guard.advance(self.receiver.clock(wall, now));
        }
        let stuck = self.stuck(now);
        let fleet = Reached { machines: &self.machines, applied: self.receiver.applied(), stuck };
        let sampled = self.guard.measured(meter, reading, &fleet, wall, now);
        let Sampled { acts, tripped, over, news, fresh } = sampled;
        self.guarding.sampled |= fresh;
        self.guarding.news |= news;
        self.doubt_sleepers(now);
        self.outputs.extend(tripped.into_iter().map(Output::GuardTripped));
        self.outputs.extend(over.into_iter().map(Output::FeedOver));
        if acts.is_empty() {
            return;
        }
        // A permit was given for a room that is not there.
        self.receiver.withdraw();
        self.version += 1;
        self.news = true;
        for id in acts.iter().flat_map(|act| &act.machines) {
            debug!(machine = %id, "held by the guard");
            if let Some(machine) = self.machines.get_mut(id) {
                self.order += 1;
                machine.order = self.order;
            }
            self.restand(id, now);
        }
        self.issue(wall, now);
    }

    /// Has the machines below feeds that carry too much read more often, where no machine is left to put
    /// to sleep: the power may be that of one that woke by itself.
    fn doubt_sleepers(&mut self, now: Instant) {
        let doubted: BTreeSet<MachineId> = self.guard.below_bare_feeds(now).cloned().collect();
        let before = std::mem::take(&mut self.guarding.doubted);
        for id in before.union(&doubted) {
            // A machine that became known anew is not doubted yet.
            let is_doubted = doubted.contains(id);
            if let Some(machine) = self.machines.get_mut(id)
                && std::mem::replace(&mut machine.doubted, is_doubted) != is_doubted
            {
                self.requeue(id, now);
            }
        }
        self.guarding.doubted = doubted;
    }

    /// Tells the guard that a machine's wanted state has changed from `was`; `drew` says whether the
    /// machine drew power.
    pub(super) fn guard_restood(&mut self, id: &MachineId, was: Want, drew: bool, now: Instant) {
        let Some(machine) = self.machines.get(id) else { return };
        match (was, machine.want()) {
            (Want::Asleep, Want::Asleep) => {}
            // A command that waits for a reading may wait for long: it is credited when it goes.
            (_, Want::Asleep) => self.guard.must_sleep(id, drew && !machine.is_read_first(), now),
            (Want::Asleep, _) if machine.asleep_by().is_none() => self.guard.stays_awake(id),
            _ => {}
        }
    }

    /// Tells the guard what a device says.
    pub(super) fn guard_read(&mut self, id: &MachineId, now: Instant) {
        let Some(machine) = self.machines.get(id) else { return };
        if machine.is_asleep() {
            self.guard.fell_asleep(id, machine.watts(), now);
        } else if machine.want() != Want::Asleep && machine.is_read(DeviceState::Awake) {
            self.guard.stays_awake(id);
        }
    }

    /// Whether the guard lets the machine wake. If not, the machine is looked at again after the
    /// next sample.
    pub(super) fn guard_allows(&mut self, id: &MachineId, now: Instant) -> bool {
        let allows = self.guard.allows_wake(id, now);
        self.guarding.refused |= !allows;
        allows
    }

    /// Looks again at the wakes that the guard has kept back, if there is a new sample.
    pub(super) fn look_at_refused_wakes(&mut self, now: Instant) {
        if !std::mem::take(&mut self.guarding.sampled) {
            return;
        }
        if std::mem::take(&mut self.guarding.refused) {
            self.requeue_wakes(now);
        }
    }

    /// When the guard is next to be reported, if there is one.
    pub(super) fn next_guard_report(&self, now: Instant) -> Option<Instant> {
        if !self.guard.is_at_work() {
            return None;
        }
        let wait = if self.guarding.news { self.config.timing.report_gap } else { REPORT_EVERY };
        Some(self.guarding.reported.map_or(now, |at| at + wait))
    }

    pub(super) fn report_guard(&mut self, wall: Timestamp, now: Instant) {
        if self.next_guard_report(now).is_none_or(|due| now < due) {
            return;
        }
        self.guarding.reported = Some(now);
        self.guarding.news = false;
        let stuck = self.stuck(now);
        let fleet = Reached { machines: &self.machines, applied: self.receiver.applied(), stuck };
        self.outputs.push_back(Output::ReportGuard(self.guard.report(&fleet, wall, now)));
    }
}
