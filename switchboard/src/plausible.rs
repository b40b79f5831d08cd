//! Whether what the feeds' meters show can be believed. A meter is one instrument among others: what
//! machines prove by their shares and devices by their readings, the meters below and above it, and
//! what the feed can carry at all bound what it may show. A meter that is contradicted gets a word
//! ([`MeterState`]), and what it shows is then used neither for corrections nor for proofs, and raises
//! nothing below its feed. The guard of the agent has a judgement of its own, which this one does not
//! change.
//!
//! The thresholds are wide, because a false alarm costs trust: the figures of a policy are off, a house
//! grows without notice, tenants and machines come and go between two samples, and each meter may be 3 %
//! off. So no meter is judged by what the policy expects, only by what contradicts it: the laws of the
//! circuit, other measurements, and machines that are seen at work. A meter that is off by less than
//! that stays `ok`.
//!
//! Pure: samples, bounds and the time go in, changes come out. [`crate::core`] collects the bounds.

mod between;
mod history;
mod single;
mod state;

use std::time::{Duration, Instant};

use directive::Watts;
use jiff::Timestamp;

use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::words::kilowatts;
use history::History;
pub(crate) use history::Sample;
pub(crate) use state::Judging;
pub use state::{MeterChange, MeterState};

/// What bounds the meter of one feed at one look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// The newest sample, if it counts.
    pub(crate) sample: Option<Sample>,
    /// The lowest limit of the feed and those above it.
    pub(crate) limit: Watts,
    pub(crate) usable: Watts,
    pub(crate) band: Watts,
    /// The largest machine at or below the feed.
    pub(crate) largest: Watts,
    /// What the figures and their corrections expect. It serves only to tell which one of two meters
    /// that contradict each other is off.
    pub(crate) expected: Watts,
    /// The full power of the machines at and below the feed that were seen and may run.
    pub(crate) machines: Watts,
    /// The least and the most that is drawn by what is known to change (machines that were told to
    /// sleep, tenants); only differences between two looks count.
    pub(crate) known: (Watts, Watts),
    /// The most that tenants at and below the feed may draw, whenever they come and go.
    pub(crate) tenants: Watts,
    /// Whether the meter is judged at all.
    pub(crate) judging: Judging,
    /// The most that may be drawn between this meter and the meters below it.
    pub(crate) own_most: Watts,
}

/// What is drawn at and below a feed since a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// At least this: by shares, by devices that report watts, by tenants' own meters.
    pub(crate) proven: Watts,
    /// At least this, if devices that say they are awake are right.
    pub(crate) claimed: Watts,
}

/// A change of the word of a feed's meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) feed: FeedNumber,
    pub(crate) from: MeterState,
    pub(crate) to: MeterState,
}

/// What is thought of all meters.
#[derive(Debug, Default)]
pub(crate) struct Plausibility {
    meters: PerFeed<Meter>,
    /// For each feed with a meter, the next feeds below it that have one.
    below: PerFeed<Vec<FeedNumber>>,
    /// When machines were last asked what they prove.
    asked: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct Meter {
    state: MeterState,
    /// Since when it has had this state; `None` before the first sample.
    since: Option<Timestamp>,
    /// The contradiction that led to the state, or to the one before it fell silent.
    finding: Option<Finding>,
    /// The state before it fell silent, if it was implausible.
    before_silence: Option<MeterState>,
    history: History,
    /// The last sample that was believed, and what was known to be drawn then.
    base: Option<(Watts, (Watts, Watts))>,
    /// A contradiction that has not lasted long enough for a state.
    doubt: Option<Doubt>,
    /// Since when it has shown far less than machines claim or than just before.
    low: Option<Instant>,
    /// Samples in a row without contradiction, while the state is not `Ok`.
    good: u32,
    /// What machines were found to prove.
    proof: Option<Answer>,
    /// When it was last implausible or silent. A doubt that comes to nothing does not count.
    troubled: Option<Instant>,
}

/// What machines prove, in what time, and when they were asked.
#[derive(Debug, Clone, Copy)]
struct Answer {
    within: Within,
    asked: Instant,
    proof: Proof,
}

/// The time in which machines must prove that more is drawn than a meter shows: it lies between two
/// samples that show little, so that what is drawn in it is missing in the meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Within {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// Whether the meter has shown as little for longer.
    is_older: bool,
}

