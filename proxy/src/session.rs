//! One miner, as a pure state machine: lines, verdicts, work and the time in; bytes, shares and
//! events out.
//!
//! It owns the handshake, the jobs this miner was given with the difficulty of each, and the order
//! of answers. Shares are judged only here. The task around it ([`crate::downstream`]) handles the
//! socket, the seat and the directions.

mod answers;
mod conduct;
mod difficulty;
mod issues;
mod user_agent;
mod vardiff;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::client_message::{Submit, parse_client};
use stratum::difficulty::{Difficulty, difficulty_of};
use stratum::id::Id;
use stratum::server_message::{
    NOTIFY_CLEAN, NOTIFY_KEEP, write_ping, write_reconnect, write_set_difficulty,
};
use stratum::server_role::{Abuse, ServerEvent, ServerRole, valid_worker_name};
use stratum::share::{Proof, Share, ShareFault, decode, mask_for, proof_of, prove};
use stratum::version::VersionMask;

use crate::ends::Counted;
use crate::outcome::{AnsweredBy, Outcome, PoolOutcome, PoolVerdict, Worth};
use crate::reasons::{CloseReason, Correction, Reject, Retarget};
use crate::target::TargetId;
use crate::work::{LaneWork, OwnExtranonce, Record};
use answers::Answers;
use conduct::Conduct;
pub(crate) use difficulty::DifficultyRules;
use difficulty::{Aim, Limits};
use issues::Issues;

/// Settings of all sessions of one listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRules {
    /// How difficulties are set.
    pub(crate) difficulty: DifficultyRules,
    /// A miner that has not subscribed and authorized by then is closed.
    pub(crate) handshake_timeout: Duration,
    /// The miner gets a line at least this often, so that its firmware does not consider us dead.
    pub(crate) ping_every: Duration,
    /// Version bits that may be granted.
    pub(crate) offer: VersionMask,
    /// The miner's extranonce2_size.
    pub(crate) extranonce2_size: u8,
    /// Index of the listener.
    pub(crate) server: u16,
    /// Whether there is a share log to keep records for.
    pub(crate) share_log: bool,
}

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

/// What the session wants done. Reused for the next input.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Bytes for the miner.
    pub(crate) bytes: Vec<u8>,
    /// Shares for the pool.
    pub(crate) forwards: Vec<Forward>,
    pub(crate) counts: Vec<Counted>,
    /// The answers among the bytes: who decided them, and when their submits were read.
    pub(crate) answered: Vec<(AnsweredBy, Instant)>,
    /// The miner has just become ready, has named a (further) worker, or has sent another
    /// configure.
    pub(crate) authorized: bool,
    /// All its shares have been bad for long: the step that was or must be taken.
    pub(crate) correction: Option<Correction>,
    /// Why the session was given another difficulty, if it was.
    pub(crate) retarget: Option<Retarget>,
    /// The difficulty is so wrong that its change should not wait for the next job: fresh work for
    /// the same job is needed.
    pub(crate) reissue: bool,
    /// Close the connection once the bytes are written.
    pub(crate) close: Option<CloseReason>,
}

impl Outbox {
    /// Empties it, and gives back memory beyond `kept` bytes.
    pub(crate) fn clear(&mut self, kept: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept);
        self.forwards.clear();
        self.counts.clear();
        self.answered.clear();
        self.authorized = false;
        self.correction = None;
        self.retarget = None;
        self.reissue = false;
        self.close = None;
    }
}

/// A share to forward.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) work: Arc<LaneWork>,
    pub(crate) share: Share,
    /// Version bits as the pool must get them.
    pub(crate) version_bits: Option<u32>,
    pub(crate) ticket: u32,
    pub(crate) worth: Worth,
    /// Present when the share meets the network target.
    pub(crate) block: Option<Box<Proof>>,
    /// Its part of the share log, where there is one.
    pub(crate) record: Option<Box<Record>>,
}

#[derive(Debug)]
pub(crate) struct Session {
    rules: Arc<SessionRules>,
    role: ServerRole,
    slot: u8,
    session_name: u64,
    aim: Aim,
    issues: Issues,
    answers: Answers,
    next_ticket: u32,
    connected_at: Instant,
    /// When something was last sent to it, in tenths of a second since it was accepted.
    last_sent_tenths: u32,
    pings: u32,
    /// When it must reconnect, in tenths of a second since it was accepted; 0 for never.
    leave_tenths: u32,
    /// What it has done wrong lately, usually nothing.
    conduct: Option<Box<Conduct>>,
    /// Version bits that may be granted on this connection.
    offer: VersionMask,
    /// No target can ever have a seat for it: a subscribe is refused.
    no_room: bool,
    /// Its firmware can be told to roll other bits.
    hears_mask: bool,
    user_agent: Option<Box<str>>,
}

