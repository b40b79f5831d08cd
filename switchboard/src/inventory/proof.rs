//! What machines prove to draw: by the watts that devices report, by shares, and by devices that say
//! they are awake. It serves to find meters that show too little, so each figure is a low estimate.

use directive::{DeviceState, MachineId, Watts};
use jiff::Timestamp;

use super::{CLOCK_TOLERANCE, Inventory, SHARE_GRACE};
use crate::facility::PerFeed;
use crate::lease::later;
use crate::plausible::{Proof, Within};
use crate::policy::Policy;

/// A device's own measurement may be this much too high; what its power supply loses comes on top.
const DEVICE: f64 = 0.8;
/// A machine that finds shares draws at least this part of its nameplate: firmware goes down to about
/// half of it.
const HASHES: i64 = 3;
/// A machine that is awake without work draws 200 W at least; some firmware goes that low when it has
/// no pool. This part of the nameplate is half of that.
const AWAKE: i64 = 30;

impl Inventory {
    /// What the machines of each feed have proven to draw in the time given for it. Nothing is looked
    /// at for feeds without one.
    pub(crate) fn proofs(
        &self,
        policy: &Policy,
        within: &PerFeed<Option<Within>>,
        wall: Timestamp,
    ) -> PerFeed<Proof> {
        let facility = &policy.facility;
        let feeds = facility.feeds();
        let mut proofs = PerFeed::all(feeds, Proof::default());
        let asks: Vec<bool> = (0..facility.groups().len())
            .map(|group| {
                let path = feeds.path(facility.group_feed(group));
                path.iter().any(|feed| within[*feed].is_some())
            })
            .collect();
        for (machine, group) in &self.groups {
            let Some(group) = group.filter(|group| asks.get(*group) == Some(&true)) else {
                continue;
            };
            let nameplate = facility.groups()[group].watts;
            let signs = self.signs(machine, wall);
            for &feed in feeds.path(facility.group_feed(group)) {
                if let Some(within) = within[feed] {
                    let proof = &mut proofs[feed];
                    let from = later(within.from, SHARE_GRACE);
                    proof.proven += signs.proven(nameplate, |at| from < at && at <= within.to);
                    proof.claimed += signs.claimed(nameplate);
                }
            }
        }
        proofs
    }

    fn signs(&self, machine: &MachineId, wall: Timestamp) -> Signs {
        let device = self.device(machine).map(|device| device.report);
        Signs {
            last_share: self.last_share(machine, wall),
            awake: device.is_some_and(|device| device.state == DeviceState::Awake),
            read_at: device
                .and_then(|device| device.read_at)
                .filter(|read| *read <= later(wall, CLOCK_TOLERANCE)),
            watts: device.and_then(|device| device.watts),
        }
    }
}

/// The signs of power that one machine gives.
#[derive(Debug, Clone, Copy)]
struct Signs {
    last_share: Option<Timestamp>,
    awake: bool,
    read_at: Option<Timestamp>,
    watts: Option<Watts>,
}

impl Signs {
    /// What is drawn for certain at a time that is within what counts.
    fn proven(&self, nameplate: Watts, counts: impl Fn(Timestamp) -> bool) -> Watts {
        let is_read = self.read_at.is_some_and(&counts);
        let hashes = self.last_share.is_some_and(&counts);
        match self.watts {
            Some(watts) if is_read => watts.clamp(Watts::ZERO, nameplate + nameplate).scale(DEVICE),
            _ if hashes => Watts(nameplate.0 / HASHES),
            _ if is_read && self.awake => Watts(nameplate.0 / AWAKE),
            _ => Watts::ZERO,
        }
    }

    /// What is drawn if the device is right, whenever it was read.
    fn claimed(&self, nameplate: Watts) -> Watts {
        if self.awake { Watts(nameplate.0 / AWAKE) } else { Watts::ZERO }
    }
}
