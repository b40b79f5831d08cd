//! The rules that every receiver of a timeline follows, as one pure state machine.
//!
//! Load may always be lowered, but raised only with a live permit. The owner stores
//! [`Receiver::saved`] whenever it has changed, so that after a restart no machine that was off is
//! forgotten and no older timeline is accepted.
//!
//! A receiver gets both clocks and guards its schedule against steps of the wall clock
//! ([`crate::WallGuard`]): lowerings are due by the later of the two clocks, raises by both, and
//! nothing is raised while they disagree.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Action, Claims, Generation, GuardedTime, MachineId, Permit, Permitted, Standing, Timeline,
    WallGuard,
};

/// The result of offering a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The timeline is newer than the one held, and was accepted.
    Taken,
    /// The timeline is the one already held.
    Same,
    /// The timeline is older than the one held, and was refused.
    Stale {
        /// The number of the timeline held.
        have: Generation,
    },
}

/// A change of one machine's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The machine.
    pub machine: MachineId,
    /// The standing before.
    pub from: Standing,
    /// The standing now.
    pub to: Standing,
}

/// The result of [`Receiver::advance`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advance {
    /// The changes: lowerings first, in the order of the timeline, then raises.
    pub changes: Vec<Change>,
    /// The time until the next step of the timeline, if there is one. It holds as long as no clock
    /// is stepped.
    pub wait: Option<Duration>,
}

/// The state that survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The timeline held.
    pub timeline: Option<Timeline>,
    /// The standings as applied.
    pub applied: BTreeMap<MachineId, Standing>,
    /// The latest time that is known to have passed. A wall clock that is behind it after a restart
    /// was stepped in the meantime. Files of older versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Timestamp>,
    /// [`crate::Downlink::claims`] as heard last; `None` if nothing was heard of it, so that everybody
    /// may be served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Arc<Claims>>,
    /// [`crate::Downlink::permitted`] as heard last; `None` if nothing was heard of it, so that nobody
    /// needs a permit for work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted: Option<Permitted>,
}

/// A receiver: give it timelines, permits and the time, and carry out the changes it returns.
#[derive(Debug, Default)]
pub struct Receiver {
    saved: Saved,
    guard: WallGuard,
    stepped: Option<SignedDuration>,
    permit: Option<(Permit, Instant)>,
    last_serial: Option<(u64, u64)>,
    waiting: Vec<MachineId>,
    /// The permitted set that was heard last.
    heard: Option<Permitted>,
    /// The moment up to which everything due was applied; `None` if something other than the time
    /// has changed since.
    settled: Option<Settled>,
}

/// A moment at which everything due was applied. Nothing else is due until one of these times.
#[derive(Debug, Clone, Copy)]
struct Settled {
    later: Timestamp,
    /// The next step after `later`, where lowerings are due.
    lowering: Timestamp,
    /// The next step after the steady time, where raises are due.
    raising: Timestamp,
}

/// The owner of a receiver that holds a timeline stores [`Receiver::saved`] at least this often,
/// and when it ends. A wall clock that is stepped back while the process is down is detected as far
/// as it is behind [`Saved::seen`].
pub const SEEN_EVERY: Duration = Duration::from_secs(300);
/// The range of a permit's time of validity: a shorter one is useless, a longer one would stay
/// valid too long after the switchboard is lost.
const PERMIT_TTL: std::ops::RangeInclusive<u64> = 5_000..=120_000;

impl Receiver {
    /// Restores a receiver from its stored state.
    #[must_use]
    pub fn restore(saved: Saved) -> Self {
        let guard = WallGuard::resume(saved.seen);
        Self { saved, guard, ..Self::default() }
    }

    /// The state to store.
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

    /// By how much the wall clock was off at the last call, if it was stepped and is not right
    /// again.
    #[must_use]
    pub fn stepped(&self) -> Option<SignedDuration> {
        self.stepped
    }

    /// The machines whose raise waits for a permit, or for the clocks to agree.
    #[must_use]
    pub fn waiting(&self) -> &[MachineId] {
        &self.waiting
    }

    /// Takes over which machines groups claim. Returns whether that has changed.
    pub fn hear_claims(&mut self, claims: &Arc<Claims>) -> bool {
        let is_changed = self.saved.claims.as_ref().is_none_or(|known| {
            // The same claims come with each downlink.
            !Arc::ptr_eq(known, claims) && known != claims
        });
        if is_changed {
            self.saved.claims = Some(claims.clone());
        }
        is_changed
    }

    /// Takes over which machines may have work without a permit. Returns whether that has changed.
    pub fn hear_permitted(&mut self, permitted: &Permitted) -> bool {
        // The same set comes with each downlink, and after a restart it is another copy than the one
        // that was saved: each copy is compared name by name once.
        if self.heard.as_ref().is_some_and(|heard| heard.is_same(permitted)) {
            return false;
        }
        self.heard = Some(permitted.clone());
        let is_changed = self.saved.permitted.as_ref() != Some(permitted);
        if is_changed {
            self.saved.permitted = Some(permitted.clone());
        }
        is_changed
    }

    /// Accepts a timeline if it is newer than the one held. Call [`Self::advance`] afterwards.
    pub fn offer(&mut self, timeline: &Timeline) -> Offer {
        match self.number() {
            Some(have) if timeline.number < have => Offer::Stale { have },
            Some(have) if timeline.number == have => Offer::Same,
            _ => {
                self.saved.timeline = Some(timeline.clone());
                self.settled = None;
                Offer::Taken
            }
        }
    }

