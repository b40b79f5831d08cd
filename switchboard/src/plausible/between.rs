//! Compares the meters of a feed and of the feeds below it. What flows to a child flows through its
//! parent, so that a child never shows more, and all children together do not.
//!
//! Meters are not read at one moment: a compressor or a tenant that comes between two samples is in one
//! of them only. So extremes over a time are compared, in which each meter has several samples: what a
//! child shows *at least* all the time against what its parent shows *at most*.

use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;

use super::history::{Extremes, KEPT};
use super::{Finding, Meter, MeterState, Seen, Verdict};
use crate::facility::{FeedNumber, PerFeed};

/// Two meters that are 3 % off in opposite directions differ by 6 %, and the largest of a few noisy
/// samples is a little above their mean.
const ERROR: f64 = 1.10;
/// A meter's error is also one of its range: at a small load, this part of the limit.
const OF_RANGE: f64 = 0.01;
/// Two meters that contradicted each other must come nearer than this, by the middle of their samples,
/// to be believed again: else those at the edge would change their state with each noise.
const ERROR_LEAVES: f64 = 1.07;
/// Each meter must have this many samples in the time that is compared.
const SAMPLES: u32 = 3;
const WINDOW: Duration = Duration::from_secs(10);
/// So long a parent must be off by √3, because a load that nobody declared can be any part of it.
const PHASE_WINDOW: Duration = Duration::from_secs(60);
/// √3, within what two meters that are 3 % off make of it.
const PHASE: std::ops::RangeInclusive<f64> = 1.62..=1.84;
/// The same for a parent that shows too much: any load that nobody declared would do, so it must be
/// nearer to √3.
const PHASE_UP: std::ops::RangeInclusive<f64> = 1.67..=1.79;
/// Only where the meters below account for nearly everything, the parent can be told to be off by √3
/// upward: what is between them is at most this part.
const OWN: f64 = 0.15;
/// Of two meters that contradict each other, one is off if it is so much farther from what is expected
/// (as a factor); else neither can be believed.
const FARTHER: f64 = 1.15;

/// One meter over the time that is compared.
#[derive(Clone, Copy)]
struct Side {
    feed: FeedNumber,
    extremes: Extremes,
    /// The factor by which it is off from what is expected, at least 1.
    strange: f64,
}

/// What a comparison of a feed's meter with those below it gave.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) found: Vec<(FeedNumber, Finding)>,
    /// The feeds below whose meters were compared.
    children: Vec<FeedNumber>,
    /// Whether it was also checked that the parent is not off by √3 over a minute.
    is_long: bool,
}

/// The meters that are in a state to which a comparison led, and could not be compared so again. What
/// they show now is no evidence that they are right.
pub(super) fn unchecked(
    meters: &PerFeed<Meter>,
    below: &[FeedNumber],
    parent: FeedNumber,
    compared: &Compared,
) -> Vec<FeedNumber> {
    let is_only = below.len() == 1;
    let child_is_unchecked = |child: &FeedNumber| {
        let was_left_out = !compared.children.contains(child);
        match meters[*child].standing() {
            MeterState::AboveParent => was_left_out,
            MeterState::Phase => was_left_out || (is_only && !compared.is_long),
            _ => false,
        }
    };
    let other = meters[parent].finding.and_then(|finding| finding.other);
    let parent_is_unchecked = match meters[parent].standing() {
        MeterState::BelowChildren => compared.children.len() < below.len(),
        // Against the meter of another feed, it was found as a child of that feed.
        MeterState::Phase => other.is_none() && !compared.is_long,
        _ => false,
    };
    let children = below.iter().copied().filter(child_is_unchecked);
    children.chain(parent_is_unchecked.then_some(parent)).collect()
}

