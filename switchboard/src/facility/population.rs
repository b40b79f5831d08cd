//! What must be counted as load besides leases: how many machines of each group, and by how much the
//! feeds' meters correct the figures of the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::{GroupId, Watts};

use super::feeds::{FeedNumber, PerFeed};
use super::group::Group;

/// The number of machines that count as load: those that the policy declares, or more where more
/// were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// Machines by group; a group that is missing here counts as declared.
    pub groups: BTreeMap<GroupId, u32>,
    /// Machines that no group claims, and that have work or a device.
    pub unassigned: u32,
    /// Machines that no group claims and that get no work. They are no load.
    pub waiting: u32,
    /// By group: machines that it claims, that no device reaches, and that get no work until there is
    /// room for them. They are no load but for what they draw without work.
    pub newcomers: BTreeMap<GroupId, u32>,
    /// By how much more the meters show at each feed than the figures of the policy say; less if
    /// negative. Empty if no meter was read.
    pub corrections: PerFeed<Watts>,
    /// Feeds that carry too much although no machine below them is left that a device reaches: there,
    /// machines that can only be starved of work go too.
    pub starving: BTreeSet<FeedNumber>,
    /// How long the commands of each driver take, as far as agents have measured it.
    pub commands: BTreeMap<String, CommandTime>,
}

/// How long the sleep commands of a driver take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandTime {
    /// The 95th percentile.
    pub p95: Duration,
    /// How many the driver is given at once.
    pub at_once: u32,
}

impl CommandTime {
    /// How long it takes until the last of `machines` has its command, if all are told together.
    #[must_use]
    pub fn dispatch(&self, machines: u32) -> Duration {
        self.p95.saturating_mul(machines.div_ceil(self.at_once.max(1)))
    }
}

impl Population {
    /// Machines to count in `group`: never fewer than declared.
    #[must_use]
    pub fn machines(&self, group: &Group) -> u32 {
        self.groups.get(&group.id).copied().unwrap_or(0).max(group.machines)
    }

    /// How many machines of `group` wait for room beyond those that it declares. The others are counted
    /// with their full power already.
    #[must_use]
    pub fn waiting_beyond(&self, group: &Group) -> u32 {
        let counted = self.groups.get(&group.id).copied().unwrap_or(0);
        let waiting = self.newcomers.get(&group.id).copied().unwrap_or(0);
        waiting.saturating_sub(group.machines.saturating_sub(counted))
    }

    /// How long it takes until the last machine has its command, if so many machines of each driver
    /// are told together: the drivers work side by side. Zero where nothing was measured.
    #[must_use]
    pub fn dispatch<'d>(&self, machines: impl IntoIterator<Item = (&'d str, u32)>) -> Duration {
        let time = |(driver, count)| Some(self.commands.get::<str>(driver)?.dispatch(count));
        machines.into_iter().filter_map(time).max().unwrap_or_default()
    }
}
