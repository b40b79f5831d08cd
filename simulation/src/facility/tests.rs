use directive::DeviceState;
use jiff::Timestamp;

use super::spec::{FeedSpec, Habits, MachineSpec, Start};
use super::*;
use crate::record::{Cause, MeterFault, Span};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn machine(name: &str, feed: &str) -> MachineSpec {
    MachineSpec {
        id: name.into(),
        group: "g".into(),
        feed: feed.into(),
        awake: Watts(3_000),
        residual: Watts(30),
        poolless: Watts(200),
        poolless_after: secs(10_000),
        sleep_time: secs(4),
        wake_time: secs(20),
        habits: Habits::default(),
        start: Start::Awake,
    }
}

fn feed(name: &str, parent: Option<&str>, house: i64) -> FeedSpec {
    FeedSpec {
        id: name.into(),
        parent: parent.map(FeedId::from),
        limit: Watts(100_000),
        limits: Vec::new(),
        continuous_factor: 1.0,
        reserve: Watts::ZERO,
        declared_house: Watts(house),
        default_constraint: Watts(50_000),
        house: vec![(Duration::ZERO, Watts(house))],
    }
}

fn meter(name: &str, of: Measured) -> MeterSpec {
    let (period, lag) = (secs(5), secs(2));
    MeterSpec { id: name.into(), of, period, lag, noise_ppm: 0, faults: Vec::new() }
}

/// Two feeds, `poi` above `f1`, with one machine at `f1`.
fn facility(change: impl FnOnce(&mut FacilitySpec)) -> Facility {
    let mut spec = FacilitySpec {
        begins: Timestamp::UNIX_EPOCH,
        feeds: vec![feed("poi", None, 500), feed("f1", Some("poi"), 0)],
        groups: Vec::new(),
        machines: vec![machine("m", "f1")],
        meters: vec![meter("m-poi", Measured::Feed("poi".into())), meter("t", Measured::Tenants)],
        seed: 1,
    };
    change(&mut spec);
    Facility::new(spec)
}

fn load(facility: &Facility, feed: &str, at: u64) -> i64 {
    facility.record().feeds[feed].load.at(secs(at)).0
}

fn states(facility: &Facility) -> Vec<(u64, State, Cause)> {
    let changes = facility.record().entries.iter().filter_map(|entry| match &entry.event {
        Event::Machine { to, cause, .. } => Some((entry.at.as_secs(), *to, *cause)),
        _ => None,
    });
    changes.collect()
}

fn noticed(notices: &[Notice]) -> Vec<(u64, Noticed)> {
    notices.iter().map(|notice| (notice.at.as_secs(), notice.what)).collect()
}

#[test]
fn a_machine_sleeps_and_wakes_in_its_own_time_and_every_feed_above_it_shows_that() {
    let mut facility = facility(|_| {});
    let m = MachineId::from("m");
    facility.serve(&m, true, secs(1));
    let begun = facility.step(secs(1));
    assert_eq!(noticed(&begun), [(0, Noticed::Connected), (1, Noticed::HashingBegan)]);
    let (answer, _) = facility.command(&m, Order::Sleep, Commander::Agent, secs(10)).unwrap();
    assert_eq!(answer, Ok(()));
    facility.command(&m, Order::Wake, Commander::Agent, secs(30));
    let rest = facility.step(secs(100));
    assert_eq!(
        noticed(&rest),
        [(14, Noticed::HashingEnded), (14, Noticed::Disconnected), (50, Noticed::Connected)]
    );
    let by = Commander::Agent;
    assert_eq!(
        states(&facility),
        [
            (10, State::FallingAsleep, Cause::Commanded { by, arrived: secs(10) }),
            (14, State::Asleep, Cause::Completed),
            (30, State::Waking, Cause::Commanded { by, arrived: secs(30) }),
            (50, State::Awake, Cause::Completed),
        ]
    );
    for (at, watts) in [(0, 3_000), (13, 3_000), (14, 30), (39, 30), (40, 2_100), (50, 3_000)] {
        assert_eq!(load(&facility, "f1", at), watts, "f1 at {at}");
        assert_eq!(load(&facility, "poi", at), watts + 500, "poi at {at}");
    }
}

#[test]
fn a_machine_without_work_goes_on_drawing_for_a_while_and_never_draws_nothing() {
    let mut facility = facility(|spec| spec.machines[0].poolless_after = secs(300));
    let m = MachineId::from("m");
    facility.serve(&m, true, secs(0));
    facility.serve(&m, false, secs(100));
    facility.step(secs(1_000));
    assert_eq!([load(&facility, "f1", 399), load(&facility, "f1", 400)], [3_000, 200]);
    facility.serve(&m, true, secs(1_000));
    assert_eq!(load(&facility, "f1", 1_000), 3_000);
}

