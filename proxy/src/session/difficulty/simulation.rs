//! Simulates machines of every size with the real [`Aim`], and makes the table of
//! docs/difficulty.md.
//!
//! A machine finds shares as a Poisson process, at its work rate divided by its difficulty. It gets
//! a job about every 30 seconds, and at once if the session asks for it; its firmware applies a new
//! difficulty as its family does.

use std::fmt::Write as _;
use std::time::Duration;

use rand::prelude::*;

use super::*;

/// How firmware applies a new difficulty (docs/protocol.md 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firmware {
    /// To the work that it makes next; its current work keeps its own difficulty (cgminer).
    NextWork,
    /// To the work that it makes next; shares of work made at a lower difficulty are dropped (S19).
    DropsOlder,
    /// At once, also to its current work (ESP-Miner).
    AtOnce,
}

/// How long work already in the chips continues after a clean job, in seconds.
const PIPELINE: f64 = 0.1;
/// The time between an ESP-Miner's reading of a difficulty and of the job after it, in seconds: it
/// parses on a small processor.
const LINES_APART: f64 = 0.005;
/// The hashing time that a clean job costs, in seconds.
const RESTART: f64 = 0.02;
/// The time from our write to the miner's read and back, in seconds.
const RTT: f64 = 0.05;
const INTERVAL: f64 = 10.0;

/// An event of a machine, at a second of its life.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The machine's hashrate is multiplied by this.
    Speed(f64),
    /// The machine reconnects; the proxy remembers it.
    Reconnect,
    /// The machine stops hashing (its hash boards are off), but still has work.
    Sleep,
    Wake,
}

/// The observations of one machine, or of many.
#[derive(Debug, Default, Clone)]
struct Seen {
    /// Mean relative error of the share interval while the machine is settled, one value per
    /// stretch.
    errors: Vec<f64>,
    /// Mean relative error of the share interval that the best power of two would give, one value
    /// per stretch.
    best: Vec<f64>,
    /// Mean relative difference between the share interval and that of the best power of two, one
    /// value per stretch.
    excess: Vec<f64>,
    /// The number of retargets until the level is within a factor of two, one value per start or
    /// step.
    retargets: Vec<u32>,
    times: Vec<f64>,
    /// The number of retargets while the machine is settled, and for how many seconds it was
    /// settled.
    wander: (u32, f64),
    work: f64,
    lost: f64,
    shares: f64,
    rejects: f64,
    /// The highest number of shares in any ten seconds.
    burst: u32,
}

struct Machine<'a> {
    rules: &'a DifficultyRules,
    firmware: Firmware,
    rate: f64,
    asleep: bool,
    aim: Aim,
    born: f64,
    level: Level,
    former: Level,
    former_until: f64,
    changes: u32,
    /// When the machine's hashrate last changed or the machine started.
    since: f64,
    converged: bool,
    seen: Seen,
}

/// A machine counts as settled this many seconds after a start or a change of its hashrate.
const SETTLED_AFTER: f64 = 1200.0;

