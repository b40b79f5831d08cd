//! The fleet that is kept up to date is the one that is made from all reports anew.

use rand::prelude::*;

use super::*;
use crate::cause::Cause;

const NAMES: [&str; 9] =
    ["old.000", "old.001", "old.002", "new.000", "far.000", "far.001", "dumb.000", "x1", "x2"];

fn sessions(random: &mut StdRng) -> Vec<SessionReport> {
    let names = NAMES.iter().filter(|_| random.random_bool(0.6)).collect::<Vec<_>>();
    let one = |name: &&str| SessionReport {
        sessions: u32::from(name.len().is_multiple_of(2) || name.ends_with('1')),
        ..session(name)
    };
    names.into_iter().map(one).collect()
}

fn devices(random: &mut StdRng, secs: i64) -> Vec<MachineReport> {
    let mut all = Vec::new();
    for name in &NAMES[..7] {
        let states = [DeviceState::Awake, DeviceState::Asleep, DeviceState::Unknown];
        let state = *states.choose(random).expect("there are three");
        let failures = if random.random_bool(0.2) { 5 } else { 0 };
        if random.random_bool(0.6) {
            let machine = (*name).into();
            all.push(MachineReport { machine, ..device(state, secs, secs, failures) });
        }
    }
    all
}

fn selection(random: &mut StdRng, secs: i64) -> Selection {
    let mut held = Selection::default();
    for name in NAMES {
        if random.random_bool(0.7) {
            continue;
        }
        let from = secs + random.random_range(-300..300);
        let chosen = Chosen {
            group: "old".into(),
            cause: Cause::Unrecorded,
            at: at(from),
            until: random.random_bool(0.5).then(|| at(from + 200)),
            edge: None,
            means: Means::Device,
            passed_on: false,
        };
        held.off.insert(name.into(), vec![chosen]);
    }
    held
}

/// The states of the machines that are to be off at `secs`.
fn states(seen: &Seen, held: &Selection, secs: i64) -> BTreeMap<MachineId, MachineState> {
    let state = |id: &MachineId| {
        let chosen = held.current(id, at(secs))?;
        let (inventory, now) = (&seen.inventory, seen.now(secs));
        Some((id.clone(), inventory.state(&seen.policy, id, Some(chosen), at(secs), now)))
    };
    held.off.keys().filter_map(state).collect()
}

#[test]
fn it_agrees_with_all_reports_after_each_of_them() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut seen = Seen::new();
        let mut fleet = Fleet::default();
        let mut held = Selection::default();
        let mut secs = 0;
        for step in 0..80 {
            // Some go past the time within which machines must have appeared.
            secs += random.random_range(1..20);
            match random.random_range(0..5) {
                0 => seen.proxy("p1", secs, &sessions(&mut random)),
                1 => seen.proxy("p2", secs, &sessions(&mut random)),
                2 => seen.agent(secs, &devices(&mut random, secs), Vec::new()),
                3 => held = selection(&mut random, secs),
                _ if random.random_bool(0.1) => seen.inventory.regroup(&seen.policy),
                _ if random.random_bool(0.1) => {
                    // All is looked at while the wall clock is an hour ahead; the states are by another.
                    seen.inventory.regroup(&seen.policy);
                    let (now, states) = (seen.now(secs), states(&seen, &held, secs));
                    let ahead = at(secs + 3600);
                    if let Some(new) =
                        seen.inventory.new_fleet(&seen.policy, &held, &states, ahead, now)
                    {
                        fleet = new.clone();
                    }
                }
                _ => {}
            }
            if random.random_bool(0.3) {
                continue;
            }
            let (wall, now) = (at(secs), seen.now(secs));
            let states = states(&seen, &held, secs);
            if let Some(new) = seen.inventory.new_fleet(&seen.policy, &held, &states, wall, now) {
                fleet = new.clone();
            }
            if let Some(new) = seen.inventory.new_fleet(&seen.policy, &held, &states, wall, now) {
                fleet = new.clone();
            }
            let again = seen.inventory.new_fleet(&seen.policy, &held, &states, wall, now);
            assert!(again.is_none(), "seed {seed}, step {step}: nothing has changed since");
            let anew = seen.inventory.fleet(&seen.policy, &held, wall, now);
            assert_eq!(fleet, anew, "seed {seed}, step {step}");
        }
    }
}
