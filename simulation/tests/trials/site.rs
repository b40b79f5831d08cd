//! The site of the trials: two halls below one interconnect, with 30 machines that a driver reaches.

use std::time::Duration;

use directive::Watts;
use jiff::{SignedDuration, Timestamp};
use simulation::facility::spec::{
    FacilitySpec, FeedSpec, GroupSpec, Habits, MachineSpec, Measured, MeterSpec, Start,
};
use simulation::scenario::{Act, LeaseSpec, RoleSpec, Rules, Scenario, Tenant, Trouble, Weather};

/// What a machine draws.
pub(crate) const MACHINE: Watts = Watts(3_000);
/// The largest machine, and the band that is left free below a limit.
pub(crate) const LARGEST: Watts = MACHINE;
/// The time from the first command to the proof: the ramp, falling asleep, `settle`, the proof and the
/// margin.
pub(crate) const LEAD: Duration = Duration::from_secs(150);
/// The time in which a machine may come back: it is noticed that a lower load lasts (2 min), the up ramp
/// and the steps, and a minute to boot.
pub(crate) const RETURNS_WITHIN: Duration = Duration::from_secs(300);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn kw(kw: i64) -> Watts {
    Watts(kw * 1000)
}

/// `poi` 110 kW (house 1 kW) above `a` 60 kW (16 machines) and `b` 60 kW (14 machines), each with a house of
/// 2 kW. Every feed has a meter that is read each second and is up to 0.5 % off.
pub(crate) fn site() -> Scenario {
    let feeds = vec![
        feed("poi", None, 110, 1),
        feed("a", Some("poi"), 60, 2),
        feed("b", Some("poi"), 60, 2),
    ];
    let groups = vec![group("ga", "a", 16), group("gb", "b", 14)];
    let machines = groups.iter().flat_map(machines).collect();
    let mut meters: Vec<MeterSpec> = ["poi", "a", "b"]
        .map(|feed| meter(&format!("m-{feed}"), Measured::Feed(feed.into())))
        .into();
    meters.extend((1..=3).map(|number| meter(&format!("tenant-{number}"), Measured::Tenants)));
    let begins = Timestamp::from_second(1_800_000_000).expect("a plain time");
    Scenario {
        seed: 0,
        trouble: Trouble::Calm,
        facility: FacilitySpec { begins, feeds, groups, machines, meters, seed: 0 },
        rules: Rules {
            make_up_percent: 3.0,
            settle: secs(10),
            margin: secs(30),
            prove_for: secs(10),
            down_per_min: kw(60),
            up_per_min: kw(30),
            up_step_machines: 4,
            up_step_interval: secs(15),
            permit_ttl: secs(120),
            permit_every: secs(30),
            report_stale_after: secs(15),
            meter_stale_after: secs(10),
            reclose_settle: secs(60),
        },
        roles: RoleSpec {
            switchboard_tick: secs(1),
            agent_report_every: secs(1),
            proxy_report_every: secs(1),
            read_at_rest: secs(20),
            in_flight: 16,
            look_every: secs(15),
        },
        weather: Weather::default(),
        leases: Vec::new(),
        acts: Vec::new(),
        calm_from: secs(0),
        length: secs(2_700),
    }
}

fn feed(id: &str, parent: Option<&str>, limit: i64, house: i64) -> FeedSpec {
    FeedSpec {
        id: id.into(),
        parent: parent.map(Into::into),
        limit: kw(limit),
        limits: Vec::new(),
        continuous_factor: 1.0,
        reserve: Watts::ZERO,
        declared_house: kw(house),
        default_constraint: kw(limit / 2),
        house: vec![(Duration::ZERO, kw(house))],
    }
}

fn group(id: &str, feed: &str, declared: usize) -> GroupSpec {
    GroupSpec {
        id: id.into(),
        feed: feed.into(),
        declared,
        nameplate: MACHINE,
        residual: Watts(30),
        poolless: None,
        j_per_th: if id == "ga" { 25.0 } else { 18.0 },
        shed_p95: secs(12),
        restore_p95: secs(60),
        min_up: secs(60),
        min_down: secs(60),
        reachable: true,
    }
}

