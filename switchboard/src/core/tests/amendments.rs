//! Leases whose end is moved, and dry runs of changes.

use super::*;
use crate::view::AmendmentAnswer;

fn amend(world: &mut World, lease: &str, end: i64) -> Answer {
    world.ask(Command::Amend { lease: lease.into(), end: at(end), dry_run: false })
}

/// The answer to a change, after the dry run has given the same one and written nothing.
fn amended(world: &mut World, lease: &str, end: i64) -> AmendmentAnswer {
    let written = world.ledger.len();
    let dry = world.ask(Command::Amend { lease: lease.into(), end: at(end), dry_run: true });
    let Answer::Amended(dry) = dry else { panic!("{dry:?}") };
    assert_eq!(world.ledger.len(), written, "a dry run writes nothing");
    let answer = amend(world, lease, end);
    let Answer::Amended(answer) = answer else { panic!("{answer:?}") };
    assert_eq!(answer, dry, "the dry run says what the change says");
    *answer
}

fn refused(world: &mut World, lease: &str, end: i64) -> Refused {
    let written = world.ledger.len();
    let dry = world.ask(Command::Amend { lease: lease.into(), end: at(end), dry_run: true });
    let Answer::Refused(dry) = dry else { panic!("{dry:?}") };
    let Answer::Refused(refused) = amend(world, lease, end) else { panic!("it is changed") };
    assert_eq!(refused, dry);
    assert_eq!(world.ledger.len(), written, "a refusal writes nothing");
    refused
}

fn asleep(world: &World) -> usize {
    world.machines.iter().filter(|machine| !machine.draws).count()
}

#[test]
fn a_lease_that_is_extended_keeps_its_machines() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1400);
    let answer = amended(&mut world, "l", 2000);
    assert_eq!((answer.end_before, answer.end), (at(1500), at(2000)));
    let line = &answer.arithmetic[0];
    assert_eq!((line.from, line.to, line.asked), (at(1500), at(2000), Watts(20_000)));
    let written = world.ledger.len();
    let again = amended(&mut world, "l", 2000);
    assert_eq!((again.end_before, world.ledger.len()), (at(2000), written), "nothing changes");
    while world.secs < 1990 {
        world.step();
        assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, 5), "at {}", world.secs);
        if world.secs == 1700 {
            world.restart();
        }
    }
    world.run_to(2300);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Closed, 0));
    assert_eq!(world.core.state.leases["l"].breaches, []);
}

#[test]
fn a_lease_that_is_shortened_gives_its_power_back_earlier() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 9000);
    world.run_to(1400);
    assert_eq!(amended(&mut world, "l", 1500).arithmetic, []);
    // The power is another lease's from then on.
    assert!(matches!(world.commit("m", "a", 40_000, 2000, 3000), Answer::Committed(_)));
    world.run_to(1700);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Closed, 0));
}

#[test]
fn an_extension_that_does_not_fit_is_refused_with_the_arithmetic_of_admission() {
    let mut world = obedient();
    world.commit("l", "a", 30_000, 1000, 1500);
    world.commit("m", "a", 30_000, 1800, 3000);
    assert_eq!(world.core.state.leases["m"].lease.follows, None);
    let Refused::Refusal(crate::admit::Refusal::DoesNotFit { worst, .. }) =
        refused(&mut world, "l", 2000)
    else {
        panic!("both do not fit")
    };
    assert_eq!((worst.from, worst.to), (at(1740), at(2000)), "from when m is made ready");
    assert_eq!((worst.committed, worst.asked), (Watts(30_000), Watts(30_000)));
    // Up to the start of the other lease the tenant only renews.
    amended(&mut world, "l", 1800);
    world.run_to(1850);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Active));
    assert_eq!(world.core.state.leases["m"].breaches, []);
}

/// The other lease was to have the machines when this one ends. Both fit, but more machines cannot be
/// off in time any more.
#[test]
fn an_extension_is_refused_when_what_comes_next_could_not_be_shed_in_time() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.commit("m", "a", 20_000, 1560, 3000);
    world.run_to(1480);
    let refusal = refused(&mut world, "l", 2000);
    assert!(
        matches!(refusal, Refused::Refusal(crate::admit::Refusal::TooLate { .. })),
        "{refusal:?}"
    );
}

