//! The record, arranged for questions: who commanded a machine when, what a receiver held, which
//! leases were promised, when a role was down. It answers questions and judges nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use directive::{
    FeedId, Generation, LeaseId, MachineId, MeterId, Permit, Standing, Timeline, Watts,
};
use jiff::{SignedDuration, Timestamp};

use crate::facility::spec::{FacilitySpec, GroupSpec, MachineSpec, Measured, MeterSpec, Start};
use crate::record::{
    Cause, Commander, Event, Message, MeterShown, Order, Phase, Promise, Record, Role, Series,
    Shown, Side, Span, State, StateFound, SupplyShown,
};

/// A step of a wall clock up to this size is what time servers do every day: roles follow it.
pub(super) const FOLLOWED: Duration = Duration::from_secs(2);

/// Everything the judge asks of one run.
#[derive(Debug)]
pub(super) struct History<'a> {
    pub(super) spec: &'a FacilitySpec,
    pub(super) record: &'a Record,
    pub(super) machines: BTreeMap<&'a MachineId, Machine<'a>>,
    pub(super) agent: Receiver<'a>,
    pub(super) proxy: Receiver<'a>,
    /// The timelines sent, with the times at which they were.
    pub(super) issued: Vec<(Duration, &'a Arc<Timeline>)>,
    pub(super) leases: BTreeMap<&'a LeaseId, Lease<'a>>,
    pub(super) shown: Vec<(Duration, &'a Shown)>,
    meters: BTreeMap<&'a MeterId, Vec<(Duration, MeterShown)>>,
    supplies: BTreeMap<&'a FeedId, Vec<(Duration, SupplyShown)>>,
    /// When each feed lost its power, or had it again.
    powers: BTreeMap<&'a FeedId, Vec<(Duration, bool)>>,
    down: BTreeMap<Role, Vec<Span>>,
    /// The times at which the link to a receiver was cut.
    cut: BTreeMap<Role, Vec<Span>>,
    steps: Vec<(Duration, Role, SignedDuration)>,
    starts: Vec<(Duration, Role)>,
    groups: HashMap<&'a str, &'a GroupSpec>,
    /// How many machines each group has.
    sizes: HashMap<&'a str, usize>,
    paths: HashMap<&'a FeedId, Vec<&'a FeedId>>,
    plans: HashMap<Generation, Plan<'a>>,
}

/// A timeline by machine: what each may do, from each step on.
type Plan<'a> = HashMap<&'a MachineId, Vec<(Timestamp, Standing)>>;

/// What one machine did and what it was told.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) spec: &'a MachineSpec,
    /// Its states, each from a time on.
    pub(super) states: Vec<(Duration, State, Cause)>,
    pub(super) commands: Vec<(Duration, Order, Commander)>,
    /// Commands of an agent that were lost on the way.
    pub(super) lost: Vec<(Duration, Order)>,
    /// When it began, or ceased, to get work.
    pub(super) served: Vec<(Duration, bool)>,
}

/// What a receiver was told and what it remembers.
#[derive(Debug, Default)]
pub(super) struct Receiver<'a> {
    /// The timeline held, each from a time on; none after a start without state.
    held: Vec<(Duration, Option<&'a Arc<Timeline>>)>,
    /// The times during which a permit counted: it ends with its life, a withdrawal, another
    /// timeline or a restart.
    pub(super) permits: Vec<(Span, Permit)>,
    /// The machines that it was told are confirmed asleep, each list from a time on.
    pub(super) asleep: Vec<(Duration, &'a BTreeSet<MachineId>)>,
    pub(super) starts: Vec<(Duration, StateFound)>,
}

/// A lease as it was promised and as a client saw it.
#[derive(Debug, Default)]
pub(super) struct Lease<'a> {
    /// The promise and its changes, each from a time on.
    pub(super) promises: Vec<(Duration, &'a Promise)>,
    pub(super) phases: Vec<(Duration, Phase)>,
    pub(super) breaches: Vec<Breach>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) at: Duration,
    pub(super) since: Duration,
    pub(super) missing: Watts,
    pub(super) blamed: Side,
}

