//! A simulated facility: machines that draw power, a house, AI tenants, and the meters over them.
//!
//! It stands where real devices stand, so it keeps its own truth: what a machine *says* and what it
//! *draws* are two things, and a judge reads the second from [`SimFacility::trace`]. All of it
//! takes the time as an argument; only the drivers ([`SimActuator`], [`SimMeter`]) and the sampler
//! read the testbed's clock. It knows nothing of Tieline's decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use directive::{ActuatorError, MachineId, MeterId, Reading, Watts};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Moment};

mod drivers;
pub mod files;
mod machine;
mod tenant;
mod trace;

pub use drivers::{MeterFault, SimActuator, SimMeter};
pub use machine::{Behaviour, MachineSpec};
pub use tenant::TenantSpec;
pub use trace::{Headroom, Sample, Trace};

use machine::SimMachine;

/// What is to be simulated below one feed.
#[derive(Debug, Clone, Default)]
pub struct FacilitySpec {
    pub machines: Vec<MachineSpec>,
    /// What the house draws.
    pub house: Watts,
    /// The AI tenants, each under its meter's name.
    pub tenants: BTreeMap<MeterId, TenantSpec>,
}

/// What is drawn at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    pub mining: Watts,
    pub tenants: Watts,
    pub house: Watts,
}

impl Power {
    /// What a meter over everything measures.
    #[must_use]
    pub fn feed(&self) -> Watts {
        self.mining + self.tenants + self.house
    }
}

/// A specification that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Two machines have one name.
    #[error("machine {0}: declared twice")]
    MachineTwice(MachineId),
    /// A machine would draw more asleep than awake.
    #[error("machine {machine}: residual {residual} is more than its {awake} awake")]
    Residual {
        machine: MachineId,
        /// What it would draw asleep.
        residual: Watts,
        /// What it draws awake.
        awake: Watts,
    },
}

/// A running simulation. Clones are handles of the same facility.
#[derive(Debug, Clone)]
pub struct SimFacility {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    machines: BTreeMap<MachineId, SimMachine>,
    house: Watts,
    tenants: BTreeMap<MeterId, TenantSpec>,
    trace: Trace,
}

/// How often the sampler looks.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

