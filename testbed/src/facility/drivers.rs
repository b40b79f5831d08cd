//! The management interface and the meters of the simulated facility, as the traits that an agent
//! uses.

use std::sync::Arc;

use directive::{
    Actuator, ActuatorError, MachineId, Meter, MeterError, MeterId, MeterReading, Pending, Reading,
};
use parking_lot::Mutex;

use super::SimFacility;
use crate::clock;

/// Puts the simulated machines to sleep and wakes them.
#[derive(Debug, Clone)]
pub struct SimActuator {
    facility: SimFacility,
}

impl SimActuator {
    pub(super) fn new(facility: SimFacility) -> Self {
        Self { facility }
    }
}

impl Actuator for SimActuator {
    fn sleep<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>> {
        Box::pin(async move { self.facility.sleep(machine, clock::moment()) })
    }

    fn wake<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>> {
        Box::pin(async move { self.facility.wake(machine, clock::moment()) })
    }

    fn read<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<Reading, ActuatorError>> {
        Box::pin(async move { self.facility.read(machine, clock::moment()) })
    }
}

/// How a meter fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MeterFault {
    #[default]
    None,
    /// The meter does not answer.
    Silent,
    /// The meter repeats its last measurement as if it were new.
    Frozen,
    /// The meter repeats its last measurement with its old time.
    Stale,
    /// The meter answers with text that is not a number.
    NotANumber,
}

/// The meter of the simulated feed or of a tenant. Clones are the same meter: a fault set on one
/// applies to all.
#[derive(Debug, Clone)]
pub struct SimMeter {
    facility: SimFacility,
    /// The tenant measured; `None` is the feed.
    tenant: Option<MeterId>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    fault: MeterFault,
    last: Option<MeterReading>,
}

impl SimMeter {
    pub(super) fn of_feed(facility: SimFacility) -> Self {
        Self { facility, tenant: None, state: Arc::default() }
    }

    pub(super) fn of_tenant(facility: SimFacility, tenant: MeterId) -> Self {
        Self { facility, tenant: Some(tenant), state: Arc::default() }
    }

    /// Makes the meter fail, or repairs it with [`MeterFault::None`].
    pub fn set_fault(&self, fault: MeterFault) {
        self.state.lock().fault = fault;
    }

    /// Measures at `now`.
    ///
    /// # Errors
    /// The error that the meter's fault causes.
    pub fn measure(&self, now: clock::Moment) -> Result<MeterReading, MeterError> {
        let mut state = self.state.lock();
        let truth = || {
            let watts = match &self.tenant {
                None => self.facility.power(now).feed(),
                Some(tenant) => self.facility.tenant_watts(tenant, now),
            };
            MeterReading { watts, taken_at: now.wall }
        };
        let reading = match (state.fault, state.last.clone()) {
            (MeterFault::Silent, _) => {
                return Err(MeterError::Unreachable {
                    why: "the simulated meter is silent".into(),
                });
            }
            (MeterFault::NotANumber, _) => {
                return Err(MeterError::Unreadable { why: "\"NaN\" is no power in kW".into() });
            }
            (MeterFault::Frozen, Some(last)) => MeterReading { taken_at: now.wall, ..last },
            (MeterFault::Stale, Some(last)) => last,
            _ => truth(),
        };
        state.last = Some(reading.clone());
        Ok(reading)
    }
}

impl Meter for SimMeter {
    fn read(&self) -> Pending<'_, Result<MeterReading, MeterError>> {
        Box::pin(async { self.measure(clock::moment()) })
    }
}
