//! Counts machines for people: five independent counts for each group (declared, seen, hashing,
//! asleep, failing), and the sessions that no group claims.

use std::time::Instant;

use directive::{DeviceState, MachineId, Serving};
use jiff::Timestamp;

use super::{Inventory, MachineState, QUIET, SHARE_GRACE};
use crate::lease::later;
use crate::plan::{Fleet, Selection};
use crate::policy::Policy;
use crate::view::MachineCounts;

/// The machines counted, and examples of those that no group claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// By group, in the policy's order.
    pub groups: Vec<MachineCounts>,
    /// By group: machines that get no work although nothing has them off.
    pub parked: Vec<u32>,
    pub unassigned: Vec<MachineId>,
    /// The group that is counted next.
    next: usize,
    /// If a part of it is counted already: up to which machine, and what was found.
    part: Option<(MachineId, Part)>,
}

/// What was counted of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    counts: MachineCounts,
    parked: u32,
}

/// Names of unassigned machines that are shown.
const EXAMPLES: usize = 3;
/// How many machines are counted in one look. At a larger site they take turns.
const COUNTED: usize = 500;

impl Inventory {
    /// Counts the machines of `fleet`, which was made from this inventory, group by group: as many
    /// machines as one look may take.
    pub fn take_census(
        &self,
        census: &mut Census,
        policy: &Policy,
        fleet: &Fleet,
        (held, is_returning): (&Selection, impl Fn(&MachineId) -> bool),
        wall: Timestamp,
        now: Instant,
    ) {
        let groups = policy.facility.groups();
        if census.groups.len() != groups.len() {
            let declared = |declared| MachineCounts { declared, ..MachineCounts::default() };
            census.groups = groups.iter().map(|group| declared(group.machines)).collect();
            census.parked = vec![0; groups.len()];
            (census.next, census.part) = (0, None);
        }
        census.unassigned = self.roster.unassigned(EXAMPLES);
        let mut left = COUNTED;
        for _ in 0..groups.len() {
            let number = census.next % groups.len();
            let machines = fleet.groups.get(number).map_or(&[][..], Vec::as_slice);
            let (first, mut part) = match census.part.take() {
                Some((last, part)) => (machines.partition_point(|known| known.id <= last), part),
                None => (0, Part::default()),
            };
            let counted = machines[first..].iter().take(left);
            left -= counted.len();
            let last = counted.clone().next_back();
            for known in counted.filter(|known| !known.absent) {
                let chosen = held.current(&known.id, wall);
                let state = self.state(policy, &known.id, chosen, wall, now);
                let Part { counts, parked } = &mut part;
                counts.seen += 1;
                counts.hashing += u32::from(self.hashes(&known.id, wall));
                counts.asleep += u32::from(self.says_asleep(&known.id));
                counts.failing += u32::from(known.failing || state == MachineState::Unknown);
                let is_idle = || chosen.is_none_or(|chosen| !chosen.covers(wall));
                let is_off = || is_returning(&known.id) || self.says_asleep(&known.id);
                *parked += u32::from(self.is_parked(&known.id) && is_idle() && !is_off());
            }
            if left == 0
                && let Some(last) = last
            {
                census.part = Some((last.id.clone(), part));
                return;
            }
            let declared = groups[number].machines;
            census.groups[number] = MachineCounts { declared, ..part.counts };
            census.parked[number] = part.parked;
            census.next = number + 1;
        }
    }

    /// Whether a live session of `machine` has work, or a share came lately and, if its device is
    /// asleep, too late to have been in transit when it fell asleep.
    fn hashes(&self, machine: &MachineId, wall: Timestamp) -> bool {
        let works = self
            .sessions(machine)
            .any(|session| session.sessions > 0 && session.serving == Serving::Working);
        let asleep_since = self.device(machine).and_then(|device| device.asleep_since);
        works
            || self.last_share(machine, wall).is_some_and(|share| {
                later(share, QUIET) > wall
                    && asleep_since.is_none_or(|asleep| share > later(asleep, SHARE_GRACE))
            })
    }

    /// Whether the session of `machine` that [`Self::machines`] shows gets no work.
    fn is_parked(&self, machine: &MachineId) -> bool {
        self.shown_session(machine).is_some_and(|session| session.serving == Serving::Parked)
    }

    fn says_asleep(&self, machine: &MachineId) -> bool {
        self.device(machine).is_some_and(|device| device.report.state == DeviceState::Asleep)
    }
}
