//! The table of managed machines: machines that a driver claims and that are declared, stored or
//! named by a timeline. The table is bounded; a running machine that nothing names any more makes
//! room for others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use directive::{GroupId, MachineId, Standing};
use tracing::debug;

use super::machine::Machine;
use super::{AgentCore, Output};

impl AgentCore {
    /// Adds the machines that the timeline names, so that they are read before they are due.
    pub(super) fn meet_named(&mut self, now: Instant) {
        let Some(timeline) = &self.receiver.saved().timeline else { return };
        let mut named: BTreeMap<MachineId, GroupId> = BTreeMap::new();
        for step in &timeline.steps {
            let group = || step.group.clone();
            named.extend(step.machines.iter().map(|machine| (machine.clone(), group())));
        }
        for (machine, group) in named {
            self.meet(&machine, now);
            if let Some(machine) = self.machines.get_mut(&machine) {
                machine.group = Some(group);
            }
        }
    }

    /// Adds a machine if a driver claims it.
    pub(super) fn meet(&mut self, id: &MachineId, now: Instant) {
        if self.machines.contains_key(id) {
            return;
        }
        let assignments = &self.config.assignments;
        let Some(index) = assignments.iter().position(|one| one.claims.claims(id)) else { return };
        let driver = assignments[index].driver;
        if self.machines.len() >= self.config.machines_max && !self.forget_one() {
            debug!(machine = %id, max = self.config.machines_max, "too many machines, ignored");
            self.changes.ignored(now);
            self.outputs.push_back(Output::Ignored(id.clone()));
            return;
        }
        let mark = self.orphans.remove(id);
        let machine = Machine::new(index, driver, mark, self.standing(id), now);
        self.machines.insert(id.clone(), machine);
        self.note_met();
        self.restand(id, now);
    }

    /// Removes one machine to make room: a running one that the timeline does not name, which can
    /// be added again later.
    pub(super) fn forget_one(&mut self) -> bool {
        let timeline = self.receiver.saved().timeline.as_ref();
        let named: BTreeSet<&MachineId> = timeline
            .iter()
            .flat_map(|timeline| &timeline.steps)
            .flat_map(|step| &step.machines)
            .collect();
        let declared = |id: &MachineId| {
            self.config.assignments.iter().any(|one| one.claims.machines.contains(id))
        };
        let stranger = self.machines.iter().find(|(id, machine)| {
            machine.is_forgettable()
                && !self.guard.watches(id)
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
