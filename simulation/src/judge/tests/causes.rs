use super::*;

/// Machine 0 sleeps for lease l, and a view says so from 110 to 500.
fn shown_for(lease: &str) -> Bench {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(100, Action::Drain, &[0]), (500, Action::Run, &[0])]);
    bench.obeyed(102, 0, Order::Sleep);
    let shown = Shown { wanted: [id(0)].into(), leases: [lease.into()].into(), ..Shown::default() };
    bench.note(110, Event::Shown(shown));
    bench.note(502, Event::Shown(Shown { returning: [id(0)].into(), ..Shown::default() }));
    bench.permit(510, 1);
    bench.obeyed(515, 0, Order::Wake);
    bench
}

fn with_phases(phases: &[(u64, Phase)]) -> Bench {
    let mut bench = Bench::new();
    for (at, phase) in phases.iter().filter(|(at, _)| *at < 110) {
        bench.phase(*at, "l", *phase);
    }
    let shown = Shown { leases: ["l".into()].into(), ..Shown::default() };
    bench.note(110, Event::Shown(shown));
    for (at, phase) in phases.iter().filter(|(at, _)| *at >= 110) {
        bench.phase(*at, "l", *phase);
    }
    bench.note(500, Event::Shown(Shown::default()));
    bench
}

#[test]
fn a_lease_that_is_open_may_be_shown_as_the_cause() {
    with_phases(&[(20, Phase::Planned), (499, Phase::Closed)]).finds_nothing();
}

#[test]
fn a_lease_that_is_closed_is_no_cause_for_long() {
    with_phases(&[(20, Phase::Planned), (300, Phase::Closed)])
        .finds(&[(Kind::CauseUntrue, Cause::Decision)]);
}

#[test]
fn a_lease_that_nobody_committed_is_no_cause() {
    shown_for("nobody").finds(&[(Kind::CauseUntrue, Cause::Decision)]);
}

#[test]
fn a_guard_is_no_cause_for_a_machine_that_no_agent_told_to_sleep() {
    let guarded = |machine| {
        let mut bench = shown_for("l");
        bench.record.entries.retain(|entry| !matches!(entry.event, Event::Shown(_)));
        let shown =
            Shown { wanted: [id(0)].into(), guarded: [id(machine)].into(), ..Shown::default() };
        let at = bench.record.entries.partition_point(|entry| entry.at <= secs(110));
        let entry = crate::record::Entry { at: secs(110), event: Event::Shown(shown) };
        bench.record.entries.insert(at, entry);
        bench
    };
    guarded(0).finds_nothing();
    guarded(1).finds(&[(Kind::CauseUntrue, Cause::Decision)]);
}
