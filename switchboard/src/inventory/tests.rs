use directive::Serving;

use super::*;
use crate::feed_sums::FeedSums;
use crate::fixture::{at, lease, origin, policy};
use crate::lease::Lease;

fn meter(id: &str, watts: Option<i64>, taken: i64) -> MeterReport {
    MeterReport {
        meter: id.into(),
        watts: watts.map(Watts),
        taken_at: Some(at(taken)),
        fault: None,
    }
}

fn device(state: DeviceState, read: i64, slept: i64, failures: u32) -> MachineReport {
    let (read_at, slept_at) = (Some(at(read)), Some(at(slept)));
    MachineReport {
        machine: "old.000".into(),
        state,
        watts: None,
        read_at,
        slept_at,
        failures,
        fault: None,
    }
}

struct Seen {
    inventory: Inventory,
    policy: Policy,
    origin: Instant,
}

impl Seen {
    fn new() -> Self {
        Self { inventory: Inventory::default(), policy: policy(), origin: origin() }
    }

    fn now(&self, secs: i64) -> Instant {
        self.origin + Duration::from_secs(u64::try_from(secs).unwrap())
    }

    fn agent(&mut self, secs: i64, machines: Vec<MachineReport>, meters: Vec<MeterReport>) {
        let report =
            AgentReport { receiver: "agent".into(), at: at(secs), number: None, machines, meters };
        self.inventory.take(&self.policy, Report::Agent(report), self.now(secs));
    }

    fn share(&mut self, secs: i64, last_share: i64) {
        let session = SessionReport {
            machine: "old.000".into(),
            sessions: 1,
            serving: Serving::Working,
            shares: 1,
            work: 1.0,
            last_share_at: Some(at(last_share)),
            still_hashing: 0,
        };
        let report = ProxyReport {
            receiver: "proxy".into(),
            at: at(secs),
            number: None,
            sessions: vec![session],
        };
        self.inventory.take(&self.policy, Report::Proxy(report), self.now(secs));
    }

    fn headroom(&self, leases: &[Lease], secs: i64) -> Option<i64> {
        let feed = self.policy.facility.feeds().number(&"a".into()).unwrap();
        let feeds = self.policy.facility.feeds();
        let mut sums = FeedSums::new(feeds);
        sums.take_leases(feeds, leases);
        sums.read(feeds, at(secs), |meter| {
            Some(self.inventory.metered(meter, at(secs), self.now(secs))?.0)
        });
        let leased = sums.leased(feed);
        let headroom = self.inventory.headroom(&feeds[feed], leased, at(secs), self.now(secs));
        headroom.map(|headroom| headroom.watts.0)
    }

    /// The state of `old.000`, told to go at 100; it has 30 s.
    fn state(&self, secs: i64) -> MachineState {
        let chosen = Chosen {
            group: "old".into(),
            lease: None,
            at: at(100),
            until: None,
            edge: None,
            means: Means::Device,
            passed_on: false,
        };
        self.inventory.state(
            &self.policy,
            &"old.000".into(),
            Some(&chosen),
            at(secs),
            self.now(secs),
        )
    }
}

// Feed a may carry 50 kW.
#[test]
fn headroom_is_what_the_meter_leaves_and_leases_draw_counts_only_where_it_is_measured() {
    let mut seen = Seen::new();
    let metered = Lease { meter: Some("tenant".into()), ..lease("l", "a", 20_000, 0, 900) };
    let blind = lease("m", "a", 20_000, 0, 900);
    seen.agent(1, vec![], vec![meter("m-a", Some(45_000), 1), meter("tenant", Some(15_000), 1)]);
    assert_eq!(seen.headroom(&[], 1), Some(5_000));
    assert_eq!(seen.headroom(&[blind], 1), Some(5_000), "estimated low");
    assert_eq!(seen.headroom(std::slice::from_ref(&metered), 1), Some(20_000));
    seen.agent(2, vec![], vec![meter("m-a", Some(45_000), 2), meter("tenant", Some(30_000), 2)]);
    assert_eq!(
        seen.headroom(std::slice::from_ref(&metered), 2),
        Some(25_000),
        "no more than is rented"
    );
    seen.agent(3, vec![], vec![meter("m-a", Some(45_000), 3)]);
    assert_eq!(seen.headroom(&[metered], 3), Some(5_000));
}

#[test]
fn what_a_meter_shows_counts_once_however_many_leases_name_it() {
    let mut seen = Seen::new();
    let named = |id, watts, start, end| Lease {
        meter: Some("tenant".into()),
        ..lease(id, "a", watts, start, end)
    };
    let (now, next) = (named("l", 20_000, 0, 900), named("m", 20_000, 900, 1800));
    seen.agent(
        100,
        vec![],
        vec![meter("m-a", Some(50_000), 100), meter("tenant", Some(20_000), 100)],
    );
    assert_eq!(seen.headroom(&[now.clone(), next], 100), Some(20_000), "the same 20 kW, rented on");
    let beside = named("n", 10_000, 0, 900);
    seen.agent(
        101,
        vec![],
        vec![meter("m-a", Some(50_000), 101), meter("tenant", Some(40_000), 101)],
    );
    assert_eq!(seen.headroom(&[now, beside], 101), Some(30_000), "two at once may draw both");
}

