use directive::Permitted;

use super::*;
use crate::cause::Cause;

/// What the inventory says after a look at `secs`: who is permitted, and who waits.
fn look(seen: &mut Seen, held: &Selection, secs: i64) -> (Vec<String>, Vec<String>) {
    let now = seen.now(secs);
    let off = held.off.keys().filter(|machine| held.current(machine, at(secs)).is_some());
    let states = off.map(|machine| (machine.clone(), MachineState::Curtailed)).collect();
    seen.inventory.new_fleet(&seen.policy, held, &states, at(secs), now);
    let permitted = seen.inventory.permitted().iter().map(MachineId::to_string).collect();
    (permitted, seen.inventory.newcomers().keys().map(MachineId::to_string).collect())
}

fn parked(name: &str) -> SessionReport {
    SessionReport { serving: Serving::Parked, ..session(name) }
}

#[test]
fn machines_that_connect_before_the_limit_are_taken_over_and_later_ones_wait() {
    let (mut seen, held) = (Seen::new(), Selection::default());
    seen.proxy("p", 0, &[session("old.1"), parked("old.2"), parked("stranger")]);
    assert_eq!(look(&mut seen, &held, 0).0, ["old.1", "old.2"], "no group claims the stranger");
    assert_eq!(seen.inventory.changed_permitted(), Some(Permitted::Everyone));
    assert_eq!(seen.inventory.changed_permitted(), None);

    seen.inventory.limit_newcomers(true);
    seen.proxy("p", 1, &[session("old.1"), session("old.2"), parked("old.3")]);
    let (permitted, waiting) = look(&mut seen, &held, 1);
    assert_eq!((permitted, waiting), (vec!["old.1".into(), "old.2".into()], vec!["old.3".into()]));
    let told = seen.inventory.changed_permitted().expect("it is limited now");
    assert!(told.permits(&"old.1".into()) && !told.permits(&"old.3".into()));

    // It is no load and cannot be chosen before it has room.
    let fleet = seen.inventory.last_fleet().clone();
    assert_eq!(fleet.population.newcomers, [("old".into(), 1)].into());
    assert_eq!(fleet.population.groups.values().sum::<u32>(), 2);
    assert_eq!(fleet.groups.iter().flatten().count(), 2);
    assert_eq!(seen.inventory.fleet(&seen.policy, &held, at(1), seen.now(1)), fleet);

    seen.inventory.permit(&"old.3".into());
    let (permitted, waiting) = look(&mut seen, &held, 1);
    assert_eq!((permitted.len(), waiting.len()), (3, 0));
    assert_eq!(seen.inventory.last_fleet().groups.iter().flatten().count(), 3);
    // It did not take the work.
    seen.inventory.take_back(&"old.3".into());
    seen.inventory.take_back(&"old.1".into());
    let (permitted, waiting) = look(&mut seen, &held, 1);
    assert_eq!(
        (permitted.len(), waiting),
        (2, vec!["old.3".to_owned()]),
        "what works keeps its place"
    );
}

#[test]
fn a_machine_that_was_away_for_long_waits_and_one_that_the_plan_has_off_does_not() {
    let mut seen = Seen::new();
    let all = [session("old.1"), session("old.2"), session("old.3")];
    seen.proxy("p", 0, &all);
    look(&mut seen, &Selection::default(), 0);
    seen.inventory.limit_newcomers(true);
    let off = Chosen {
        group: "old".into(),
        cause: Cause::Load("a".into()),
        at: at(1),
        until: None,
        edge: None,
        means: Means::Device,
        passed_on: false,
    };
    let held = Selection { off: [("old.3".into(), vec![off])].into(), ..Selection::default() };
    let gone = |name| SessionReport { sessions: 0, serving: Serving::Gone, ..session(name) };
    seen.proxy("p", 10, &[session("old.1"), gone("old.2"), gone("old.3")]);
    look(&mut seen, &held, 10);
    // A short absence changes nothing.
    assert_eq!(look(&mut seen, &held, 609).0.len(), 3);
    let (permitted, _) = look(&mut seen, &held, 611);
    assert_eq!(permitted, ["old.1", "old.3"]);
    seen.proxy("p", 612, &[session("old.1"), parked("old.2"), parked("old.3")]);
    assert_eq!(look(&mut seen, &held, 612).1, ["old.2"]);
    // When it is not to be off any more, it has ten minutes to come back.
    seen.proxy("p", 613, &[session("old.1")]);
    let held = Selection::default();
    look(&mut seen, &held, 613);
    assert_eq!(look(&mut seen, &held, 1212).0, ["old.1", "old.3"]);
    assert_eq!(look(&mut seen, &held, 1214).0, ["old.1"]);
}

