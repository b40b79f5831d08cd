use super::*;

/// Two machines that slept from 100 s on, and that the second timeline lets run from 500 s on.
fn slept() -> Bench {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(100, Action::Drain, &[0, 1])]);
    bench.obeyed(102, 0, Order::Sleep);
    bench.obeyed(102, 1, Order::Sleep);
    let wanted = BTreeSet::from([id(0), id(1)]);
    let shown = Shown { wanted: wanted.clone(), ..Shown::default() };
    bench.note(110, Event::Shown(shown));
    bench.timeline(500, 2, &[(500, Action::Run, &[0, 1])]);
    let shown = Shown { returning: wanted, ..Shown::default() };
    bench.note(505, Event::Shown(shown));
    bench
}

fn woken(bench: &mut Bench, at: u64) {
    bench.obeyed(at, 0, Order::Wake);
    bench.obeyed(at + 30, 1, Order::Wake);
}

#[test]
fn a_wake_under_a_live_permit_is_as_it_should_be() {
    let mut bench = slept();
    bench.permit(510, 2);
    woken(&mut bench, 520);
    bench.finds_nothing();
}

#[test]
fn a_wake_without_a_permit_is_found() {
    let mut bench = slept();
    woken(&mut bench, 520);
    bench.finds(&[(Kind::RaisedWithoutPermit, Cause::Decision)]);
}

#[test]
fn a_permit_ends_with_its_time_a_withdrawal_and_a_restart_and_outlasts_its_timeline() {
    let mut expired = slept();
    expired.permit(510, 2);
    woken(&mut expired, 640);
    expired.finds(&[(Kind::RaisedWithoutPermit, Cause::Decision)]);

    let mut of_another = slept();
    of_another.permit(510, 3);
    woken(&mut of_another, 520);
    of_another.finds(&[(Kind::RaisedWithoutPermit, Cause::Decision)]);

    let mut withdrawn = slept();
    withdrawn.permit(510, 2);
    withdrawn.note(515, Event::Heard { role: Role::Agent, message: Message::Withdrawn });
    woken(&mut withdrawn, 520);
    withdrawn.finds(&[(Kind::RaisedWithoutPermit, Cause::Decision)]);

    let mut replaced = slept();
    replaced.permit(510, 2);
    replaced.timeline(515, 3, &[(500, Action::Run, &[0, 1])]);
    woken(&mut replaced, 520);
    replaced.finds(&[]);
}

#[test]
fn a_wake_that_the_timeline_held_does_not_want_is_found() {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(100, Action::Drain, &[0])]);
    bench.permit(90, 1);
    bench.obeyed(102, 0, Order::Sleep);
    bench.note(103, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.obeyed(120, 0, Order::Wake);
    bench.obeyed(122, 0, Order::Sleep);
    assert!(bench.found().contains(&(Kind::RaisedAgainstTimeline, Cause::Decision)));
}

#[test]
fn an_older_timeline_that_has_effect_is_found() {
    let mut bench = Bench::new();
    let older = bench.issue(40, 1, &[(100, Action::Drain, &[0])]);
    bench.timeline(30, 2, &[]);
    bench.hear(90, &older);
    bench.obeyed(102, 0, Order::Sleep);
    bench.note(103, Event::Shown(Shown { foreign: [id(0)].into(), ..Shown::default() }));
    let found = bench.found();
    assert!(found.contains(&(Kind::SleptUnwanted, Cause::Decision)), "{found:?}");

    let mut former = Bench::new();
    former.timeline(30, 1, &[(40, Action::Drain, &[0])]);
    former.obeyed(41, 0, Order::Sleep);
    former.timeline(60, 2, &[]);
    former.permit(61, 2);
    former.obeyed(70, 0, Order::Wake);
    former.obeyed(150, 0, Order::Sleep);
    former.note(152, Event::Shown(Shown { foreign: [id(0)].into(), ..Shown::default() }));
    let found = former.found();
    assert!(found.contains(&(Kind::OldTimelineObeyed, Cause::Decision)), "{found:?}");
}