/// A contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Finding {
    state: MeterState,
    shown: Watts,
    /// What it was compared with.
    bound: Watts,
    /// The feed whose meter it was compared with.
    other: Option<FeedNumber>,
    /// Whether the contradiction is about a time, in which several samples were taken.
    has_lasted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Instant,
    samples: u32,
}

/// What one look at a meter gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Nothing contradicts it, but the check that found it to be wrong could not be made either.
    Unchecked,
    /// What machines prove is not known yet.
    Undecided,
    /// It may be wrong, or the power may be gone: a while shows it.
    Doubtful,
    Bad(Finding),
}

/// A contradiction by single samples counts from the second one on, or after this time: one sample may
/// be a fault of the transmission.
const LASTS: Duration = Duration::from_secs(5);
const SAMPLES: u32 = 2;
/// So many samples in a row must be without contradiction before a meter is believed again.
const GOOD: u32 = 3;
/// What machines prove is asked for at most this often, because all of them are looked at.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// An answer counts for the next samples for this long, and for a time that begins up to this much later
/// than the one that it was asked for.
const ANSWER_COUNTS: Duration = Duration::from_secs(4);

impl Plausibility {
    /// No meter was read.
    pub(crate) fn new(feeds: &Feeds) -> Self {
        let mut below = PerFeed::all(feeds, Vec::new());
        for feed in feeds.numbers().filter(|feed| feeds[*feed].meter.is_some()) {
            let above = feeds.path(feed).iter().skip(1);
            if let Some(parent) = above.copied().find(|above| feeds[*above].meter.is_some())
                // Two feeds may share a meter where nothing is between them.
                && feeds[parent].meter != feeds[feed].meter
            {
                below[parent].push(feed);
            }
        }
        Self { meters: PerFeed::all(feeds, Meter::default()), below, asked: None }
    }

    /// Takes up, after a start, meters that were implausible before: what was known against them is
    /// forgotten, and they are not believed before something shows that they are right.
    pub(crate) fn restore<'a>(
        &mut self,
        feeds: &Feeds,
        changes: impl IntoIterator<Item = (&'a MeterChange, Timestamp)>,
    ) {
        for (change, since) in changes {
            let Some(feed) = feeds.number(&change.feed) else { continue };
            if feeds[feed].meter.as_ref() != Some(&change.meter) || !change.to.is_implausible() {
                continue;
            }
            let figures = change.shown.zip(change.bound);
            let meter = &mut self.meters[feed];
            (meter.state, meter.since) = (change.to, Some(since));
            if let Some(value) = change.shown.filter(|_| change.to == MeterState::Frozen) {
                meter.history.freeze(value);
            }
            meter.finding = figures.map(|(shown, bound)| Finding {
                state: change.to,
                shown,
                bound,
                other: None,
                has_lasted: true,
            });
        }
    }

    /// Carries over what is known of feeds that have the same meter under a new policy.
    pub(crate) fn carried(&self, former: &Feeds, feeds: &Feeds) -> Self {
        let mut carried = Self::new(feeds);
        for feed in feeds.numbers() {
            let same = former.number(&feeds[feed].id);
            if let Some(same) = same.filter(|same| former[*same].meter == feeds[feed].meter) {
                carried.meters[feed] =
                    self.meters[same].carried(|other| feeds.number(&former[other].id));
            }
        }
        carried
    }

    /// What is thought of the meter of `feed`.
    pub(crate) fn state(&self, feed: FeedNumber) -> MeterState {
        self.meters[feed].state
    }

    /// Since when it has had its state; `None` while its first sample is awaited.
    pub(crate) fn since(&self, feed: FeedNumber) -> Option<Timestamp> {
        self.meters[feed].since
    }

