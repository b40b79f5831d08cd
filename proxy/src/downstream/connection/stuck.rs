//! Shares of one miner that wait for room in the queue of their upstream, because the pool accepts
//! shares more slowly than they arrive.
//!
//! Each waits for a while, and only behind earlier shares for the same upstream: a slow pool must
//! not delay shares for another one, and a later share must not overtake an earlier one. While the
//! miner works for an upstream with shares here, reading from it pauses: its next shares wait in
//! its socket, and may still be in time.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;

use crate::space::ConnectionId;
use crate::work::{Upstream, UpstreamShare};

/// How long a share may wait for room in its upstream's queue.
const PATIENCE: Duration = Duration::from_secs(2);
/// The maximum number of shares that wait here, apart from the shares of one more read. They are
/// late shares for a pool that the miner has left.
const STUCK_MAX: usize = 64;

/// The shares, oldest first, with the time until which each waits.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    shares: Vec<(UpstreamShare, Instant)>,
}

impl Stuck {
    /// Sends a share to its upstream; if there is no room, or earlier shares wait for it, it waits
    /// in `stuck`.
    ///
    /// # Errors
    /// The share, if its upstream has ended.
    pub(super) fn bring(
        stuck: &mut Option<Box<Self>>,
        share: UpstreamShare,
        now: Instant,
    ) -> Result<(), UpstreamShare> {
        let is_behind = stuck.as_ref().is_some_and(|stuck| stuck.holds(share.work.job.upstream.id));
        match offer(share, is_behind) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(share)) => Err(share),
            Err(TrySendError::Full(share)) => {
                stuck.get_or_insert_default().shares.push((share, now + PATIENCE));
                Ok(())
            }
        }
    }

    /// Tries to send all waiting shares again. Shares that have waited too long are moved to
    /// `lost`.
    pub(super) fn retry(
        stuck: &mut Option<Box<Self>>,
        now: Instant,
        lost: &mut Vec<UpstreamShare>,
    ) {
        let Some(mut waiting) = stuck.take() else { return };
        let mut full: Vec<ConnectionId> = Vec::new();
        for (share, until) in std::mem::take(&mut waiting.shares) {
            let upstream = share.work.job.upstream.id;
            match offer(share, full.contains(&upstream)) {
                Ok(()) => {}
                Err(TrySendError::Full(share)) if now < until => {
                    full.push(upstream);
                    waiting.shares.push((share, until));
                }
                Err(TrySendError::Full(share) | TrySendError::Closed(share)) => lost.push(share),
            }
        }
        *stuck = (!waiting.shares.is_empty()).then_some(waiting);
    }

    /// Whether reading must stop for a miner that works for `upstream`.
    pub(super) fn holds_up(&self, upstream: Option<ConnectionId>) -> bool {
        self.shares.len() >= STUCK_MAX || upstream.is_some_and(|upstream| self.holds(upstream))
    }

    /// Returns all waiting shares.
    pub(super) fn into_shares(self) -> impl Iterator<Item = UpstreamShare> {
        self.shares.into_iter().map(|(share, _)| share)
    }

    fn holds(&self, upstream: ConnectionId) -> bool {
        self.shares.iter().any(|(share, _)| share.work.job.upstream.id == upstream)
    }
}

