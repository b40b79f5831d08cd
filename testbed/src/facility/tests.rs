use std::time::Duration;

use directive::{Actuator as _, DeviceState, Meter as _, MeterError};

use super::*;

fn start() -> Moment {
    Moment { at: clock::now(), wall: Timestamp::from_second(1_800_000_000).unwrap() }
}

fn rig(name: &str) -> MachineSpec {
    MachineSpec::new(name, Watts(3400), Watts(30))
}

fn facility(machines: Vec<MachineSpec>, now: Moment) -> SimFacility {
    SimFacility::new(FacilitySpec { machines, house: Watts(1000), ..FacilitySpec::default() }, now)
        .unwrap()
}

fn id(name: &str) -> MachineId {
    MachineId::from(name)
}

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

#[test]
fn power_falls_evenly_while_a_machine_goes_down_and_it_says_asleep_only_then() {
    let now = start();
    let facility = facility(vec![rig("a"), rig("b")], now);
    let hashing = facility.hashing(&id("a")).unwrap();
    assert_eq!(facility.power(now).feed(), Watts(7800));
    facility.sleep(&id("a"), now).unwrap();
    assert_eq!(facility.machine_watts(&id("a"), now.after(secs(0.5))), Some(Watts(1715)));
    assert!(!*hashing.borrow());
    assert_eq!(facility.read(&id("a"), now.after(secs(0.9))).unwrap().state, DeviceState::Awake);
    let reading = facility.read(&id("a"), now.after(secs(1.0))).unwrap();
    assert_eq!((reading.state, reading.watts), (DeviceState::Asleep, Some(Watts(30))));
    assert_eq!(facility.power(now.after(secs(1.0))).feed(), Watts(4430));

    facility.wake(&id("a"), now.after(secs(10.0))).unwrap();
    assert_eq!(facility.machine_watts(&id("a"), now.after(secs(11.0))), Some(Watts(1715)));
    assert!(!*hashing.borrow());
    assert_eq!(facility.power(now.after(secs(12.0))).feed(), Watts(7800));
    assert!(*hashing.borrow());
}

#[test]
fn a_machine_may_turn_round_on_its_way() {
    let now = start();
    let facility = facility(vec![rig("a")], now);
    facility.sleep(&id("a"), now).unwrap();
    facility.wake(&id("a"), now.after(secs(0.5))).unwrap();
    assert_eq!(
        facility.machine_watts(&id("a"), now.after(secs(0.5))),
        Some(Watts(1715)),
        "no jump"
    );
    assert_eq!(facility.machine_watts(&id("a"), now.after(secs(2.5))), Some(Watts(3400)));
}

#[test]
fn behaviours_are_what_they_are_called() {
    let now = start();
    let with = |name: &str, behaviour| MachineSpec { behaviour, ..rig(name) };
    let facility = facility(
        vec![
            with("refuses", Behaviour::Refuses),
            with("lies", Behaviour::Lies),
            with("slow", Behaviour::SlowSleeper),
            with("wakes", Behaviour::WakesByItself { after: secs(5.0) }),
            MachineSpec { reachable: false, ..rig("starved") },
        ],
        now,
    );
    let watts =
        |name: &str, after: f64| facility.machine_watts(&id(name), now.after(secs(after))).unwrap();
    let says =
        |name: &str, after: f64| facility.read(&id(name), now.after(secs(after))).unwrap().state;
    assert!(matches!(facility.sleep(&id("refuses"), now), Err(ActuatorError::Refused { .. })));
    assert!(matches!(facility.sleep(&id("starved"), now), Err(ActuatorError::Failed { .. })));
    assert!(matches!(facility.sleep(&id("nobody"), now), Err(ActuatorError::Failed { .. })));
    for name in ["lies", "slow", "wakes"] {
        facility.sleep(&id(name), now).unwrap();
    }
    assert_eq!((says("lies", 2.0), watts("lies", 2.0)), (DeviceState::Asleep, Watts(3400)));
    assert!(*facility.hashing(&id("lies")).unwrap().borrow(), "it hashes on");
    assert_eq!((says("slow", 9.0), says("slow", 10.0)), (DeviceState::Awake, DeviceState::Asleep));
    assert_eq!((says("wakes", 5.9), watts("wakes", 5.9)), (DeviceState::Asleep, Watts(30)));
    assert_eq!((says("wakes", 6.1), watts("wakes", 8.0)), (DeviceState::Awake, Watts(3400)));
    assert_eq!(watts("starved", 8.0), Watts(3400));
}

