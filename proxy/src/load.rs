//! Computes the difficulty that the fleet needs at a pool, and how miners are held until the pool
//! has it.
//!
//! The pool gets the shares of all miners together, so its difficulty must suit the fleet and not
//! one machine. A pool is asked for a suitable one (`mining.suggest_difficulty`), even while it
//! only stands by. If its difficulty would let too many shares through, miners keep their own,
//! higher one while the pool's catches up: for a bounded time, and the work that the pool does not
//! credit meanwhile is counted. This is pure, except for the two numbers that sessions read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stratum::difficulty::Difficulty;

use crate::level::{HASHES, Level};

/// The summed work rate of all sessions that want work.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    hashrate: AtomicU64,
}

impl Fleet {
    /// Replaces a session's work rate in the sum. `from` must be exactly the value passed before,
    /// so that the sum never drifts.
    pub(crate) fn change(&self, from: f32, to: f32) {
        let (from, to) = (hashes(from), hashes(to));
        if to >= from {
            self.hashrate.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.hashrate.fetch_sub(from - to, Ordering::Relaxed);
        }
    }

    /// Hashes of difficulty 1 a second.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn work_rate(&self) -> f64 {
        self.hashrate.load(Ordering::Relaxed) as f64 / HASHES
    }
}

/// No session counts as more than 2^50 hashes a second (1.1 PH/s): a higher claim is wrong, and
/// 16,384 such sessions fit into the sum.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn hashes(work_rate: f32) -> u64 {
    (f64::from(work_rate) * HASHES).clamp(0.0, (1u64 << 50) as f64) as u64
}

/// How many shares of the fleet a target should get.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadRules {
    /// The number of shares a second that the whole fleet should send to the target.
    pub(crate) shares_per_sec: f64,
    /// The maximum number of shares a second that the whole fleet may send to the target.
    pub(crate) shares_per_sec_max: f64,
    /// The maximum time for which miners are held above the target's difficulty.
    pub(crate) hold_max: Duration,
}

/// The load of a connection, as its sessions see it.
#[derive(Debug)]
pub(crate) struct Load {
    fleet: Arc<Fleet>,
    shares_per_sec_max: f64,
    /// By how many powers of two the hold has been lowered.
    given_up: AtomicU8,
}

/// The difficulties at which miners are held while the pool's is too low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    /// No session gets a lower level.
    pub(crate) least: Level,
    /// No session gets a higher level once the hold is being lowered; until then every session
    /// keeps its own.
    pub(crate) most: Level,
}

impl Load {
    /// A load without limits.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn none() -> Arc<Self> {
        Self::limited(Arc::default(), f64::INFINITY)
    }

    /// A load with a maximum number of shares a second.
    pub(crate) fn limited(fleet: Arc<Fleet>, shares_per_sec_max: f64) -> Arc<Self> {
        Arc::new(Self { fleet, shares_per_sec_max, given_up: AtomicU8::new(0) })
    }

    /// Returns the hold at a pool of this difficulty, for a session with the work rate `own`.
    pub(crate) fn hold(&self, pool: Difficulty, own: f64) -> Option<Hold> {
        let work_rate = self.fleet.work_rate().max(own);
        hold(work_rate / self.shares_per_sec_max, pool, self.given_up.load(Ordering::Relaxed))
    }

    fn give_up(&self, powers: u8) {
        self.given_up.store(powers, Ordering::Relaxed);
    }
}

/// The hold for a pool with less than the `needed` difficulty.
fn hold(needed: f64, pool: Difficulty, given_up: u8) -> Option<Hold> {
    if needed <= pool.get() {
        return None;
    }
    let least = Level::at_or_above(Difficulty::new(needed)?).moved(-i32::from(given_up));
    if given_up == 0 {
        return Some(Hold { least, most: Level::CEILING });
    }
    (least.difficulty() > pool).then_some(Hold { least, most: least })
}

/// The sizing of one connection: the difficulty that the pool was asked for, and since when its
/// reaction has been awaited.
#[derive(Debug)]
pub(crate) struct Sizing {
    rules: LoadRules,
    load: Arc<Load>,
    asked: Option<Asked>,
    /// Since when miners have been held above the difficulty of this connection.
    held_since: Option<Instant>,
    looked_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    level: Level,
    at: Instant,
    patience: Duration,
}

/// The result of checking a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Look {
    /// The difficulty to ask the pool for.
    pub(crate) ask: Option<Difficulty>,
    /// How long miners were held above the pool's difficulty since the last check.
    pub(crate) held: Duration,
    /// The work that the pool did not credit because miners were held above its difficulty, in
    /// hashes of difficulty 1.
    pub(crate) uncredited: f64,
}

