use directive::{Action, Means, Permit, Permitted, Standing, Step};

use super::*;
use crate::log_limit::tests::Log;

const EVERY: Duration = Duration::from_secs(1);

fn core(saved: Option<Saved>, has_file: bool) -> ControlCore {
    ControlCore::new(saved, has_file, EVERY, daemon::clock::now())
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).expect("a plain instant")
}

/// A timeline with one machine.
fn timeline(steps: &[(Timestamp, Action)]) -> Arc<Timeline> {
    let (issued_at, number) = (steps[0].0, Generation { epoch: 1, generation: 1 });
    let step = |(at, action): &(Timestamp, Action)| Step {
        at: *at,
        group: "g".into(),
        action: *action,
        means: Means::Starve,
        machines: vec!["rig".into()],
        lease: None,
        reason: String::new(),
    };
    let steps = steps.iter().map(step).collect();
    Arc::new(Timeline {
        number,
        issued_at,
        horizon: issued_at,
        ledger_head: None,
        steps,
        holds_taken: std::collections::BTreeMap::new(),
    })
}

/// A permit of one minute for every machine that the timeline names.
fn permit(timeline: &Timeline, serial: u64) -> Permit {
    let machines = timeline.steps.iter().flat_map(|step| step.machines.iter().cloned()).collect();
    Permit { number: timeline.number, serial, ttl_ms: 60_000, machines: Arc::new(machines) }
}

fn downlink(timeline: &Arc<Timeline>, permit: Option<Permit>) -> Downlink {
    Downlink { timeline: Some(timeline.clone()), permit, ..Downlink::default() }
}

/// Takes all outputs.
fn outputs(core: &mut ControlCore) -> Vec<Output> {
    std::iter::from_fn(|| core.poll_output()).collect()
}

fn writes(core: &mut ControlCore) -> Vec<Saved> {
    let written = |output| if let Output::Write(saved) = output { Some(*saved) } else { None };
    outputs(core).into_iter().filter_map(written).collect()
}

fn acknowledged(core: &mut ControlCore) -> Vec<Option<Generation>> {
    let report = |output| match output {
        Output::Report { acknowledged, .. } => Some(acknowledged),
        _ => None,
    };
    outputs(core).into_iter().filter_map(report).collect()
}

#[test]
fn a_timeline_is_acknowledged_when_its_write_has_ended() {
    let (mut core, now) = (core(None, true), daemon::clock::now());
    core.hear(downlink(&timeline(&[(at(0), Action::Drain)]), None), now);
    core.turn(at(0), now, |_| true);
    assert_eq!(core.receiver().applied().len(), 1, "lowering does not wait for the disk");
    assert_eq!(acknowledged(&mut core), [None]);
    core.written(true, at(1));
    assert_eq!(acknowledged(&mut core), [core.receiver().number()], "at once");
    core.turn(at(1), now + EVERY, |_| true);
    assert!(writes(&mut core).is_empty(), "nothing has changed");
}

#[test]
fn a_failed_write_is_acknowledged_and_tried_again() {
    let (mut core, now) = (core(None, true), daemon::clock::now());
    core.hear(downlink(&timeline(&[(at(0), Action::Drain)]), None), now);
    core.turn(at(0), now, |_| true);
    outputs(&mut core);
    core.written(false, at(0));
    assert_eq!(acknowledged(&mut core), [core.receiver().number()]);
    core.turn(at(1), now + EVERY, |_| true);
    let again = writes(&mut core);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].applied.len(), 1, "a restart knows the machine is off");
}

#[test]
fn one_write_is_under_way_at_a_time() {
    let (mut core, now) = (core(None, true), daemon::clock::now());
    core.hear(downlink(&timeline(&[(at(0), Action::Drain)]), None), now);
    core.turn(at(0), now, |_| true);
    assert_eq!(writes(&mut core).len(), 1);
    let mut newer = Timeline::clone(&timeline(&[(at(0), Action::Lockout)]));
    newer.number.generation += 1;
    core.hear(downlink(&Arc::new(newer), None), now);
    core.turn(at(0), now, |_| true);
    assert!(writes(&mut core).is_empty());
    core.written(true, at(0));
    core.turn(at(1), now + EVERY, |_| true);
    let next = writes(&mut core);
    assert_eq!(
        next[0].applied.values().next().map(|standing| standing.action),
        Some(Action::Lockout)
    );
}

#[test]
fn without_a_file_a_timeline_is_acknowledged_at_once() {
    let (mut core, now) = (core(None, false), daemon::clock::now());
    core.hear(downlink(&timeline(&[(at(0), Action::Drain)]), None), now);
    core.turn(at(0), now, |_| true);
    let number = core.receiver().number();
    let outputs = outputs(&mut core);
    let reports = |out: &&Output| matches!(out, Output::Report { acknowledged, .. } if *acknowledged == number);
    assert_eq!(outputs.iter().filter(reports).count(), 1);
    assert!(!outputs.iter().any(|out| matches!(out, Output::Write(_))));
}

