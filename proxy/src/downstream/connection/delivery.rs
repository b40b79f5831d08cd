//! Counts the submits that the session decided, and forwards its shares to the pool connections
//! that issued their jobs.

use std::time::Instant;

use daemon::clock;
use tracing::error;

use super::state::Connection;
use super::stuck::Stuck;
use crate::ends::Counted;
use crate::outcome::{PoolOutcome, PoolVerdict, Worth};
use crate::reasons::Reject;
use crate::session::{Forward, Input, Outbox};
use crate::work::UpstreamShare;

impl Connection {
    /// Counts the submits that the session decided, and forwards its shares.
    pub(super) fn deliver(&mut self, now: Instant, out: &mut Outbox) {
        for counted in out.counts.drain(..) {
            let worth = counted.worth;
            if counted.reject.is_some() {
                self.entry.handle.tally.reject();
            }
            let machine = self.presence.as_ref().map(|presence| &*presence.stats);
            self.pools.proxy.books.ended(counted, machine);
            if let Some(worth) = worth {
                self.proved(worth);
            }
        }
        let mut forwards = std::mem::take(&mut out.forwards);
        for forward in forwards.drain(..) {
            self.proved(forward.worth);
            self.forward(forward, now, out);
        }
        out.forwards = forwards;
    }

    /// Records the work that a share proves.
    fn proved(&self, worth: Worth) {
        let (wall, handle) = (clock::wall(), &self.entry.handle);
        handle.tally.share(handle.connected_at(), wall);
        if let Some(presence) = &self.presence {
            presence.stats.share(worth, self.starved, wall);
        }
    }

    /// Sends a share to the connection that issued its job.
    fn forward(&mut self, forward: Forward, now: Instant, out: &mut Outbox) {
        let Forward { work, share, version_bits, ticket, block, worth: _, record } = forward;
        if block.is_some() {
            self.pools.proxy.books.metrics.shares.blocks.inc();
        }
        let share = UpstreamShare {
            slot: self.seating.slot(),
            extranonce2: share.extranonce2,
            ntime: share.ntime,
            nonce: share.nonce,
            version_bits,
            ticket,
            reply: self.entry.handle.clone(),
            block,
            machine: self.presence.as_ref().map(|presence| presence.stats.clone()),
            record,
            work,
        };
        if let Err(share) = Stuck::bring(&mut self.stuck, share, now) {
            self.undelivered(share, now, out);
        }
    }

    /// Tries again to forward the shares whose queues were full. Shares that have waited too long
    /// are unresolved.
    pub(super) fn unstick(&mut self, now: Instant, out: &mut Outbox) {
        if self.stuck.is_none() {
            return;
        }
        let mut lost = Vec::new();
        Stuck::retry(&mut self.stuck, now, &mut lost);
        for share in lost {
            self.undelivered(share, now, out);
        }
    }

    /// Counts a share that cannot reach its pool as unresolved, and answers it.
    fn undelivered(&mut self, share: UpstreamShare, now: Instant, out: &mut Outbox) {
        let verdict = PoolVerdict { ticket: share.ticket, outcome: PoolOutcome::Unresolved };
        self.unresolved(share);
        self.entry.handle.tally.reject();
        self.session.handle(Input::Verdict(verdict), now, out);
    }

    /// Counts the shares that still wait for room in a queue when the connection ends as
    /// unresolved.
    pub(super) fn abandon(&mut self) {
        for share in self.stuck.take().into_iter().flat_map(|stuck| stuck.into_shares()) {
            self.unresolved(share);
        }
    }

    fn unresolved(&self, share: UpstreamShare) {
        if let Some(proof) = &share.block {
            self.pools.proxy.books.metrics.shares.blocks_lost.inc();
            error!(header = %const_hex::encode(proof.header), "block lost: its upstream connection is gone");
        }
        let target = Some(share.work.job.upstream.target);
        let refused = Counted::refused(Reject::Unresolved, target);
        let counted = Counted { record: share.record, ..refused };
        self.pools.proxy.books.ended(counted, share.machine.as_deref());
    }
}
