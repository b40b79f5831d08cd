//! The part of a miner that receives jobs, hashes, submits shares and counts their answers.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Brain, Ending, Session};
use crate::arithmetic::target::power_of_two_below;
use crate::arithmetic::{Hash, Target};
use crate::miner::config::{MinerConfig, Rounding};
use crate::miner::lines;
use crate::miner::model::{Difficulties, Ids, Model, Restart};
use crate::miner::space::Claim;
use crate::miner::work::{Job, Position, Work, variants};
use crate::wire::Envelope;

/// A submit, and when it was written.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) id: String,
    pub(super) job_id: String,
    pub(super) difficulty: f64,
    pub(super) at: Instant,
}

/// How many times a second a miner changes its extranonce2 or version.
const PIECES_PER_SECOND: f64 = 20.0;
/// The maximum time for which a delayed miner makes up.
const CATCH_UP_SECS: f64 = 0.25;
/// How many job ids, and ids of answered submits, are remembered per connection.
const IDS_MAX: usize = 8192;
/// The maximum number of submits without an answer; at the bound, hashing pauses until an answer
/// comes.
const OUTSTANDING_MAX: usize = 10_000;

impl Brain {
    pub(super) fn notify(&mut self, message: &Envelope<'_>, now: Instant) {
        let Some(session) = &mut self.session else { return };
        if let Some((extranonce1, size)) = session.next_extranonce.take() {
            let changed = (extranonce1.as_slice(), size)
                != (session.extranonce1.as_slice(), session.extranonce2_size);
            self.counts.extranonce_changes += u64::from(changed);
            session.extranonce1 = extranonce1;
            session.extranonce2_size = size;
            self.last_size = Some(size);
        }
        let extranonce = (session.extranonce1.as_slice(), session.extranonce2_size);
        let Some(job) = Job::parse(&message.params, extranonce, session.difficulty) else {
            self.counts.bad_lines += 1;
            return;
        };
        self.counts.notifies += 1;
        self.counts.cleans += u64::from(job.clean);
        let new_id = session.remember_job(&job.id);
        self.counts.repeated_job_ids += u64::from(!new_id);
        if self.config.model.habits().skips_known_ids && !session.is_new_since_clean(&job) {
            self.counts.passed_over += 1;
            return;
        }
        match self.config.space.claim(self.miner, job.work_key()) {
            Claim::Fresh => {}
            Claim::Own => self.counts.repeated_work += 1,
            Claim::Others => self.counts.shared_work += 1,
        }
        let restart = match self.config.model.habits().restart {
            Restart::Clean => job.clean,
            Restart::NewId => session.job.as_ref().is_none_or(|before| before.id != job.id),
            Restart::EveryNotify | Restart::Fixed => true,
        };
        if restart {
            session.position = Position::default();
        }
        session.variants = variants(&self.config, job.version, session.mask);
        session.work = None;
        session.job = Some(job);
        session.job_usable = true;
        self.gap.has(true, now);
    }

    /// Computes as many hashes as the rate allows for the time since the last call.
    pub(super) fn hash(&mut self, now: Instant) {
        let rate = self.hashrate;
        let Some(session) = &mut self.session else { return };
        let passed = now.saturating_duration_since(session.hashed).as_secs_f64().min(CATCH_UP_SECS);
        session.hashed = now;
        if !self.awake || !session.ready || session.outstanding.len() >= OUTSTANDING_MAX {
            return;
        }
        let Some(job) = session.job.clone() else { return };
        // A slow miner saves up until it may compute one whole hash.
        session.credit = (session.credit + rate * passed).min((rate * CATCH_UP_SECS).max(1.0));
        let mut quota = whole(session.credit);
        session.credit -= f64::from(quota);
        while quota > 0 {
            if session.work.as_ref().is_none_or(|work| work.left == 0) {
                session.work =
                    session.next_work(&job, &self.config, whole(rate / PIECES_PER_SECOND).max(1));
            }
            let Some(work) = &mut session.work else { return };
            let (found, tried) = work.scan.run(&work.target, quota.min(work.left));
            quota -= tried;
            work.left -= tried;
            self.counts.hashes += u64::from(tried);
            let Some((nonce, hash)) = found else { continue };
            let work = work.clone();
            let filters = self.config.model.habits().difficulties == Difficulties::NextWork;
            if filters && work.difficulty < session.difficulty {
                self.counts.filtered += 1;
            } else if withholds(&self.config, &job) {
                self.counts.withheld += 1;
            } else {
                session.queue(&self.config, &job, &work, (nonce, hash), now);
            }
        }
    }

    /// Writes the shares whose delay has passed.
    pub(super) fn write_due(&mut self, now: Instant) {
        loop {
            let Some(session) = &mut self.session else { return };
            if session.found.front().is_none_or(|(due, ..)| *due > now) {
                return;
            }
            let Some((_, mut submitted, params)) = session.found.pop_front() else { return };
            submitted.id = match self.config.model.habits().submit_ids {
                Ids::Four => "4".to_owned(),
                Ids::Counting => session.take_id(),
            };
            submitted.at = now;
            let params: Vec<&str> = params.iter().map(String::as_str).collect();
            let line = lines::submit(self.config.model, &submitted.id, &params);
            session.outstanding.push_back(submitted);
            self.counts.submitted += 1;
            self.say(&line);
        }
    }

