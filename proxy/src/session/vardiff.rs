//! How hard a miner's shares should be: one share in an interval, judged by how many came.
//!
//! Shares are a Poisson process, so a count says nothing by itself: three where one was due may be
//! luck, thirty are not. The evidence against the level in force is its log-likelihood ratio (how
//! much better the count fits the rate that was seen than the nearest rate the level is still right
//! for), gathered over the stretch that speaks loudest. Strong evidence is enough within seconds,
//! weak evidence takes minutes, and a machine whose rate lies between two levels keeps the one it
//! has: the band in which a level is kept is wider than a factor of two.
//!
//! Pure and small (48 bytes a session). It only judges; when a new level goes out is decided by
//! [`super::difficulty`].

use crate::level::Level;

/// Who said at which level a session should begin. A later source counts only if it is at least as
/// good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LevelSource {
    /// The listener's difficulty, for all alike.
    Server,
    /// What machines with this user agent mostly are.
    UserAgent,
    /// The miner, by its password or a suggestion.
    Miner,
    /// The machine itself, when it was connected last.
    Recall,
}

/// Why a level was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Shares came faster than they should.
    Fast,
    /// Shares came, but slower than they should.
    Slow,
    Idle,
}

/// Another level, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LevelChange {
    pub(crate) level: Level,
    pub(crate) reason: Reason,
    /// What the machine's rate is believed to be from now on.
    estimate: Option<Count>,
}

/// Shares that came over a stretch of time, and how many intervals that was at the level in force.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    shares: f32,
    intervals: f32,
}

/// The evidence for one session.
#[derive(Debug, Clone)]
pub(crate) struct Vardiff {
    /// Seconds of the session's age up to which time is counted; negative while it rests.
    seen_until: f64,
    /// For the estimate: the last shares, with what was believed before them.
    estimate: Count,
    /// The stretch that speaks loudest for a higher level.
    up: Count,
    /// The stretch that speaks loudest for a lower one.
    down: Count,
    /// Intervals without a share, less those that shares have made up for since.
    silence: f32,
    level: Level,
    in_force: Level,
    /// Below this the machine is not believed to be; silence leads there at once, and only slowly
    /// further down.
    lowest: Level,
    /// Steps taken below `lowest`.
    steps: u8,
    source: LevelSource,
    resting: bool,
    /// Shares have moved the estimate away from what was only said.
    measured: bool,
}

/// A level is right for rates up to this many shares an interval, and down to its inverse. 1.6² is
/// more than two, so that a machine which has just been moved lies well inside the band of its new
/// level.
const BAND: f32 = 1.6;
/// Evidence needed, in nats: a stretch misleads once in e^5 times at the band's very edge, and
/// practically never inside it.
const EVIDENCE: f32 = 5.0;
/// Shares that a raise needs however fast they came: three gaps between four shares.
const SHARES_MIN: f32 = 4.0;
/// Shares of an estimate that may move a level by itself …
const WEIGHED_MIN: f32 = 24.0;
/// … where it is off by so many standard errors.
const WEIGHED_ERRORS: f32 = 1.0;
/// Shares that the estimate remembers.
const REMEMBERED: f32 = 64.0;
/// Longest silence, in seconds, whose shares may come in one burst: firmware keeps shares for two
/// minutes while its network is gone.
const BURST_SECS: f32 = 120.0;
/// Intervals of silence that one share makes up for: a little more than its own, so that ordinary
/// silences are soon forgotten.
const MADE_UP: f32 = 1.25;
/// A storm: so many shares …
const STORM_SHARES: f32 = 64.0;
/// … at so many times the rate.
const STORM_FACTOR: f32 = 16.0;
/// Powers of two that one step of idle decay goes down: silence of six intervals speaks for a sixth
/// of the rate, or less.
const IDLE_STEP: i32 = 3;
/// And where nothing is known of the machine: a step too far may wake a machine that finds 2^16
/// shares an interval, some hundreds before it is heard.
const UNKNOWN_STEP_MAX: i32 = 16;
/// Silence is not believed so soon then, nor are one or two shares.
const UNKNOWN_PATIENCE: f32 = 1.5;
/// Below the lowest that is believed of a machine, silence doubles with each step, up to so many
/// doublings.
const IDLE_STEPS_MAX: u8 = 10;

