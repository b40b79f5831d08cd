//! A fuzz target for the session: the bytes of the input are read as events from a miner, its pools
//! and the clock.
//!
//! It has two callers: the target under `fuzz/`, and a test on stable Rust that replays the corpus
//! and some thousands of changed inputs. It panics if a check fails. This module is compiled only
//! for these two.
//!
//! ```text
//! rules (1) | step (1) what it takes | step (1) …      a step is its byte modulo 8
//! 0, 1  a miner's line: its length, its bytes
//! 2     a good share: of which job, under which id (even: 4, as cpuminer's; odd: one of its own)
//! 3     a pool's word: on which share, what it says
//! 4     a job: of which pool, and what it is like (clean, trivial network, difficulty)
//! 5     time goes by: so many times three seconds, and a tick
//! 6     a pool retires its jobs (even), or is lost and replaced (odd)
//! 7     the last line once more
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use stratum::difficulty::Difficulty;
use stratum::error::RejectCode;
use stratum::job::Job;
use stratum::server_message::render_notify;
use stratum::share::{Share, SmallBytes, prove};
use stratum::version::VersionMask;

use crate::level::Level;
use crate::outcome::{PoolOutcome, PoolVerdict};
use crate::session::{DifficultyRules, Input, Outbox, Session, SessionRules};
use crate::space::ConnectionId;
use crate::target::TargetId;
use crate::work::{Arrival, LaneWork, PoolJob, SubmitQueues, Upstream, fingerprint, job_id_text};

/// The maximum number of steps of an input, and of good shares among them, each of which takes some
/// hashing.
const STEPS_MAX: usize = 400;
const SHARES_MAX: usize = 60;
/// The maximum number of bytes that one input may cause to be sent to the miner: a job, a
/// difficulty, a mask, and waiting answers.
const BYTES_MAX: usize = 32 * 1024;
const SLOT: u8 = 0x5c;

/// Runs a session. Every submit is answered at most once, and exactly once in the end; everything
/// sent to the miner is lines of JSON of bounded length; a submit is either counted or forwarded.
pub fn session_machine(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let Some(rules) = bytes.next() else { return };
    let mut play = Play::new(rules);
    for _ in 0..STEPS_MAX {
        let Some(step) = bytes.next() else { break };
        play.step(step, &mut bytes);
        if play.out.close.is_some() {
            break;
        }
    }
    play.finish();
}

/// A session, and what has happened to it.
struct Play {
    session: Session,
    now: Instant,
    out: Outbox,
    pools: [Pool; 2],
    works: Vec<Arc<LaneWork>>,
    /// Tickets of forwarded shares without a verdict.
    owed: Vec<u32>,
    last_line: Vec<u8>,
    lines: usize,
    answers: usize,
    /// The number of good shares submitted; each is answered in the end.
    shares: usize,
    next_id: u32,
}

/// The values of a pool's connection that a session sees.
struct Pool {
    upstream: Arc<Upstream>,
    _queues: SubmitQueues,
    next_seq: u64,
}

impl Pool {
    fn new(id: u64) -> Self {
        let (upstream, queues) = Upstream::new(ConnectionId(id), TargetId::nth(0));
        Self { upstream, _queues: queues, next_seq: 1 }
    }
}

impl Play {
    fn new(rules: u8) -> Self {
        let now = daemon::clock::now();
        let rules = SessionRules {
            difficulty: DifficultyRules {
                start: Level::FLOOR,
                min: Level::FLOOR,
                max: Level::CEILING,
                interval: (rules & 1 == 1).then_some(5.0),
                by_user_agent: rules & 2 == 2,
            },
            handshake_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            offer: VersionMask::BIP320,
            extranonce2_size: 4,
            server: 0,
            share_log: rules & 4 == 4,
        };
        Self {
            session: Session::new(Arc::new(rules), SLOT, 1, now),
            now,
            out: Outbox::default(),
            pools: [Pool::new(1), Pool::new(2)],
            works: Vec::new(),
            owed: Vec::new(),
            last_line: Vec::new(),
            lines: 0,
            answers: 0,
            shares: 0,
            next_id: 1000,
        }
    }

