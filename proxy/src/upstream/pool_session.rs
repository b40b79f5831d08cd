//! One connection to a pool, as a pure state machine: lines, shares and the time in; bytes and events out.
//!
//! It owns the handshake, the pool's difficulty and mask, and the deadlines of the shares [`in_flight`](super::in_flight). It decides when
//! a connection is dead. Sockets and back-off are the business of the task around it ([`super`]).

use std::time::{Duration, Instant};

use stratum::client_role::{ClientConfig, ClientEvent, ClientRole};
use stratum::difficulty::Difficulty;
use stratum::error::{RejectCode, StratumError};
use stratum::job::Job;
use stratum::version::VersionMask;

use super::in_flight::InFlight;
use crate::outcome::{Settled, SettledAs};
use crate::work::{PoolOutcome, PoolVerdict, UpstreamShare};

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Subscribed and authorized after connecting.
    pub(crate) handshake: Duration,
    /// A share without an answer makes the upstream suspect.
    pub(crate) suspect: Duration,
    /// A share without an answer is unresolved, and a pool that has answered nothing since is dead.
    pub(crate) answer: Duration,
    /// Without a job for so long the pool is quiet.
    pub(crate) quiet: Duration,
}

/// What a pool's line meant for the rest of the proxy.
#[derive(Debug)]
pub(crate) enum PoolEvent {
    /// The sizes are known.
    Subscribed { extranonce1: Vec<u8>, extranonce2_size: u8 },
    /// The handshake is done.
    Authorized,
    /// New work, with the difficulty and mask that hold for it.
    Job { job: Job, difficulty: Difficulty, mask: Option<VersionMask> },
    /// The pool changed our extranonce: its jobs so far are dead.
    Extranonce { extranonce1: Vec<u8>, extranonce2_size: u8 },
    /// Something an operator should hear of; the connection goes on.
    Alarm { what: &'static str, detail: String },
    /// The pool asks to reconnect to where we are: honoured for the configured host only.
    Reconnect,
    /// The connection is of no use any more.
    Dead { reason: &'static str, detail: String },
}

/// One pool connection.
#[derive(Debug)]
pub(crate) struct PoolSession {
    role: ClientRole,
    deadlines: Deadlines,
    difficulty: Difficulty,
    mask: Option<VersionMask>,
    authorized: bool,
    subscribed: bool,
    /// A job that came before the handshake was done, or before the pool has said a difficulty.
    early_job: Option<(Job, Instant)>,
    /// The pool has said a difficulty, or has been waited for long enough.
    difficulty_said: bool,
    in_flight: InFlight,
    connected_at: Instant,
    last_answer_at: Instant,
    last_job_at: Instant,
    rejects_in_a_row: u32,
    bad_notifies_in_a_row: u32,
    unmatched: u32,
    last_message_at: Option<Instant>,
}

/// Rejects in a row after which a pool is not mined at: another chain, or a pool that takes nothing (F17).
const REJECTS_MAX: u32 = 10;
/// How long a first job waits for the difficulty that belongs to it.
const DIFFICULTY_PATIENCE: Duration = Duration::from_secs(1);
/// Unreadable jobs in a row after which it is left (U21).
const BAD_NOTIFIES_MAX: u32 = 3;
/// Answers nobody asked for, before the connection counts as broken (U15).
const UNMATCHED_MAX: u32 = 100;

impl PoolSession {
    /// A session on a connection made at `now`. Send what [`Self::start`] writes first.
    pub(crate) fn new(config: ClientConfig, deadlines: Deadlines, start_difficulty: Difficulty, now: Instant) -> Self {
        Self {
            role: ClientRole::new(config),
            deadlines,
            difficulty: start_difficulty,
            mask: None,
            authorized: false,
            subscribed: false,
            early_job: None,
            difficulty_said: false,
            in_flight: InFlight::default(),
            connected_at: now,
            last_answer_at: now,
            last_job_at: now,
            rejects_in_a_row: 0,
            bad_notifies_in_a_row: 0,
            unmatched: 0,
            last_message_at: None,
        }
    }

    /// Writes the first requests.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) {
        self.role.start(out);
    }

    /// Shares that wait for the pool's word.
    pub(crate) fn waiting(&self) -> usize {
        self.in_flight.waiting()
    }

    /// Whether the oldest share has waited long enough to doubt the upstream.
    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        self.in_flight.oldest().is_some_and(|sent_at| now >= sent_at + self.deadlines.suspect)
    }

