//! Chooses the difficulty of a session's next job: the one that suits the machine, within the
//! bounds that its listener, the pool and the miner set.
//!
//! The bounds, the strongest first: at least the listener's minimum and the minimum difficulty that
//! a `configure` was granted; at most the pool's difficulty, unless the target holds its miners
//! above it; at least the target's hold and `md=` of the password; at most the listener's maximum.
//! A difficulty is only sent with a job, in one write.

use std::time::Duration;

use stratum::difficulty::Difficulty;

use super::user_agent::speed_of;
use super::vardiff::{LevelChange, LevelSource, Reason, Vardiff};
use crate::level::{HASHES, Level};
use crate::load::Hold;
use crate::reasons::Retarget;

/// How a listener sets difficulties.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DifficultyRules {
    /// The start level of sessions about whose machine nothing is known.
    pub(crate) start: Level,
    pub(crate) min: Level,
    pub(crate) max: Level,
    /// The seconds in which a miner should find a share; `None` keeps every session at its start
    /// level.
    pub(crate) interval: Option<f64>,
    /// Whether the user agent decides the start level.
    pub(crate) by_user_agent: bool,
}

/// The bounds that come with one job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) pool: Difficulty,
    /// The hold while the pool's difficulty is too low for the fleet.
    pub(super) hold: Option<Hold>,
    /// The minimum difficulty that the miner's `configure` was granted.
    pub(super) promised: Option<Difficulty>,
}

impl Limits {
    /// The highest level, except to satisfy [`Self::least`].
    fn most(&self, rules: &DifficultyRules) -> Level {
        let pool = Level::at_or_below(self.pool);
        self.hold.map_or(pool, |hold| hold.most.max(pool)).min(rules.max)
    }

    /// No session gets a lower level.
    fn least(&self, rules: &DifficultyRules) -> Level {
        let held = self.hold.map_or(Level::FLOOR, |hold| hold.least.min(rules.max));
        held.max(self.promised.map_or(rules.min, Level::at_or_above)).max(rules.min)
    }
}

/// The difficulty of one session.
#[derive(Debug)]
pub(super) struct Aim {
    vardiff: Vardiff,
    /// The level last advertised.
    sent: Option<Level>,
    /// The minimum from the password, as far as the pool allows it.
    miner_min: Level,
    /// Until this age of the session, in seconds, no suggestion of the miner is accepted.
    wish_from: f32,
    /// Whether, at the last job, a bound kept the session from the level that suits its machine.
    bounded: bool,
}

/// A level to advertise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advertised {
    pub(super) level: Level,
    /// Why the level differs from the one before, if it does.
    pub(super) changed: Option<Retarget>,
}

/// The minimum time between two accepted suggestions; the first one is always accepted.
const WISH_EVERY_SECS: f32 = 60.0;
/// By how many powers of two a suggestion may differ from what a measured machine needs.
const WISH_REACH: i32 = 2;
/// The interval that is used for measuring rates if none is configured.
const MEASURED_BY: f64 = 10.0;

impl Aim {
    pub(super) fn new(rules: &DifficultyRules) -> Self {
        Self {
            vardiff: Vardiff::new(rules.start, rules.min),
            sent: None,
            miner_min: Level::FLOOR,
            wish_from: 0.0,
            bounded: false,
        }
    }

    pub(super) fn sent(&self) -> Option<Difficulty> {
        self.sent.map(Level::difficulty)
    }

    /// Records that the miner may not have received its difficulty, so that it is sent again with
    /// the next job.
    pub(super) fn say_again(&mut self) {
        self.sent = None;
    }

    /// Handles the miner's user agent.
    pub(super) fn user_agent(&mut self, user_agent: &str, rules: &DifficultyRules) {
        if rules.by_user_agent
            && let (Some(interval), Some(speed)) = (rules.interval, speed_of(user_agent))
        {
            let level = |hashrate: f64| Level::nearest(hashrate / HASHES, interval);
            self.vardiff.start(
                LevelSource::UserAgent,
                clamp(level(speed.typical), rules),
                clamp(level(speed.least), rules),
            );
        }
    }

    /// Handles the miner's password: `d=1024` is a start difficulty, `md=512` a minimum. Other
    /// words are ignored.
    pub(super) fn password(&mut self, password: &str, rules: &DifficultyRules) {
        let number = |key| {
            let mut words =
                password.split([',', ';', ' ']).filter_map(|word| word.trim().strip_prefix(key));
            words.find_map(|number| Difficulty::new(number.parse().ok()?))
        };
        if let Some(min) = number("md=") {
            self.miner_min = clamp(Level::at_or_above(min), rules);
        }
        if let Some(wished) = number("d=") {
            let level = clamp(Level::at_or_below(wished), rules);
            self.vardiff.start(LevelSource::Miner, level, level.moved(-WISH_REACH));
        }
    }

    /// Handles a difficulty that the miner suggests (S54 to S56). It is accepted once a minute,
    /// within the listener's bounds and, once the machine's rate is known, near the difficulty that
    /// this rate needs.
    pub(super) fn suggestion(
        &mut self,
        wished: Difficulty,
        age: Duration,
        rules: &DifficultyRules,
    ) {
        let age = age.as_secs_f32();
        if age < self.wish_from {
            return;
        }
        self.wish_from = age + WISH_EVERY_SECS;
        let mut level = clamp(Level::at_or_below(wished), rules);
        if let (true, Some(interval)) = (self.vardiff.measured(), rules.interval) {
            let needed = Level::nearest(self.vardiff.work_rate(interval), interval);
            level = level.max(needed.moved(-WISH_REACH)).min(needed.moved(WISH_REACH));
        }
        self.vardiff.start(LevelSource::Miner, level, level.moved(-WISH_REACH));
        self.bounded = false;
    }