    fn step(&mut self, step: u8, bytes: &mut impl Iterator<Item = u8>) {
        let mut next = || usize::from(bytes.next().unwrap_or_default());
        match step % 8 {
            0 | 1 => {
                let length = next();
                let line = bytes.take(length).filter(|byte| *byte != b'\n').collect();
                self.line(line);
            }
            2 => {
                let (job, id) = (next(), next());
                self.share(job, id);
            }
            3 => {
                let (which, says) = (next(), next());
                self.verdict(which, says);
            }
            4 => {
                let (pool, like) = (next(), next());
                self.job(pool, like);
            }
            5 => {
                self.now += Duration::from_secs(3 * next() as u64);
                self.input(|session, now, out| session.handle(Input::Tick, now, out));
            }
            6 => {
                let pool = next();
                let lost = &mut self.pools[pool / 2 % 2];
                if pool.is_multiple_of(2) {
                    lost.upstream.retire_below(lost.next_seq);
                } else {
                    lost.upstream.set_dead();
                    *lost = Pool::new(lost.upstream.id.0 + 2);
                }
            }
            _ => self.line(self.last_line.clone()),
        }
    }

    /// Gives the session one input, and checks everything that follows.
    fn input(&mut self, give: impl FnOnce(&mut Session, Instant, &mut Outbox)) {
        give(&mut self.session, self.now, &mut self.out);
        let text = std::str::from_utf8(&self.out.bytes).expect("we write UTF-8");
        assert!(text.len() <= BYTES_MAX, "{} bytes at once", text.len());
        assert!(text.is_empty() || text.ends_with('\n'), "whole lines: {text:?}");
        for line in text.lines() {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            serde_json::from_str::<&RawValue>(line)
                .unwrap_or_else(|error| panic!("{error}: {line}"));
            self.answers += usize::from(!line.contains("\"method\":"));
        }
        assert!(self.answers <= self.lines, "more answers than lines: {text}");
        self.owed.extend(self.out.forwards.drain(..).map(|forward| forward.ticket));
        let close = self.out.close;
        self.out.clear(0);
        self.out.close = close;
    }

    fn line(&mut self, line: Vec<u8>) {
        self.lines += 1;
        let owed = self.owed.len();
        self.input(|session, now, out| {
            session.handle(Input::Line(&line), now, out);
            assert!(out.counts.len() + out.forwards.len() <= 1, "a submit has one end");
        });
        assert!(self.owed.len() <= owed + 1);
        self.last_line = line;
    }

    fn share(&mut self, job: usize, id: usize) {
        if self.shares >= SHARES_MAX || self.works.is_empty() || !self.session.is_ready() {
            return;
        }
        let Some(worker) = self.session.worker().map(str::to_owned) else { return };
        let work = &self.works[job % self.works.len()];
        let extranonce2 = u32::try_from(self.shares).expect("few");
        let rolls = self.session.version_mask().filter(|mask| !mask.is_empty());
        let share = |nonce| Share {
            extranonce2: SmallBytes::new(&extranonce2.to_be_bytes()).expect("four bytes"),
            ntime: work.job.job.ntime,
            nonce,
            version_bits: rolls.map(|_| 0),
        };
        let middle: [&[u8]; 3] = [&work.job.extranonce1, &work.lane, &[SLOT]];
        let floor = Difficulty::FLOOR.target();
        let good =
            |nonce: &u32| prove(&work.job.job, &middle, &share(*nonce), rolls, &floor).is_ok();
        let Some(nonce) = (0..2000).find(good) else { return };
        self.next_id += 1;
        let id = if id.is_multiple_of(2) { 4 } else { self.next_id };
        let bits = if rolls.is_some() { ",\"00000000\"" } else { "" };
        let (job_id, ntime) = (job_id_text(work.job_id), work.job.job.ntime);
        let line = format!(
            r#"{{"id":{id},"method":"mining.submit","params":[{},"{job_id}","{extranonce2:08x}","{ntime:08x}","{nonce:08x}"{bits}]}}"#,
            serde_json::to_string(&worker).expect("a string"),
        );
        self.shares += 1;
        self.lines += 1;
        self.input(|session, now, out| {
            session.handle(Input::Line(line.as_bytes()), now, out);
            assert_eq!(out.counts.len() + out.forwards.len(), 1, "counted or forwarded: {line}");
        });
        self.last_line = line.into_bytes();
    }

