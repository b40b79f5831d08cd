//! One feed: its samples, whether it is tripped, and what its meter has not shown yet.

use std::time::{Duration, Instant};

use directive::{GuardState, MeterReading, Watts};
use jiff::Timestamp;

use super::moving::Moving;
use super::over::Bare;
use super::table::Feed;

#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<Sample>,
    /// The power in the sample before `last`.
    before: Option<Watts>,
    /// The time between the last two samples; zero before the second.
    gap: Duration,
    /// Whether the meter's last answer was no measurement.
    faulty: bool,
    /// How many samples in a row were above the usable power.
    over: u32,
    trip: Option<Trip>,
    /// What the guard has shed for the feed since the agent started, in acts.
    pub(super) acts: u64,
    /// What no machine of this agent can free.
    pub(super) wants: Watts,
    /// For how long no machine was left.
    pub(super) bare: Bare,
    /// Machines that drew power and were told to sleep, which the samples do not show yet.
    pub(super) falling: Moving,
    /// Machines that were told to wake and may not have drawn their full power in the last sample.
    pub(super) rising: Moving,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    watts: Watts,
    taken_at: Timestamp,
    /// The time of the sample by the monotonic clock.
    taken: Instant,
    /// Whether the sample, and not the one before it, is far above the rating.
    spike: bool,
    /// Whether the sample and the one before it are far above the rating.
    implausible: bool,
}

/// The time from the first sample that was too much to one at the clear level.
#[derive(Debug, Default)]
struct Trip {
    /// What was guardable when the feed tripped.
    guardable: Watts,
    shed: Watts,
    /// The highest power at the time of an act.
    base: Watts,
    /// The machines that were chosen, by number.
    machines: Vec<usize>,
    suspect: bool,
    /// Whether the meter was suspect before in this time.
    was_suspect: bool,
}

/// What a sample means for the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Quiet,
    /// The feed must be tripped, with [`Watch::trip`].
    Tripped,
    StillTripped,
    Cleared,
}

/// A sample above this many times the rating is far above it: no feed carries that for long, so it
/// is rather a fault of the meter or of a unit.
const SPIKE: i64 = 3;

impl Watch {
    /// Takes an answer of the feed's meter. Returns whether it is a new sample that counts: one
    /// taken after the last, not too old, and not the first that is far above the rating.
    pub(super) fn note(
        &mut self,
        spec: &Feed,
        reading: Option<&MeterReading>,
        wall: Timestamp,
        now: Instant,
    ) -> bool {
        let possible = Watts::ZERO..=Watts::LIMIT;
        let Some(reading) = reading.filter(|reading| possible.contains(&reading.watts)) else {
            self.faulty = true;
            return false;
        };
        self.faulty = false;
        let age = Duration::try_from(wall.duration_since(reading.taken_at)).unwrap_or_default();
        if self.last.is_some_and(|last| last.taken_at == reading.taken_at) || age > spec.stale_after
        {
            return false;
        }
        let Some(taken) = now.checked_sub(age) else { return false };
        if self.last.is_some_and(|last| taken <= last.taken) {
            return false;
        }
        let former = self.last;
        let far = reading.watts.0 > spec.rating.0.saturating_mul(SPIKE);
        let was_far = former.is_some_and(|former| former.spike || former.implausible);
        self.before = former.map(|former| former.watts);
        self.gap = former.map_or(Duration::ZERO, |former| taken.duration_since(former.taken));
        self.last = Some(Sample {
            watts: reading.watts,
            taken_at: reading.taken_at,
            taken,
            spike: far && !was_far,
            implausible: far && was_far,
        });
        if let Some(shown) = taken.checked_sub(spec.lag) {
            self.falling.settle(shown);
            self.rising.settle(shown);
        }
        !far || was_far
    }

    /// Judges the newest sample.
    pub(super) fn judge(&mut self, spec: &Feed) -> Judged {
        let watts = self.watts();
        self.over = if watts > spec.usable { self.over.saturating_add(1) } else { 0 };
        if self.over == 0 {
            self.bare.end();
            self.bare.over_since = None;
        } else if self.bare.over_since.is_none() {
            self.bare.over_since = self.last.map(|last| last.taken_at);
        }
        if self.trip.is_some() {
            if watts > spec.clear {
                return Judged::StillTripped;
            }
            (self.trip, self.wants) = (None, Watts::ZERO);
            return Judged::Cleared;
        }
        let trips = self.over >= spec.after || watts > spec.rating;
        if trips { Judged::Tripped } else { Judged::Quiet }
    }

    /// The feed is tripped, with so much to shed at and below it.
    pub(super) fn trip(&mut self, guardable: Watts) {
        self.trip = Some(Trip { guardable, ..Trip::default() });
    }

