//! A simulated facility: machines, house, tenants and meters on a tree of feeds.
//!
//! It stands where real devices stand, and knows nothing of what any role decided. It reads no clock
//! and does no IO: every call has the virtual time, and what is due before that time is done first,
//! each at its own time. What happens goes into the [`Record`], which the judge reads.
//!
//! Use: [`Facility::new`], then [`Facility::next`] tells when something happens by itself, and
//! [`Facility::step`] lets it happen and returns what the proxy would notice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use directive::{ActuatorError, DeviceState, FeedId, LeaseId, MachineId, MeterId, Watts};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::record::{Commander, Event, FeedRecord, Order, Record, Series, State};
use machine::Machine;
use power::Power;

pub mod draw;
mod machine;
mod meter;
mod power;
pub mod spec;

pub use machine::Answer;
pub use meter::Sample;
use spec::{FacilitySpec, FeedSpec, Measured, MeterSpec, TenantSpec};

#[derive(Debug)]
pub struct Facility {
    record: Record,
    machines: Vec<Site>,
    numbers: HashMap<MachineId, usize>,
    /// For each feed, itself and the feeds above it.
    paths: HashMap<FeedId, Vec<FeedId>>,
    meters: HashMap<MeterId, MeterSpec>,
    /// What the tenants draw that a meter stands over, by meter.
    metered: HashMap<MeterId, Series>,
    tenants: HashMap<LeaseId, Tenant>,
    /// The feeds, with the limits by the policy in force.
    limited: HashMap<FeedId, FeedSpec>,
    /// What the house draws at each feed that has power, without the feeds below.
    houses: HashMap<FeedId, Watts>,
    power: Power,
    /// What is due, the earliest first; equal times in the order in which they were set.
    due: BinaryHeap<Reverse<(Duration, u64, Due)>>,
    order: u64,
    /// What the proxy has not been told yet.
    notices: Vec<Notice>,
    rng: StdRng,
    seed: u64,
}

/// A machine and what the record has of it.
#[derive(Debug)]
struct Site {
    machine: Machine,
    watts: Watts,
    connected: bool,
    hashing: bool,
    /// The earliest entry in the queue of what is due.
    scheduled: Option<Duration>,
}

#[derive(Debug)]
struct Tenant {
    spec: TenantSpec,
    /// What it draws, and what it would draw with power.
    watts: Watts,
    wants: Watts,
    /// Counts changes of its schedule, so that steps of a former one are skipped.
    version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// This machine has something to do.
    Machine(usize),
    /// The limit of a feed changes by the policy in force.
    Limit(FeedId),
    /// The house at a feed draws this much.
    House(FeedId, Watts),
    /// A tenant draws this much, by this version of its schedule.
    Tenant(LeaseId, u64, Watts),
    /// A meter's fault of this index begins.
    Meter(MeterId, usize),
}

/// What a proxy notices of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub at: Duration,
    pub machine: MachineId,
    pub what: Noticed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// It has opened a connection, which has had no work yet.
    Connected,
    Disconnected,
    /// Shares come from now on.
    HashingBegan,
    HashingEnded,
}

impl Facility {
    /// Builds the facility as it stands when the run begins.
    ///
    /// # Panics
    /// When a feed or a group is named that does not exist: the world that draws the specification
    /// is at fault.
    #[must_use]
    pub fn new(spec: FacilitySpec) -> Self {
        let mut paths: HashMap<FeedId, Vec<FeedId>> = HashMap::new();
        let mut record = Record::new(spec.begins);
        for feed in &spec.feeds {
            let above = feed.parent.as_ref().map_or(&[][..], |parent| &paths[parent]);
            let path = std::iter::once(&feed.id).chain(above).cloned().collect();
            paths.insert(feed.id.clone(), path);
            let empty = Series::constant(Watts::ZERO);
            record.feeds.insert(
                feed.id.clone(),
                FeedRecord {
                    load: empty.clone(),
                    mining: empty.clone(),
                    house: empty.clone(),
                    tenants: empty,
                    usable: Series::constant(feed.usable()),
                },
            );
        }
        let mut facility = Self {
            record,
            machines: Vec::new(),
            numbers: HashMap::new(),
            paths,
            meters: HashMap::new(),
            metered: HashMap::new(),
            tenants: HashMap::new(),
            limited: HashMap::new(),
            houses: HashMap::new(),
            power: Power::default(),
            due: BinaryHeap::new(),
            order: 0,
            notices: Vec::new(),
            rng: StdRng::seed_from_u64(spec.seed),
            seed: spec.seed,
        };
        facility.fill(spec);
        facility.advance(Duration::ZERO);
        facility
    }

