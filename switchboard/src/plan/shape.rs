//! The shape of a plan: how many machines of each cohort are off, so that no feed is short, at the
//! least cost. It knows neither times nor names: [`super::counts`] goes through the intervals, and
//! [`super::assign`] names machines without changing a count.
//!
//! Each feed has its own list of picks: those made because this feed was short after everything
//! below it had been picked. When a lease begins or ends, only its feed and the feeds above are
//! fitted again.
//!
//! Below one feed, machines go in the order of merit, and the last few are chosen together: where less
//! is missing than a whole machine of the next cohort frees, other machines may cover the rest at less
//! cost.

mod below;

use directive::Watts;

use crate::facility::{FeedNumber, Feeds, PerFeed};
use below::Below;

/// The machines of one group that go at the same place in the order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cohort {
    /// The feed that supplies its machines.
    pub(super) feed: FeedNumber,
    /// Cohorts of a lower tier go first, whatever they are worth.
    pub(super) tier: u8,
    /// What a watt-hour of its machines is worth.
    pub(super) worth: f64,
    /// What one machine frees. More than zero.
    pub(super) frees: Watts,
    /// The machines that can be taken off.
    pub(super) machines: u32,
}

/// The first tier of cohorts that can only be starved of work.
pub(super) const STARVED: u8 = 4;

impl Cohort {
    pub(super) fn can_only_be_starved(&self) -> bool {
        self.tier >= STARVED
    }

    /// What `machines` of it cost by the hour.
    fn cost(&self, machines: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "powers and counts are far below 2^53")]
        let watts = (self.frees.0 * machines) as f64;
        self.worth * watts
    }
}

/// What must be freed below one feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// The power above what is usable if every machine mined.
    pub(super) over: Watts,
    /// The same with the make-up, or with the band below the limit.
    pub(super) target: Watts,
    /// Whether machines that can only be starved of work may go for it.
    pub(super) starve: bool,
}

/// The counts of all cohorts at one time.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    feeds: &'a Feeds,
    cohorts: &'a [Cohort],
    below: Below,
    /// How many machines of each cohort are off.
    off: Vec<u32>,
    /// How many were off before the present instant.
    before: Vec<u32>,
    /// How many go before those that are on, by reason.
    kept: Vec<[u32; KEPT.len()]>,
    /// The cohorts whose counts may differ from those before.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
    /// The cohorts that the present fit has counted, with the count before it.
    fitted: Vec<(u32, u32)>,
    /// The number of the fit that last counted each cohort.
    fitted_in: Vec<u32>,
    fits: u32,
    /// What the machines that are off free at and below each feed.
    freed: PerFeed<Watts>,
    /// What was picked for each feed.
    picks: PerFeed<Vec<(u32, u32)>>,
    /// How often a shortage may still be covered at exactly the least cost.
    exact: u32,
    /// Feeds for which less was picked than they need, since what goes for feeds above them serves them
    /// too. They are fitted again with any other feed.
    lent: Vec<FeedNumber>,
}

/// Why machines of a cohort go before those that are on. Earlier ones go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// They are off for a lease that runs, or were chosen before for one that begins.
    Wanted,
    /// They are off, and no open lease has them.
    Left,
    /// They are off and on their way back.
    Returning,
}

/// A part of a cohort: machines that are kept for one reason, or those that are on.
#[derive(Debug, Clone, Copy)]
struct Part {
    cohort: u32,
    count: u32,
    kept: Option<Kept>,
    tier: u8,
    worth: f64,
}

const KEPT: [Kept; 3] = [Kept::Wanted, Kept::Left, Kept::Returning];
/// By the same order: what kept machines count as, as a part of what they are worth. They are off
/// already, so that they cost next to nothing, and of two the one that is wanted less comes back.
const KEPT_WORTH: [f64; KEPT.len()] = [1e-6, 1e-5, 1e-4];
/// How many picks may be exchanged for others at the end.
const EXCHANGED: u32 = 8;
/// How many parts of cohorts beyond those needed are tried for that.
const TRIED: usize = 12;
/// In how many units the rest of a shortage is divided for that.
const GRAIN: i64 = 1024;
/// How often one plan may do that. Later shortages end with a whole machine in order.
const EXACT: u32 = 400;
/// How many feeds may rely on what goes for feeds above them. Each of them costs time at each fit.
const LENT: usize = 16;
/// A surplus of this part of what is chosen is not worth an exchange.
const NEGLIGIBLE: f64 = 0.002;