/// The machines that a group declares.
pub(crate) fn machines(group: &GroupSpec) -> Vec<MachineSpec> {
    let machine = |number: usize| MachineSpec {
        id: format!("{}-{number}", group.id).into(),
        group: group.id.clone(),
        feed: group.feed.clone(),
        awake: MACHINE,
        residual: Watts(30),
        poolless: MACHINE,
        poolless_after: secs(300),
        sleep_time: secs(8),
        wake_time: secs(40),
        habits: Habits { answers_after: Duration::from_millis(200), ..Habits::default() },
        start: Start::Awake,
    };
    (0..group.declared).map(machine).collect()
}

fn meter(id: &str, of: Measured) -> MeterSpec {
    let (period, lag) = (secs(1), Duration::from_millis(500));
    MeterSpec { id: id.into(), of, period, lag, noise_ppm: 5_000, faults: Vec::new() }
}

impl Site for Scenario {
    fn lease(mut self, feed: &str, watts: Watts, start: u64, end: u64) -> Self {
        let number = self.leases.len();
        let tenant = Tenant {
            comes: SignedDuration::ZERO,
            percent: 100,
            goes: SignedDuration::ZERO,
            ramp: secs(5),
        };
        self.leases.push(LeaseSpec {
            lease: format!("lease-{}", number + 1).as_str().into(),
            feed: feed.into(),
            watts,
            start: secs(start),
            end: secs(end),
            ready_before: secs(60),
            meter: Some(format!("tenant-{}", number + 1).into()),
            accept_unverified: false,
            tenant,
        });
        self.act(60, Act::Ask(number))
    }

    fn act(mut self, at: u64, act: Act) -> Self {
        self.acts.push((secs(at), act));
        self.acts.sort_by_key(|(at, _)| *at);
        self
    }

    fn feed(mut self, id: &str, change: impl FnOnce(&mut FeedSpec)) -> Self {
        let feed = self.facility.feeds.iter_mut().find(|feed| feed.id.as_str() == id);
        change(feed.expect("the site has it"));
        self
    }

    fn group(mut self, id: &str, change: impl FnOnce(&mut GroupSpec)) -> Self {
        let group = self.facility.groups.iter_mut().find(|group| group.id.as_str() == id);
        change(group.expect("the site has it"));
        self
    }

    fn machines(mut self, prefix: &str, change: impl Fn(&mut MachineSpec)) -> Self {
        let machines = self.facility.machines.iter_mut();
        machines.filter(|one| one.id.as_str().starts_with(prefix)).for_each(change);
        self
    }

    fn tenant(mut self, change: impl FnOnce(&mut Tenant)) -> Self {
        change(&mut self.leases.last_mut().expect("a lease came before").tenant);
        self
    }

    fn meter(mut self, id: &str, change: impl FnOnce(&mut MeterSpec)) -> Self {
        let meter = self.facility.meters.iter_mut().find(|meter| meter.id.as_str() == id);
        change(meter.expect("the site has it"));
        self
    }
}

/// Changes of the site, one after the other.
pub(crate) trait Site: Sized {
    /// A lease that a client asks for after a minute, with a tenant that keeps to it and has a meter.
    fn lease(self, feed: &str, watts: Watts, start: u64, end: u64) -> Self;
    /// Something that happens from outside.
    fn act(self, at: u64, act: Act) -> Self;
    fn feed(self, id: &str, change: impl FnOnce(&mut FeedSpec)) -> Self;
    fn group(self, id: &str, change: impl FnOnce(&mut GroupSpec)) -> Self;
    /// Changes the machines whose names begin with `prefix`.
    fn machines(self, prefix: &str, change: impl Fn(&mut MachineSpec)) -> Self;
    /// Changes the tenant of the last lease.
    fn tenant(self, change: impl FnOnce(&mut Tenant)) -> Self;
    fn meter(self, id: &str, change: impl FnOnce(&mut MeterSpec)) -> Self;
}
