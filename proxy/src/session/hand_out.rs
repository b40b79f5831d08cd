//! Hands work to the miner: the difficulty and the job, and before them a new version mask or
//! extranonce if the pool requires one.

use std::sync::Arc;
use std::time::Instant;

use stratum::server_message::{NOTIFY_CLEAN, NOTIFY_KEEP, write_set_difficulty};
use stratum::version::VersionMask;

use super::outbox::Outbox;
use super::state::{Session, SessionRules};
use crate::reasons::CloseReason;
use crate::work::{LaneWork, OwnExtranonce};

impl Session {
    /// Gives out work: the difficulty, if it changed or the pool did, and the job directly after
    /// it.
    pub(super) fn work(&mut self, work: &Arc<LaneWork>, now: Instant, out: &mut Outbox) {
        // If the pool only sent the same job again under another id, nothing changes for the miner.
        if !self.is_ready() || self.issues.rename(work) {
            return;
        }
        if let Some(own) = work.own
            && !self.follow(own, out)
        {
            return;
        }
        // This pool may allow other version bits than the former one.
        let rolls = work.job.mask.unwrap_or(VersionMask::NONE).and(self.offer);
        if let Some(granted) = self.role.version_mask() {
            let shrinks = !rolls.contains(granted.0);
            if self.hears_mask {
                self.role.change_offer(rolls, &mut out.bytes);
            } else if shrinks && suits_firmware(rolls) {
                return self.leave_soon(now);
            }
            // Firmware that cannot be told keeps its mask if this pool allows all of its bits, or
            // if a new session would not be granted these bits either.
        }
        self.leave_tenths = 0;
        let mask = self.role.version_mask().map(|granted| granted.and(rolls));
        let limits = self.limits_of(work);
        let advertised = self.aim.advertise(&limits, &self.rules.difficulty, self.age(now));
        let difficulty = advertised.level.difficulty();
        // The difficulty is sent at each switch of the target, even if it is the same
        // (docs/protocol.md 2.7).
        let switched = self
            .issues
            .newest()
            .is_some_and(|last| last.job.upstream.target != work.job.upstream.target);
        if advertised.changed.is_some() || switched {
            write_set_difficulty(difficulty, &mut out.bytes);
            out.retarget = advertised.changed;
        }
        // The job is sent as clean, unless the miner's present work is still live on the same
        // connection and the difficulty is unchanged. A clean job that a slow miner skipped is
        // therefore not lost. After a change of difficulty, an S19 would drop shares of older work,
        // and an ESP-Miner would submit shares of it that miss its difficulty. Restarting its work
        // costs a miner some milliseconds.
        let misled = self.conduct.as_ref().is_some_and(|conduct| conduct.is_misled());
        let last = self.issues.newest().filter(|_| !misled && advertised.changed.is_none());
        let keeps = last
            .is_some_and(|last| last.job.is_live() && last.job.upstream.id == work.job.upstream.id);
        out.bytes.extend_from_slice(&work.notify);
        out.bytes.extend_from_slice(if keeps { NOTIFY_KEEP } else { NOTIFY_CLEAN });
        self.issues.add(work.clone(), difficulty, mask);
    }

    /// Makes the miner reconnect, because its firmware cannot be told to roll fewer bits; the new
    /// session is granted the smaller mask. Reconnects are spread over time. Until then the miner
    /// gets no work of this pool, because its shares would be invalid.
    pub(super) fn leave_soon(&mut self, now: Instant) {
        if self.leave_tenths == 0 {
            let spread =
                u32::try_from(self.session_name.wrapping_mul(0x9e37_79b9) % LEAVE_SPREAD_TENTHS)
                    .unwrap_or(0);
            let age = u32::try_from(self.age(now).as_millis() / 100).unwrap_or(u32::MAX / 2);
            self.leave_tenths = age + 1 + spread;
        }
    }

    /// Gives a passthrough miner its pool's new extranonce. Returns `false` if its firmware cannot
    /// be told and it must reconnect.
    pub(super) fn follow(&mut self, own: OwnExtranonce, out: &mut Outbox) -> bool {
        let OwnExtranonce { extranonce1, extranonce2_size } = own;
        if (extranonce1, extranonce2_size) == (self.slot, self.rules.extranonce2_size) {
            return true;
        }
        if !self.role.change_extranonce(&[extranonce1], extranonce2_size, &mut out.bytes) {
            out.close = Some(CloseReason::ExtranonceChanged);
            return false;
        }
        self.slot = extranonce1;
        self.rules =
            Arc::new(SessionRules { extranonce2_size, ..SessionRules::clone(&self.rules) });
        true
    }
}

/// The time over which reconnects are spread, in tenths of a second, so that a farm does not
/// reconnect all at once.
const LEAVE_SPREAD_TENTHS: u64 = 300;

/// Whether firmware can work with these version bits: an S19 wants three bits, an S17 bits 22 and
/// 23 (docs/protocol.md 2.6).
pub(crate) fn suits_firmware(mask: VersionMask) -> bool {
    mask.bit_count() >= 3 && mask.contains(0x00c0_0000)
}
