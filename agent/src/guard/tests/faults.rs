//! Meters that are wrong, and limits of what the guard may shed.

use super::*;

#[test]
fn one_sample_of_a_thousand_times_the_power_sheds_nothing() {
    let mut plant = Plant::new(one_feed(), &[("f", 10_000)]);
    for round in 0..20 {
        plant.second(&["f"]);
        if round % 5 == 4 {
            plant.now += 1_000;
            plant.shows("f", 58_000_000);
        }
    }
    assert_eq!(plant.held(), 0);
}

#[test]
fn a_meter_in_the_wrong_unit_sheds_no_more_than_a_suspect_one_unless_its_parent_agrees() {
    for (site, held) in [(30_000, 4), (130_000, 16)] {
        let mut parent = feed("site", None, 100_000);
        parent.owner = None;
        let feeds = vec![parent, feed("f", Some("site"), 60_000)];
        let mut plant = Plant::new(table(feeds, vec![cohort("f", 0..16)]), &[("f", 10_000)]);
        for _ in 0..100 {
            plant.now += 1_000;
            plant.shows("site", site);
            plant.shows("f", plant.load("f") * 1_000);
        }
        assert_eq!(plant.held_at("f"), held, "parent at {site} W");
        assert_eq!(plant.state("f").state, GuardState::Suspect);
    }
}

#[test]
fn a_meter_that_does_not_fall_when_machines_sleep_is_suspect_until_it_does() {
    let mut plant = Plant::new(one_feed(), &[]);
    // Stuck at 65 kW: 6.5 kW are to be shed, by three machines.
    let mut suspect_at = None;
    for _ in 0..300 {
        plant.now += 1_000;
        plant.shows("f", 65_000);
        let state = plant.state("f").state;
        if suspect_at.is_none() && plant.now >= 2_000 {
            let tripped = state == GuardState::Tripped && plant.held() == 3;
            assert!(tripped || state == GuardState::Suspect, "{state:?} at {} ms", plant.now);
        }
        if state == GuardState::Suspect {
            suspect_at.get_or_insert(plant.now);
        }
    }
    // Told at 2 s, asleep at 47 s, shown by 48 s.
    assert_eq!(suspect_at, Some(48_000));
    assert_eq!(plant.held(), 4, "a quarter of 48 kW");
    plant.now += 1_000;
    plant.shows("f", 58_000);
    assert_eq!(plant.state("f").state, GuardState::Watching);
}

#[test]
fn a_lost_or_frozen_meter_sheds_nothing_and_says_so() {
    let mut plant = Plant::new(one_feed(), &[("f", 10_000)]);
    assert_eq!(plant.state("f").state, GuardState::MeterLost, "before the first sample");
    plant.second(&["f"]);
    assert_eq!(plant.state("f").state, GuardState::Watching);
    let frozen = MeterReading { watts: Watts(90_000), taken_at: at(1_000) };
    plant.now += 15_000;
    plant.answers("f", Some(&frozen));
    assert_eq!(plant.state("f").state, GuardState::Watching);
    plant.now += 1_000;
    plant.answers("f", Some(&frozen));
    assert_eq!(plant.state("f").state, GuardState::MeterLost, "frozen");
    plant.second(&["f"]);
    for watts in [None, Some(-1), Some(Watts::LIMIT.0 + 1)] {
        plant.now += 1_000;
        let taken_at = at(plant.now);
        let reading = watts.map(|watts| MeterReading { watts: Watts(watts), taken_at });
        plant.answers("f", reading.as_ref());
        assert_eq!(plant.state("f").state, GuardState::MeterLost, "{reading:?}");
    }
    assert_eq!(plant.held(), 0);
}

