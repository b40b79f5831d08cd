//! Random facilities under random directives, failures and restarts: what must always hold is
//! checked at every command, against the test's own record.

use super::*;
use crate::journal::{Intent, fold};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Obeys,
    Refuses,
    Lies,
    WakesByItself,
    TimesOut,
    /// The machine falls asleep seconds after it was told to.
    Slow,
    /// An operator put the machine to sleep before the start.
    AsleepBefore,
    /// Only the proxy reaches the machine, by giving it no work.
    Starved,
}

const BEHAVIOURS: [Behaviour; 8] = [
    Behaviour::Obeys,
    Behaviour::Refuses,
    Behaviour::Lies,
    Behaviour::WakesByItself,
    Behaviour::TimesOut,
    Behaviour::Slow,
    Behaviour::AsleepBefore,
    Behaviour::Starved,
];

/// How long a slow device takes to fall asleep, which is within the time that the agent allows.
const SLOW_MS: u64 = 12_000;

struct Device {
    behaviour: Behaviour,
    asleep: bool,
    /// When the machine will fall asleep.
    falls: Option<u64>,
    /// Whether the agent has read the machine since the agent's last start.
    asked: bool,
    /// Since when the machine must be asleep, without a restart of the agent in between.
    due_since: Option<u64>,
}

