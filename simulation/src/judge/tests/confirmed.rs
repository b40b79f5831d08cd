use super::*;

/// Machine 0 is told to sleep at 100 s, and a proxy hears at `heard` that it does.
fn said(heard: u64) -> Bench {
    let mut bench = Bench::new();
    bench.timeline(50, 1, &[(100, Action::Drain, &[0])]);
    bench.command(100, 0, Order::Sleep);
    let message = Message::Asleep(Arc::new([id(0)].into()));
    bench.note(heard, Event::Heard { role: Role::Proxy, message });
    bench
}

fn falls(bench: &mut Bench, from: u64, to: u64) {
    let by = Commander::Agent;
    let commanded = crate::record::Cause::Commanded { by, arrived: secs(from) };
    bench.state(from, 0, State::FallingAsleep, commanded);
    bench.state(to, 0, State::Asleep, crate::record::Cause::Completed);
}

fn is_found(bench: &Bench) -> bool {
    bench.verdict().iter().any(|found| found.kind == Kind::SaidAsleep)
}

#[test]
fn a_machine_that_is_said_to_sleep_and_has_not_is_found() {
    let mut early = said(102);
    falls(&mut early, 100, 104);
    assert!(is_found(&early));
    assert!(is_found(&said(200)));
}

#[test]
fn a_machine_that_slept_since_is_not() {
    let mut asleep = said(106);
    falls(&mut asleep, 100, 104);
    assert!(!is_found(&asleep));
    // It woke by itself, which takes a while to be known.
    asleep.state(105, 0, State::Awake, crate::record::Cause::ByItself);
    assert!(!is_found(&asleep));
}

#[test]
fn a_device_that_lies_is_believed() {
    let mut liar = said(102);
    liar.spec.machines[0].habits.lies = true;
    assert!(!is_found(&liar));
}