impl<'a> Shape<'a> {
    /// Begins with no machine off. `cohorts` are in the order in which they go: by tier, and within a
    /// tier by worth.
    pub(super) fn new(feeds: &'a Feeds, cohorts: &'a [Cohort]) -> Self {
        debug_assert!(
            cohorts.is_sorted_by(|a, b| {
                a.tier < b.tier || (a.tier == b.tier && a.worth <= b.worth)
            })
        );
        Self {
            feeds,
            cohorts,
            below: Below::new(feeds, cohorts),
            off: vec![0; cohorts.len()],
            before: vec![0; cohorts.len()],
            kept: vec![[0; KEPT.len()]; cohorts.len()],
            touched: Vec::new(),
            is_touched: vec![false; cohorts.len()],
            fitted: Vec::new(),
            fitted_in: vec![0; cohorts.len()],
            fits: 0,
            freed: PerFeed::all(feeds, Watts::ZERO),
            picks: PerFeed::all(feeds, Vec::new()),
            exact: EXACT,
            lent: Vec::new(),
        }
    }

    /// Has `count` more machines of `cohort` go before those that are on, at this instant.
    pub(super) fn keep(&mut self, cohort: u32, kept: Kept, count: u32) {
        if count > 0 {
            self.kept[cohort as usize][kept as usize] += count;
            self.touch(cohort);
        }
    }

    /// How many machines of each cohort are off.
    pub(super) fn off(&self) -> &[u32] {
        &self.off
    }

    /// What the machines that are off free at and below `feed`.
    pub(super) fn freed(&self, feed: FeedNumber) -> Watts {
        self.freed[feed]
    }

    /// Goes on to the next instant, at which all machines that are off are kept. Returns the cohorts
    /// whose counts changed at this one, with the count before.
    pub(super) fn settle(&mut self) -> Vec<(u32, u32)> {
        let mut changed = Vec::new();
        for cohort in std::mem::take(&mut self.touched) {
            let number = cohort as usize;
            self.is_touched[number] = false;
            self.kept[number] = [self.off[number], 0, 0];
            if self.before[number] != self.off[number] {
                changed.push((cohort, self.before[number]));
                self.before[number] = self.off[number];
            }
        }
        changed
    }

    /// Fits the counts to what `feeds` need. `feeds` has, with each feed, all feeds above it, and
    /// lower ones before higher ones. Returns the cohorts of which more machines are off than before,
    /// and how many more.
    pub(super) fn fit(
        &mut self,
        feeds: &[FeedNumber],
        need: impl Fn(FeedNumber) -> Need,
    ) -> Vec<(u32, u32)> {
        self.fits += 1;
        let mut feeds = feeds.to_vec();
        for feed in std::mem::take(&mut self.lent) {
            feeds.extend(self.feeds.path(feed));
        }
        feeds.sort_by_key(|feed| (std::cmp::Reverse(self.feeds.path(*feed).len()), *feed));
        feeds.dedup();
        for &feed in &feeds {
            for (cohort, count) in std::mem::take(&mut self.picks[feed]) {
                self.count(cohort, -i64::from(count));
            }
        }
        for &feed in &feeds {
            self.fill(feed, need(feed));
            self.give_back(&[feed], feed, &need);
        }
        if let Some((&root, lower)) = feeds.split_last() {
            let lower = &lower[..lower.len().min(LENT)];
            self.lent = self.give_back(lower, root, &need);
        }
        let more = |(cohort, before)| (cohort, self.off[cohort as usize].saturating_sub(before));
        let fitted = std::mem::take(&mut self.fitted);
        fitted.into_iter().map(more).filter(|(_, more)| *more > 0).collect()
    }