    /// Whether what the meter of `feed` shows may be used: nothing contradicts it, not even one sample.
    pub(crate) fn is_believed(&self, feed: FeedNumber) -> bool {
        let meter = &self.meters[feed];
        !meter.state.is_implausible() && meter.doubt.is_none()
    }

    /// Whether the meter of `feed` was silent or implausible at some time in the last `within`.
    pub(crate) fn was_wrong_or_silent(
        &self,
        feed: FeedNumber,
        within: Duration,
        now: Instant,
    ) -> bool {
        let troubled = self.meters[feed].troubled;
        troubled.is_some_and(|at| now.saturating_duration_since(at) <= within)
    }

    /// The figures of the contradiction: what the meter showed, and what it was compared with.
    pub(crate) fn figures(&self, feed: FeedNumber) -> Option<(Watts, Watts)> {
        let meter = &self.meters[feed];
        let finding = meter.finding.filter(|_| meter.state.is_implausible());
        finding.map(|finding| (finding.shown, finding.bound))
    }

    /// The contradiction as text, such as `shows 58,180 kW where at most 180 kW are possible`.
    pub(crate) fn why(&self, feeds: &Feeds, feed: FeedNumber) -> String {
        let meter = &self.meters[feed];
        match (meter.state, meter.finding) {
            (MeterState::Ok, _) => "nothing contradicts it".to_owned(),
            (MeterState::Silent, _) => "it has no sample that counts".to_owned(),
            (_, Some(finding)) => finding.words(feeds),
            (state, None) => state.to_string(),
        }
    }

    /// The largest distance in time between the last samples of the meter of `feed`.
    pub(crate) fn gap(&self, feed: FeedNumber) -> Duration {
        self.meters[feed].history.gap()
    }

    /// Judges all meters at `now`. `seen` has no value for a feed without a meter; while receivers have
    /// not had the time to report, a meter that was never read is awaited. `prove` gives for each feed
    /// what was drawn in a time.
    pub(crate) fn judge(
        &mut self,
        feeds: &Feeds,
        seen: &PerFeed<Option<Seen>>,
        (wall, now): (Timestamp, Instant),
        settle: Duration,
        prove: impl FnOnce(&PerFeed<Option<Within>>) -> PerFeed<Proof>,
        is_awaited: bool,
    ) -> Vec<Change> {
        let is_new = PerFeed::each(feeds, |feed| {
            let sample = seen[feed].and_then(|seen| seen.sample);
            sample.is_some_and(|sample| self.meters[feed].history.note(sample))
        });
        self.ask(feeds, seen, now, prove);
        let verdicts = self.verdicts(feeds, seen, settle, now);
        let mut changes = Vec::new();
        for feed in feeds.numbers() {
            let Some(seen) = &seen[feed] else { continue };
            let meter = &mut self.meters[feed];
            let from = meter.state;
            match (seen.sample, verdicts[feed]) {
                (Some(_), _) if seen.judging == Judging::Waits => continue,
                (Some(_), _) if seen.judging == Judging::Rests => {
                    meter.rest();
                    meter.since = meter.since.or(Some(wall));
                }
                (Some(sample), Some(verdict)) => {
                    meter.state = meter.before_silence.take().unwrap_or(meter.state);
                    meter.take(verdict, sample, seen.known, is_new[feed], now);
                    meter.since = meter.since.or(Some(wall));
                }
                _ if meter.history.newest().is_none() && is_awaited => continue,
                _ => meter.fall_silent(),
            }
            if meter.state != MeterState::Ok {
                meter.troubled = Some(now);
            }
            if meter.state != from {
                meter.since = Some(wall);
                changes.push(Change { feed, from, to: meter.state });
            }
        }
        changes
    }

