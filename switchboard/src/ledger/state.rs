//! The state that follows from the events. The same events always give the same state, so a restart
//! continues where they stop.

use std::collections::{BTreeMap, BTreeSet};

use directive::{AsleepBy, FeedId, Generation, LeaseId, MachineId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::admit::Line;
use crate::blackout::{FeedSupply, SupplyChange};
use crate::commitment::{Breach, Phase, Unconfirmed};
use crate::lease::Lease;
use crate::plan::Selection;
use crate::plausible::{MeterChange, MeterState};

/// The request a lease came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client's `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of the request, in hex.
    pub digest: String,
}

/// A machine that sleeps, or may fall asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleeper {
    /// Who put it to sleep.
    pub by: AsleepBy,
    /// Since when that is known.
    pub since: Timestamp,
}

/// A lease and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRecord {
    pub lease: Lease,
    pub arithmetic: Vec<Line>,
    /// When shedding must begin at the latest, by the arithmetic of admission.
    pub latest_safe_start: Option<Timestamp>,
    /// When the lease was committed.
    pub committed_at: Timestamp,
    /// The phase of the lease.
    pub phase: Phase,
    /// Why the lease entered this phase.
    pub why: String,
    /// Whether the lease's power could not be proven at some time.
    pub unverified: bool,
    /// Why it could not, the last time.
    pub unverified_why: Option<String>,
    /// Whether it is on record that no believed meter shows its power, since it was last proven.
    pub unproven: bool,
    /// The machines that do not confirm what the meters prove.
    pub unconfirmed: Option<Unconfirmed>,
    /// When there first were machines that did not confirm.
    pub unconfirmed_at: Option<Timestamp>,
    /// The breaches of the lease.
    pub breaches: Vec<Breach>,
    /// When the lease's power was first proven free.
    pub proven_at: Option<Timestamp>,
    /// When the lease was closed.
    pub closed_at: Option<Timestamp>,
}

/// The fold over all events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerState {
    /// How often a switchboard has opened the ledger.
    pub epoch: u64,
    /// Leases by name; only the newest of the closed ones.
    pub leases: BTreeMap<LeaseId, LeaseRecord>,
    /// The number of leases ever committed; generated names are numbered by it.
    pub committed: u64,
    /// What the last plan chose.
    pub selection: Selection,
    /// The last plan's number.
    pub number: Option<Generation>,
    /// The policy in force.
    pub policy: Option<String>,
    /// The machines of which it is known who put them to sleep, until they are seen awake.
    pub sleepers: BTreeMap<MachineId, Sleeper>,
    /// The meters that were found to be implausible and not believed again since, with when.
    pub meters: BTreeMap<FeedId, (MeterChange, Timestamp)>,
    /// The feeds without power, and those that have had it again for a short time only.
    pub dead: BTreeMap<FeedId, SupplyChange>,
    /// The machines that may have work without a permit; `None` if that was never recorded.
    pub permitted: Option<BTreeSet<MachineId>>,
    keys: BTreeMap<String, (LeaseId, String)>,
    /// How many of `leases` are closed. Counting them at each close would take most of the time in which
    /// a large ledger is opened.
    closed: usize,
}

/// How many implausible meters and feeds without power are remembered; beyond, the first by name are
/// forgotten.
const FEEDS_KEPT: usize = 10_000;

/// How many closed leases stay in memory; older ones are only in the ledger.
const CLOSED_KEPT: usize = 10_000;

