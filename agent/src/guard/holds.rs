//! The holds: which machines the guard put to sleep in which act, until a timeline takes them over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use directive::{FeedId, GuardHold, GuardTable, MachineId};
use serde::{Deserialize, Serialize};

/// What the guard keeps across a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardSaved {
    /// The table held.
    pub table: Option<Arc<GuardTable>>,
    /// The number of the newest hold ever made.
    pub last_hold: u64,
    /// The holds that are not lifted.
    pub holds: Vec<GuardHold>,
}

impl GuardSaved {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Default)]
pub(super) struct Holds {
    last: u64,
    holds: BTreeMap<u64, (FeedId, Vec<MachineId>)>,
    /// The hold of each machine.
    held: HashMap<MachineId, u64>,
}

/// No agent makes so many holds. A larger number is a mistake of whoever says it.
const NUMBER_MAX: u64 = 1 << 52;

impl Holds {
    pub(super) fn restore(last: u64, holds: Vec<GuardHold>) -> Self {
        let mut restored = Self { last, ..Self::default() };
        for hold in holds {
            restored.last = restored.last.max(hold.number);
            restored.insert(hold.number, hold.feed, hold.machines);
        }
        restored
    }

    /// The number of the newest hold ever made.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn all(&self) -> Vec<GuardHold> {
        let hold = |(number, (feed, machines)): (&u64, &(FeedId, Vec<MachineId>))| GuardHold {
            number: *number,
            feed: feed.clone(),
            machines: machines.clone(),
        };
        self.holds.iter().map(hold).collect()
    }

    pub(super) fn is_held(&self, machine: &MachineId) -> bool {
        self.held.contains_key(machine)
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &MachineId> {
        self.held.keys()
    }

    /// Makes a hold with the next number.
    pub(super) fn add(&mut self, feed: FeedId, machines: Vec<MachineId>) -> GuardHold {
        self.last = self.last.saturating_add(1);
        self.insert(self.last, feed.clone(), machines.clone());
        GuardHold { number: self.last, feed, machines }
    }

    fn insert(&mut self, number: u64, feed: FeedId, machines: Vec<MachineId>) {
        self.held.extend(machines.iter().map(|machine| (machine.clone(), number)));
        self.holds.insert(number, (feed, machines));
    }

    /// Lifts the holds up to number `taken`. Returns their machines, in the order in which they
    /// went off.
    ///
    /// A number that was never made here belongs to an earlier life of the agent, whose state was
    /// lost. Nothing is lifted then, and the present holds get numbers after it, so that no later
    /// timeline takes them for those of that life.
    pub(super) fn lift(&mut self, taken: u64) -> Vec<MachineId> {
        if taken > self.last {
            if taken <= NUMBER_MAX {
                self.renumber(taken);
            }
            return Vec::new();
        }
        let kept = self.holds.split_off(&taken.saturating_add(1));
        let lifted = std::mem::replace(&mut self.holds, kept);
        let of = |(number, (_, machines)): (u64, (FeedId, Vec<MachineId>))| {
            machines.into_iter().map(move |machine| (number, machine))
        };
        let mut free = Vec::new();
        for (number, machine) in lifted.into_iter().flat_map(of) {
            if self.held.get(&machine) == Some(&number) {
                self.held.remove(&machine);
                free.push(machine);
            }
        }
        free
    }

    fn renumber(&mut self, after: u64) {
        self.last = after;
        self.held.clear();
        for (_, (feed, machines)) in std::mem::take(&mut self.holds) {
            self.add(feed, machines);
        }
    }
}
