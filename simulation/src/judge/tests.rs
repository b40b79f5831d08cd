//! Hand-made records: each predicate is shown to find what it is for, and to leave alone what
//! resembles it and is as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use directive::{
    Action, FeedId, Generation, LeaseId, MachineId, Means, MeterId, Permit, Step, Timeline, Watts,
};
use jiff::{SignedDuration, Timestamp};

use super::{Cause, Kind, Terms, Violation, judge};
use crate::facility::spec::{
    FacilitySpec, FeedSpec, GroupSpec, Habits, MachineSpec, Measured, MeterSpec, Start,
};
use crate::record::{
    Commander, Entry, Event, FeedRecord, Message, Order, Phase, Promise, Record, Role, Series,
    Shown, Side, State, StateFound,
};

mod answers;
mod causes;
mod confirmed;
mod leases;
mod meters;
mod orders;
mod permits;
mod power;
mod ramps;
mod sleepers;
mod supply;
mod surplus;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A run of an hour at a site with the feeds `poi` and, below it, `f1`, where ten machines of 3 kW
/// stand (`g-0` to `g-9`). 40 kW are usable at both, the house has 1 kW at `f1`, and all machines
/// draw from the start.
struct Bench {
    spec: FacilitySpec,
    terms: Terms,
    record: Record,
    /// Whether machines that sleep for nothing are looked for. Most benches have machines sleep
    /// without a lease that needs them.
    surplus: bool,
    /// Whether an excess is found that no guard answers. Most benches have no guard.
    guard: bool,
    /// Changes of power, in any order.
    loads: Vec<(Duration, Load, i64)>,
}

/// Whose power changes.
#[derive(Debug, Clone)]
enum Load {
    House,
    Mining,
    Tenant(LeaseId),
}

impl Bench {
    fn new() -> Self {
        let feed = |name: &str, parent: Option<&str>, house: i64| FeedSpec {
            id: name.into(),
            parent: parent.map(FeedId::from),
            limit: Watts(40_000),
            limits: Vec::new(),
            continuous_factor: 1.0,
            reserve: Watts::ZERO,
            declared_house: Watts(house),
            default_constraint: Watts(20_000),
            house: vec![(Duration::ZERO, Watts(house))],
        };
        let meter = |name: &str, of: Measured| MeterSpec {
            id: name.into(),
            of,
            period: secs(2),
            lag: secs(1),
            noise_ppm: 0,
            faults: Vec::new(),
        };
        let spec = FacilitySpec {
            begins: Timestamp::from_second(1_800_000_000).expect("a plain time"),
            feeds: vec![feed("poi", None, 0), feed("f1", Some("poi"), 1_000)],
            groups: vec![group()],
            machines: (0..10).map(machine).collect(),
            meters: vec![
                meter("m-poi", Measured::Feed("poi".into())),
                meter("m-f1", Measured::Feed("f1".into())),
                meter("tenant", Measured::Tenants),
            ],
            seed: 0,
        };
        let mut record = Record::new(spec.begins);
        record.ended = secs(3_600);
        for feed in ["poi", "f1"] {
            let of = |watts| Series::constant(Watts(watts));
            record.feeds.insert(
                feed.into(),
                FeedRecord {
                    load: of(31_000),
                    mining: of(30_000),
                    house: of(1_000),
                    tenants: of(0),
                    usable: of(40_000),
                },
            );
        }
        let (surplus, guard, loads) = (false, false, Vec::new());
        let mut bench = Self { spec, terms: terms(), record, surplus, guard, loads };
        for role in [Role::Switchboard, Role::Agent, Role::Proxy] {
            let (state, holds) = (StateFound::New, None);
            bench.note(0, Event::Started { role, state, holds });
        }
        bench
    }

    fn note(&mut self, at: u64, event: Event) {
        self.record.entries.push(Entry { at: secs(at), event });
    }

    /// The house draws this much more from `at` on, as do mining and tenants below.
    fn house(&mut self, at: u64, watts: i64) {
        self.loads.push((secs(at), Load::House, watts));
    }

