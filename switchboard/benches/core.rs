//! What one input costs the switchboard's core at a large site: 1,000 feeds, each with a meter, 400
//! open leases and 20,000 machines. Half of the leases have begun, so that some hundred machines are
//! off. Between the inputs that are measured, proxy and agent report as they do at a real site. An *idle
//! second* is all inputs of one second in which nothing begins or ends: four ticks, a report of the proxy and
//! one of the agent with a twentieth of the machines, and one of all meters.
//!
//! The inputs that make a plan are also measured where all machines are one group, and where there is
//! no machine, because parts of a plan's cost rise with the size of a group or with the leases alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use directive::{
    AsleepBy, DeviceState, Generation, MachineId, MachineReport, MeterReport, MetersReport,
    ReceiverId, ReceiverRole, Report, ReportSender, Serving, SessionReport, Watts,
};
use jiff::Timestamp;
use switchboard::core::{Answer, Command, Core, Input, Outputs};
use switchboard::lease::LeaseRequest;
use switchboard::ledger::{Event, Head, LedgerState};
use switchboard::policy;

const TRANSFORMERS: usize = 27;
const PDUS: usize = 36;
const MACHINES: usize = 20_000;
const LEASES: usize = 400;
const PROXY: &str = "proxy";
const AGENT: &str = "agent";
const TICK: Duration = Duration::from_millis(250);

/// Where the machines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A group at each PDU, and the leases at PDUs.
    Pdus,
    /// One group at the root, where all leases are too.
    OneGroup,
    /// One machine is declared, and none is ever seen. The PDUs have enough power for their leases.
    NoMachine,
}

/// The PDUs: the transformer of each, and its number there.
fn pdus() -> impl Iterator<Item = (usize, usize)> {
    (0..TRANSFORMERS).flat_map(|t| (0..PDUS).map(move |p| (t, p)))
}

/// 1 + 27 + 972 feeds. With machines at the PDUs, the house and the machines of a PDU leave 9 kW of it
/// free. With one group, the house and the machines leave 9 kW of the root free.
fn policy_text(layout: Layout) -> String {
    let root_kw = match layout {
        Layout::Pdus | Layout::NoMachine => 200_000,
        Layout::OneGroup => MACHINES * 3 + TRANSFORMERS * PDUS + 9,
    };
    let mut text = format!(
        "schema = \"tieline.policy/1\"\n[site]\nname = \"bench\"\ntimezone = \"UTC\"\n\
         [feed.root]\nlimit_kw = {root_kw}\ncontinuous_factor = 1.0\nmeter = \"m-root\"\n\
         default_constraint_kw = {}\n",
        root_kw.min(100_000),
    );
    let group = |text: &mut String, name: &str, feed: &str, matches: &str, machines: usize| {
        write!(
            text,
            "[group.{name}]\nfeed = \"{feed}\"\nmatch = \"{matches}\"\nmachines = {machines}\n\
             asic_kw = 3\nj_per_th = 20\nshed_p95 = \"25s\"\ndriver = \"bench\"\n"
        )
        .expect("a string takes all");
    };
    for t in 0..TRANSFORMERS {
        writeln!(
            text,
            "[feed.t{t}]\nparent = \"root\"\nlimit_kw = 5000\ncontinuous_factor = 1.0\nmeter = \"m-t{t}\"\n\
             default_constraint_kw = 4000"
        )
        .expect("a string takes all");
    }
    for (n, (t, p)) in pdus().enumerate() {
        let machines = machines_of(n);
        let limit = machines * 3 + 10;
        writeln!(
            text,
            "[feed.t{t}p{p}]\nparent = \"t{t}\"\nlimit_kw = {limit}\ncontinuous_factor = 1.0\nhouse_kw = 1\n\
             meter = \"m-t{t}p{p}\"\ndefault_constraint_kw = {limit}"
        )
        .expect("a string takes all");
        if layout == Layout::Pdus {
            let (name, feed) = (format!("g{t}-{p}"), format!("t{t}p{p}"));
            group(&mut text, &name, &feed, &format!("{feed}.*"), machines);
        }
    }
    match layout {
        Layout::Pdus => {}
        Layout::OneGroup => group(&mut text, "all", "root", "t*", MACHINES),
        Layout::NoMachine => group(&mut text, "all", "root", "t*", 1),
    }
    text
}

/// How many machines the PDU has: 20,000 on all of them.
fn machines_of(pdu: usize) -> usize {
    let count = TRANSFORMERS * PDUS;
    MACHINES / count + usize::from(pdu < MACHINES % count)
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
}

