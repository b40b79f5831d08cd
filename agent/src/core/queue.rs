//! The queue of one driver: sleeps before wakes, each in order of time and then of the timeline.
//! Reads are separate, so that a slow device that is only being read never delays a command.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use directive::MachineId;

use super::Kind;

/// The commands that wait for one driver, and those in progress. Each machine waits at most once.
#[derive(Debug)]
pub(super) struct Queue {
    in_flight: usize,
    sleeps: BTreeSet<(Instant, u64, MachineId)>,
    wakes: BTreeSet<(Instant, u64, MachineId)>,
    reads: BTreeSet<(Instant, u64, MachineId)>,
    commanding: usize,
    reading: usize,
    /// When a sleep or wake command was last handed to the driver, or ended.
    moved: Option<Instant>,
}

impl Queue {
    pub(super) fn new(in_flight: usize) -> Self {
        Self {
            in_flight: in_flight.max(1),
            sleeps: BTreeSet::new(),
            wakes: BTreeSet::new(),
            reads: BTreeSet::new(),
            commanding: 0,
            reading: 0,
            moved: None,
        }
    }

    fn of(&mut self, kind: Kind) -> &mut BTreeSet<(Instant, u64, MachineId)> {
        match kind {
            Kind::Sleep => &mut self.sleeps,
            Kind::Wake => &mut self.wakes,
            Kind::Read => &mut self.reads,
        }
    }

    pub(super) fn insert(&mut self, (kind, at, order): (Kind, Instant, u64), machine: &MachineId) {
        self.of(kind).insert((at, order, machine.clone()));
    }

    pub(super) fn remove(&mut self, (kind, at, order): (Kind, Instant, u64), machine: &MachineId) {
        self.of(kind).remove(&(at, order, machine.clone()));
    }

    /// Removes and returns the next command that is due, if the driver has room for it.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Kind, MachineId)> {
        let in_flight = self.in_flight;
        for kind in [Kind::Sleep, Kind::Wake, Kind::Read] {
            let under_way = if kind == Kind::Read { self.reading } else { self.commanding };
            let waiting = self.of(kind);
            if under_way < in_flight && waiting.first().is_some_and(|(at, ..)| *at <= now) {
                let (_, _, machine) = waiting.pop_first()?;
                return Some((kind, machine));
            }
        }
        None
    }

    pub(super) fn started(&mut self, kind: Kind, now: Instant) {
        *self.count(kind) += 1;
        self.note_moved(kind, now);
    }

    pub(super) fn ended(&mut self, kind: Kind, now: Instant) {
        let count = self.count(kind);
        *count = count.saturating_sub(1);
        self.note_moved(kind, now);
    }

    fn note_moved(&mut self, kind: Kind, now: Instant) {
        if kind != Kind::Read {
            self.moved = Some(now);
        }
    }

    /// How long a sleep command that joins the queue waits at most before it is handed to the driver,
    /// if each takes `command`.
    pub(super) fn wait(&self, command: Duration) -> Duration {
        let turns = (self.sleeps.len() + self.commanding) / self.in_flight;
        command.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Whether no further command can be handed to the driver, and none has ended for longer than
    /// `command`.
    pub(super) fn is_stuck(&self, command: Duration, now: Instant) -> bool {
        self.commanding >= self.in_flight && self.moved.is_some_and(|moved| now > moved + command)
    }

    fn count(&mut self, kind: Kind) -> &mut usize {
        if kind == Kind::Read { &mut self.reading } else { &mut self.commanding }
    }

    /// When the next command is due for which the driver has room.
    pub(super) fn next(&self) -> Option<Instant> {
        let room = |under_way: usize, waiting: &BTreeSet<(Instant, u64, MachineId)>| {
            waiting.first().filter(|_| under_way < self.in_flight).map(|(at, ..)| *at)
        };
        let commands = room(self.commanding, &self.sleeps)
            .into_iter()
            .chain(room(self.commanding, &self.wakes));
        commands.chain(room(self.reading, &self.reads)).min()
    }
}