    /// Picks machines below `feed` until its target is freed.
    fn fill(&mut self, feed: FeedNumber, need: Need) {
        let missing = need.target - self.freed[feed];
        if missing <= Watts::ZERO {
            return;
        }
        let (picks, is_exact) = self.choose(feed, missing, need.starve);
        for &(cohort, count) in &picks {
            self.count(cohort, i64::from(count));
        }
        self.picks[feed] = picks;
        self.exact -= u32::from(is_exact);
    }

    /// Gives back what was picked for `feeds` and is needed neither there nor at the feeds on the way up
    /// to `top`: a large machine that covers a small rest may leave smaller ones over, and what goes for
    /// a feed above may leave some over below. Those that cost most come back first, and those that are
    /// on already before others. Returns the feeds of which there were any.
    fn give_back(
        &mut self,
        feeds: &[FeedNumber],
        top: FeedNumber,
        need: &impl Fn(FeedNumber) -> Need,
    ) -> Vec<FeedNumber> {
        let tree = self.feeds;
        let mut picks: Vec<(FeedNumber, u32)> = Vec::new();
        for &feed in feeds {
            picks.extend(self.picks[feed].iter().map(|(cohort, _)| (feed, *cohort)));
        }
        let cost = |cohort: u32| self.cohorts[cohort as usize].cost(1);
        picks.sort_by(|(_, a), (_, b)| cost(*b).total_cmp(&cost(*a)).then(b.cmp(a)));
        let mut gave_back: Vec<FeedNumber> = Vec::new();
        for also_kept in [false, true] {
            for &(feed, cohort) in &picks {
                let (number, of) = (cohort as usize, &self.cohorts[cohort as usize]);
                let path = tree.path(of.feed).iter().filter(|feed| tree.is_below(**feed, top));
                let spare = path.map(|feed| self.freed[*feed] - need(*feed).target).min();
                let spare = spare.unwrap_or_default().0.div_euclid(of.frees.0).max(0);
                let kept = if also_kept { 0 } else { self.kept[number].iter().sum::<u32>() };
                let most = self.off[number].saturating_sub(kept);
                let most = most.min(u32::try_from(spare).unwrap_or(u32::MAX));
                let picked = self.picks[feed].iter_mut().find(|(other, _)| *other == cohort);
                let Some((_, count)) = picked.filter(|_| most > 0) else { continue };
                let back = most.min(*count);
                *count -= back;
                self.picks[feed].retain(|(_, count)| *count > 0);
                self.count(cohort, -i64::from(back));
                gave_back.push(feed);
            }
        }
        gave_back.sort_unstable();
        gave_back.dedup();
        gave_back
    }

    /// The machines that go so that `missing` is freed below `feed`, or all if that is too little, and
    /// whether the last ones were chosen exactly.
    fn choose(
        &self,
        feed: FeedNumber,
        mut missing: Watts,
        starve: bool,
    ) -> (Vec<(u32, u32)>, bool) {
        let mut picks: Vec<(u32, u32)> = Vec::new();
        let mut before: Vec<Part> = Vec::new();
        let mut is_exact = false;
        let mut parts = self.parts(feed, starve);
        while let Some(part) = parts.next() {
            let frees = self.cohorts[part.cohort as usize].frees;
            let whole = u32::try_from(missing.0 / frees.0).unwrap_or(u32::MAX).min(part.count);
            add(&mut picks, part.cohort, whole);
            missing = missing - Watts(frees.0 * i64::from(whole));
            if missing <= Watts::ZERO {
                break;
            }
            if whole < part.count {
                let last = Part { count: part.count - whole, ..part };
                let alike = |next: &Part| (next.kept, next.tier) == (last.kept, last.tier);
                let next = parts.take_while(alike).take(TRIED).collect();
                is_exact = self.finish(missing, &before, last, next, &mut picks);
                break;
            }
            before.push(part);
        }
        picks.retain(|(_, count)| *count > 0);
        (picks, is_exact)
    }