/// A site whose core is under measurement.
struct Site {
    core: Core,
    origin: Instant,
    /// The time since the beginning of the run.
    elapsed: Duration,
    machines: Vec<MachineId>,
    /// When each machine was last heard of.
    heard: Vec<Timestamp>,
    /// One of so many machines is heard of each second.
    one_in: usize,
    /// How long the core has taken for all inputs.
    spent: Duration,
    /// The receivers' ends of the reports.
    proxy_sender: ReportSender,
    agent_sender: ReportSender,
    number: Option<Generation>,
    asked: u64,
    head: Head,
}

impl Site {
    fn new(layout: Layout) -> Self {
        let policy = policy::parse(&policy_text(layout), "bench.toml").expect("a sound policy");
        let mut state = LedgerState::default();
        state.apply(at(-10), &Event::Opened { epoch: 1 }).expect("the first entry");
        for (n, (t, p)) in pdus().step_by(2).take(LEASES).enumerate() {
            // Half of the leases have run for weeks already; the others begin within the plan's
            // horizon. With one group, one lease ends when another is about to begin, so that
            // machines pass from one to the other.
            let turn = 40_000 + 60 * i64::try_from(n).expect("a few hundred");
            let (start, end) = match (n % 2, layout) {
                (0, Layout::OneGroup) => (-86_400, turn),
                (0, _) => (-86_400, 30 * 86_400),
                _ => (turn, 30 * 86_400),
            };
            let feed =
                if layout == Layout::OneGroup { "root".to_owned() } else { format!("t{t}p{p}") };
            let lease = serde_json::from_value(serde_json::json!({
                "id": format!("lease-{n}"), "tenant": "t", "class": "firm", "it": 15_000,
                "pue": 1.0, "gross": 15_000, "feed": feed, "start": at(start), "end": at(end),
                "ready_before": {"secs": 600, "nanos": 0}, "accept_unverified": false, "meter": null,
            }));
            let event = Event::LeaseCommitted {
                lease: lease.expect("a sound lease"),
                arithmetic: Vec::new(),
                latest_safe_start: None,
                origin: None,
            };
            state.apply(at(-86_400), &event).expect("a new name");
        }
        let machines: Vec<MachineId> = pdus()
            .enumerate()
            .flat_map(|(n, (t, p))| {
                let count = if layout == Layout::NoMachine { 0 } else { machines_of(n) };
                (0..count).map(move |i| format!("t{t}p{p}.{i:02}").into())
            })
            .collect();
        let mut site = Self {
            core: Core::new(Arc::new(policy), state, Head::default(), at(0)),
            origin: daemon::clock::now(),
            elapsed: Duration::ZERO,
            heard: vec![at(0); machines.len()],
            one_in: 1,
            spent: Duration::ZERO,
            machines,
            proxy_sender: ReportSender::new(1),
            agent_sender: ReportSender::new(1),
            number: None,
            asked: 0,
            head: Head::default(),
        };
        for (receiver, role) in [(PROXY, ReceiverRole::Proxy), (AGENT, ReceiverRole::Agent)] {
            let outputs = site.handle(Input::Attach { receiver: receiver.into(), role }).0;
            assert!(matches!(outputs.attached, Some(Ok(_))));
            site.write(outputs);
        }
        // Until the first plan is made, and all machines that must sleep are asleep.
        for _ in 0..80 {
            site.pass();
        }
        let open = site.core.commitments().len();
        let off = site.core.plan().map_or(0, |plan| plan.selection.off.len());
        assert_eq!(open, LEASES);
        println!(
            "{layout:?}: {} machines, {open} open leases, {off} machines chosen to go",
            site.machines.len()
        );
        site
    }

    fn wall(&self) -> Timestamp {
        at(0) + self.elapsed
    }

    /// Hands `input` to the core. Returns the core's outputs, and how long it took.
    fn handle(&mut self, input: Input) -> (Outputs, Duration) {
        let (wall, now) = (self.wall(), self.origin + self.elapsed);
        let begun = daemon::clock::now();
        let outputs = self.core.handle(input, wall, now);
        let took = daemon::clock::now() - begun;
        self.spent += took;
        if let Some(timeline) = &outputs.timeline {
            self.number = Some(timeline.number);
        }
        (outputs, took)
    }

    /// Does what the core wants written and makes the plan that is due, until the core wants nothing
    /// more. Returns its answers, and how long the longest of these inputs took.
    fn write(&mut self, mut outputs: Outputs) -> (Vec<(u64, Answer)>, Duration) {
        let mut answers = std::mem::take(&mut outputs.answers);
        let mut longest = Duration::ZERO;
        loop {
            let input = if let Some(entries) = outputs.append.take() {
                self.head.seq += entries.len() as u64;
                Input::Written(Ok(self.head))
            } else if outputs.again {
                Input::Tick
            } else {
                return (answers, longest);
            };
            let (next, took) = self.handle(input);
            (outputs, longest) = (next, longest.max(took));
            answers.append(&mut outputs.answers);
        }
    }

