//! Trials: one site, and one trouble at a time, as an outside judge tried them. What the facility's own
//! record shows of each stands in docs/reliability.md.
//!
//! `TIELINE_TRIALS=write` writes the table into the page; `TIELINE_TRIAL=words` plays the trials whose
//! name contains the words, and prints their stories.

mod measure;
mod rows;
mod site;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use simulation::Story;
use simulation::run::{Outcome, run};
use simulation::scenario::{Scenario, policy_text};

use measure::Found;
use rows::{Trial, trials};

/// Each trial is played with other times of messages, answers and noise.
const ROUNDS: u64 = 5;
const BEGIN: &str = "<!-- trials -->\n";
const END: &str = "<!-- /trials -->\n";

/// The rounds of a trial.
fn rounds(trial: &Trial) -> impl Iterator<Item = Scenario> {
    (0..ROUNDS).map(|round| Scenario { seed: round, ..trial.scenario.clone() })
}

/// The worst of all rounds.
fn play(trial: &Trial) -> Found {
    let mut worst = Found::default();
    for scenario in rounds(trial) {
        let outcome = run(&scenario, Story::default());
        worst.add(&Found::of(&scenario, &outcome));
    }
    worst
}

/// The round in which a feed is above usable for the longest time, with its story.
fn longest_above(trial: &Trial) -> Outcome {
    let played = rounds(trial).map(|scenario| {
        let outcome = run(&scenario, Story::new(true));
        (Found::of(&scenario, &outcome).above, outcome)
    });
    let longest = played.max_by_key(|(above, _)| *above);
    longest.expect("there is more than one round").1
}

/// Plays the trials side by side. Returns them in their order.
fn play_all(trials: Vec<Trial>) -> Vec<(Trial, Found)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(vec![Found::default(); trials.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((number, trial)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    trials.get(number).map(|trial| (number, trial))
                } {
                    let worst = play(trial);
                    found.lock().expect("no thread panics in here")[number] = worst;
                }
            });
        }
    });
    let found = found.into_inner().expect("no thread panics in here");
    trials.into_iter().zip(found).collect()
}

#[test]
fn every_trial_keeps_to_its_bounds_and_the_page_says_how() {
    if let Ok(words) = std::env::var("TIELINE_TRIAL") {
        let chosen: Vec<Trial> =
            trials().into_iter().filter(|trial| trial.name.contains(&words)).collect();
        assert!(!chosen.is_empty(), "TIELINE_TRIAL={words}: no trial has these words in its name");
        for trial in chosen {
            println!("{}", policy_text(&trial.scenario.facility, &trial.scenario.rules, 1));
            let outcome = longest_above(&trial);
            outcome.story.lines().iter().for_each(|line| println!("{line}"));
            outcome.violations.iter().for_each(|violation| println!("{violation}"));
            println!("{}: {:?}", trial.name, Found::of(&trial.scenario, &outcome));
        }
        return;
    }
    let mut table = String::from(
        "| trial | above usable | worst excess | asleep for nothing | asleep at the end | longest without work | without work at the end | turns | the lease's record |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut faults = Vec::new();
    for (trial, measured) in play_all(trials()) {
        writeln!(table, "| {} | {} |", trial.name, measured.cells()).expect("a string takes all");
        faults
            .extend(trial.bounds.broken(&measured).map(|fault| format!("{}: {fault}", trial.name)));
    }
    println!("{table}");
    assert_eq!(faults, [""; 0]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reliability.md");
    let page = std::fs::read_to_string(&path).expect("the page is in the tree");
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the table begins");
    let (shown, after) = rest.split_once(END).expect("the page says where it ends");
    if std::env::var("TIELINE_TRIALS").is_ok_and(|how| how == "write") {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))
            .expect("it is writable");
    } else {
        assert_eq!(shown, table, "TIELINE_TRIALS=write writes the table");
    }
}