    /// Asks what machines prove where a meter shows much less than they may draw.
    fn ask(
        &mut self,
        feeds: &Feeds,
        seen: &PerFeed<Option<Seen>>,
        now: Instant,
        prove: impl FnOnce(&PerFeed<Option<Within>>) -> PerFeed<Proof>,
    ) {
        let asks = PerFeed::each(feeds, |feed| {
            let seen = seen[feed].as_ref().filter(|seen| seen.judging == Judging::Usual)?;
            self.meters[feed].asks(seen)
        });
        for feed in feeds.numbers() {
            let meter = &mut self.meters[feed];
            meter.proof = meter.proof.filter(|answer| match asks[feed] {
                Some(within) => answer.counts(within, now),
                // A meter near the limit of what is asked for soon shows less again.
                None => answer.is_young(now),
            });
        }
        let is_due = self.asked.is_none_or(|at| now.saturating_duration_since(at) >= ASK_EVERY);
        if !is_due || asks.iter().all(Option::is_none) {
            return;
        }
        self.asked = Some(now);
        let proofs = prove(&asks);
        for feed in feeds.numbers() {
            let Some(within) = asks[feed] else { continue };
            let meter = &mut self.meters[feed];
            let mut proof = proofs[feed];
            if let Some(before) = meter.proof.filter(|answer| answer.within == within) {
                // What was proven in a time stays so: the newest share may be a later one by now.
                proof.proven = proof.proven.max(before.proof.proven);
            }
            meter.proof = Some(Answer { within, asked: now, proof });
        }
    }

    fn verdicts(
        &mut self,
        feeds: &Feeds,
        seen: &PerFeed<Option<Seen>>,
        settle: Duration,
        now: Instant,
    ) -> PerFeed<Option<Verdict>> {
        let shown = |feed: FeedNumber| Some(seen[feed]?.sample?.watts);
        let below = PerFeed::each(feeds, |feed| {
            let below = self.below[feed].iter().filter(|below| self.is_believed(**below));
            let shown = below.filter_map(|below| shown(*below));
            shown.fold((Watts::ZERO, 0), |(sum, count), watts| (sum + watts, count + 1))
        });
        let mut verdicts = PerFeed::each(feeds, |feed| {
            let seen = seen[feed].as_ref().filter(|seen| seen.judging == Judging::Usual)?;
            Some(self.meters[feed].judge(seen, seen.sample?, below[feed], settle, now))
        });
        let mut unchecked = Vec::new();
        for parent in feeds.numbers().filter(|feed| !self.below[*feed].is_empty()) {
            let below = &self.below[parent];
            let compared = between::compare(&self.meters, below, parent, seen, &verdicts);
            unchecked.extend(between::unchecked(&self.meters, below, parent, &compared));
            for (feed, finding) in compared.found {
                verdicts[feed] = Some(Verdict::Bad(finding));
            }
        }
        for feed in unchecked {
            if verdicts[feed] == Some(Verdict::Good) {
                verdicts[feed] = Some(Verdict::Unchecked);
            }
        }
        verdicts
    }
}

impl Meter {
    /// What is known of the meter under a new policy; `renumbered` is the new number of a feed. What was
    /// known to be drawn was counted by other figures, and is forgotten.
    fn carried(&self, renumbered: impl Fn(FeedNumber) -> Option<FeedNumber>) -> Self {
        let mut carried = Self { base: None, proof: None, ..self.clone() };
        if let Some(finding) = &mut carried.finding {
            finding.other = finding.other.and_then(renumbered);
        }
        carried.history.recount();
        carried
    }

    /// Its state, or the one that it had before it fell silent.
    fn standing(&self) -> MeterState {
        self.before_silence.unwrap_or(self.state)
    }

    /// Whether it was believed at the sample before.
    fn was_believed(&self) -> bool {
        self.state == MeterState::Ok && self.doubt.is_none() && self.since.is_some()
    }