    /// Commits a lease and cancels it. Returns how long the request took, and the plan that has it.
    fn commit(&mut self) -> (Duration, Duration) {
        self.pass();
        let request = self.request();
        let id = format!("more-{}", self.asked);
        let (outputs, took) = self.ask(Command::Commit(request, None));
        let (answers, planned) = self.write(outputs);
        assert!(matches!(answers[..], [(_, Answer::Committed(_))]), "{answers:?}");
        let cancel = Command::Cancel { lease: id.as_str().into(), force: false };
        let (outputs, _) = self.ask(cancel);
        self.write(outputs);
        (took, planned)
    }

    fn ask(&mut self, command: Command) -> (Outputs, Duration) {
        self.asked += 1;
        self.handle(Input::Command(self.asked, Box::new(command)))
    }

    /// Lets a tick pass. Returns how long the longest of its inputs took.
    fn tick(&mut self) -> Duration {
        self.elapsed += TICK;
        let (outputs, took) = self.handle(Input::Tick);
        took.max(self.write(outputs).1)
    }

    /// Lets a tick pass; each fourth time proxy and agent report. Returns how long the longest of
    /// these inputs took.
    fn pass(&mut self) -> Duration {
        let mut longest = self.tick();
        if self.elapsed.subsec_millis() == 0 {
            for (receiver, report) in
                [self.proxy_report(), self.agent_report(), self.meters_report()]
            {
                let (outputs, took) = self.handle(Input::Report(receiver, report));
                assert_eq!(outputs.resync, None, "no report is missing");
                longest = longest.max(took).max(self.write(outputs).1);
            }
        }
        longest
    }

    /// Lets a second pass in which a twentieth of the machines is heard of. Returns how long the core
    /// takes for all of its inputs.
    fn idle_second(&mut self) -> Duration {
        self.one_in = 20;
        let before = self.spent;
        for _ in 0..4 {
            self.pass();
        }
        self.one_in = 1;
        self.spent - before
    }

    /// Lets a machine more join, which makes a look find another fleet, and a plan for it. Returns how
    /// long the longest of these inputs took.
    fn join(&mut self) -> Duration {
        let joined = self.machines.len();
        self.machines.push(format!("t0p0.more-{joined}").into());
        self.heard.push(self.wall());
        let plan = self.core.plan().map(|plan| plan.made_at);
        // The reports, and a look after them.
        let longest = (0..8).map(|_| self.pass()).max().unwrap_or_default();
        assert_ne!(self.core.plan().map(|plan| plan.made_at), plan, "a plan for the new machine");
        longest
    }

    /// The machines that the plan has off now.
    fn off(&self) -> BTreeSet<&MachineId> {
        let wall = self.wall();
        let selection = self.core.plan().map(|plan| &plan.selection);
        let off = selection.iter().flat_map(|selection| selection.off.keys());
        off.filter(|id| selection.is_some_and(|s| s.current(id, wall).is_some())).collect()
    }

    /// Hears of the machines whose turn it is.
    fn hear(&mut self) {
        let (wall, one_in) = (self.wall(), self.one_in);
        let turn = usize::try_from(self.elapsed.as_secs()).expect("small") % one_in;
        self.heard.iter_mut().skip(turn).step_by(one_in).for_each(|heard| *heard = wall);
    }

    /// A proxy's report in which every machine that was heard of has changed, because each had a share.
    fn proxy_report(&mut self) -> (ReceiverId, Report) {
        self.hear();
        let (off, wall) = (self.off(), self.wall());
        let session = |(id, heard): (&MachineId, &Timestamp)| {
            let off = off.contains(id);
            SessionReport {
                machine: id.clone(),
                sessions: 1,
                serving: if off { Serving::Parked } else { Serving::Working },
                shares: 1,
                work: 1.0,
                last_share_at: (!off).then_some(*heard),
                still_hashing: 0,
            }
        };
        let sessions: Vec<SessionReport> =
            self.machines.iter().zip(&self.heard).map(session).collect();
        let seen = sessions.iter().map(SessionReport::seen);
        let delta = self.proxy_sender.report(seen, wall, self.number);
        self.proxy_sender.handed_over();
        (PROXY.into(), Report::Sessions(delta))
    }