    /// The machines below `feed` that are not picked yet, in the order in which they go.
    fn parts(&self, feed: FeedNumber, starve: bool) -> impl Iterator<Item = Part> {
        let may_go =
            move |cohort: &u32| starve || !self.cohorts[*cohort as usize].can_only_be_starved();
        let here = |cohort: &u32| self.feeds.is_below(self.cohorts[*cohort as usize].feed, feed);
        // Either list has all of them; the shorter one is looked through.
        let (below, touched) = (self.below.of(feed), &*self.touched);
        let some = if below.len() < touched.len() { below } else { touched };
        let touched = some.iter().copied().filter(|cohort| self.is_touched[*cohort as usize]);
        let touched = touched.filter(here).filter(may_go);
        let mut kept: Vec<Part> =
            touched.flat_map(|cohort| KEPT.map(|why| self.part(cohort, Some(why)))).collect();
        kept.retain(|part| part.count > 0);
        kept.sort_by(Part::order);
        let others = self.below.of(feed).iter().copied().filter(may_go);
        let others = others.map(|cohort| self.part(cohort, None)).filter(|part| part.count > 0);
        kept.into_iter().chain(others)
    }

    /// The machines of `cohort` that are kept for this reason, or that are on, and not picked yet.
    fn part(&self, cohort: u32, kept: Option<Kept>) -> Part {
        let (number, of) = (cohort as usize, &self.cohorts[cohort as usize]);
        // Those that are kept are picked first, in the order of the reasons.
        let before = |reasons: usize| self.kept[number][..reasons].iter().sum::<u32>();
        let from = before(kept.map_or(KEPT.len(), |kept| kept as usize));
        let to = kept.map_or(of.machines, |kept| before(kept as usize + 1)).min(of.machines);
        let count = to.saturating_sub(from.max(self.off[number]));
        let worth = kept.map_or(of.worth, |kept| of.worth * KEPT_WORTH[kept as usize]);
        Part { cohort, count, kept, tier: of.tier, worth }
    }

    /// Covers the rest of what is missing, less than one machine of `last` frees. Where it matters
    /// and there is a choice, the last picks are exchanged for those that cover all at the least cost.
    /// Returns whether that was done.
    fn finish(
        &self,
        missing: Watts,
        before: &[Part],
        last: Part,
        next: Vec<Part>,
        picks: &mut Vec<(u32, u32)>,
    ) -> bool {
        let own = &self.cohorts[last.cohort as usize];
        let alike = |part: &Part| {
            let other = &self.cohorts[part.cohort as usize];
            other.frees == own.frees && other.worth >= own.worth
        };
        let others = before.iter().rev();
        let others = others.filter(|part| (part.kept, part.tier) == (last.kept, last.tier));
        let chosen =
            picks.iter().map(|(c, count)| self.cohorts[*c as usize].cost(i64::from(*count)));
        let surplus = own.cost(1) * part_of(own.frees - missing, own.frees);
        let is_small = surplus < chosen.sum::<f64>() * NEGLIGIBLE;
        if self.exact == 0 || is_small || (next.iter().all(alike) && others.clone().all(alike)) {
            add(picks, last.cohort, 1);
            return false;
        }
        // The last picks are given back, so that they can be exchanged.
        let mut in_order = picks.clone();
        add(&mut in_order, last.cohort, 1);
        let mut missing = missing;
        let mut choice: Vec<Part> = vec![last];
        choice.extend(next);
        let mut exchanged = EXCHANGED;
        for part in std::iter::once(&last).chain(others) {
            let Some(pick) = picks.iter_mut().find(|(cohort, _)| *cohort == part.cohort) else {
                continue;
            };
            let back = pick.1.min(exchanged);
            pick.1 -= back;
            exchanged -= back;
            missing += Watts(self.cohorts[part.cohort as usize].frees.0 * i64::from(back));
            match choice.iter_mut().find(|other| other.cohort == part.cohort) {
                Some(other) => other.count += back,
                None => choice.push(Part { count: back, ..*part }),
            }
        }
        for (part, count) in choice.iter().zip(self.cheapest(missing, &choice)) {
            add(picks, part.cohort, count);
        }
        // What each machine frees was rounded, so that going in order may cost less.
        let cost = |picks: &[(u32, u32)]| -> f64 {
            picks.iter().map(|(c, count)| self.cohorts[*c as usize].cost(i64::from(*count))).sum()
        };
        if cost(&in_order) <= cost(picks) {
            *picks = in_order;
        }
        true
    }