#[test]
fn a_meter_that_cannot_be_trusted_says_nothing() {
    for (what, report, secs) in [
        ("no value", meter("m-a", None, 1), 1),
        ("negative", meter("m-a", Some(-5), 1), 1),
        ("beyond sense", meter("m-a", Some(Watts::LIMIT.0 + 1), 1), 1),
        ("from the future", meter("m-a", Some(5), 60), 1),
        ("old when it came", meter("m-a", Some(5), 0), 11),
    ] {
        let mut seen = Seen::new();
        seen.agent(secs, vec![], vec![report]);
        assert_eq!(seen.headroom(&[], secs), None, "{what}");
    }
}

#[test]
fn a_meter_whose_time_stands_still_goes_stale_though_reports_go_on() {
    let mut seen = Seen::new();
    for secs in 1..=11 {
        seen.agent(secs, vec![], vec![meter("m-a", Some(5), 1)]);
    }
    assert_eq!(seen.headroom(&[], 11), Some(49_995));
    seen.agent(12, vec![], vec![meter("m-a", Some(5), 1)]);
    assert_eq!(seen.headroom(&[], 12), None);
}

#[test]
fn asleep_counts_from_a_reading_newer_than_the_command() {
    let mut seen = Seen::new();
    assert_eq!(seen.state(99), MachineState::Running);
    seen.agent(105, vec![device(DeviceState::Asleep, 99, 101, 0)], vec![]);
    assert_eq!(seen.state(105), MachineState::Commanded, "read before it was told");
    seen.agent(110, vec![device(DeviceState::Asleep, 109, 101, 0)], vec![]);
    assert_eq!(seen.state(110), MachineState::Curtailed);
    assert_eq!(seen.state(126), MachineState::Commanded, "the report is too old to count");
    assert_eq!(seen.state(140), MachineState::Unknown);
}

#[test]
fn one_that_stays_awake_or_fails_is_disobedient() {
    let mut seen = Seen::new();
    seen.agent(129, vec![device(DeviceState::Awake, 129, 101, 0)], vec![]);
    assert_eq!(seen.state(129), MachineState::Commanded);
    seen.agent(130, vec![device(DeviceState::Awake, 130, 101, 0)], vec![]);
    assert_eq!(seen.state(130), MachineState::Disobedient);
    seen.agent(115, vec![device(DeviceState::Unknown, 114, 101, 3)], vec![]);
    assert_eq!(seen.state(115), MachineState::Disobedient, "three commands in vain");
}

#[test]
fn shares_convict_a_device_that_says_it_sleeps() {
    let mut seen = Seen::new();
    seen.agent(110, vec![device(DeviceState::Asleep, 110, 101, 0)], vec![]);
    seen.share(112, 112);
    assert_eq!(seen.state(112), MachineState::Curtailed, "that one was on its way");
    seen.agent(118, vec![device(DeviceState::Asleep, 118, 101, 0)], vec![]);
    seen.share(118, 117);
    assert_eq!(
        seen.state(118),
        MachineState::Disobedient,
        "the sleep began at 110, not with the newest reading"
    );
    seen.agent(238, vec![device(DeviceState::Asleep, 238, 101, 0)], vec![]);
    assert_eq!(seen.state(238), MachineState::Curtailed, "quiet for long enough");
}

#[test]
fn a_proxys_machines_are_counted_by_how_they_are_served() {
    let mut seen = Seen::new();
    let session = |name: &str, serving| SessionReport {
        machine: name.into(),
        sessions: 1,
        serving,
        shares: 0,
        work: 0.0,
        last_share_at: None,
        still_hashing: 0,
    };
    let sessions = vec![
        session("a", Serving::Parked),
        session("b", Serving::Working),
        session("c", Serving::Parked),
    ];
    let report = ProxyReport { receiver: "p".into(), at: at(0), number: None, sessions };
    seen.inventory.take(&seen.policy, Report::Proxy(report), seen.origin);
    seen.agent(0, vec![device(DeviceState::Awake, 0, 0, 0)], vec![]);
    let views = seen.inventory.receivers(&seen.policy, seen.origin);
    let serving = |role| {
        views.iter().find(|view| view.role == role).map(|view| view.machines_by_serving.clone())
    };
    assert_eq!(
        serving(ReceiverRole::Proxy),
        Some([(Serving::Working, 1), (Serving::Parked, 2)].into())
    );
    assert_eq!(serving(ReceiverRole::Agent), Some(BTreeMap::new()), "an agent serves nobody");
}