#[test]
fn a_machine_that_goes_before_its_step_is_found() {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(1_000, Action::Drain, &[0])]);
    bench.obeyed(600, 0, Order::Sleep);
    bench.note(601, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.finds(&[(Kind::EarlyShed, Cause::Decision)]);
}

/// The clock runs ahead: lowerings come forward, which is safe.
#[test]
fn a_clock_that_is_ahead_may_bring_a_lowering_forward() {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(1_000, Action::Drain, &[0])]);
    let by = SignedDuration::from_secs(3_600);
    bench.note(590, Event::ClockStepped { role: Role::Agent, by });
    bench.obeyed(592, 0, Order::Sleep);
    bench.note(595, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.finds_nothing();
}

/// An agent that believes a clock that was stepped back lets a drain come an hour late.
#[test]
fn a_machine_that_is_told_too_late_is_found() {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(1_000, Action::Drain, &[0])]);
    let by = SignedDuration::from_secs(-3_600);
    bench.note(500, Event::ClockStepped { role: Role::Agent, by });
    bench.finds(&[(Kind::LateShed, Cause::Decision)]);
    let late = bench.verdict()[0].span;
    assert!(late.from >= secs(1_000) && late.to >= secs(3_600), "until it is told: {late:?}");
    bench.obeyed(1_003, 0, Order::Sleep);
    bench.note(1_010, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.finds_nothing();
}

#[test]
fn an_agent_that_was_down_has_its_time_after_it_starts() {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(1_000, Action::Drain, &[0])]);
    bench.down(Role::Agent, 900, 1_200, StateFound::Kept);
    bench.obeyed(1_203, 0, Order::Sleep);
    bench.note(1_210, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.finds_nothing();
}

#[test]
fn a_command_that_was_lost_is_not_held_against_the_agent() {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(1_000, Action::Drain, &[0])]);
    bench.note(1_001, Event::CommandLost { machine: id(0), order: Order::Sleep });
    bench.obeyed(1_030, 0, Order::Sleep);
    bench.note(1_035, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    bench.finds_nothing();
}

#[test]
fn a_proxy_gives_no_work_to_a_machine_that_is_kept_off() {
    let mut against = Bench::new();
    against.note(10, Event::Served { machine: id(0), served: true });
    against.timeline(50, 1, &[(100, Action::Lockout, &[0])]);
    against.obeyed(101, 0, Order::Sleep);
    against.note(110, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    assert!(against.found().contains(&(Kind::RaisedAgainstTimeline, Cause::Decision)), "unheard");

    let mut silent = Bench::new();
    silent.timeline(50, 1, &[(100, Action::Drain, &[0]), (500, Action::Run, &[0])]);
    silent.obeyed(101, 0, Order::Sleep);
    silent.note(110, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
    silent.note(505, Event::Shown(Shown { returning: [id(0)].into(), ..Shown::default() }));
    silent.note(520, Event::Served { machine: id(0), served: true });
    assert!(silent.found().contains(&(Kind::RaisedWithoutPermit, Cause::Decision)));

    let mut permitted = silent;
    permitted.permit(510, 1);
    permitted.obeyed(511, 0, Order::Wake);
    permitted.finds_nothing();
}

#[test]
fn what_a_lost_state_brings_about_has_that_cause() {
    let mut bench = slept();
    bench.down(Role::Agent, 506, 510, StateFound::Lost);
    woken(&mut bench, 520);
    assert!(bench.found().contains(&(Kind::RaisedWithoutPermit, Cause::StateLost)));
}

#[test]
fn what_is_heard_at_the_very_moment_counts() {
    let mut bench = Bench::new();
    bench.timeline(1, 1, &[]);
    bench.note(1, Event::Served { machine: id(0), served: true });
    bench.finds_nothing();
}