    /// Handles an answer. Answers with the same id are matched in the order of the submits.
    pub(super) fn answered(&mut self, answer: &Envelope<'_>, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let id = answer.id();
        let Some(index) = session.outstanding.iter().position(|submitted| submitted.id == id)
        else {
            let reply_to =
                session.waiting.iter().find(|(_, asked)| asked == id).map(|(step, _)| *step);
            if let Some(step) = reply_to {
                return self.replied(step, answer);
            }
            if session.asked.remove(id) {
                return;
            }
            let known = session.answered.contains_key(id);
            self.counts.double_answers += u64::from(known);
            self.counts.unknown_answers += u64::from(!known);
            return;
        };
        let Some(submitted) = session.outstanding.remove(index) else { return };
        session.remember_answer(id);
        self.counts.latency.add(now.saturating_duration_since(submitted.at));
        if answer.result == Value::Bool(true) && answer.error.is_null() {
            self.counts.answered_true += 1;
            self.counts.work += submitted.difficulty;
            return;
        }
        let code = lines::refusal(answer);
        let lost =
            code == "21" && session.job.as_ref().is_some_and(|job| job.id == submitted.job_id);
        *self.counts.answered_error.entry(code).or_default() += 1;
        if lost {
            session.job_usable = false;
            self.gap.has(false, now);
        }
    }

    /// Stops hashing, and no longer wants a job; shares already found are still written.
    pub(in crate::miner) fn finish(&mut self, now: Instant) {
        self.hashrate = 0.0;
        self.gap.wants(false, now);
        if let Some(session) = &mut self.session {
            session.credit = 0.0;
            session.found.iter_mut().for_each(|(due, ..)| *due = now);
            if !session.ready {
                session.ending.get_or_insert(Ending::Wanted);
            }
        }
    }
}

impl Session {
    fn next_work(&mut self, job: &Job, config: &MinerConfig, nonces: u32) -> Option<Work> {
        let difficulty = match config.model.habits().difficulties {
            Difficulties::NextJob => job.difficulty,
            Difficulties::NextWork | Difficulties::AtOnce => self.difficulty,
        };
        let target = target(config, difficulty)?;
        self.position.next(config, job, &self.variants, (difficulty, target), nonces)
    }

    /// Applies a new difficulty; some firmware applies it to its current job at once.
    pub(super) fn set_difficulty(&mut self, difficulty: f64, config: &MinerConfig) {
        self.difficulty = difficulty;
        if config.model.habits().difficulties == Difficulties::AtOnce
            && let (Some(work), Some(target)) = (&mut self.work, target(config, difficulty))
        {
            work.difficulty = difficulty;
            work.target = target;
        }
    }

    /// Whether no job since the last clean one had this job's id.
    fn is_new_since_clean(&mut self, job: &Job) -> bool {
        if job.clean || self.ids_since_clean.len() >= IDS_MAX {
            self.ids_since_clean.clear();
        }
        self.ids_since_clean.insert(job.id.clone())
    }

    fn queue(
        &mut self,
        config: &MinerConfig,
        job: &Job,
        work: &Work,
        (nonce, _): (u32, Hash),
        now: Instant,
    ) {
        let mut params = vec![
            config.kept_name().to_owned(),
            job.id.clone(),
            const_hex::encode(&work.extranonce2),
            format!("{:08x}", job.ntime),
            // NerdMiner sends no leading zeros.
            if config.model == Model::NerdMiner {
                format!("{nonce:x}")
            } else {
                format!("{nonce:08x}")
            },
        ];
        params.extend(work.version_bits.map(|bits| format!("{bits:08x}")));
        let submitted = Submitted {
            id: String::new(),
            job_id: job.id.clone(),
            difficulty: work.difficulty,
            at: now,
        };
        self.found.push_back((now + config.submit_delay, submitted, params));
    }

    /// Applies a new version mask, to the current job too.
    pub(super) fn set_mask(&mut self, mask: u32, config: &MinerConfig) {
        self.mask = mask;
        let Some(job) = &self.job else { return };
        self.variants = variants(config, job.version, mask);
        // The list of versions has changed, so continue with the next extranonce2.
        self.position.skip();
        self.work = None;
    }

    fn remember_job(&mut self, id: &str) -> bool {
        if !self.job_ids.insert(id.to_owned()) {
            return false;
        }
        self.job_id_order.push_back(id.to_owned());
        if self.job_id_order.len() > IDS_MAX
            && let Some(oldest) = self.job_id_order.pop_front()
        {
            self.job_ids.remove(&oldest);
        }
        true
    }

    fn remember_answer(&mut self, id: &str) {
        let times = self.answered.entry(id.to_owned()).or_default();
        *times += 1;
        if *times > 1 {
            return;
        }
        self.answered_order.push_back(id.to_owned());
        if self.answered_order.len() > IDS_MAX
            && let Some(oldest) = self.answered_order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }
}

/// Whether the firmware does not submit the shares of this job.
fn withholds(config: &MinerConfig, job: &Job) -> bool {
    job.extranonce2_size > config.model.habits().extranonce2_max
}

/// The target that a firmware uses for a difficulty.
fn target(config: &MinerConfig, difficulty: f64) -> Option<Target> {
    Target::of_difficulty(match config.rounding {
        Rounding::Exact => difficulty,
        Rounding::PowerOfTwoFloor => power_of_two_below(difficulty),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float-to-int casts saturate"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// The time between two batches of hashes.
pub(in crate::miner) const TICK: Duration = Duration::from_millis(50);