impl SimFacility {
    /// Builds the facility as it stands at `now`.
    ///
    /// # Errors
    /// When two machines have one name, or one would draw more asleep than awake.
    pub fn new(spec: FacilitySpec, now: Moment) -> Result<Self, SpecError> {
        let mut machines = BTreeMap::new();
        for machine in spec.machines {
            if machine.residual > machine.awake {
                let MachineSpec { id: machine, residual, awake, .. } = machine;
                return Err(SpecError::Residual { machine, residual, awake });
            }
            let id = machine.id.clone();
            if machines.insert(id.clone(), SimMachine::new(machine, now.at)).is_some() {
                return Err(SpecError::MachineTwice(id));
            }
        }
        let inner =
            Inner { machines, house: spec.house, tenants: spec.tenants, trace: Trace::default() };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// What everything draws at `now`.
    #[must_use]
    pub fn power(&self, now: Moment) -> Power {
        self.inner.lock().power(now)
    }

    /// What one machine really draws; `None` if there is no such machine.
    #[must_use]
    pub fn machine_watts(&self, machine: &MachineId, now: Moment) -> Option<Watts> {
        self.inner.lock().machines.get_mut(machine).map(|machine| machine.watts(now.at))
    }

    /// What one tenant draws; zero if there is no such tenant.
    #[must_use]
    pub fn tenant_watts(&self, tenant: &MeterId, now: Moment) -> Watts {
        self.inner.lock().tenants.get(tenant).map_or(Watts::ZERO, |tenant| tenant.watts(now.wall))
    }

    /// Follows whether a machine really hashes. The test miner of that name obeys it.
    #[must_use]
    pub fn hashing(&self, machine: &MachineId) -> Option<watch::Receiver<bool>> {
        self.inner.lock().machines.get(machine).map(SimMachine::hashing)
    }

    #[must_use]
    pub fn machines(&self) -> Vec<MachineId> {
        self.inner.lock().machines.keys().cloned().collect()
    }

    /// Tells a machine to sleep, as its management interface would.
    ///
    /// # Errors
    /// When there is no such machine, none that an actuator reaches, or it refuses.
    pub fn sleep(&self, machine: &MachineId, now: Moment) -> Result<(), ActuatorError> {
        self.reach(machine, |machine| machine.sleep(now.at))?
    }

    /// Tells a machine to wake.
    ///
    /// # Errors
    /// When there is no such machine, or none that an actuator reaches.
    pub fn wake(&self, machine: &MachineId, now: Moment) -> Result<(), ActuatorError> {
        self.reach(machine, |machine| machine.wake(now.at))
    }

    /// What a machine says of itself, which a liar's may differ from what it does.
    ///
    /// # Errors
    /// When there is no such machine, or none that an actuator reaches.
    pub fn read(&self, machine: &MachineId, now: Moment) -> Result<Reading, ActuatorError> {
        let (state, watts) = self.reach(machine, |machine| machine.says(now.at))?;
        Ok(Reading { state, watts: Some(watts), read_at: now.wall })
    }

    /// Switches a machine by hand, as a technician does: whatever its behaviour, it does it.
    pub fn switch_by_hand(&self, machine: &MachineId, awake: bool, now: Moment) {
        if let Some(machine) = self.inner.lock().machines.get_mut(machine) {
            machine.switch(awake, now.at);
        }
    }

    /// Changes how a machine behaves from now on.
    pub fn set_behaviour(&self, machine: &MachineId, behaviour: Behaviour, now: Moment) {
        if let Some(machine) = self.inner.lock().machines.get_mut(machine) {
            machine.set_behaviour(behaviour, now.at);
        }
    }

    /// Changes what the house draws.
    pub fn set_house(&self, house: Watts) {
        self.inner.lock().house = house;
    }

    /// Brings a tenant in, or changes its load.
    pub fn set_tenant(&self, meter: MeterId, tenant: TenantSpec) {
        self.inner.lock().tenants.insert(meter, tenant);
    }

    /// Writes what is drawn at `now` into the trace. The sampler does this by itself.
    pub fn sample(&self, now: Moment) {
        let mut inner = self.inner.lock();
        let power = inner.power(now);
        inner.trace.push(Sample { at: now.wall, power });
    }

    /// The samples taken so far, oldest first: the truth that a judge holds against what was
    /// promised.
    #[must_use]
    pub fn trace(&self) -> Vec<Sample> {
        self.inner.lock().trace.samples().copied().collect()
    }

    /// The least headroom (`usable` less everything but the tenants) in `from..=to`; `None` without
    /// a sample there.
    #[must_use]
    pub fn min_headroom(&self, usable: Watts, from: Timestamp, to: Timestamp) -> Option<Headroom> {
        self.inner.lock().trace.min_headroom(usable, from, to)
    }

    /// Samples ten times a second until `stop` is cancelled. It also moves the [`Self::hashing`]
    /// flags on.
    #[must_use]
    pub fn spawn_sampler(&self, stop: CancellationToken) -> JoinHandle<()> {
        let facility = self.clone();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(SAMPLE_EVERY);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => facility.sample(clock::moment()),
                }
            }
        })
    }

    /// A driver of these machines.
    #[must_use]
    pub fn actuator(&self) -> SimActuator {
        SimActuator::new(self.clone())
    }

    /// A meter over everything.
    #[must_use]
    pub fn feed_meter(&self) -> SimMeter {
        SimMeter::of_feed(self.clone())
    }

    /// A meter over one tenant.
    #[must_use]
    pub fn tenant_meter(&self, tenant: MeterId) -> SimMeter {
        SimMeter::of_tenant(self.clone(), tenant)
    }

    fn reach<T>(
        &self,
        id: &MachineId,
        act: impl FnOnce(&mut SimMachine) -> T,
    ) -> Result<T, ActuatorError> {
        match self.inner.lock().machines.get_mut(id) {
            Some(machine) if machine.is_reachable() => Ok(act(machine)),
            Some(_) => Err(ActuatorError::Failed { why: format!("no actuator reaches {id}") }),
            None => Err(ActuatorError::Failed { why: format!("there is no machine {id:?}") }),
        }
    }
}

impl Inner {
    fn power(&mut self, now: Moment) -> Power {
        let mining = self.machines.values_mut().map(|machine| machine.watts(now.at)).sum();
        let tenants = self.tenants.values().map(|tenant| tenant.watts(now.wall)).sum();
        Power { mining, tenants, house: self.house }
    }
}

#[cfg(test)]
mod tests;