    /// Handles a permit. Returns whether it is accepted: it must be new and must not be from a later
    /// timeline or another epoch than the timeline held, and its time of validity must be within the
    /// range. A permit that comes while the clocks disagree is used up and never counts.
    pub fn permit(&mut self, permit: &Permit, wall: Timestamp, now: Instant) -> bool {
        self.look(wall, now);
        let serial = (permit.number.epoch, permit.serial);
        let fresh = self.last_serial.is_none_or(|last| serial > last);
        if !fresh || !self.is_for_us(permit) || !PERMIT_TTL.contains(&permit.ttl_ms) {
            return false;
        }
        self.last_serial = Some(serial);
        if self.stepped.is_some() {
            return false;
        }
        self.permit = Some((permit.clone(), now + Duration::from_millis(permit.ttl_ms)));
        if !self.waiting.is_empty() {
            self.settled = None;
        }
        true
    }

    /// Drops the permit, because the switchboard withdrew it. Machines that were not raised yet
    /// wait for the next one.
    pub fn withdraw(&mut self) {
        self.permit = None;
    }

    /// Whether the permit was given by the timeline held, or by an earlier one of the same epoch.
    fn is_for_us(&self, permit: &Permit) -> bool {
        self.number().is_some_and(|have| {
            permit.number.epoch == have.epoch && permit.number.generation <= have.generation
        })
    }

    /// The machines that may be raised now.
    fn raisable(&self, now: Instant) -> Option<&BTreeSet<MachineId>> {
        let (permit, until) = self.permit.as_ref()?;
        let is_valid = self.stepped.is_none() && now < *until && self.is_for_us(permit);
        is_valid.then_some(&*permit.machines)
    }

    /// Whether the power of `machine` may be raised now.
    #[must_use]
    pub fn may_raise(&self, machine: &MachineId, now: Instant) -> bool {
        self.raisable(now).is_some_and(|machines| machines.contains(machine))
    }

    /// Applies everything that is due: every lowering, and the raises that a permit allows. Call it
    /// at least once a second, so that the receiver notices steps of the wall clock; a call when
    /// nothing is due costs next to nothing.
    pub fn advance(&mut self, wall: Timestamp, now: Instant) -> Advance {
        let time = self.look(wall, now);
        let is_settled = self.settled.is_some_and(|settled| {
            time.later >= settled.later
                && time.later < settled.lowering
                && time.steady < settled.raising
        });
        let changes = if is_settled { Vec::new() } else { self.apply(time, now) };
        Advance { changes, wait: self.settled.and_then(|settled| settled.wait(time)) }
    }

    /// The time for schedules, by both clocks.
    pub fn clock(&mut self, wall: Timestamp, now: Instant) -> GuardedTime {
        self.look(wall, now)
    }

    /// Reads both clocks through the guard.
    fn look(&mut self, wall: Timestamp, now: Instant) -> GuardedTime {
        let time = self.guard.read(wall, now);
        if time.stepped.is_some() {
            self.permit = None;
        }
        if time.stepped.is_some() != self.stepped.is_some() {
            self.settled = None;
        }
        self.stepped = time.stepped;
        self.saved.seen = Some(self.guard.passed(time, wall));
        time
    }

    fn apply(&mut self, time: GuardedTime, now: Instant) -> Vec<Change> {
        let raisable = self.raisable(now);
        let Some(timeline) = &self.saved.timeline else { return Vec::new() };
        let wanted = wanted(timeline, time);
        // The machines are listed in the order of the timeline, so that those it lists first are
        // handled first.
        let mut seen = HashSet::with_capacity(wanted.len());
        let ordered =
            timeline.steps.iter().flat_map(|step| &step.machines).chain(self.saved.applied.keys());

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
            } else if raisable.is_some_and(|machines| machines.contains(machine)) {
                raised.push(Change { machine: machine.clone(), from, to });
            } else {
                waiting.push(machine.clone());
            }
        }
        let changes: Vec<Change> = lowered.into_iter().chain(raised).collect();
        self.settled = Some(Settled {
            later: time.later,
            lowering: timeline.next_due(time.later).unwrap_or(Timestamp::MAX),
            raising: timeline.next_due(time.steady).unwrap_or(Timestamp::MAX),
        });
        self.waiting = waiting;
        for change in &changes {
            if change.to.action == Action::Run {
                self.saved.applied.remove(&change.machine);
            } else {
                self.saved.applied.insert(change.machine.clone(), change.to);
            }
        }
        changes
    }
}

/// The wanted standing of every machine that may not run: by the later of the two clocks, or by the
/// steady one if that allows less. So a wall clock that jumped past the end of a lease ends
/// nothing.
fn wanted(timeline: &Timeline, time: GuardedTime) -> HashMap<&MachineId, Standing> {
    let mut wanted = timeline.wanted_at(time.later);
    let agree = timeline.steps.iter().all(|step| step.at <= time.steady || step.at > time.later);
    if !agree {
        for (machine, standing) in timeline.wanted_at(time.steady) {
            let held = wanted.entry(machine).or_insert(standing);
            if standing.action > held.action {
                *held = standing;
            }
        }
    }
    wanted
}

impl Settled {
    fn wait(self, time: GuardedTime) -> Option<Duration> {
        let until = |due: Timestamp, clock: Timestamp| {
            (due != Timestamp::MAX)
                .then(|| Duration::try_from(due.duration_since(clock)).unwrap_or_default())
        };
        let lowering = until(self.lowering, time.later);
        let raising = until(self.raising, time.steady);
        lowering.into_iter().chain(raising).min()
    }
}

#[cfg(test)]
mod tests;