impl<'a> History<'a> {
    pub(super) fn new(spec: &'a FacilitySpec, record: &'a Record) -> Self {
        let machines = spec.machines.iter().map(|spec| (&spec.id, Machine::new(spec))).collect();
        let mut paths: HashMap<&FeedId, Vec<&FeedId>> = HashMap::new();
        for feed in &spec.feeds {
            let above = feed.parent.as_ref().map(|parent| paths[parent].clone());
            let path = std::iter::once(&feed.id).chain(above.unwrap_or_default()).collect();
            paths.insert(&feed.id, path);
        }
        let mut history = Self {
            spec,
            record,
            machines,
            agent: Receiver::default(),
            proxy: Receiver::default(),
            issued: Vec::new(),
            leases: BTreeMap::new(),
            shown: Vec::new(),
            meters: BTreeMap::new(),
            supplies: BTreeMap::new(),
            powers: BTreeMap::new(),
            down: BTreeMap::new(),
            cut: BTreeMap::new(),
            steps: Vec::new(),
            starts: Vec::new(),
            groups: spec.groups.iter().map(|group| (group.id.as_str(), group)).collect(),
            sizes: HashMap::new(),
            paths,
            plans: HashMap::new(),
        };
        for machine in &spec.machines {
            *history.sizes.entry(machine.group.as_str()).or_default() += 1;
        }
        let mut timelines = BTreeMap::new();
        for entry in &record.entries {
            if let Event::Issued(timeline) = &entry.event {
                timelines.insert(timeline.number, timeline);
                history.plans.entry(timeline.number).or_insert_with(|| plan(timeline));
            }
            history.take(entry.at, &entry.event, &timelines);
        }
        let ended = record.ended;
        for spans in history.down.values_mut() {
            spans.iter_mut().for_each(|span| span.to = span.to.min(ended));
        }
        history
    }