#[test]
fn an_older_timeline_is_refused_once_and_changes_nothing() {
    let (mut core, now) = (core(None, false), daemon::clock::now());
    let older = timeline(&[(at(0), Action::Run)]);
    let mut newer = Timeline::clone(&timeline(&[(at(0), Action::Drain)]));
    newer.number.generation = 2;
    core.hear(downlink(&Arc::new(newer), None), now);
    core.turn(at(0), now, |_| true);
    outputs(&mut core);
    core.hear(downlink(&older, None), now);
    let mut refused = 0;
    for secs in 1..5 {
        core.turn(at(secs), now + EVERY * u32::try_from(secs).expect("small"), |_| true);
        refused += outputs(&mut core).iter().filter(|out| matches!(out, Output::Stale)).count();
    }
    assert_eq!(refused, 1);
    assert_eq!(core.receiver().applied().len(), 1);
}

/// The patterns outlast a restart: the next process may serve sessions before it hears anything.
#[test]
fn a_session_that_no_group_claims_gets_no_work_also_after_a_restart() {
    let (mut first, now) = (core(None, true), daemon::clock::now());
    let claims = Some(Arc::new(["rig"].into_iter().collect()));
    let held = timeline(&[(at(0), Action::Run)]);
    first.hear(Downlink { claims: claims.clone(), ..downlink(&held, None) }, now);
    first.turn(at(0), now, |_| true);
    let saved = writes(&mut first).pop().expect("it is written");
    assert_eq!(saved.claims, claims);
    let mut next = core(Some(saved), true);
    let serve = |core: &ControlCore, machine: &str| core.orders().serve(&machine.into(), false);
    assert_eq!((serve(&next, "rig"), serve(&next, "stranger")), (Serve::Work, Serve::Park));
    // What comes with an older timeline is as old.
    let mut older = Timeline::clone(&held);
    older.number.epoch = 0;
    let all = Some(Arc::new(["*"].into_iter().collect()));
    next.hear(Downlink { claims: all.clone(), ..downlink(&Arc::new(older), None) }, now);
    next.turn(at(1), now, |_| true);
    assert_eq!(serve(&next, "stranger"), Serve::Park);
    next.hear(Downlink { claims: all, ..downlink(&held, None) }, now);
    next.turn(at(2), now + EVERY, |_| true);
    assert_eq!(serve(&next, "stranger"), Serve::Work);
}

/// The permitted set outlasts a restart, too.
#[test]
fn a_machine_that_is_not_permitted_gets_no_work_also_after_a_restart() {
    let (mut first, now) = (core(None, true), daemon::clock::now());
    let only = |names: &[&str]| {
        let machines = names.iter().map(|name| MachineId::from(*name)).collect();
        Some(Permitted::Only(Arc::new(machines)))
    };
    let held = timeline(&[(at(0), Action::Run)]);
    first.hear(Downlink { permitted: only(&["rig"]), ..downlink(&held, None) }, now);
    first.turn(at(0), now, |_| true);
    let saved = writes(&mut first).pop().expect("it is written");
    assert_eq!(saved.permitted, only(&["rig"]));
    let mut next = core(Some(saved), true);
    let serve = |core: &ControlCore, machine: &str| core.orders().serve(&machine.into(), false);
    assert_eq!((serve(&next, "rig"), serve(&next, "new")), (Serve::Work, Serve::Park));
    // Another copy of the same set changes nothing, and neither does a downlink without one.
    for permitted in [only(&["rig"]), None] {
        next.hear(Downlink { permitted, ..downlink(&held, None) }, now);
        next.turn(at(1), now, |_| true);
        assert!(writes(&mut next).is_empty());
        assert_eq!(serve(&next, "new"), Serve::Park);
    }
    next.hear(Downlink { permitted: only(&["new"]), ..downlink(&held, None) }, now);
    next.turn(at(2), now, |_| true);
    assert_eq!((serve(&next, "rig"), serve(&next, "new")), (Serve::Park, Serve::Work));
    assert_eq!(next.orders().serve(&"rig".into(), true), Serve::Work, "it has what it has");
}

#[test]
fn machines_that_a_former_life_took_off_are_off_from_the_start() {
    let standing = Standing { action: Action::Drain, means: Means::Starve };
    let saved = Saved {
        timeline: Some(Timeline::clone(&timeline(&[(at(0), Action::Drain)]))),
        applied: [("rig".into(), standing)].into(),
        seen: None,
        claims: None,
        permitted: None,
    };
    let core = core(Some(saved), false);
    assert_eq!(core.orders().serve(&"rig".into(), true), Serve::Park);
    assert_eq!(core.receiver().number().map(|number| number.generation), Some(1));
}