impl Machine<'_> {
    fn age(&self, now: f64) -> Duration {
        Duration::from_secs_f64((now - self.born).max(0.0))
    }

    fn limits() -> Limits {
        Limits { pool: Difficulty::CEILING, hold: None, promised: None }
    }

    /// A job is written; the level may change with it.
    fn job(&mut self, now: f64) {
        let age = self.age(now);
        let first = self.aim.sent().is_none();
        let advertised = self.aim.advertise(&Self::limits(), self.rules, age);
        if advertised.changed.is_none() {
            return;
        }
        self.former = self.level;
        self.former_until = now + PIPELINE;
        self.level = advertised.level;
        if first {
            self.former = self.level;
        } else {
            self.changes += 1;
            self.seen.lost += if self.asleep { 0.0 } else { self.rate * RESTART };
            if now > self.since + SETTLED_AFTER && !self.asleep {
                self.seen.wander.0 += 1;
            }
        }
        self.look(now);
    }

    /// Records when the level is within a factor of two of the best, once after each change.
    fn look(&mut self, now: f64) {
        if !self.converged && (self.level.get() / (self.rate * INTERVAL)).log2().abs() <= 1.0 {
            self.converged = true;
            self.seen.retargets.push(self.changes);
            self.seen.times.push(now - self.since);
        }
    }

    fn changed(&mut self, now: f64) {
        if !self.converged && now > self.since {
            self.seen.retargets.push(u32::MAX);
        }
        (self.since, self.converged, self.changes) = (now, false, 0);
        self.look(now);
    }

    /// A share is found on work of the level in force, or of the one before.
    fn share(&mut self, now: f64) -> bool {
        let mut level = self.level;
        if now < self.former_until && self.former != self.level {
            match self.firmware {
                Firmware::NextWork => level = self.former,
                Firmware::DropsOlder if self.former < self.level => {
                    self.seen.lost += self.level.get();
                    return false;
                }
                Firmware::AtOnce
                    if self.level < self.former
                        && now < self.former_until - PIPELINE + LINES_APART =>
                {
                    // The share is found at the new difficulty, but for a job that still has the
                    // higher one.
                    self.seen.shares += 1.0;
                    self.seen.rejects += 1.0;
                    return false;
                }
                Firmware::AtOnce => {
                    // A clean job makes the machine drop all earlier work, so that none is found at
                    // another difficulty.
                    self.seen.lost += self.level.get();
                    return false;
                }
                Firmware::DropsOlder => level = self.former,
            }
        }
        self.seen.shares += 1.0;
        let age = self.age(now);
        self.aim.share(level.get(), self.rules, age)
            && self.aim.may_rise(&Self::limits(), self.rules)
    }
}

