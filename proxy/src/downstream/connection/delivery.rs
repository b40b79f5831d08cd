//! Counting what the session decided, and bringing its shares to the upstreams that issued their jobs.

use std::time::{Duration, Instant};

use daemon::clock;
use tokio::sync::mpsc::error::TrySendError;
use tracing::error;

use super::Connection;
use crate::outcome::{Counted, Outcome, Worth};
use crate::session::{Forward, Input, Outbox};
use crate::work::{PoolOutcome, PoolVerdict, UpstreamShare};

/// How long a share may wait for room in its upstream's queue.
const QUEUE_PATIENCE: Duration = Duration::from_secs(2);

/// Shares that found no room in their upstream's queue: for a pool that takes them slower than they come. Nothing more is
/// read from the miner while there are any, so there are no more than one read brings.
pub(super) struct Stuck {
    shares: Vec<UpstreamShare>,
    until: Instant,
}

impl Connection {
    /// Counts what the session decided and brings its shares to their upstreams.
    pub(super) fn deliver(&mut self, now: Instant, out: &mut Outbox) {
        for counted in out.counts.drain(..) {
            let worth = counted.worth;
            if counted.reason.is_some() {
                self.entry.handle.tally.reject();
            }
            let machine = self.presence.as_ref().map(|presence| &*presence.stats);
            self.shared.books.ended(counted, machine);
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

    /// Notes that the machine has done this much work.
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
        let upstream = work.job.upstream.clone();
        let is_block = block.is_some();
        if is_block {
            self.shared.books.metrics.blocks.inc();
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
        let share = if is_block {
            match upstream.urgent().try_send(share) {
                Ok(()) => return,
                // It takes its turn rather than be lost.
                Err(TrySendError::Full(share) | TrySendError::Closed(share)) => share,
            }
        } else {
            share
        };
        match upstream.submits().try_send(share) {
            Ok(()) => {}
            Err(TrySendError::Closed(share)) => self.undelivered(share, now, out),
            Err(TrySendError::Full(share)) => {
                let stuck = self
                    .stuck
                    .get_or_insert_with(|| Box::new(Stuck { shares: Vec::new(), until: now + QUEUE_PATIENCE }));
                stuck.shares.push(share);
            }
        }
    }

    /// Tries again to bring the shares that found no room; gives them up when that has taken too long.
    pub(super) fn unstick(&mut self, now: Instant, out: &mut Outbox) {
        let Some(stuck) = self.stuck.take() else { return };
        let until = stuck.until;
        let mut left = Vec::new();
        for share in stuck.shares {
            // In their order: one that finds no room keeps the others behind it.
            let refused = if left.is_empty() {
                match share.work.job.upstream.clone().submits().try_send(share) {
                    Ok(()) => continue,
                    Err(refused) => refused,
                }
            } else {
                TrySendError::Full(share)
            };
            match refused {
                TrySendError::Full(share) if now < until => left.push(share),
                TrySendError::Full(share) | TrySendError::Closed(share) => self.undelivered(share, now, out),
            }
        }
        if !left.is_empty() {
            self.stuck = Some(Box::new(Stuck { shares: left, until }));
        }
    }

    /// Answers a share that cannot be brought to its pool: nobody knows what it was worth there.
    fn undelivered(&mut self, share: UpstreamShare, now: Instant, out: &mut Outbox) {
        let verdict = PoolVerdict { ticket: share.ticket, outcome: PoolOutcome::Unresolved };
        self.unresolved(share);
        self.entry.handle.tally.reject();
        self.session.handle(Input::Verdict(verdict), now, out);
    }

    /// Writes down the shares that still found no room when the connection ended.
    pub(super) fn abandon(&mut self) {
        for share in self.stuck.take().map(|stuck| stuck.shares).unwrap_or_default() {
            self.unresolved(share);
        }
    }

    fn unresolved(&self, share: UpstreamShare) {
        if let Some(proof) = &share.block {
            self.shared.books.metrics.blocks_lost.inc();
            error!(header = %const_hex::encode(proof.header), "block_lost: its upstream is gone");
        }
        let target = Some(share.work.job.upstream.target);
        let (outcome, reason) = (Outcome::Unresolved, Some("unresolved"));
        let counted = Counted { outcome, reason, worth: None, target, record: share.record };
        self.shared.books.ended(counted, share.machine.as_deref());
    }
}