    fn take(
        &mut self,
        at: Duration,
        event: &'a Event,
        timelines: &BTreeMap<Generation, &'a Arc<Timeline>>,
    ) {
        match event {
            Event::Machine { machine, to, cause, .. } => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.states.push((at, *to, *cause));
                }
            }
            Event::Command { machine, order, by } => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.commands.push((at, *order, *by));
                }
            }
            Event::Served { machine, served } => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.served.push((at, *served));
                }
            }
            Event::Started { role, state, holds } => {
                self.starts.push((at, *role));
                if let Some(span) = self.down.entry(*role).or_default().last_mut() {
                    span.to = span.to.min(at);
                }
                let held = holds.and_then(|number| timelines.get(&number).copied());
                if let Some(receiver) = self.receiver_mut(*role) {
                    receiver.start(at, *state, held);
                }
            }
            Event::Stopped { role } => {
                self.down.entry(*role).or_default().push(Span { from: at, to: Duration::MAX });
                if let Some(receiver) = self.receiver_mut(*role) {
                    receiver.withdraw(at);
                }
            }
            Event::Issued(timeline) => self.issued.push((at, timeline)),
            Event::Heard { role, message } => {
                if let Some(receiver) = self.receiver_mut(*role) {
                    receiver.hear(at, message);
                }
            }
            Event::ClockStepped { role, by } => self.steps.push((at, *role, *by)),
            Event::Promised(promise) => self.lease(&promise.lease).promises.push((at, promise)),
            Event::Phase { lease, phase } => self.lease(lease).phases.push((at, *phase)),
            Event::Breach { lease, since, missing, blamed } => {
                let breach = Breach { at, since: *since, missing: *missing, blamed: *blamed };
                self.lease(lease).breaches.push(breach);
            }
            Event::Shown(shown) => self.shown.push((at, shown)),
            Event::CommandLost { machine, order } => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.lost.push((at, *order));
                }
            }
            Event::Link { receiver, works: false } => {
                let cut = Span { from: at, to: Duration::MAX };
                self.cut.entry(*receiver).or_default().push(cut);
            }
            Event::Link { receiver, works: true } => {
                if let Some(span) = self.cut.entry(*receiver).or_default().last_mut() {
                    span.to = span.to.min(at);
                }
            }
            Event::MeterShown { meter, shown } => {
                self.meters.entry(meter).or_default().push((at, *shown));
            }
            Event::SupplyShown { feed, shown } => {
                self.supplies.entry(feed).or_default().push((at, *shown));
            }
            Event::Power { feed, is_there } => {
                self.powers.entry(feed).or_default().push((at, *is_there));
            }
            Event::Meter { .. } => {}
        }
    }

    fn lease(&mut self, lease: &'a LeaseId) -> &mut Lease<'a> {
        self.leases.entry(lease).or_default()
    }

    fn receiver_mut(&mut self, role: Role) -> Option<&mut Receiver<'a>> {
        match role {
            Role::Agent => Some(&mut self.agent),
            Role::Proxy => Some(&mut self.proxy),
            Role::Switchboard => None,
        }
    }

    /// The group that a machine is declared in.
    pub(super) fn group(&self, machine: &MachineSpec) -> &'a GroupSpec {
        self.groups[machine.group.as_str()]
    }

    /// How many machines its driver looks after with it.
    pub(super) fn group_size(&self, machine: &MachineSpec) -> usize {
        self.sizes.get(machine.group.as_str()).copied().unwrap_or_default()
    }

    /// A feed and the feeds above it.
    pub(super) fn path(&self, feed: &FeedId) -> &[&'a FeedId] {
        self.paths.get(feed).map_or(&[], Vec::as_slice)
    }

    /// Whether `above` is `feed` or stands above it.
    pub(super) fn is_within(&self, feed: &FeedId, above: &FeedId) -> bool {
        self.path(feed).contains(&above)
    }

    /// The meter over a feed.
    pub(super) fn meter(&self, feed: &FeedId) -> Option<&'a MeterSpec> {
        self.spec.meters.iter().find(|meter| meter.of == Measured::Feed(feed.clone()))
    }

    /// Whether a meter was wrong or silent at some time in `span`.
    pub(super) fn is_faulty(&self, meter: &MeterSpec, span: Span) -> bool {
        meter.faults_in(span).next().is_some()
    }

    /// What a client was shown of a meter, and when.
    pub(super) fn meter_shown(&self, meter: &MeterId, ended: Duration) -> Vec<(Span, MeterShown)> {
        let shown = self.meters.get(meter).map_or(&[][..], Vec::as_slice);
        let spans = shown.iter().enumerate().map(|(index, (from, what))| {
            let to = shown.get(index + 1).map_or(ended, |(next, _)| *next);
            (Span { from: *from, to }, *what)
        });
        spans.collect()
    }

    /// What a client was shown of a feed's power, and when.
    pub(super) fn supply_shown(&self, feed: &FeedId) -> Vec<(Span, SupplyShown)> {
        let shown = self.supplies.get(feed).map_or(&[][..], Vec::as_slice);
        let spans = shown.iter().enumerate().map(|(index, (from, what))| {
            let to = shown.get(index + 1).map_or(self.record.ended, |(next, _)| *next);
            (Span { from: *from, to }, *what)
        });
        spans.collect()
    }

    /// The times at which a feed, or one above it, had lost its power. They may overlap.
    pub(super) fn dark(&self, feed: &FeedId) -> Vec<Span> {
        let mut dark = Vec::new();
        for above in self.path(feed) {
            let powers = self.powers.get(above).map_or(&[][..], Vec::as_slice);
            for (index, (from, is_there)) in powers.iter().enumerate() {
                let to = powers.get(index + 1).map_or(self.record.ended, |(next, _)| *next);
                dark.extend((!is_there).then_some(Span { from: *from, to }));
            }
        }
        dark
    }

    /// The times at which a role did not run.
    pub(super) fn down(&self, role: Role) -> &[Span] {
        self.down.get(&role).map_or(&[], Vec::as_slice)
    }

    /// Whether a role did not run at some time in `span`.
    pub(super) fn is_down_in(&self, role: Role, span: Span) -> bool {
        self.down(role).iter().any(|down| down.from < span.to && span.from < down.to)
    }

    /// Whether the link to a receiver was cut at some time in `span`.
    pub(super) fn is_cut_in(&self, receiver: Role, span: Span) -> bool {
        let cuts = self.cut.get(&receiver).map_or(&[][..], Vec::as_slice);
        cuts.iter().any(|cut| cut.from < span.to && span.from < cut.to)
    }

    /// By how much a role's wall clock was ahead of the true time at `at`.
    pub(super) fn ahead(&self, role: Role, at: Duration) -> SignedDuration {
        let until = self.steps.iter().filter(|(when, of, _)| *when <= at && *of == role);
        until.map(|(.., by)| *by).fold(SignedDuration::ZERO, |sum, by| sum.saturating_add(by))
    }

    /// The farthest that a role's wall clock was ahead at any time up to `at`.
    pub(super) fn most_ahead(&self, role: Role, at: Duration) -> SignedDuration {
        let times = self.steps.iter().map(|(when, ..)| *when).filter(|when| *when <= at);
        let ahead = times.map(|when| self.ahead(role, when));
        ahead.max().unwrap_or_default().max(SignedDuration::ZERO)
    }

    /// Whether a role's wall clock was off by more than roles follow at some time in `span`.
    pub(super) fn is_stepped(&self, role: Role, span: Span) -> bool {
        let times = self.steps.iter().map(|(when, ..)| *when).filter(|when| *when < span.to);
        let changes = times.filter(|when| *when > span.from).chain([span.from]);
        changes.into_iter().any(|at| self.ahead(role, at).unsigned_abs() > FOLLOWED)
    }

    /// Whether a role must have noticed at some time in `span` that its wall clock was stepped since it
    /// started: it believes the clock that it starts with, also when that is set right later.
    pub(super) fn doubts_clock(&self, role: Role, span: Span) -> bool {
        let times = self.steps.iter().map(|(when, ..)| *when).filter(|when| *when < span.to);
        let starts = self.starts.iter().map(|(when, _)| *when).filter(|when| *when < span.to);
        let changes = times.chain(starts).filter(|when| *when > span.from).chain([span.from]);
        changes.into_iter().any(|at| {
            let since = self.ahead(role, at).saturating_sub(self.ahead_at_start(role, at));
            since.unsigned_abs() > FOLLOWED
        })
    }

    /// Whether a role ever started while its wall clock was wrong, up to `at`.
    pub(super) fn started_on_wrong_clock(&self, role: Role, at: Duration) -> bool {
        self.starts.iter().any(|(when, of)| {
            *of == role && *when <= at && self.ahead(role, *when).unsigned_abs() > FOLLOWED
        })
    }

    /// Whether a role's wall clock was wrong at some time in `span`, or the role believed it to be.
    pub(super) fn had_wrong_clock(&self, role: Role, span: Span) -> bool {
        self.is_stepped(role, span) || self.doubts_clock(role, span)
    }

    /// Whether a role had started with its state lost, or older, by `at`.
    pub(super) fn lost_state(&self, at: Duration) -> bool {
        let entries = self.record.entries.iter().take_while(|entry| entry.at <= at);
        let lost = |state: &StateFound| matches!(state, StateFound::Lost | StateFound::Older);
        entries
            .into_iter()
            .any(|entry| matches!(&entry.event, Event::Started { state, .. } if lost(state)))
    }

    /// Whether at some time in `span` the agent did not hold the newest timeline that was sent at least
    /// `message_max` before.
    pub(super) fn is_behind(&self, span: Span, message_max: Duration) -> bool {
        let arrivals = self.issued.iter().map(|(at, _)| *at + message_max);
        let times = arrivals.filter(|at| *at > span.from && *at < span.to).chain([span.from]);
        times.into_iter().any(|at| {
            let sent = self.newest(at.saturating_sub(message_max)).map(|timeline| timeline.number);
            self.agent.held(at).map(|timeline| timeline.number) < sent
        })
    }

    /// By how much small steps, which every role follows, may have moved its clock either way.
    pub(super) fn followed(&self, role: Role, at: Duration) -> Duration {
        let steps = self.steps.iter().filter(|(when, of, _)| *when <= at && *of == role);
        let small = steps.map(|(.., by)| by.unsigned_abs()).filter(|by| *by <= FOLLOWED);
        small.sum()
    }

    /// By how much a role's wall clock was ahead when it started last before `at`.
    pub(super) fn ahead_at_start(&self, role: Role, at: Duration) -> SignedDuration {
        let started = self.starts.iter().rev().find(|(when, of)| *of == role && *when <= at);
        started.map_or(SignedDuration::ZERO, |(when, _)| self.ahead(role, *when))
    }

    /// The newest timeline sent by `at`.
    pub(super) fn newest(&self, at: Duration) -> Option<&'a Arc<Timeline>> {
        let sent = self.issued.partition_point(|(when, _)| *when <= at);
        self.issued[..sent].iter().map(|(_, timeline)| *timeline).max_by_key(|t| t.number)
    }

    /// What `timeline` wants of a machine when a wall clock that is `ahead` of the true time shows
    /// `at`.
    pub(super) fn standing(
        &self,
        timeline: &Timeline,
        machine: &MachineId,
        at: Duration,
        ahead: SignedDuration,
    ) -> Standing {
        let wall = self.record.wall(at).checked_add(ahead).unwrap_or(Timestamp::MAX);
        let steps = self.plans.get(&timeline.number).and_then(|plan| plan.get(machine));
        let steps = steps.map_or(&[][..], Vec::as_slice);
        let due = steps.partition_point(|(from, _)| *from <= wall);
        due.checked_sub(1).map_or(Standing::default(), |last| steps[last].1)
    }

    /// The times, true ones, at which `timeline` changes what a machine may do.
    pub(super) fn turns(&self, timeline: &Timeline, machine: &MachineId) -> Vec<Duration> {
        let steps = self.plans.get(&timeline.number).and_then(|plan| plan.get(machine));
        let times = steps.into_iter().flatten().map(|(at, _)| self.record.virtual_time(*at));
        times.collect()
    }

    /// What a lease reserves at `at`, by what was promised then.
    pub(super) fn reserved(&self, lease: &Lease<'_>, at: Duration) -> Watts {
        let promise = lease.promise(at);
        let reserves = |promise: &&Promise| {
            promise.start.saturating_sub(promise.ready_before) <= at && at < promise.end
        };
        promise.filter(reserves).map_or(Watts::ZERO, |promise| promise.watts)
    }

    /// What a tenant drew.
    pub(super) fn drawn(&self, lease: &LeaseId) -> Option<&'a Series> {
        self.record.tenants.get(lease)
    }
}

