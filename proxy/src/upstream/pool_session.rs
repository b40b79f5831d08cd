//! One connection to a pool, as a pure state machine: lines, shares and the time go in; bytes and
//! events come out.
//!
//! It owns the handshake, the pool's difficulty and mask, and the deadlines of the shares
//! [`in_flight`](super::in_flight). It decides when a connection counts as lost. The task around it
//! ([`super`]) handles sockets and back-off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::client_role::{ClientConfig, ClientEvent, ClientRole};
use stratum::difficulty::Difficulty;
use stratum::error::{RejectCode, StratumError};
use stratum::job::Job;
use stratum::version::VersionMask;

use super::end::End;
use super::in_flight::InFlight;
use super::pace::{Pace, Terms};
use super::pool_requests::{AnswerBudget, Redirect};
use super::verdicts::{Finding, Verdicts};
use super::window::Window;
use crate::config::PoolPatience;
use crate::ends::Settled;
use crate::outcome::{PoolOutcome, PoolVerdict, SettledAs};
use crate::reasons::{Alarm, IgnoredLine, Reject};
use crate::space::ConnectionId;
use crate::work::{LaneWork, PoolJob, UpstreamShare};

/// What a pool's line means for the rest of the proxy.
#[derive(Debug)]
pub(crate) enum PoolEvent {
    /// The sizes are known.
    Subscribed { extranonce1: Vec<u8>, extranonce2_size: u8 },
    /// The handshake is done.
    Authorized,
    /// A new job, with the difficulty and mask that apply to it.
    Job { job: Job, difficulty: Difficulty, mask: Option<VersionMask> },
    /// The pool changed our extranonce: its jobs so far are retired.
    Extranonce { extranonce1: Vec<u8>, extranonce2_size: u8 },
    /// An alarm for the operator; the connection continues.
    Alarm { alarm: Alarm, detail: String },
    /// A line that has no effect, to be counted.
    Ignored(IgnoredLine),
    /// The pool asks us to reconnect.
    Reconnect(Redirect),
    /// The pool misbehaves, and should not be used while there is a different target.
    Quarantine { reason: Alarm },
    /// The connection can no longer be used.
    Dead { end: End, detail: String },
}

impl From<Terms> for PoolEvent {
    fn from(Terms { job, difficulty, mask }: Terms) -> Self {
        Self::Job { job, difficulty, mask }
    }
}

#[derive(Debug)]
pub(crate) struct PoolSession {
    role: ClientRole,
    patience: PoolPatience,
    difficulty: Difficulty,
    mask: Option<VersionMask>,
    authorized: bool,
    subscribed: bool,
    /// A job that came before the end of the handshake, or before the pool had sent a difficulty.
    early_job: Option<(Job, Instant)>,
    /// The newest pool ids of live jobs that were sent again under another id, the latest last.
    renamed: VecDeque<Arc<PoolJob>>,
    /// Whether the pool has sent a difficulty, or has been waited for long enough.
    difficulty_said: bool,
    /// The difficulty of its newest job, and since when its jobs have it.
    works_at: Option<(Difficulty, Instant)>,
    in_flight: InFlight,
    connected_at: Instant,
    last_answer_at: Instant,
    last_job_at: Instant,
    verdicts: Verdicts,
    bad_notifies_in_a_row: u32,
    unmatched: Window,
    answer_budget: AnswerBudget,
    pace: Pace,
}

/// How long a first job waits for the difficulty that belongs to it.
const DIFFICULTY_PATIENCE: Duration = Duration::from_secs(1);
/// How long miners may still send shares of the job before: they finish the work in their chips.
const CHANGE_SETTLES: Duration = Duration::from_secs(2);
/// Maximum number of renamed jobs that are kept. Larger than the number of jobs that a miner may
/// still submit to, so that each of those is found.
const RENAMED_MAX: usize = 64;
/// Unreadable jobs in a row after which the connection ends (U21).
const BAD_NOTIFIES_MAX: u32 = 3;
/// Unrequested answers a minute after which the connection counts as broken (U15).
const UNMATCHED_MAX: u32 = 100;
/// The distance between the request ids of successive connections, which keeps them apart (U42): as
/// many as a connection has shares in days, and all of them below the 31 bits that pools store.
const NUMBERS_EACH: u64 = 1_000_000;
const NUMBERINGS: u64 = 2000;

