//! Whether machines may wake.

use super::*;

/// A feed at 51 kW with three of 16 machines asleep: 9 kW are free.
fn three_asleep() -> Plant {
    let mut plant = Plant::new(one_feed(), &[("f", 12_000)]);
    for number in 0..3 {
        let machine = MachineId::from(format!("m{number:02}"));
        plant.units.units.get_mut(&machine).unwrap().told_to_sleep = Some(0);
    }
    plant.now = SHEDS_MS;
    plant.second(&["f"]);
    assert_eq!(plant.load("f"), 51_000);
    plant
}

fn allows(plant: &Plant, machine: &str) -> bool {
    plant.guard.allows_wake(&machine.into(), plant.instant())
}

#[test]
fn wakes_in_progress_take_room_until_the_meter_must_have_shown_them() {
    let mut plant = three_asleep();
    for machine in ["m00", "m01"] {
        assert!(allows(&plant, machine), "{machine}");
        plant.guard.told_to_wake(&machine.into(), plant.instant());
    }
    assert!(allows(&plant, "m02"), "60 kW of 60");
    plant.house.insert("f".into(), 13_000);
    plant.second(&["f"]);
    assert!(!allows(&plant, "m02"), "61 kW of 60");
    assert!(allows(&plant, "m00"), "its own wake is repeated");
    for machine in ["m00", "m01"] {
        plant.units.units.get_mut(machine).unwrap().told_to_sleep = None;
    }
    plant.house.insert("f".into(), 12_000);
    plant.second(&["f"]);
    assert!(!allows(&plant, "m02"), "57 kW are shown, and the two may not draw all they will");
    plant.now += RESTORES_MS + LAG_MS;
    plant.second(&["f"]);
    assert!(allows(&plant, "m02"));
}

#[test]
fn nothing_wakes_below_a_feed_that_is_tripped_or_whose_meter_is_lost() {
    let mut plant = three_asleep();
    assert!(allows(&plant, "m00"));
    assert!(allows(&plant, "stranger"), "not in the table");
    plant.answers("f", None);
    assert!(!allows(&plant, "m00"), "faulty");
    plant.second(&["f"]);
    assert!(allows(&plant, "m00"));
    plant.now += 16_000;
    assert!(!allows(&plant, "m00"), "stale");
    plant.now += 1_000;
    plant.shows("f", 80_000);
    assert!(!allows(&plant, "m00"), "tripped");
    plant.now += 1_000;
    plant.shows("f", 59_000);
    assert!(!allows(&plant, "m00"), "not clear yet");
    plant.now += 1_000;
    plant.shows("f", 50_000);
    assert!(allows(&plant, "m00"), "clear");
    let mut other = one_feed();
    other.feeds[0].owner = Some("other".into());
    assert!(allows(&Plant::new(other, &[]), "m00"));
}

#[test]
fn machines_that_are_booting_are_called_back_and_count_for_nothing() {
    let mut plant = three_asleep();
    let machine = MachineId::from("m01");
    plant.guard.told_to_wake(&machine, plant.instant());
    let unit = plant.units.units.get_mut(&machine).unwrap();
    (unit.told_to_sleep, unit.boots) = (None, true);
    plant.house.insert("f".into(), 25_000);
    plant.second(&["f"]);
    plant.second(&["f"]);
    // 64 kW less 58.5 kW: two machines, and the one that boots.
    let held: Vec<&str> = plant.acts[0].1.machines.iter().map(MachineId::as_str).collect();
    assert_eq!(held, ["m01", "m03", "m04"]);
}