#[test]
fn a_liar_reads_asleep_and_draws_until_a_person_comes() {
    let mut facility = facility(|spec| spec.machines[0].habits.lies = true);
    let m = MachineId::from("m");
    facility.command(&m, Order::Sleep, Commander::Agent, secs(1));
    let (says, _) = facility.read(&m, secs(60)).unwrap();
    assert_eq!(says, Ok((DeviceState::Asleep, Watts(30))));
    assert_eq!(load(&facility, "f1", 60), 3_000);
    facility.command(&m, Order::Sleep, Commander::Technician, secs(70));
    facility.step(secs(90));
    assert_eq!(load(&facility, "f1", 80), 30);
}

#[test]
fn devices_refuse_hang_come_late_and_do_it_twice() {
    let refuses = |spec: &mut FacilitySpec| spec.machines[0].habits.refuses = true;
    let m = MachineId::from("m");
    let mut refusing = facility(refuses);
    let (answer, _) = refusing.command(&m, Order::Sleep, Commander::Agent, secs(1)).unwrap();
    assert!(answer.is_err() && states(&refusing).is_empty());

    let mut hanging = facility(|spec| spec.machines[0].habits.hangs_percent = 100);
    let sleeps = (0..20).map(|_| hanging.command(&m, Order::Sleep, Commander::Agent, secs(1)));
    assert_eq!(sleeps.filter(Option::is_some).count(), 0);
    hanging.step(secs(60));
    assert_eq!(hanging.machine(&m).unwrap().0, State::Asleep, "half of them take effect");

    let mut late = facility(|spec| {
        spec.machines[0].habits.late = Some((100, secs(30)));
        spec.machines[0].habits.repeated = Some((100, secs(60)));
    });
    late.command(&m, Order::Sleep, Commander::Agent, secs(1));
    late.command(&m, Order::Wake, Commander::Technician, secs(50));
    late.step(secs(200));
    let fell = states(&late).iter().filter(|(_, to, _)| *to == State::Asleep).count();
    assert_eq!((states(&late)[0].0, fell), (31, 2), "late, and once more at 91 s");
}

#[test]
fn devices_wake_restart_and_die_by_themselves() {
    let m = MachineId::from("m");
    let mut waking = facility(|spec| spec.machines[0].habits.wakes_after = Some(secs(100)));
    waking.command(&m, Order::Sleep, Commander::Agent, secs(0));
    waking.step(secs(200));
    assert_eq!(states(&waking)[2], (104, State::Waking, Cause::ByItself));

    let mut rebooting = facility(|spec| spec.machines[0].habits.reboots_every = Some(secs(100)));
    rebooting.step(secs(250));
    let restarts = states(&rebooting);
    assert_eq!(restarts.iter().filter(|(_, to, _)| *to == State::Waking).count(), 2);

    let mut dying = facility(|spec| spec.machines[0].habits.dies_at = Some(secs(50)));
    dying.step(secs(60));
    assert_eq!(states(&dying), [(50, State::Dead, Cause::Failure)]);
    assert_eq!(load(&dying, "f1", 50), 0);
    assert!(dying.read(&m, secs(61)).is_none());
    assert!(dying.command(&m, Order::Sleep, Commander::Agent, secs(61)).is_none());

    let mut off = facility(|spec| spec.machines[0].start = Start::OffUntil(secs(30)));
    assert_eq!(load(&off, "f1", 0), 0);
    off.step(secs(40));
    assert_eq!(states(&off), [(30, State::Awake, Cause::ByItself)]);
}

#[test]
fn a_tenant_is_on_its_meter_and_on_every_feed_above_it() {
    let mut facility = facility(|spec| spec.meters[1].lag = Duration::ZERO);
    let of = |end| TenantSpec {
        lease: "l".into(),
        feed: "f1".into(),
        meter: Some("t".into()),
        draws: vec![(secs(100), Watts(10_000)), (end, Watts::ZERO)],
    };
    facility.tenant(of(secs(500)), secs(0));
    facility.step(secs(200));
    assert_eq!([load(&facility, "f1", 99), load(&facility, "f1", 100)], [3_000, 13_000]);
    assert_eq!(load(&facility, "poi", 150), 13_500);
    let sample = facility.meter(&"t".into(), secs(200)).unwrap();
    assert_eq!(sample, Sample { watts: Watts(10_000), taken: secs(200) });
    facility.tenant(of(secs(300)), secs(250));
    facility.step(secs(600));
    assert_eq!(load(&facility, "f1", 299), 13_000);
    assert_eq!(load(&facility, "f1", 300), 3_000, "the former schedule no longer counts");
}