#[test]
fn a_stepped_wall_clock_neither_blinds_the_guard_nor_prolongs_credits() {
    for step in [-3_600_000_i64, 3_600_000] {
        let mut plant = Plant::new(one_feed(), &[("f", 30_000)]);
        let mut wall = 10_000_000_u64;
        for round in 0..200 {
            if round == 1 {
                wall = wall.checked_add_signed(step).unwrap();
            }
            (plant.now, wall) = (plant.now + 1_000, wall + 1_000);
            let reading = MeterReading { watts: Watts(plant.load("f")), taken_at: at(wall) };
            plant.units.now = plant.now;
            let now = plant.instant();
            let sampled =
                plant.guard.measured(&"f".into(), Some(&reading), &plant.units, at(wall), now);
            for machine in sampled.acts.iter().flat_map(|act| &act.machines) {
                let unit = plant.units.units.get_mut(machine).unwrap();
                unit.told_to_sleep = Some(plant.now);
                plant.guard.told_to_sleep(machine, true, now);
            }
        }
        assert_eq!(plant.load("f"), 57_000, "{step} ms");
    }
}

#[test]
fn the_ramp_and_the_step_bound_what_is_shed_up_to_the_rating() {
    // 74 kW of 60, rating 75 kW: 15.5 kW, six machines.
    let mut limited = one_feed();
    limited.step_max = Some(Watts(7_000));
    limited.ramp_per_min = Some(Watts(10_000));
    let mut plant = Plant::new(limited.clone(), &[("f", 26_000)]);
    let mut held = BTreeMap::new();
    for _ in 0..130 {
        plant.second(&["f"]);
        held.insert(plant.now / 1_000, plant.held());
    }
    assert_eq!([1, 2, 3, 61, 62, 63].map(|second| held[&second]), [0, 2, 3, 3, 5, 6]);
    assert_eq!(held[&130], 6);
    // 96 kW: the 21 kW above the rating go at once, seven machines.
    let mut plant = Plant::new(limited, &[("f", 48_000)]);
    plant.second(&["f"]);
    assert_eq!(plant.held(), 7);
    // A ramp that is smaller than a machine lets one go in a minute.
    let mut tiny = one_feed();
    tiny.ramp_per_min = Some(Watts(100));
    let mut plant = Plant::new(tiny, &[("f", 26_000)]);
    for _ in 0..121 {
        plant.second(&["f"]);
    }
    assert_eq!(plant.held(), 2);
}

#[test]
fn machines_that_do_not_answer_go_last_and_no_more_of_them_than_are_missing() {
    let mut plant = Plant::new(one_feed(), &[("f", 24_000)]);
    // 72 kW less 58.5 kW are five machines. The driver of the first twelve is down.
    for number in 0..12 {
        let machine = MachineId::from(format!("m{number:02}"));
        let unit = plant.units.units.get_mut(&machine).unwrap();
        (unit.silent, unit.obeys) = (true, false);
    }
    plant.second(&["f"]);
    plant.second(&["f"]);
    let held: Vec<&str> = plant.acts[0].1.machines.iter().map(MachineId::as_str).collect();
    assert_eq!(held, ["m12", "m13", "m14", "m15", "m00"]);
    assert_eq!(plant.state("f").wants, Watts(0));
    for _ in 0..600 {
        plant.second(&["f"]);
    }
    assert_eq!(plant.held(), 5, "the machine that is awaited is enough when it answers again");
    assert_eq!(plant.state("f").wants, Watts(1_500));
    plant.house.insert("f".into(), 30_000);
    plant.second(&["f"]);
    plant.second(&["f"]);
    assert_eq!(plant.held(), 7, "7.5 kW are missing now");
}

#[test]
fn a_small_act_on_a_noisy_meter_makes_it_no_suspect() {
    // One machine of 3 kW on a feed of 1 MW, whose meter has a noise of 10 kW.
    let mut big = table(vec![feed("f", None, 1_000_000)], vec![cohort("f", 0..16)]);
    big.feeds[0].band = Watts(20_000);
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut plant = Plant::new(big.clone(), &[("f", 948_000)]);
        for _ in 0..300 {
            plant.now += 1_000;
            let noise = rng.random_range(-10_000..=10_000);
            plant.shows("f", plant.load("f") + noise);
            assert_ne!(plant.state("f").state, GuardState::Suspect, "seed {seed}");
        }
    }
}