    /// How many machines of each part of `choice` free at least `missing` at the least cost. Together
    /// they can.
    fn cheapest(&self, missing: Watts, choice: &[Part]) -> Vec<u32> {
        let unit = (missing.0 / GRAIN).max(1);
        let need = usize::try_from((missing.0 + unit - 1) / unit).unwrap_or(usize::MAX);
        // The least cost of freeing so many units, and by which machines it is reached.
        let mut least = vec![f64::INFINITY; need + 1];
        least[0] = 0.0;
        let mut before = least.clone();
        let mut by: Vec<(usize, Vec<bool>)> = Vec::new();
        for (place, part) in choice.iter().enumerate() {
            let of = &self.cohorts[part.cohort as usize];
            let frees = usize::try_from(of.frees.0 / unit).unwrap_or(usize::MAX);
            let cost = Cohort { worth: part.worth, ..of.clone() }.cost(1);
            let most = need.div_ceil(frees.max(1)).min(part.count as usize);
            for _ in 0..most {
                before.copy_from_slice(&least);
                let mut takes = vec![false; need + 1];
                // One machine frees the first units alone.
                let alone = frees.min(need);
                let without = least[1..].iter_mut().zip(&mut takes[1..]);
                let rest = std::iter::repeat_n(&before[0], alone).chain(&before[1..]);
                for ((least, takes), rest) in without.zip(rest) {
                    let with = rest + cost;
                    *takes = with < *least;
                    *least = least.min(with);
                }
                by.push((place, takes));
            }
        }
        let mut counts = vec![0; choice.len()];
        let mut units = need;
        for (place, takes) in by.iter().rev() {
            if takes[units] {
                counts[*place] += 1;
                let frees = self.cohorts[choice[*place].cohort as usize].frees;
                units = units.saturating_sub(usize::try_from(frees.0 / unit).unwrap_or(usize::MAX));
            }
        }
        if units > 0 {
            // The grain was too coarse for what the machines free together: all of them go.
            return choice.iter().map(|part| part.count).collect();
        }
        counts
    }

    fn touch(&mut self, cohort: u32) {
        if !std::mem::replace(&mut self.is_touched[cohort as usize], true) {
            self.touched.push(cohort);
        }
    }

    fn count(&mut self, cohort: u32, machines: i64) {
        self.touch(cohort);
        let (number, of) = (cohort as usize, &self.cohorts[cohort as usize]);
        if self.fitted_in[number] != self.fits {
            self.fitted_in[number] = self.fits;
            self.fitted.push((cohort, self.off[number]));
        }
        let off = i64::from(self.off[number]) + machines;
        self.off[number] = u32::try_from(off).unwrap_or(0);
        for &feed in self.feeds.path(of.feed) {
            self.freed[feed] += Watts(of.frees.0 * machines);
        }
    }
}

impl Part {
    /// The order among kept machines.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        (self.kept, self.tier)
            .cmp(&(other.kept, other.tier))
            .then_with(|| self.worth.total_cmp(&other.worth))
            .then_with(|| self.cohort.cmp(&other.cohort))
    }
}

/// `watts` as a part of `of`.
fn part_of(watts: Watts, of: Watts) -> f64 {
    watts.kw() / of.kw()
}

fn add(picks: &mut Vec<(u32, u32)>, cohort: u32, count: u32) {
    match picks.iter_mut().find(|(other, _)| *other == cohort) {
        Some((_, picked)) => *picked += count,
        None => picks.push((cohort, count)),
    }
}

#[cfg(test)]
mod tests;
