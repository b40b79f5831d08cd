//! The table of managed machines: those that a driver claims and that are declared, remembered or
//! named by a timeline. The table has a bound; a running machine that nothing names any more makes
//! room.

use std::collections::BTreeSet;
use std::time::Instant;

use directive::{MachineId, Standing};
use tracing::error;

use super::machine::Machine;
use super::{AgentCore, Output};

impl AgentCore {
    /// Adds the machines that the timeline names, so that they are read before they are due.
    pub(super) fn meet_named(&mut self, now: Instant) {
        let Some(timeline) = &self.receiver.saved().timeline else { return };
        let named: BTreeSet<MachineId> =
            timeline.steps.iter().flat_map(|step| step.machines.iter().cloned()).collect();
        for machine in named {
            self.meet(&machine, now);
        }
    }

    /// Adds a machine if a driver claims it.
    pub(super) fn meet(&mut self, id: &MachineId, now: Instant) {
        if self.machines.contains_key(id) {
            return;
        }
        let Some(driver) = self.config.drivers.iter().position(|driver| driver.claims.claims(id))
        else {
            return;
        };
        if self.machines.len() >= self.config.machines_max && !self.forget_one() {
            error!(machine = %id, max = self.config.machines_max, "too many machines, this one is not looked after");
            self.outputs.push_back(Output::Ignored(id.clone()));
            return;
        }
        let mark = self.orphans.remove(id);
        self.machines.insert(id.clone(), Machine::new(driver, mark, self.standing(id)));
        self.restand(id, now);
    }

    /// Makes room: a running machine that the timeline does not name can be added again later.
    pub(super) fn forget_one(&mut self) -> bool {
        let timeline = self.receiver.saved().timeline.as_ref();
        let named: BTreeSet<&MachineId> = timeline
            .iter()
            .flat_map(|timeline| &timeline.steps)
            .flat_map(|step| &step.machines)
            .collect();
        let declared = |id: &MachineId| {
            self.config.drivers.iter().any(|driver| driver.claims.machines.contains(id))
        };
        let stranger = self.machines.iter().find(|(id, machine)| {
            machine.is_forgettable()
                && !named.contains(id)
                && !declared(id)
                && self.standing(id) == Standing::default()
        });
        let Some(id) = stranger.map(|(id, _)| id.clone()) else { return false };
        if let Some(machine) = self.machines.remove(&id)
            && let Some(queued) = machine.queued
        {
            self.queues[machine.driver].remove(queued, &id);
        }
        true
    }
}
