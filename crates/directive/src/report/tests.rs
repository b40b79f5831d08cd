//! The JSON of reports, and both ends of them under losses, reorderings and restarts.

mod exchange;

use super::*;
use crate::golden::pinned;
use crate::{DeviceState, Generation, GuardHold, GuardReport, GuardState, GuardedFeed, Watts};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_796_097_600 + secs).unwrap()
}

fn session(machine: &str, shares: u64) -> SessionReport {
    SessionReport {
        machine: machine.into(),
        sessions: 1,
        serving: Serving::Working,
        shares,
        work: 65_536.0,
        last_share_at: (shares > 0).then(|| at(9)),
        still_hashing: 0,
    }
}

fn machine(name: &str, failures: u32) -> MachineReport {
    MachineReport {
        machine: name.into(),
        state: DeviceState::Asleep,
        watts: Some(Watts(30)),
        read_at: Some(at(8)),
        slept_at: Some(at(2)),
        asleep_by: Some(AsleepBy::Us),
        unrecorded: failures > 0,
        failures,
        fault: (failures > 0).then(|| "no answer within 5000 ms".to_owned()),
    }
}

fn number() -> Option<Generation> {
    Some(Generation { epoch: 3, generation: 14 })
}

#[test]
fn the_json_of_each_report_is_pinned_and_is_read_back() {
    let mut sender = ReportSender::new(1_796_097_600_000_001);
    let (one, two) = (session("acme.rig-1", 0), session("acme.rig-2", 7));
    let full = sender.report([one.seen(), two.seen()], at(10), number());
    pinned("sessions_full", &Report::Sessions(full));
    sender.handed_over();
    let two = session("acme.rig-2", 8);
    pinned("sessions", &Report::Sessions(sender.report([two.seen()], at(11), number())));

    let mut sender = ReportSender::new(1_796_097_600_000_002);
    sender.request(5);
    let (one, two) = (machine("acme.rig-1", 0), machine("acme.rig-2", 2));
    let full = sender.report([one.seen(), two.seen()], at(10), None);
    pinned("machines_full", &Report::Machines(full));
    sender.handed_over();
    let empty = sender.report([one.seen(), two.seen()], at(11), number());
    pinned("machines_unchanged", &Report::Machines(empty));

    let read = MeterReport {
        meter: "xfmr-a".into(),
        watts: Some(Watts(412_000)),
        taken_at: Some(at(9)),
        fault: None,
    };
    let lost = MeterReport {
        meter: "tenant".into(),
        watts: None,
        taken_at: None,
        fault: Some("unreachable: no route".to_owned()),
    };
    let meters = MetersReport { at: at(10), full: true, meters: vec![read, lost] };
    pinned("meters", &Report::Meters(meters));

    let hold = |number, machine: &str| GuardHold {
        number,
        feed: "xfmr-a".into(),
        machines: vec![machine.into()],
    };
    let feed = |feed: &str, state, wants| GuardedFeed {
        feed: feed.into(),
        state,
        guardable: Watts(5_940),
        wants: Watts(wants),
        acts: 2,
    };
    let guard = GuardReport {
        at: at(10),
        table: number(),
        last_hold: 7,
        holds: vec![hold(6, "acme.rig-1"), hold(7, "acme.rig-2")],
        feeds: vec![
            feed("site", GuardState::Watching, 0),
            feed("xfmr-a", GuardState::MeterLost, 1_200),
        ],
    };
    pinned("guard", &Report::Guard(guard));

    let driver = DriverReport { driver: "exec".to_owned(), concurrency: 4, command_p95_ms: 20_000 };
    let drivers = DriversReport { at: at(10), drivers: vec![driver] };
    pinned("drivers", &Report::Drivers(drivers));
}

#[test]
fn a_digest_is_sixteen_digits_and_nothing_else() {
    let mut digest = Digest::default();
    digest.add(session("a", 1).fingerprint());
    let text = serde_json::to_string(&digest).unwrap();
    assert_eq!(text.len(), 18, "{text}");
    assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
    for bad in ["\"\"", "\"12\"", "\"+123456789abcdef\"", "\"0123456789abcdefg\"", "17", "null"] {
        assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
    }
}

/// Other versions compute the same digest: these values are part of the wire format.
#[test]
fn the_digest_of_known_entries_never_changes() {
    let mut sender = ReportSender::new(1);
    let sessions = [session("acme.rig-1", 0), session("acme.rig-2", 7)];
    let digest = sender.report(sessions.iter().map(SessionReport::seen), at(0), None).digest;
    assert_eq!(digest.to_string(), "da78e53e9e2a4c81");
    let mut sender = ReportSender::new(1);
    // As reported by versions that did not know who put a machine to sleep.
    let machines = [machine("acme.rig-1", 0), machine("acme.rig-2", 2)].map(|one| MachineReport {
        asleep_by: None,
        unrecorded: false,
        ..one
    });
    let digest = sender.report(machines.iter().map(MachineReport::seen), at(0), None).digest;
    assert_eq!(digest.to_string(), "5e3f9800282ca319");
}