    fn mining(&mut self, at: u64, watts: i64) {
        self.loads.push((secs(at), Load::Mining, watts));
    }

    fn tenant(&mut self, at: u64, lease: &str, watts: i64) {
        self.loads.push((secs(at), Load::Tenant(lease.into()), watts));
    }

    fn usable(&mut self, at: u64, watts: i64) {
        for feed in self.record.feeds.values_mut() {
            feed.usable.set(secs(at), Watts(watts));
        }
    }

    /// A timeline of these steps is sent at `at`, and heard by both receivers at once.
    fn timeline(&mut self, at: u64, generation: u64, steps: &[(u64, Action, &[usize])]) {
        let timeline = self.issue(at, generation, steps);
        self.hear(at, &timeline);
    }

    fn issue(
        &mut self,
        at: u64,
        generation: u64,
        steps: &[(u64, Action, &[usize])],
    ) -> Arc<Timeline> {
        let step = |(at, action, machines): &(u64, Action, &[usize])| Step {
            at: self.record.wall(secs(*at)),
            group: "g".into(),
            action: *action,
            means: Means::Device,
            machines: machines.iter().map(|number| id(*number)).collect(),
            lease: None,
            reason: String::new(),
        };
        let timeline = Arc::new(Timeline {
            number: number(generation),
            issued_at: self.record.wall(secs(at)),
            horizon: self.record.wall(secs(100_000)),
            ledger_head: None,
            steps: steps.iter().map(step).collect(),
            holds_taken: BTreeMap::new(),
        });
        self.note(at, Event::Issued(timeline.clone()));
        timeline
    }

    fn hear(&mut self, at: u64, timeline: &Arc<Timeline>) {
        for role in [Role::Agent, Role::Proxy] {
            let message = Message::Timeline(timeline.clone());
            self.note(at, Event::Heard { role, message });
        }
    }

    /// A permit of two minutes for a timeline arrives at both receivers.
    fn permit(&mut self, at: u64, generation: u64) {
        for role in [Role::Agent, Role::Proxy] {
            let machines = self.spec.machines.iter().map(|machine| machine.id.clone()).collect();
            let machines = std::sync::Arc::new(machines);
            let number = number(generation);
            let permit = Permit { number, serial: at, ttl_ms: 120_000, machines };
            self.note(at, Event::Heard { role, message: Message::Permit(permit) });
        }
    }

    /// An agent's command arrives at a device.
    fn command(&mut self, at: u64, machine: usize, order: Order) {
        let (machine, by) = (id(machine), Commander::Agent);
        self.note(at, Event::Command { machine, order, by });
    }

    /// A command arrives and is followed at once.
    fn obeyed(&mut self, at: u64, machine: usize, order: Order) {
        self.command(at, machine, order);
        let by = Commander::Agent;
        let commanded = crate::record::Cause::Commanded { by, arrived: secs(at) };
        let (first, last, watts) = match order {
            Order::Sleep => (State::FallingAsleep, State::Asleep, -2_970),
            Order::Wake => (State::Waking, State::Awake, 2_970),
        };
        self.state(at, machine, first, commanded);
        self.state(at, machine, last, crate::record::Cause::Completed);
        self.mining(at, watts);
    }

    fn state(&mut self, at: u64, machine: usize, to: State, cause: crate::record::Cause) {
        let (machine, from) = (id(machine), State::Awake);
        self.note(at, Event::Machine { machine, from, to, cause });
    }

    /// A lease of `watts` at `f1` from `start` to `end`, promised at 10 s and reserved a minute
    /// before its start.
    fn promise(&mut self, lease: &str, watts: i64, start: u64, end: u64) {
        self.note(
            10,
            Event::Promised(Promise {
                lease: lease.into(),
                feed: "f1".into(),
                watts: Watts(watts),
                start: secs(start),
                end: secs(end),
                ready_before: secs(60),
                unverified: false,
                meter: Some(MeterId::from("tenant")),
            }),
        );
    }