    /// Judges whether the meter of a tripped feed shows what machines do. `asleep` gives what a
    /// machine has freed, if its device confirms that it sleeps. Returns whether the meter is suspect
    /// for the first time since the feed tripped.
    ///
    /// Less than twice the band is not judged: the band is as wide as the noise of the meter.
    pub(super) fn suspect(&mut self, spec: &Feed, asleep: impl Fn(usize) -> Option<Watts>) -> bool {
        let (Some(last), Some(trip)) = (self.last, &mut self.trip) else { return false };
        let shown = trip.machines.iter().filter(|machine| !self.falling.contains(**machine));
        let freed: Watts = shown.filter_map(|machine| asleep(*machine)).sum();
        let fell = trip.base - last.watts;
        let counts = freed > Watts::ZERO && freed >= spec.band + spec.band;
        let hides = counts && fell.0.saturating_mul(2) < freed.0;
        trip.suspect = last.implausible || hides;
        let is_new = trip.suspect && !trip.was_suspect;
        trip.was_suspect |= trip.suspect;
        is_new
    }

    /// The guard chose these machines, which free `watts`.
    pub(super) fn acted(&mut self, machines: &[usize], watts: Watts) {
        let now = self.watts();
        self.acts += 1;
        if let Some(trip) = &mut self.trip {
            trip.shed += watts;
            trip.base = trip.base.max(now);
            trip.machines.extend(machines);
        }
    }

    /// The power above the clear level that no command covers: by the smaller of the last two
    /// samples, so that one of them alone sheds nothing, but above the rating by the last.
    pub(super) fn missing(&self, spec: &Feed) -> Watts {
        let watts = self.watts();
        let one_counts = watts > spec.rating || spec.after == 1;
        let basis = self.before.filter(|_| !one_counts).map_or(watts, |before| before.min(watts));
        basis - spec.clear - self.falling.sum()
    }

    /// The power above the usable power that no command covers, if the feed's last sample is above
    /// it.
    pub(super) fn excess(&self, spec: &Feed, now: Instant) -> Watts {
        if self.shows_excess(spec, now) {
            self.watts().saturating_sub(spec.clear + self.falling.sum())
        } else {
            Watts::ZERO
        }
    }

    /// The power above the rating that no command covers.
    pub(super) fn above_rating(&self, spec: &Feed) -> Watts {
        self.watts().saturating_sub(spec.rating + self.falling.sum())
    }

    /// What may still be shed on the word of this suspect meter alone.
    pub(super) fn suspect_rest(&self, max_pct: u8) -> Watts {
        let Some(trip) = &self.trip else { return Watts::ZERO };
        Watts(trip.guardable.0 / 100 * i64::from(max_pct)).saturating_sub(trip.shed)
    }

    /// Whether a machine may wake that will draw `watts`.
    pub(super) fn has_room(&self, spec: &Feed, machine: usize, watts: Watts, now: Instant) -> bool {
        self.trip.is_none()
            && !self.is_lost(spec, now)
            && self.watts() + self.rising.sum_without(machine) + watts <= spec.usable
    }

    /// The power in the last sample; 0 before the first.
    pub(super) fn watts(&self) -> Watts {
        self.last.map(|last| last.watts).unwrap_or_default()
    }

    /// When the last sample was taken, by the meter and by the monotonic clock, and the time between
    /// it and the one before.
    pub(super) fn newest(&self) -> Option<(Timestamp, Instant, Duration)> {
        self.last.map(|last| (last.taken_at, last.taken, self.gap))
    }

    /// Whether the last sample is above the usable power, fresh and plausible.
    pub(super) fn shows_excess(&self, spec: &Feed, now: Instant) -> bool {
        self.last.is_some_and(|last| {
            last.watts > spec.usable && !last.spike && !last.implausible && !self.is_lost(spec, now)
        })
    }

    /// The machines that were chosen since the feed tripped and are no credit any more.
    pub(super) fn chosen(&self) -> impl Iterator<Item = usize> + '_ {
        let machines = self.trip.iter().flat_map(|trip| trip.machines.iter().copied());
        machines.filter(|machine| !self.falling.contains(*machine))
    }

    pub(super) fn is_faulty(&self) -> bool {
        self.faulty
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.trip.as_ref().is_some_and(|trip| trip.suspect)
    }

    /// Whether the last sample is too old, or the meter cannot be read.
    pub(super) fn is_lost(&self, spec: &Feed, now: Instant) -> bool {
        self.faulty
            || self
                .last
                .is_none_or(|last| now.saturating_duration_since(last.taken) > spec.stale_after)
    }

    pub(super) fn state(&self, spec: &Feed, now: Instant) -> GuardState {
        match &self.trip {
            _ if self.is_lost(spec, now) => GuardState::MeterLost,
            Some(trip) if trip.suspect => GuardState::Suspect,
            Some(_) => GuardState::Tripped,
            None => GuardState::Watching,
        }
    }

    /// The same feed under a new table, in which `renumbered` gives the new numbers of machines.
    /// Machines whose power is changing are added by the caller.
    pub(super) fn carried(mut self, renumbered: impl Fn(usize) -> Option<usize>) -> Self {
        if let Some(trip) = &mut self.trip {
            let machines = std::mem::take(&mut trip.machines);
            trip.machines = machines.into_iter().filter_map(renumbered).collect();
        }
        self.falling = Moving::default();
        self.rising = Moving::default();
        self
    }
}