/// Offers a share to its upstream, unless others must be sent first: a share that meets the network
/// target waits for none.
fn offer(share: UpstreamShare, is_behind: bool) -> Result<(), TrySendError<UpstreamShare>> {
    let upstream: &Upstream = &share.work.job.upstream.clone();
    let share = if share.block.is_some() {
        match upstream.urgent().try_send(share) {
            Ok(()) => return Ok(()),
            // The share waits with the others instead of being lost.
            Err(TrySendError::Full(share) | TrySendError::Closed(share)) => share,
        }
    } else if is_behind {
        return Err(TrySendError::Full(share));
    } else {
        share
    };
    upstream.submits().try_send(share)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::target::TargetId;
    use crate::upstream::share;
    use crate::work::{SUBMITS_QUEUED, SubmitQueues};

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    struct Bench {
        a: (Arc<Upstream>, SubmitQueues),
        b: (Arc<Upstream>, SubmitQueues),
        stuck: Option<Box<Stuck>>,
    }

    impl Bench {
        /// The queue of `a` is full, that of `b` empty.
        fn new() -> Self {
            let (a, b) = (
                Upstream::new(ConnectionId(1), TargetId::nth(0)),
                Upstream::new(ConnectionId(2), TargetId::nth(1)),
            );
            for _ in 0..SUBMITS_QUEUED {
                a.0.submits().try_send(of(&a.0, u32::MAX)).unwrap();
            }
            Self { a, b, stuck: None }
        }

        fn bring(&mut self, upstream: usize, ticket: u32, now: Instant) {
            let upstream = if upstream == 0 { &self.a.0 } else { &self.b.0 };
            Stuck::bring(&mut self.stuck, of(upstream, ticket), now).expect("it lives");
        }

        fn retry(&mut self, now: Instant) -> Vec<u32> {
            let mut lost = Vec::new();
            Stuck::retry(&mut self.stuck, now, &mut lost);
            lost.iter().map(|share| share.ticket).collect()
        }
    }

    fn of(upstream: &Arc<Upstream>, ticket: u32) -> UpstreamShare {
        UpstreamShare { ticket, ..share(upstream, crate::handle::tests::handle(1)) }
    }

    /// The tickets of our shares in a queue, in order.
    fn queued(queues: &mut SubmitQueues) -> Vec<u32> {
        let all = std::iter::from_fn(|| queues.submits.try_recv().ok());
        all.map(|share| share.ticket).filter(|ticket| *ticket != u32::MAX).collect()
    }

    #[test]
    fn a_full_queue_delays_no_share_of_another_upstream() {
        let (mut bench, start) = (Bench::new(), origin());
        for ticket in 0..6 {
            bench.bring(ticket as usize % 2, ticket, start);
        }
        assert_eq!(queued(&mut bench.b.1), [1, 3, 5]);
        let stuck = bench.stuck.as_ref().unwrap();
        assert!(
            stuck.holds_up(Some(ConnectionId(1)))
                && !stuck.holds_up(Some(ConnectionId(2)))
                && !stuck.holds_up(None)
        );

        // The order is also kept when all shares are tried again: `b` was full for a moment, too.
        for _ in 0..SUBMITS_QUEUED {
            bench.b.0.submits().try_send(of(&bench.b.0, u32::MAX)).unwrap();
        }
        bench.bring(1, 7, start);
        queued(&mut bench.b.1);
        assert!(bench.retry(start + SECOND).is_empty());
        assert_eq!(queued(&mut bench.b.1), [7]);
        assert_eq!(bench.stuck.as_ref().map(|stuck| stuck.shares.len()), Some(3));
    }

    #[test]
    fn a_later_share_does_not_overtake_one_that_is_stuck() {
        let (mut bench, start) = (Bench::new(), origin());
        bench.bring(0, 0, start);
        bench.bring(0, 1, start);
        // There is room for one share, and the first one takes it.
        bench.a.1.submits.try_recv().unwrap();
        bench.bring(0, 2, start);
        assert!(bench.retry(start).is_empty());
        queued(&mut bench.a.1);
        bench.bring(0, 3, start);
        assert!(bench.retry(start).is_empty() && bench.stuck.is_none());
        bench.bring(0, 4, start);
        assert_eq!(queued(&mut bench.a.1), [1, 2, 3, 4]);
    }

    #[test]
    fn each_share_waits_two_seconds_and_a_lost_upstream_none() {
        let (mut bench, start) = (Bench::new(), origin());
        bench.bring(0, 0, start);
        bench.bring(0, 1, start + SECOND);
        assert!(bench.retry(start + PATIENCE - SECOND / 10).is_empty());
        assert_eq!(bench.retry(start + PATIENCE), [0]);
        assert_eq!(bench.retry(start + PATIENCE + SECOND), [1]);
        assert!(bench.stuck.is_none());

        bench.bring(0, 2, start);
        bench.bring(0, 3, start);
        bench.a.1.submits.close();
        assert_eq!(bench.retry(start), [2, 3]);
        assert!(
            Stuck::bring(&mut bench.stuck, of(&bench.a.0, 4), start).is_err()
                && bench.stuck.is_none()
        );
    }

    #[test]
    fn a_block_waits_for_no_share_and_there_are_so_many_at_most() {
        let (mut bench, start) = (Bench::new(), origin());
        let rebuilt = stratum::share::Rebuilt::Plain;
        let proof =
            stratum::share::Proof { header: [5; 80], hash: [0; 32], version_bits: None, rebuilt };
        bench.bring(0, 0, start);
        let block = UpstreamShare { block: Some(Box::new(proof)), ..of(&bench.a.0, 1) };
        Stuck::bring(&mut bench.stuck, block, start).expect("it lives");
        assert_eq!(bench.a.1.urgent.try_recv().map(|share| share.ticket), Ok(1));
        for ticket in 2..=STUCK_MAX as u32 {
            assert!(!bench.stuck.as_ref().unwrap().holds_up(Some(ConnectionId(2))));
            bench.bring(0, ticket, start);
        }
        assert!(bench.stuck.as_ref().unwrap().holds_up(Some(ConnectionId(2))));
    }
}