    fn phase(&mut self, at: u64, lease: &str, phase: Phase) {
        self.note(at, Event::Phase { lease: lease.into(), phase });
    }

    fn breach(&mut self, at: u64, lease: &str, since: u64, watts: i64, blamed: Side) {
        let (lease, missing) = (LeaseId::from(lease), Watts(watts));
        self.note(at, Event::Breach { lease, since: secs(since), missing, blamed });
    }

    fn down(&mut self, role: Role, from: u64, to: u64, state: StateFound) {
        self.note(from, Event::Stopped { role });
        let holds = (state == StateFound::Kept).then_some(number(1));
        self.note(to, Event::Started { role, state, holds });
    }

    fn verdict(&self) -> Vec<Violation> {
        let mut record = self.record.clone();
        record.entries.sort_by_key(|entry| entry.at);
        let mut loads = self.loads.clone();
        loads.sort_by_key(|(at, ..)| *at);
        for (at, load, watts) in loads {
            let watts = Watts(watts);
            for feed in record.feeds.values_mut() {
                feed.load.add(at, watts);
                match load {
                    Load::House => feed.house.add(at, watts),
                    Load::Mining => feed.mining.add(at, watts),
                    Load::Tenant(_) => feed.tenants.add(at, watts),
                }
            }
            if let Load::Tenant(lease) = load {
                record.tenants.entry(lease).or_default().add(at, watts);
            }
        }
        let mut found = judge(&self.spec, &self.terms, &record);
        found.retain(|violation| match violation.kind {
            Kind::ShedTooMuch => self.surplus,
            Kind::Unanswered => self.guard,
            _ => true,
        });
        found
    }

    /// The kinds and causes of what is found.
    fn found(&self) -> BTreeSet<(Kind, Cause)> {
        self.verdict().into_iter().map(|violation| (violation.kind, violation.cause)).collect()
    }

    #[track_caller]
    fn finds(&self, wanted: &[(Kind, Cause)]) {
        let said: Vec<String> = self.verdict().iter().map(Violation::to_string).collect();
        assert_eq!(self.found(), wanted.iter().copied().collect(), "{}", said.join("\n"));
    }

    #[track_caller]
    fn finds_nothing(&self) {
        self.finds(&[]);
    }
}

fn id(machine: usize) -> MachineId {
    format!("g-{machine}").into()
}

fn number(generation: u64) -> Generation {
    Generation { epoch: 1, generation }
}

fn group() -> GroupSpec {
    GroupSpec {
        id: "g".into(),
        feed: "f1".into(),
        declared: 10,
        nameplate: Watts(3_000),
        residual: Watts(30),
        poolless: None,
        j_per_th: 20.0,
        shed_p95: secs(10),
        restore_p95: secs(60),
        min_up: secs(120),
        min_down: secs(60),
        reachable: true,
    }
}

fn machine(number: usize) -> MachineSpec {
    MachineSpec {
        id: id(number),
        group: "g".into(),
        feed: "f1".into(),
        awake: Watts(3_000),
        residual: Watts(30),
        poolless: Watts(200),
        poolless_after: secs(300),
        sleep_time: secs(4),
        wake_time: secs(30),
        habits: Habits::default(),
        start: Start::Awake,
    }
}

fn terms() -> Terms {
    Terms {
        settle: secs(10),
        prove_for: secs(20),
        margin: secs(30),
        make_up_percent: 3,
        up_per_min: Watts(6_000),
        down_per_min: Watts(20_000),
        up_step_machines: 2,
        up_step_interval: secs(15),
        permit_every: secs(30),
        message_max: secs(1),
        command_max: secs(1),
        driver_timeout: secs(10),
        concurrency: 8,
        loses_commands: false,
        look_max: secs(1),
        report_every: secs(2),
        report_gap: secs(2),
        shown_every: secs(15),
        write_max: secs(1),
        reclose_settle: secs(60),
        quiet_from: secs(1_800),
    }
}

#[test]
fn a_quiet_hour_is_blameless() {
    Bench::new().finds_nothing();
}
