//! A site whose true powers are known, and meters that show them well or badly.

mod dark;
mod edits;
mod faults;
mod honest;
mod restarts;

use crate::fixture::{self, at, origin};

use super::*;

/// One feed of the bench: its true power over time is a function of the seconds.
struct Place {
    /// The feed above it, by number.
    parent: Option<usize>,
    limit: i64,
    truth: Box<dyn Fn(i64) -> i64>,
    meter: Instrument,
}

/// How a meter shows the truth.
#[derive(Clone, Copy)]
struct Instrument {
    period: i64,
    /// By how many seconds its samples come after those of others.
    phase: i64,
    gain: f64,
    /// Each sample is off by up to this part.
    noise: f64,
}

const EXACT: Instrument = Instrument { period: 1, phase: 0, gain: 1.0, noise: 0.0 };

/// What a fault makes of a value.
type Fault = Box<dyn Fn(i64) -> Option<i64>>;

struct Bench {
    places: Vec<Place>,
    feeds: Feeds,
    plausible: Plausibility,
    secs: i64,
    samples: Vec<Option<Sample>>,
    /// The fault of each meter.
    faults: Vec<Option<Fault>>,
    /// What machines draw that find shares, by feed: half of it is proven once asked.
    hashing: Vec<i64>,
    /// What machines draw whose devices only say that they are awake.
    awake: Vec<i64>,
    machines: Vec<i64>,
    known: Vec<i64>,
    own_most: Vec<i64>,
    /// What the figures say, if not the truth.
    expected: Vec<Option<i64>>,
    judging: Vec<Judging>,
    changes: Vec<(i64, usize, MeterState)>,
    /// Until then, meters that were never read are awaited.
    awaited_until: i64,
}

impl Bench {
    fn new(places: Vec<Place>) -> Self {
        let feeds = places.iter().enumerate().map(|(number, place)| {
            let parent = place.parent.map(|parent| format!("f{parent}"));
            fixture::feed(&format!("f{number}"), parent.as_deref(), place.limit, 0)
        });
        let feeds = Feeds::new(feeds.collect()).expect("parents come first");
        let count = places.len();
        Self {
            plausible: Plausibility::new(&feeds),
            feeds,
            secs: 0,
            samples: vec![None; count],
            faults: (0..count).map(|_| None).collect(),
            hashing: vec![0; count],
            awake: vec![0; count],
            machines: vec![0; count],
            known: vec![0; count],
            own_most: vec![i64::MAX / 4; count],
            expected: vec![None; count],
            judging: vec![Judging::Usual; count],
            changes: Vec::new(),
            awaited_until: 70,
            places,
        }
    }

    fn number(&self, place: usize) -> FeedNumber {
        self.feeds.numbers().nth(place).expect("it is there")
    }

    fn state(&self, place: usize) -> MeterState {
        self.plausible.state(self.number(place))
    }

    fn is_believed(&self, place: usize) -> bool {
        self.plausible.is_believed(self.number(place))
    }

    /// One second passes.
    fn step(&mut self) {
        self.secs += 1;
        for (number, place) in self.places.iter().enumerate() {
            let Instrument { period, phase, gain, noise } = place.meter;
            if (self.secs - phase) % period != 0 {
                continue;
            }
            let truth = (place.truth)(self.secs);
            let off = noise * (f64::from(pseudo(self.secs, number)) / 1_000.0);
            let shown = (truth as f64 * gain * (1.0 + off)) as i64;
            let shown = match &self.faults[number] {
                Some(fault) => fault(shown),
                None => Some(shown),
            };
            let taken_at = at(self.secs);
            self.samples[number] = shown.map(|watts| Sample { watts: Watts(watts), taken_at });
        }
        let seen = PerFeed::each(&self.feeds, |feed| {
            let number = self.feeds.numbers().position(|other| other == feed).expect("it is there");
            let place = &self.places[number];
            let truth = (place.truth)(self.secs);
            Some(Seen {
                sample: self.samples[number],
                limit: Watts(place.limit),
                usable: Watts(place.limit),
                band: Watts(3_000),
                largest: Watts(3_000),
                expected: Watts(self.expected[number].unwrap_or(truth)),
                machines: Watts(self.machines[number]),
                known: (Watts(self.known[number]), Watts(self.known[number])),
                tenants: Watts::ZERO,
                judging: self.judging[number],
                own_most: Watts(self.own_most[number]),
            })
        });
        let now = origin_plus(self.secs);
        let (hashing, awake) = (&self.hashing, &self.awake);
        let feeds = &self.feeds;
        let changes = self.plausible.judge(
            feeds,
            &seen,
            (at(self.secs), now),
            Duration::from_secs(10),
            |within| {
                PerFeed::each(feeds, |feed| {
                    let number = feeds.numbers().position(|other| other == feed).unwrap_or(0);
                    // Shares take ten seconds to prove what machines draw.
                    let old = within[feed].is_some_and(|within| at(self.secs - 10) >= within.from);
                    let proven = if old { hashing[number] / 3 + awake[number] / 30 } else { 0 };
                    let claimed = awake[number] / 30;
                    Proof { proven: Watts(proven), claimed: Watts(claimed) }
                })
            },
            self.secs < self.awaited_until,
        );
        for Change { feed, to, .. } in changes {
            let number = feeds.numbers().position(|other| other == feed).expect("it is there");
            self.changes.push((self.secs, number, to));
        }
    }

    /// The switchboard restarts: only what is on record is known.
    fn restart(&mut self) {
        let changes = self.feeds.numbers().filter_map(|feed| {
            let figures = self.plausible.figures(feed);
            Some(MeterChange {
                feed: self.feeds[feed].id.clone(),
                meter: self.feeds[feed].meter.clone()?,
                from: MeterState::Ok,
                to: self.plausible.state(feed),
                shown: figures.map(|(shown, _)| shown),
                bound: figures.map(|(_, bound)| bound),
                why: self.plausible.why(&self.feeds, feed),
                leases: Vec::new(),
            })
        });
        let changes: Vec<MeterChange> = changes.collect();
        self.plausible = Plausibility::new(&self.feeds);
        let since = at(self.secs);
        self.plausible.restore(&self.feeds, changes.iter().map(|change| (change, since)));
    }

    fn run_to(&mut self, secs: i64) {
        while self.secs < secs {
            self.step();
        }
    }

    /// No meter was ever called wrong.
    fn assert_honest(&self) {
        assert_eq!(self.changes, [], "nothing was wrong");
    }
}

/// The tests' own instant for a second, one origin for all of them.
fn origin_plus(secs: i64) -> Instant {
    use std::sync::OnceLock;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(origin);
    origin + Duration::from_secs(u64::try_from(secs).expect("time runs forward"))
}

/// A number from −1,000 to 1,000 that looks random.
fn pseudo(secs: i64, number: usize) -> i32 {
    let mut value = (secs as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64) << 32;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    i32::try_from((value ^ (value >> 31)) % 2_001).unwrap_or_default() - 1_000
}

fn place(
    parent: Option<usize>,
    limit: i64,
    meter: Instrument,
    truth: impl Fn(i64) -> i64 + 'static,
) -> Place {
    Place { parent, limit, truth: Box::new(truth), meter }
}

/// The site of the trials: one feed of 60 kW, a house of 2 kW, sixteen machines of 3 kW of which some
/// sleep, and a tenant.
fn one(draws: i64) -> Bench {
    Bench::new(vec![place(None, 60_000, EXACT, move |_| draws)])
}