/// Simulates one machine with `events` for `secs` seconds.
fn live(
    rules: &DifficultyRules,
    firmware: Firmware,
    hashrate: f64,
    user_agent: &str,
    events: &[(f64, Event)],
    secs: f64,
    seed: u64,
) -> Seen {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut aim = Aim::new(rules);
    aim.user_agent(user_agent, rules);
    let level = aim.vardiff.level();
    let mut machine = Machine {
        rules,
        firmware,
        rate: hashrate / HASHES,
        asleep: false,
        aim,
        born: 0.0,
        level,
        former: level,
        former_until: 0.0,
        changes: 0,
        since: 0.0,
        converged: false,
        seen: Seen::default(),
    };
    let mut events = events.iter().copied().peekable();
    let (mut now, mut next_job, mut tick) = (0.0, 0.0, 25.0);
    let mut recent: std::collections::VecDeque<f64> = std::collections::VecDeque::new();
    let (mut error, mut best_error, mut excess, mut settled) = (0.0, 0.0, 0.0, 0.0);
    while now < secs {
        let mean = machine.level.get() / machine.rate;
        let share_in = -(1.0 - rng.random::<f64>()).ln() * mean;
        let share_at = if machine.asleep { f64::INFINITY } else { now + share_in };
        let event_at = events.peek().map_or(f64::INFINITY, |(at, _)| *at);
        let at = share_at.min(next_job).min(tick).min(event_at).min(secs);
        if now > machine.since + SETTLED_AFTER && !machine.asleep {
            let (best, real) = (Level::nearest(machine.rate, INTERVAL).get(), machine.level.get());
            let passed = at - now;
            settled += passed;
            error += passed * (real / (machine.rate * INTERVAL) - 1.0).abs();
            best_error += passed * (best / (machine.rate * INTERVAL) - 1.0).abs();
            excess += passed * (real / best - 1.0).abs();
            machine.seen.wander.1 += passed;
        }
        machine.seen.work += if machine.asleep { 0.0 } else { (at - now) * machine.rate };
        now = at;
        if now >= secs {
            break;
        } else if now == share_at {
            recent.push_back(now);
            while recent.front().is_some_and(|first| *first < now - 10.0) {
                recent.pop_front();
            }
            if now > machine.former_until {
                machine.seen.burst =
                    machine.seen.burst.max(u32::try_from(recent.len()).unwrap_or(u32::MAX));
            }
            if machine.share(now) {
                next_job = next_job.min(now + RTT);
            }
        } else if now == next_job {
            machine.job(now);
            next_job = now + rng.random_range(25.0..35.0);
            tick = now + 25.0;
        } else if now == tick {
            tick = now + 25.0;
            let age = machine.age(now);
            if machine.aim.starves(&Machine::limits(), rules, age) {
                next_job = next_job.min(now + RTT);
            }
        } else if let Some((_, event)) = events.next() {
            match event {
                Event::Speed(factor) => {
                    machine.rate *= factor;
                    machine.changed(now);
                }
                Event::Sleep => machine.asleep = true,
                Event::Wake => {
                    machine.asleep = false;
                    machine.changed(now);
                }
                Event::Reconnect => {
                    let known = machine.aim.measured_rate(rules);
                    let (was, level) = (machine.converged, machine.level);
                    machine.aim = Aim::new(rules);
                    machine.aim.user_agent(user_agent, rules);
                    if let Some(work_rate) = known {
                        machine.aim.recall(work_rate, rules);
                    }
                    machine.born = now;
                    machine.job(now);
                    assert!(
                        !was || machine.level.above(level).abs() <= 2,
                        "seed {seed}: it starts over: {level:?} {:?}",
                        machine.level
                    );
                    machine.changed(now);
                }
            }
        }
    }
    if settled > 0.0 {
        machine.seen.errors.push(error / settled);
        machine.seen.best.push(best_error / settled);
        machine.seen.excess.push(excess / settled);
    }
    if !machine.converged {
        machine.seen.retargets.push(u32::MAX);
    }
    machine.seen
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.errors.extend(&other.errors);
        self.best.extend(&other.best);
        self.excess.extend(&other.excess);
        self.retargets.extend(&other.retargets);
        self.times.extend(&other.times);
        self.wander = (self.wander.0 + other.wander.0, self.wander.1 + other.wander.1);
        self.work += other.work;
        self.lost += other.lost;
        self.shares += other.shares;
        self.rejects += other.rejects;
        self.burst = self.burst.max(other.burst);
    }

    fn row(&self, name: &str) -> String {
        let retargets: Vec<f64> = self.retargets.iter().map(|count| f64::from(*count)).collect();
        let mut row = String::new();
        write!(
            row,
            "| {name} | {:.1} % | {:.1} % | {:.1} % | {:.0} / {:.0} | {:.1} % | {:.0} / {:.0} s | {:.2} | {:.4} % | {:.4} % | {} |",
            100.0 * quantile(&self.errors, 0.5),
            100.0 * quantile(&self.best, 0.5),
            100.0 * quantile(&self.excess, 0.5),
            quantile(&retargets, 0.5),
            quantile(&retargets, 0.99),
            100.0 * self.in_three(),
            quantile(&self.times, 0.5),
            quantile(&self.times, 0.99),
            self.wander_per_hour(),
            100.0 * self.lost / self.work,
            100.0 * self.rejects / self.shares,
            self.burst,
        )
        .expect("a String takes everything");
        row
    }

    /// The fraction of starts and steps that took three retargets or fewer.
    fn in_three(&self) -> f64 {
        let few = self.retargets.iter().filter(|count| **count <= 3).count();
        few as f64 / self.retargets.len() as f64
    }

    /// Retargets per hour of a machine whose hashrate does not change.
    fn wander_per_hour(&self) -> f64 {
        f64::from(self.wander.0) / self.wander.1.max(1.0) * 3600.0
    }
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = ((values.len() as f64 - 1.0) * q).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