    /// Takes the machine's work rate from its last connection.
    pub(super) fn recall(&mut self, work_rate: f32, rules: &DifficultyRules) {
        if let Some(interval) = rules.interval {
            let level = clamp(Level::nearest(f64::from(work_rate), interval), rules);
            self.vardiff.start(LevelSource::Recall, level, level.moved(-WISH_REACH));
        }
    }

    /// Returns the level to advertise with a job, which is in force from now on.
    pub(super) fn advertise(
        &mut self,
        limits: &Limits,
        rules: &DifficultyRules,
        age: Duration,
    ) -> Advertised {
        let reason = self.judge(rules, age);
        let level = self.within(limits, rules);
        self.bounded = self.vardiff.level() != level;
        let former = self.sent.replace(level);
        let changed = (former != Some(level)).then_some(match (former, reason) {
            (None, _) => Retarget::Start,
            (_, Some(Reason::Fast)) => Retarget::Fast,
            (_, Some(Reason::Slow)) => Retarget::Slow,
            (_, Some(Reason::Idle)) => Retarget::Idle,
            (_, None) if !self.bounded => Retarget::Wish,
            (_, None) => Retarget::Pool,
        });
        self.vardiff.put_in_force(level);
        Advertised { level, changed }
    }

    /// Evaluates the evidence up to now.
    fn judge(&mut self, rules: &DifficultyRules, age: Duration) -> Option<Reason> {
        self.vardiff.pass(rules.interval.unwrap_or(MEASURED_BY), age.as_secs_f64());
        rules.interval?;
        let reason = self.vardiff.judge();
        if reason.is_none() && self.bounded {
            self.vardiff.follow();
        }
        reason
    }

    /// The machine's level, within all bounds.
    fn within(&self, limits: &Limits, rules: &DifficultyRules) -> Level {
        let wanted = self.vardiff.level().max(self.miner_min).min(limits.most(rules));
        wanted.max(limits.least(rules))
    }

    /// Counts a share that met `difficulty`. Returns whether shares come so fast that the next
    /// level should not wait.
    pub(super) fn share(
        &mut self,
        difficulty: f64,
        rules: &DifficultyRules,
        age: Duration,
    ) -> bool {
        // A share found at another level, on work from before a change, says nothing about this
        // level.
        if self.sent.map(Level::get) != Some(difficulty) {
            return false;
        }
        self.vardiff.share(rules.interval.unwrap_or(MEASURED_BY), age.as_secs_f64());
        rules.interval.is_some() && self.vardiff.storms()
    }

    /// Whether a bound, and not the machine's own level, keeps it from a higher level.
    pub(super) fn may_rise(&self, limits: &Limits, rules: &DifficultyRules) -> bool {
        self.sent.is_some_and(|sent| sent < limits.most(rules).max(limits.least(rules)))
    }

    /// Whether there were no shares for so long that a lower level should not wait for the next
    /// job.
    pub(super) fn starves(
        &mut self,
        limits: &Limits,
        rules: &DifficultyRules,
        age: Duration,
    ) -> bool {
        let (Some(interval), Some(sent)) = (rules.interval, self.sent) else { return false };
        self.vardiff.pass(interval, age.as_secs_f64());
        let Some(LevelChange { level, .. }) = self.vardiff.verdict() else { return false };
        sent.above(level.max(limits.least(rules))) >= 2
    }

    /// Records that the miner has no work from now on.
    pub(super) fn rest(&mut self, rules: &DifficultyRules, age: Duration) {
        self.vardiff.pass(rules.interval.unwrap_or(MEASURED_BY), age.as_secs_f64());
        self.vardiff.rest();
    }

    /// The work rate that the session adds to the fleet's sum; zero on listeners without vardiff.
    #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
    pub(super) fn fleet_rate(&self, rules: &DifficultyRules) -> f32 {
        if rules.interval.is_some() { self.work_rate(rules) as f32 } else { 0.0 }
    }

    /// The machine's work rate: measured, or from a trusted source. Pools are asked for a
    /// difficulty and miners are held by this figure, so a miner's own claim (bfgminer on a
    /// processor asks for difficulty 1) counts only up to the listener's difficulty.
    pub(super) fn work_rate(&self, rules: &DifficultyRules) -> f64 {
        let interval = rules.interval.unwrap_or(MEASURED_BY);
        let work_rate = self.vardiff.work_rate(interval);
        if self.vardiff.is_hearsay() {
            work_rate.min(rules.start.get() / interval)
        } else {
            work_rate
        }
    }

    /// The machine's work rate, once shares have been measured.
    #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
    pub(super) fn measured_rate(&self, rules: &DifficultyRules) -> Option<f32> {
        self.vardiff.measured().then(|| self.work_rate(rules) as f32)
    }
}

fn clamp(level: Level, rules: &DifficultyRules) -> Level {
    level.min(rules.max).max(rules.min)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