impl Session {
    /// A session for a connection that has just been accepted and holds `slot`.
    pub(crate) fn new(rules: Arc<SessionRules>, slot: u8, session_name: u64, now: Instant) -> Self {
        Self {
            role: ServerRole::new(rules.offer),
            aim: Aim::new(&rules.difficulty),
            offer: rules.offer,
            rules,
            slot,
            session_name,
            issues: Issues::default(),
            answers: Answers::default(),
            next_ticket: 0,
            connected_at: now,
            last_sent_tenths: 0,
            pings: 0,
            leave_tenths: 0,
            conduct: None,
            no_room: false,
            hears_mask: false,
            user_agent: None,
        }
    }

    /// Limits what is granted to `offer`. Call it before the first line: a mask that was granted
    /// should not have to shrink.
    pub(crate) fn narrow(&mut self, offer: VersionMask) {
        self.offer = self.rules.offer.and(offer);
        self.role = ServerRole::new(self.offer);
    }

    /// Makes the session refuse the subscribe: no target can ever have a seat for it.
    pub(crate) fn refuse(&mut self) {
        self.no_room = true;
    }

    /// Whether the miner can be given work: subscribed and authorized.
    pub(crate) fn is_ready(&self) -> bool {
        self.role.is_ready()
    }

    /// Version bits the miner rolls, if it does.
    pub(crate) fn version_mask(&self) -> Option<VersionMask> {
        self.role.version_mask()
    }

    /// Its worker name.
    pub(crate) fn worker(&self) -> Option<&str> {
        self.role.first_worker()
    }

    /// Returns its user agent, once.
    pub(crate) fn take_user_agent(&mut self) -> Option<Box<str>> {
        self.user_agent.take()
    }

    fn last_sent(&self) -> Instant {
        self.connected_at + Duration::from_millis(u64::from(self.last_sent_tenths) * 100)
    }

    pub(crate) fn difficulty(&self) -> Option<Difficulty> {
        self.aim.sent()
    }

    /// Its work rate, once shares have shown it.
    pub(crate) fn measured_rate(&self) -> Option<f32> {
        self.aim.measured_rate(&self.rules.difficulty)
    }

    /// Its work rate as it counts in the fleet's sum.
    pub(crate) fn fleet_rate(&self) -> f32 {
        self.aim.fleet_rate(&self.rules.difficulty)
    }

    /// Takes the machine's work rate from its last connection.
    pub(crate) fn recall(&mut self, work_rate: f32) {
        self.aim.recall(work_rate, &self.rules.difficulty);
    }

