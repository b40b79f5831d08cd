//! Compares what the feeds' meters show with what the figures of the policy say is drawn now.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use directive::{LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::Core;
use crate::facility::{CommandTime, FeedNumber, PerFeed, Population, times};
use crate::inventory::MachineState;
use crate::lease::{Lease, later};
use crate::load::{Corrections, Shown};
use crate::policy::Policy;

/// The machines at and below one feed that do not draw their full power, or may not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Less {
    /// What those draw less that are down.
    pub(super) sure: Watts,
    /// What those may draw less that may be down.
    pub(super) possible: Watts,
    /// The largest power that one of these machines would draw more if it came back.
    largest: Watts,
    /// What those draw less that no lease has: the feed is short without any.
    alone: Watts,
    /// What those draw less that no lease has, or that running leases have.
    pub(super) needed: Watts,
    /// What those draw less that are confirmed to be down, or that are on their way back.
    pub(super) down: Watts,
}

/// What the meters show, and the bounds that the figures set to it.
#[derive(Debug)]
pub(super) struct Readings {
    /// The newest sample of each feed's meter, if it counts.
    pub(super) samples: PerFeed<Option<(Watts, Timestamp)>>,
    pub(super) figures: PerFeed<Watts>,
    pub(super) less: PerFeed<Less>,
}

impl Core {
    /// Reads the meters of all feeds.
    pub(super) fn readings(&self, wall: Timestamp, now: Instant) -> Readings {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let samples = PerFeed::each(feeds, |feed| {
            self.inventory.metered(feeds[feed].meter.as_ref()?, wall, now)
        });
        let less = self.less(&samples, now);
        let figures = facility.load_by_figures(&self.fleet.population);
        Readings { samples, figures, less }
    }

    /// Corrects the load of each feed by what its meter shows, and makes a new plan if that matters.
    /// A meter that is not believed corrects nothing: what it corrected before stays.
    pub(super) fn correct_load(&mut self, readings: Readings, wall: Timestamp, now: Instant) {
        let gone = self.gone_with_power(&readings, wall, now);
        let Readings { samples, figures, less } = readings;
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        // A load that is gone with the power comes back with it.
        let samples = PerFeed::each(feeds, |feed| {
            let (metered, taken_at) = samples[feed].filter(|_| self.is_believed(feed))?;
            Some((metered + gone[feed]?, taken_at))
        });
        let ending = self.ending();
        let shown = |feed: FeedNumber| {
            let (metered, taken_at) = samples[feed]?;
            let Less { sure, possible, largest, .. } = less[feed];
            let most = figures[feed] - sure + self.sums.leased(feed);
            let least = most - possible;
            let most = most + self.sums.unmetered(feed) + ending[feed];
            let fall_margin = largest.scale(OVERDRAW);
            let rise_margin = facility.band(feed).scale(IN_BAND);
            let is_urgent = self.guards.is_tripped(feed);
            let assumed = self.assumed(feed, figures[feed], less[feed], wall);
            Some(Shown {
                metered,
                taken_at,
                least,
                most,
                assumed,
                fall_margin,
                rise_margin,
                is_urgent,
                is_taken_over: self.guards.is_taken_over(feed),
            })
        };
        let shown = PerFeed::each(feeds, shown);
        self.corrections.read(feeds, now, |feed| shown[feed]);
        self.guards.forget_taken_over(|feed| shown[feed].is_some());
        let corrections = self.load_corrections((&figures, &less), &samples, wall, now);
        if corrections != self.fleet.population.corrections {
            self.fleet.population.corrections = corrections;
            self.replan = true;
        }
    }

    /// The newcomers of these groups have got a place: the figures of `before` did not have them. What they
    /// drew without work is in the corrections, and must not count twice until meters have shown that.
    pub(super) fn count_joined(&mut self, before: &Population, joined: &[usize]) {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        for (number, group) in facility.groups().iter().enumerate() {
            let count = joined.iter().filter(|joined| **joined == number).count();
            // Those that the group declares are in the figures all the time.
            let more = self.fleet.population.machines(group).saturating_sub(before.machines(group));
            let count = more.min(u32::try_from(count).unwrap_or(u32::MAX));
            let watts = times(group.idle_at_least(), count);
            for &feed in feeds.path(facility.group_feed(number)) {
                if watts > Watts::ZERO && feeds[feed].meter.is_some() {
                    self.corrections.count_in_figures(feed, watts);
                }
            }
        }
    }