#[test]
fn the_trace_tells_the_least_headroom_of_an_interval() {
    let now = start();
    let facility = facility(vec![rig("a")], now);
    let tenant =
        TenantSpec { watts: Watts(2000), start: now.wall, end: None, ramp: Duration::ZERO };
    facility.set_tenant("gpu".into(), tenant);
    facility.sample(now);
    facility.sleep(&id("a"), now).unwrap();
    facility.sample(now.after(secs(1.0)));
    facility.sample(now.after(secs(2.0)));
    let whole = facility.min_headroom(Watts(5000), now.wall, now.after(secs(2.0)).wall).unwrap();
    assert_eq!(
        (whole.watts, whole.at, whole.samples),
        (Watts(600), now.wall, 3),
        "the tenant's own load does not count"
    );
    let later = facility
        .min_headroom(Watts(5000), now.after(secs(1.0)).wall, now.after(secs(2.0)).wall)
        .unwrap();
    assert_eq!(later.watts, Watts(3970));
    assert_eq!(
        facility.min_headroom(Watts(5000), now.after(secs(3.0)).wall, now.after(secs(4.0)).wall),
        None
    );
}

#[test]
fn a_full_trace_drops_its_oldest_samples() {
    let mut trace = Trace::default();
    let power = Power { mining: Watts(1), tenants: Watts::ZERO, house: Watts::ZERO };
    for second in 0..72_010 {
        trace.push(Sample { at: Timestamp::from_second(second).unwrap(), power });
    }
    assert_eq!(trace.samples().count(), 72_000);
    assert_eq!(trace.samples().next().unwrap().at.as_second(), 10);
}

#[test]
fn meters_fail_as_they_are_told() {
    let now = start();
    let facility = facility(vec![rig("a")], now);
    let meter = facility.feed_meter();
    let twin = meter.clone();
    assert_eq!(meter.measure(now).unwrap().watts, Watts(4400));
    facility.set_house(Watts(5000));
    let later = now.after(secs(60.0));
    twin.set_fault(MeterFault::Frozen);
    let frozen = meter.measure(later).unwrap();
    assert_eq!((frozen.watts, frozen.taken_at), (Watts(4400), later.wall));
    twin.set_fault(MeterFault::Stale);
    assert_eq!(meter.measure(later.after(secs(1.0))).unwrap().taken_at, later.wall);
    twin.set_fault(MeterFault::Silent);
    assert!(matches!(meter.measure(later), Err(MeterError::Unreachable { .. })));
    twin.set_fault(MeterFault::NotANumber);
    assert!(matches!(meter.measure(later), Err(MeterError::Unreadable { .. })));
    twin.set_fault(MeterFault::None);
    assert_eq!(meter.measure(later).unwrap().watts, Watts(8400));
}

#[test]
fn specifications_that_cannot_be_are_refused() {
    let twice = FacilitySpec { machines: vec![rig("a"), rig("a")], ..FacilitySpec::default() };
    assert_eq!(
        SimFacility::new(twice, start()).unwrap_err().to_string(),
        "machine a: declared twice"
    );
    let hot = MachineSpec::new("a", Watts(10), Watts(20));
    let spec = FacilitySpec { machines: vec![hot], ..FacilitySpec::default() };
    assert!(matches!(SimFacility::new(spec, start()), Err(SpecError::Residual { .. })));
}

#[tokio::test]
async fn the_sampler_moves_the_flags_and_fills_the_trace() {
    let spec = MachineSpec { sleep_time: Duration::ZERO, wake_time: secs(0.15), ..rig("a") };
    let facility = facility(vec![spec], clock::moment());
    let stop = CancellationToken::new();
    let sampler = facility.spawn_sampler(stop.clone());
    let actuator = facility.actuator();
    let mut hashing = facility.hashing(&id("a")).unwrap();
    actuator.sleep(&id("a")).await.unwrap();
    hashing.wait_for(|hashing| !hashing).await.unwrap();
    assert_eq!(actuator.read(&id("a")).await.unwrap().state, DeviceState::Asleep);
    assert_eq!(facility.feed_meter().read().await.unwrap().watts, Watts(1030));
    actuator.wake(&id("a")).await.unwrap();
    tokio::time::timeout(secs(10.0), hashing.wait_for(|hashing| *hashing)).await.unwrap().unwrap();
    stop.cancel();
    sampler.await.unwrap();
    assert!(!facility.trace().is_empty());
}
