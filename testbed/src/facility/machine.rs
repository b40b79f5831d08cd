//! One simulated machine: its power over time, and how it answers its management interface.

use std::time::{Duration, Instant};

use directive::{ActuatorError, DeviceState, MachineId, Watts};
use tokio::sync::watch;

/// How a machine reacts to a command to sleep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// The machine sleeps.
    #[default]
    Obeys,
    /// The machine refuses, and continues to hash.
    Refuses,
    /// The machine accepts the command and even reports `asleep`, but continues to hash at full
    /// power.
    Lies,
    /// The machine takes ten times its sleep time.
    SlowSleeper,
    /// The machine wakes each time after it has slept for this time.
    WakesByItself {
        /// How long the machine sleeps.
        after: Duration,
    },
}

/// The properties of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// The machine's id, which is the worker name it mines under.
    pub id: MachineId,
    /// The power that the machine draws when it hashes.
    pub awake: Watts,
    /// The power that the machine draws asleep.
    pub residual: Watts,
    /// The time from the command until the machine is asleep. Its power falls linearly in that
    /// time.
    pub sleep_time: Duration,
    /// The time from the command until the machine hashes. Its power rises linearly in that time.
    pub wake_time: Duration,
    pub behaviour: Behaviour,
    /// Whether an actuator can control the machine. If not, it always mines at full power.
    pub reachable: bool,
    /// Whether the machine is asleep at the start.
    pub asleep: bool,
}

impl MachineSpec {
    /// A machine that obeys: awake at first, asleep within one second, awake again within two.
    #[must_use]
    pub fn new(id: impl Into<MachineId>, awake: Watts, residual: Watts) -> Self {
        Self {
            id: id.into(),
            awake,
            residual,
            sleep_time: Duration::from_secs(1),
            wake_time: Duration::from_secs(2),
            behaviour: Behaviour::Obeys,
            reachable: true,
            asleep: false,
        }
    }
}

/// How many times its normal sleep time a slow sleeper takes.
const SLOW_FACTOR: u32 = 10;

#[derive(Debug)]
pub(super) struct SimMachine {
    spec: MachineSpec,
    /// The state that the machine is in or changing to.
    awake: bool,
    /// The machine's power when the change began.
    from: Watts,
    since: Instant,
    until: Instant,
    /// The last command to a machine that lies.
    told_asleep: bool,
    hashing: watch::Sender<bool>,
}

impl SimMachine {
    pub(super) fn new(spec: MachineSpec, now: Instant) -> Self {
        let awake = !spec.asleep;
        let from = if awake { spec.awake } else { spec.residual };
        Self {
            awake,
            from,
            since: now,
            until: now,
            told_asleep: false,
            hashing: watch::Sender::new(awake),
            spec,
        }
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.spec.reachable
    }

    pub(super) fn hashing(&self) -> watch::Receiver<bool> {
        self.hashing.subscribe()
    }

    pub(super) fn set_behaviour(&mut self, behaviour: Behaviour, now: Instant) {
        self.go_on(now);
        self.spec.behaviour = behaviour;
        self.told_asleep = !self.awake;
    }

    pub(super) fn sleep(&mut self, now: Instant) -> Result<(), ActuatorError> {
        match self.spec.behaviour {
            Behaviour::Refuses => {
                return Err(ActuatorError::Refused { why: "the simulated device says no".into() });
            }
            Behaviour::Lies => self.told_asleep = true,
            Behaviour::Obeys | Behaviour::SlowSleeper | Behaviour::WakesByItself { .. } => {
                self.switch(false, now);
            }
        }
        Ok(())
    }

    pub(super) fn wake(&mut self, now: Instant) {
        self.told_asleep = false;
        self.switch(true, now);
    }

    /// Begins to change to awake or asleep; a change in progress may be reversed.
    pub(super) fn switch(&mut self, awake: bool, now: Instant) {
        self.go_on(now);
        if awake != self.awake {
            self.set_out(awake, now);
        }
        self.show(now);
    }

    fn set_out(&mut self, awake: bool, now: Instant) {
        let takes = match (awake, self.spec.behaviour) {
            (true, _) => self.spec.wake_time,
            (false, Behaviour::SlowSleeper) => self.spec.sleep_time * SLOW_FACTOR,
            (false, _) => self.spec.sleep_time,
        };
        self.from = self.draws(now);
        self.awake = awake;
        self.since = now;
        self.until = now + takes;
    }

    /// Applies what the machine does on its own until `now`.
    fn go_on(&mut self, now: Instant) {
        if let Behaviour::WakesByItself { after } = self.spec.behaviour
            && !self.awake
            && now >= self.until + after
        {
            self.set_out(true, self.until + after);
        }
        self.show(now);
    }

    /// Publishes whether the machine hashes: from the end of waking until the beginning of falling
    /// asleep.
    fn show(&self, now: Instant) {
        let hashes = self.awake && now >= self.until;
        self.hashing.send_if_modified(|shown| std::mem::replace(shown, hashes) != hashes);
    }

    pub(super) fn watts(&mut self, now: Instant) -> Watts {
        self.go_on(now);
        self.draws(now)
    }

    fn draws(&self, now: Instant) -> Watts {
        let to = if self.awake { self.spec.awake } else { self.spec.residual };
        if now >= self.until {
            return to;
        }
        let done = now.saturating_duration_since(self.since).as_secs_f64()
            / (self.until - self.since).as_secs_f64();
        self.from + (to - self.from).scale(done)
    }

    /// The state and power that the machine's management interface reports.
    pub(super) fn says(&mut self, now: Instant) -> (DeviceState, Watts) {
        let draws = self.watts(now);
        if self.spec.behaviour == Behaviour::Lies && self.told_asleep {
            return (DeviceState::Asleep, self.spec.residual);
        }
        let state =
            if !self.awake && now >= self.until { DeviceState::Asleep } else { DeviceState::Awake };
        (state, draws)
    }
}
