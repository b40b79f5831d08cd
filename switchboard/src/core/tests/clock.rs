//! The wall clock of the site is stepped during the life of a lease.

use super::*;

fn off(world: &World) -> BTreeSet<MachineId> {
    let off = world.machines.iter().filter(|machine| machine.told.is_some());
    off.map(|machine| machine.id.clone()).collect()
}

/// A lease from 1000 s to 1500 s, for which power is freed from about 850 s on.
fn leased() -> World {
    let mut world = obedient();
    assert!(matches!(world.commit("l", "a", 20_000, 1000, 1500), Answer::Committed(_)));
    world
}

#[test]
fn f46_a_stepped_clock_neither_ends_a_lease_nor_lets_anything_rise() {
    for off in [-3600, 3600] {
        let mut world = obedient();
        world.commit("l", "a", 20_000, 1000, 1500);
        world.run_to(1100);
        let asleep = |world: &World| world.machines.iter().filter(|machine| !machine.draws).count();
        let before = asleep(&world);
        world.wall_off = off;
        world.run_to(1300);
        assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, before), "{off} s off");
        assert!(!world.may_raise(), "{off} s off");
        assert!(matches!(
            world.commit("m", "b", 5_000, 4000, 4500),
            Answer::Refused(Refused::ClockStepped)
        ));
        world.wall_off = 0;
        world.run_to(1450);
        assert_eq!(world.phase("l"), Phase::Active, "{off} s off");
        world.run_to(1900);
        assert_eq!((world.phase("l"), asleep(&world)), (Phase::Closed, 0), "{off} s off");
        assert_eq!(world.core.tally().clock_steps, 1);
    }
}

/// The clock of the whole site is wrong for a while. No feed is ever overloaded, which the world
/// checks at every second, and nothing is raised.
#[test]
fn f46_a_site_whose_clock_is_stepped_keeps_its_leases() {
    let mut undisturbed = leased();
    let mut in_time = BTreeMap::new();
    while undisturbed.secs < 1_500 {
        undisturbed.step();
        in_time.insert(undisturbed.secs, off(&undisturbed));
    }
    for by in [-86_400, -3_600, -60, 60, 3_600, 86_400] {
        for stepped_at in [848, 1_250, 1_499] {
            let case = format!("{by} s at {stepped_at} s");
            let mut world = leased();
            world.run_to(stepped_at);
            (world.wall_off, world.receivers_off) = (by, by);
            let mut before = off(&world);
            while world.secs < stepped_at + 120 {
                world.step();
                let (now, secs) = (off(&world), world.secs);
                assert!(now.is_superset(&before), "{case}: {:?} rose", before.difference(&now));
                let due = in_time.get(&secs).map_or(0, BTreeSet::len);
                assert!(now.len() >= due, "{case}: {} of {due} are off at {secs} s", now.len());
                before = now;
            }
            (world.wall_off, world.receivers_off) = (0, 0);
            world.run_to(2_000);
            assert_eq!(world.phase("l"), Phase::Closed, "{case}: {:?}", off(&world));
            assert_eq!(off(&world), BTreeSet::new(), "{case}");
        }
    }
}

#[test]
fn f46_a_second_more_or_less_changes_nothing() {
    for by in [-1, 1] {
        let mut world = leased();
        world.run_to(900);
        let before = off(&world);
        for secs in 901..1_400 {
            // A time server that steps the clock back and forth.
            let wrong = if secs % 20 < 10 { by } else { 0 };
            (world.wall_off, world.receivers_off) = (wrong, wrong);
            world.step();
            assert_eq!(off(&world), before, "{by} s, at {secs} s");
        }
        (world.wall_off, world.receivers_off) = (0, 0);
        assert_eq!((world.core.tally().clock_steps, world.phase("l")), (0, Phase::Active));
        world.run_to(1_900);
        assert_eq!((world.phase("l"), off(&world)), (Phase::Closed, BTreeSet::new()));
    }
}

/// The states of a lease follow the guarded clock, so nothing is recorded that did not happen.
#[test]
fn f46_a_clock_that_runs_ahead_makes_no_lease_begin_end_or_break() {
    for by in [60, 3_600] {
        for stepped_at in [100, 848, 945] {
            for back_at in [stepped_at + 60, 1_100] {
                let case = format!("{by} s from {stepped_at} s to {back_at} s");
                let mut world = leased();
                world.run_to(stepped_at);
                (world.wall_off, world.receivers_off) = (by, by);
                while world.secs < back_at {
                    world.step();
                    let phase = world.phase("l");
                    assert!(phase < Phase::Active || world.secs >= 1_000, "{case}: {phase:?}");
                    assert!(phase < Phase::Releasing, "{case}: {phase:?}");
                }
                (world.wall_off, world.receivers_off) = (0, 0);
                world.run_to(1_450);
                assert_eq!(world.phase("l"), Phase::Active, "{case}");
                world.run_to(2_000);
                assert_eq!(world.phase("l"), Phase::Closed, "{case}: {:?}", off(&world));
                let standing = &world.core.state.leases["l"];
                assert_eq!(standing.breaches, [], "{case}");
                assert!(standing.proven_at.is_some_and(|proven| proven <= at(1_000)), "{case}");
                for entry in &world.ledger {
                    let Event::CommitmentMoved { to: Phase::Proven, figures, .. } = &entry.event
                    else {
                        continue;
                    };
                    assert!(figures[0].needed >= Watts(20_000), "{case}: proven for nothing");
                }
            }
        }
    }
}

#[test]
fn a_lease_cancelled_by_a_clock_that_runs_ahead_is_over_when_the_clock_is_right() {
    let mut world = leased();
    world.run_to(1_100);
    (world.wall_off, world.receivers_off) = (3_600, 3_600);
    world.run_to(1_110);
    let answer = world.ask(Command::Cancel { lease: "l".into(), force: true });
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    world.run_to(1_120);
    (world.wall_off, world.receivers_off) = (0, 0);
    world.run_to(1_300);
    assert_eq!((world.phase("l"), off(&world)), (Phase::Closed, BTreeSet::new()));
}

#[test]
fn machines_of_a_lease_that_ends_while_the_clock_is_wrong_count_once() {
    let mut world = leased();
    world.run_to(1_490);
    (world.wall_off, world.receivers_off) = (3_600, 3_600);
    for secs in [1_495, 1_530, 1_600] {
        world.run_to(secs);
        let lease = world.core.lease_view(&"l".into()).expect("it is known");
        let counted: u32 = lease.machines_by_state.values().sum();
        assert_eq!(counted, 5, "at {secs} s: {:?}", lease.machines_by_state);
    }
}
