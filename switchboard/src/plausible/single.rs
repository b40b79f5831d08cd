//! Judges one meter by itself, by what the feed can carry, and by what machines and tenants prove.

use std::time::{Duration, Instant};

use directive::Watts;

use super::history::{KEPT, Known, Sample};
use super::{Answer, Finding, Meter, MeterState, Seen, Verdict, Within};

/// At this multiple of its limit, a feed's breaker has long opened.
const POSSIBLE: i64 = 3;
/// A value that follows another one by this factor, and no known change between them, is the same load
/// in another unit: a load that changes by a thousand to a thousand within 15 % is hardly another.
const THOUSAND: std::ops::RangeInclusive<f64> = 870.0..=1_150.0;
/// Half the way, by factors, from the right unit to the wrong one. A meter that was off by a thousand is
/// so until it is nearer to the right value than this.
const NEARER: f64 = 30.0;
/// Below this there is too little resolution to know a factor by, and it may be the noise of nothing.
const LEAST: Watts = Watts(5_000);
/// Machines are asked what they prove where a meter shows less than this part of what they may draw:
/// machines that are set to half of their nameplate are usual.
const ASKS_BELOW: f64 = 0.5;
/// Once asked, they are asked until the meter shows more than this part: one that is near the limit
/// crosses it with each noise.
const ASKS_UP_TO: f64 = 0.55;
/// By so much, as a part of the usable power, a proof must exceed what is shown: a machine or two may be
/// at another feed than the policy says.
const SLACK: f64 = 0.005;
/// A fall to less than this part that no known change explains is doubted for [`DOUBTED`].
const FALL: f64 = 0.05;
/// A meter that showed too little, and is right again, shows more than this multiple.
const RISES: f64 = 10.0;
/// Shares come every few seconds and devices are read every half minute. If nobody has proven in this
/// time that power is drawn, the power is really gone.
const DOUBTED: Duration = Duration::from_mins(1);
/// A low value is followed back for at most this long to find since when machines must prove more.
const FOLLOWED: Duration = Duration::from_secs(90);
/// One value is called frozen only after this many samples that should have shown a change, and this
/// long after it: machines take time to fall asleep, and meters to show it.
const FROZEN_SAMPLES: u32 = 5;
const FROZEN_LASTS: Duration = Duration::from_secs(10);
/// A change counts that is larger than this part of the usable power, twice the band and three of the
/// largest machines: some machines say that they sleep and draw on.
const CHANGE: f64 = 0.02;
const CHANGE_MACHINES: i64 = 3;

impl Meter {
    /// The time in which machines must prove that more is drawn than the meter shows; `None` if it does
    /// not show much less than they may draw.
    pub(super) fn asks(&self, seen: &Seen) -> Option<Within> {
        let sample = seen.sample?;
        let part = if self.proof.is_some() { ASKS_UP_TO } else { ASKS_BELOW };
        if sample.watts >= seen.machines.scale(part) {
            return None;
        }
        let level = Watts(sample.watts.0.saturating_mul(2)) + seen.usable.scale(SLACK);
        self.history.below(level, FOLLOWED)
    }

    /// Judges the sample. `below` is the sum of the believed meters below, and how many they are.
    pub(super) fn judge(
        &mut self,
        seen: &Seen,
        sample: Sample,
        below: (Watts, usize),
        settle: Duration,
        now: Instant,
    ) -> Verdict {
        let shown = sample.watts;
        let bad = |state, bound, has_lasted| {
            Verdict::Bad(Finding { state, shown, bound, other: None, has_lasted })
        };
        if let Some(changed_by) = self.frozen(seen, below, settle, now) {
            return bad(MeterState::Frozen, changed_by, true);
        }
        let possible = Watts(seen.limit.0.saturating_mul(POSSIBLE));
        if shown > possible {
            return bad(MeterState::ScaledUp, possible, false);
        }
        if let Some((state, base)) = self.by_a_thousand(seen, shown) {
            return bad(state, base, false);
        }
        let slack = seen.usable.scale(SLACK);
        let mut claimed = false;
        let has_fallen = self.has_fallen(seen, shown);
        if self.asks(seen).is_some() {
            let Some(Answer { proof, .. }) = self.proof else {
                if !has_fallen {
                    return Verdict::Undecided;
                }
                self.low.get_or_insert(now);
                return Verdict::Doubtful;
            };
            if proof.proven > shown + slack {
                self.low = None;
                return bad(MeterState::ScaledDown, proof.proven, false);
            }
            claimed = proof.claimed > shown + slack;
        }
        if !claimed && !has_fallen && !self.is_still_low(shown) {
            self.low = None;
            return Verdict::Good;
        }
        let low = *self.low.get_or_insert(now);
        if now.saturating_duration_since(low) < DOUBTED { Verdict::Doubtful } else { Verdict::Good }
    }

