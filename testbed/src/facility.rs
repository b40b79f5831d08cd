//! A simulated facility: machines that draw power, a house load, AI tenants, and the meters.
//!
//! It replaces real devices, so what a machine *reports* and what it *draws* are separate; tests
//! check the latter, by [`SimFacility::trace`]. Its functions take the time as an argument; only
//! the drivers ([`SimActuator`], [`SimMeter`]) and the sampler read the testbed's clock. It knows
//! nothing of Tieline's decisions.

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

/// What to simulate below one feed.
#[derive(Debug, Clone, Default)]
pub struct FacilitySpec {
    pub machines: Vec<MachineSpec>,
    /// The house load.
    pub house: Watts,
    /// The AI tenants, by the name of their meter.
    pub tenants: BTreeMap<MeterId, TenantSpec>,
}

/// The power drawn at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    pub mining: Watts,
    pub tenants: Watts,
    pub house: Watts,
}

impl Power {
    /// The power that the feed's meter measures.
    #[must_use]
    pub fn feed(&self) -> Watts {
        self.mining + self.tenants + self.house
    }
}

/// Why a facility cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Two machines have the same name.
    #[error("machine {0}: declared twice")]
    MachineTwice(MachineId),
    /// A machine draws more power asleep than awake.
    #[error("machine {machine}: residual {residual} is more than its {awake} awake")]
    Residual {
        machine: MachineId,
        /// The machine's power asleep.
        residual: Watts,
        /// The machine's power awake.
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

/// How often the sampler takes a sample.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

impl SimFacility {
    /// Builds the facility in its state at `now`.
    ///
    /// # Errors
    /// When two machines have the same name, or one draws more asleep than awake.
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

    /// The power drawn by everything at `now`.
    #[must_use]
    pub fn power(&self, now: Moment) -> Power {
        self.inner.lock().power(now)
    }

    /// The power that a machine really draws; `None` if there is no such machine.
    #[must_use]
    pub fn machine_watts(&self, machine: &MachineId, now: Moment) -> Option<Watts> {
        self.inner.lock().machines.get_mut(machine).map(|machine| machine.watts(now.at))
    }

    /// The power that a tenant draws; zero if there is no such tenant.
    #[must_use]
    pub fn tenant_watts(&self, tenant: &MeterId, now: Moment) -> Watts {
        self.inner.lock().tenants.get(tenant).map_or(Watts::ZERO, |tenant| tenant.watts(now.wall))
    }

    /// A receiver for whether a machine really hashes. The test miner of that name follows it.
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
    /// When there is no such machine, no actuator can control it, or it refuses.
    pub fn sleep(&self, machine: &MachineId, now: Moment) -> Result<(), ActuatorError> {
        self.reach(machine, |machine| machine.sleep(now.at))?
    }

    /// Tells a machine to wake.
    ///
    /// # Errors When there is no such machine, or no actuator can control it.
    pub fn wake(&self, machine: &MachineId, now: Moment) -> Result<(), ActuatorError> {
        self.reach(machine, |machine| machine.wake(now.at))
    }

    /// Reads what a machine reports, which may differ from what it does if it lies.
    ///
    /// # Errors
    /// When there is no such machine, or none that an actuator reaches.
    pub fn read(&self, machine: &MachineId, now: Moment) -> Result<Reading, ActuatorError> {
        let (state, watts) = self.reach(machine, |machine| machine.says(now.at))?;
        Ok(Reading { state, watts: Some(watts), read_at: now.wall })
    }

    /// Switches a machine by hand, as a technician does: its behaviour does not matter.
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

    /// Changes the house load.
    pub fn set_house(&self, house: Watts) {
        self.inner.lock().house = house;
    }

    /// Adds a tenant, or replaces its load.
    pub fn set_tenant(&self, meter: MeterId, tenant: TenantSpec) {
        self.inner.lock().tenants.insert(meter, tenant);
    }

    /// Adds the power drawn at `now` to the trace. The sampler calls this itself.
    pub fn sample(&self, now: Moment) {
        let mut inner = self.inner.lock();
        let power = inner.power(now);
        inner.trace.push(Sample { at: now.wall, power });
    }

    /// The samples taken so far, oldest first: the truth against which promises are checked.
    #[must_use]
    pub fn trace(&self) -> Vec<Sample> {
        self.inner.lock().trace.samples().copied().collect()
    }

    /// The lowest headroom (`usable` minus everything but the tenants) in `from..=to`; `None` if
    /// there is no sample in it.
    #[must_use]
    pub fn min_headroom(&self, usable: Watts, from: Timestamp, to: Timestamp) -> Option<Headroom> {
        self.inner.lock().trace.min_headroom(usable, from, to)
    }

    /// Takes a sample ten times a second until `stop` is cancelled. This also updates the receivers
    /// of [`Self::hashing`].
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

    /// An actuator for these machines.
    #[must_use]
    pub fn actuator(&self) -> SimActuator {
        SimActuator::new(self.clone())
    }

    /// The meter of the feed.
    #[must_use]
    pub fn feed_meter(&self) -> SimMeter {
        SimMeter::of_feed(self.clone())
    }

    /// The meter of a tenant.
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
