//! One miner's session as a pure state machine. Its inputs are lines, pools' verdicts, work and the
//! time; its outputs are bytes, shares and events.
//!
//! It owns the handshake, the jobs that this miner was given with the difficulty of each, and the
//! order of answers. Shares are judged only here. The task around it ([`crate::downstream`])
//! handles the socket, the seat and the directions.

mod answers;
mod conduct;
mod difficulty;
mod faults;
mod hand_out;
mod issues;
mod judge;
mod outbox;
mod state;
mod user_agent;
mod vardiff;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::client_message::{Submit, parse_client};
use stratum::id::Id;
use stratum::server_message::write_ping;
use stratum::server_role::{Abuse, ServerEvent, valid_worker_name};

use crate::ends::Counted;
use crate::outcome::{PoolOutcome, PoolVerdict, Worth};
use crate::reasons::{CloseReason, Reject};
use crate::work::{LaneWork, Record};
pub(crate) use difficulty::DifficultyRules;
pub(crate) use hand_out::suits_firmware;
use judge::{Judgement, judge};
pub(crate) use outbox::{Forward, Outbox};
pub(crate) use state::{Session, SessionRules};

/// An event for the session.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// A line came from the miner.
    Line(&'a [u8]),
    /// The pool's verdict on a forwarded share.
    Verdict(PoolVerdict),
    /// Work to hand out.
    Work(&'a Arc<LaneWork>),
    Tick,
}

impl Session {
    /// Processes one input and writes the result into `out`.
    pub(crate) fn handle(&mut self, input: Input<'_>, now: Instant, out: &mut Outbox) {
        let written = out.bytes.len();
        match input {
            Input::Line(line) => self.line(line, now, out),
            Input::Verdict(verdict) => self.verdict(&verdict, out),
            Input::Work(work) => self.work(work, now, out),
            Input::Tick => self.tick(now, out),
        }
        if out.bytes.len() > written {
            let since = now.saturating_duration_since(self.connected_at);
            self.last_sent_tenths = u32::try_from(since.as_millis() / 100).unwrap_or(u32::MAX);
        }
    }

    fn line(&mut self, line: &[u8], now: Instant, out: &mut Outbox) {
        let message = match parse_client(line) {
            Ok(Some(message)) => message,
            Ok(None) => return self.fault(CloseReason::EmptyLines, now, out),
            Err(fault) => {
                out.close = Some(CloseReason::Line(fault));
                return;
            }
        };
        match self.role.receive(message, &mut out.bytes) {
            ServerEvent::Answered | ServerEvent::Ignored => {}
            // An Antminer of the 17 series sends configure when it already has work, possibly at a
            // target that refuses version rolling.
            ServerEvent::Configured(_) => out.authorized |= self.role.is_ready(),
            ServerEvent::SuggestDifficulty(wished) => {
                self.aim.suggestion(wished, self.age(now), &self.rules.difficulty);
            }
            ServerEvent::Subscribe { id, .. } if self.no_room => {
                self.role.refuse_subscription(&id, "no search space", &mut out.bytes);
                out.close = Some(CloseReason::NoSearchSpace);
            }
            ServerEvent::Subscribe { id, user_agent } => {
                self.aim.user_agent(&user_agent, &self.rules.difficulty);
                self.hears_mask = user_agent::hears_version_mask(&user_agent);
                self.user_agent = Some(user_agent.into());
                let name = format!("{:08x}", self.session_name);
                let size = self.rules.extranonce2_size;
                self.role.accept_subscription(&id, &name, &[self.slot], size, &mut out.bytes);
                out.authorized |= self.role.is_ready();
            }
            ServerEvent::Authorize { id, worker, password } => {
                let accepted = self.hears_names(now) && valid_worker_name(&worker);
                self.role.answer_authorize(&id, &worker, accepted, &mut out.bytes);
                if accepted {
                    self.aim.password(&password, &self.rules.difficulty);
                    out.authorized |= self.role.is_ready();
                } else {
                    self.name_refused(CloseReason::WorkerName, now, out);
                }
            }
            ServerEvent::Submit { id, submit } => self.submit(id, &submit, now, out),
            ServerEvent::BadSubmit(fault) => self.bad_submit(fault.into(), now, out),
            ServerEvent::Abuse(abuse) => self.abuse(abuse, now, out),
            ServerEvent::TooManyCalls => out.close = Some(CloseReason::PrehandshakeQueue),
        }
    }

    /// Records a call that was refused. Firmware sends many unknown requests, which are ignored;
    /// calls that no honest client sends lead to a close when there are many.
    fn abuse(&mut self, abuse: Abuse, now: Instant, out: &mut Outbox) {
        match abuse {
            Abuse::UnknownMethod => {}
            Abuse::Malformed => self.fault(CloseReason::Malformed, now, out),
            Abuse::ServerMethod => self.fault(CloseReason::ServerMethod, now, out),
            Abuse::WorkerName => self.name_refused(CloseReason::WorkerName, now, out),
            Abuse::TooManyWorkers => self.name_refused(CloseReason::TooManyWorkers, now, out),
        }
    }

    /// Counts a submit that was refused before its share was judged.
    fn bad_submit(&mut self, reject: Reject, now: Instant, out: &mut Outbox) {
        let record = self.record(self.worker(), now);
        out.counts.push(Counted { record, ..Counted::refused(reject, None) });
        self.bad_share(now, out);
    }

    fn submit(&mut self, id: Id, submit: &Submit<'_>, now: Instant, out: &mut Outbox) {
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let mut record = self.record(Some(&submit.worker), now);
        let (slot, size) = (self.slot, self.rules.extranonce2_size);
        match judge(&mut self.issues, slot, size, submit, ticket, record.as_deref_mut()) {
            Judgement::Forward(mut forward) => {
                forward.record = record;
                self.good_share();
                self.proved(Some(forward.worth), now, out);
                self.answers.wait(ticket, id, now);
                out.forwards.push(forward);
            }
            Judgement::Credit(mut counted) => {
                counted.record = record;
                self.good_share();
                self.proved(counted.worth, now, out);
                out.counts.push(counted);
                self.answers.answer_now(id, answers::Answer::True, now, out);
            }
            Judgement::Reject { reject, target, worth } => {
                self.proved(worth, now, out);
                let bad = worth.is_none() && reject != Reject::TooManyShares;
                out.counts.push(Counted { worth, record, ..Counted::refused(reject, target) });
                let answer = answers::Answer::Error(reject.code(), reject.words().into());
                self.answers.answer_now(id, answer, now, out);
                // A good share of a retired job does not count against the miner, nor does a share
                // that is refused because too many are remembered.
                if bad {
                    self.bad_share(now, out);
                }
            }
        }
    }

    /// Takes a share as evidence of the machine's hashrate, whatever its outcome is.
    fn proved(&mut self, worth: Option<Worth>, now: Instant, out: &mut Outbox) {
        let Some(worth) = worth else { return };
        let age = self.age(now);
        if self.aim.share(worth.difficulty, &self.rules.difficulty, age) {
            out.reissue |= self
                .limits()
                .is_some_and(|limits| self.aim.may_rise(&limits, &self.rules.difficulty));
        }
    }

    /// Begins the submit's record for the share log, if one is kept.
    fn record(&self, worker: Option<&str>, now: Instant) -> Option<Box<Record>> {
        self.rules.share_log.then(|| Box::new(Record::new(self.session_name, worker, now)))
    }

    fn verdict(&mut self, verdict: &PoolVerdict, out: &mut Outbox) {
        let answer = match &verdict.outcome {
            PoolOutcome::Accepted => answers::Answer::True,
            PoolOutcome::Rejected(code, text) => answers::Answer::Error(*code, text.clone()),
            PoolOutcome::Unresolved => {
                let reject = Reject::Unresolved;
                answers::Answer::Error(reject.code(), reject.words().into())
            }
        };
        self.answers.resolve(verdict.ticket, answer, out);
    }

    fn tick(&mut self, now: Instant, out: &mut Outbox) {
        if !self.is_ready() {
            if now >= self.connected_at + self.rules.handshake_timeout {
                out.close = Some(CloseReason::HandshakeTimeout);
            }
            return;
        }
        if now >= self.last_sent() + self.rules.ping_every {
            self.pings = self.pings.wrapping_add(1);
            write_ping(u64::from(self.pings), &mut out.bytes);
        }
        if let Some(leave_at) = self.leave_at()
            && now >= leave_at
            && (self.answers.waiting() == 0 || now >= leave_at + LEAVE_PATIENCE)
        {
            out.close = Some(CloseReason::MaskShrank);
        }
        let age = self.age(now);
        out.reissue |= self
            .limits()
            .is_some_and(|limits| self.aim.starves(&limits, &self.rules.difficulty, age));
    }
}

/// How long a miner that must reconnect may wait for answers before it is closed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
