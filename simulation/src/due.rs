//! Everything that can be on its way or due in a world.

use std::time::Duration;

use agent::simulate::Kind;
use directive::{
    ActuatorError, Downlink, MachineId, MeterError, MeterId, MeterReading, Reading, Report,
};
use switchboard::simulate::Answer;

use crate::record::Role;
use crate::scenario::Act;

/// A role lives from a start to its death. What was begun in one life does not end in the next.
pub(crate) type Life = u64;

#[derive(Debug)]
pub(crate) enum Due {
    /// A role has something to do by itself.
    Tick(Role),
    /// What the switchboard says arrives at a receiver.
    Down { to: Role, downlink: Box<Downlink> },
    /// A link that lost a message has a connection again: it carries the newest state.
    Reconnect(Role),
    /// A report arrives at the switchboard.
    Up { from: Role, report: Box<Report> },
    /// A write ends.
    Written { role: Role, life: Life, version: u64 },
    /// A command or a read arrives at a device.
    AtDevice { life: Life, machine: MachineId, kind: Kind, sent: Duration },
    /// A device's answer to a command arrives at the agent.
    Commanded { life: Life, machine: MachineId, kind: Kind, answer: Result<(), ActuatorError> },
    /// A device's answer to a read that was sent at `sent` arrives at the agent.
    Read { life: Life, machine: MachineId, sent: Duration, answer: Result<Reading, ActuatorError> },
    /// A meter's answer arrives at the agent.
    Measured { life: Life, meter: MeterId, answer: Result<MeterReading, MeterError> },
    /// A machine opens a connection to the proxy.
    Connects { life: Life, machine: MachineId },
    /// The switchboard's answer arrives at the client that asked.
    Answer { asked: u64, answer: Box<Answer> },
    /// The client looks at what the API shows of machines.
    Look,
    /// The client asks again for a lease that was not answered.
    AskAgain { lease: usize },
    /// Something that the scenario holds in store.
    Act(Act),
}