#[test]
fn an_end_that_leaves_nothing_is_refused_and_cancelling_is_named() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    for end in [900, 1000] {
        let refusal = refused(&mut world, "l", end);
        assert!(matches!(refusal, Refused::CancelInstead { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains("it starts at"), "{refusal}");
    }
    world.run_to(1200);
    let refusal = refused(&mut world, "l", 1200).to_string();
    assert!(refusal.contains("now; to give its power back now, cancel it"), "{refusal}");
    assert!(matches!(refused(&mut world, "n", 1200), Refused::UnknownLease(_)));
}

#[test]
fn a_lease_that_is_over_is_not_extended() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.commit("m", "a", 20_000, 5000, 6000);
    world.ask(Command::Cancel { lease: "m".into(), force: false });
    assert!(matches!(refused(&mut world, "m", 7000), Refused::LeaseEnded { .. }));
    world.run_to(1501);
    assert_eq!(world.phase("l"), Phase::Releasing);
    assert!(matches!(refused(&mut world, "l", 7000), Refused::LeaseEnded { .. }));
    world.run_to(1800);
    let refusal = refused(&mut world, "l", 7000).to_string();
    assert!(refusal.ends_with("is closed: commit a new one"), "{refusal}");
}

#[test]
fn a_change_is_refused_when_the_ledger_does_not_take_it() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.ledger_fails = true;
    for _ in 0..2 {
        let answer = amend(&mut world, "l", 2000);
        assert!(matches!(answer, Answer::Refused(Refused::LedgerFull)), "{answer:?}");
        assert_eq!(world.core.state.leases["l"].lease.end, at(1500));
        assert!(world.core.amending.is_empty());
    }
    world.ledger_fails = false;
    world.run_to(100);
    assert_eq!(amended(&mut world, "l", 2000).end, at(2000));
}

/// While an extension is being written, the lease does not end, and no other lease gets its time.
#[test]
fn a_lease_whose_change_is_being_written_waits_for_it() {
    let mut world = obedient();
    world.commit("l", "a", 30_000, 1000, 1500);
    world.run_to(1499);
    let (wall, now) = (at(1499), world.now());
    let command = Command::Amend { lease: "l".into(), end: at(2000), dry_run: false };
    let outputs = world.core.handle(Input::Command(900, Box::new(command)), wall, now);
    assert!(outputs.answers.is_empty(), "nothing is answered before it is durable");
    let entries = outputs.append.expect("it is to be written");
    let command = Command::Amend { lease: "l".into(), end: at(2500), dry_run: false };
    let outputs = world.core.handle(Input::Command(901, Box::new(command)), wall, now);
    assert!(
        matches!(&outputs.answers[..], [(901, Answer::Refused(Refused::ChangePending(_)))]),
        "{outputs:?}"
    );
    let body = json!({
        "id": "m", "tenant": "u", "it_kw": 30.0, "feed": "a",
        "start": at(1900).to_string(), "end": at(2400).to_string(),
    });
    let request = serde_json::from_value(body).unwrap();
    let outputs =
        world.core.handle(Input::Command(902, Box::new(Command::Admit(request))), wall, now);
    assert!(matches!(&outputs.answers[..], [(902, Answer::Refused(Refused::Refusal(_)))]));
    let later = now + Duration::from_secs(2);
    world.core.handle(Input::Tick, at(1501), later);
    assert_eq!(world.phase("l"), Phase::Active);
    world.ledger.extend(entries);
    world.head = world.head.next("", "", "");
    let mut outputs = world.core.handle(Input::Written(Ok(world.head)), at(1501), later);
    while outputs.answers.is_empty() && outputs.again {
        outputs = world.core.handle(Input::Tick, at(1501), later);
    }
    assert!(matches!(&outputs.answers[..], [(900, Answer::Amended(_))]), "{outputs:?}");
    assert_eq!(world.phase("l"), Phase::Active);
    assert_eq!(world.core.state.leases["l"].lease.end, at(2000));
}

#[test]
fn the_dry_run_of_a_cancellation_says_what_cancelling_says() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 50_000, 60_000);
    let dry = |world: &mut World, force| {
        let written = world.ledger.len();
        let answer = world.ask(Command::CancelDryRun { lease: "l".into(), force });
        assert_eq!(world.ledger.len(), written);
        answer
    };
    let Answer::Lease(said) = dry(&mut world, false) else { panic!("it can be cancelled") };
    assert_eq!(world.core.state.leases["l"].lease.cancelled_at, None);
    let answer = world.ask(Command::Cancel { lease: "l".into(), force: false });
    let Answer::Lease(done) = answer else { panic!("{answer:?}") };
    assert_eq!(said.lease.cancelled_at, done.lease.cancelled_at);
    assert_eq!(said.lease.lease_plan, done.lease.lease_plan);

    world.commit("m", "a", 20_000, 1000, 1500);
    world.run_to(1100);
    let command = Command::CancelDryRun { lease: "m".into(), force: false };
    let answer = world.ask(command);
    assert!(matches!(answer, Answer::Refused(Refused::LeaseActive(_))), "{answer:?}");
    let answer = world.ask(Command::CancelDryRun { lease: "m".into(), force: true });
    assert!(matches!(answer, Answer::Lease(_)));
    assert_eq!(world.phase("m"), Phase::Active);
}
