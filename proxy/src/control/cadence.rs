//! Decides when to report to the switchboard: at regular intervals, and at once when all sessions
//! of a step are parked.

use std::time::{Duration, Instant};

use directive::MachineId;

/// How often to check whether the sessions of a step are parked; a check ends at the first that is
/// not.
const PARKING_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the sessions of a step are watched until they are parked. After that, they are reported
/// at the regular time.
const PARKING_MAX: Duration = Duration::from_secs(2);

/// When the next report is due.
#[derive(Debug)]
pub(super) struct Cadence {
    every: Duration,
    report_at: Instant,
    parking: Option<Parking>,
}

/// Machines whose sessions must be parked.
#[derive(Debug)]
struct Parking {
    /// The machines that no check has found without work yet.
    left: Vec<MachineId>,
    look_at: Instant,
    until: Instant,
}

impl Cadence {
    /// The first report is due at once.
    pub(super) const fn new(every: Duration, now: Instant) -> Self {
        Self { every, report_at: now, parking: None }
    }

    /// The next report is due at once.
    pub(super) fn report_now(&mut self, now: Instant) {
        self.report_at = now;
    }

    /// The sessions of `machines` must be parked.
    pub(super) fn parking(&mut self, machines: Vec<MachineId>, now: Instant) {
        if machines.is_empty() {
            return;
        }
        let mut left = self.parking.take().map(|parking| parking.left).unwrap_or_default();
        left.extend(machines);
        self.parking = Some(Parking { left, look_at: now, until: now + PARKING_MAX });
    }

    /// Whether a report is due; the next one is then an interval later. `works` returns whether a
    /// machine still has work.
    pub(super) fn is_due(&mut self, now: Instant, works: impl Fn(&MachineId) -> bool) -> bool {
        let due = self.have_parked(now, works) || now >= self.report_at;
        if due {
            self.report_at = now + self.every;
        }
        due
    }

    /// Returns `true` once, when all machines that must be parked are parked.
    fn have_parked(&mut self, now: Instant, works: impl Fn(&MachineId) -> bool) -> bool {
        let Some(parking) = self.parking.as_mut().filter(|parking| now >= parking.look_at) else {
            return false;
        };
        parking.look_at = now + PARKING_LOOK_EVERY;
        // Each machine is checked until it has no work, and not again.
        while parking.left.pop_if(|machine| !works(machine)).is_some() {}
        let parked = parking.left.is_empty();
        if parked || now >= parking.until {
            self.parking = None;
        }
        parked
    }

    /// The time until something is due.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let next = self
            .parking
            .as_ref()
            .map_or(self.report_at, |parking| parking.look_at.min(self.report_at));
        next.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn names(names: &[&str]) -> Vec<MachineId> {
        names.iter().map(|name| MachineId::from(*name)).collect()
    }

    fn nobody_asks(_: &MachineId) -> bool {
        unreachable!("nobody is to be parked, or not so soon again")
    }

    #[test]
    fn reports_go_out_at_intervals() {
        let from = daemon::clock::now();
        let mut cadence = Cadence::new(1000 * MS, from);
        assert!(cadence.is_due(from, nobody_asks));
        assert_eq!(cadence.wait(from), 1000 * MS);
        cadence.parking(Vec::new(), from + 500 * MS);
        assert!(!cadence.is_due(from + 999 * MS, nobody_asks));
        assert!(cadence.is_due(from + 1000 * MS, nobody_asks));
    }

    #[test]
    fn it_is_told_once_as_soon_as_the_last_is_parked() {
        let from = daemon::clock::now();
        let mut cadence = Cadence::new(1000 * MS, from);
        assert!(cadence.is_due(from, nobody_asks));
        cadence.parking(names(&["a", "b"]), from + 100 * MS);
        assert_eq!(cadence.wait(from + 100 * MS), Duration::ZERO);
        assert!(!cadence.is_due(from + 100 * MS, |_| true));
        assert_eq!(cadence.wait(from + 100 * MS), PARKING_LOOK_EVERY);
        assert!(!cadence.is_due(from + 110 * MS, nobody_asks));
        assert!(!cadence.is_due(from + 120 * MS, |machine| machine.as_str() == "a"));
        // More machines must be parked before the first ones are: one report covers all of them.
        cadence.parking(names(&["c"]), from + 130 * MS);
        assert!(!cadence.is_due(from + 130 * MS, |machine| machine.as_str() == "c"));
        assert!(!cadence.is_due(from + 150 * MS, |machine| machine.as_str() == "a"));
        assert!(cadence.is_due(from + 170 * MS, |_| false));
        assert_eq!(cadence.wait(from + 170 * MS), 1000 * MS, "the next is an interval later");
        assert!(!cadence.is_due(from + 190 * MS, nobody_asks));
    }

    #[test]
    fn machines_that_work_on_are_told_of_in_their_turn() {
        let from = daemon::clock::now();
        let mut cadence = Cadence::new(10_000 * MS, from);
        assert!(cadence.is_due(from, nobody_asks));
        cadence.parking(names(&["a"]), from);
        let mut at = from;
        while at < from + PARKING_MAX {
            assert!(!cadence.is_due(at, |_| true));
            assert!(cadence.wait(at) <= PARKING_LOOK_EVERY);
            at += PARKING_LOOK_EVERY;
        }
        assert!(!cadence.is_due(at, |_| true));
        assert_eq!(cadence.wait(at), 10_000 * MS - PARKING_MAX);
        assert!(!cadence.is_due(at + PARKING_LOOK_EVERY, nobody_asks));
    }
}