/// What the meters of `parent` and of the feeds `below` it say against each other. Meters that have
/// another fault are left out.
pub(super) fn compare(
    meters: &PerFeed<Meter>,
    below: &[FeedNumber],
    parent: FeedNumber,
    seen: &PerFeed<Option<Seen>>,
    verdicts: &PerFeed<Option<Verdict>>,
) -> Compared {
    let counts = |feed: &FeedNumber| {
        let has_own_fault = matches!(
            meters[*feed].standing(),
            MeterState::ScaledUp | MeterState::ScaledDown | MeterState::Frozen
        );
        verdicts[*feed] == Some(Verdict::Good) && !has_own_fault
    };
    let children: Vec<FeedNumber> = below.iter().copied().filter(counts).collect();
    if !counts(&parent) || children.is_empty() {
        return Compared::default();
    }
    let all = || children.iter().chain([&parent]);
    let gap = all().map(|feed| meters[*feed].history.gap()).max().unwrap_or_default();
    let newest: Option<Timestamp> =
        all().map(|feed| meters[*feed].history.newest()).min().flatten();
    let Some(to) = newest else { return Compared::default() };
    let window = gap.saturating_mul(SAMPLES).max(WINDOW);
    if window > KEPT {
        return Compared::default();
    }
    let side = |feed: FeedNumber, window| side(meters, seen, feed, to, window);
    let Some(above) = side(parent, window) else { return Compared::default() };
    let sides: Vec<Side> = children.iter().filter_map(|child| side(*child, window)).collect();
    let Some(limit) = seen[parent].map(|seen| seen.limit) else { return Compared::default() };
    let contradicted = all().any(|feed| {
        let state = meters[*feed].standing();
        matches!(state, MeterState::AboveParent | MeterState::BelowChildren | MeterState::Phase)
    });
    let least = |extremes: Extremes| if contradicted { extremes.middle() } else { extremes.low };
    let most = if contradicted {
        above.extremes.middle().scale(ERROR_LEAVES)
    } else {
        above.extremes.high.scale(ERROR) + limit.scale(OF_RANGE)
    };
    let mut found: Vec<(FeedNumber, Finding)> = Vec::new();
    for child in sides.iter().filter(|child| least(child.extremes) > most) {
        found.extend(contradiction(above, *child, &sides));
    }
    let together: Watts = sides.iter().map(|side| least(side.extremes)).sum();
    if found.is_empty() && together > most {
        // The one that is farthest from what is expected, or the parent.
        let strangest = sides.iter().copied().max_by(|a, b| a.strange.total_cmp(&b.strange));
        found.extend(strangest.into_iter().flat_map(|child| contradiction(above, child, &sides)));
    }
    let compared = sides.iter().map(|side| side.feed).collect();
    let mut is_long = false;
    if found.is_empty() && sides.len() == below.len() {
        let long = window.max(PHASE_WINDOW);
        is_long = all().all(|feed| meters[*feed].history.spans(to, long));
        let own_most = seen[parent].map(|seen| seen.own_most).unwrap_or_default();
        // What is not steady over the short time is not steady over the long one, which costs more to
        // look through.
        if is_long && is_steady_by_phase(above, &sides, own_most) {
            let above = side(parent, long);
            let sides: Option<Vec<Side>> =
                children.iter().map(|child| side(*child, long)).collect();
            let found_by_phase = above.zip(sides).and_then(|(above, sides)| {
                is_steady_by_phase(above, &sides, own_most)
                    .then(|| by_phase(above, &sides, own_most))
                    .flatten()
            });
            found.extend(found_by_phase);
        }
    }
    Compared { found, children: compared, is_long }
}

fn side(
    meters: &PerFeed<Meter>,
    seen: &PerFeed<Option<Seen>>,
    feed: FeedNumber,
    to: Timestamp,
    window: Duration,
) -> Option<Side> {
    let extremes = meters[feed].history.extremes(to, window)?;
    let expected = seen[feed]?.expected;
    let strange = factor(extremes.middle(), expected);
    (extremes.count >= SAMPLES).then_some(Side { feed, extremes, strange })
}

/// Which one of a parent and a child that shows too much beside it is off.
fn contradiction(above: Side, child: Side, sides: &[Side]) -> Vec<(FeedNumber, Finding)> {
    let below: Watts = sides.iter().map(|side| side.extremes.middle()).sum();
    let is_phase = |shown: Watts, other: Watts| PHASE.contains(&factor(shown.max(Watts(1)), other));
    let found = |feed, state, shown, bound, other| {
        (feed, Finding { state, shown, bound, other, has_lasted: true })
    };
    let of_parent = || {
        let shown = above.extremes.middle();
        let is_phase = is_phase(below, shown);
        let state = if is_phase { MeterState::Phase } else { MeterState::BelowChildren };
        found(above.feed, state, shown, below, None)
    };
    let of_child = || {
        let (shown, bound) = (child.extremes.middle(), above.extremes.middle());
        let is_only = sides.len() == 1;
        let is_phase = is_only && is_phase(shown, bound);
        let state = if is_phase { MeterState::Phase } else { MeterState::AboveParent };
        found(child.feed, state, shown, bound, Some(above.feed))
    };
    if child.strange > above.strange * FARTHER {
        vec![of_child()]
    } else if above.strange > child.strange * FARTHER {
        vec![of_parent()]
    } else {
        vec![of_parent(), of_child()]
    }
}

/// Whether the parent has shown all the time about √3 times the most that the meters below it account
/// for.
fn is_steady_by_phase(above: Side, sides: &[Side], own_most: Watts) -> bool {
    let most: Watts = sides.iter().map(|side| side.extremes.high).sum();
    above.extremes.low > (most + own_most).scale(*PHASE.start() / ERROR)
}

/// Whether the parent shows √3 times what the meters below it account for, or one of these shows that
/// much less than it should.
fn by_phase(above: Side, sides: &[Side], own_most: Watts) -> Option<(FeedNumber, Finding)> {
    let below: Watts = sides.iter().map(|side| side.extremes.middle()).sum();
    let shown = above.extremes.middle();
    let is_covered = own_most <= below.scale(OWN) && below > Watts::ZERO;
    let off = factor(shown, below + Watts(own_most.0 / 2));
    if !is_covered || shown < below || !PHASE_UP.contains(&off) {
        return None;
    }
    let finding = |feed, shown, bound, other| {
        let state = MeterState::Phase;
        (feed, Finding { state, shown, bound, other, has_lasted: true })
    };
    match sides {
        [child] if child.strange > above.strange * FARTHER => {
            Some(finding(child.feed, child.extremes.middle(), shown, Some(above.feed)))
        }
        _ => Some(finding(above.feed, shown, below, None)),
    }
}

/// By which factor two powers differ, at least 1.
fn factor(one: Watts, other: Watts) -> f64 {
    let (one, other) = (one.0.max(1) as f64, other.0.max(1) as f64);
    if one > other { one / other } else { other / one }
}
