//! Simulates thousands of small sites, each from a seed: real sessions, seats and pool connections
//! with simulated miners and pools, and events in random order.
//!
//! `TIELINE_SIM_SEED=n` plays seed n, `TIELINE_SIM_SEEDS=n` plays the seeds 0 to n − 1.

mod miner;
mod pool;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use world::{Seen, World};

/// How many seeds each run of the tests plays.
const SEEDS: u64 = 2_000;
/// Events per seed.
const STEPS: usize = 200;

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

fn play(seed: u64, now: Instant) -> Result<Seen, Vec<String>> {
    let mut world = World::new(seed, now);
    world.run(STEPS);
    if world.faults.is_empty() {
        return Ok(world.seen());
    }
    Err(world.wire.into_iter().chain(world.faults).collect())
}

#[test]
fn whatever_happens_every_submit_is_answered_truly_and_no_pool_sees_a_bad_share() {
    let now = origin();
    if let Some(seed) = number("TIELINE_SIM_SEED") {
        let seen = play(seed, now).unwrap_or_else(|faults| panic!("seed {seed}: {faults:#?}"));
        println!("seed {seed}: {seen:?}");
        return;
    }
    let seeds = number("TIELINE_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failed, total) = (AtomicU64::new(0), Mutex::new(None), Mutex::new(Seen::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().is_some() {
                        return;
                    }
                    match play(seed, now) {
                        Ok(seen) => total.lock().add(&seen),
                        Err(faults) => *failed.lock() = Some((seed, faults)),
                    }
                }
            });
        }
    });
    if let Some((seed, faults)) = failed.into_inner() {
        panic!("TIELINE_SIM_SEED={seed} replays it: {faults:#?}");
    }
    let total = total.into_inner();
    println!("{seeds} seeds: {total:?}");
    let Seen { submitted, local, accepted, stale, unresolved, issued } = total;
    for (what, count, least) in [
        ("submitted", submitted, 10),
        ("local", local, 1),
        ("accepted", accepted, 1),
        ("issued", issued, 5),
    ] {
        assert!(count >= least * seeds, "{what}: {count} in {seeds} seeds tests nothing");
    }
    assert!(stale > 0 && unresolved > 0, "the rare ends were never seen");
}