    fn verdict(&mut self, which: usize, says: usize) {
        if self.owed.is_empty() {
            return;
        }
        let ticket = self.owed.swap_remove(which % self.owed.len());
        let outcome = match says % 3 {
            0 => PoolOutcome::Accepted,
            1 => PoolOutcome::Rejected(RejectCode::Duplicate, "said \"so\"\u{1b}".into()),
            _ => PoolOutcome::Unresolved,
        };
        let verdict = PoolVerdict { ticket, outcome };
        self.input(|session, now, out| session.handle(Input::Verdict(verdict.clone()), now, out));
        if says % 4 == 3 {
            // The same input a second time changes nothing.
            let answers = self.answers;
            self.input(|session, now, out| session.handle(Input::Verdict(verdict), now, out));
            assert_eq!(self.answers, answers, "answered twice");
        }
    }

    fn job(&mut self, pool: usize, like: usize) {
        let job_id = self.works.len() as u64 + 1;
        let clean = like & 1 == 1;
        let difficulty = match like >> 2 & 3 {
            0 => Difficulty::FLOOR,
            1 => Difficulty::ONE,
            exponent => Difficulty::new(2f64.powi(-20 - i32::try_from(exponent).expect("small")))
                .expect("positive"),
        };
        let pool = &mut self.pools[pool % 2];
        let seq = pool.next_seq;
        pool.next_seq += 1;
        if clean {
            pool.upstream.retire_below(seq);
        }
        let job = Job {
            job_id: format!("pool-{job_id}"),
            prev_hash: [7; 32],
            coinb1: job_id.to_be_bytes().to_vec(),
            coinb2: vec![3, 4],
            branches: Vec::new(),
            version: 0x2000_0000,
            nbits: if like & 2 == 2 { 0x207f_ffff } else { 0x1703_ffff },
            ntime: 1_800_000_000,
            clean,
        };
        let (extranonce1, lane): (Arc<[u8]>, Arc<[u8]>) = ([0xaa, 0xbb].into(), [1, 2, 3].into());
        let notify = render_notify(&job_id_text(job_id), &job, &[&*extranonce1, &*lane].concat());
        let job = Arc::new(PoolJob {
            extranonce1,
            difficulty,
            pool_target: difficulty.target(),
            block_target: job.network_target(),
            mask: [Some(VersionMask::BIP320), Some(VersionMask(0x6000)), None][(like >> 4 & 3) % 3],
            seq,
            work_seq: seq,
            upstream: pool.upstream.clone(),
            fingerprint: fingerprint(&job, true),
            arrival: Arrival::new(self.now),
            job,
        });
        let work = Arc::new(LaneWork { own: None, job_id, job, lane, notify });
        self.works.push(work.clone());
        self.input(|session, now, out| session.handle(Input::Work(&work), now, out));
    }

    /// Every pool answers in the end, so the miner is owed nothing.
    fn finish(mut self) {
        while !self.owed.is_empty() {
            self.verdict(0, 0);
        }
        assert_eq!(self.session.unanswered(), 0, "owed to the miner for ever");
        assert!(
            self.answers >= self.shares,
            "{} good shares, {} answers",
            self.shares,
            self.answers
        );
    }
}

#[cfg(test)]
mod tests;