/// The minimum time until a pool is asked again. It doubles, up to [`ASK_EVERY_MAX`], each time the
/// pool does not react.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// The upper bound of the time until a pool is asked again.
const ASK_EVERY_MAX: Duration = Duration::from_secs(3600);
/// By how many powers of two a pool's difficulty may be off.
const OFF_MAX: i32 = 2;
/// A hold that has lasted too long is lowered by one power of two each time this has passed.
const GIVE_UP_EVERY: Duration = Duration::from_secs(10);

impl Sizing {
    pub(crate) fn new(rules: LoadRules, load: Arc<Load>, now: Instant) -> Self {
        Self { rules, load, asked: None, held_since: None, looked_at: now }
    }

    /// Returns what to ask the pool for when it has authorized us, if the fleet's rate is known.
    pub(crate) fn first_ask(&mut self, now: Instant) -> Option<Difficulty> {
        let level = self.suits()?;
        self.asked = Some(Asked { level, at: now, patience: ASK_EVERY });
        Some(level.difficulty())
    }

    /// The difficulty that suits the fleet, if it is known.
    fn suits(&self) -> Option<Level> {
        let work_rate = self.load.fleet.work_rate();
        (work_rate > 0.0).then(|| Level::nearest(work_rate / self.rules.shares_per_sec, 1.0))
    }

    /// Checks the pool's difficulty. `at_work` says that sessions work on this connection;
    /// `may_ask` that the pool may be asked now.
    pub(crate) fn look(
        &mut self,
        pool: Difficulty,
        at_work: bool,
        may_ask: bool,
        now: Instant,
    ) -> Look {
        let passed = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        let work_rate = self.load.fleet.work_rate();
        let needed = work_rate / self.rules.shares_per_sec_max;
        if at_work && needed > pool.get() {
            self.held_since = self.held_since.or(Some(now));
        } else {
            self.held_since = None;
        }
        let over = self.held_since.and_then(|since| {
            let held = now.saturating_duration_since(since);
            Some(held.checked_sub(self.rules.hold_max)?.as_secs() / GIVE_UP_EVERY.as_secs() + 1)
        });
        self.load.give_up(over.map_or(0, |powers| u8::try_from(powers).unwrap_or(u8::MAX)));
        let mut look = Look::default();
        if let (true, Some(hold)) = (at_work, self.load.hold(pool, 0.0)) {
            look.held = passed;
            look.uncredited =
                work_rate * passed.as_secs_f64() * (1.0 - pool.get() / hold.least.get()).max(0.0);
        }
        if may_ask {
            look.ask = self.ask(pool, now);
        }
        look
    }

    fn ask(&mut self, pool: Difficulty, now: Instant) -> Option<Difficulty> {
        let level = self.suits()?;
        if level.above(Level::at_or_below(pool)).abs() <= OFF_MAX {
            return None;
        }
        let mut patience = ASK_EVERY;
        if let Some(asked) = self.asked {
            if now < asked.at + asked.patience {
                return None;
            }
            if level.above(asked.level).abs() <= 1 {
                // The pool was already asked for this difficulty.
                patience = (asked.patience * 2).min(ASK_EVERY_MAX);
            }
        }
        self.asked = Some(Asked { level, at: now, patience });
        Some(level.difficulty())
    }
}