#[test]
fn every_field_of_an_entry_is_in_its_fingerprint_except_work() {
    let base = session("a", 1);
    let later = Some(at(9) + jiff::SignedDuration::from_nanos(1));
    for (what, other) in [
        ("machine", SessionReport { machine: "b".into(), ..base.clone() }),
        ("sessions", SessionReport { sessions: 2, ..base.clone() }),
        ("serving", SessionReport { serving: Serving::Parked, ..base.clone() }),
        ("shares", SessionReport { shares: 2, ..base.clone() }),
        ("last_share_at", SessionReport { last_share_at: later, ..base.clone() }),
        ("last_share_at", SessionReport { last_share_at: None, ..base.clone() }),
        ("still_hashing", SessionReport { still_hashing: 1, ..base.clone() }),
    ] {
        assert_ne!(other.fingerprint(), base.fingerprint(), "{what}");
    }
    assert_eq!(SessionReport { work: 1.0, ..base.clone() }.fingerprint(), base.fingerprint());
    let base = machine("a", 1);
    for (what, other) in [
        ("machine", MachineReport { machine: "a\0".into(), ..base.clone() }),
        ("state", MachineReport { state: DeviceState::Unknown, ..base.clone() }),
        ("watts", MachineReport { watts: None, ..base.clone() }),
        ("watts", MachineReport { watts: Some(Watts(-30)), ..base.clone() }),
        ("read_at", MachineReport { read_at: later, ..base.clone() }),
        ("slept_at", MachineReport { slept_at: None, ..base.clone() }),
        ("asleep_by", MachineReport { asleep_by: Some(AsleepBy::Other), ..base.clone() }),
        ("asleep_by", MachineReport { asleep_by: None, ..base.clone() }),
        ("unrecorded", MachineReport { unrecorded: false, ..base.clone() }),
        ("failures", MachineReport { failures: 2, ..base.clone() }),
        ("fault", MachineReport { fault: None, ..base.clone() }),
        ("fault", MachineReport { fault: Some(String::new()), ..base.clone() }),
    ] {
        assert_ne!(other.fingerprint(), base.fingerprint(), "{what}");
    }
}

#[test]
fn nothing_is_copied_where_nothing_has_changed() {
    let view: Vec<SessionReport> = (0..100).map(|i| session(&format!("m{i}"), i)).collect();
    let mut sender = ReportSender::new(1);
    let seen = || view.iter().map(SessionReport::seen);
    assert_eq!(sender.report(seen(), at(0), None).changed.len(), 100);
    sender.handed_over();
    let second = sender.report(seen(), at(1), None);
    assert_eq!((second.changed.len(), second.removed.len(), second.full), (0, 0, false));
}

#[test]
fn a_report_that_the_link_does_not_take_is_in_the_next_one() {
    let mut sender = ReportSender::new(1);
    let (a, b) = (session("a", 1), session("b", 1));
    sender.report([a.seen(), b.seen()], at(0), None);
    sender.handed_over();
    let more = session("a", 2);
    let dropped = sender.report([more.seen()], at(1), None);
    assert_eq!((dropped.seq, dropped.changed.len(), dropped.removed.len()), (2, 1, 1));
    let again = sender.report([more.seen()], at(2), None);
    assert_eq!(again, Delta { at: at(2), ..dropped });
    // A machine that has come back meanwhile is reported as changed.
    let back = sender.report([more.seen(), b.seen()], at(3), None);
    assert_eq!((back.seq, back.changed.len(), back.removed.len()), (2, 2, 0));
    sender.handed_over();
    let quiet = sender.report([more.seen(), b.seen()], at(4), None);
    assert_eq!((quiet.seq, quiet.changed.len()), (3, 0));
}

#[test]
fn a_request_during_a_report_is_answered_by_the_next() {
    let mut sender = ReportSender::new(1);
    let a = session("a", 1);
    sender.report([a.seen()], at(0), None);
    sender.handed_over();
    let delta = sender.report([a.seen()], at(1), None);
    assert!(!delta.full);
    assert!(sender.request(1));
    sender.handed_over();
    let full = sender.report([a.seen()], at(2), None);
    assert_eq!((full.full, full.resync), (true, 1));
    sender.handed_over();
    assert!(!sender.request(1));
    // A switchboard that has started anew asks with a lower number.
    assert!(sender.request(0));
}

