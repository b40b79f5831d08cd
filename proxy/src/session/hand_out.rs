//! Hands work to the miner: the difficulty, the job, and before them whatever its pool changes (the
//! version mask, the extranonce).

use std::sync::Arc;
use std::time::Instant;

use stratum::server_message::{NOTIFY_CLEAN, NOTIFY_KEEP, write_set_difficulty};
use stratum::version::VersionMask;

use super::outbox::Outbox;
use super::state::{Session, SessionRules};
use crate::reasons::CloseReason;
use crate::work::{LaneWork, OwnExtranonce};

impl Session {
    /// Hands out work: the difficulty, if it or the pool changed, and the job right after it.
    pub(super) fn work(&mut self, work: &Arc<LaneWork>, now: Instant, out: &mut Outbox) {
        // A job that the pool only sent again under another id is the same to the miner.
        if !self.is_ready() || self.issues.rename(work) {
            return;
        }
        if let Some(own) = work.own
            && !self.follow(own, out)
        {
            return;
        }
        // This pool may roll fewer bits than the former one, or more again.
        let rolls = work.job.mask.unwrap_or(VersionMask::NONE).and(self.offer);
        if let Some(granted) = self.role.version_mask() {
            let shrinks = !rolls.contains(granted.0);
            if self.hears_mask {
                self.role.change_offer(rolls, &mut out.bytes);
            } else if shrinks && suits_firmware(rolls) {
                return self.leave_soon(now);
            }
            // Firmware that cannot be told stays as it is if this pool rolls all of its bits, or if
            // these bits would not be granted to a new session either.
        }
        self.leave_tenths = 0;
        let mask = self.role.version_mask().map(|granted| granted.and(rolls));
        let limits = self.limits_of(work);
        let advertised = self.aim.advertise(&limits, &self.rules.difficulty, self.age(now));
        let difficulty = advertised.level.difficulty();
        // Sent again at a switch, changed or not (docs/protocol.md 2.7).
        let switched = self
            .issues
            .newest()
            .is_some_and(|last| last.job.upstream.target != work.job.upstream.target);
        if advertised.changed.is_some() || switched {
            write_set_difficulty(difficulty, &mut out.bytes);
            out.retarget = advertised.changed;
        }
        // Clean unless what the miner works on is still good at the same pool (so a skipped clean
        // job is never lost) and at the same difficulty: shares of older work would be dropped
        // after a raise (S19), or be found at the new, lower difficulty and miss that of their job
        // (ESP-Miner). A restart costs a miner some milliseconds.
        let misled = self.conduct.as_ref().is_some_and(|conduct| conduct.is_misled());
        let last = self.issues.newest().filter(|_| !misled && advertised.changed.is_none());
        let keeps = last
            .is_some_and(|last| last.job.is_live() && last.job.upstream.id == work.job.upstream.id);
        out.bytes.extend_from_slice(&work.notify);
        out.bytes.extend_from_slice(if keeps { NOTIFY_KEEP } else { NOTIFY_CLEAN });
        self.issues.add(work.clone(), difficulty, mask);
    }

    /// Makes a miner reconnect that cannot be told to roll fewer bits: the new session will be
    /// granted what there is. Miners do so spread over time, and until then get no work whose
    /// shares would be wrong.
    pub(super) fn leave_soon(&mut self, now: Instant) {
        if self.leave_tenths == 0 {
            let spread =
                u32::try_from(self.session_name.wrapping_mul(0x9e37_79b9) % LEAVE_SPREAD_TENTHS)
                    .unwrap_or(0);
            let age = u32::try_from(self.age(now).as_millis() / 100).unwrap_or(u32::MAX / 2);
            self.leave_tenths = age + 1 + spread;
        }
    }

    /// Follows its pool to another extranonce, if the miner can be told. Returns `false` if the
    /// miner must reconnect.
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

/// The time over which reconnects are spread: a farm that reconnects at once is a storm.
const LEAVE_SPREAD_TENTHS: u64 = 300;

/// Whether a new session would be granted these bits: see `common_mask` of the pools.
pub(crate) fn suits_firmware(mask: VersionMask) -> bool {
    mask.bit_count() >= 3 && mask.contains(0x00c0_0000)
}