impl LedgerState {
    /// Adds one event.
    ///
    /// # Errors
    /// Why the event cannot follow the events before it.
    pub fn apply(&mut self, at: Timestamp, event: &Event) -> Result<(), String> {
        match event {
            Event::Opened { epoch } => {
                if *epoch != self.epoch + 1 {
                    return Err(format!("epoch {epoch} follows epoch {}", self.epoch));
                }
                self.epoch = *epoch;
            }
            Event::LeaseCommitted { lease, arithmetic, latest_safe_start, origin } => {
                if self.leases.contains_key(&lease.id) {
                    return Err(format!("lease {} is committed twice", lease.id));
                }
                self.committed += 1;
                if let Some(origin) = origin {
                    self.keys.insert(origin.key.clone(), (lease.id.clone(), origin.digest.clone()));
                }
                let standing = LeaseRecord {
                    lease: lease.clone(),
                    arithmetic: arithmetic.clone(),
                    committed_at: at,
                    latest_safe_start: *latest_safe_start,
                    phase: Phase::Planned,
                    why: String::new(),
                    unverified: false,
                    unverified_why: None,
                    unproven: false,
                    unconfirmed: None,
                    unconfirmed_at: None,
                    breaches: Vec::new(),
                    proven_at: None,
                    closed_at: None,
                };
                self.leases.insert(lease.id.clone(), standing);
            }
            Event::LeaseCancelled { lease, cancelled_at, .. } => {
                self.standing(lease)?.lease.cancelled_at = Some(*cancelled_at);
            }
            Event::LeaseAmended { lease: id, end, end_before, .. } => {
                let standing = self.standing(id)?;
                let lease = &mut standing.lease;
                if lease.cancelled_at.is_some() || standing.phase == Phase::Closed {
                    return Err(format!("lease {id} is over, and its end is changed"));
                }
                if lease.end != *end_before || *end <= lease.start {
                    return Err(format!(
                        "the end of lease {id} is changed from {end_before} to {end}, but it was {} \
                         to {}",
                        lease.start, lease.end
                    ));
                }
                lease.end = *end;
            }
            Event::Decided { number, selection, changes, .. } => {
                self.number = Some(*number);
                if let Some(selection) = selection {
                    self.selection = selection.clone();
                }
                if let Some(changes) = changes {
                    changes.apply(&mut self.selection);
                }
            }
            Event::CommitmentMoved { lease, to, why, .. } => {
                let standing = self.standing(lease)?;
                let was_closed = standing.phase == Phase::Closed;
                standing.phase = *to;
                standing.why.clone_from(why);
                if !to.is_proven() {
                    standing.unconfirmed = None;
                }
                if *to == Phase::Proven {
                    standing.proven_at = standing.proven_at.or(Some(at));
                    standing.unproven = false;
                }
                let is_closed = *to == Phase::Closed;
                if is_closed {
                    standing.closed_at = Some(at);
                }
                self.closed = self.closed + usize::from(is_closed) - usize::from(was_closed);
                if is_closed {
                    self.forget_old();
                }
            }
            Event::Unverified { lease, why, unproven } => {
                let standing = self.standing(lease)?;
                standing.unproven |= *unproven;
                standing.unverified = true;
                standing.unverified_why = Some(why.clone());
            }
            Event::Unconfirmed { lease, unconfirmed } => {
                let standing = self.standing(lease)?;
                standing.unconfirmed_at = standing.unconfirmed_at.or(Some(unconfirmed.since));
                standing.unconfirmed = Some(unconfirmed.clone());
            }
            Event::Confirmed { lease } => self.standing(lease)?.unconfirmed = None,
            Event::Breached { lease, breach, .. } => {
                let breaches = &mut self.standing(lease)?.breaches;
                // Breaches of one lease must not grow without bound here; the ledger has all of
                // them.
                if breaches.len() < 100 {
                    breaches.push(breach.clone());
                }
            }
            Event::Sleepers { ours, others, awake } => {
                self.note_sleepers(ours, AsleepBy::Us, at);
                self.note_sleepers(others, AsleepBy::Other, at);
                for machine in awake {
                    self.sleepers.remove(machine);
                }
            }
            Event::Adopted { machines, .. } => self.note_sleepers(machines, AsleepBy::Us, at),
            Event::Permitted { added, removed } => {
                let permitted = self.permitted.get_or_insert_default();
                permitted.retain(|machine| !removed.contains(machine));
                permitted.extend(added.iter().cloned());
            }
            Event::PolicyLoaded { digest, .. } => self.policy = Some(digest.clone()),
            Event::MetersJudged { meters } => {
                for change in meters {
                    if change.to.is_implausible() {
                        self.meters.insert(change.feed.clone(), (change.clone(), at));
                    } else if change.to == MeterState::Ok {
                        self.meters.remove(&change.feed);
                    }
                }
                // Feeds that left the policy would stay for ever.
                while self.meters.len() > FEEDS_KEPT {
                    self.meters.pop_first();
                }
            }
            Event::SupplyChanged { feeds } => {
                for change in feeds {
                    if change.to == FeedSupply::Live {
                        self.dead.remove(&change.feed);
                    } else {
                        self.dead.insert(change.feed.clone(), change.clone());
                    }
                }
                // Feeds that left the policy would stay for ever.
                while self.dead.len() > FEEDS_KEPT {
                    self.dead.pop_first();
                }
            }
            Event::PolicyRefused { .. } => {}
        }
        Ok(())
    }

    /// The leases that are not closed.
    pub fn open(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.leases.values().filter(|standing| standing.phase != Phase::Closed)
    }

    /// The lease of a client's idempotency key, and the digest of its request.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<(&LeaseId, &str)> {
        self.keys.get(key).map(|(lease, digest)| (lease, digest.as_str()))
    }

    fn standing(&mut self, lease: &LeaseId) -> Result<&mut LeaseRecord, String> {
        self.leases.get_mut(lease).ok_or_else(|| format!("lease {lease} was never committed"))
    }

    fn note_sleepers(&mut self, machines: &BTreeSet<MachineId>, by: AsleepBy, since: Timestamp) {
        let sleepers = machines.iter().map(|id| (id.clone(), Sleeper { by, since }));
        self.sleepers.extend(sleepers);
    }

    fn forget_old(&mut self) {
        // Closed leases are removed in blocks, so that the search for the oldest ones is rare.
        if self.closed < CLOSED_KEPT + CLOSED_KEPT / 10 {
            return;
        }
        let mut ages: Vec<(Option<Timestamp>, LeaseId)> = self
            .leases
            .values()
            .filter(|standing| standing.phase == Phase::Closed)
            .map(|standing| (standing.closed_at, standing.lease.id.clone()))
            .collect();
        ages.sort();
        for (_, lease) in ages.iter().take(self.closed - CLOSED_KEPT) {
            self.leases.remove(lease);
        }
        self.closed = CLOSED_KEPT;
        self.keys.retain(|_, (lease, _)| self.leases.contains_key(lease));
    }
}
