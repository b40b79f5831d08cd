use directive::{
    GuardHold, GuardReport, GuardTable, MeterReport, MetersReport, ReportSender, Serving,
};

use super::*;
use crate::cause::Cause;
use crate::feed_sums::FeedSums;
use crate::fixture::{at, lease, origin, policy};
use crate::lease::Lease;

mod permitted;
mod presence;
mod roster;

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
        asleep_by: Some(AsleepBy::Us),
        unrecorded: false,
        failures,
        fault: None,
    }
}

/// A session that has work.
fn session(name: &str) -> SessionReport {
    SessionReport {
        machine: name.into(),
        sessions: 1,
        serving: Serving::Working,
        shares: 0,
        work: 0.0,
        last_share_at: None,
        still_hashing: 0,
    }
}

/// An inventory that proxies and an agent report to.
struct Seen {
    inventory: Inventory,
    policy: Policy,
    origin: Instant,
    senders: HashMap<ReceiverId, ReportSender>,
}

impl Seen {
    /// Whether the device or a live session of `machine` shows what it does.
    fn knows(&self, machine: &MachineId) -> bool {
        let read = self
            .inventory
            .device(machine)
            .is_some_and(|device| device.report.state != DeviceState::Unknown);
        read || self.inventory.sessions(machine).any(|session| session.sessions > 0)
    }

    fn new() -> Self {
        let (inventory, senders) = (Inventory::default(), HashMap::new());
        Self { inventory, policy: policy(), origin: origin(), senders }
    }

    fn now(&self, secs: i64) -> Instant {
        self.origin + Duration::from_secs(u64::try_from(secs).unwrap())
    }

    fn attach(&mut self, receiver: &str, role: ReceiverRole) -> Result<Attached, AttachError> {
        self.inventory.attach(&receiver.into(), role, at(0), self.now(100))
    }

    fn take(&mut self, receiver: &str, report: Report, secs: i64) -> Option<u64> {
        let now = self.now(secs);
        self.inventory.take(&self.policy, &receiver.into(), report, now)
    }

    /// The sender of a receiver, which is attached with its first report.
    fn sender(&mut self, receiver: &str, role: ReceiverRole) -> &mut ReportSender {
        if !self.senders.contains_key(receiver) {
            self.attach(receiver, role).unwrap();
            let incarnation = self.senders.len() as u64 + 1;
            self.senders.insert(receiver.into(), ReportSender::new(incarnation));
        }
        self.senders.get_mut(receiver).unwrap()
    }

    fn agent(&mut self, secs: i64, machines: &[MachineReport], meters: Vec<MeterReport>) {
        let sender = self.sender("agent", ReceiverRole::Agent);
        let delta = sender.report(machines.iter().map(MachineReport::seen), at(secs), None);
        sender.handed_over();
        assert_eq!(self.take("agent", Report::Machines(delta), secs), None);
        let meters = MetersReport { at: at(secs), full: true, meters };
        assert_eq!(self.take("agent", Report::Meters(meters), secs), None);
    }

    fn proxy(&mut self, receiver: &str, secs: i64, sessions: &[SessionReport]) {
        let sender = self.sender(receiver, ReceiverRole::Proxy);
        let delta = sender.report(sessions.iter().map(SessionReport::seen), at(secs), None);
        sender.handed_over();
        assert_eq!(self.take(receiver, Report::Sessions(delta), secs), None);
    }