    /// Takes what one look gives, with the sample that it was about.
    fn take(
        &mut self,
        verdict: Verdict,
        sample: Sample,
        known: (Watts, Watts),
        is_new: bool,
        now: Instant,
    ) {
        match verdict {
            Verdict::Good => {
                self.doubt = None;
                self.recover(is_new);
                if self.state == MeterState::Ok {
                    self.base = Some((sample.watts, known));
                }
            }
            Verdict::Unchecked => self.doubt = None,
            // That nobody was asked yet is no reason not to believe a meter that was believed at the
            // sample before: the answer comes within moments.
            Verdict::Undecided if self.was_believed() => {}
            Verdict::Undecided | Verdict::Doubtful => {
                self.good = 0;
                self.doubt.get_or_insert(Doubt { since: now, samples: 0 });
                // It answers again. Whether it is right is another matter.
                if self.state == MeterState::Silent {
                    self.state = MeterState::Ok;
                }
            }
            Verdict::Bad(finding) => {
                self.good = 0;
                let doubt = self.doubt.get_or_insert(Doubt { since: now, samples: 0 });
                doubt.samples = doubt.samples.saturating_add(u32::from(is_new));
                let has_lasted = finding.has_lasted
                    || doubt.samples >= SAMPLES
                    || now.saturating_duration_since(doubt.since) >= LASTS;
                if has_lasted {
                    (self.state, self.finding) = (finding.state, Some(finding));
                } else if self.state == MeterState::Silent {
                    self.state = MeterState::Ok;
                }
            }
        }
    }

    /// Counts a sample without contradiction, at which the check that found the state was made.
    fn recover(&mut self, is_new: bool) {
        match self.state {
            MeterState::Ok => {}
            // Nothing was wrong with what it showed before.
            MeterState::Silent => self.state = MeterState::Ok,
            _ => {
                self.good = self.good.saturating_add(u32::from(is_new));
                if self.good >= GOOD {
                    self.state = MeterState::Ok;
                    self.history.forget();
                }
            }
        }
        if self.state == MeterState::Ok {
            (self.finding, self.good) = (None, 0);
        }
    }

    /// Forgets what is held against the next samples.
    fn rest(&mut self) {
        self.state = self.before_silence.take().unwrap_or(self.state);
        if self.state == MeterState::Silent {
            self.state = MeterState::Ok;
        }
        self.history.break_off();
        (self.doubt, self.low, self.base, self.proof) = (None, None, None, None);
    }

    /// A meter that was implausible is so when it answers again: its agent may have restarted.
    fn fall_silent(&mut self) {
        if self.state.is_implausible() {
            self.before_silence = Some(self.state);
        }
        self.state = MeterState::Silent;
        self.history.break_off();
        (self.doubt, self.low, self.good) = (None, None, 0);
    }
}

impl Answer {
    /// Whether it is still about what is asked.
    fn counts(&self, asks: Within, now: Instant) -> bool {
        let newer = Duration::try_from(asks.from.duration_since(self.within.from));
        let begins_with_it = asks.is_older || newer.is_ok_and(|newer| newer <= ANSWER_COUNTS);
        asks == self.within || (begins_with_it && self.is_young(now))
    }

    fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) <= ANSWER_COUNTS
    }
}

impl Finding {
    fn words(&self, feeds: &Feeds) -> String {
        let (shown, bound) = (kilowatts(self.shown), kilowatts(self.bound));
        let other = self.other.map(|other| feeds[other].id.clone());
        match (self.state, other) {
            (MeterState::ScaledUp, _) => {
                format!("shows {shown} where at most {bound} are possible")
            }
            (MeterState::ScaledDown, _) => {
                format!("shows {shown} where at least {bound} are drawn")
            }
            (MeterState::Frozen, _) => {
                format!("shows {shown} all the time while what is below it changed by {bound}")
            }
            (MeterState::Phase, Some(other)) => {
                format!("shows {shown} against {bound} by the meter of {other}, off by √3")
            }
            (MeterState::Phase, None) => {
                format!("shows {shown} against {bound} by the meters below it, off by √3")
            }
            (MeterState::AboveParent, Some(other)) => {
                format!("shows {shown}, and the meter of {other} above it {bound}")
            }
            (MeterState::BelowChildren, _) => {
                format!("shows {shown}, and the meters below it {bound}")
            }
            (state, _) => format!("{state}: shows {shown}, compared with {bound}"),
        }
    }
}

#[cfg(test)]
mod tests;
