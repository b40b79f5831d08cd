use super::*;

/// Machines 0 to 3 sleep since 100 s. The house takes all but 5 kW of what they freed, and a permit
/// at 600 s names the first `named` of all machines.
fn asleep(named: usize) -> Bench {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(100, Action::Drain, &[0, 1, 2, 3])]);
    for machine in 0..4 {
        bench.obeyed(101, machine, Order::Sleep);
    }
    // 40 kW are usable, 31 kW - 4 × 2.97 kW are drawn.
    bench.house(110, 15_880);
    bench.timeline(500, 2, &[(500, Action::Run, &[0, 1, 2, 3])]);
    permit(&mut bench, 600, 0..named);
    bench
}

fn permit(bench: &mut Bench, at: u64, machines: std::ops::Range<usize>) {
    let machines = Arc::new(machines.map(id).collect());
    let permit = Permit { number: number(2), serial: at, ttl_ms: 120_000, machines };
    bench.note(at, Event::Heard { role: Role::Agent, message: Message::Permit(permit) });
}

fn is_found(bench: &Bench) -> bool {
    bench.verdict().iter().any(|found| found.kind == Kind::PermittedWithoutRoom)
}

#[test]
fn a_permit_for_more_than_there_is_room_for_is_found() {
    assert!(is_found(&asleep(2)));
    // Each permit alone has room for what it adds.
    let mut bench = asleep(1);
    permit(&mut bench, 630, 0..2);
    assert!(is_found(&bench));
}

#[test]
fn a_permit_within_the_room_is_not() {
    assert!(!is_found(&asleep(1)));
    // A machine that has been told to wake is in the load, or on its way there.
    let mut woken = asleep(1);
    woken.obeyed(601, 0, Order::Wake);
    woken.house(602, -2_970);
    permit(&mut woken, 630, 0..2);
    assert!(!is_found(&woken));
}

#[test]
fn a_room_that_goes_or_comes_is_known_after_a_while() {
    // Until a moment ago there was room, and a renewed permit adds nobody.
    let mut late = asleep(2);
    late.house(110, -5_000);
    late.house(598, 5_000);
    permit(&mut late, 630, 0..2);
    assert!(!is_found(&late));
    let mut raised = asleep(2);
    raised.terms.look_max = secs(2);
    raised.usable(601, 50_000);
    assert!(!is_found(&raised));
}

#[test]
fn a_switchboard_without_reports_is_judged_by_other_rules() {
    let mut cut = asleep(2);
    cut.note(500, Event::Link { receiver: Role::Agent, works: false });
    assert!(!is_found(&cut));
    let mut down = asleep(2);
    down.down(Role::Switchboard, 590, 595, StateFound::Kept);
    assert!(!is_found(&down));
}
