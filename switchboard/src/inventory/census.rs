//! Counts machines for people: five independent counts for each group (declared, seen, hashing,
//! asleep, failing), and the sessions that no group claims.

use std::time::Instant;

use directive::{DeviceState, MachineId, Serving};
use jiff::Timestamp;

use super::endpoint::{Endpoint, View};
use super::{Inventory, MachineState, QUIET, SHARE_GRACE};
use crate::lease::later;
use crate::plan::{Fleet, Selection};
use crate::policy::Policy;
use crate::view::MachineCounts;

/// The machines counted, and examples of those that no group claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The counts by group, in the policy's order.
    pub groups: Vec<MachineCounts>,
    pub unassigned: Vec<MachineId>,
}

/// Names of unassigned machines that are shown.
const EXAMPLES: usize = 3;

impl Inventory {
    /// Counts the machines of `fleet`, which was made from this inventory.
    #[must_use]
    pub fn census(
        &self,
        policy: &Policy,
        fleet: &Fleet,
        held: &Selection,
        wall: Timestamp,
        now: Instant,
    ) -> Census {
        let mut census = Census { unassigned: self.examples(policy), ..Census::default() };
        for (group, machines) in policy.facility.groups().iter().zip(&fleet.groups) {
            let mut counts = MachineCounts { declared: group.machines, ..MachineCounts::default() };
            for known in machines.iter().filter(|known| !known.absent) {
                let chosen = held.current(&known.id, wall);
                let state = self.state(policy, &known.id, chosen, wall, now);
                counts.seen += 1;
                counts.hashing += u32::from(self.hashes(&known.id, wall));
                counts.asleep += u32::from(self.says_asleep(&known.id));
                counts.failing += u32::from(known.failing || state == MachineState::Unknown);
            }
            census.groups.push(counts);
        }
        census
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

    fn says_asleep(&self, machine: &MachineId) -> bool {
        self.device(machine).is_some_and(|device| device.report.state == DeviceState::Asleep)
    }

    /// The first names of machines with a live session that no group claims.
    fn examples(&self, policy: &Policy) -> Vec<MachineId> {
        let unclaimed = |endpoint: &Endpoint| -> Vec<MachineId> {
            let View::Proxy(sessions) = &endpoint.view else { return Vec::new() };
            let live = sessions.entries().iter().filter(|(_, session)| session.sessions > 0);
            let names = live.map(|(id, _)| id).filter(|id| self.group(policy, id).is_none());
            names.take(EXAMPLES).cloned().collect()
        };
        let mut names: Vec<MachineId> = self.endpoints.values().flat_map(unclaimed).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(EXAMPLES);
        names
    }
}