#[test]
fn entries_above_the_bound_are_ignored_and_counted_without_endless_requests() {
    let view: Vec<SessionReport> = (0..10).map(|i| session(&format!("m{i}"), 1)).collect();
    let mut sender = ReportSender::new(1);
    let mut replica = Replica::default();
    let full = sender.report(view.iter().map(SessionReport::seen), at(0), None);
    let taken = replica.take(full, 8, |_, _| ());
    assert_eq!((taken.ignored, taken.current, taken.asked), (2, true, None));
    assert_eq!(replica.entries().len(), 8);
    sender.handed_over();
    for secs in 1..5 {
        let delta = sender.report(view.iter().map(SessionReport::seen), at(secs), None);
        sender.handed_over();
        let taken = replica.take(delta, 8, |_, _| ());
        assert_eq!((taken.current, taken.asked), (true, None), "the digest cannot be compared");
    }
    sender.report(view.iter().map(SessionReport::seen), at(6), None);
    sender.handed_over();
    let delta = sender.report(view.iter().map(SessionReport::seen), at(7), None);
    let taken = replica.take(delta, 8, |_, _| ());
    assert_eq!((taken.current, taken.asked), (false, Some(ResyncReason::Gap)));
}

#[test]
fn a_digest_that_differs_is_noticed_though_no_report_is_missing() {
    let mut sender = ReportSender::new(1);
    let mut replica = Replica::default();
    let (a, b) = (session("a", 1), session("b", 1));
    assert!(replica.take(sender.report([a.seen()], at(0), None), 9, |_, _| ()).current);
    sender.handed_over();
    let mut delta = sender.report([a.seen(), b.seen()], at(1), None);
    delta.changed.clear();
    sender.handed_over();
    let taken = replica.take(delta, 9, |_, _| ());
    assert_eq!((taken.current, taken.asked), (false, Some(ResyncReason::Digest)));
    // Until the sender has read the request, the replica does not ask again.
    let delta = sender.report([a.seen(), b.seen()], at(2), None);
    sender.handed_over();
    let taken = replica.take(delta, 9, |_, _| ());
    assert_eq!((taken.current, taken.asked, replica.resync()), (false, None, 1));
    assert!(sender.request(replica.resync()));
    let full = sender.report([a.seen(), b.seen()], at(3), None);
    assert!(full.full && replica.take(full, 9, |_, _| ()).current);
}

#[test]
fn two_ends_with_different_digests_notice_it_once_and_then_compare_numbers() {
    let mut sender = ReportSender::new(1);
    let mut replica = Replica::default();
    let mut asked = Vec::new();
    for shares in 0..10 {
        let a = session("a", shares);
        let mut delta = sender.report([a.seen()], at(0), None);
        delta.digest.add(session("what this version adds", 0).fingerprint());
        sender.handed_over();
        let taken = replica.take(delta, 9, |_, _| ());
        assert!(taken.current, "nothing is missing");
        asked.extend(taken.asked);
        sender.request(replica.resync());
        assert_eq!(replica.entries()[&a.machine], a);
    }
    assert_eq!(asked, [ResyncReason::Digest]);
    let (lost, next) = (session("a", 10), session("a", 11));
    sender.report([lost.seen()], at(0), None);
    sender.handed_over();
    let taken = replica.take(sender.report([next.seen()], at(0), None), 9, |_, _| ());
    assert_eq!((taken.current, taken.asked), (false, Some(ResyncReason::Gap)));
    sender.handed_over();
    // The next report follows without a gap, but the lost changes are still missing.
    let taken = replica.take(sender.report([next.seen()], at(0), None), 9, |_, _| ());
    assert_eq!((taken.current, taken.asked), (false, None));
    sender.handed_over();
    sender.request(replica.resync());
    // The full report is lost, too: the next one says that it was sent.
    assert!(sender.report([next.seen()], at(0), None).full);
    sender.handed_over();
    let taken = replica.take(sender.report([next.seen()], at(0), None), 9, |_, _| ());
    assert_eq!((taken.current, taken.asked), (false, Some(ResyncReason::Gap)));
    sender.handed_over();
    sender.request(replica.resync());
    let mut full = sender.report([next.seen()], at(0), None);
    full.digest.add(session("what this version adds", 0).fingerprint());
    assert!(full.full && replica.take(full, 9, |_, _| ()).current);
    sender.handed_over();
    // If the digests are equal again, as after an upgrade, they count again.
    let mut sender = ReportSender::new(2);
    assert!(replica.take(sender.report([next.seen()], at(0), None), 9, |_, _| ()).current);
    sender.handed_over();
    let mut delta = sender.report([lost.seen()], at(0), None);
    delta.changed.clear();
    let taken = replica.take(delta, 9, |_, _| ());
    assert!(!taken.current);
}
