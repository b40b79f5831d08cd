use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::clock;
use crate::facility::MachineSpec;

fn start() -> Moment {
    Moment { at: clock::now(), wall: Timestamp::from_second(1_800_000_000).unwrap() }
}

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn open(dir: &Path, now: Moment) -> FileFacility {
    let machines =
        ["acme.rig-1", "acme.rig-2"].map(|name| MachineSpec::new(name, Watts(3400), Watts(30)));
    let spec =
        FacilitySpec { machines: machines.into(), house: Watts(1000), ..FacilitySpec::default() };
    let tenant = TenantSpec { watts: Watts(5000), start: now.wall, end: None, ramp: secs(10.0) };
    let meters = MeterFiles { feed: dir.join("feed-a.kw"), tenant: Some(dir.join("gpu.kw")) };
    FileFacility::open(dir, spec, Some(tenant), meters, now).unwrap()
}

fn meter(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn a_machine_follows_its_state_file_and_the_meters_show_it() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, now) = (dir.path(), start());
    let rig = MachineId::from("acme.rig-1");
    let mut facility = open(dir, now);
    assert_eq!(read(dir, &rig).unwrap(), "awake", "nobody has looked at it yet");
    facility.step(now).unwrap();
    assert_eq!(read(dir, &rig).unwrap(), "awake 3400");
    assert_eq!(meter(dir, "feed-a.kw"), "7.800 2027-01-15T08:00:00Z\n");
    set(dir, &rig, DeviceState::Asleep).unwrap();
    facility.step(now).unwrap();
    assert!(read(dir, &rig).unwrap().starts_with("awake"), "not yet down");
    facility.step(now.after(secs(1.0))).unwrap();
    assert_eq!(read(dir, &rig).unwrap(), "asleep 30");
    assert!(!is_hashing(dir, &rig).unwrap());
    assert_eq!(meter(dir, "feed-a.kw"), "4.930 2027-01-15T08:00:01Z\n");
    assert_eq!(meter(dir, "gpu.kw"), "0.500 2027-01-15T08:00:01Z\n");

    // A facility started again on these files finds the machine asleep.
    let mut facility = open(dir, now);
    facility.step(now.after(secs(0.0))).unwrap();
    assert_eq!(read(dir, &rig).unwrap(), "asleep 30");
    set(dir, &rig, DeviceState::Awake).unwrap();
    facility.step(now.after(secs(1.0))).unwrap();
    facility.step(now.after(secs(3.0))).unwrap();
    assert_eq!(read(dir, &rig).unwrap(), "awake 3400");
}

#[test]
fn behaviours_come_from_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, now) = (dir.path(), start());
    let (one, two) = (MachineId::from("acme.rig-1"), MachineId::from("acme.rig-2"));
    let mut facility = open(dir, now);
    facility.step(now).unwrap();
    fs::write(dir.join("acme.rig-1.behaviour"), "refuses\n").unwrap();
    assert!(matches!(set(dir, &one, DeviceState::Asleep), Err(FilesError::Refused(_))));
    fs::write(dir.join("acme.rig-1.behaviour"), "lies\n").unwrap();
    fs::write(dir.join("acme.rig-2.behaviour"), "wakes 5s\n").unwrap();
    set(dir, &one, DeviceState::Asleep).unwrap();
    set(dir, &two, DeviceState::Asleep).unwrap();
    facility.step(now).unwrap();
    facility.step(now.after(secs(1.0))).unwrap();
    assert_eq!(read(dir, &one).unwrap(), "asleep 30", "so it says");
    assert!(is_hashing(dir, &one).unwrap());
    assert_eq!(
        facility.facility().machine_watts(&one, now.after(secs(1.0))),
        Some(Watts(3400)),
        "so it is"
    );
    assert_eq!(read(dir, &two).unwrap(), "asleep 30");
    facility.step(now.after(secs(9.0))).unwrap();
    assert_eq!(read(dir, &two).unwrap(), "awake 3400", "it woke by itself");
    set(dir, &two, DeviceState::Asleep).unwrap();
    facility.step(now.after(secs(9.0))).unwrap();
    facility.step(now.after(secs(10.0))).unwrap();
    assert_eq!(read(dir, &two).unwrap(), "asleep 30", "and can be put back");
    facility.step(now.after(secs(10.0))).unwrap();
    assert!(meter(dir, "feed-a.kw").starts_with("9.430 "), "{}", meter(dir, "feed-a.kw"));
}

#[test]
fn nonsense_in_a_file_is_named_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, now) = (dir.path(), start());
    let mut facility = open(dir, now);
    fs::write(dir.join("acme.rig-1.state"), "sleepy").unwrap();
    set(dir, &MachineId::from("acme.rig-2"), DeviceState::Asleep).unwrap();
    facility.step(now).unwrap_err();
    let error = facility.step(now.after(secs(1.0))).unwrap_err().to_string();
    assert!(error.contains("acme.rig-1.state") && error.contains("sleepy"), "{error}");
    assert!(meter(dir, "feed-a.kw").starts_with("4.930 "));
    fs::write(dir.join("acme.rig-2.behaviour"), "dances").unwrap();
    assert!(matches!(
        set(dir, &MachineId::from("acme.rig-2"), DeviceState::Asleep),
        Err(FilesError::Content { .. })
    ));
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["", "../x", "a/b", ".hidden", "a b", "a\0b"] {
        let error = set(dir.path(), &MachineId::from(bad), DeviceState::Asleep).unwrap_err();
        assert!(matches!(error, FilesError::Name(_)), "{bad:?}: {error}");
    }
}
