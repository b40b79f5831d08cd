//! A session's place: the target and lane it works on, and what it does when it loses it.
//!
//! It is pure, except for the lock of [`Placement`]: directions and the lane's announcements go in,
//! a [`Place`] comes out. The task around it sends the miner what follows.

use std::sync::Arc;

use directive::MachineId;
use stratum::version::VersionMask;

use crate::directions::{Directions, Serve};
use crate::handle::SessionHandle;
use crate::lane::LaneState;
use crate::placement::{NoSeat, Placement, Seat, SlotLease};
use crate::space::ConnectionId;
use crate::target::TargetId;
use crate::work::LaneWork;

/// One session's slot and seat.
#[derive(Debug)]
pub(crate) struct Seating {
    pub(crate) seat: Option<Seat>,
    slot: SlotLease,
    /// Whether the session has had work on this connection since it was last parked.
    has_worked: bool,
    /// Whether the session needs a seat on a different lane, because a session on this lane has had
    /// the current job before.
    leaving: bool,
    /// Whether the session wants a seat, or a better one than it has.
    waiting: bool,
}

/// A session's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Kept,
    /// The session has a new seat, whose work must be taken.
    New,
    /// The session has no seat, because no target has room for it at present.
    Nowhere,
    /// The session gets no work, because its machine must not run.
    Parked,
    /// No target works, so the miner is released.
    Released,
}

/// A lane's announcement.
#[derive(Debug)]
pub(crate) enum Said {
    Work(Arc<LaneWork>),
    /// Find another place: call [`Seating::settle`].
    Settle,
}

impl Seating {
    /// A session that has taken its slot.
    pub(crate) const fn new(slot: SlotLease) -> Self {
        Self { seat: None, slot, has_worked: false, leaving: false, waiting: false }
    }

    /// The slot it holds.
    pub(crate) fn slot(&self) -> u8 {
        self.slot.slot
    }

    /// Whether the session must ask for a seat again when seats may have become free.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The target of its seat.
    pub(crate) fn target(&self) -> Option<TargetId> {
        self.seat.as_ref().map(Seat::target)
    }

    /// The connection whose work it has.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.seat.as_ref().map(Seat::connection)
    }

    /// Subscribes the session to the announcements of its new seat's lane.
    pub(crate) fn tell(&mut self, session: &Arc<SessionHandle>) {
        if let Some(seat) = &mut self.seat {
            seat.lane.tell(session);
        }
    }

    /// Whether there is an announcement that was not taken yet.
    pub(crate) fn hears(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.lane.has_changed())
    }

    /// The lane no longer exists.
    pub(crate) fn lose(&mut self) {
        self.seat = None;
        self.leaving = false;
    }

    /// Takes another lane of the same target, if there is one: its work is new to the miner.
    pub(crate) fn renew(&mut self, placement: &Arc<Placement>) -> bool {
        let Some(target) = self.target() else { return false };
        let Ok(seat) = placement.seat(target, self.slot.slot) else { return false };
        self.seat = Some(seat);
        self.leaving = false;
        true
    }

    /// Takes the lane's announcement.
    pub(crate) fn listen(&mut self) -> Option<Said> {
        Some(match self.seat.as_mut()?.lane.take() {
            LaneState::Work(work) => {
                self.has_worked = true;
                self.leaving = false;
                Said::Work(work)
            }
            LaneState::Refresh => {
                self.leaving = true;
                Said::Settle
            }
            LaneState::Vacate => {
                self.lose();
                Said::Settle
            }
        })
    }

    /// Finds the place that directions and seats allow. `mask` is what the miner rolls; `live` says
    /// that the pool still accepts shares of its work; `shortage` is called for targets without
    /// room.
    pub(crate) fn settle(
        &mut self,
        placement: &Arc<Placement>,
        directions: &Directions,
        machine: &MachineId,
        mask: Option<VersionMask>,
        live: bool,
        mut shortage: impl FnMut(TargetId),
    ) -> Place {
        if directions.release && !directions.orders.curtailed(machine, self.has_worked) {
            return Place::Released;
        }
        if directions.orders.serve(machine, self.has_worked) == Serve::Park {
            self.lose();
            // `hold` lets working machines continue; a machine that was turned off stays off until
            // it may run.
            self.has_worked = false;
            self.waiting = false;
            return Place::Parked;
        }
        let eligible = directions.usable.iter().filter(|usable| match mask {
            // A target that refuses rolling serves only miners that do not roll.
            Some(mask) if mask.0 != 0 => usable.mask.is_some_and(|granted| granted.0 != 0),
            _ => true,
        });
        // A better target has no room at present: work elsewhere is better than none, and the
        // session asks again.
        let mut behind = false;
        for usable in eligible {
            let here = self.target() == Some(usable.target);
            if here && !self.leaving {
                self.waiting = behind;
                return Place::Kept;
            }
            match placement.seat(usable.target, self.slot.slot) {
                Ok(seat) => {
                    self.seat = Some(seat);
                    self.leaving = false;
                    self.waiting = behind;
                    return Place::New;
                }
                Err(NoSeat::NoSpace) => shortage(usable.target),
                Err(NoSeat::NoJob) => {}
            }
            behind = true;
            if here && live {
                // There is no other lane, so the session keeps its current work.
                break;
            }
        }
        self.waiting = true;
        // Without a new seat, the old one is kept as long as its target is usable.
        if self
            .target()
            .is_some_and(|target| directions.usable.iter().any(|usable| usable.target == target))
        {
            return Place::Kept;
        }
        self.lose();
        Place::Nowhere
    }
}
