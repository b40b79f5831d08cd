//! The directive: a numbered timeline of what each machine may do until the horizon.
//!
//! A timeline is state, not a list of changes: the newest step at or before an instant tells what a
//! machine may do then, and a machine that no step names may run. So nothing is lost when a
//! timeline is lost or repeated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{GroupId, LeaseId, MachineId, ReceiverId};

/// The number of a timeline: a later epoch takes precedence, and within one epoch a later plan.
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
    /// The machine is served with work.
    #[default]
    Run,
    /// Frozen: a present session keeps working, a new one is parked.
    Hold,
    /// Taken off: asleep where an actuator reaches it, else starved of new work.
    Drain,
    /// Taken off like [`Action::Drain`], but at once; ordinary ramps do not apply.
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
    /// An actuator puts the machine to sleep: it is served work until it is confirmed asleep.
    #[default]
    Device,
    /// Only the proxy reaches the machine: it gets no new work from the due moment on. This
    /// promises no watts.
    Starve,
}

/// What a machine may do at present, as applied. A machine without a standing may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What the machine may do.
    pub action: Action,
    /// How the machine is taken off.
    pub means: Means,
}

/// From `at` on, `machines` may do `action`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When the step is due.
    pub at: Timestamp,
    /// The group that the machines belong to.
    pub group: GroupId,
    /// What the machines may do from then on.
    pub action: Action,
    /// How the machines are taken off, if they are.
    pub means: Means,
    /// The machines, in the order in which they are commanded.
    pub machines: Vec<MachineId>,
    /// The lease that this step serves, if it serves one.
    pub lease: Option<LeaseId>,
    /// The reason for the step, in words for an operator.
    pub reason: String,
}

/// The newest ledger entry the sender had written: receivers keep it with the timeline, where it
/// shows later whether the ledger has lost its last entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// Sequence number of the entry.
    pub seq: u64,
    /// The hash of the entry, in hex.
    pub hash: String,
}

/// All steps of the plan horizon, numbered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The timeline's number. A timeline with the same or an older number changes nothing.
    pub number: Generation,
    /// When the timeline was made.
    pub issued_at: Timestamp,
    /// Until when the steps were planned.
    pub horizon: Timestamp,
    /// The ledger's head when the timeline was made.
    pub ledger_head: Option<LedgerHead>,
    /// Steps in order of time. If two are due at the same time for one machine, the later in the
    /// list is valid.
    pub steps: Vec<Step>,
    /// For each agent, the number of its newest hold ([`crate::GuardHold`]) that the timeline was
    /// made with. The timeline says what the machines of these holds may do, and the agent lifts
    /// the holds when it takes the timeline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds_taken: BTreeMap<ReceiverId, u64>,
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

    /// What every named machine may do at `at`, as [`Self::standing_at`] returns it, but without
    /// copies of the names: receivers ask twice a second, for all machines of a site.
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

/// The right to raise the power of certain machines for a while. Without a valid permit that names a
/// machine, the machine's power is not raised, not even by a scheduled restore. A field that is not
/// known here may be a condition, so a permit with such a field cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// The timeline by which the permit was given. The permit is valid with this timeline and with
    /// later ones of the same epoch: a later one may want a machine to be off, and then the machine
    /// is not raised.
    pub number: Generation,
    /// Counts permits within one epoch, so that each is used only once. A later permit replaces the
    /// one before.
    pub serial: u64,
    /// How long the permit is valid by the receiver's monotonic clock, from its arrival, in
    /// milliseconds: 5,000 to 120,000.
    pub ttl_ms: u64,
    /// The machines that may be raised.
    pub machines: Arc<BTreeSet<MachineId>>,
}