    fn fill(&mut self, spec: FacilitySpec) {
        for feed in spec.feeds {
            for (at, watts) in &feed.house {
                self.schedule(*at, Due::House(feed.id.clone(), *watts));
            }
            for (at, _) in &feed.limits {
                self.schedule(*at, Due::Limit(feed.id.clone()));
            }
            self.limited.insert(feed.id.clone(), feed);
        }
        for (number, machine) in spec.machines.into_iter().enumerate() {
            self.numbers.insert(machine.id.clone(), number);
            let machine = Machine::new(machine);
            let site = Site {
                machine,
                watts: Watts::ZERO,
                connected: false,
                hashing: false,
                scheduled: None,
            };
            self.machines.push(site);
            self.look(number, Duration::ZERO);
        }
        for meter in spec.meters {
            for (index, (at, _)) in meter.faults.iter().enumerate() {
                self.schedule(*at, Due::Meter(meter.id.clone(), index));
            }
            self.metered.insert(meter.id.clone(), Series::constant(Watts::ZERO));
            self.meters.insert(meter.id.clone(), meter);
        }
    }

    /// When something happens by itself next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets everything happen that is due by `now`, and returns what a proxy notices since the last
    /// call. Call it after each other method too: serving a machine may begin its shares.
    pub fn step(&mut self, now: Duration) -> Vec<Notice> {
        self.advance(now);
        std::mem::take(&mut self.notices)
    }

    /// A command arrives at a machine's management interface. `None` when it never answers; else
    /// its answer and how long that takes.
    pub fn command(
        &mut self,
        machine: &MachineId,
        order: Order,
        by: Commander,
        now: Duration,
    ) -> Answer<()> {
        self.advance(now);
        let Some(&number) = self.numbers.get(machine) else { return Some(absent(machine)) };
        let event = Event::Command { machine: machine.clone(), order, by };
        self.record.push(now, event);
        let answer = self.machines[number].machine.command(order, by, now, &mut self.rng);
        self.look(number, now);
        answer
    }

    /// A read arrives at a machine's management interface. `None` when it never answers; else what
    /// it says of itself and how long that takes.
    pub fn read(&mut self, machine: &MachineId, now: Duration) -> Answer<(DeviceState, Watts)> {
        self.advance(now);
        let Some(&number) = self.numbers.get(machine) else { return Some(absent(machine)) };
        self.machines[number].machine.read(&mut self.rng)
    }

    /// A proxy gives a machine work, or none. A machine without a connection gets none.
    pub fn serve(&mut self, machine: &MachineId, served: bool, now: Duration) {
        self.advance(now);
        let Some(&number) = self.numbers.get(machine) else { return };
        let site = &mut self.machines[number];
        if !site.machine.is_connected() || site.machine.is_served() == served {
            return;
        }
        site.machine.serve(served, now);
        self.record.push(now, Event::Served { machine: machine.clone(), served });
        self.look(number, now);
    }

    /// What a meter shows; `None` when it does not answer or does not exist.
    pub fn meter(&mut self, meter: &MeterId, now: Duration) -> Option<Sample> {
        self.advance(now);
        let spec = self.meters.get(meter)?;
        let truth = match &spec.of {
            Measured::Feed(feed) => &self.record.feeds[feed].load,
            Measured::Tenants => &self.metered[meter],
        };
        meter::read(spec, truth, self.seed, now)
    }

    /// Brings a tenant in, or gives it another schedule from `now` on.
    pub fn tenant(&mut self, tenant: TenantSpec, now: Duration) {
        self.advance(now);
        let former = self.tenants.get(&tenant.lease);
        let version = former.map_or(0, |former| former.version + 1);
        let watts = former.map_or(Watts::ZERO, |former| former.watts);
        let wants = former.map_or(Watts::ZERO, |former| former.wants);
        for (at, watts) in &tenant.draws {
            self.schedule((*at).max(now), Due::Tenant(tenant.lease.clone(), version, *watts));
        }
        self.tenants.insert(tenant.lease.clone(), Tenant { spec: tenant, watts, wants, version });
    }

    /// A policy is in force by which a feed has these limits. They change at the same times as those that
    /// the facility was built with.
    pub fn set_limits(&mut self, feed: &FeedSpec, now: Duration) {
        self.advance(now);
        self.limited.insert(feed.id.clone(), feed.clone());
        self.limit(&feed.id, now);
    }

    fn limit(&mut self, feed: &FeedId, at: Duration) {
        if let (Some(record), Some(spec)) =
            (self.record.feeds.get_mut(feed), self.limited.get(feed))
        {
            record.usable.set(at, spec.usable_at(at));
        }
    }

    /// A machine's state, what it draws, and whether it hashes.
    #[must_use]
    pub fn machine(&self, machine: &MachineId) -> Option<(State, Watts, bool)> {
        let site = &self.machines[*self.numbers.get(machine)?];
        Some((site.machine.state(), site.watts, site.hashing))
    }

    /// What has happened. The world adds what it knows through [`Self::note`].
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Adds to the record what the world knows.
    pub fn note(&mut self, event: Event, now: Duration) {
        self.advance(now);
        self.record.push(now, event);
    }

    /// Ends the run.
    #[must_use]
    pub fn end(mut self, now: Duration) -> Record {
        self.advance(now);
        self.record.ended = now;
        self.record
    }