#[test]
fn a_lease_of_tomorrow_keeps_no_place_for_a_machine_that_is_away() {
    let mut seen = Seen::new();
    let tomorrow = Chosen {
        group: "old".into(),
        cause: Cause::Lease("l".into()),
        at: at(90_000),
        until: None,
        edge: None,
        means: Means::Device,
        passed_on: false,
    };
    let off = ["old.1", "old.2", "old.3"].map(|id| (id.into(), vec![tomorrow.clone()]));
    let held = Selection { off: off.into(), ..Selection::default() };
    seen.proxy("p", 0, &[session("old.1"), session("old.2")]);
    look(&mut seen, &held, 0);
    seen.inventory.limit_newcomers(true);
    seen.proxy("p", 10, &[session("old.1"), parked("old.3")]);
    assert_eq!(look(&mut seen, &held, 10).1, ["old.3"]);
    let away = seen.inventory.away_load(&seen.policy);
    let feed = seen.policy.facility.feeds().number(&"a".into()).unwrap();
    assert_eq!(away[feed], Watts(3000), "its power is kept for it");
    assert_eq!(look(&mut seen, &held, 611).0, ["old.1"]);
    assert_eq!(seen.inventory.away_load(&seen.policy)[feed], Watts::ZERO);
}

#[test]
fn what_was_recorded_is_continued_and_forgotten_if_it_does_not_show() {
    let (mut seen, held) = (Seen::new(), Selection::default());
    let recorded = ["old.1".into(), "old.2".into()].into();
    seen.inventory.restore_permitted(&recorded, seen.now(0));
    seen.inventory.limit_newcomers(true);
    seen.proxy("p", 5, &[parked("old.1"), parked("old.9")]);
    let (permitted, waiting) = look(&mut seen, &held, 5);
    assert_eq!((permitted.len(), waiting), (2, vec!["old.9".to_owned()]));
    assert_eq!(look(&mut seen, &held, 601).0, ["old.1"]);
}

#[test]
fn a_machine_whose_device_answers_is_not_away() {
    let (mut seen, held) = (Seen::new(), Selection::default());
    seen.proxy("p", 0, &[session("old.000")]);
    look(&mut seen, &held, 0);
    seen.inventory.limit_newcomers(true);
    seen.agent(1, &[device(DeviceState::Awake, 1, 0, 0)], Vec::new());
    seen.proxy("p", 1, &[]);
    look(&mut seen, &held, 1);
    assert_eq!(look(&mut seen, &held, 2000).0, ["old.000"]);
    seen.agent(2001, &[device(DeviceState::Unknown, 1, 0, 0)], Vec::new());
    look(&mut seen, &held, 2001);
    assert_eq!(look(&mut seen, &held, 2602).0, [""; 0]);
    // Its session waits, and the machine counts as load: its device is one of the site's.
    seen.proxy("p", 2603, &[parked("old.000")]);
    assert_eq!(look(&mut seen, &held, 2603).1, ["old.000"]);
    let population = seen.inventory.last_fleet().population.clone();
    assert!(population.newcomers.is_empty());
    assert_eq!(population.groups.values().sum::<u32>(), 1);
}