    /// What tenants may still draw at each feed whose leases have just ended.
    fn ending(&self) -> PerFeed<Watts> {
        let feeds = self.policy.facility.feeds();
        let mut ending = PerFeed::all(feeds, Watts::ZERO);
        let has_just_ended = |lease: &&Lease| {
            let end = lease.ends();
            lease.start < end && end <= self.schedule && self.schedule < later(end, ENDS_WITHIN)
        };
        for lease in self.leases.iter().filter(has_just_ended) {
            for &feed in feeds.path_of(&lease.feed) {
                ending[feed] += lease.gross;
            }
        }
        ending
    }

    /// Takes over how long the drivers of the policy take. A time that is a little shorter than before
    /// changes nothing, so that plans stay as they are.
    pub(super) fn time_commands(&mut self) {
        let groups = self.policy.facility.groups().iter();
        let named: BTreeSet<&str> = groups.filter_map(|group| group.driver.as_deref()).collect();
        let known = &self.fleet.population.commands;
        let mut times = self.inventory.command_times();
        times.retain(|driver, _| named.contains(driver));
        let keeps = |driver: &str, time: &CommandTime| {
            known.get(driver).filter(|known| {
                let is_as_many = known.at_once == time.at_once;
                is_as_many && time.p95 <= known.p95 && time.p95.saturating_mul(4) >= known.p95 * 3
            })
        };
        let kept = |(driver, time): (&str, CommandTime)| {
            (driver.to_owned(), keeps(driver, &time).copied().unwrap_or(time))
        };
        let times = times.into_iter().map(kept).collect();
        if times != *known {
            self.fleet.population.commands = times;
            self.replan = true;
        }
    }

    /// The corrections as they are under a new policy with other figures: a feed that the policy in
    /// force has too carries what it carried. The machines of `claimed` had no work, and are not in it.
    pub(super) fn carried_corrections(
        &self,
        policy: &Policy,
        fleet: &Population,
        claimed: &[(MachineId, Option<usize>)],
    ) -> Corrections {
        let former = &self.policy.facility;
        let before = former.load_by_figures(&self.fleet.population);
        let mut known = fleet.clone();
        for (_, group) in claimed {
            match group {
                Some(group) => {
                    let id = &policy.facility.groups()[*group].id;
                    if let Some(count) = known.groups.get_mut(id) {
                        *count = count.saturating_sub(1);
                    }
                }
                None => known.unassigned = known.unassigned.saturating_sub(1),
            }
        }
        let mut after = policy.facility.load_by_figures(&known);
        let feeds = policy.facility.feeds();
        // They are kept off, and what they draw nevertheless is in the meters.
        for group in claimed.iter().filter_map(|(_, group)| *group) {
            let of = &policy.facility.groups()[group];
            feeds.add(&mut after, policy.facility.group_feed(group), of.watts - of.freed());
        }
        let now = self.at.map(|(_, now)| now);
        let Some(now) = now else { return Corrections::new(feeds) };
        Corrections::carried(feeds, now, |feed| {
            let same = former.feeds().number(&feeds[feed].id)?;
            self.corrections.last(same)?;
            feeds[feed].meter.as_ref()?;
            Some(self.corrections.planned()[same] + before[same] - after[feed])
        })
    }