    /// Whether the pool has brought no job for too long.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.authorized && now >= self.last_job_at + self.deadlines.quiet
    }

    /// How often [`Self::tick`] is needed: often enough to hold the shortest deadline.
    pub(crate) fn tick_every(&self) -> Duration {
        (self.deadlines.suspect / 4).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// Takes one line of the pool.
    pub(crate) fn line(
        &mut self,
        line: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
        settled: &mut Vec<Settled>,
    ) {
        match self.role.receive(line, out) {
            Ok(event) => self.event(event, now, events, settled),
            Err(fault) => events.push(PoolEvent::Dead { reason: "malformed", detail: fault.to_string() }),
        }
        while let Some(event) = self.role.poll() {
            self.event(event, now, events, settled);
        }
    }

    fn event(&mut self, event: ClientEvent, now: Instant, events: &mut Vec<PoolEvent>, settled: &mut Vec<Settled>) {
        match event {
            ClientEvent::Nothing => {}
            ClientEvent::Subscribed { extranonce1, extranonce2_size } => {
                self.subscribed = true;
                events.push(PoolEvent::Subscribed { extranonce1, extranonce2_size });
            }
            ClientEvent::Authorized => {
                self.authorized = true;
                self.last_job_at = now;
                events.push(PoolEvent::Authorized);
                self.release_early_job(events);
            }
            ClientEvent::Refused(error) => {
                events.push(PoolEvent::Dead { reason: "auth_failed", detail: error.to_string() });
            }
            ClientEvent::Mask(mask) => self.mask = Some(mask),
            ClientEvent::Notify(job) => {
                self.bad_notifies_in_a_row = 0;
                self.last_job_at = now;
                let since = self.early_job.take().map_or(now, |(_, since)| since);
                self.early_job = Some((job, since));
                self.release_early_job(events);
            }
            ClientEvent::BadNotify(fault) => {
                self.bad_notifies_in_a_row += 1;
                let detail = fault.to_string();
                events.push(if self.bad_notifies_in_a_row >= BAD_NOTIFIES_MAX {
                    PoolEvent::Dead { reason: "bad_jobs", detail }
                } else {
                    PoolEvent::Alarm { what: "bad_job", detail }
                });
            }
            ClientEvent::Difficulty(difficulty) => {
                let factor = difficulty.get() / self.difficulty.get();
                if self.authorized && factor >= 1e6 {
                    let detail = format!("{} to {difficulty}", self.difficulty);
                    events.push(PoolEvent::Alarm { what: "difficulty_jump", detail });
                }
                self.difficulty = difficulty;
                self.difficulty_said = true;
                self.release_early_job(events);
            }
            ClientEvent::BadDifficulty => {
                events.push(PoolEvent::Alarm { what: "bad_difficulty", detail: "kept the former one".into() });
            }
            ClientEvent::Extranonce { extranonce1, extranonce2_size } => {
                events.push(PoolEvent::Extranonce { extranonce1, extranonce2_size });
            }
            ClientEvent::Answer { request, outcome } => self.answer(request, outcome, now, events, settled),
            ClientEvent::UnmatchedAnswer => {
                self.unmatched += 1;
                if self.unmatched > UNMATCHED_MAX {
                    let detail = format!("{} answers to nothing we asked", self.unmatched);
                    events.push(PoolEvent::Dead { reason: "unmatched_answers", detail });
                }
            }
            ClientEvent::Reconnect { host } => match host {
                None => events.push(PoolEvent::Reconnect),
                Some(host) => {
                    let detail = host.chars().take(64).flat_map(char::escape_debug).collect();
                    events.push(PoolEvent::Alarm { what: "redirect_refused", detail });
                }
            },
            ClientEvent::Message(text) => {
                if self.last_message_at.is_none_or(|last| now >= last + Duration::from_secs(10)) {
                    self.last_message_at = Some(now);
                    events.push(PoolEvent::Alarm { what: "pool_message", detail: text });
                }
            }
            ClientEvent::Fatal(error) => {
                events.push(PoolEvent::Dead { reason: "unusable", detail: error.to_string() });
            }
        }
    }

    /// Hands a job on once it is known who we are there and how hard it is: a job at difficulty 1 sent to a farm would come
    /// back as a storm.
    fn release_early_job(&mut self, events: &mut Vec<PoolEvent>) {
        if self.authorized
            && self.difficulty_said
            && let Some((job, _)) = self.early_job.take()
        {
            events.push(self.with_terms(job));
        }
    }

    fn with_terms(&self, job: Job) -> PoolEvent {
        PoolEvent::Job { job, difficulty: self.difficulty, mask: self.mask }
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
            return;
        }
        self.last_answer_at = now;
        let outcome = match outcome {
            Ok(()) => {
                self.rejects_in_a_row = 0;
                PoolOutcome::Accepted
            }
            Err(error) => {
                let code = RejectCode::from_code(error.code);
                // A stale share says nothing against the pool: it was in flight when the block changed.
                if code != RejectCode::JobNotFound {
                    self.rejects_in_a_row += 1;
                }
                PoolOutcome::Rejected(code, error.message.into())
            }
        };
        settled.extend(self.in_flight.settle(request, outcome, now));
        if self.rejects_in_a_row >= REJECTS_MAX {
            let detail = format!("{REJECTS_MAX} shares in a row rejected");
            events.push(PoolEvent::Dead { reason: "rejects_all", detail });
        }
    }

    /// Writes a share for the pool. One whose job the pool has retired meanwhile is told so at once.
    pub(crate) fn share(&mut self, share: UpstreamShare, now: Instant, out: &mut Vec<u8>, settled: &mut Vec<Settled>) {
        let job = &share.work.job;
        if !job.is_live() && share.block.is_none() {
            let outcome = PoolOutcome::Rejected(RejectCode::JobNotFound, "job is stale".into());
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
        let extranonce2: [&[u8]; 3] = [&share.work.lane, &slot, &share.extranonce2];
        let request =
            self.role.submit(None, &job.job.job_id, &extranonce2, share.ntime, share.nonce, share.version_bits, out);
        self.in_flight.push(request, share, now);
    }

    /// Looks at the deadlines.
    pub(crate) fn tick(&mut self, now: Instant, events: &mut Vec<PoolEvent>, settled: &mut Vec<Settled>) {
        if !self.authorized && now >= self.connected_at + self.deadlines.handshake {
            let detail = if self.subscribed { "authorize was never answered" } else { "subscribe was never answered" };
            events.push(PoolEvent::Dead { reason: "handshake_timeout", detail: detail.into() });
            return;
        }
        if self.early_job.as_ref().is_some_and(|(_, since)| now >= *since + DIFFICULTY_PATIENCE) {
            // Some pools never say one, and mean 1 (or what the configuration says).
            self.difficulty_said = true;
            self.release_early_job(events);
        }
        let Some(oldest) = self.in_flight.oldest() else { return };
        if now < oldest + self.deadlines.answer {
            return;
        }
        if self.last_answer_at <= oldest {
            let detail = format!("{} shares unanswered for {} s", self.waiting(), self.deadlines.answer.as_secs());
            events.push(PoolEvent::Dead { reason: "silent", detail });
            return;
        }
        self.in_flight.expire(now - self.deadlines.answer, now, settled);
    }

    /// Ends the connection: whatever is in flight stays unresolved.
    pub(crate) fn end(&mut self, now: Instant, settled: &mut Vec<Settled>) {
        self.in_flight.expire(now, now, settled);
    }
}

#[cfg(test)]
mod tests;
