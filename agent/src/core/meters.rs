//! The meters as last read. Each has its own period and at most one reading in progress, so that no
//! meter delays the others. The user of a measurement judges whether it is too old or frozen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use directive::{MeterError, MeterId, MeterReading, MeterReport};
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

#[derive(Debug)]
pub(super) struct Meters {
    meters: BTreeMap<MeterId, State>,
}

#[derive(Debug)]
struct State {
    period: Duration,
    next: Instant,
    reading: bool,
    last: Option<Result<MeterReading, String>>,
    /// Whether `last` is newer than the last report.
    unreported: bool,
}

/// The shortest period: more frequent readings only cost processor time.
const PERIOD_MIN: Duration = Duration::from_millis(50);
/// The longest period: less frequent readings are of no use.
const PERIOD_MAX: Duration = Duration::from_secs(86_400);
/// How far in the future the time of a measurement may be. Beyond this it would never become stale,
/// so it is refused.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(5);

impl Meters {
    pub(super) fn new(meters: &[(MeterId, Duration)], now: Instant) -> Self {
        let state = |period: Duration| State {
            period: period.clamp(PERIOD_MIN, PERIOD_MAX),
            next: now,
            reading: false,
            last: None,
            unreported: false,
        };
        Self { meters: meters.iter().map(|(id, period)| (id.clone(), state(*period))).collect() }
    }

    pub(super) fn has(&self, id: &MeterId) -> bool {
        self.meters.contains_key(id)
    }

    /// Takes the meters that are due; each is in progress until [`Self::measured`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<MeterId> {
        let mut due = Vec::new();
        for (id, state) in &mut self.meters {
            if !state.reading && state.next <= now {
                state.reading = true;
                state.next = now + state.period;
                due.push(id.clone());
            }
        }
        due
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.meters.values().filter(|state| !state.reading).map(|state| state.next).min()
    }

    /// Takes a meter's answer. Returns the measurement, if it is one.
    pub(super) fn measured(
        &mut self,
        id: &MeterId,
        result: Result<MeterReading, MeterError>,
        wall: Timestamp,
        now: Instant,
    ) -> Option<MeterReading> {
        let state = self.meters.get_mut(id)?;
        state.reading = false;
        state.next = state.next.max(now);
        let result = result.map_err(|error| error.to_string()).and_then(|reading| {
            if reading.taken_at.duration_since(wall) > AHEAD_MAX {
                return Err(format!("unreadable: measured in the future, at {}", reading.taken_at));
            }
            Ok(reading)
        });
        let was_up = matches!(state.last, Some(Ok(_)));
        match &result {
            Err(fault) if was_up || state.last.is_none() => warn!(meter = %id, fault, "meter lost"),
            Ok(_) if !was_up => info!(meter = %id, "meter reads"),
            _ => {}
        }
        state.unreported = true;
        state.last.insert(result).as_ref().ok().cloned()
    }

    /// Whether some measurement is newer than the last report.
    pub(super) fn are_unreported(&self) -> bool {
        self.meters.values().any(|state| state.unreported)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }

    /// Reports every meter, or only those with a measurement that is newer than the last report.
    pub(super) fn report(&mut self, full: bool) -> Vec<MeterReport> {
        let report = |(id, state): (&MeterId, &mut State)| {
            if !std::mem::take(&mut state.unreported) && !full {
                return None;
            }
            let (reading, fault) = match &state.last {
                None => (None, Some("not read yet".to_owned())),
                Some(Ok(reading)) => (Some(reading), None),
                Some(Err(fault)) => (None, Some(fault.clone())),
            };
            let (watts, taken_at) =
                (reading.map(|reading| reading.watts), reading.map(|reading| reading.taken_at));
            Some(MeterReport { meter: id.clone(), watts, taken_at, fault })
        };
        self.meters.iter_mut().filter_map(report).collect()
    }
}
