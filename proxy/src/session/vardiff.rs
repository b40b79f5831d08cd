//! Chooses the level of a miner's shares: one share per interval, judged by how many came.
//!
//! Shares are a Poisson process, so a count alone says little: three where one was due may be
//! chance, thirty are not. The evidence against the current level is a log-likelihood ratio: how
//! much better the count fits the observed rate than the nearest rate for which the level is right.
//! It is collected over the period with the strongest evidence. Strong evidence is enough within
//! seconds, weak evidence takes minutes, and a machine whose rate lies between two levels keeps the
//! level it has: the band in which a level is kept is wider than a factor of two.
//!
//! It is pure and small (48 bytes per session). It only judges; [`super::difficulty`] decides when
//! a new level is sent.

use crate::level::Level;

/// Who said at which level a session should begin. A later source counts only if it is at least as
/// good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LevelSource {
    /// The listener's difficulty, the same for all.
    Server,
    /// The usual hashrate of machines with this user agent.
    UserAgent,
    /// The miner's password or suggestion.
    Miner,
    /// The machine's own rate when it was last connected.
    Recall,
}

/// Why a level was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Shares come too fast.
    Fast,
    /// Shares come too slowly.
    Slow,
    Idle,
}

/// A new level, with the reason.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LevelChange {
    pub(crate) level: Level,
    pub(crate) reason: Reason,
    /// The new estimate of the machine's rate.
    estimate: Option<Count>,
}

/// A number of shares, and the number of intervals at the current level in which they came.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    shares: f32,
    intervals: f32,
}

/// The evidence for one session.
#[derive(Debug, Clone)]
pub(crate) struct Vardiff {
    /// The session's age up to which time is counted, in seconds; negative while it has no work.
    seen_until: f64,
    /// The estimate: the last shares, combined with what was assumed before them.
    estimate: Count,
    /// The period with the strongest evidence for a higher level.
    up: Count,
    /// The period with the strongest evidence for a lower level.
    down: Count,
    /// Intervals without a share, minus those that later shares have made up for.
    silence: f32,
    level: Level,
    in_force: Level,
    /// The lowest plausible level of the machine. Silence lowers the level to here at once, and
    /// further down only slowly.
    lowest: Level,
    /// The number of steps taken below `lowest`.
    steps: u8,
    source: LevelSource,
    resting: bool,
    /// Whether shares have changed the estimate from what was only claimed.
    measured: bool,
}

/// A level is right for rates from the inverse of this up to this many shares per interval. 1.6² is
/// more than two, so that a machine that was just moved lies well inside the band of its new level.
const BAND: f32 = 1.6;
/// The evidence needed, in nats: a period misleads once in e^5 times at the very edge of the band,
/// and practically never inside it.
const EVIDENCE: f32 = 5.0;
/// The minimum number of shares for a raise, however fast they came: three gaps between four
/// shares.
const SHARES_MIN: f32 = 4.0;
/// The minimum number of shares in an estimate that can change a level by itself; see also
/// [`WEIGHED_ERRORS`].
const WEIGHED_MIN: f32 = 24.0;
/// By how many standard errors an estimate must be off to change a level by itself.
const WEIGHED_ERRORS: f32 = 1.0;
/// The weight of past shares in the estimate.
const REMEMBERED: f32 = 64.0;
/// The longest silence, in seconds, whose shares may come in one burst: firmware keeps shares for
/// two minutes while its network is down.
const BURST_SECS: f32 = 120.0;
/// How many intervals of silence one share makes up for: a little more than its own, so that
/// ordinary silences are soon forgotten.
const MADE_UP: f32 = 1.25;
/// The minimum number of shares in a storm.
const STORM_SHARES: f32 = 64.0;
/// How many times faster than one per interval shares must come to be a storm.
const STORM_FACTOR: f32 = 16.0;
/// By how many powers of two one step without shares lowers the level: a silence of six intervals
/// suggests a sixth of the rate or less.
const IDLE_STEP: i32 = 3;
/// The maximum number of powers of two by which one step without shares lowers the level if nothing
/// is known about the machine. A step too far could let a machine send 2^16 shares per interval,
/// several hundred of them before the next change reaches it.
const UNKNOWN_STEP_MAX: i32 = 16;
/// How many times more evidence a step without shares needs if nothing is known about the machine.
/// One or two shares are then not evidence enough, either.
const UNKNOWN_PATIENCE: f32 = 1.5;
/// Below the lowest plausible level, the silence needed doubles with each step, at most this many
/// times.
const IDLE_STEPS_MAX: u8 = 10;