fn plan<'a>(timeline: &'a Timeline) -> Plan<'a> {
    let mut plan = Plan::new();
    for step in &timeline.steps {
        let standing = Standing { action: step.action, means: step.means };
        for machine in &step.machines {
            let steps = plan.entry(machine).or_default();
            // Of two steps at one time the later in the list counts.
            steps.retain(|(at, _)| *at != step.at);
            steps.push((step.at, standing));
        }
    }
    plan
}

impl<'a> Machine<'a> {
    fn new(spec: &'a MachineSpec) -> Self {
        let state = match spec.start {
            Start::Awake => State::Awake,
            Start::Asleep => State::Asleep,
            Start::OffUntil(_) => State::Dead,
        };
        let states = vec![(Duration::ZERO, state, Cause::Completed)];
        Self { spec, states, commands: Vec::new(), lost: Vec::new(), served: Vec::new() }
    }

    pub(super) fn state(&self, at: Duration) -> State {
        let begun = self.states.partition_point(|(when, ..)| *when <= at);
        self.states[begun.max(1) - 1].1
    }

    /// What it drew more than its nameplate, while it drew as an awake machine does.
    pub(super) fn overdraw(&self, nameplate: Watts, at: Duration) -> Watts {
        let is_up = matches!(self.state(at), State::Awake | State::FallingAsleep);
        if is_up { self.spec.awake.saturating_sub(nameplate) } else { Watts::ZERO }
    }

