//! How a decision changes the selection, as the ledger records it: only machines whose times change,
//! those with the same times together, and their names shortened. A decision of a site with 10,000
//! machines would otherwise write megabytes.

use std::collections::BTreeMap;

use directive::MachineId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::{Chosen, Returning, Selection};

/// What makes the selection of one decision out of that of the decision before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionChange {
    /// Whether the change begins with an empty selection: what was recorded before does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    off: Vec<Changed<Vec<Chosen>>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    woken: Vec<Changed<Timestamp>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    returning: Vec<Changed<Returning>>,
}

/// Machines that have the same value from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Changed<T> {
    /// The value; `None` if these machines have none any more.
    to: Option<T>,
    /// The machines, in the order of their names.
    #[serde(with = "super::names")]
    machines: Vec<MachineId>,
}

impl SelectionChange {
    /// The change from `before` to `after`, or `None` if nothing changes. Without `before`, the
    /// change begins anew.
    #[must_use]
    pub fn between(before: Option<&Selection>, after: &Selection) -> Option<Self> {
        let none = Selection::default();
        let (anew, before) = (before.is_none(), before.unwrap_or(&none));
        let change = Self {
            anew,
            off: grouped(differences(&before.off, &after.off)),
            woken: grouped(differences(&before.woken, &after.woken)),
            returning: grouped(differences(&before.returning, &after.returning)),
        };
        (change != Self::default()).then_some(change)
    }

    /// Makes the change to `selection`.
    pub fn apply(&self, selection: &mut Selection) {
        if self.anew {
            *selection = Selection::default();
        }
        apply(&self.off, &mut selection.off);
        apply(&self.woken, &mut selection.woken);
        apply(&self.returning, &mut selection.returning);
    }

    /// The one change that does what this one and then `next` do.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        if next.anew {
            return next;
        }
        Self {
            anew: self.anew,
            off: merged(&self.off, &next.off),
            woken: merged(&self.woken, &next.woken),
            returning: merged(&self.returning, &next.returning),
        }
    }
}

type ByMachine<T> = BTreeMap<MachineId, T>;

/// The machines whose values differ, with the values that they have in `after`.
fn differences<'a, T: PartialEq>(
    before: &'a ByMachine<T>,
    after: &'a ByMachine<T>,
) -> Vec<(&'a MachineId, Option<&'a T>)> {
    let mut different = Vec::new();
    // Both are in the order of the names, so that no machine has to be looked up.
    let mut old = before.iter().peekable();
    for (machine, value) in after {
        while let Some((gone, _)) = old.next_if(|(other, _)| *other < machine) {
            different.push((gone, None));
        }
        let was = old.next_if(|(other, _)| *other == machine).map(|(_, value)| value);
        if was != Some(value) {
            different.push((machine, Some(value)));
        }
    }
    different.extend(old.map(|(gone, _)| (gone, None)));
    different
}

/// Puts machines with the same value together. `changes` are in the order of the names.
fn grouped<T: Ord + Clone>(changes: Vec<(&MachineId, Option<&T>)>) -> Vec<Changed<T>> {
    let mut by_value: BTreeMap<Option<&T>, Vec<MachineId>> = BTreeMap::new();
    for (machine, value) in changes {
        by_value.entry(value).or_default().push(machine.clone());
    }
    let changed = |(to, machines): (Option<&T>, _)| Changed { to: to.cloned(), machines };
    by_value.into_iter().map(changed).collect()
}

fn apply<T: Clone>(changes: &[Changed<T>], values: &mut ByMachine<T>) {
    for Changed { to, machines } in changes {
        for machine in machines {
            match to {
                Some(value) => drop(values.insert(machine.clone(), value.clone())),
                None => drop(values.remove(machine)),
            }
        }
    }
}

fn merged<T: Ord + Clone>(first: &[Changed<T>], next: &[Changed<T>]) -> Vec<Changed<T>> {
    let mut last: BTreeMap<&MachineId, Option<&T>> = BTreeMap::new();
    for Changed { to, machines } in first.iter().chain(next) {
        last.extend(machines.iter().map(|machine| (machine, to.as_ref())));
    }
    grouped(last.into_iter().collect())
}

#[cfg(test)]
mod tests;
