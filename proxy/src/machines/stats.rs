//! What is counted for one worker name: handles that sessions and upstreams count on without a lock
//! or a look-up.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};
use std::time::Instant;

use directive::{MachineId, SeenSession, Serving};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::rates::{Hashrate, Rates};
use crate::outcome::{Outcome, Worth};

/// What is counted for one worker name.
#[derive(Debug, Default)]
pub(crate) struct MachineStats {
    pub(super) sessions: AtomicU32,
    pub(super) working: AtomicU32,
    /// Submits by how they ended.
    ends: [AtomicU32; Outcome::COUNT],
    /// The best difficulty found, the bits of an `f32`: those of positive floats sort as the floats
    /// do.
    best: AtomicU32,
    shares: AtomicU64,
    /// Summed difficulty, the bits of an `f64`.
    work: AtomicU64,
    still_hashing: AtomicU64,
    last_share_ms: AtomicI64,
    pub(super) gone_ms: AtomicI64,
    /// Touched every few seconds and when somebody asks, never by a share.
    rates: Mutex<Option<Rates>>,
}

impl MachineStats {
    /// Counts a share that met the difficulty advertised for it.
    pub(crate) fn share(&self, worth: Worth, starved: bool, wall: Timestamp) {
        let _ = self.work.fetch_update(Relaxed, Relaxed, |bits| {
            Some((f64::from_bits(bits) + worth.difficulty).to_bits())
        });
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a record for people: seven digits of it"
        )]
        let found = worth.found as f32;
        if found.to_bits() > self.best.load(Relaxed) {
            self.best.fetch_max(found.to_bits(), Relaxed);
        }
        if starved {
            self.still_hashing.fetch_add(1, Relaxed);
        }
        self.last_share_ms.store(wall.as_millisecond(), Relaxed);
        // `shares` is changed last: reports send a machine again when `shares` has changed, and the
        // work that they then send must include this share.
        self.shares.fetch_add(1, Release);
    }

    /// Counts the end of a submit.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.ends[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many submits had this outcome.
    pub(crate) fn ends(&self, outcome: Outcome) -> u64 {
        u64::from(self.ends[outcome as usize].load(Relaxed))
    }

    /// How many submits were refused, by us or by a pool, or stay unresolved: the outcomes from
    /// [`Outcome::PoolRejected`] on.
    pub(crate) fn refused(&self) -> u64 {
        let refused = &self.ends[Outcome::PoolRejected as usize..];
        refused.iter().map(|count| u64::from(count.load(Relaxed))).sum()
    }

    /// Shares that met their difficulty, whatever became of them.
    pub(crate) fn shares(&self) -> u64 {
        self.shares.load(Acquire)
    }

    pub(crate) fn work(&self) -> f64 {
        f64::from_bits(self.work.load(Relaxed))
    }

    /// The highest difficulty that a share of the machine has met.
    pub(crate) fn best(&self) -> Option<f64> {
        let best = f32::from_bits(self.best.load(Relaxed));
        (best > 0.0).then_some(f64::from(best))
    }

    /// When the last share came that met its difficulty.
    pub(crate) fn last_share_at(&self) -> Option<Timestamp> {
        let last_share = self.last_share_ms.load(Relaxed);
        (last_share != 0).then(|| Timestamp::from_millisecond(last_share).ok()).flatten()
    }

    /// Shares that came although the machine is starved.
    pub(crate) fn still_hashing(&self) -> u64 {
        self.still_hashing.load(Relaxed)
    }

    pub(crate) fn sessions(&self) -> u32 {
        self.sessions.load(Relaxed)
    }

    /// How the machine is served.
    pub(crate) fn serving(&self) -> Serving {
        match (self.sessions(), self.working.load(Relaxed)) {
            (0, _) => Serving::Gone,
            (_, 0) => Serving::Parked,
            _ => Serving::Working,
        }
    }

    /// Takes the work done since the last time into the estimates.
    pub(crate) fn fold(&self, now: Instant) {
        let work = self.work();
        let mut rates = self.rates.lock();
        *rates = Some(rates.map_or_else(|| Rates::new(work, now), |rates| rates.fold(work, now)));
    }

    /// The hashrate of the machine, estimated from its shares.
    pub(crate) fn hashrate(&self, now: Instant) -> Hashrate {
        let rates = *self.rates.lock();
        rates.map(|rates| rates.fold(self.work(), now).hashrate()).unwrap_or_default()
    }

    /// The machine as reports show it.
    pub(super) fn seen<'a>(&self, machine: &'a MachineId) -> SeenSession<'a> {
        // `shares` is read first, so that everything that `share` changed before it is seen, too.
        let shares = self.shares();
        SeenSession {
            machine,
            sessions: self.sessions(),
            serving: self.serving(),
            shares,
            work: self.work(),
            last_share_at: self.last_share_at(),
            still_hashing: self.still_hashing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each machine of the farm.
    #[test]
    fn the_counts_of_a_worker_are_small() {
        assert!(size_of::<MachineStats>() <= 160, "{} bytes", size_of::<MachineStats>());
    }
}
