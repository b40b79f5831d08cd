//! Which machines are ours to wake: what the switchboard's ledger knows of it, and which commands
//! are on record.
//!
//! Ownership is a union: of the ledger, the agent's journal and state, and what devices show
//! (ADR 13). It ends when a machine is seen awake after our command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use directive::{AsleepBy, MachineId};
use jiff::Timestamp;
use tracing::debug;

use super::AgentCore;
use crate::state::Mark;

/// The intents of this agent by their numbers.
#[derive(Debug, Default)]
pub(super) struct Intents {
    /// The newest one.
    pub(super) last: u64,
    /// The newest one up to which all are on disk.
    recorded: u64,
    /// The newest one whose command went although it was not on disk in time.
    late: u64,
    /// Whether this life has numbered one.
    begun: bool,
}

impl Intents {
    /// Continues the numbers of a former life.
    pub(super) fn after(last: u64) -> Self {
        Self { last, recorded: last, late: 0, begun: false }
    }

    /// Numbers the next one, at `wall`. The first number of each life is the time in milliseconds,
    /// if that is higher than all before. An agent that has lost its files thus does not number
    /// anew what an older copy of its state, put back later, claims to contain.
    pub(super) fn next(&mut self, wall: Timestamp) -> u64 {
        let is_first = !std::mem::replace(&mut self.begun, true);
        let time = u64::try_from(wall.as_millisecond()).unwrap_or(0);
        self.last = self.last.saturating_add(1).max(if is_first { time } else { 0 });
        if is_first {
            // What lies between is no intent that could be missing.
            self.recorded = self.last - 1;
        }
        self.last
    }

    /// Whether the command of this intent went without a record, and there still is none.
    pub(super) fn is_lost(&self, number: u64) -> bool {
        number > self.recorded && number <= self.late
    }
}

impl AgentCore {
    /// All intents up to `number` are on disk, in the journal or the state file.
    pub fn recorded(&mut self, number: u64) {
        let before = self.intents.recorded;
        self.intents.recorded = before.max(number.min(self.intents.last));
        self.news |= before < self.intents.late;
    }

    /// The commands of the intents up to `number` go although not all of these are on disk. Reports
    /// say so until they are, or until the ledger has it that the machines are ours.
    pub fn unrecorded(&mut self, number: u64) {
        self.intents.late = self.intents.late.max(number);
        self.news = true;
    }

    /// The number of commands that went without a record, of which there still is none.
    #[must_use]
    pub fn lost_intents(&self) -> u64 {
        self.intents.late.saturating_sub(self.intents.recorded)
    }

    /// The state given to [`AgentCore::new`] contains intents of the journal that the state file
    /// does not have yet.
    pub fn note_folded(&mut self) {
        self.version += 1;
    }

    /// Takes from the switchboard which machines are ours. Each of them counts once: when the
    /// switchboard begins to say it, or says it anew with another time.
    pub(super) fn take_owned(
        &mut self,
        owned: &Arc<BTreeMap<MachineId, Timestamp>>,
        wall: Timestamp,
        now: Instant,
    ) {
        if Arc::ptr_eq(owned, &self.owned) {
            return;
        }
        let before = std::mem::replace(&mut self.owned, owned.clone());
        for (id, _) in owned.iter().filter(|(id, since)| before.get(*id) != Some(*since)) {
            self.own(id, wall, now);
        }
        for id in before.keys().filter(|id| !owned.contains_key(*id)) {
            if let Some(machine) = self.machines.get_mut(id) {
                machine.ledgered = false;
            }
        }
    }

    fn own(&mut self, id: &MachineId, wall: Timestamp, now: Instant) {
        // A machine that no driver of this agent claims is left to other agents.
        self.meet(id, now);
        let Some(machine) = self.machines.get_mut(id) else { return };
        machine.ledgered = true;
        self.news = true;
        if machine.own(wall, now) {
            debug!(machine = %id, "ours by the ledger");
            self.version += 1;
            self.restand(id, now);
        }
    }

    /// Takes the marks of a journal that could not be read at the start, and whose newest intent has
    /// the number `last`. Returns the number from which on a state contains them.
    pub fn take_late_marks(
        &mut self,
        marks: impl IntoIterator<Item = (MachineId, Mark)>,
        last: u64,
        wall: Timestamp,
        now: Instant,
    ) -> u64 {
        for (id, mark) in marks {
            self.meet(&id, now);
            match self.machines.get_mut(&id) {
                Some(machine) if mark.asleep_by == AsleepBy::Us => {
                    if machine.own(wall, now) {
                        debug!(machine = %id, "ours by the journal");
                        self.restand(&id, now);
                    }
                }
                Some(_) => {}
                None => drop(self.orphans.insert(id, mark)),
            }
        }
        // No state from before has this number, and no intent.
        self.intents.last = self.intents.last.max(last).saturating_add(1);
        self.version += 1;
        self.news = true;
        self.intents.last
    }
}
