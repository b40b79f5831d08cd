//! Issues commands: puts each machine into the queue for its next command, and issues the commands
//! that are due. A wake is checked twice: when it is queued and when it is issued.

use std::time::Instant;

use directive::MachineId;
use jiff::Timestamp;

use super::machine::{Machine, Want};
use super::{AgentCore, Kind, Output};
use crate::journal::{Cause, Intent, Order};
use crate::state::Mark;

impl AgentCore {
    /// Whether this machine may be woken now.
    pub(super) fn may_wake(&self, id: &MachineId, machine: &Machine, now: Instant) -> bool {
        machine.raised_in <= self.durable && self.receiver.may_raise(id, now)
    }

    pub(super) fn requeue_wakes(&mut self, now: Instant) {
        for id in self.to_wake.iter().cloned().collect::<Vec<_>>() {
            self.requeue(&id, now);
        }
    }

    /// Puts a machine into the queue for its next command, unless a command is in progress. A reading
    /// that is under way is no reason for a machine to wait that must sleep: a device that hangs does
    /// not answer it for long.
    pub(super) fn requeue(&mut self, id: &MachineId, now: Instant) {
        let Some(machine) = self.machines.get(id) else { return };
        let may_wake = machine.want() == Want::Awake && self.may_wake(id, machine, now);
        let may_wake = may_wake && self.guard_allows(id, now);
        let Some(machine) = self.machines.get(id) else { return };
        let timing = &self.timings[machine.assignment];
        let (kind, at) = machine.next(timing, may_wake, now);
        let goes = machine.busy.is_none()
            || (kind == Kind::Sleep && at <= now && machine.waits_for_a_reading());
        let next = goes.then_some((kind, at, machine.order));
        let (driver, queued) = (machine.driver, machine.queued);
        let due = |waits: Option<(Kind, Instant, u64)>| {
            waits.filter(|(_, at, _)| *at <= now).map(|(kind, ..)| kind)
        };
        // A machine that already waits for the same command keeps its place.
        if queued == next || (due(queued).is_some() && due(queued) == due(next)) {
            return;
        }
        if let Some(queued) = queued {
            self.queues[driver].remove(queued, id);
        }
        if let Some(next) = next {
            if next.0 == Kind::Sleep && at <= now {
                let wait = self.queues[driver].wait(self.command_time(driver));
                self.guard.goes_by(id, now + wait, now);
            }
            self.queues[driver].insert(next, id);
        }
        if let Some(machine) = self.machines.get_mut(id) {
            machine.queued = next;
        }
    }

    /// Announces a command that is about to go, for the journal.
    fn intend(&mut self, id: &MachineId, kind: Kind, wall: Timestamp) {
        let order = match kind {
            Kind::Sleep => Order::Sleep,
            Kind::Wake => Order::Wake,
            Kind::Read => return,
        };
        let number = self.intents.next(wall);
        let cause = match self.receiver.number() {
            _ if kind == Kind::Sleep && self.guard.is_held(id) => Cause::Guard,
            Some(number) => Cause::Timeline(number),
            None => Cause::Unheard,
        };
        if let Some(machine) = self.machines.get_mut(id) {
            machine.intent = number;
            machine.ledgered = self.owned.contains_key(id);
        }
        let intent = Intent { number, at: wall, machine: id.clone(), order, cause };
        self.outputs.push_back(Output::Intend(intent));
    }

    /// Issues the commands that are due, as far as the drivers have room.
    pub(super) fn issue(&mut self, wall: Timestamp, now: Instant) {
        for driver in 0..self.queues.len() {
            while let Some((kind, id)) = self.queues[driver].pop(now) {
                let Some(machine) = self.machines.get(&id) else { continue };
                let may_wake = kind == Kind::Wake && self.may_wake(&id, machine, now);
                let allowed = kind != Kind::Wake || (may_wake && self.guard_allows(&id, now));
                let Some(machine) = self.machines.get_mut(&id) else { continue };
                machine.queued = None;
                if !allowed {
                    self.requeue(&id, now);
                    continue;
                }
                if machine.give_up_read(now) {
                    self.queues[driver].ended(Kind::Read, now);
                    self.outputs.push_back(Output::GiveUpRead(id.clone()));
                }
                let Some(machine) = self.machines.get_mut(&id) else { continue };
                let (mark, drew) = (machine.mark(), machine.draws());
                machine.issued(kind, wall, now);
                // The time of a repeated command need not be stored, but who put the machine to
                // sleep must be, and whether it may be booting.
                let matters =
                    |mark: Option<Mark>| mark.map(|mark| (mark.asleep_by, mark.woken_at.is_some()));
                if matters(machine.mark()) != matters(mark) {
                    self.version += 1;
                }
                self.intend(&id, kind, wall);
                match kind {
                    Kind::Sleep => self.guard.told_to_sleep(&id, drew, now),
                    Kind::Wake => self.guard.told_to_wake(&id, now),
                    Kind::Read => {}
                }
                self.note_change(&id, now);
                self.queues[driver].started(kind, now);
                self.news |= kind != Kind::Read;
                self.outputs.push_back(Output::Command { driver, machine: id, kind });
            }
        }
    }
}
