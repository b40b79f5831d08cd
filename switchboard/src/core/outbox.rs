//! The entries that wait to be written to the ledger, in order. A commitment is answered when it is
//! durable, or refused if writing fails; other entries are kept and written again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Answer, Core, Outputs, Refused};
use crate::ledger::{Entry, Event, Head, WriteError};
use crate::view::Shortage;

/// The number of entries that may wait while the ledger fails. Beyond it one without a waiting
/// command is dropped and counted: the oldest decision, or if there is none, the oldest entry.
const WAITING: usize = 10_000;
/// The time after a failed write until the next attempt.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Waiting {
    entry: Entry,
    /// The command that waits for this entry.
    reply: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    in_flight: Vec<Waiting>,
    /// The entries that are durable and whose commands are not answered yet.
    durable: Vec<Waiting>,
    failed: Option<WriteError>,
    retry_at: Option<Instant>,
}

impl Outbox {
    /// Queues an entry. Returns whether a waiting entry had to be dropped to make room.
    pub(super) fn push(&mut self, entry: Entry, reply: Option<u64>) -> bool {
        self.waiting.push_back(Waiting { entry, reply });
        if self.waiting.len() <= WAITING {
            return false;
        }
        // A lost decision is made again later, and repeats everything; what happened to a
        // commitment is recorded only once.
        let decided = |waiting: &Waiting| {
            waiting.reply.is_none() && matches!(waiting.entry.event, Event::Decided { .. })
        };
        let oldest = self.waiting.iter().position(decided);
        let oldest =
            oldest.or_else(|| self.waiting.iter().position(|waiting| waiting.reply.is_none()));
        let Some(dropped) = oldest.and_then(|oldest| self.waiting.remove(oldest)) else {
            return false;
        };
        self.keep_changes(dropped.entry.event);
        true
    }

    /// Adds what a dropped decision changed to the decision after it, which records only how the
    /// selection differs from that of the dropped one.
    fn keep_changes(&mut self, dropped: Event) {
        let Event::Decided { changes: Some(lost), .. } = dropped else { return };
        let next = self.waiting.iter_mut().find_map(|waiting| match &mut waiting.entry.event {
            Event::Decided { changes, .. } => Some(changes),
            _ => None,
        });
        if let Some(changes) = next {
            *changes = Some(lost.then(changes.take().unwrap_or_default()));
        }
    }

    /// Returns the entries to write next, if nothing is being written.
    pub(super) fn next(&mut self, now: Instant) -> Option<Vec<Entry>> {
        if !self.in_flight.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        if self.waiting.is_empty() {
            // The failed commands were answered as refused, and nothing is missing. The next entry
            // will show whether the ledger works again.
            self.failed = None;
            self.retry_at = None;
            return None;
        }
        self.in_flight = self.waiting.drain(..).collect();
        Some(self.in_flight.iter().map(|waiting| waiting.entry.clone()).collect())
    }

    /// Why the last write failed, if it did.
    pub(super) fn failure(&self) -> Option<&WriteError> {
        self.failed.as_ref()
    }

    /// Whether a decision is not durable yet.
    pub(super) fn decision_waits(&self) -> bool {
        self.in_flight
            .iter()
            .chain(&self.waiting)
            .any(|waiting| matches!(waiting.entry.event, Event::Decided { .. }))
    }

    /// The entries that wait or are being written.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Event> {
        self.in_flight.iter().chain(&self.waiting).map(|waiting| &waiting.entry.event)
    }
}

impl Core {
    /// Handles the result of the last write. [`Core::answer_durable`] answers the commands whose entries
    /// are durable now when a plan has been made with them.
    pub(super) fn written(
        &mut self,
        result: Result<Head, WriteError>,
        now: Instant,
        outputs: &mut Outputs,
    ) {
        let batch = std::mem::take(&mut self.outbox.in_flight);
        match result {
            Ok(head) => {
                self.head = head;
                self.outbox.failed = None;
                self.outbox.retry_at = None;
                let mut leases_changed = false;
                for Waiting { entry, .. } in &batch {
                    let applied = self.state.apply(entry.at, &entry.event);
                    debug_assert_eq!(applied, Ok(()), "only what fits the state is written");
                    leases_changed |= matches!(
                        entry.event,
                        Event::LeaseCommitted { .. }
                            | Event::LeaseCancelled { .. }
                            | Event::LeaseAmended { .. }
                            | Event::CommitmentMoved { .. }
                    );
                }
                if leases_changed {
                    self.take_up_leases();
                }
                self.outbox.durable.extend(batch);
            }
            Err(error) => {
                self.tally.ledger_failures += 1;
                self.outbox.retry_at = Some(now + RETRY);
                for waiting in batch.into_iter().rev() {
                    match waiting.reply {
                        Some(reply) => {
                            self.adopting.remove(&reply);
                            self.amending.remove(&reply);
                            outputs.answers.push((reply, Answer::Refused(Refused::from(&error))));
                        }
                        None => self.outbox.waiting.push_front(waiting),
                    }
                }
                self.outbox.failed = Some(error);
            }
        }
    }

    /// Answers the commands whose entries are durable.
    pub(super) fn answer_durable(&mut self, now: Instant, outputs: &mut Outputs) {
        for Waiting { entry, reply } in std::mem::take(&mut self.outbox.durable) {
            if let Some(reply) = reply {
                let answer = self.durable(reply, &entry, now);
                outputs.answers.push((reply, answer));
            }
        }
    }

    /// Returns the answer to a command whose entry is now durable.
    fn durable(&mut self, number: u64, entry: &Entry, now: Instant) -> Answer {
        match &entry.event {
            Event::LeaseCommitted { lease, .. } => {
                self.tally.committed += 1;
                let mut answer = self.committed(&lease.id, true);
                if let Answer::Committed(answer) = &mut answer
                    && self.stepped.is_some()
                {
                    // While the clock is stepped, the lease is in no plan.
                    let (short, _) = self.shortages_with(lease, entry.at);
                    let known_since = Some(entry.at);
                    answer.lease.short = short.map(|short| Shortage { known_since, ..short });
                }
                answer
            }
            Event::LeaseCancelled { lease, .. } => self.committed(lease, false),
            Event::LeaseAmended { .. } => {
                let answer = self.amending.remove(&number);
                answer.map_or(Answer::Done, |(_, answer)| Answer::Amended(answer))
            }
            Event::Adopted { machines, wake, .. } => {
                let wall = self.at.map_or(entry.at, |(wall, _)| wall);
                self.adopted(number, (machines, *wake), entry.at, (wall, now))
            }
            _ => Answer::Done,
        }
    }
}
