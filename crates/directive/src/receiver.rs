//! The rules every receiver of a timeline follows, as one pure state machine.
//!
//! Load may always be lowered; it is raised only with a fresh permit. A receiver persists
//! [`Receiver::saved`] whenever it changed, so that a restart neither forgets a machine that was
//! off nor accepts an older timeline.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Action, Generation, MachineId, Means, Permit, Timeline};

/// What a machine may do just now, as applied. Machines without one may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What it may do.
    pub action: Action,
    /// How it is taken off.
    pub means: Means,
}

/// What became of an offered timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is newer and was taken.
    Taken,
    /// It is the one already held.
    Same,
    /// It is older than the one held: refused.
    Stale {
        /// The number held.
        have: Generation,
    },
}

/// One machine's change of standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub machine: MachineId,
    /// What it was.
    pub from: Standing,
    /// What it is now.
    pub to: Standing,
}

/// What an [`Receiver::advance`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advance {
    /// Changes, lowerings before raises; lowerings in the timeline's order.
    pub changes: Vec<Change>,
    /// Machines whose raise waits for a permit.
    pub waiting: Vec<MachineId>,
    /// When the timeline's next step is due.
    pub next_due: Option<Timestamp>,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The timeline held.
    pub timeline: Option<Timeline>,
    /// The standings as applied.
    pub applied: BTreeMap<MachineId, Standing>,
}

/// One receiver: feed it timelines, permits and the time; do what its changes say.
#[derive(Debug, Default)]
pub struct Receiver {
    saved: Saved,
    permit: Option<(Permit, Instant)>,
    last_serial: Option<(u64, u64)>,
}

/// Bounds of a permit's life: shorter is noise, longer would outlive a lost
/// switchboard.
const PERMIT_TTL: std::ops::RangeInclusive<u64> = 5_000..=120_000;

impl Receiver {
    /// Takes up where a former life stopped.
    #[must_use]
    pub fn restore(saved: Saved) -> Self {
        Self { saved, permit: None, last_serial: None }
    }

    /// What must survive a restart.
    #[must_use]
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The number of the timeline held.
    #[must_use]
    pub fn number(&self) -> Option<Generation> {
        self.saved.timeline.as_ref().map(|timeline| timeline.number)
    }

    /// The standings as applied; machines not in the map may run.
    #[must_use]
    pub fn applied(&self) -> &BTreeMap<MachineId, Standing> {
        &self.saved.applied
    }

    /// Takes a timeline if it is newer than the one held. Call [`Self::advance`] afterwards.
    pub fn offer(&mut self, timeline: &Timeline) -> Offer {
        match self.number() {
            Some(have) if timeline.number < have => Offer::Stale { have },
            Some(have) if timeline.number == have => Offer::Same,
            _ => {
                self.saved.timeline = Some(timeline.clone());
                Offer::Taken
            }
        }
    }

    /// Takes a permit. Returns whether it counts: it must be for the timeline held, new, and of a
    /// sane life.
    pub fn permit(&mut self, permit: Permit, now: Instant) -> bool {
        let serial = (permit.number.epoch, permit.serial);
        let fresh = self.last_serial.is_none_or(|last| serial > last);
        if !fresh || Some(permit.number) != self.number() || !PERMIT_TTL.contains(&permit.ttl_ms) {
            return false;
        }
        self.last_serial = Some(serial);
        self.permit = Some((permit, now + Duration::from_millis(permit.ttl_ms)));
        true
    }

    /// Forgets the permit: the switchboard took it back, and what has not risen waits for the next.
    pub fn withdraw(&mut self) {
        self.permit = None;
    }

    /// Whether power may be raised now.
    #[must_use]
    pub fn may_raise(&self, now: Instant) -> bool {
        self.permit
            .is_some_and(|(permit, until)| now < until && Some(permit.number) == self.number())
    }

    /// Applies what is due: every lowering, and the raises that a permit allows.
    pub fn advance(&mut self, wall: Timestamp, now: Instant) -> Advance {
        let Some(timeline) = &self.saved.timeline else { return Advance::default() };
        let wanted = timeline.wanted_at(wall);
        let next_due = timeline.next_due(wall);
        // The timeline's own order first, so that the machines it lists first are dealt with first.
        let mut seen = HashSet::with_capacity(wanted.len());
        let ordered =
            timeline.steps.iter().flat_map(|step| &step.machines).chain(self.saved.applied.keys());
        let may_raise = self.may_raise(now);

        let mut lowered = Vec::new();
        let mut raised = Vec::new();
        let mut waiting = Vec::new();
        for machine in ordered.filter(|machine| seen.insert(*machine)) {
            let from = self.saved.applied.get(machine).copied().unwrap_or_default();
            let to = wanted.get(machine).copied().unwrap_or_default();
            if from == to {
                continue;
            }
            if to.action >= from.action {
                lowered.push(Change { machine: machine.clone(), from, to });
            } else if may_raise {
                raised.push(Change { machine: machine.clone(), from, to });
            } else {
                waiting.push(machine.clone());
            }
        }
        let changes: Vec<Change> = lowered.into_iter().chain(raised).collect();
        for change in &changes {
            if change.to.action == Action::Run {
                self.saved.applied.remove(&change.machine);
            } else {
                self.saved.applied.insert(change.machine.clone(), change.to);
            }
        }
        Advance { changes, waiting, next_due }
    }
}

#[cfg(test)]
mod tests;
