//! The directive: a numbered timeline of what each machine may do until the horizon.
//!
//! A timeline is state, not a list of changes: the newest step at or before an instant tells what a
//! machine may do then, and a machine that no step names may run. So losing or repeating one loses
//! nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{GroupId, LeaseId, MachineId};

/// The number of a timeline: a later epoch wins, and within one epoch a later plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Counts how often a switchboard has opened the ledger.
    pub epoch: u64,
    /// Counts plans within one epoch.
    pub generation: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.generation)
    }
}

/// What a machine may do. Ordered from free to forbidden: a later one is a *lowering* of power, an
/// earlier one a *raising*.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Served with work.
    #[default]
    Run,
    /// Frozen: a present session keeps working, a new one is parked.
    Hold,
    /// Taken off: asleep where an actuator reaches it, else starved of new work.
    Drain,
    /// As [`Action::Drain`], at once; ordinary ramps do not apply.
    Curtail,
    /// Off, and put back to sleep when it wakes.
    Lockout,
}

impl Action {
    /// Whether the machine must go off.
    #[must_use]
    pub fn sheds(self) -> bool {
        self >= Self::Drain
    }
}

/// How a machine is taken off.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// An actuator puts it to sleep: it is served work until it is confirmed asleep.
    #[default]
    Device,
    /// Nothing reaches it but the proxy: no new work from the due moment. This promises no watts.
    Starve,
}

/// What a machine may do just now, as applied. Machines without one may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What it may do.
    pub action: Action,
    /// How it is taken off.
    pub means: Means,
}

/// From `at` on, `machines` may do `action`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When the step is due.
    pub at: Timestamp,
    /// The group whose machines these are.
    pub group: GroupId,
    /// What they may do from then on.
    pub action: Action,
    /// How they are taken off, if they are.
    pub means: Means,
    /// The machines, in the order in which they are commanded.
    pub machines: Vec<MachineId>,
    /// The lease this step serves, if one does.
    pub lease: Option<LeaseId>,
    /// Why, in words for an operator.
    pub reason: String,
}

/// The newest ledger entry the sender had written: receivers keep it with the timeline, where it
/// tells later whether the ledger was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// Sequence number of the entry.
    pub seq: u64,
    /// Its hash, hex.
    pub hash: String,
}

/// All steps of the plan horizon, numbered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Older numbers change nothing; the same twice changes nothing.
    pub number: Generation,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Until when the steps were planned.
    pub horizon: Timestamp,
    /// The ledger's head when it was made.
    pub ledger_head: Option<LedgerHead>,
    /// Steps in order of time. If two are due at the same time for one machine, the later in the
    /// list is valid.
    pub steps: Vec<Step>,
}

impl Timeline {
    /// What every named machine may do at `at`. A machine that is not in the map may run.
    #[must_use]
    pub fn standing_at(&self, at: Timestamp) -> BTreeMap<MachineId, Standing> {
        self.wanted_at(at)
            .into_iter()
            .map(|(machine, standing)| (machine.clone(), standing))
            .collect()
    }

    /// The same without copying names: receivers ask twice a second, for all machines of a site.
    pub(crate) fn wanted_at(&self, at: Timestamp) -> HashMap<&MachineId, Standing> {
        let mut standing = HashMap::new();
        for step in self.steps.iter().filter(|step| step.at <= at) {
            for machine in &step.machines {
                if step.action == Action::Run {
                    standing.remove(machine);
                } else {
                    standing.insert(machine, Standing { action: step.action, means: step.means });
                }
            }
        }
        standing
    }

    /// When the next step after `at` is due.
    #[must_use]
    pub fn next_due(&self, at: Timestamp) -> Option<Timestamp> {
        self.steps.iter().map(|step| step.at).filter(|due| *due > at).min()
    }
}

/// The right to raise power for a while. Without a fresh one nothing rises, scheduled restores
/// included. A field that is not known here may be a condition, so a permit with one cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// The timeline it is for.
    pub number: Generation,
    /// Counts permits within one epoch, so that each is used once.
    pub serial: u64,
    /// How long it lives on the receiver's monotonic clock, from arrival, in milliseconds: 5,000 to
    /// 120,000.
    pub ttl_ms: u64,
}