impl Vardiff {
    /// A session of which only its listener's `level` is known.
    pub(crate) fn new(level: Level, lowest: Level) -> Self {
        Self {
            seen_until: 0.0,
            estimate: Count { shares: 1.0, intervals: 1.0 },
            up: Count::default(),
            down: Count::default(),
            silence: 0.0,
            level,
            in_force: level,
            lowest,
            steps: 0,
            source: LevelSource::Server,
            resting: true,
            measured: false,
        }
    }

    /// Begins at `level`, on the word of `source`, with a machine that is not believed to be below
    /// `lowest`. Ignored once shares have told more, or when a better source was heard.
    pub(crate) fn start(&mut self, source: LevelSource, level: Level, lowest: Level) {
        if source < self.source || (self.measured && source != LevelSource::Miner) {
            return;
        }
        self.source = source;
        self.level = level;
        self.lowest = lowest.min(level);
        self.steps = 0;
        // A user agent is good enough to start with, but not to size a pool by.
        if source != LevelSource::UserAgent && !self.measured {
            self.estimate = Count { shares: 1.0, intervals: 2f32.powi(self.in_force.above(level)) };
        }
    }

    /// The level that suits the machine, as far as is known.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Whether shares have shown the hashrate of the machine.
    pub(crate) fn measured(&self) -> bool {
        self.measured && self.estimate.shares >= SHARES_MIN
    }

    /// Whether only the miner's own claim says how fast the machine is.
    pub(crate) fn is_hearsay(&self) -> bool {
        self.source == LevelSource::Miner && !self.measured()
    }

    /// Hashes of difficulty 1 that the machine does in a second: measured, or as a good source has
    /// said.
    pub(crate) fn work_rate(&self, interval: f64) -> f64 {
        f64::from(self.estimate.rate()) * self.in_force.get() / interval
    }

