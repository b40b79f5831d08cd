//! Forwarded shares that wait for the pool's verdict, and the outcome of each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::client_role::OUTSTANDING_MAX;
use stratum::share::Proof;

use crate::ends::Settled;
use crate::handle::SessionHandle;
use crate::machines::MachineStats;
use crate::outcome::{PoolOutcome, PoolVerdict, SettledAs};
use crate::work::{Record, UpstreamShare};

/// The shares of one connection, in the order they were sent.
#[derive(Debug)]
pub(super) struct InFlight {
    shares: VecDeque<Waiting>,
    /// How many of the shares are not answered yet.
    waiting: usize,
    max: usize,
}

/// Maximum number of shares that wait for the pool on one connection: 16 s of 16,000 a second, so
/// that a pool may be 10 s late. Further shares wait in the connection's queue, and then in their
/// sessions.
const IN_FLIGHT_MAX: usize = 262_144;
/// How many shares beyond [`IN_FLIGHT_MAX`] may wait if they meet the network target.
const BLOCKS_MORE: usize = 1024;
// The table that matches answers has room for all of them, and for as many that were given up and
// may still be answered.
const _: () = assert!(IN_FLIGHT_MAX + BLOCKS_MORE < OUTSTANDING_MAX);
/// By how many the answered shares that are kept behind an unanswered one may outnumber the waiting
/// ones.
const ANSWERED_KEPT: usize = 1024;

/// A forwarded share that waits for the pool's verdict.
#[derive(Debug)]
struct Waiting {
    request: u64,
    ticket: u32,
    reply: Arc<SessionHandle>,
    sent_at: Instant,
    pool_difficulty: f64,
    /// The header, if it meets the network target.
    block: Option<Box<Proof>>,
    machine: Option<Arc<MachineStats>>,
    record: Option<Box<Record>>,
    /// Whether the share was answered. It is removed once it is at the front.
    done: bool,
}

impl Default for InFlight {
    fn default() -> Self {
        Self::bounded(IN_FLIGHT_MAX)
    }
}

impl InFlight {
    pub(super) const fn bounded(max: usize) -> Self {
        Self { shares: VecDeque::new(), waiting: 0, max }
    }

    /// How many more shares may be sent.
    pub(super) const fn room(&self) -> usize {
        self.max.saturating_sub(self.waiting)
    }

    /// Whether a share that meets the network target may be sent.
    pub(super) const fn has_room_for_block(&self) -> bool {
        self.waiting < self.max + BLOCKS_MORE
    }

    /// Adds a share that was sent as `request`. Request numbers only increase.
    pub(super) fn push(&mut self, request: u64, share: UpstreamShare, now: Instant) {
        self.waiting += 1;
        self.shares.push_back(Waiting {
            request,
            ticket: share.ticket,
            reply: share.reply,
            sent_at: now,
            pool_difficulty: share.work.job.difficulty.get(),
            block: share.block,
            machine: share.machine,
            record: share.record,
            done: false,
        });
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the oldest share without an answer was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.shares.iter().find(|share| !share.done).map(|share| share.sent_at)
    }

    /// Whether the share that was sent as this request waits for its verdict.
    pub(super) fn waits(&self, request: u64) -> bool {
        self.find(request).is_some()
    }

    /// Settles one share by the pool's verdict. Returns `None` if it does not wait.
    pub(super) fn settle(
        &mut self,
        request: u64,
        outcome: PoolOutcome,
        now: Instant,
    ) -> Option<Settled> {
        self.find(request).map(|index| self.settle_at(index, outcome, now))
    }

    /// Settles shares that were sent at `before` or earlier as unresolved.
    pub(super) fn expire(&mut self, before: Instant, now: Instant, settled: &mut Vec<Settled>) {
        while let Some(index) = self.shares.iter().position(|share| !share.done) {
            if self.shares[index].sent_at > before {
                break;
            }
            settled.push(self.settle_at(index, PoolOutcome::Unresolved, now));
        }
    }

    fn find(&self, request: u64) -> Option<usize> {
        // Request numbers only increase, so the table is sorted.
        let index = self.shares.binary_search_by_key(&request, |share| share.request).ok()?;
        (!self.shares[index].done).then_some(index)
    }

    /// Sends a share's outcome to its session, if that still exists.
    fn settle_at(&mut self, index: usize, outcome: PoolOutcome, now: Instant) -> Settled {
        let share = &mut self.shares[index];
        share.done = true;
        self.waiting -= 1;
        let (settled_as, refusal) = match &outcome {
            PoolOutcome::Accepted => (SettledAs::Accepted, None),
            PoolOutcome::Rejected(code, words) => {
                (SettledAs::Rejected, Some((*code, words.clone())))
            }
            PoolOutcome::Unresolved => (SettledAs::Unresolved, None),
        };
        let settled = Settled {
            outcome: settled_as,
            refusal,
            pool_difficulty: share.pool_difficulty,
            latency: now.saturating_duration_since(share.sent_at),
            block: share.block.take(),
            machine: share.machine.take(),
            record: share.record.take(),
        };
        share.reply.mailbox.verdict(PoolVerdict { ticket: share.ticket, outcome });
        while self.shares.front().is_some_and(|share| share.done) {
            self.shares.pop_front();
        }
        // A share that is never answered must not keep all later ones in memory.
        if self.shares.len() > 2 * self.waiting + ANSWERED_KEPT {
            self.shares.retain(|share| !share.done);
        }
        settled
    }
}

/// Settles a share that never reached the pool, and tells its session.
pub(crate) fn undelivered(share: UpstreamShare) -> Settled {
    share
        .reply
        .mailbox
        .verdict(PoolVerdict { ticket: share.ticket, outcome: PoolOutcome::Unresolved });
    Settled {
        outcome: SettledAs::Unresolved,
        refusal: None,
        pool_difficulty: share.work.job.difficulty.get(),
        latency: Duration::ZERO,
        block: share.block,
        machine: share.machine,
        record: share.record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::ConnectionId;
    use crate::target::TargetId;
    use crate::upstream::pool_session::tests::share;
    use crate::work::Upstream;

    /// If a pool loses one answer among very many, only that share stays until it is given up.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn one_share_that_is_never_answered_keeps_no_others() {
        let (start, mut settled) = (Instant::now(), Vec::new());
        let (upstream, _queues) = Upstream::new(ConnectionId(1), TargetId::nth(0));
        let reply = crate::handle::tests::handle(1);
        let mut in_flight = InFlight::bounded(4);
        in_flight.push(0, share(&upstream, reply.clone()), start);
        for request in 1..=4000 {
            in_flight.push(request, share(&upstream, reply.clone()), start);
            assert_eq!((in_flight.waiting(), in_flight.room()), (2, 2));
            assert!(in_flight.settle(request, PoolOutcome::Accepted, start).is_some());
            assert!(!in_flight.waits(request) && in_flight.waits(0));
            assert!(in_flight.shares.len() <= 2 + ANSWERED_KEPT, "{}", in_flight.shares.len());
        }
        in_flight.expire(start, start, &mut settled);
        assert_eq!((settled.len(), in_flight.waiting(), in_flight.shares.len()), (1, 0, 0));
    }
}
