//! What the judge allows for: the policy's own figures, and how long things take in this world.
//!
//! Every allowance is a sum of these. None is a margin for safety: a duration here is the longest
//! that the world can draw, so that what takes longer was not the world's doing.

use std::time::Duration;

use directive::Watts;

use crate::facility::spec::{FacilitySpec, MeterSpec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// `[dispatch] settle`.
    pub settle: Duration,
    /// `[dispatch] prove_for`.
    pub prove_for: Duration,
    /// `[dispatch] make_up_pct`.
    pub make_up_percent: i64,
    /// `[ramp] up_kw_per_min` and `down_kw_per_min`.
    pub up_per_min: Watts,
    pub down_per_min: Watts,
    /// `[ramp] up_step_machines` and `up_step_interval`.
    pub up_step_machines: usize,
    pub up_step_interval: Duration,
    /// `[failsafe] permit_every`.
    pub permit_every: Duration,
    /// The longest time a message between roles travels, when it is not lost.
    pub message_max: Duration,
    /// The longest time from an agent's decision until the command is at the device, and as long
    /// back.
    pub command_max: Duration,
    /// After this time a driver gives up on a device that does not answer.
    pub driver_timeout: Duration,
    /// Commands that one driver has under way at once.
    pub concurrency: usize,
    /// Whether commands can be lost on their way.
    pub loses_commands: bool,
    /// The longest time between two looks of a role at its clock, its meters and its devices.
    pub look_max: Duration,
    /// The longest time between two reports of a receiver.
    pub report_every: Duration,
    /// The longest time between two reports of a receiver that arrive, given how often they are
    /// lost.
    pub report_gap: Duration,
    /// How often a client looks at the machines.
    pub shown_every: Duration,
    /// How long a role may take to write its state, before which a raise does not go out.
    pub write_max: Duration,
    /// From this time on the world troubles nobody any more: no faults, no losses, no new leases.
    pub quiet_from: Duration,
}

impl Terms {
    /// The longest time until an agent knows what became of a command, or gives it up.
    pub(super) fn answer_max(&self, spec: &FacilitySpec) -> Duration {
        let hangs = spec
            .machines
            .iter()
            .any(|machine| machine.habits.hangs_percent > 0 || machine.habits.dies_at.is_some());
        let answers = spec.machines.iter().map(|machine| machine.habits.answers_after).max();
        let answered = self.command_max * 2 + answers.unwrap_or_default();
        if hangs || self.loses_commands { self.driver_timeout } else { answered }
    }

    /// From the moment at which an agent should act until the last of `machines` of one driver has
    /// its command. They go in groups of `concurrency`; before an ordinary drain each is read, and
    /// one command may still be under way.
    pub(super) fn dispatch(&self, spec: &FacilitySpec, machines: usize) -> Duration {
        let rounds = u32::try_from(machines.div_ceil(self.concurrency.max(1))).unwrap_or(u32::MAX);
        self.look_max + self.answer_max(spec).saturating_mul(2 * rounds.max(1) + 1)
    }

    /// From a change of power until the switchboard has a report of a sample that shows it.
    pub(super) fn evidence(&self, meter: &MeterSpec) -> Duration {
        // The agent reads a meter at its period, and a sample is a period old when the next comes.
        meter.lag + meter.period * 2 + self.look_max * 2 + self.report_gap + self.message_max
    }
}

/// The largest error of a sample of `watts`.
pub(super) fn noise(meter: &MeterSpec, watts: Watts) -> Watts {
    Watts(watts.0.abs() * meter.noise_ppm / 1_000_000 + 1)
}

/// The slowest machine's time to fall asleep, as the policy declares it.
pub(super) fn slowest_shed(spec: &FacilitySpec) -> Duration {
    spec.groups.iter().map(|group| group.shed_p95).max().unwrap_or_default()
}