    /// Stops counting time and shares until there is work again.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
    }

    /// Lets the time pass until `age`, in seconds.
    pub(crate) fn pass(&mut self, interval: f64, age: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "a count of intervals")]
        let intervals =
            if self.resting { 0.0 } else { ((age - self.seen_until).max(0.0) / interval) as f32 };
        self.seen_until = age;
        self.estimate.intervals += intervals;
        self.up.intervals += intervals;
        self.down.intervals += intervals;
        self.silence += intervals;
    }

    /// Counts a share found at the current level.
    pub(crate) fn share(&mut self, interval: f64, age: f64) {
        self.pass(interval, age);
        if self.resting {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a count of intervals")]
        let silence = self.silence.min(BURST_SECS / interval as f32);
        if self.up.shares <= BAND * self.up.intervals {
            // So far there is no evidence for a higher level: start again, with the silence whose
            // shares may be coming now.
            self.up = Count { shares: 0.0, intervals: silence };
        }
        self.silence = (silence - MADE_UP).max(0.0);
        for count in [&mut self.estimate, &mut self.up, &mut self.down] {
            count.shares += 1.0;
        }
        if self.down.shares * BAND >= self.down.intervals {
            self.down = Count::default();
        }
        self.estimate.forget(REMEMBERED);
        self.up.forget(1024.0);
        self.down.forget(1024.0);
        self.steps = 0;
        if !self.measured && self.estimate.shares >= SHARES_MIN {
            self.measured = true;
            self.lowest = self.lowest.max(self.in_force.moved(self.estimate.powers() - IDLE_STEP));
        }
    }

    /// Whether shares come so fast that a higher level should not wait for the next job. Returns
    /// `true` once in 32 shares.
    pub(crate) fn storms(&mut self) -> bool {
        let storms =
            self.up.shares >= STORM_SHARES && self.up.shares >= STORM_FACTOR * self.up.intervals;
        if storms {
            self.up.forget(STORM_SHARES / 2.0);
        }
        storms
    }

    /// Evaluates the evidence, and changes the level if it is strong enough. That evidence is then
    /// used up.
    pub(crate) fn judge(&mut self) -> Option<Reason> {
        let LevelChange { level, reason, estimate } = self.verdict()?;
        self.level = level;
        if let Some(estimate) = estimate {
            self.estimate = estimate;
        }
        if reason == Reason::Idle {
            let patient = self.in_force <= self.lowest;
            self.steps = (self.steps + u8::from(patient)).min(IDLE_STEPS_MAX);
        } else {
            self.lowest = level.moved(-IDLE_STEP);
        }
        self.up = Count::default();
        self.down = Count::default();
        Some(reason)
    }

    /// What [`Self::judge`] would do now.
    pub(crate) fn verdict(&self) -> Option<LevelChange> {
        self.faster().or_else(|| self.slower()).or_else(|| self.off())
    }

    /// The change for a period in which too many shares came.
    fn faster(&self) -> Option<LevelChange> {
        if self.up.shares < SHARES_MIN || self.up.excess() < EVIDENCE {
            return None;
        }
        // The period ends with a share and was chosen because it is fast; subtracting one share
        // corrects for that.
        let estimate = Count { shares: self.up.shares - 1.0, ..self.up };
        let level = self.in_force.moved(estimate.powers().max(1));
        Some(LevelChange { level, reason: Reason::Fast, estimate: Some(estimate) })
    }

    /// The change for a period in which too few shares came, or none.
    fn slower(&self) -> Option<LevelChange> {
        if self.down.deficit() < EVIDENCE {
            return None;
        }
        if self.down.shares > 0.0 {
            // One or two shares would show that it is slow, but not how slow.
            if self.down.shares < SHARES_MIN - 1.0
                && self.down.deficit() < EVIDENCE * UNKNOWN_PATIENCE
            {
                return None;
            }
            let estimate = Count { shares: self.down.shares + 0.5, ..self.down };
            let level = self.in_force.moved(estimate.powers().min(-1));
            return Some(LevelChange { level, reason: Reason::Slow, estimate: Some(estimate) });
        }
        // Halve the distance (in powers of two) to the slowest such machine; below that, slow down
        // with each step.
        let distance = self.in_force.above(self.lowest);
        let (step, patience) = if distance <= 0 {
            (IDLE_STEP, f32::from(1u16 << self.steps.min(IDLE_STEPS_MAX)))
        } else if self.measured {
            (IDLE_STEP, 1.0)
        } else {
            (((distance + 1) / 2).clamp(IDLE_STEP, UNKNOWN_STEP_MAX), UNKNOWN_PATIENCE)
        };
        let estimate = Count { shares: 0.5, ..self.down };
        let level = self.in_force.moved(-step);
        let enough = self.down.deficit() >= EVIDENCE * patience;
        enough.then_some(LevelChange { level, reason: Reason::Idle, estimate: Some(estimate) })
    }

    /// The change for an estimate of many shares that lies beyond the middle between two levels by
    /// more than its own error.
    fn off(&self) -> Option<LevelChange> {
        if self.estimate.shares < WEIGHED_MIN {
            return None;
        }
        let powers = self.estimate.rate().log2();
        let error = std::f32::consts::LOG2_E / self.estimate.shares.sqrt();
        if powers.abs() <= 0.5 + error * WEIGHED_ERRORS {
            return None;
        }
        let reason = if powers > 0.0 { Reason::Fast } else { Reason::Slow };
        Some(LevelChange { level: self.in_force.moved(whole(powers)), reason, estimate: None })
    }

    /// Sets the level at which the next shares will be found; there is work from now on.
    pub(crate) fn put_in_force(&mut self, level: Level) {
        self.resting = false;
        // The shares so far would have taken longer to find at a higher level.
        let scale = 2f32.powi(level.above(self.in_force));
        for count in [&mut self.estimate, &mut self.up, &mut self.down] {
            count.intervals *= scale;
        }
        self.in_force = level;
    }

    /// Updates the level by the estimate while something else (a pool's difficulty, a minimum)
    /// keeps the machine from it. Call this only in that case.
    pub(crate) fn follow(&mut self) {
        if self.measured() && self.estimate.shares >= 2.0 * SHARES_MIN {
            self.level = self.in_force.moved(self.estimate.powers());
        }
    }
}

impl Count {
    fn rate(self) -> f32 {
        self.shares / self.intervals.max(f32::MIN_POSITIVE)
    }

    /// The powers of two between one share per interval and the rate.
    fn powers(self) -> i32 {
        whole(self.rate().log2())
    }

    /// How much better the count fits the observed rate than the highest rate for which the level
    /// is right.
    fn excess(self) -> f32 {
        let due = BAND * self.intervals;
        if self.shares <= due {
            return 0.0;
        }
        self.shares * (self.shares / due.max(f32::MIN_POSITIVE)).ln() - (self.shares - due)
    }

    /// How much better the count fits the observed rate than the lowest rate for which the level is
    /// right.
    fn deficit(self) -> f32 {
        let due = self.intervals / BAND;
        if self.shares >= due {
            return 0.0;
        }
        let seen = if self.shares > 0.0 { self.shares * (self.shares / due).ln() } else { 0.0 };
        seen + due - self.shares
    }

    /// Limits the weight to `shares`.
    fn forget(&mut self, shares: f32) {
        if self.shares > shares {
            self.intervals *= shares / self.shares;
            self.shares = shares;
        }
    }
}

/// The whole number nearest to some powers of two.
#[expect(clippy::cast_possible_truncation, reason = "clamped")]
fn whole(powers: f32) -> i32 {
    powers.round().clamp(-127.0, 127.0) as i32
}

#[cfg(test)]
mod tests;
