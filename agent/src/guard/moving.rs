//! Machines whose power is changing, as far as one feed's meter has not shown it yet.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use directive::Watts;

/// A sum of powers by machine, each until the meter must have shown it.
#[derive(Debug, Default)]
pub(super) struct Moving {
    by_time: BTreeMap<(Instant, usize), Watts>,
    until: HashMap<usize, Instant>,
    sum: Watts,
}

impl Moving {
    /// Adds a machine, or changes it: its power has changed at `done`.
    pub(super) fn insert(&mut self, machine: usize, done: Instant, watts: Watts) {
        self.remove(machine);
        self.by_time.insert((done, machine), watts);
        self.until.insert(machine, done);
        self.sum += watts;
    }

    pub(super) fn remove(&mut self, machine: usize) {
        if let Some(done) = self.until.remove(&machine)
            && let Some(watts) = self.by_time.remove(&(done, machine))
        {
            self.sum = self.sum - watts;
        }
    }

    /// Removes the machines whose change the meter shows: those that were done by `shown`.
    pub(super) fn settle(&mut self, shown: Instant) {
        while let Some(entry) = self.by_time.first_entry()
            && entry.key().0 <= shown
        {
            let ((_, machine), watts) = entry.remove_entry();
            self.until.remove(&machine);
            self.sum = self.sum - watts;
        }
    }

    pub(super) fn contains(&self, machine: usize) -> bool {
        self.until.contains_key(&machine)
    }

    /// The machines, ordered by time.
    pub(super) fn machines(&self) -> impl Iterator<Item = usize> + '_ {
        self.by_time.keys().map(|(_, machine)| *machine)
    }

    /// The power of all machines.
    pub(super) fn sum(&self) -> Watts {
        self.sum
    }

    /// The power of all machines but one.
    pub(super) fn sum_without(&self, machine: usize) -> Watts {
        let own = self.until.get(&machine).and_then(|done| self.by_time.get(&(*done, machine)));
        self.sum - own.copied().unwrap_or_default()
    }
}
