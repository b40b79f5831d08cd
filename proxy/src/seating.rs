//! A session's place: which target and lane it works on, and what it does when it loses it.
//!
//! Pure but for [`Placement`]'s lock: directions and what the lane said go in, a [`Place`] comes
//! out. What a place means for the miner's bytes is the business of the task around it.

use std::sync::Arc;

use directive::MachineId;
use stratum::version::VersionMask;

use crate::directions::{Directions, Serve};
use crate::lane::LaneState;
use crate::placement::{NoSeat, Placement, Seat, SlotLease};
use crate::sessions::SessionHandle;
use crate::space::ConnectionId;
use crate::work::LaneWork;

/// One session's slot and seat.
#[derive(Debug)]
pub(crate) struct Seating {
    pub(crate) seat: Option<Seat>,
    slot: SlotLease,
    /// The session was given work on this connection and has not been parked since.
    has_worked: bool,
    /// The seat is to be changed for one on another lane: the job at hand was had here before.
    leaving: bool,
    /// It wants a seat, or a better one than it has.
    waiting: bool,
}

/// Where a session finds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Kept,
    /// On another seat, with work to be taken.
    New,
    /// Nowhere: no target has room for it just now.
    Nowhere,
    /// Without work, by order.
    Parked,
    /// No target works: it may go.
    Released,
}

/// What a lane said.
#[derive(Debug)]
pub(crate) enum Said {
    Work(Arc<LaneWork>),
    /// Look for another place: [`Seating::settle`].
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

    /// Whether it asks again when seats may have become free.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The target it sits at.
    pub(crate) fn target(&self) -> Option<usize> {
        self.seat.as_ref().map(Seat::target)
    }

    /// The connection whose work it has.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.seat.as_ref().map(Seat::connection)
    }

    /// Has the session told of what the lane of its new seat says.
    pub(crate) fn tell(&mut self, session: &Arc<SessionHandle>) {
        if let Some(seat) = &mut self.seat {
            seat.lane.tell(session);
        }
    }

    /// Whether the lane has said something that was not taken yet.
    pub(crate) fn hears(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.lane.has_changed())
    }

    /// The lane is no more.
    pub(crate) fn lose(&mut self) {
        self.seat = None;
        self.leaving = false;
    }

    /// Takes another lane of the same target, if one is to be had: its work is new to the miner.
    pub(crate) fn renew(&mut self, placement: &Arc<Placement>) -> bool {
        let Some(target) = self.target() else { return false };
        let Ok(seat) = placement.seat(target, self.slot.slot) else { return false };
        self.seat = Some(seat);
        self.leaving = false;
        true
    }

    /// Takes what the lane has to say.
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
    /// that it has work its pool still takes; `shortage` hears of targets without room.
    pub(crate) fn settle(
        &mut self,
        placement: &Arc<Placement>,
        directions: &Directions,
        machine: &MachineId,
        mask: Option<VersionMask>,
        live: bool,
        mut shortage: impl FnMut(usize),
    ) -> Place {
        if directions.release && !directions.orders.curtailed(machine) {
            return Place::Released;
        }
        if directions.orders.serve(machine, self.has_worked) == Serve::Park {
            self.lose();
            // Hold keeps those at work who are at work: one that was taken off stays off until it
            // may run.
            self.has_worked = false;
            self.waiting = false;
            return Place::Parked;
        }
        let eligible = directions.usable.iter().filter(|usable| match mask {
            // A target that refuses rolling serves only miners that do not roll.
            Some(mask) if mask.0 != 0 => usable.mask.is_some_and(|granted| granted.0 != 0),
            _ => true,
        });
        // Behind a better target that has no room just now: work elsewhere beats none, and it asks
        // again.
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
                // No other lane is to be had: what it works on is as good as anything elsewhere.
                break;
            }
        }
        self.waiting = true;
        // Without a new seat an old one is kept while its target lives: it is better than none.
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