    /// When it was told to sleep or to wake, whether it took that or lost it.
    pub(super) fn told(&self) -> impl Iterator<Item = Duration> {
        let taken = self.commands.iter().map(|(at, ..)| *at);
        taken.chain(self.lost.iter().map(|(at, _)| *at))
    }

    /// The last command that an agent gave it up to `at`.
    pub(super) fn last_command(&self, at: Duration) -> Option<(Duration, Order)> {
        let given = self.commands.iter().take_while(|(when, ..)| *when <= at);
        let by_agent = given.filter(|(.., by)| *by == Commander::Agent);
        by_agent.last().map(|(when, order, _)| (*when, *order))
    }

    /// The times in which it slept because an agent had told it to.
    pub(super) fn sleeps_of_ours(&self, ended: Duration) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut ours = false;
        for (index, (from, state, cause)) in self.states.iter().enumerate() {
            match (state, cause) {
                (State::FallingAsleep, Cause::Commanded { by, .. }) => {
                    ours = *by == Commander::Agent;
                }
                (State::Asleep, _) if ours => {
                    let to = self.states.get(index + 1).map_or(ended, |next| next.0);
                    spans.push(Span { from: *from, to });
                }
                (State::Asleep, _) => {}
                _ => ours = false,
            }
        }
        spans
    }
}

impl<'a> Receiver<'a> {
    fn start(&mut self, at: Duration, state: StateFound, held: Option<&'a Arc<Timeline>>) {
        self.withdraw(at);
        self.starts.push((at, state));
        self.held.push((at, held));
    }

