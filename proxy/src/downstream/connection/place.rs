//! Gives the miner the work of its session's place ([`crate::seating`]), or none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use daemon::clock;
use directive::MachineId;
use tracing::{debug, info};

use super::state::Connection;
use crate::handle::SessionState;
use crate::label::Label as _;
use crate::reasons::{CloseReason, Correction};
use crate::seating::{Place, Said};
use crate::session::{Input, Outbox};

impl Connection {
    /// Registers the session under its worker name when the miner has authorized, and finds it a
    /// place.
    pub(super) fn authorized(&mut self, now: Instant, out: &mut Outbox) {
        let Some(worker) = self.session.worker() else { return };
        self.was_ready = true;
        let first = self.presence.is_none();
        let mut recalled = None;
        if first {
            recalled = self.pools.proxy.recall.lock().of(worker, now);
            self.presence =
                Some(self.pools.proxy.machines.enter(MachineId::from(worker), clock::wall));
        }
        let user_agent =
            self.session.take_user_agent().map(|text| self.pools.proxy.sessions.user_agent(text));
        let mut shown = self.entry.handle.shown.lock();
        shown.worker = self.presence.as_ref().map(|presence| presence.machine.clone());
        shown.user_agent = user_agent.or(shown.user_agent.take());
        shown.version_mask = self.session.version_mask();
        if first {
            shown.state = SessionState::Waiting;
        }
        drop(shown);
        if let Some(work_rate) = recalled {
            self.session.recall(work_rate);
        }
        // This comes before the first work, because the difficulty of that work depends on the
        // fleet's sum.
        self.set_hashing(self.session.fleet_rate());
        self.settle(now, out);
    }

    /// Takes a step with a miner whose shares have all been bad for long (S45).
    pub(super) fn correct(&mut self, correction: Correction, now: Instant, out: &mut Outbox) {
        let (session, worker, step) =
            (self.entry.handle.number, self.session.worker(), correction.label());
        if self.pools.proxy.corrections.lock().admits(correction, 1, now) {
            info!(session, ?worker, step, "only bad shares");
        } else {
            debug!(session, ?worker, step, "only bad shares");
        }
        self.pools.proxy.books.metrics.sessions.corrections.count(correction);
        if correction != Correction::Renew {
            return;
        }
        self.renew(now, out);
    }

    /// Hands out the current job on another lane. If no lane is free, the miner waits for the next
    /// job.
    pub(super) fn renew(&mut self, now: Instant, out: &mut Outbox) {
        if self.seating.renew(&self.pools.placement) {
            self.seating.tell(&self.entry.handle);
            self.take_work(false, now, out);
        }
    }

    /// Finds the place that the directions and the free seats allow.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Outbox) {
        let directions = self.pools.directions.borrow().clone();
        let Some(presence) = &self.presence else { return };
        let (mask, live) = (self.session.version_mask(), self.session.has_live_work());
        let pools = &self.pools;
        let place = self.seating.settle(
            &pools.placement,
            &directions,
            &presence.machine,
            mask,
            live,
            |target| pools.shortage(target),
        );
        self.starved = directions.orders.starved(&presence.machine);
        self.set_waiting(self.seating.is_waiting());
        self.set_served(matches!(place, Place::Kept | Place::New | Place::Nowhere));
        match place {
            Place::Kept => {}
            Place::New => {
                self.seating.tell(&self.entry.handle);
                self.take_work(false, now, out);
            }
            Place::Nowhere => self.idle(SessionState::Waiting, now),
            Place::Parked => self.idle(SessionState::Parked, now),
            Place::Released => out.close = Some(CloseReason::Released),
        }
    }

    /// Handles the lane's announcement. `awaited` says that the session was on the lane before the
    /// announcement.
    pub(super) fn take_work(&mut self, awaited: bool, now: Instant, out: &mut Outbox) {
        match self.seating.listen() {
            Some(Said::Work(work)) => {
                let written = out.bytes.len();
                self.session.handle(Input::Work(&work), now, out);
                // If the pool only sent the same job again under another id, nothing is written.
                if out.bytes.len() > written {
                    self.delivered = awaited.then(|| work.clone());
                }
                if let Some(reason) = out.retarget.take() {
                    self.pools.proxy.books.metrics.sessions.retargets.count(reason);
                }
                self.show(SessionState::Working);
            }
            Some(Said::Settle) | None => self.settle(now, out),
        }
    }

    /// Shows that the session has no work. Until it has, a lack of shares says nothing about its
    /// machine.
    fn idle(&mut self, state: SessionState, now: Instant) {
        self.session.rest(now);
        self.show(state);
    }

    fn show(&mut self, state: SessionState) {
        if let Some(presence) = &mut self.presence {
            presence.set_working(state == SessionState::Working);
        }
        let parked = state == SessionState::Parked;
        self.set_hashing(if parked { 0.0 } else { self.session.fleet_rate() });
        let mut shown = self.entry.handle.shown.lock();
        shown.state = state;
        shown.set_difficulty(self.session.difficulty());
        shown.work_rate = self.session.measured_rate();
        shown.target = self.seating.target();
    }

    pub(super) fn set_waiting(&mut self, waiting: bool) {
        if self.waiting != waiting {
            self.waiting = waiting;
            adjust(&self.pools.waiting, waiting);
        }
    }

    /// Updates the session's part of the fleet's work rate, if it changed by more than 5 %.
    pub(super) fn set_hashing(&mut self, work_rate: f32) {
        let near = self.hashing * 0.95..=self.hashing * 1.05;
        if work_rate == 0.0 || !near.contains(&work_rate) {
            self.pools.fleet.change(self.hashing, work_rate);
            self.hashing = work_rate;
        }
    }

    pub(super) fn set_served(&mut self, served: bool) {
        if self.served != served {
            self.served = served;
            adjust(&self.pools.served, served);
        }
    }
}

fn adjust(count: &AtomicUsize, up: bool) {
    if up {
        count.fetch_add(1, Ordering::Relaxed);
    } else {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
