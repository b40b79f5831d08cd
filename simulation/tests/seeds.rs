//! Plays worlds by seed and asserts that what the judge finds is known.
//!
//! `TIELINE_SIM_SEED=n` replays one seed and prints its story; `TIELINE_SIM_SEEDS=n` plays the seeds 0
//! to n − 1, and `TIELINE_SIM_SEEDS=m..n` those from m to n − 1.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::Story;
use simulation::judge::Violation;
use simulation::known::{KNOWN, known};
use simulation::run::run;

use simulation::scenario::{self, Scenario, policy_text, scenario};

/// Seeds that are played when nothing else is said: ninety of each kind of trouble.
const SEEDS: u64 = 1_000;
/// New findings that a failure shows.
const SHOWN: usize = 20;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: a number is wanted")))
}

/// The seeds to play.
fn seeds() -> Range<u64> {
    let Ok(value) = std::env::var("TIELINE_SIM_SEEDS") else { return 0..SEEDS };
    let (from, to) = value.split_once("..").unwrap_or(("0", &value));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) => from..to,
        _ => panic!("TIELINE_SIM_SEEDS={value}: a number is wanted, or two with .. between them"),
    }
}

/// The findings of one world that are not known, in words.
fn new_findings(scenario: &Scenario, violations: &[Violation]) -> Vec<String> {
    let new = violations.iter().filter(|violation| known(scenario, violation).is_none());
    new.map(|violation| format!("{:?}: {violation}", scenario.trouble)).collect()
}

fn replay(seed: u64) {
    let scenario = scenario(seed);
    let outcome = run(&scenario, Story::new(true));
    println!("{}", policy_text(&scenario.facility, &scenario.rules, 1));
    for meter in &scenario.facility.meters {
        for (at, fault) in &meter.faults {
            println!("{} has from {:.1} s on: {fault:?}", meter.id, at.as_secs_f64());
        }
    }
    outcome.story.lines().iter().for_each(|line| println!("{line}"));
    for violation in &outcome.violations {
        let row = known(&scenario, violation).map_or("new", |known| known.id);
        println!("[{row}] {violation}");
    }
    assert_eq!(new_findings(&scenario, &outcome.violations), [""; 0], "seed {seed}");
}

#[test]
fn what_is_promised_holds_in_every_world_but_for_what_is_known() {
    if let Some(seed) = number("TIELINE_SIM_SEED") {
        return replay(seed);
    }
    let seeds = seeds();
    let (next, new) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let seen = Mutex::new(BTreeMap::<(&str, String), (u64, u64)>::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let scenario = scenario(seed);
                    let violations = run(&scenario, Story::default()).violations;
                    let findings = new_findings(&scenario, &violations);
                    new.lock()
                        .expect("no thread panics in here")
                        .extend(findings.into_iter().map(|finding| (seed, finding)));
                    let mut seen = seen.lock().expect("no thread panics in here");
                    for found in &violations {
                        let Some(row) = known(&scenario, found) else { continue };
                        let key = (row.id, format!("{:?}", found.cause));
                        let (first, count) = seen.entry(key).or_insert((seed, 0));
                        *first = seed.min(*first);
                        *count += 1;
                    }
                }
            });
        }
    });
    for ((row, cause), (first, count)) in seen.into_inner().expect("no thread panics in here") {
        println!("{row} ({cause}): seen {count} times, first by seed {first}");
    }
    let mut new = new.into_inner().expect("no thread panics in here");
    new.sort();
    let shown: Vec<String> =
        new.iter().take(SHOWN).map(|(seed, finding)| format!("seed {seed}: {finding}")).collect();
    assert!(
        new.is_empty(),
        "{} findings that are not known; replay one with TIELINE_SIM_SEED=n:\n{}",
        new.len(),
        shown.join("\n")
    );
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..6 {
        let scenario = scenario(seed);
        let (one, other) = (run(&scenario, Story::default()), run(&scenario, Story::default()));
        assert_eq!(one.record.entries, other.record.entries, "seed {seed}");
        assert_eq!(one.record.feeds, other.record.feeds, "seed {seed}");
    }
}

#[test]
fn a_site_of_20_000_machines_keeps_its_promises() {
    let scenario = scenario::large(1);
    let outcome = run(&scenario, Story::default());
    assert_eq!(new_findings(&scenario, &outcome.violations), [""; 0]);
}

#[test]
fn every_known_weakness_stands_in_the_docs() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
    let page = std::fs::read_to_string(page).expect("the page is in the tree");
    for known in KNOWN {
        assert!(page.contains(&format!("| {} |", known.id)), "{} is not in the page", known.id);
    }
}