impl Vardiff {
    /// A session that nothing is known of but its listener's `level`.
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
        // What a user agent says is good enough to begin with, and not to size a pool by.
        if source != LevelSource::UserAgent && !self.measured {
            self.estimate = Count { shares: 1.0, intervals: 2f32.powi(self.in_force.above(level)) };
        }
    }

    /// The level that suits the machine, as far as is known.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Whether shares have told how fast the machine is.
    pub(crate) fn measured(&self) -> bool {
        self.measured && self.estimate.shares >= SHARES_MIN
    }

    /// Whether nothing but the miner's own word tells how fast the machine is.
    pub(crate) fn is_hearsay(&self) -> bool {
        self.source == LevelSource::Miner && !self.measured()
    }

    /// Hashes of difficulty 1 that the machine does in a second: measured, or as a good source has
    /// said.
    pub(crate) fn work_rate(&self, interval: f64) -> f64 {
        f64::from(self.estimate.rate()) * self.in_force.get() / interval
    }

    /// From now on neither time nor shares count, until there is work again.
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

    /// Counts a share that was found at the level in force.
    pub(crate) fn share(&mut self, interval: f64, age: f64) {
        self.pass(interval, age);
        if self.resting {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a count of intervals")]
        let silence = self.silence.min(BURST_SECS / interval as f32);
        if self.up.shares <= BAND * self.up.intervals {
            // Nothing so far speaks for more: begin again, with the silence whose shares may be
            // coming now.
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

    /// Whether shares come so fast that a higher level should not wait for the next job. Says so
    /// once in 32 shares.
    pub(crate) fn storms(&mut self) -> bool {
        let storms =
            self.up.shares >= STORM_SHARES && self.up.shares >= STORM_FACTOR * self.up.intervals;
        if storms {
            self.up.forget(STORM_SHARES / 2.0);
        }
        storms
    }

    /// Judges the evidence, and changes the level where it is strong enough. Evidence that has
    /// changed it is spent.
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

    /// A stretch in which too many shares came.
    fn faster(&self) -> Option<LevelChange> {
        if self.up.shares < SHARES_MIN || self.up.excess() < EVIDENCE {
            return None;
        }
        // It ends with a share and was chosen for being fast: one share less makes up for it.
        let estimate = Count { shares: self.up.shares - 1.0, ..self.up };
        let level = self.in_force.moved(estimate.powers().max(1));
        Some(LevelChange { level, reason: Reason::Fast, estimate: Some(estimate) })
    }

    /// A stretch in which too few came, or none.
    fn slower(&self) -> Option<LevelChange> {
        if self.down.deficit() < EVIDENCE {
            return None;
        }
        if self.down.shares > 0.0 {
            // One or two shares would say that it is slow, and hardly how slow.
            if self.down.shares < SHARES_MIN - 1.0
                && self.down.deficit() < EVIDENCE * UNKNOWN_PATIENCE
            {
                return None;
            }
            let estimate = Count { shares: self.down.shares + 0.5, ..self.down };
            let level = self.in_force.moved(estimate.powers().min(-1));
            return Some(LevelChange { level, reason: Reason::Slow, estimate: Some(estimate) });
        }
        // Halve the distance (in powers of two) to the slowest such machine; below it, slower with
        // each step.
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

    /// An estimate of many shares that lies beyond the middle between two levels by more than its
    /// own error.
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

    /// Notes the level at which the next shares will be found; there is work from now on.
    pub(crate) fn put_in_force(&mut self, level: Level) {
        self.resting = false;
        // The shares so far would have taken longer to find at a higher level.
        let scale = 2f32.powi(level.above(self.in_force));
        for count in [&mut self.estimate, &mut self.up, &mut self.down] {
            count.intervals *= scale;
        }
        self.in_force = level;
    }

    /// Follows the machine while something else (a pool's difficulty, a floor) keeps it from its
    /// level. Call it only then.
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

    /// Powers of two from a share an interval to the rate.
    fn powers(self) -> i32 {
        whole(self.rate().log2())
    }

    /// How much better the count fits the rate seen than the highest rate the level is right for.
    fn excess(self) -> f32 {
        let due = BAND * self.intervals;
        if self.shares <= due {
            return 0.0;
        }
        self.shares * (self.shares / due.max(f32::MIN_POSITIVE)).ln() - (self.shares - due)
    }

    /// The same for the lowest rate the level is right for.
    fn deficit(self) -> f32 {
        let due = self.intervals / BAND;
        if self.shares >= due {
            return 0.0;
        }
        let seen = if self.shares > 0.0 { self.shares * (self.shares / due).ln() } else { 0.0 };
        seen + due - self.shares
    }

    /// Keeps the weight of `shares` at most.
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