    /// The corrections for plans. What is assumed of a feed whose meter is not read yet holds for as
    /// long as the switchboard is young.
    fn load_corrections(
        &self,
        (figures, less): (&PerFeed<Watts>, &PerFeed<Less>),
        readings: &PerFeed<Option<(Watts, Timestamp)>>,
        wall: Timestamp,
        now: Instant,
    ) -> PerFeed<Watts> {
        let feeds = self.policy.facility.feeds();
        let is_young = self.is_young(now);
        PerFeed::each(feeds, |feed| {
            let is_awaited = is_young
                && feeds[feed].meter.is_some()
                && readings[feed].is_none()
                && self.corrections.last(feed).is_none();
            if is_awaited {
                self.assumed(feed, figures[feed], less[feed], wall)
            } else {
                self.corrections.planned()[feed]
            }
        })
    }

    /// The correction that is assumed before the meter of `feed` is read, and when machines are taken
    /// over from a guard: the feed carries no more than it may, and machines that are off without a
    /// lease are off because every one of them must be. So a start neither sheds nor releases a machine
    /// before the meter is read.
    fn assumed(&self, feed: FeedNumber, figures: Watts, less: Less, wall: Timestamp) -> Watts {
        let facility = &self.policy.facility;
        // Machines that are off without a lease may have gone for a limit that is lower soon.
        let is_alone = less.alone > Watts::ZERO;
        let until = if is_alone { self.limits_matter_until(feed, wall) } else { wall };
        // Machines would go for the band, too.
        let usable = facility.feeds()[feed].least_usable_within(wall, until) - facility.band(feed);
        let left = usable - self.sums.reserved(feed, wall) - figures;
        if less.alone == Watts::ZERO {
            return left.min(Watts::ZERO);
        }
        left + less.needed - less.largest + Watts(1)
    }

    /// Sums over the machines that are to be off now or are on their way back.
    pub(super) fn less(
        &self,
        readings: &PerFeed<Option<(Watts, Timestamp)>>,
        now: Instant,
    ) -> PerFeed<Less> {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let mut sums = PerFeed::all(feeds, Less::default());
        let running: BTreeSet<&LeaseId> = self
            .leases
            .iter()
            .filter(|lease| lease.reserves(self.schedule))
            .map(|lease| &lease.id)
            .collect();
        for (machine, state) in &self.states {
            let Some(chosen) = self.selection.current(machine, self.schedule) else { continue };
            let Some(number) = facility.group_number(&chosen.group) else { continue };
            let group = &facility.groups()[number];
            let down_since = match state {
                MachineState::Curtailed => self.inventory.asleep_since(machine),
                _ => None,
            };
            let is_starved = chosen.means == Means::Starve;
            let starved = || group.watts - group.idle_at_least();
            let less = if is_starved { starved() } else { group.freed_asleep() };
            let is_doubted = is_starved || *state == MachineState::Disobedient;
            let hashes = is_doubted && self.inventory.hashes_on(machine, chosen.at, self.schedule);
            for &feed in feeds.path(facility.group_feed(number)) {
                let sum = &mut sums[feed];
                sum.largest = sum.largest.max(less);
                match chosen.lease() {
                    None => {
                        sum.alone += less;
                        sum.needed += less;
                    }
                    Some(lease) if running.contains(lease) => sum.needed += less,
                    Some(_) => {}
                }
                if down_since.is_some() {
                    sum.down += less;
                }
                let is_shown = readings[feed].zip(down_since).is_some_and(|((_, taken), since)| {
                    later(since, self.policy.dispatch.settle) <= taken
                });
                if is_shown {
                    sum.sure += less;
                } else if !hashes {
                    sum.possible += less;
                }
            }
        }
        for (lowest, less) in self.raises.unsettled(&self.policy, now) {
            for &feed in feeds.path(lowest) {
                sums[feed].possible += less;
                sums[feed].down += less;
            }
        }
        sums
    }
}

/// A tenant may need this long to stop at the end of its lease. What it draws until then is no reason to
/// plan with a higher load; where it is too much, the guard acts.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// Machines may draw this part more than the policy says. A correction must be lower by as much for
/// one machine before the machine is planned to come back, or it would soon be needed again.
const OVERDRAW: f64 = 0.2;

/// A correction may be higher by this part of the band before plans use the higher value: the band is
/// there for such changes.
pub(super) const IN_BAND: f64 = 0.25;
