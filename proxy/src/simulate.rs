//! What the proxy decides about the switchboard's timeline, for the crate `simulation`: the same
//! code as in the control's task, without the link, the state file and the sessions.

use std::time::{Duration, Instant};

use directive::{Downlink, Generation, MachineId, Saved};
use jiff::{SignedDuration, Timestamp};

use crate::control::core::{self, ControlCore};
use crate::directions::Serve;

/// Call [`Control::turn`] after each input and when [`Control::wait`] is over, and carry out every
/// output after it.
#[derive(Debug)]
pub struct Control {
    core: ControlCore,
}

/// What is to be done around it.
#[derive(Debug)]
pub enum Output {
    /// [`Control::serves`] may answer differently now.
    Orders,
    /// Write this, and answer with [`Control::written`].
    Write(Box<Saved>),
    /// Report the sessions, and acknowledge this timeline.
    Report { acknowledged: Option<Generation>, at: Timestamp },
    /// An older timeline than the one held was refused.
    Stale,
    /// The wall clock was stepped by this much; `None` when it is right again.
    Clock(Option<SignedDuration>),
}

impl Control {
    /// Takes up the state of the former process. `has_file` when there is a file to write to.
    #[must_use]
    pub fn new(saved: Option<Saved>, has_file: bool, report_every: Duration, now: Instant) -> Self {
        Self { core: ControlCore::new(saved, has_file, report_every, now) }
    }

    /// Takes what the switchboard says, which replaces what it said before.
    pub fn hear(&mut self, downlink: Downlink, now: Instant) {
        self.core.hear(downlink, now);
    }

    /// Does what is due. `works` tells whether a machine has a session with work.
    pub fn turn(&mut self, wall: Timestamp, now: Instant, works: impl Fn(&MachineId) -> bool) {
        self.core.turn(wall, now, works);
    }

    /// The next thing to do, if there is one. Ask until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        Some(match self.core.poll_output()? {
            core::Output::Orders(_) => Output::Orders,
            core::Output::Write(saved) => Output::Write(saved),
            core::Output::Report { acknowledged, at } => Output::Report { acknowledged, at },
            core::Output::Stale => Output::Stale,
            core::Output::Clock(off) => Output::Clock(off),
        })
    }

    /// The time until something is due.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        self.core.wait(now)
    }

    /// Handles the end of the write that is under way.
    pub fn written(&mut self, succeeded: bool, wall: Timestamp) {
        self.core.written(succeeded, wall);
    }

    /// The number of the timeline held.
    #[must_use]
    pub fn number(&self) -> Option<Generation> {
        self.core.receiver().number()
    }

    /// Whether a session of `machine` gets work; `has_worked` when it was given work on this
    /// connection and not parked since.
    #[must_use]
    pub fn serves(&self, machine: &MachineId, has_worked: bool) -> bool {
        self.core.orders().serve(machine, has_worked) == Serve::Work
    }

    /// Whether a share of `machine` proves that it still hashes although it is starved.
    #[must_use]
    pub fn starves(&self, machine: &MachineId) -> bool {
        self.core.orders().starved(machine)
    }
}
