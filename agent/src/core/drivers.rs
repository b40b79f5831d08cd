//! How long the drivers take for a sleep command, for the report: the switchboard adds the time of
//! many commands to the lead of a lease.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use directive::{DriverReport, DriversReport};
use jiff::Timestamp;

use super::{AgentCore, Output};

/// How many commands of a driver are kept.
const KEPT: usize = 64;
/// What a command of a driver is taken to need before any was measured.
const COMMAND_TIME: Duration = Duration::from_secs(5);
/// The shortest time that a command is taken to need: the measured ones may have been quick by chance.
const COMMAND_TIME_MIN: Duration = Duration::from_secs(1);
/// The longest time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// The shortest time between two reports.
const REPORT_GAP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Durations {
    /// The last commands of each driver, the oldest first.
    taken: Vec<VecDeque<Duration>>,
    reported: Option<Instant>,
    has_news: bool,
}

impl Durations {
    pub(super) fn new(drivers: usize) -> Self {
        Self { taken: vec![VecDeque::new(); drivers], ..Self::default() }
    }

    /// A driver has carried out a sleep command. One that it failed says nothing of the others.
    pub(super) fn note(&mut self, driver: usize, took: Duration) {
        let Some(taken) = self.taken.get_mut(driver) else { return };
        if taken.len() == KEPT {
            taken.pop_front();
        }
        taken.push_back(took);
        self.has_news = true;
    }

    /// The 95th percentile, if any command was measured.
    pub(super) fn p95(&self, driver: usize) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.taken.get(driver)?.iter().copied().collect();
        sorted.sort_unstable();
        let place = (sorted.len() * 95).div_ceil(100);
        sorted.get(place.checked_sub(1)?).copied()
    }

    fn next_report(&self, now: Instant) -> Option<Instant> {
        if self.taken.iter().all(VecDeque::is_empty) {
            return None;
        }
        let wait = if self.has_news { REPORT_GAP } else { REPORT_EVERY };
        Some(self.reported.map_or(now, |at| at + wait))
    }
}

impl AgentCore {
    /// How long the driver normally takes for a sleep command.
    pub(super) fn command_time(&self, driver: usize) -> Duration {
        self.durations.p95(driver).unwrap_or(COMMAND_TIME).max(COMMAND_TIME_MIN)
    }

    pub(super) fn next_drivers_report(&self, now: Instant) -> Option<Instant> {
        self.durations.next_report(now)
    }

    pub(super) fn report_drivers(&mut self, wall: Timestamp, now: Instant) {
        if self.next_drivers_report(now).is_none_or(|due| now < due) {
            return;
        }
        (self.durations.reported, self.durations.has_news) = (Some(now), false);
        let drivers = self.config.drivers.iter().enumerate();
        let measured = drivers.filter_map(|(number, limits)| {
            let p95 = self.durations.p95(number)?;
            let is_named = !limits.name.is_empty() && limits.name.len() <= DriversReport::NAME_MAX;
            is_named.then(|| DriverReport {
                driver: limits.name.clone(),
                concurrency: u32::try_from(limits.in_flight.max(1)).unwrap_or(u32::MAX),
                command_p95_ms: u64::try_from(p95.as_millis()).unwrap_or(u64::MAX),
            })
        });
        let drivers: Vec<_> = measured.take(DriversReport::DRIVERS_MAX).collect();
        if !drivers.is_empty() {
            self.outputs.push_back(Output::ReportDrivers(DriversReport { at: wall, drivers }));
        }
    }
}