    fn share(&mut self, secs: i64, last_share: i64) {
        let last_share_at = Some(at(last_share));
        self.proxy(
            "proxy",
            secs,
            &[SessionReport { shares: 1, last_share_at, ..session("old.000") }],
        );
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

    /// The state of `old.000`, which was told to sleep at 100 s and has 30 s to follow.
    fn state(&self, secs: i64) -> MachineState {
        let chosen = Chosen {
            group: "old".into(),
            cause: Cause::Unrecorded,
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
    seen.agent(1, &[], vec![meter("m-a", Some(45_000), 1), meter("tenant", Some(15_000), 1)]);
    assert_eq!(seen.headroom(&[], 1), Some(5_000));
    assert_eq!(seen.headroom(&[blind], 1), Some(5_000), "estimated low");
    assert_eq!(seen.headroom(std::slice::from_ref(&metered), 1), Some(20_000));
    seen.agent(2, &[], vec![meter("m-a", Some(45_000), 2), meter("tenant", Some(30_000), 2)]);
    assert_eq!(
        seen.headroom(std::slice::from_ref(&metered), 2),
        Some(25_000),
        "no more than is rented"
    );
    seen.agent(3, &[], vec![meter("m-a", Some(45_000), 3)]);
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
    seen.agent(100, &[], vec![meter("m-a", Some(50_000), 100), meter("tenant", Some(20_000), 100)]);
    assert_eq!(seen.headroom(&[now.clone(), next], 100), Some(20_000), "the same 20 kW, rented on");
    let beside = named("n", 10_000, 0, 900);
    seen.agent(101, &[], vec![meter("m-a", Some(50_000), 101), meter("tenant", Some(40_000), 101)]);
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
        seen.agent(secs, &[], vec![report]);
        assert_eq!(seen.headroom(&[], secs), None, "{what}");
    }
}

#[test]
fn a_meter_whose_time_stands_still_goes_stale_though_reports_go_on() {
    let mut seen = Seen::new();
    for secs in 1..=11 {
        seen.agent(secs, &[], vec![meter("m-a", Some(5), 1)]);
    }
    assert_eq!(seen.headroom(&[], 11), Some(49_995));
    seen.agent(12, &[], vec![meter("m-a", Some(5), 1)]);
    assert_eq!(seen.headroom(&[], 12), None);
}

#[test]
fn asleep_counts_from_a_reading_newer_than_the_command() {
    let mut seen = Seen::new();
    assert_eq!(seen.state(99), MachineState::Running);
    seen.agent(105, &[device(DeviceState::Asleep, 99, 101, 0)], vec![]);
    assert_eq!(seen.state(105), MachineState::Commanded, "read before it was told");
    seen.agent(110, &[device(DeviceState::Asleep, 109, 101, 0)], vec![]);
    assert_eq!(seen.state(110), MachineState::Curtailed);
    assert_eq!(seen.state(126), MachineState::Commanded, "the report is too old to count");
    assert_eq!(seen.state(140), MachineState::Unknown);
}

#[test]
fn one_that_stays_awake_or_fails_is_disobedient() {
    let mut seen = Seen::new();
    seen.agent(129, &[device(DeviceState::Awake, 129, 101, 0)], vec![]);
    assert_eq!(seen.state(129), MachineState::Commanded);
    seen.agent(130, &[device(DeviceState::Awake, 130, 101, 0)], vec![]);
    assert_eq!(seen.state(130), MachineState::Disobedient);
    seen.agent(115, &[device(DeviceState::Unknown, 114, 101, 3)], vec![]);
    assert_eq!(seen.state(115), MachineState::Disobedient, "three commands in vain");
}

#[test]
fn shares_convict_a_device_that_says_it_sleeps() {
    let mut seen = Seen::new();
    seen.agent(110, &[device(DeviceState::Asleep, 110, 101, 0)], vec![]);
    seen.share(112, 112);
    assert_eq!(seen.state(112), MachineState::Curtailed, "that one was on its way");
    seen.agent(118, &[device(DeviceState::Asleep, 118, 101, 0)], vec![]);
    seen.share(118, 117);
    assert_eq!(
        seen.state(118),
        MachineState::Disobedient,
        "the sleep began at 110, not with the newest reading"
    );
    seen.agent(238, &[device(DeviceState::Asleep, 238, 101, 0)], vec![]);
    assert_eq!(seen.state(238), MachineState::Curtailed, "quiet for long enough");
}

#[test]
fn a_proxys_machines_are_counted_by_how_they_are_served() {
    let mut seen = Seen::new();
    let served = |name, serving| SessionReport { serving, ..session(name) };
    let serving = |seen: &Seen, role| {
        let views = seen.inventory.receivers(&seen.policy, seen.origin);
        views.iter().find(|view| view.role == role).map(|view| view.machines_by_serving.clone())
    };
    let [a, b, c] = ["a", "b", "c"];
    let parked = Serving::Parked;
    seen.proxy("p", 0, &[served(a, parked), served(b, Serving::Working), served(c, parked)]);
    seen.agent(0, &[device(DeviceState::Awake, 0, 0, 0)], vec![]);
    let counts = serving(&seen, ReceiverRole::Proxy);
    assert_eq!(counts, Some([(Serving::Working, 1), (Serving::Parked, 2)].into()));
    let counts = serving(&seen, ReceiverRole::Agent);
    assert_eq!(counts, Some(BTreeMap::new()), "an agent serves nobody");
    // One machine is served in a different way, one is new, and one is gone.
    seen.proxy(
        "p",
        1,
        &[served(a, Serving::Gone), served(b, Serving::Working), served("d", parked)],
    );
    let counts = serving(&seen, ReceiverRole::Proxy);
    let expected = [(Serving::Working, 1), (Serving::Parked, 1), (Serving::Gone, 1)];
    assert_eq!(counts, Some(expected.into()));
}

#[test]
fn a_further_receiver_takes_the_place_of_the_one_that_has_been_away_for_longest() {
    let mut seen = Seen::new();
    for i in 0..RECEIVERS {
        let secs = i64::try_from(i).unwrap();
        seen.proxy(&format!("p{i}"), secs, &[]);
    }
    assert_eq!(seen.attach("further", ReceiverRole::Proxy), Err(AttachError::TooMany));
    let delta = ReportSender::new(99).report([session("x").seen()], at(0), None);
    assert_eq!(seen.take("further", Report::Sessions(delta), 0), None);
    assert_eq!(seen.inventory.exchanges().reports_refused, 1, "it is not attached");
    for away in ["p9", "p7", "p8"] {
        seen.inventory.detach(&away.into());
    }
    seen.attach("further", ReceiverRole::Proxy).unwrap();
    assert!(!seen.inventory.endpoints.contains_key("p7"));
    assert_eq!((seen.inventory.endpoints.len(), seen.inventory.overflow().links), (RECEIVERS, 1));
}

#[test]
fn a_report_counts_for_the_receiver_of_its_link_and_only_if_it_fits_its_role() {
    let mut seen = Seen::new();
    seen.proxy("p", 0, &[session("old.000")]);
    seen.agent(0, &[device(DeviceState::Awake, 0, 0, 0)], vec![]);
    let sessions = ReportSender::new(9).report([session("x").seen()], at(0), None);
    seen.take("agent", Report::Sessions(sessions), 0);
    let machines = [device(DeviceState::Asleep, 0, 0, 0)];
    let machines =
        ReportSender::new(9).report(machines.iter().map(MachineReport::seen), at(0), None);
    seen.take("p", Report::Machines(machines), 0);
    let meters = MetersReport { at: at(0), full: true, meters: vec![meter("m-a", Some(1), 0)] };
    seen.take("p", Report::Meters(meters), 0);
    seen.take("p", Report::Guard(guard(7)), 0);
    assert_eq!(seen.inventory.exchanges().reports_refused, 4);
    assert!(!seen.knows(&"x".into()) && !seen.inventory.sleeps(&"old.000".into()));
    assert_eq!(seen.headroom(&[], 0), None);
}

fn guard(last_hold: u64) -> GuardReport {
    GuardReport { at: at(0), table: None, last_hold, holds: Vec::new(), feeds: Vec::new() }
}

#[test]
fn the_newest_report_of_an_agents_guard_is_kept_if_it_is_within_bounds() {
    let mut seen = Seen::new();
    seen.agent(0, &[], vec![]);
    assert_eq!(seen.inventory.endpoints["agent"].guard(), None);
    for last_hold in [7, 8] {
        seen.take("agent", Report::Guard(guard(last_hold)), 0);
    }
    let machines = vec!["a".into(); GuardTable::MACHINES_MAX + 1];
    let holds = vec![GuardHold { number: 9, feed: "f".into(), machines }];
    seen.take("agent", Report::Guard(GuardReport { holds, ..guard(9) }), 0);
    assert_eq!(seen.inventory.endpoints["agent"].guard(), Some(&guard(8)));
}

#[test]
fn a_second_link_of_one_name_replaces_the_first_unless_it_is_of_another_role() {
    let mut seen = Seen::new();
    seen.proxy("p", 0, &[session("a")]);
    let again = seen.attach("p", ReceiverRole::Proxy);
    assert_eq!(again, Ok(Attached { replaces: true, resync: 0 }));
    let refused = seen.attach("p", ReceiverRole::Agent).unwrap_err();
    assert_eq!(refused.to_string(), "this name is attached as proxy");
    assert!(seen.knows(&"a".into()), "what it reported counts on");
    seen.inventory.detach(&"p".into());
    let agent = seen.attach("p", ReceiverRole::Agent);
    assert_eq!(agent, Ok(Attached { replaces: false, resync: 0 }));
    assert!(!seen.knows(&"a".into()), "the name is another's now");
    let exchanges = seen.inventory.exchanges();
    let links = (exchanges.links_attached, exchanges.links_replaced, exchanges.links_refused);
    assert_eq!((links, exchanges.links_closed), ((2, 1, 1), 1));
}

/// With one lease whose steps are in timeline 5, receivers are attached and report as each line
/// says.
#[test]
fn a_timeline_is_held_when_every_attached_receiver_says_so_however_long_ago() {
    let mut seen = Seen::new();
    let number = |generation| Generation { epoch: 1, generation };
    let held = |seen: &Seen, devices: bool, secs: i64| {
        let numbers = (number(5), number(6));
        seen.inventory.held(&seen.policy, numbers, devices, seen.now(secs))
    };
    let mut senders = [ReportSender::new(1), ReportSender::new(2)];
    let mut report = |seen: &mut Seen, receiver: &str, generation: u64, secs: i64| {
        let sender = &mut senders[usize::from(receiver == "agent")];
        let report = if receiver == "agent" {
            let nothing: [directive::SeenMachine<'_>; 0] = [];
            Report::Machines(sender.report(nothing, at(secs), Some(number(generation))))
        } else {
            let nothing: [directive::SeenSession<'_>; 0] = [];
            Report::Sessions(sender.report(nothing, at(secs), Some(number(generation))))
        };
        sender.handed_over();
        seen.take(receiver, report, secs);
    };
    assert_eq!(held(&seen, false, 0), Held::NoReceiver);
    seen.attach("p", ReceiverRole::Proxy).unwrap();
    report(&mut seen, "p", 5, 0);
    assert_eq!(held(&seen, false, 0), Held::Everywhere);
    assert_eq!(held(&seen, true, 0), Held::NoAgent);
    // A receiver that has never reported counts as not holding the timeline as soon as it is
    // attached.
    seen.attach("agent", ReceiverRole::Agent).unwrap();
    assert_eq!(held(&seen, false, 0), Held::Behind { receivers: 1, silent: 1, number: number(5) });
    report(&mut seen, "agent", 4, 1);
    // A receiver that is silent still does not hold the timeline.
    report(&mut seen, "p", 5, 100);
    assert_eq!(
        held(&seen, false, 100),
        Held::Behind { receivers: 1, silent: 1, number: number(5) }
    );
    report(&mut seen, "agent", 5, 101);
    assert_eq!(held(&seen, true, 101), Held::Everywhere);
    // A proxy that is silent still holds what it last reported.
    report(&mut seen, "agent", 5, 200);
    assert_eq!(held(&seen, true, 200), Held::Everywhere);
    report(&mut seen, "p", 7, 201);
    assert_eq!(held(&seen, true, 201), Held::Refused { receivers: 1 });
    // A receiver that is not attached does not count. When it comes back, it must report again what
    // it holds.
    seen.inventory.detach(&"p".into());
    assert_eq!(held(&seen, true, 201), Held::Everywhere);
    seen.attach("p", ReceiverRole::Proxy).unwrap();
    assert_eq!(held(&seen, true, 201), Held::Behind { receivers: 1, silent: 0, number: number(5) });
    // With no receiver to carry it out, a timeline that is held is of no use.
    assert_eq!(held(&seen, true, 300), Held::NoReceiver);
}

#[test]
fn a_view_with_missing_changes_grows_old_until_a_full_report_has_come() {
    let mut seen = Seen::new();
    let fresh =
        |seen: &Seen, secs: i64| seen.inventory.receivers(&seen.policy, seen.now(secs))[0].fresh;
    let mut sender = ReportSender::new(1);
    seen.attach("p", ReceiverRole::Proxy).unwrap();
    assert!(!fresh(&seen, 0), "it has yet to report");
    let mut report = |seen: &mut Seen, names: &[&str], resync: u64, lost: bool, secs: i64| {
        sender.request(resync);
        let sessions: Vec<SessionReport> = names.iter().map(|name| session(name)).collect();
        let delta = sender.report(sessions.iter().map(SessionReport::seen), at(secs), None);
        sender.handed_over();
        if lost { None } else { seen.take("p", Report::Sessions(delta), secs) }
    };
    assert_eq!(report(&mut seen, &["a"], 0, false, 0), None);
    assert!(fresh(&seen, 0));
    assert_eq!(report(&mut seen, &["a", "b"], 0, true, 1), None);
    assert_eq!(report(&mut seen, &["a", "b", "c"], 0, false, 2), Some(1));
    assert_eq!(seen.inventory.exchanges().gaps, 1);
    for secs in 3..60 {
        assert_eq!(report(&mut seen, &["a", "b", "c"], 0, false, secs), None, "it is asked once");
    }
    assert!(!fresh(&seen, 59));
    assert_eq!(report(&mut seen, &["a", "b", "c"], 1, false, 60), None);
    assert!(fresh(&seen, 60) && seen.knows(&"b".into()));
}

#[test]
fn meters_of_a_partial_report_leave_the_others_as_they_were() {
    let mut seen = Seen::new();
    seen.agent(1, &[], vec![meter("m-a", Some(45_000), 1), meter("tenant", Some(15_000), 1)]);
    let lease = Lease { meter: Some("tenant".into()), ..lease("l", "a", 20_000, 0, 900) };
    assert_eq!(seen.headroom(std::slice::from_ref(&lease), 1), Some(20_000));
    let partial =
        MetersReport { at: at(2), full: false, meters: vec![meter("m-a", Some(40_000), 2)] };
    seen.take("agent", Report::Meters(partial), 2);
    assert_eq!(seen.headroom(std::slice::from_ref(&lease), 2), Some(25_000));
    seen.agent(3, &[], vec![meter("m-a", Some(40_000), 3)]);
    assert_eq!(seen.headroom(&[lease], 3), Some(10_000), "a full report has all meters");
}

#[test]
fn names_beyond_the_bound_are_forgotten_but_not_those_that_are_there() {
    let mut seen = Seen::new();
    seen.proxy("still", 0, &[session("old.000")]);
    // One proxy's miners have new names in every report.
    for round in 0..5 {
        let sessions: Vec<_> = (0..ENTRIES).map(|i| session(&format!("r{round}.{i}"))).collect();
        seen.proxy("churns", round, &sessions);
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
    let mut sessions: Vec<_> = ["x4", "x2", "old.000", "x3", "x1"].map(session).to_vec();
    sessions.push(SessionReport { sessions: 0, ..session("x0") });
    seen.proxy("p", 0, &sessions);
    let held = Selection::default();
    let states = BTreeMap::new();
    let fleet = seen.inventory.new_fleet(&seen.policy, &held, &states, at(0), seen.origin);
    let fleet = fleet.unwrap().clone();
    let mut census = Census::default();
    seen.inventory.take_census(
        &mut census,
        &seen.policy,
        &fleet,
        (&held, |_| false),
        at(0),
        seen.origin,
    );
    assert_eq!(fleet.population.unassigned, 4, "one of them is gone");
    let named: Vec<_> = census.unassigned.iter().map(MachineId::as_str).collect();
    assert_eq!(named, ["x1", "x2", "x3"]);
    let counted: u32 = census.groups.iter().map(|counts| counts.seen).sum();
    assert_eq!(counted, 1, "the rest is no group's");
}

#[test]
fn a_large_group_is_counted_over_several_looks_and_shown_when_it_is_complete() {
    let mut seen = Seen::new();
    let sessions: Vec<_> = (0..1_200).map(|n| session(&format!("old.{n:04}"))).collect();
    seen.proxy("p", 0, &sessions);
    let (held, states, origin) = (Selection::default(), BTreeMap::new(), seen.origin);
    let fleet = seen.inventory.new_fleet(&seen.policy, &held, &states, at(0), origin);
    let fleet = fleet.unwrap().clone();
    let mut census = Census::default();
    let look = |_| {
        let of = (&held, |_: &MachineId| false);
        seen.inventory.take_census(&mut census, &seen.policy, &fleet, of, at(0), origin);
        census.groups.iter().map(|counts| (counts.seen, counts.hashing)).max()
    };
    let shown: Vec<_> = (0..6).map(look).collect();
    let (nothing, all) = (Some((0, 0)), Some((1_200, 1_200)));
    assert_eq!(shown, [nothing, nothing, all, all, all, all]);
}

#[test]
fn a_machine_without_work_that_nothing_has_off_is_counted_as_parked() {
    let mut seen = Seen::new();
    let parked = |name: &str| SessionReport { serving: Serving::Parked, ..session(name) };
    let sessions = [session("old.000"), parked("old.001"), parked("old.002"), parked("old.003")];
    seen.proxy("p", 0, &sessions);
    let chosen = Chosen {
        group: "old".into(),
        cause: Cause::Load("a".into()),
        at: at(0),
        until: None,
        edge: None,
        means: Means::Starve,
        passed_on: false,
    };
    let mut held = Selection::default();
    held.off.insert("old.002".into(), vec![chosen]);
    let (states, origin) = (BTreeMap::new(), seen.origin);
    let fleet = seen.inventory.new_fleet(&seen.policy, &held, &states, at(1), origin);
    let fleet = fleet.unwrap().clone();
    let mut census = Census::default();
    let is_returning = |machine: &MachineId| machine.as_str() == "old.003";
    let of = (&held, is_returning);
    seen.inventory.take_census(&mut census, &seen.policy, &fleet, of, at(1), origin);
    assert_eq!(census.parked.iter().sum::<u32>(), 1, "old.001 only: {:?}", census.parked);
}

#[test]
fn sessions_without_work_that_no_group_claims_are_no_load_and_cause_no_plan() {
    let mut seen = Seen::new();
    let parked = |name: &str| SessionReport { serving: Serving::Parked, ..session(name) };
    let population = |seen: &mut Seen, policy: &Policy| {
        let (held, states) = (Selection::default(), BTreeMap::new());
        let is_new = seen.inventory.new_fleet(policy, &held, &states, at(0), seen.origin).is_some();
        (is_new, seen.inventory.last_fleet().population.clone())
    };
    let park = seen.policy.clone();
    seen.proxy("p", 0, &[parked("x1"), parked("x2"), session("x3"), parked("old.000")]);
    let (_, counted) = population(&mut seen, &park);
    assert_eq!((counted.unassigned, counted.waiting), (1, 2));
    assert_eq!(counted.groups.values().sum::<u32>(), 1);
    // Whoever opens sessions changes nothing that a plan depends on.
    let crowd = [parked("x1"), parked("x2"), parked("x4"), session("x3"), parked("old.000")];
    seen.proxy("p", 1, &crowd);
    let (is_new, counted) = population(&mut seen, &park);
    assert_eq!((is_new, counted.unassigned, counted.waiting), (false, 1, 3));
    let mut waiting = seen.inventory.waiting();
    waiting.sort();
    assert_eq!(waiting, ["x1", "x2", "x4"].map(MachineId::from));

    let count = Policy { unassigned: crate::policy::Unassigned::Count, ..park.clone() };
    seen.inventory.regroup(&count);
    let (_, counted) = population(&mut seen, &count);
    assert_eq!((counted.unassigned, counted.waiting), (4, 0));
    assert!(!park.claims().claims(&"x1".into()) && count.claims().claims(&"x1".into()));
    let mut nobody = crate::fixture::policy_with(|parts| parts.groups.clear());
    nobody.unassigned = crate::policy::Unassigned::Park;
    assert!(nobody.claims().claims(&"x1".into()), "a policy without groups limits nobody");
}

#[test]
fn a_machine_chosen_for_later_is_absent_once_nobody_has_reported_it_for_ten_minutes() {
    let mut seen = Seen::new();
    let later = Chosen {
        group: "old".into(),
        cause: Cause::Lease("l".into()),
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
    seen.proxy("p", 0, &[]);
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
    seen.agent(601, &[device(DeviceState::Awake, 601, 0, 0)], vec![]);
    assert_eq!(absent(&seen, 602), [""; 0], "its device is read");
}

/// Older agents do not say who put a machine to sleep.
#[test]
fn a_sleeper_that_an_agent_put_to_sleep_is_a_stray_whatever_the_agents_version() {
    let mut seen = Seen::new();
    let reported = |name: &str, by: Option<AsleepBy>, slept: Option<i64>| MachineReport {
        machine: name.into(),
        asleep_by: by,
        slept_at: slept.map(at),
        ..device(DeviceState::Asleep, 100, 40, 0)
    };
    let machines = [
        reported("old.000", Some(AsleepBy::Us), Some(40)),
        reported("old.001", Some(AsleepBy::Us), None),
        reported("old.002", None, Some(40)),
        reported("old.003", None, None),
        reported("old.004", Some(AsleepBy::Other), Some(40)),
        MachineReport {
            state: DeviceState::Awake,
            ..reported("old.005", Some(AsleepBy::Us), Some(40))
        },
    ];
    seen.agent(100, &machines, Vec::new());
    let strays = seen.inventory.strays(&Selection::default(), at(100));
    assert_eq!(strays, ["old.000", "old.001", "old.002"].map(MachineId::from));
}