struct World {
    seed: u64,
    rng: StdRng,
    bench: Bench,
    devices: BTreeMap<String, Device>,
    /// Answers under way: the time of each, the machine, and the kind of command.
    open: Vec<(u64, String, Kind)>,
    writes: Vec<(u64, u64, AgentState)>,
    disk: AgentState,
    /// What is in the journal's file, and what it did not take.
    journal: Vec<Intent>,
    unjournaled: Vec<Intent>,
    /// Machines that were told to sleep without a record before the agent died.
    lost: BTreeSet<String>,
    generation: u64,
    serial: u64,
    held: Option<Arc<Timeline>>,
    /// The valid permit by the test's own record: its generation, and the time at which it ends.
    permitted: Option<(u64, u64)>,
    /// The number of starts of the agent.
    starts: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let devices = (0..rng.random_range(1..12))
            .map(|number| {
                let behaviour = if rng.random_bool(0.5) {
                    Behaviour::Obeys
                } else {
                    *BEHAVIOURS.choose(&mut rng).unwrap()
                };
                let asleep = behaviour == Behaviour::AsleepBefore;
                (
                    format!("m{number}"),
                    Device { behaviour, asleep, falls: None, asked: false, due_since: None },
                )
            })
            .collect();
        let bench = Bench::new(config(&["m*"], 3), AgentState::default());
        Self {
            seed,
            rng,
            bench,
            devices,
            open: Vec::new(),
            writes: Vec::new(),
            disk: AgentState::default(),
            journal: Vec::new(),
            unjournaled: Vec::new(),
            lost: BTreeSet::new(),
            generation: 0,
            serial: 0,
            held: None,
            permitted: None,
            starts: 1,
        }
    }

    /// A timeline of a few steps around now.
    fn new_timeline(&mut self) {
        self.generation += 1;
        let mut steps = Vec::new();
        for (name, device) in &self.devices {
            let means =
                if device.behaviour == Behaviour::Starved { Means::Starve } else { Means::Device };
            let mut due = self.bench.now.saturating_sub(1000);
            for _ in 0..self.rng.random_range(0..4) {
                due += self.rng.random_range(0..20_000);
                let actions =
                    [Action::Run, Action::Hold, Action::Drain, Action::Curtail, Action::Lockout];
                steps.push(step(due, *actions.choose(&mut self.rng).unwrap(), means, &[name]));
            }
        }
        steps.sort_by_key(|step| step.at);
        self.held = Some(timeline(self.generation, steps));
        self.permitted = None;
        self.tell(None);
    }

    fn new_permit(&mut self) {
        self.serial += 1;
        // Some permits are for a different timeline, and must not count.
        let generation =
            if self.rng.random_bool(0.2) { self.generation + 1 } else { self.generation };
        let ttl_ms = self.rng.random_range(5_000..30_000);
        if generation == self.generation && self.held.is_some() {
            self.permitted = Some((generation, self.bench.now + ttl_ms));
        }
        self.tell(Some(Permit { ttl_ms, ..permit(generation, self.serial) }));
    }

    fn tell(&mut self, permit: Option<Permit>) {
        let downlink = Downlink { timeline: self.held.clone(), permit, ..Downlink::default() };
        self.bench.core.downlink(&downlink, at(self.bench.now), self.bench.instant());
        self.outputs();
    }

    /// The process dies: commands under way may or may not have reached their devices, writes under
    /// way are lost.
    fn restart(&mut self) {
        for (_, name, kind) in std::mem::take(&mut self.open) {
            if self.rng.random_bool(0.5) {
                self.effect(&name, kind);
            }
        }
        self.writes.clear();
        self.permitted = None;
        let now = self.bench.instant();
        self.starts += 1;
        let sender = ReportSender::new(self.starts);
        let mut state = self.disk.clone();
        for intent in std::mem::take(&mut self.unjournaled) {
            if intent.number > state.intents {
                self.lost.insert(intent.machine.to_string());
            }
        }
        let is_folded = fold(&mut state, &self.journal);
        self.bench.core = AgentCore::new(config(&["m*"], 3), state, sender, now);
        if is_folded {
            self.bench.core.note_folded();
        }
        for device in self.devices.values_mut() {
            device.due_since = None;
            device.asked = false;
        }
    }

    fn outputs(&mut self) {
        let mut busy: BTreeSet<String> =
            self.open.iter().map(|(_, name, _)| name.clone()).collect();
        while let Some(output) = self.bench.core.poll_output() {
            match output {
                Output::Command { machine, kind, .. } => {
                    let name = machine.to_string();
                    assert!(
                        busy.insert(name.clone()),
                        "seed {}: {name} has two commands under way",
                        self.seed
                    );
                    self.check(&name, kind);
                    let latency = self.rng.random_range(0..800);
                    self.open.push((self.bench.now + latency, name, kind));
                }
                Output::GiveUpRead(machine) => {
                    self.open.retain(|(_, name, _)| name != machine.as_str());
                    assert!(busy.remove(machine.as_str()), "seed {}: no reading", self.seed);
                }
                Output::Intend(intent) => {
                    let number = intent.number;
                    self.unjournaled.push(intent);
                    if self.rng.random_bool(0.9) {
                        self.journal.append(&mut self.unjournaled);
                        self.bench.core.recorded(number);
                    } else {
                        self.bench.core.unrecorded(number);
                    }
                }
                Output::Persist { version, state } => {
                    assert!(self.writes.is_empty(), "seed {}: two writes under way", self.seed);
                    let latency = self.rng.random_range(0..500);
                    self.writes.push((self.bench.now + latency, version, *state));
                }
                output => self.bench.note(output),
            }
        }
        for (class, count) in [(true, 0), (false, 0)].map(|(class, _): (bool, u32)| {
            (class, self.open.iter().filter(|(_, _, kind)| (*kind == Kind::Read) == class).count())
        }) {
            assert!(count <= 3, "seed {}: {count} under way (reads: {class})", self.seed);
        }
    }

    /// Checks what must be true of every command.
    fn check(&mut self, name: &str, kind: Kind) {
        let (seed, now) = (self.seed, self.bench.now);
        let device = self.devices.get_mut(name).unwrap();
        if kind == Kind::Read {
            device.asked = true;
            return;
        }
        let applied = self.bench.core.receiver().applied().get(name).copied().unwrap_or_default();
        if device.behaviour == Behaviour::AsleepBefore
            && !device.asked
            && applied.action >= Action::Curtail
        {
            // A curtailment does not wait to learn who put the machine to sleep; from then on, the
            // agent counts as having done so, unless a former life had learned it.
            if self.bench.core.machines[name].asleep_by() == Some(AsleepBy::Other) {
                return;
            }
            device.behaviour = Behaviour::Obeys;
        }
        let behaviour = device.behaviour;
        assert_ne!(
            behaviour,
            Behaviour::Starved,
            "seed {seed}: a starved machine is told to {kind} at {now}"
        );
        assert_ne!(
            behaviour,
            Behaviour::AsleepBefore,
            "seed {seed}: an operator's sleeper is told to {kind} at {now}"
        );
        if kind == Kind::Wake {
            let live =
                self.permitted.is_some_and(|(of, until)| of == self.generation && now < until);
            assert!(live, "seed {seed}: {name} is woken without a permit at {now}");
            let held = self.held.as_ref().expect("a permit names a timeline");
            let standing = held.standing_at(at(now)).get(name).copied().unwrap_or_default();
            assert_eq!(
                standing.action,
                Action::Run,
                "seed {seed}: {name} is woken against its timeline at {now}"
            );
        }
    }

    fn effect(&mut self, name: &str, kind: Kind) {
        let device = self.devices.get_mut(name).unwrap();
        match (device.behaviour, kind) {
            (Behaviour::Lies, _) => {}
            (Behaviour::Refuses, Kind::Sleep) => {}
            (Behaviour::Slow, Kind::Sleep) => device.falls = Some(self.bench.now + SLOW_MS),
            (_, Kind::Sleep) => device.asleep = true,
            (_, Kind::Wake) => (device.asleep, device.falls) = (false, None),
            (_, Kind::Read) => {}
        }
    }

    fn answer(&mut self) {
        let now = self.bench.now;
        let instant = self.bench.instant();
        for device in self.devices.values_mut() {
            if device.falls.take_if(|due| *due <= now).is_some() {
                device.asleep = true;
            }
        }
        let (ready, open) =
            std::mem::take(&mut self.open).into_iter().partition(|(due, ..)| *due <= now);
        self.open = open;
        for (_, name, kind) in Vec::from_iter::<Vec<(u64, String, Kind)>>(ready) {
            let machine = MachineId::from(name.as_str());
            let behaviour = self.devices[&name].behaviour;
            if behaviour == Behaviour::TimesOut && self.rng.random_bool(0.7) {
                let timeout = ActuatorError::Timeout { millis: 5000 };
                match kind {
                    Kind::Read => self.bench.core.read(&machine, Err(timeout), instant),
                    _ => self.bench.core.commanded(&machine, kind, Err(timeout), instant),
                }
                continue;
            }
            self.effect(&name, kind);
            match kind {
                Kind::Read => {
                    let state = if self.devices[&name].asleep {
                        DeviceState::Asleep
                    } else {
                        DeviceState::Awake
                    };
                    self.bench.core.read(
                        &machine,
                        Ok(Reading { state, watts: None, read_at: at(now) }),
                        instant,
                    );
                }
                Kind::Sleep if behaviour == Behaviour::Refuses => {
                    let refused = ActuatorError::Refused { why: "no".into() };
                    self.bench.core.commanded(&machine, kind, Err(refused), instant);
                }
                _ => self.bench.core.commanded(&machine, kind, Ok(()), instant),
            }
        }
        if let Some((_, version, state)) = self.writes.pop_if(|(due, ..)| *due <= now) {
            let ok = self.rng.random_bool(0.9);
            if ok {
                // A crash between the two steps is one with a journal that is longer than needed.
                if self.rng.random_bool(0.9) {
                    self.journal.retain(|intent| intent.number > state.intents);
                }
                self.unjournaled.retain(|intent| intent.number > state.intents);
                self.bench.core.recorded(state.intents);
                self.disk = state;
            }
            self.bench.core.persisted(version, ok, instant);
        }
    }

    /// Checks that a machine that obeys is asleep soon after it must be, whatever the other
    /// machines do.
    fn check_sleepers(&mut self) {
        let now = self.bench.now;
        for (name, device) in &mut self.devices {
            let applied = self
                .bench
                .core
                .receiver()
                .applied()
                .get(name.as_str())
                .copied()
                .unwrap_or_default();
            let due = applied.action.sheds() && applied.means == Means::Device;
            device.due_since = due.then_some(device.due_since.unwrap_or(now));
            if let Some(since) = device.due_since
                && device.behaviour == Behaviour::Obeys
            {
                // 12 machines with 3 commands in flight need up to 0.8 s and a tick each; a read
                // may have been under way before.
                assert!(
                    device.asleep || now < since + 8_000,
                    "seed {}: {name} is awake at {now}, due at {since}",
                    self.seed
                );
            }
        }
    }

    fn step(&mut self) {
        self.bench.now += 200;
        self.answer();
        if self.rng.random_bool(0.02) {
            self.new_timeline();
        }
        if self.rng.random_bool(0.03) {
            self.new_permit();
        }
        if self.rng.random_bool(0.005) {
            self.restart();
        }
        for device in self.devices.values_mut() {
            if device.behaviour == Behaviour::WakesByItself
                && device.asleep
                && self.rng.random_bool(0.02)
            {
                device.asleep = false;
            }
        }
        self.bench.core.tick(at(self.bench.now), self.bench.instant());
        self.outputs();
        self.check_sleepers();
    }

    /// Everything is released for good: machines that the agent put to sleep wake again, and those
    /// that an operator put to sleep do not.
    fn settle(&mut self, rounds: u64) {
        self.generation += 1;
        self.held = Some(timeline(self.generation, Vec::new()));
        self.permitted = None;
        self.tell(None);
        for round in 0..rounds {
            self.bench.now += 200;
            self.answer();
            if round % 50 == 0 {
                self.serial += 1;
                self.permitted = Some((self.generation, self.bench.now + 60_000));
                self.tell(Some(permit(self.generation, self.serial)));
            }
            self.bench.core.tick(at(self.bench.now), self.bench.instant());
            self.outputs();
        }
        for (name, device) in &self.devices {
            if device.behaviour == Behaviour::Obeys {
                assert!(
                    !device.asleep || self.lost.contains(name),
                    "seed {}: {name} was forgotten asleep: {:?}",
                    self.seed,
                    self.bench.core.machines[name.as_str()]
                );
            }
        }
    }
}

#[test]
fn random_facilities_keep_the_rules() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..900 {
            world.step();
        }
        world.settle(3000);
    }
}

#[test]
fn without_restarts_and_disk_errors_nothing_is_forgotten_asleep() {
    for seed in 1000..1100 {
        let mut world = World::new(seed);
        for round in 0..600 {
            world.bench.now += 200;
            world.answer();
            match round % 40 {
                0 => world.new_timeline(),
                10 | 25 => world.new_permit(),
                _ => {}
            }
            world.bench.core.tick(at(world.bench.now), world.bench.instant());
            world.outputs();
            world.check_sleepers();
        }
        // A device that gets no more than every third wake, and whose wakes have no answer, is told
        // once in two minutes.
        world.settle(15_000);
        for (name, device) in &world.devices {
            // Machines that refuse or lie never slept, so only those that were asleep before the
            // start may be asleep.
            let obeys = !matches!(device.behaviour, Behaviour::AsleepBefore);
            assert!(
                !obeys || !device.asleep,
                "seed {seed}: {name} sleeps although everything was released: {:?} {:?}",
                device.behaviour,
                world.bench.core.machines[name.as_str()]
            );
        }
    }
}
