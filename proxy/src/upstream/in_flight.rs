//! Forwarded shares that wait for the pool's word, and how each ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::share::Proof;

use crate::machines::MachineStats;
use crate::outcome::{Settled, SettledAs};
use crate::sessions::SessionHandle;
use crate::share_log::Record;
use crate::work::{PoolOutcome, PoolVerdict, UpstreamShare};

/// The shares of one connection, in the order they were sent.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    shares: VecDeque<Waiting>,
}

/// A forwarded share that waits for the pool's word.
#[derive(Debug)]
struct Waiting {
    request: u64,
    ticket: u32,
    reply: Arc<SessionHandle>,
    sent_at: Instant,
    pool_difficulty: f64,
    /// The header, when it meets the network target.
    block: Option<Box<Proof>>,
    machine: Option<Arc<MachineStats>>,
    record: Option<Box<Record>>,
    /// Answered already (removed once it is at the front).
    done: bool,
}

impl InFlight {
    /// Takes in a share that was sent as `request`. Requests only rise.
    pub(super) fn push(&mut self, request: u64, share: UpstreamShare, now: Instant) {
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

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.shares.iter().filter(|share| !share.done).count()
    }

    /// When the oldest was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.shares.iter().find(|share| !share.done).map(|share| share.sent_at)
    }

    /// Whether that request waits.
    pub(super) fn waits(&self, request: u64) -> bool {
        self.find(request).is_some()
    }

    /// Ends one share by the pool's word. `None` when it does not wait.
    pub(super) fn settle(&mut self, request: u64, outcome: PoolOutcome, now: Instant) -> Option<Settled> {
        self.find(request).map(|index| self.settle_at(index, outcome, now))
    }

    /// Ends those sent at `before` or earlier without the pool's word.
    pub(super) fn expire(&mut self, before: Instant, now: Instant, settled: &mut Vec<Settled>) {
        while let Some(index) = self.shares.iter().position(|share| !share.done) {
            if self.shares[index].sent_at > before {
                break;
            }
            settled.push(self.settle_at(index, PoolOutcome::Unresolved, now));
        }
    }

    fn find(&self, request: u64) -> Option<usize> {
        // Request numbers only rise, so the table is sorted.
        let index = self.shares.binary_search_by_key(&request, |share| share.request).ok()?;
        (!self.shares[index].done).then_some(index)
    }

    /// Tells a share's session what became of it. A session that is gone misses it.
    fn settle_at(&mut self, index: usize, outcome: PoolOutcome, now: Instant) -> Settled {
        let share = &mut self.shares[index];
        share.done = true;
        let (settled_as, refusal) = match &outcome {
            PoolOutcome::Accepted => (SettledAs::Accepted, None),
            PoolOutcome::Rejected(code, words) => (SettledAs::Rejected, Some((*code, words.clone()))),
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
        settled
    }
}

/// Tells a share's session that it never reached the pool.
pub(crate) fn undelivered(share: UpstreamShare) -> Settled {
    share.reply.mailbox.verdict(PoolVerdict { ticket: share.ticket, outcome: PoolOutcome::Unresolved });
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