#[test]
fn a_meter_lags_and_its_faults_show_as_faults_do() {
    let of = |fault| {
        facility(|spec| {
            spec.feeds[0].house.push((secs(100), Watts(1_500)));
            spec.meters[0].faults = vec![(secs(50), Some(fault)), (secs(200), None)];
        })
    };
    let show = |facility: &mut Facility, at: u64| {
        facility.meter(&"m-poi".into(), secs(at)).map(|sample| (sample.watts.0, sample.taken))
    };
    let mut right = facility(|spec| spec.feeds[0].house.push((secs(100), Watts(1_500))));
    assert_eq!(show(&mut right, 1), None, "no sample is ready yet");
    assert_eq!(show(&mut right, 101), Some((3_500, secs(95))));
    assert_eq!(show(&mut right, 102), Some((4_500, secs(100))));
    let mut frozen = of(MeterFault::Frozen);
    assert_eq!(show(&mut frozen, 150), Some((3_500, secs(145))), "its times go on");
    assert_eq!(show(&mut frozen, 250), Some((4_500, secs(245))));
    assert_eq!(show(&mut of(MeterFault::Factor(1_000.0)), 60), Some((3_500_000, secs(55))));
    assert_eq!(show(&mut of(MeterFault::Lost), 60), None);
}

#[test]
fn noise_stays_within_what_is_stated_and_is_the_same_at_each_read() {
    let mut facility = facility(|spec| spec.meters[0].noise_ppm = 5_000);
    let mut seen = std::collections::BTreeSet::new();
    for at in (10..1_000).step_by(5) {
        let sample = facility.meter(&"m-poi".into(), secs(at)).unwrap();
        assert!((sample.watts.0 - 3_500).abs() <= 18, "{sample:?}");
        assert_eq!(facility.meter(&"m-poi".into(), secs(at)), Some(sample));
        seen.insert(sample.watts);
    }
    assert!(seen.len() > 10, "it does vary");
}

#[test]
fn late_steps_lose_nothing() {
    let run = |every: u64| {
        let mut facility = facility(|spec| {
            spec.machines[0].habits.wakes_after = Some(secs(7));
            spec.machines[0].habits.reboots_every = Some(secs(131));
        });
        facility.command(&"m".into(), Order::Sleep, Commander::Agent, secs(0));
        (0..=600).step_by(usize::try_from(every).unwrap()).for_each(|at| {
            facility.step(secs(at));
        });
        facility.end(secs(600))
    };
    let fine = run(1);
    assert_eq!(fine, run(600));
    let all = Span { from: Duration::ZERO, to: secs(600) };
    assert_eq!(fine.feeds["f1"].load.min(all), Watts(30));
}

#[test]
fn a_feed_without_power_draws_nothing_and_its_machines_boot_awake_when_it_is_back() {
    let mut facility = facility(|spec| {
        spec.feeds = vec![feed("poi", None, 500), feed("f1", Some("poi"), 1_000)];
        let keeps = MachineSpec {
            habits: Habits { remembers_sleep: true, ..Habits::default() },
            ..machine("keeps", "f1")
        };
        let broken = MachineSpec {
            habits: Habits { dies_at: Some(secs(5)), ..Habits::default() },
            ..machine("broken", "f1")
        };
        spec.machines = vec![machine("works", "f1"), machine("sleeps", "f1"), keeps, broken];
    });
    facility.tenant(
        TenantSpec {
            lease: "l".into(),
            feed: "f1".into(),
            meter: Some("t".into()),
            draws: vec![(secs(20), Watts(7_000)), (secs(150), Watts(2_000))],
        },
        secs(1),
    );
    for name in ["sleeps", "keeps"] {
        facility.command(&name.into(), Order::Sleep, Commander::Agent, secs(10));
    }
    facility.step(secs(99));
    assert_eq!(load(&facility, "f1", 99), 1_000 + 7_000 + 3_000 + 30 + 30);
    facility.set_power(&"f1".into(), false, secs(100));
    // A command on its way, and a change of what the tenant wants, come to nothing.
    assert_eq!(facility.command(&"works".into(), Order::Sleep, Commander::Agent, secs(101)), None);
    assert_eq!(facility.read(&"sleeps".into(), secs(101)), None);
    // A feed above it that goes and comes back meanwhile changes nothing below.
    facility.set_power(&"poi".into(), false, secs(160));
    facility.set_power(&"poi".into(), true, secs(180));
    let noticed = facility.step(secs(199));
    assert_eq!(noticed.last().map(|last| last.what), Some(Noticed::Disconnected));
    assert_eq!((load(&facility, "f1", 199), load(&facility, "poi", 199)), (0, 500));
    assert_eq!(facility.meter(&"t".into(), secs(199)).map(|sample| sample.watts), Some(Watts(0)));

    facility.set_power(&"f1".into(), true, secs(200));
    assert_eq!(load(&facility, "f1", 201), 1_000 + 2_000, "house and tenant are back at once");
    facility.step(secs(229));
    assert_eq!(load(&facility, "f1", 229), 1_000 + 2_000, "no machine boots within 30 s");
    facility.step(secs(321));
    let state = |name: &str| facility.machine(&name.into()).map(|(state, ..)| state);
    assert_eq!(
        ["works", "sleeps", "keeps", "broken"].map(state),
        [State::Awake, State::Awake, State::Asleep, State::Dead].map(Some)
    );
    let lost = states(&facility).into_iter().filter(|(.., cause)| *cause == Cause::Power);
    assert_eq!(lost.collect::<Vec<_>>(), [(100, State::Dead, Cause::Power); 3]);
}
