//! What was said to each machine, and so how much less (a *credit*) or more (a *debit*) the feeds
//! above it will carry than their newest samples show.

use std::time::{Duration, Instant};

use directive::{MachineId, Watts};

use super::Guard;

/// What is going on with one machine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Motion {
    /// When the machine, which drew power, will be asleep.
    falling: Option<Instant>,
    /// Whether the command to sleep has not gone out yet.
    queued: bool,
    /// When the machine will draw its full power.
    rising: Option<Instant>,
    /// Whether the machine was credited since its device last confirmed that it sleeps, or since it
    /// last might run. A command that is repeated because it was not followed is not credited
    /// again.
    credited: bool,
}

/// How long a machine that is about to be told counts as on its way until it is known when its driver
/// has room.
const QUEUED_FIRST: Duration = Duration::from_secs(1);
/// How long a command may wait for its driver, whatever its queue is, before it stops being a credit:
/// beyond that, other machines are chosen instead.
const QUEUED_MAX: Duration = Duration::from_secs(30);

impl Guard {
    /// The machine must sleep from now on; its command goes out when its driver has room. `drew`
    /// says that it draws power until then.
    pub(crate) fn must_sleep(&mut self, machine: &MachineId, drew: bool, now: Instant) {
        if let Some(number) = self.table.machine(machine)
            && drew
        {
            self.fall(number, now);
        }
    }

    /// The command of a machine that must sleep waits for its driver, and should go out by `by`. If it
    /// does not, other machines are chosen instead.
    pub(crate) fn goes_by(&mut self, machine: &MachineId, by: Instant, now: Instant) {
        if let Some(number) = self.table.machine(machine)
            && self.motions[number].queued
            && self.motions[number].falling.is_some()
        {
            self.set_falling(number, by.min(now + QUEUED_MAX));
        }
    }

    /// The machine may run again, before any command to sleep went out.
    pub(crate) fn stays_awake(&mut self, machine: &MachineId) {
        if let Some(number) = self.table.machine(machine) {
            self.settle_down(number);
        }
    }

    /// The command to sleep goes out.
    pub(crate) fn told_to_sleep(&mut self, machine: &MachineId, drew: bool, now: Instant) {
        let Some(number) = self.table.machine(machine) else { return };
        let motion = self.motions[number];
        let done = now + self.table.machines()[number].sheds;
        if motion.queued || (drew && !motion.credited) {
            self.motions[number].queued = false;
            self.set_falling(number, done);
        }
        // A machine that was waking may draw more than the last sample shows until it is asleep.
        if motion.rising.is_some_and(|rising| rising > done) {
            self.set_rising(number, done);
        }
    }

    /// The command to wake goes out.
    pub(crate) fn told_to_wake(&mut self, machine: &MachineId, now: Instant) {
        let Some(number) = self.table.machine(machine) else { return };
        self.settle_down(number);
        self.set_rising(number, now + self.table.machines()[number].restores);
    }

    /// The device has confirmed that the machine sleeps. If it also says that the machine draws next
    /// to nothing, a sample from now on shows it; a state alone may be ahead of the power.
    pub(crate) fn fell_asleep(&mut self, machine: &MachineId, watts: Option<Watts>, now: Instant) {
        let Some(number) = self.table.machine(machine) else { return };
        let is_down =
            watts.is_some_and(|watts| watts.0 < self.table.machines()[number].frees.0 / 2);
        if is_down && self.motions[number].falling.is_some_and(|done| done > now) {
            self.set_falling(number, now);
        }
        self.motions[number].credited = false;
    }

    /// A machine that draws is about to be told to sleep. What it needs for that counts from the
    /// command on.
    pub(super) fn fall(&mut self, number: usize, now: Instant) {
        if self.motions[number].credited {
            return;
        }
        self.motions[number].queued = true;
        self.set_falling(number, now + QUEUED_FIRST);
    }

    fn set_falling(&mut self, number: usize, done: Instant) {
        self.motions[number].falling = Some(done);
        self.motions[number].credited = true;
        let (table, feeds) = (&self.table, &mut self.feeds);
        let entry = &table.machines()[number];
        table
            .above(entry.feed)
            .for_each(|feed| feeds[feed].falling.insert(number, done, entry.frees));
    }

    fn set_rising(&mut self, number: usize, done: Instant) {
        self.motions[number].rising = Some(done);
        let (table, feeds) = (&self.table, &mut self.feeds);
        let entry = &table.machines()[number];
        table
            .above(entry.feed)
            .for_each(|feed| feeds[feed].rising.insert(number, done, entry.frees));
    }

    /// Ends the credit of a machine.
    fn settle_down(&mut self, number: usize) {
        self.motions[number] = Motion { rising: self.motions[number].rising, ..Motion::default() };
        let (table, feeds) = (&self.table, &mut self.feeds);
        table
            .above(table.machines()[number].feed)
            .for_each(|feed| feeds[feed].falling.remove(number));
    }

    /// Carries what is going on with a machine over to a new table.
    pub(super) fn resume(&mut self, number: usize, motion: Motion) {
        if let Some(done) = motion.falling {
            self.set_falling(number, done);
        }
        if let Some(done) = motion.rising {
            self.set_rising(number, done);
        }
        self.motions[number] = motion;
    }
}