impl PoolSession {
    /// A session on the connection `id`, created at `now`. Send the output of [`Self::start`]
    /// first.
    pub(crate) fn new(
        id: ConnectionId,
        config: ClientConfig,
        patience: PoolPatience,
        start_difficulty: Difficulty,
        now: Instant,
    ) -> Self {
        Self {
            role: ClientRole::new(config)
                .numbered_from(id.0.wrapping_sub(1) % NUMBERINGS * NUMBERS_EACH),
            difficulty: start_difficulty,
            mask: None,
            authorized: false,
            subscribed: false,
            early_job: None,
            renamed: VecDeque::new(),
            difficulty_said: false,
            works_at: None,
            in_flight: InFlight::default(),
            connected_at: now,
            last_answer_at: now,
            last_job_at: now,
            verdicts: Verdicts::default(),
            bad_notifies_in_a_row: 0,
            unmatched: Window::new(Duration::from_secs(60)),
            answer_budget: AnswerBudget::new(now),
            pace: Pace::new(patience.job_every, now),
            patience,
        }
    }

    /// Writes the first requests.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) {
        self.role.start(out);
    }

    /// The difficulty of the pool's next job, as far as it is known.
    pub(crate) fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    /// Whether the pool's last change of difficulty has reached the miners. Pools remember only one
    /// earlier difficulty (ckpool, para): if we asked for another change before, shares of older
    /// jobs would be judged by a difficulty at which they were not mined.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.works_at
            .is_some_and(|(at, since)| at == self.difficulty && now >= since + CHANGE_SETTLES)
    }

    /// Asks the pool for a difficulty.
    pub(crate) fn suggest(&mut self, difficulty: Difficulty, out: &mut Vec<u8>) {
        self.role.suggest_difficulty(difficulty, out);
    }

    /// The number of shares that wait for the pool's verdict.
    pub(crate) fn waiting(&self) -> usize {
        self.in_flight.waiting()
    }

    /// How many more may be passed to [`Self::share`] before the pool answers some.
    pub(crate) fn room(&self) -> usize {
        self.in_flight.room()
    }

    /// Whether a share that meets the network target may be passed to [`Self::share`].
    pub(crate) fn has_room_for_block(&self) -> bool {
        self.in_flight.has_room_for_block()
    }

    /// Sets the maximum number of shares that wait for the pool. Call it before the first share.
    #[cfg(test)]
    pub(crate) fn bound(&mut self, max: usize) {
        self.in_flight = InFlight::bounded(max);
    }

    /// Whether the oldest share has waited so long that the upstream is suspect.
    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        self.in_flight.oldest().is_some_and(|sent_at| now >= sent_at + self.patience.suspect)
    }

    /// Whether the pool has sent no job for too long.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.authorized && now >= self.last_job_at + self.patience.quiet
    }

    /// How often [`Self::tick`] is needed to keep the shortest deadline.
    pub(crate) fn tick_every(&self) -> Duration {
        (self.patience.suspect / 4).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// The length of both extranonces together, in bytes, once they are known.
    pub(crate) fn extranonce_len(&self) -> Option<usize> {
        self.role.extranonce().map(|extranonce| {
            extranonce.extranonce1.len() + usize::from(extranonce.extranonce2_size)
        })
    }

    /// When a held job is passed on: [`Self::tick`] is needed then.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.pace.due()
    }

    /// Processes one line of the pool.
    pub(crate) fn line(
        &mut self,
        line: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
        settled: &mut Vec<Settled>,
    ) {
        let written = out.len();
        match self.role.receive(line, out) {
            Ok(event) => {
                // Pings are always answered: a pool that gets no answer to one considers us dead.
                let is_question =
                    matches!(event, ClientEvent::AskedVersion | ClientEvent::Ignored(_));
                if is_question && out.len() > written && !self.answer_budget.allows(now) {
                    out.truncate(written);
                    events.push(PoolEvent::Ignored(IgnoredLine::Question));
                }
                self.event(event, now, events, settled);
            }
            Err(fault) => {
                events.push(PoolEvent::Dead { end: End::Malformed, detail: fault.to_string() });
            }
        }
        while let Some(event) = self.role.poll() {
            self.event(event, now, events, settled);
        }
    }

    fn event(
        &mut self,
        event: ClientEvent,
        now: Instant,
        events: &mut Vec<PoolEvent>,
        settled: &mut Vec<Settled>,
    ) {
        match event {
            ClientEvent::Nothing | ClientEvent::AskedVersion => {}
            ClientEvent::Subscribed { extranonce1, extranonce2_size } => {
                self.subscribed = true;
                events.push(PoolEvent::Subscribed { extranonce1, extranonce2_size });
            }
            ClientEvent::Authorized => {
                self.authorized = true;
                self.last_job_at = now;
                events.push(PoolEvent::Authorized);
                self.release_early_job(now, events);
            }
            ClientEvent::Refused(error) => {
                events.push(PoolEvent::Dead { end: End::AuthFailed, detail: error.to_string() });
            }
            ClientEvent::Mask(mask) => self.mask = Some(mask),
            ClientEvent::Notify(job) => {
                self.bad_notifies_in_a_row = 0;
                self.last_job_at = now;
                let since = self.early_job.take().map_or(now, |(_, since)| since);
                self.early_job = Some((job, since));
                self.release_early_job(now, events);
            }
            ClientEvent::BadNotify(fault) => {
                self.bad_notifies_in_a_row += 1;
                let detail = fault.to_string();
                events.push(if self.bad_notifies_in_a_row >= BAD_NOTIFIES_MAX {
                    PoolEvent::Dead { end: End::BadJobs, detail }
                } else {
                    PoolEvent::Alarm { alarm: Alarm::BadJob, detail }
                });
            }
            ClientEvent::Difficulty(difficulty) => {
                let factor = difficulty.get() / self.difficulty.get();
                if self.authorized && factor >= 1e6 {
                    let detail = format!("{} to {difficulty}", self.difficulty);
                    events.push(PoolEvent::Alarm { alarm: Alarm::DifficultyJump, detail });
                }
                self.difficulty = difficulty;
                self.difficulty_said = true;
                self.release_early_job(now, events);
            }
            ClientEvent::BadDifficulty => {
                events.push(PoolEvent::Alarm {
                    alarm: Alarm::BadDifficulty,
                    detail: "kept the former one".into(),
                });
            }
            ClientEvent::Extranonce { extranonce1, extranonce2_size } => {
                // The new extranonce is valid from the next notify on: earlier jobs are retired,
                // whether they were passed on or not.
                self.pace.forget();
                self.early_job = None;
                events.push(PoolEvent::Extranonce { extranonce1, extranonce2_size });
            }
            ClientEvent::Answer { request, outcome } => {
                self.answer(request, outcome, now, events, settled);
            }
            ClientEvent::LateAnswer => {
                events.push(PoolEvent::Ignored(IgnoredLine::LateAnswer));
            }
            ClientEvent::UnmatchedAnswer => {
                events.push(PoolEvent::Ignored(IgnoredLine::UnmatchedAnswer));
                let unmatched = self.unmatched.add(now);
                if unmatched > UNMATCHED_MAX {
                    let detail = format!("{unmatched} answers within a minute to nothing we asked");
                    events.push(PoolEvent::Quarantine { reason: Alarm::UnmatchedAnswers });
                    events.push(PoolEvent::Dead { end: End::UnmatchedAnswers, detail });
                }
            }
            ClientEvent::Ignored(line) => {
                events.push(PoolEvent::Ignored(IgnoredLine::Line(line)));
            }
            ClientEvent::Reconnect { host, port, wait_secs } => {
                let wait = Duration::from_secs(wait_secs.into());
                events.push(PoolEvent::Reconnect(Redirect { host, port, wait }));
            }
            ClientEvent::Message(text) => {
                events.push(PoolEvent::Alarm { alarm: Alarm::PoolMessage, detail: text });
            }
            ClientEvent::Fatal(error) => {
                events.push(PoolEvent::Dead { end: End::Unusable, detail: error.to_string() });
            }
        }
    }

    /// Passes the early job on once we are authorized and the difficulty is known: a job at
    /// difficulty 1 for a whole farm would cause a storm of shares.
    fn release_early_job(&mut self, now: Instant, events: &mut Vec<PoolEvent>) {
        if self.authorized
            && self.difficulty_said
            && let Some((job, _)) = self.early_job.take()
        {
            if self.works_at.is_none_or(|(at, _)| at != self.difficulty) {
                self.works_at = Some((self.difficulty, now));
            }
            let terms = Terms { job, difficulty: self.difficulty, mask: self.mask };
            events.extend(self.pace.take(terms, now).map(PoolEvent::from));
        }
    }

    fn answer(
        &mut self,
        request: u64,
        outcome: Result<(), StratumError>,
        now: Instant,
        events: &mut Vec<PoolEvent>,
        settled: &mut Vec<Settled>,
    ) {
        if !self.in_flight.waits(request) {
            // By now the miner was told that the share is unresolved.
            events.push(PoolEvent::Ignored(IgnoredLine::LateAnswer));
            return;
        }
        self.last_answer_at = now;
        let refusal = outcome.as_ref().err().map(|error| RejectCode::from_code(error.code));
        let outcome = match outcome {
            Ok(()) => PoolOutcome::Accepted,
            Err(error) => {
                PoolOutcome::Rejected(RejectCode::from_code(error.code), error.message.into())
            }
        };
        settled.extend(self.in_flight.settle(request, outcome, now));
        match self.verdicts.add(refusal, now) {
            Finding::Fair => {}
            Finding::RefusesMany { refused, of } => {
                let detail = format!("{refused} of {of} shares refused");
                events.push(PoolEvent::Alarm { alarm: Alarm::RejectsMany, detail });
            }
            Finding::TakesNothing { refused } => {
                let detail = format!("{refused} shares in a row rejected");
                events.push(PoolEvent::Dead { end: End::RejectsAll, detail });
            }
        }
    }

    /// Records a new pool id for work that we already have: shares of that work are submitted under
    /// it.
    pub(crate) fn note_name(&mut self, job: Option<Arc<PoolJob>>) {
        let Some(job) = job.filter(|job| job.seq != job.work_seq) else { return };
        self.renamed.retain(|former| former.is_live() && former.work_seq != job.work_seq);
        if self.renamed.len() >= RENAMED_MAX {
            self.renamed.pop_front();
        }
        self.renamed.push_back(job);
    }

    /// Writes a share for the pool. If the pool has retired its job meanwhile, it is refused as
    /// stale at once.
    pub(crate) fn share(
        &mut self,
        mut share: UpstreamShare,
        now: Instant,
        out: &mut Vec<u8>,
        settled: &mut Vec<Settled>,
    ) {
        if let Some(newest) = self.renamed.iter().find(|newest| newest.renames(&share.work.job)) {
            // The share was found or judged before its session knew the new id.
            share.work = Arc::new(LaneWork { job: newest.clone(), ..LaneWork::clone(&share.work) });
        }
        let job = &share.work.job;
        if !job.is_live() && share.block.is_none() {
            let reject = Reject::JobStale;
            let outcome = PoolOutcome::Rejected(reject.code(), reject.words().into());
            share.reply.mailbox.verdict(PoolVerdict { ticket: share.ticket, outcome });
            let pool_difficulty = job.difficulty.get();
            settled.push(Settled {
                outcome: SettledAs::Stale,
                refusal: None,
                pool_difficulty,
                latency: Duration::ZERO,
                block: None,
                machine: share.machine,
                record: share.record,
            });
            return;
        }
        let slot = [share.slot];
        // For a passthrough miner the slot is a part of the pool's extranonce1.
        let slot: &[u8] = if share.work.own.is_some() { &[] } else { &slot };
        let extranonce2: [&[u8]; 3] = [&share.work.lane, slot, &share.extranonce2];
        let request = self.role.submit(
            None,
            &job.job.job_id,
            &extranonce2,
            share.ntime,
            share.nonce,
            share.version_bits,
            out,
        );
        self.in_flight.push(request, share, now);
    }

    /// Checks the deadlines.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        events: &mut Vec<PoolEvent>,
        settled: &mut Vec<Settled>,
    ) {
        if !self.authorized && now >= self.connected_at + self.patience.handshake {
            let detail = if self.subscribed {
                "authorize was never answered"
            } else {
                "subscribe was never answered"
            };
            events.push(PoolEvent::Dead { end: End::HandshakeTimeout, detail: detail.into() });
            return;
        }
        if self.early_job.as_ref().is_some_and(|(_, since)| now >= *since + DIFFICULTY_PATIENCE) {
            // Some pools never send a difficulty; theirs is 1 (or that of the configuration).
            self.difficulty_said = true;
            self.release_early_job(now, events);
        }
        events.extend(self.pace.release(now).map(PoolEvent::from));
        let Some(oldest) = self.in_flight.oldest() else { return };
        if now < oldest + self.patience.answer {
            return;
        }
        if self.last_answer_at <= oldest {
            let detail = format!(
                "{} shares unanswered for {} s",
                self.waiting(),
                self.patience.answer.as_secs()
            );
            events.push(PoolEvent::Dead { end: End::Silent, detail });
            return;
        }
        self.in_flight.expire(now - self.patience.answer, now, settled);
    }

    /// Ends the connection: shares in flight are unresolved.
    pub(crate) fn end(&mut self, now: Instant, settled: &mut Vec<Settled>) {
        self.in_flight.expire(now, now, settled);
    }
}

#[cfg(test)]
pub(crate) mod tests;
