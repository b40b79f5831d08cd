use super::*;

/// A machine that slept for a lease that is over.
fn over() -> Bench {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(100, Action::Drain, &[0])]);
    bench.obeyed(102, 0, Order::Sleep);
    bench.note(110, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.timeline(500, 2, &[(500, Action::Run, &[0])]);
    bench
}

#[test]
fn a_sleeper_in_no_view_is_found() {
    let mut bench = over();
    bench.note(505, Event::Shown(Shown::default()));
    bench.permit(700, 2);
    bench.obeyed(705, 0, Order::Wake);
    bench.finds(&[(Kind::AsleepUnshown, Cause::Decision)]);
    let found = bench.verdict();
    assert_eq!((found[0].span.from, found[0].span.to), (secs(505), secs(705)));
}

#[test]
fn a_sleeper_that_is_shown_or_whose_switchboard_is_down_is_not() {
    let mut shown = over();
    shown.note(505, Event::Shown(Shown { returning: [id(0)].into(), ..Shown::default() }));
    shown.permit(700, 2);
    shown.obeyed(705, 0, Order::Wake);
    shown.finds_nothing();

    let mut down = over();
    down.note(505, Event::Shown(Shown::default()));
    down.down(Role::Switchboard, 510, 690, StateFound::Kept);
    down.permit(700, 2);
    down.obeyed(705, 0, Order::Wake);
    down.finds_nothing();
}

#[test]
fn a_machine_that_is_never_woken_is_forgotten_whatever_a_view_shows() {
    let mut bench = over();
    bench.note(505, Event::Shown(Shown { foreign: [id(0)].into(), ..Shown::default() }));
    bench.finds(&[(Kind::Forgotten, Cause::Decision)]);
}

#[test]
fn a_run_that_ends_soon_forgets_nobody() {
    let mut bench = over();
    bench.note(505, Event::Shown(Shown { returning: [id(0)].into(), ..Shown::default() }));
    bench.terms.quiet_from = secs(3_400);
    bench.finds_nothing();
}

#[test]
fn a_command_cut_off_by_a_kill_is_known_as_such() {
    let mut bench = over();
    bench.down(Role::Agent, 103, 108, StateFound::Kept);
    bench.note(505, Event::Shown(Shown { foreign: [id(0)].into(), ..Shown::default() }));
    bench.finds(&[(Kind::Forgotten, Cause::StateLost)]);
}

#[test]
fn a_machine_that_a_person_put_to_sleep_is_nobody_elses() {
    let mut bench = Bench::new();
    let by = Commander::Technician;
    let commanded = crate::record::Cause::Commanded { by, arrived: secs(100) };
    bench.state(100, 0, State::FallingAsleep, commanded);
    bench.state(104, 0, State::Asleep, crate::record::Cause::Completed);
    bench.finds_nothing();
}

#[test]
fn a_role_that_doubts_its_clock_to_the_end_forgets_nobody() {
    let mut bench = over();
    bench.note(505, Event::Shown(Shown { foreign: [id(0)].into(), ..Shown::default() }));
    let by = SignedDuration::from_hours(1);
    bench.note(600, Event::ClockStepped { role: Role::Switchboard, by });
    bench.finds_nothing();
    // It has been right again for long enough.
    bench.note(1_700, Event::ClockStepped { role: Role::Switchboard, by: -by });
    bench.finds(&[(Kind::Forgotten, Cause::Decision)]);
}

#[test]
fn a_sleeper_that_a_wrong_clock_hides_has_that_cause() {
    let mut bench = over();
    bench.note(505, Event::Shown(Shown::default()));
    bench.permit(700, 2);
    bench.obeyed(705, 0, Order::Wake);
    let by = SignedDuration::from_hours(1);
    bench.note(480, Event::ClockStepped { role: Role::Switchboard, by });
    bench.finds(&[(Kind::AsleepUnshown, Cause::Clock)]);
}