    /// An agent's report in which every machine that was heard of has changed, because each was read.
    fn agent_report(&mut self) -> (ReceiverId, Report) {
        self.hear();
        let (off, wall) = (self.off(), self.wall());
        let device = |(id, heard): (&MachineId, &Timestamp)| MachineReport {
            machine: id.clone(),
            state: if off.contains(id) { DeviceState::Asleep } else { DeviceState::Awake },
            watts: None,
            read_at: Some(*heard),
            slept_at: None,
            asleep_by: off.contains(id).then_some(AsleepBy::Us),
            unrecorded: false,
            failures: 0,
            fault: None,
        };
        let machines: Vec<MachineReport> =
            self.machines.iter().zip(&self.heard).map(device).collect();
        let seen = machines.iter().map(MachineReport::seen);
        let delta = self.agent_sender.report(seen, wall, self.number);
        self.agent_sender.handed_over();
        (AGENT.into(), Report::Machines(delta))
    }

    /// A report of every meter: what the house and the machines that are on draw.
    fn meters_report(&mut self) -> (ReceiverId, Report) {
        let (off, wall) = (self.off(), self.wall());
        let mut draws: BTreeMap<String, i64> = BTreeMap::new();
        let mut draw = |pdu: &str, watts: i64| {
            let transformer = pdu.split('p').next().unwrap_or_default();
            for feed in ["root", transformer, pdu] {
                *draws.entry(format!("m-{feed}")).or_default() += watts;
            }
        };
        pdus().for_each(|(t, p)| draw(&format!("t{t}p{p}"), 1000));
        for machine in self.machines.iter().filter(|machine| !off.contains(machine)) {
            let pdu = machine.as_str().split('.').next().unwrap_or_default();
            draw(pdu, 3000);
        }
        let meter = |(meter, watts): (String, i64)| MeterReport {
            meter: meter.as_str().into(),
            watts: Some(Watts(watts)),
            taken_at: Some(wall),
            fault: None,
        };
        let meters = draws.into_iter().map(meter).collect();
        (AGENT.into(), Report::Meters(MetersReport { at: wall, full: true, meters }))
    }

    fn request(&self) -> LeaseRequest {
        let start = self.wall() + Duration::from_hours(20);
        serde_json::from_value(serde_json::json!({
            "id": format!("more-{}", self.asked), "tenant": "t", "it_kw": 5.0, "feed": "t1p1",
            "start": start.to_string(), "end": (start + Duration::from_hours(1)).to_string(),
        }))
        .expect("a sound request")
    }
}

/// The sum of the times that `count` calls of `measure` return.
fn total(count: u64, mut measure: impl FnMut() -> Duration) -> Duration {
    (0..count).map(|_| measure()).sum()
}

fn inputs(c: &mut Criterion) {
    let mut site = Site::new(Layout::Pdus);
    let mut group = c.benchmark_group("core");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("tick", |b| {
        b.iter_custom(|count| {
            total(count, || {
                site.pass();
                site.tick()
            })
        });
    });
    group.bench_function("tick within 250 ms of the last", |b| {
        b.iter_custom(|count| {
            site.pass();
            total(count, || site.handle(Input::Tick).1)
        });
    });
    for (name, of) in [
        (
            "report of a proxy, every machine changed",
            Site::proxy_report as fn(&mut Site) -> (ReceiverId, Report),
        ),
        ("report of an agent, every machine changed", Site::agent_report),
        ("report of meters", Site::meters_report),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                total(count, || {
                    site.pass();
                    let (receiver, report) = of(&mut site);
                    let (outputs, took) = site.handle(Input::Report(receiver, report));
                    site.write(outputs);
                    took
                })
            });
        });
    }
    group.bench_function("idle second", |b| {
        b.iter_custom(|count| total(count, || site.idle_second()));
    });
    group.bench_function("the longest input when a machine joins", |b| {
        b.iter_custom(|count| total(count, || site.join()));
    });
    plans(&mut group, &mut site);
    group.finish();
    for (name, layout) in
        [("core, one group", Layout::OneGroup), ("core, no machine", Layout::NoMachine)]
    {
        let mut site = Site::new(layout);
        let mut group = c.benchmark_group(name);
        group.sample_size(10).measurement_time(Duration::from_secs(10));
        plans(&mut group, &mut site);
        group.finish();
    }
}

/// The inputs that make a plan, and what leads to them.
fn plans(group: &mut BenchmarkGroup<'_, WallTime>, site: &mut Site) {
    group.bench_function("commit", |b| {
        b.iter_custom(|count| total(count, || site.commit().0));
    });
    group.bench_function("plan after a commit", |b| {
        b.iter_custom(|count| total(count, || site.commit().1));
    });
}

criterion_group!(benches, inputs);
criterion_main!(benches);