    fn hear(&mut self, at: Duration, message: &'a Message) {
        match message {
            Message::Timeline(timeline) => {
                if self.number(at).is_none_or(|number| number < timeline.number) {
                    // The permits of a former epoch are void.
                    if self.number(at).is_some_and(|number| number.epoch < timeline.number.epoch) {
                        self.withdraw(at);
                    }
                    self.held.push((at, Some(timeline)));
                }
            }
            Message::Permit(permit)
                if self.number(at).is_some_and(|have| {
                    permit.number.epoch == have.epoch && permit.number <= have
                }) =>
            {
                self.withdraw(at);
                let to = at + Duration::from_millis(permit.ttl_ms);
                self.permits.push((Span { from: at, to }, permit.clone()));
            }
            Message::Withdrawn => self.withdraw(at),
            Message::Asleep(machines) => self.asleep.push((at, machines)),
            Message::Permit(_) => {}
        }
    }

    fn withdraw(&mut self, at: Duration) {
        if let Some((span, _)) = self.permits.last_mut() {
            span.to = span.to.min(at);
        }
    }

    fn number(&self, at: Duration) -> Option<Generation> {
        self.held(at).map(|timeline| timeline.number)
    }

    /// Since when it has held a timeline, if it ever did.
    pub(super) fn first_held(&self) -> Option<Duration> {
        self.held.iter().find(|(_, timeline)| timeline.is_some()).map(|(at, _)| *at)
    }

    /// The timeline held at `at`.
    pub(super) fn held(&self, at: Duration) -> Option<&'a Arc<Timeline>> {
        let begun = self.held.partition_point(|(when, _)| *when <= at);
        self.held.get(begun.checked_sub(1)?)?.1
    }

    /// Since when the timeline is held that is held at `at`.
    pub(super) fn held_since(&self, at: Duration) -> Option<Duration> {
        let begun = self.held.partition_point(|(when, _)| *when <= at);
        Some(self.held.get(begun.checked_sub(1)?)?.0)
    }

    /// The timelines held at some time in `span`, with the part of it in which each was.
    pub(super) fn held_in(&self, span: Span) -> Vec<(Span, Option<&'a Arc<Timeline>>)> {
        let mut found = Vec::new();
        for (index, (from, timeline)) in self.held.iter().enumerate() {
            let to = self.held.get(index + 1).map_or(Duration::MAX, |next| next.0);
            // What is heard at its end is held at its end.
            let end = span.to + Duration::from_nanos(1);
            if let Some(part) =
                (Span { from: *from, to }).overlap(Span { from: span.from, to: end })
            {
                found.push((part, *timeline));
            }
        }
        found
    }

    /// Every timeline it ever held up to `at`, oldest first.
    pub(super) fn held_before(&self, at: Duration) -> impl Iterator<Item = &'a Arc<Timeline>> {
        let begun = self.held.iter().take_while(move |(when, _)| *when <= at);
        begun.filter_map(|(_, timeline)| *timeline)
    }

    /// Whether a permit for `machine` counted during some of `span`, its end excluded.
    pub(super) fn permits_within(&self, machine: &MachineId, span: Span) -> bool {
        self.permits_of(machine).any(|live| live.overlap(span).is_some())
    }

    /// Whether a permit for `machine` counted at some time in `span`, its ends included.
    pub(super) fn may_raise_in(&self, machine: &MachineId, span: Span) -> bool {
        self.permits_of(machine).any(|live| live.from <= span.to && span.from <= live.to)
    }

    fn permits_of(&self, machine: &MachineId) -> impl Iterator<Item = Span> {
        let named = self.permits.iter().filter(|(_, permit)| permit.machines.contains(machine));
        named.map(|(live, _)| *live)
    }
}

impl<'a> Lease<'a> {
    /// The promise as of `at`.
    pub(super) fn promise(&self, at: Duration) -> Option<&'a Promise> {
        let made = self.promises.partition_point(|(when, _)| *when <= at);
        Some(self.promises.get(made.checked_sub(1)?)?.1)
    }

    pub(super) fn phase(&self, at: Duration) -> Option<Phase> {
        let seen = self.phases.partition_point(|(when, _)| *when <= at);
        Some(self.phases.get(seen.checked_sub(1)?)?.1)
    }

    /// The times up to `ended` in which it was shown proven or active.
    pub(super) fn proven(&self, ended: Duration) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (index, (from, phase)) in self.phases.iter().enumerate() {
            let to = self.phases.get(index + 1).map_or(ended, |next| next.0.min(ended));
            if !matches!(phase, Phase::Proven | Phase::Active) || *from >= to {
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.to == *from => last.to = to,
                _ => spans.push(Span { from: *from, to }),
            }
        }
        spans
    }
}