    /// Whether the meter shows a thousand times, or a thousandth of, what it showed before.
    fn by_a_thousand(&self, seen: &Seen, shown: Watts) -> Option<(MeterState, Watts)> {
        let (base, known) = self.base?;
        // By how much the load may have changed since, in ways that are known.
        let (fell, rose) = (seen.known.0 - known.1, seen.known.1 - known.0);
        let (least, most) = ((base + fell).max(Watts(base.0 / 3)), (base + rose).max(base));
        let factor = |of: Watts, to: Watts| of.0 as f64 / to.0.max(1) as f64;
        let is_steady = Watts((fell.0.abs()).max(rose.0.abs())) <= base.scale(0.15);
        let up = match self.standing() {
            MeterState::ScaledUp => factor(shown, most) > NEARER,
            _ => is_steady && base >= LEAST && THOUSAND.contains(&factor(shown, base)),
        };
        let down = match self.standing() {
            MeterState::ScaledDown => factor(least, shown) > NEARER,
            _ => is_steady && base >= LEAST && THOUSAND.contains(&factor(base, shown)),
        };
        match (up, down) {
            (true, _) => Some((MeterState::ScaledUp, most)),
            (_, true) => Some((MeterState::ScaledDown, least)),
            _ => None,
        }
    }

    /// Whether the meter shows far less than just before, and nothing known explains it.
    fn has_fallen(&self, seen: &Seen, shown: Watts) -> bool {
        self.base.is_some_and(|(base, known)| {
            let least = base + (seen.known.0 - known.1).min(Watts::ZERO) - seen.tenants;
            base >= LEAST && shown < least.scale(FALL)
        })
    }

    /// Whether a meter that showed too little shows no more than then: that nobody proves it any more,
    /// while a proxy restarts for example, does not make it right.
    fn is_still_low(&self, shown: Watts) -> bool {
        let before = self.finding.filter(|_| self.standing() == MeterState::ScaledDown);
        before.is_some_and(|before| shown <= before.shown.scale(RISES))
    }

    /// If the meter repeats one value while what is drawn below it changes: by how much that changed.
    ///
    /// A quiet site shows one value for hours, and nothing changes there that is known.
    fn frozen(
        &mut self,
        seen: &Seen,
        below: (Watts, usize),
        settle: Duration,
        now: Instant,
    ) -> Option<Watts> {
        let gap = self.history.gap();
        let before = self.finding.map(|finding| finding.bound);
        let streak = self.history.streak()?;
        let below = (below.0, below.0, below.1);
        let present = Known { low: seen.known.0, high: seen.known.1, below };
        let known = streak.known.get_or_insert(present);
        if known.below.2 != below.2 {
            // Another meter below is believed, or one is not any more: the sums cannot be compared.
            known.below = below;
        }
        // What led to this value may become known later than the value itself: other meters are read at
        // other moments, and devices are asked now and then.
        let lasts = settle.max(FROZEN_LASTS) + (gap * 2).min(KEPT);
        let since = *streak.since.get_or_insert(now);
        if now.saturating_duration_since(since) < lasts && !streak.is_frozen {
            known.widen(&present);
            return None;
        }
        let least = [
            seen.band + seen.band,
            Watts(seen.largest.0.saturating_mul(CHANGE_MACHINES)),
            seen.usable.scale(CHANGE),
        ];
        let least = least.into_iter().max().unwrap_or_default();
        let by_known = (present.low - known.high).max(known.low - present.high);
        let by_meters = (below.0 - known.below.1).max(known.below.0 - below.0);
        let changed_by = by_known.max(by_meters);
        if streak.is_frozen {
            return Some(changed_by.max(before.unwrap_or_default()));
        }
        if changed_by <= least {
            streak.changed = None;
            return None;
        }
        let (since, samples) = *streak.changed.get_or_insert((now, 0));
        let has_lasted = samples >= FROZEN_SAMPLES && now.saturating_duration_since(since) >= lasts;
        streak.is_frozen = has_lasted;
        has_lasted.then_some(changed_by)
    }
}