#[test]
fn receivers_beyond_the_bound_are_ignored_and_counted() {
    let mut seen = Seen::new();
    for i in 0..RECEIVERS + 3 {
        let report =
            ProxyReport { receiver: format!("p{i}"), at: at(0), number: None, sessions: vec![] };
        seen.inventory.take(&seen.policy, Report::Proxy(report), seen.origin);
    }
    assert_eq!((seen.inventory.receivers.len(), seen.inventory.overflow().reports), (RECEIVERS, 3));
}

#[test]
fn names_beyond_the_bound_are_forgotten_but_not_those_that_are_there() {
    let mut seen = Seen::new();
    let session = |machine: String| SessionReport {
        machine: machine.into(),
        sessions: 1,
        serving: Serving::Working,
        shares: 0,
        work: 0.0,
        last_share_at: None,
        still_hashing: 0,
    };
    // One proxy's miners have new names in every report.
    let report = |name: &str, sessions| {
        Report::Proxy(ProxyReport { receiver: name.into(), at: at(0), number: None, sessions })
    };
    seen.inventory.take(
        &seen.policy,
        report("still", vec![session("old.000".into())]),
        seen.now(0),
    );
    for round in 0..5 {
        let sessions = (0..ENTRIES).map(|i| session(format!("r{round}.{i}"))).collect();
        seen.inventory.take(&seen.policy, report("churns", sessions), seen.now(round));
        assert!(seen.inventory.groups.len() <= NAMES);
    }
    let group = seen.policy.facility.group_number(&"old".into());
    assert_eq!(seen.inventory.groups.get("old.000"), Some(&group));
    // The fourth report does not fit beside the machine that stayed; the fifth fits again.
    assert_eq!(seen.inventory.overflow().names, 3 * ENTRIES as u64);
}

#[test]
fn sessions_that_no_group_claims_are_counted_and_three_are_named() {
    let mut seen = Seen::new();
    let session = |name: &str, sessions| SessionReport {
        machine: name.into(),
        sessions,
        serving: Serving::Working,
        shares: 0,
        work: 0.0,
        last_share_at: None,
        still_hashing: 0,
    };
    let names = ["x4", "x2", "old.000", "x3", "x1"];
    let mut sessions: Vec<_> = names.iter().map(|name| session(name, 1)).collect();
    sessions.push(session("x0", 0));
    let report = ProxyReport { receiver: "p".into(), at: at(0), number: None, sessions };
    seen.inventory.take(&seen.policy, Report::Proxy(report), seen.origin);
    let held = Selection::default();
    let fleet = seen.inventory.fleet(&seen.policy, &held, at(0), seen.origin);
    let census = seen.inventory.census(&seen.policy, &fleet, &held, at(0), seen.origin);
    assert_eq!(fleet.population.unassigned, 4, "one of them is gone");
    let named: Vec<_> = census.unassigned.iter().map(MachineId::as_str).collect();
    assert_eq!(named, ["x1", "x2", "x3"]);
    let counted: u32 = census.groups.iter().map(|counts| counts.seen).sum();
    assert_eq!(counted, 1, "the rest is no group's");
}

#[test]
fn a_machine_chosen_for_later_is_absent_once_nobody_has_reported_it_for_ten_minutes() {
    let mut seen = Seen::new();
    let later = Chosen {
        group: "old".into(),
        lease: Some("l".into()),
        at: at(5000),
        until: Some(at(6000)),
        edge: Some(at(6000)),
        means: Means::Device,
        passed_on: false,
    };
    let held = Selection {
        off: [
            ("old.000".into(), vec![later.clone()]),
            ("old.001".into(), vec![Chosen { at: at(0), ..later }]),
        ]
        .into(),
        ..Selection::default()
    };
    let nothing = ProxyReport { receiver: "p".into(), at: at(0), number: None, sessions: vec![] };
    seen.inventory.take(&seen.policy, Report::Proxy(nothing), seen.origin);
    let absent = |seen: &Seen, secs: u64| -> Vec<String> {
        let (wall, now) =
            (at(i64::try_from(secs).unwrap()), seen.origin + Duration::from_secs(secs));
        let fleet = seen.inventory.fleet(&seen.policy, &held, wall, now);
        let absent = fleet.groups.iter().flatten().filter(|known| known.absent);
        assert!(absent.clone().all(|known| known.failing), "it frees nothing");
        absent.map(|known| known.id.to_string()).collect()
    };
    assert_eq!(absent(&seen, 600), [""; 0], "after a start it has time to come back");
    assert_eq!(absent(&seen, 601), ["old.000"], "the other one is off, and was to be");
    seen.agent(601, vec![device(DeviceState::Awake, 601, 0, 0)], vec![]);
    assert_eq!(absent(&seen, 602), [""; 0], "its device is read");
}