fn rules() -> DifficultyRules {
    DifficultyRules {
        start: Level::at_or_below(Difficulty::new(65_536.0).expect("positive")),
        min: Level::FLOOR,
        max: Level::CEILING,
        interval: Some(INTERVAL),
        by_user_agent: true,
    }
}

/// 10 kH/s to 1 PH/s, five machines to the factor ten, none of them on a power of two.
fn grid() -> impl Iterator<Item = f64> {
    (0..=55).map(|step| 1e4 * 10f64.powf(f64::from(step) / 5.0))
}

const FIRMWARE: [Firmware; 3] = [Firmware::NextWork, Firmware::DropsOlder, Firmware::AtOnce];

/// Every machine of the grid in one situation.
fn fleet(
    seeds: u64,
    secs: f64,
    user_agent: &dyn Fn(f64) -> &'static str,
    events: &[(f64, Event)],
) -> Seen {
    let rules = rules();
    let mut all = Seen::default();
    for (index, hashrate) in grid().enumerate() {
        for seed in 0..seeds {
            // A random rate between two powers of two.
            let hashrate = hashrate
                * 10f64.powf(0.2 * StdRng::seed_from_u64(seed + 7 * index as u64).random::<f64>());
            let firmware = FIRMWARE[(index + usize::try_from(seed).expect("few")) % FIRMWARE.len()];
            all.add(&live(
                &rules,
                firmware,
                hashrate,
                user_agent(hashrate),
                events,
                secs,
                seed * 1000 + index as u64,
            ));
        }
    }
    all
}

/// A user agent from which no hashrate can be guessed.
fn unknown(_: f64) -> &'static str {
    ""
}

/// The user agent of machines with this hashrate.
fn family(hashrate: f64) -> &'static str {
    match hashrate {
        ..1e6 => "NerdMinerV2",
        ..1e9 => "cpuminer-opt-26.1",
        ..3e11 => "bfgminer/5.5.0",
        ..2e12 => "bitaxe/BM1370/v2.12.2",
        ..2e13 => "bmminer/2.0.0",
        _ => "Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022",
    }
}

/// The table of docs/difficulty.md, and the bounds it gives. To see it:
/// `cargo test -p proxy --lib difficulty::simulation -- --nocapture`.
#[test]
fn what_docs_difficulty_publishes_holds() {
    const HOUR: f64 = 3600.0;
    let step = |event| [(HOUR, event)];
    let mut all = Seen::default();
    for (name, user_agent, events, secs) in [
        ("nothing known", &unknown as &dyn Fn(f64) -> &'static str, &[][..], 3.0 * HOUR),
        ("known user agent", &family, &[], 3.0 * HOUR),
        ("16 times faster after 1 h", &family, &step(Event::Speed(16.0)), 2.5 * HOUR),
        ("16 times slower", &family, &step(Event::Speed(1.0 / 16.0)), 2.5 * HOUR),
        ("reconnect", &family, &step(Event::Reconnect), 1.5 * HOUR),
        (
            "asleep for 20 min, with work",
            &family,
            &[(HOUR, Event::Sleep), (HOUR + 1200.0, Event::Wake)],
            2.0 * HOUR,
        ),
    ] {
        let seen = fleet(2, secs, user_agent, events);
        println!("{}", seen.row(name));
        assert!(quantile(&seen.excess, 0.5) <= 0.02, "{name}: the nearest power of two, mostly");
        assert!(quantile(&seen.errors, 0.5) <= quantile(&seen.best, 0.5) + 0.03, "{name}");
        assert!(seen.in_three() >= 0.98, "{name}: {:?}", seen.retargets);
        assert!(seen.wander_per_hour() <= 0.7, "{name}: {:?}", seen.wander);
        assert!(seen.lost <= 0.005 * seen.work, "{name}: {} of {}", seen.lost, seen.work);
        assert!(seen.rejects <= 0.001 * seen.shares, "{name}: {} of {}", seen.rejects, seen.shares);
        all.add(&seen);
    }
    println!("{}", all.row("all"));
}