    fn advance(&mut self, now: Duration) {
        while let Some(Reverse((at, ..))) = self.due.peek()
            && *at <= now
        {
            let Some(Reverse((at, _, due))) = self.due.pop() else { return };
            match due {
                Due::Machine(number) => self.look(number, at),
                Due::Limit(feed) => self.limit(&feed, at),
                Due::House(feed, watts) => self.house(&feed, watts, at),
                Due::Tenant(lease, version, watts) => self.draw(&lease, version, watts, at),
                Due::Meter(meter, index) => {
                    let fault = self.meters[&meter].faults[index].1;
                    self.record.push(at, Event::Meter { meter, fault });
                }
            }
        }
    }

    /// Does what is due of a machine at `at`, and writes down what came of it.
    fn look(&mut self, number: usize, at: Duration) {
        let site = &mut self.machines[number];
        site.scheduled = site.scheduled.filter(|scheduled| *scheduled > at);
        while site.machine.next().is_some_and(|due| due <= at) {
            let Some(change) = site.machine.advance(at) else { continue };
            let (machine, from, to) = (site.machine.spec.id.clone(), change.from, change.to);
            self.record.push(at, Event::Machine { machine, from, to, cause: change.cause });
        }
        let watts = site.machine.watts();
        let change = watts - std::mem::replace(&mut site.watts, watts);
        self.add_at(number, change, at);
        self.notice(number, at);
        let site = &mut self.machines[number];
        if let Some(next) = site.machine.next()
            && site.scheduled.is_none_or(|scheduled| next < scheduled)
        {
            site.scheduled = Some(next);
            self.schedule(next, Due::Machine(number));
        }
    }

    /// Adds a machine's change of power to its feed and those above.
    fn add_at(&mut self, number: usize, change: Watts, at: Duration) {
        if change == Watts::ZERO {
            return;
        }
        for feed in &self.paths[&self.machines[number].machine.spec.feed] {
            let feed = self.record.feeds.get_mut(feed).expect("every feed has a record");
            feed.mining.add(at, change);
            feed.load.add(at, change);
        }
    }

    /// Keeps for the proxy what it notices of a machine.
    fn notice(&mut self, number: usize, at: Duration) {
        let site = &mut self.machines[number];
        let (connected, hashing) = (site.machine.is_connected(), site.machine.is_hashing());
        let was_connected = std::mem::replace(&mut site.connected, connected);
        let was_hashing = std::mem::replace(&mut site.hashing, hashing);
        let machine = &site.machine.spec.id;
        let noticed = [
            (was_hashing && !hashing, Noticed::HashingEnded),
            (was_connected && !connected, Noticed::Disconnected),
            (!was_connected && connected, Noticed::Connected),
            (!was_hashing && hashing, Noticed::HashingBegan),
        ];
        for (_, what) in noticed.into_iter().filter(|(noticed, _)| *noticed) {
            self.notices.push(Notice { at, machine: machine.clone(), what });
        }
    }

    fn house(&mut self, feed: &FeedId, watts: Watts, at: Duration) {
        self.houses.insert(feed.clone(), watts);
        self.draw_house(feed, at);
    }

    /// Writes down what the house at `feed` draws, with the power that there is.
    fn draw_house(&mut self, feed: &FeedId, at: Duration) {
        let wants = self.houses.get(feed).copied().unwrap_or_default();
        let watts = if self.has_power(feed) { wants } else { Watts::ZERO };
        let change = watts - self.power.house(feed, watts);
        for feed in &self.paths[feed] {
            let feed = self.record.feeds.get_mut(feed).expect("every feed has a record");
            feed.house.add(at, change);
            feed.load.add(at, change);
        }
    }

    fn draw(&mut self, lease: &LeaseId, version: u64, watts: Watts, at: Duration) {
        let Some(tenant) = self.tenants.get_mut(lease) else { return };
        if tenant.version != version {
            return;
        }
        tenant.wants = watts;
        self.draw_tenant(lease, at);
    }

    /// Writes down what a tenant draws, with the power that there is.
    fn draw_tenant(&mut self, lease: &LeaseId, at: Duration) {
        let Some(tenant) = self.tenants.get(lease) else { return };
        let has_power = self.has_power(&tenant.spec.feed);
        let Some(tenant) = self.tenants.get_mut(lease) else { return };
        let watts = if has_power { tenant.wants } else { Watts::ZERO };
        let change = watts - std::mem::replace(&mut tenant.watts, watts);
        for feed in &self.paths[&tenant.spec.feed] {
            let feed = self.record.feeds.get_mut(feed).expect("every feed has a record");
            feed.tenants.add(at, change);
            feed.load.add(at, change);
        }
        self.record.tenants.entry(lease.clone()).or_default().set(at, watts);
        if let Some(metered) = tenant.spec.meter.as_ref().and_then(|id| self.metered.get_mut(id)) {
            metered.add(at, change);
        }
    }

    fn schedule(&mut self, at: Duration, due: Due) {
        self.order += 1;
        self.due.push(Reverse((at, self.order, due)));
    }
}

fn absent<T>(machine: &MachineId) -> (Result<T, ActuatorError>, Duration) {
    let why = format!("there is no machine {machine:?}");
    (Err(ActuatorError::Failed { why }), Duration::ZERO)
}

#[cfg(test)]
mod tests;
