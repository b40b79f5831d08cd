use super::*;
use crate::blackout::{Counting, Machines};
use crate::facility::PerFeed;

/// Looks at `secs`. Returns the machines of `a`, which fell at `from`, counted from then on; those of `off`
/// are to be off.
fn count(seen: &mut Seen, secs: i64, from: i64, off: &[&str]) -> Machines {
    let now = seen.now(secs);
    let held = Selection::default();
    seen.inventory.new_fleet(&seen.policy, &held, &BTreeMap::new(), at(secs), now);
    let feeds = seen.policy.facility.feeds();
    let a = feeds.number(&"a".into()).expect("it is there");
    let froms = PerFeed::each(feeds, |feed| {
        (feed == a).then(|| Counting { from: seen.now(from), fell: seen.now(from) })
    });
    let is_off = |machine: &MachineId| off.contains(&machine.as_str());
    seen.inventory.count_present(&seen.policy, &froms, is_off, now)[a]
}

fn gone(name: &str) -> SessionReport {
    SessionReport { sessions: 0, serving: Serving::Gone, ..session(name) }
}

fn parked(name: &str) -> SessionReport {
    SessionReport { serving: Serving::Parked, ..session(name) }
}

#[test]
fn machines_that_worked_are_stopped_without_work_and_gone_without_any_sign() {
    let mut seen = Seen::new();
    let all = ["old.000", "old.001", "old.002"];
    seen.proxy("p", 0, &all.map(session));
    let watts = seen.policy.facility.groups()[0].watts;
    let machines = count(&mut seen, 0, 0, &[]);
    let works =
        Machines { worked: 3, draws: watts + watts + watts, shown: 3, ..Machines::default() };
    assert_eq!(machines, works);
    // The device of the first one answers, the second one waits for work, the third one is gone.
    seen.agent(10, &[device(DeviceState::Awake, 10, 0, 0)], vec![]);
    seen.proxy("p", 10, &[gone("old.000"), parked("old.001"), gone("old.002")]);
    let machines = count(&mut seen, 10, 0, &[]);
    assert_eq!(machines, Machines { stopped: 3, gone: 1, shown: 2, ..works });
    seen.agent(20, &[device(DeviceState::Unknown, 10, 0, 1)], vec![]);
    assert_eq!(count(&mut seen, 20, 0, &[]).gone, 2);
    // What worked before the time does not count.
    assert_eq!(count(&mut seen, 20, 15, &[]).worked, 0);
}

#[test]
fn a_device_that_was_not_read_since_the_fall_is_no_sign_of_its_machine() {
    let mut seen = Seen::new();
    seen.proxy("p", 0, &[session("old.000")]);
    seen.agent(0, &[device(DeviceState::Awake, 0, 0, 0)], vec![]);
    assert_eq!(count(&mut seen, 5, 5, &[]).shown, 1);
    seen.proxy("p", 10, &[gone("old.000")]);
    seen.agent(10, &[device(DeviceState::Awake, 0, 0, 0)], vec![]);
    let machines = count(&mut seen, 10, 5, &[]);
    assert_eq!((machines.gone, machines.awaited, machines.shown), (1, 1, 0));
    // While the agent is not heard, nobody knows.
    seen.proxy("p", 60, &[gone("old.000")]);
    let machines = count(&mut seen, 60, 5, &[]);
    assert_eq!((machines.gone, machines.awaited, machines.shown), (0, 0, 0));
    assert_eq!(machines.unheard, 1);
    seen.agent(70, &[device(DeviceState::Asleep, 65, 0, 0)], vec![]);
    let machines = count(&mut seen, 70, 5, &[]);
    assert_eq!((machines.gone, machines.awaited, machines.shown), (0, 0, 1));
}

#[test]
fn machines_that_are_to_be_off_count_only_when_they_show_themselves() {
    let mut seen = Seen::new();
    seen.proxy("p", 0, &[session("old.000"), session("old.001")]);
    count(&mut seen, 0, 0, &[]);
    seen.proxy("p", 10, &[parked("old.000"), gone("old.001")]);
    let machines = count(&mut seen, 10, 0, &["old.000", "old.001"]);
    assert_eq!(machines, Machines { shown: 1, ..Machines::default() });
}

#[test]
fn what_a_proxy_does_not_know_since_its_start_says_nothing_of_a_machine() {
    let mut seen = Seen::new();
    seen.proxy("p", 0, &[session("old.000"), session("old.001")]);
    count(&mut seen, 0, 0, &[]);
    // It knows only the one that came back so far.
    seen.proxy("p", 10, &[session("old.000")]);
    let machines = count(&mut seen, 10, 0, &[]);
    assert_eq!((machines.worked, machines.stopped, machines.shown), (2, 0, 2));
}

#[test]
fn machines_that_worked_when_their_proxy_was_heard_last_are_unheard() {
    let mut seen = Seen::new();
    seen.proxy("p", 0, &[session("old.000"), session("old.001")]);
    assert_eq!(count(&mut seen, 10, 0, &[]).unheard, 0);
    let machines = count(&mut seen, 20, 0, &[]);
    assert_eq!((machines.worked, machines.stopped, machines.unheard), (2, 0, 2));
    // Another one knows one of them.
    seen.proxy("q", 20, &[session("old.000")]);
    assert_eq!(count(&mut seen, 20, 0, &[]).unheard, 1);
}
