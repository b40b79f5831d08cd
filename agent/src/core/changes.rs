//! Log lines about machines: counts by group; names of machines only at debug.
//!
//! A lease changes thousands of machines, each in several steps. Changes are collected and logged
//! together, so that the number of lines depends neither on the number of machines nor much on how
//! long they take.

use std::collections::BTreeMap;
use std::time::Instant;

use daemon::log_pace::LogPace;
use directive::{GroupId, MachineId};
use tracing::{error, info, warn};

/// What happened to one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The machine was commanded to sleep, for the first time in this period off. A repeated
    /// command does not count.
    CommandedSleep,
    CommandedWake,
    /// The machine was commanded to sleep and is now seen asleep.
    Asleep,
    Awake,
    /// The machine does not obey, or woke on its own.
    Failed {
        fault: String,
    },
}

/// The changes that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    groups: BTreeMap<GroupId, Counts>,
    ignored: u64,
    pace: LogPace,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    commanded_sleep: u32,
    commanded_wake: u32,
    asleep: u32,
    awake: u32,
    failed: u32,
    /// The first machine that failed, and why.
    example: Option<(MachineId, String)>,
}

/// The maximum number of groups that have a line of their own; the others share one.
const GROUPS: usize = 4;

impl Changes {
    pub(super) fn note(
        &mut self,
        machine: &MachineId,
        group: &GroupId,
        change: Change,
        now: Instant,
    ) {
        self.pace.note(now);
        let counts = self.groups.entry(group.clone()).or_default();
        match change {
            Change::CommandedSleep => counts.commanded_sleep += 1,
            Change::CommandedWake => counts.commanded_wake += 1,
            Change::Asleep => counts.asleep += 1,
            Change::Awake => counts.awake += 1,
            Change::Failed { fault } => {
                counts.failed += 1;
                counts.example.get_or_insert_with(|| (machine.clone(), fault));
            }
        }
    }

    /// Counts a machine that is ignored, because there are too many.
    pub(super) fn ignored(&mut self, now: Instant) {
        self.pace.note(now);
        self.ignored += 1;
    }

    /// The lines that are due.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Line> {
        if self.pace.is_due(now) { self.take(now) } else { Vec::new() }
    }

    /// All lines for changes not logged yet, due or not.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Line> {
        self.pace.told(now);
        let mut lines = Vec::new();
        let ignored = std::mem::take(&mut self.ignored);
        if ignored > 0 {
            lines.push(Line::Ignored(ignored));
        }
        let mut groups: Vec<(GroupId, Counts)> =
            std::mem::take(&mut self.groups).into_iter().collect();
        groups.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.total()));
        let others = if groups.len() > GROUPS + 1 { groups.split_off(GROUPS) } else { Vec::new() };
        lines.extend(groups.into_iter().map(|(group, counts)| Line::Group(group, counts)));
        if !others.is_empty() {
            let mut sum = Counts::default();
            others.iter().for_each(|(_, counts)| sum.add(counts));
            lines.push(Line::Others(others.len(), sum));
        }
        lines
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Group(GroupId, Counts),
    /// The sum of the counts of this many further groups.
    Others(usize, Counts),
    /// This many machines are ignored.
    Ignored(u64),
}

impl Line {
    pub(super) fn tell(&self) {
        match self {
            Self::Group(group, counts) => counts.tell(group.as_str()),
            Self::Others(groups, counts) => counts.tell(&format!("{groups} others")),
            Self::Ignored(machines) => {
                error!(machines, "too many machines, these are not looked after");
            }
        }
    }
}

impl Counts {
    fn total(&self) -> u32 {
        self.commanded_sleep + self.commanded_wake + self.asleep + self.awake + self.failed
    }

    fn add(&mut self, other: &Self) {
        self.commanded_sleep += other.commanded_sleep;
        self.commanded_wake += other.commanded_wake;
        self.asleep += other.asleep;
        self.awake += other.awake;
        self.failed += other.failed;
        if self.example.is_none() {
            self.example.clone_from(&other.example);
        }
    }

    fn tell(&self, group: &str) {
        let Self { commanded_sleep, commanded_wake, asleep, awake, failed, example } = self;
        match example {
            None => info!(
                group,
                commanded_sleep, commanded_wake, asleep, awake, failed, "machines changed"
            ),
            Some((machine, fault)) => warn!(
                group,
                commanded_sleep,
                commanded_wake,
                asleep,
                awake,
                failed,
                example = %machine,
                fault = ?fault,
                "machines changed"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
