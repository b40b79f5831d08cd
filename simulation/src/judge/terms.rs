//! What the judge allows for: the policy's own figures, and how long things take in this world.
//!
//! Every allowance is a sum of these. None is a margin for safety: a duration here is the longest
//! that the world can draw, so that what takes longer was not the world's doing.

use std::time::Duration;

use directive::Watts;

use crate::facility::spec::{FacilitySpec, GroupSpec, MeterSpec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// `[dispatch] settle`.
    pub settle: Duration,
    /// `[dispatch] prove_for` and `margin`.
    pub prove_for: Duration,
    pub margin: Duration,
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
    /// `[site] reclose_settle`.
    pub reclose_settle: Duration,
    /// From this time on the world troubles nobody any more: no faults, no losses, no new leases.
    pub quiet_from: Duration,
}

/// What follows from the terms for one facility.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowances {
    pub(super) terms: Terms,
    /// The longest time until an agent knows what became of a command, or gives it up.
    pub(super) answer_max: Duration,
    /// The slowest machine's time to fall asleep, as the policy declares it.
    pub(super) slowest_shed: Duration,
    machines: usize,
    /// What all declared machines draw by their nameplates.
    fleet: Watts,
}

impl Allowances {
    pub(super) fn new(terms: &Terms, spec: &FacilitySpec) -> Self {
        let fleet = spec.groups.iter().map(|group| {
            Watts(group.nameplate.0 * i64::try_from(group.declared).unwrap_or(i64::MAX))
        });
        Self {
            terms: *terms,
            answer_max: answer_max(terms, spec),
            slowest_shed: spec.groups.iter().map(|group| group.shed_p95).max().unwrap_or_default(),
            machines: spec.machines.len(),
            fleet: fleet.sum(),
        }
    }

    /// From the moment at which an agent should act until the last of `machines` of one driver has
    /// its command. They go in groups of `concurrency`; before an ordinary drain each is read, and
    /// one command may still be under way.
    pub(super) fn dispatch(&self, machines: usize) -> Duration {
        let rounds = machines.div_ceil(self.terms.concurrency.max(1)).max(1);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        self.terms.look_max + self.answer_max.saturating_mul(2 * rounds + 1)
    }

    /// From the moment at which a machine may run again until it does: its turn in the ramp when all
    /// machines come back, its shortest time asleep, the permits it waits for, and a wake that is
    /// repeated once.
    pub(super) fn back_again(&self, group: &GroupSpec) -> Duration {
        let steps = self.machines.div_ceil(self.terms.up_step_machines.max(1));
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        minutes(self.fleet, self.terms.up_per_min)
            + self.terms.up_step_interval.saturating_mul(steps)
            + group.min_down
            + group.restore_p95 * 2
            + self.terms.permit_every * 4
            + self.answer_max * 2
            + self.terms.write_max
            + self.terms.report_gap
    }

    /// How long before its power must be free a lease may have machines go: the ramp for all of
    /// them, the slowest one, and the proof.
    pub(super) fn lead(&self) -> Duration {
        minutes(self.fleet, self.terms.down_per_min)
            + self.slowest_shed
            + self.terms.settle
            + self.terms.prove_for
            + self.terms.margin
    }

    /// From an agent's first timeline until it has a guard table with the machines of the site. They
    /// must be reported, and so must the meters; each may be in the next table but one.
    pub(super) fn table(&self) -> Duration {
        let terms = &self.terms;
        terms.report_gap * 2 + terms.message_max * 2 + terms.look_max + TABLE_EVERY * 2
    }

    /// From a change of power until the switchboard has a report of a sample that shows it. The
    /// agent reads a meter at its period, and a sample is a period old when the next one comes.
    pub(super) fn evidence(&self, meter: &MeterSpec) -> Duration {
        let terms = &self.terms;
        meter.lag + meter.period * 2 + terms.look_max * 2 + terms.report_gap + terms.message_max
    }
}

fn answer_max(terms: &Terms, spec: &FacilitySpec) -> Duration {
    let hangs = spec
        .machines
        .iter()
        .any(|machine| machine.habits.hangs_percent > 0 || machine.habits.dies_at.is_some());
    let answers = spec.machines.iter().map(|machine| machine.habits.answers_after).max();
    let answered = terms.command_max * 2 + answers.unwrap_or_default();
    if hangs || terms.loses_commands {
        terms.driver_timeout
    } else {
        answered.min(terms.driver_timeout)
    }
}

/// The largest error of a sample of `watts`.
pub(super) fn noise(meter: &MeterSpec, watts: Watts) -> Watts {
    Watts(watts.0.abs() * meter.noise_ppm / 1_000_000 + 1)
}

/// A switchboard makes guard tables at most this often.
const TABLE_EVERY: Duration = Duration::from_secs(5);

/// How long `watts` take at `per_min`.
fn minutes(watts: Watts, per_min: Watts) -> Duration {
    let millis = watts.0.saturating_mul(60_000) / per_min.0.max(1);
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