/// Whether a pool's difficulty is too low to take the fleet.
pub(crate) fn is_low(rules: &LoadRules, fleet: &Fleet, pool: Difficulty) -> bool {
    fleet.work_rate() / rules.shares_per_sec_max > pool.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn of(value: f64) -> Difficulty {
        Difficulty::new(value).expect("positive")
    }

    fn rules() -> LoadRules {
        LoadRules { shares_per_sec: 5.0, shares_per_sec_max: 1000.0, hold_max: secs(300) }
    }

    /// A fleet of 1,000 machines of 100 TH/s (23 million hashes of difficulty 1 a second), and a
    /// connection for it.
    fn farm(now: Instant) -> (Arc<Fleet>, Arc<Load>, Sizing) {
        let fleet = Arc::new(Fleet::default());
        for _ in 0..1000 {
            fleet.change(0.0, (1e14 / HASHES) as f32);
        }
        let load = Load::limited(fleet.clone(), 1000.0);
        let sizing = Sizing::new(rules(), load.clone(), now);
        (fleet, load, sizing)
    }

    #[test]
    fn the_sum_returns_to_nothing_when_all_have_gone() {
        let fleet = Fleet::default();
        let rates = [1e-6_f32, 0.3, 23_283.064, 1e12, f32::NAN];
        for rate in rates {
            fleet.change(0.0, rate);
        }
        for rate in rates {
            fleet.change(rate, 7.7);
            fleet.change(7.7, 0.0);
        }
        assert_eq!(fleet.work_rate(), 0.0);
    }

    #[test]
    fn a_pool_is_asked_for_what_suits_the_fleet_also_while_it_stands_by() {
        let start = origin();
        let (fleet, _, mut sizing) = farm(start);
        // 23.3 million / 5 is 4.66 million: 2^22.
        let ask = sizing.look(of(1.0), false, true, start).ask;
        assert_eq!(ask, Some(of(4_194_304.0)));
        assert_eq!(
            sizing.look(of(2_000_000.0), false, true, start + secs(120)).ask,
            None,
            "near enough"
        );
        for _ in 0..980 {
            fleet.change((1e14 / HASHES) as f32, 0.0);
        }
        let ask = sizing.look(of(4_194_304.0), false, true, start + secs(240)).ask;
        assert_eq!(ask, Some(of(131_072.0)), "less, when the fleet is less");
    }

    #[test]
    fn a_pool_that_takes_no_notice_is_asked_more_and_more_seldom() {
        let start = origin();
        let (_fleet, _, mut sizing) = farm(start);
        let asked: Vec<u64> = (0..20_000)
            .filter(|at| sizing.look(of(1.0), false, true, start + secs(*at)).ask.is_some())
            .collect();
        assert_eq!(asked, [0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980, 14_580, 18_180]);
    }

    #[test]
    fn an_unknown_fleet_asks_for_nothing_and_holds_nothing() {
        let start = origin();
        let load = Load::limited(Arc::default(), 1000.0);
        let mut sizing = Sizing::new(rules(), load.clone(), start);
        assert_eq!(sizing.look(of(1.0), true, true, start + secs(9)), Look::default());
        assert_eq!(load.hold(of(1.0), 0.0), None);
    }

    /// The pool's difficulty starts 10,000 times too low and never changes: miners are held in full
    /// for five minutes, then the hold is lowered step by step.
    #[test]
    fn a_hold_is_bounded_and_given_up_gradually() {
        let start = origin();
        let (_fleet, load, mut sizing) = farm(start);
        let pool = of(419.0);
        let mut counted = (0.0, 0.0);
        let mut leasts = Vec::new();
        for second in 0..=600 {
            let look = sizing.look(pool, true, false, start + secs(second));
            counted = (counted.0 + look.held.as_secs_f64(), counted.1 + look.uncredited);
            let hold = load.hold(pool, 0.0);
            if second < 300 {
                // 23,283 shares a second at difficulty 1,000 are too many; 32,768 lets 710 through.
                assert_eq!(
                    hold.map(|hold| (hold.least.get(), hold.most)),
                    Some((32_768.0, Level::CEILING))
                );
            }
            leasts.push(hold.map(|hold| hold.least.get()));
        }
        leasts.dedup();
        let steps: Vec<f64> = leasts.iter().flatten().copied().collect();
        assert_eq!(steps, [32_768.0, 16_384.0, 8192.0, 4096.0, 2048.0, 1024.0, 512.0]);
        assert_eq!(
            leasts.last(),
            Some(&None),
            "in the end the pool gets what its difficulty lets through"
        );
        assert!((350.0..=370.0).contains(&counted.0), "{counted:?}");
        assert!(counted.1 > 300.0 * 23e6 * 0.98, "nearly all of the work meanwhile: {counted:?}");
    }

    #[test]
    fn a_hold_ends_when_the_pools_difficulty_has_caught_up() {
        let start = origin();
        let (_fleet, load, mut sizing) = farm(start);
        sizing.look(of(419.0), true, false, start);
        assert!(load.hold(of(419.0), 0.0).is_some());
        sizing.look(of(419.0), true, false, start + secs(299));
        assert_eq!(load.hold(of(30_000.0), 0.0), None);
        let look = sizing.look(of(30_000.0), true, false, start + secs(300));
        assert_eq!((look.held, look.uncredited), (Duration::ZERO, 0.0));
        sizing.look(of(419.0), true, false, start + secs(301));
        assert_eq!(
            load.hold(of(419.0), 0.0).map(|hold| hold.least.get()),
            Some(32_768.0),
            "another time, in full"
        );
    }

    #[test]
    fn a_standby_is_held_for_without_its_time_running() {
        let start = origin();
        let (_fleet, load, mut sizing) = farm(start);
        for second in 0..5000 {
            assert_eq!(
                sizing.look(of(1.0), false, false, start + secs(second)).held,
                Duration::ZERO
            );
        }
        assert!(load.hold(of(1.0), 0.0).is_some_and(|hold| hold.most == Level::CEILING));
    }

    #[test]
    fn one_machine_alone_may_be_too_much() {
        let load = Load::limited(Arc::default(), 1000.0);
        assert_eq!(load.hold(of(1.0), 23_283.0).map(|hold| hold.least.get()), Some(32.0));
        assert_eq!(load.hold(of(1.0), 900.0), None);
    }
}
