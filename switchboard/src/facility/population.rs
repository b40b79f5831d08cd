//! What must be counted as load besides leases: how many machines of each group, and by how much the
//! feeds' meters correct the figures of the policy.

use std::collections::{BTreeMap, BTreeSet};

use directive::{GroupId, Watts};

use super::feeds::{FeedNumber, PerFeed};
use super::group::Group;

/// The number of machines that count as load: those that the policy declares, or more where more
/// were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// Machines by group; a group that is missing here counts as declared.
    pub groups: BTreeMap<GroupId, u32>,
    /// Machines that no group claims.
    pub unassigned: u32,
    /// By how much more the meters show at each feed than the figures of the policy say; less if
    /// negative. Empty if no meter was read.
    pub corrections: PerFeed<Watts>,
    /// Feeds that carry too much although no machine below them is left that a device reaches: there,
    /// machines that can only be starved of work go too.
    pub starving: BTreeSet<FeedNumber>,
}

impl Population {
    /// Machines to count in `group`: never fewer than declared.
    #[must_use]
    pub fn machines(&self, group: &Group) -> u32 {
        self.groups.get(&group.id).copied().unwrap_or(0).max(group.machines)
    }
}