/// Returns the seconds at which the machine is parked and at which it has work again, when the wall
/// clock is wrong by `off(second)`. The timeline parks it from 60 s to 120 s.
fn parked(core: &mut ControlCore, off: impl Fn(i64) -> i64) -> (Option<i64>, Option<i64>) {
    let start = daemon::clock::now();
    let timeline = timeline(&[(at(60), Action::Drain), (at(120), Action::Run)]);
    let (mut parked, mut back) = (None, None);
    for secs in 0..300_i64 {
        let serial = secs.unsigned_abs() / 30 + 1;
        let permit = permit(&timeline, serial);
        let now = start + Duration::from_secs(secs.unsigned_abs());
        core.hear(downlink(&timeline, Some(permit)), now);
        core.turn(at(secs + off(secs)), now, |_| false);
        outputs(core);
        let is_parked = core.orders().serve(&"rig".into(), true) == Serve::Park;
        if is_parked {
            parked.get_or_insert(secs);
        } else if parked.is_some() {
            back.get_or_insert(secs);
        }
    }
    (parked, back)
}

#[test]
fn f46_a_stepped_clock_parks_nobody_late_and_gives_nobody_work() {
    for by in [-86_400, -3_600, -60, -1, 0, 1, 60, 3_600, 86_400] {
        for stepped_at in [1, 59, 61, 119] {
            let mut core = core(None, false);
            let off = |secs| if secs >= stepped_at { by } else { 0 };
            let (parked, back) = parked(&mut core, off);
            let case = format!("{by} s at {stepped_at} s: {parked:?} to {back:?}");
            if by.abs() <= 1 {
                assert!(parked.is_some_and(|at| (59..=61).contains(&at)), "{case}");
                assert!(back.is_some_and(|at| (119..=121).contains(&at)), "{case}");
            } else {
                assert!(parked.is_some_and(|at| at <= 60), "{case}");
                assert_eq!(back, None, "{case}");
            }
            assert_eq!(core.stepped, by.abs() > 1, "{case}");
        }
    }
}

#[test]
fn f46_a_clock_that_was_stepped_during_a_restart_gives_nobody_work() {
    let mut former = core(None, false);
    parked(&mut former, |_| 0);
    let mut saved = former.receiver().saved().clone();
    let steps = saved.timeline.take().expect("it holds one").steps;
    saved.timeline = Some(Timeline::clone(&timeline(&[(steps[0].at, Action::Drain)])));
    let standing = Standing { action: Action::Drain, means: Means::Starve };
    saved.applied.insert("rig".into(), standing);
    let mut core = core(Some(saved), false);
    assert_eq!(parked(&mut core, |_| -3_600), (Some(0), None));
}

#[test]
fn what_was_counted_is_logged_at_the_end() {
    let (mut core, now) = (core(None, false), daemon::clock::now());
    let log = Log::new();
    tracing::subscriber::with_default(log.clone(), || {
        core.hear(downlink(&timeline(&[(at(0), Action::Drain)]), None), now);
        core.turn(at(0), now, |_| true);
        assert_eq!(log.shown(), [""; 0], "it is counted first");
        core.stop(now);
    });
    assert_eq!(log.shown(), ["starved machines changed"]);
}

/// 600 machines are parked, one each second, stay off, and come back at the same rate.
#[test]
fn an_hour_of_a_lease_is_some_lines_and_each_machine_is_named_at_debug() {
    const MACHINES: i64 = 600;
    let start = daemon::clock::now();
    let number = Generation { epoch: 1, generation: 1 };
    let step = |secs: i64, action, index: i64| Step {
        at: at(secs),
        group: "g".into(),
        action,
        means: Means::Starve,
        machines: vec![MachineId::from(format!("rig-{index}").as_str())],
        lease: None,
        reason: String::new(),
    };
    let down = (0..MACHINES).map(|index| step(60 + index, Action::Drain, index));
    let up = (0..MACHINES).map(|index| step(2400 + index, Action::Run, index));
    let steps = down.chain(up).collect();
    let timeline = Timeline {
        number,
        issued_at: at(0),
        horizon: at(7200),
        ledger_head: None,
        steps,
        holds_taken: std::collections::BTreeMap::new(),
    };
    let timeline = Arc::new(timeline);
    let mut core = core(None, false);
    let log = Log::new();
    tracing::subscriber::with_default(log.clone(), || {
        for secs in 0..3600_i64 {
            let serial = secs.unsigned_abs() / 30 + 1;
            let permit = permit(&timeline, serial);
            let now = start + Duration::from_secs(secs.unsigned_abs());
            core.hear(downlink(&timeline, Some(permit)), now);
            core.turn(at(secs), now, |_| false);
            outputs(&mut core);
        }
    });
    assert!(core.receiver().applied().is_empty(), "everybody is back");
    let shown = log.shown();
    assert!((10..=40).contains(&shown.len()), "{shown:#?}");
    assert_eq!(log.details("standing changed"), 1200);
}