    /// There is no work for the miner from now on, so a lack of shares means nothing.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.aim.rest(&self.rules.difficulty, self.age(now));
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.connected_at)
    }

    /// Whether the pool still accepts shares of its newest job.
    pub(crate) fn has_live_work(&self) -> bool {
        self.issues.newest().is_some_and(|work| work.job.is_live())
    }

    /// Submits that still wait for a pool's verdict.
    pub(crate) fn unanswered(&self) -> usize {
        self.answers.waiting()
    }

    /// When [`Input::Tick`] is next needed.
    pub(crate) fn wake_at(&self) -> Instant {
        if self.is_ready() {
            let ping_at = self.last_sent() + self.rules.ping_every;
            self.leave_at().map_or(ping_at, |leave_at| leave_at.min(ping_at))
        } else {
            self.connected_at + self.rules.handshake_timeout
        }
    }

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
            // An Antminer 17-series configures when it already works, possibly at a target that
            // refuses rolling.
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

    /// Records a call that was refused. Firmware sends many unknown requests; only those that no
    /// honest client sends add up to a close.
    fn abuse(&mut self, abuse: Abuse, now: Instant, out: &mut Outbox) {
        match abuse {
            Abuse::UnknownMethod => {}
            Abuse::Malformed => self.fault(CloseReason::Malformed, now, out),
            Abuse::ServerMethod => self.fault(CloseReason::ServerMethod, now, out),
            Abuse::WorkerName => self.name_refused(CloseReason::WorkerName, now, out),
            Abuse::TooManyWorkers => self.name_refused(CloseReason::TooManyWorkers, now, out),
        }
    }

    /// Counts a submit that was refused before it was looked at.
    fn bad_submit(&mut self, reject: Reject, now: Instant, out: &mut Outbox) {
        let record = self.record(self.worker(), now);
        out.counts.push(Counted { record, ..Counted::refused(reject, None) });
        self.bad_share(now, out);
    }

    fn conduct(&mut self, now: Instant) -> &mut Conduct {
        self.conduct.get_or_insert_with(|| Box::new(Conduct::new(now)))
    }

    fn fault(&mut self, reason: CloseReason, now: Instant, out: &mut Outbox) {
        if self.conduct(now).fault(now) {
            out.close = Some(reason);
        }
    }

    fn hears_names(&self, now: Instant) -> bool {
        self.conduct.as_ref().is_none_or(|conduct| conduct.hears_names(now))
    }

    /// Records a refused name. Names that come before the wait is over are not looked at, and add
    /// up to a close.
    fn name_refused(&mut self, reason: CloseReason, now: Instant, out: &mut Outbox) {
        if self.hears_names(now) {
            self.conduct(now).name_refused(now);
            self.fault(reason, now, out);
        } else {
            self.fault(CloseReason::AuthorizeFlood, now, out);
        }
    }

    /// Records a bad share. Only a miner with live work can be expected to send good shares: one
    /// that is parked or has no pool is left alone.
    fn bad_share(&mut self, now: Instant, out: &mut Outbox) {
        if !self.issues.newest().is_some_and(|work| work.job.is_live()) {
            return;
        }
        let Some(correction) = self.conduct(now).bad_share(now) else { return };
        match correction {
            Correction::Renew => self.aim.say_again(),
            Correction::Reconnect => write_reconnect(&mut out.bytes),
            Correction::Close => out.close = Some(CloseReason::BadShares),
        }
        out.correction = Some(correction);
    }

    fn good_share(&mut self) {
        if let Some(conduct) = &mut self.conduct
            && !conduct.good_share()
        {
            self.conduct = None;
        }
    }

    fn submit(&mut self, id: Id, submit: &Submit<'_>, now: Instant, out: &mut Outbox) {
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let mut record = self.record(Some(&submit.worker), now);
        match self.judge(submit, ticket, record.as_deref_mut()) {
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
                // A good share of a job that the pool has retired meanwhile does not count against
                // the miner, nor does a share beyond those we can remember.
                if bad {
                    self.bad_share(now, out);
                }
            }
        }
    }

    /// A share shows the machine's speed, whatever its outcome is.
    fn proved(&mut self, worth: Option<Worth>, now: Instant, out: &mut Outbox) {
        let Some(worth) = worth else { return };
        let age = self.age(now);
        if self.aim.share(worth.difficulty, &self.rules.difficulty, age) {
            out.reissue |= self
                .limits()
                .is_some_and(|limits| self.aim.may_rise(&limits, &self.rules.difficulty));
        }
    }

    /// The difficulty bounds of the newest job.
    fn limits(&self) -> Option<Limits> {
        self.issues.newest().map(|work| self.limits_of(work))
    }

    fn limits_of(&self, work: &LaneWork) -> Limits {
        let (pool, load) = (work.job.difficulty, work.job.upstream.load());
        let own = self.aim.work_rate(&self.rules.difficulty);
        // A listener without vardiff takes no part: its operator sets its miners' difficulty.
        let hold = self.rules.difficulty.interval.and_then(|_| load.hold(pool, own));
        Limits { pool, hold, promised: self.role.minimum_difficulty() }
    }

    /// Begins the submit's part of the share log, if there is one.
    fn record(&self, worker: Option<&str>, now: Instant) -> Option<Box<Record>> {
        self.rules.share_log.then(|| Box::new(Record::new(self.session_name, worker, now)))
    }

    /// Judges a share. Nothing is answered or sent here.
    fn judge(
        &mut self,
        submit: &Submit<'_>,
        ticket: u32,
        mut record: Option<&mut Record>,
    ) -> Judgement {
        let Some(issue) = self.issues.find(&submit.job_id) else {
            return Judgement::reject(Reject::JobNotFound, None);
        };
        let work = issue.work.clone();
        let target = Some(work.job.upstream.target);
        if let Some(record) = &mut record {
            record.work = Some(work.clone());
            record.difficulty = Some(issue.difficulty.get());
        }
        let (slot, size) = match work.own {
            Some(own) => (own.extranonce1, own.extranonce2_size),
            None => (self.slot, self.rules.extranonce2_size),
        };
        let share = match decode(submit, size) {
            Ok(share) => share,
            Err(fault) => return Judgement::reject(fault.into(), target),
        };
        let mask = mask_for(issue.mask, work.job.mask, &share);
        let middle: [&[u8]; 3] = [&work.job.extranonce1, &work.lane, &[slot]];
        let proof = match prove(&work.job.job, &middle, &share, mask, &issue.difficulty.target()) {
            Ok(proof) => proof,
            Err(fault) => {
                if fault == ShareFault::LowDifficulty
                    && let Some(record) = record
                {
                    let proof = proof_of(&work.job.job, &middle, &share, mask).ok();
                    record.found = proof.map(|proof| difficulty_of(&proof.hash));
                }
                return Judgement::reject(fault.into(), target);
            }
        };
        let worth = Worth { difficulty: issue.difficulty.get(), found: difficulty_of(&proof.hash) };
        let is_block = work.job.block_target.is_met_by(&proof.hash);
        if let Some(record) = record {
            record.found = Some(worth.found);
            record.block = is_block;
        }
        match self.issues.remember(&work, &proof.hash) {
            issues::Remembered::New => {}
            issues::Remembered::Seen => {
                return Judgement::reject(Reject::Duplicate, target);
            }
            issues::Remembered::Full if is_block => {}
            issues::Remembered::Full => {
                return Judgement::reject(Reject::TooManyShares, target);
            }
        }
        if !work.job.is_live() && !is_block {
            // Worth nothing to the pool, but proof that the machine hashes, although it may have
            // been told to sleep.
            return Judgement::Reject { reject: Reject::JobStale, target, worth: Some(worth) };
        }
        if is_block || work.job.pool_target.is_met_by(&proof.hash) {
            // The pool rebuilds the header by its own mask, whatever part of it this miner rolls,
            // if any: some refuse a share without the field once rolling was agreed (DATUM), others
            // clear bits of the job that it leaves out.
            let version_bits =
                work.job.mask.filter(|mask| !mask.is_empty()).map(|mask| proof.version() & mask.0);
            let block = is_block.then(|| Box::new(proof));
            return Judgement::Forward(Forward {
                work,
                share,
                version_bits,
                ticket,
                worth,
                block,
                record: None,
            });
        }
        let outcome = if work.job.upstream.is_suspect() { Outcome::AtRisk } else { Outcome::Local };
        Judgement::Credit(Counted {
            outcome,
            reject: None,
            worth: Some(worth),
            target,
            record: None,
        })
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

    /// Hands out work: the difficulty, if it or the pool changed, and the job right after it.
    fn work(&mut self, work: &Arc<LaneWork>, now: Instant, out: &mut Outbox) {
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
    fn leave_soon(&mut self, now: Instant) {
        if self.leave_tenths == 0 {
            let spread =
                u32::try_from(self.session_name.wrapping_mul(0x9e37_79b9) % LEAVE_SPREAD_TENTHS)
                    .unwrap_or(0);
            let age = u32::try_from(self.age(now).as_millis() / 100).unwrap_or(u32::MAX / 2);
            self.leave_tenths = age + 1 + spread;
        }
    }

    /// When it must reconnect, if it must.
    fn leave_at(&self) -> Option<Instant> {
        (self.leave_tenths > 0)
            .then(|| self.connected_at + Duration::from_millis(u64::from(self.leave_tenths) * 100))
    }

    /// Follows its pool to another extranonce, if the miner can be told. Returns `false` if the
    /// miner must reconnect.
    fn follow(&mut self, own: OwnExtranonce, out: &mut Outbox) -> bool {
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

/// The result of [`Session::judge`].
enum Judgement {
    /// The pool decides.
    Forward(Forward),
    /// Good, and below the pool's difficulty.
    Credit(Counted),
    Reject {
        reject: Reject,
        target: Option<TargetId>,
        /// What it proves all the same.
        worth: Option<Worth>,
    },
}

impl Judgement {
    fn reject(reject: Reject, target: Option<TargetId>) -> Self {
        Self::Reject { reject, target, worth: None }
    }
}

/// The time over which reconnects are spread: a farm that reconnects at once is a storm.
const LEAVE_SPREAD_TENTHS: u64 = 300;
/// How long answers are awaited before a miner is closed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a new session would be granted these bits: see `common_mask` of the pools.
pub(crate) fn suits_firmware(mask: VersionMask) -> bool {
    mask.bit_count() >= 3 && mask.contains(0x00c0_0000)
}

#[cfg(test)]
mod tests;
