//! Newcomers: machines that connect and are not in the permitted set. They wait without work for
//! room that is measured where there is a meter, and that the plan has. Sessions alone, whatever their
//! names, take no power from machines that mine.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use directive::{MachineId, Watts};
use jiff::Timestamp;

use super::super::{Core, Outputs, Withheld};
use super::Raise;
use crate::facility::{FeedNumber, Feeds, Group, PerFeed, times};
use crate::lease::{earlier, later};
use crate::ledger::Event;

/// The maximum number of newcomers of one feed that are considered at once. Others follow when these
/// have work or are gone.
const CONSIDERED: u32 = 64;
/// How many newcomers one look may take up.
const TAKEN_UP: usize = 4096;
/// The shortest time between two messages about machines that were added to the permitted set.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two entries of the permitted set in the ledger.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// What is told and recorded of the permitted set.
#[derive(Debug, Default)]
pub(in super::super) struct Recording {
    /// Whether something may not be in the ledger.
    is_due: bool,
    at: Option<Instant>,
    /// When receivers were told last.
    told: Option<Instant>,
    /// The newcomer that was looked at last, if others follow.
    taken_up: Option<MachineId>,
    /// Whether the set of the former process was taken over.
    has_begun: bool,
}

/// When the meter of each feed was read last: `None` where there is none, `Some(None)` where one is silent.
pub(super) type Samples = PerFeed<Option<Option<Timestamp>>>;

/// The room that the plan's load leaves: the figures of the policy, corrected by what meters show. A
/// newcomer counts as load as soon as it has work, so that machines would go for it if the plan had no
/// room.
pub(super) struct RoomByFigures {
    room: PerFeed<Watts>,
    /// By group: how many more machines the policy declares than are counted. These are in the
    /// figures already.
    declared: Vec<u32>,
}

/// What the meters show at each feed beyond the house, tenants, machines that work, and those without work
/// whose draw is known: other machines without work may draw it. Nothing is known where no meter is.
pub(super) struct DrawnWithoutWork(PerFeed<Option<Watts>>);

impl DrawnWithoutWork {
    /// Whether the power of `raise` is in it, at each feed with a meter and at one at least. Then it is
    /// taken out.
    pub(super) fn takes(&mut self, feeds: &Feeds, raise: &Raise) -> bool {
        let path = feeds.path(raise.feed);
        let is_there =
            path.iter().all(|feed| self.0[*feed].is_none_or(|watts| watts >= raise.watts))
                && path.iter().any(|feed| self.0[*feed].is_some());
        if is_there {
            for &feed in path {
                self.0[feed] = self.0[feed].map(|watts| watts - raise.watts);
            }
        }
        is_there
    }
}

impl RoomByFigures {
    /// Whether the policy declares more machines of `group` than are counted.
    pub(super) fn declares(&self, group: usize) -> bool {
        self.declared[group] > 0
    }

    /// Why there is no room for `raise`, a newcomer of `group`, if there is none.
    pub(super) fn lacks(&self, feeds: &Feeds, group: usize, raise: &Raise) -> Option<Withheld> {
        if !raise.is_counted && self.declared[group] > 0 {
            return None;
        }
        let watts = if raise.is_counted { Watts::ZERO } else { raise.watts };
        let path = feeds.path(raise.feed);
        let full = path.iter().find(|feed| self.room[**feed] < watts);
        full.map(|feed| Withheld::NoRoom(feeds[*feed].id.clone()))
    }

    /// Takes the room for `raise`.
    pub(super) fn take(&mut self, feeds: &Feeds, group: usize, raise: &Raise) {
        if raise.is_counted {
            return;
        }
        if self.declared[group] > 0 {
            self.declared[group] -= 1;
            return;
        }
        for &feed in feeds.path(raise.feed) {
            self.room[feed] = self.room[feed] - raise.watts;
        }
    }
}

impl Core {
    /// Decides whether newcomers wait, and tells receivers and the ledger how the permitted set has
    /// changed.
    pub(in super::super) fn tell_permitted(
        &mut self,
        wall: Timestamp,
        now: Instant,
        outputs: &mut Outputs,
    ) {
        let told = self.recording.told.map(|told| now.saturating_duration_since(told));
        // Whoever was added can wait for others that are about to be. Who was removed must not rise.
        if (told.is_none_or(|told| told >= TELL_EVERY) || self.inventory.has_removed_permitted())
            && let Some(permitted) = self.inventory.changed_permitted()
        {
            outputs.permitted = Some(permitted);
            self.recording.told = Some(now);
            self.recording.is_due = true;
        }
        let since = self.recording.at.map(|at| now.saturating_duration_since(at));
        // The difference to what is recorded is known only when nothing is on its way to the ledger.
        if !self.recording.is_due
            || self.outbox.pending().next().is_some()
            || !self.inventory.limits_newcomers()
            || since.is_some_and(|since| since < RECORD_EVERY)
        {
            return;
        }
        let none = BTreeSet::new();
        let recorded = self.state.permitted.as_ref().unwrap_or(&none);
        let permitted = self.inventory.permitted();
        let added: BTreeSet<MachineId> = permitted.difference(recorded).cloned().collect();
        let removed: BTreeSet<MachineId> = recorded.difference(permitted).cloned().collect();
        if added.is_empty() && removed.is_empty() && self.state.permitted.is_some() {
            self.recording.is_due = false;
            return;
        }
        // This is looked at again when the entry is written: it may be lost on its way.
        self.recording.at = Some(now);
        self.note(Event::Permitted { added, removed }, wall);
    }

    /// Continues with the recorded set, and decides whether newcomers must wait now. For some time after the first start of all, they are taken over.
    pub(in super::super) fn see_take_over(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.recording.has_begun, true)
            && let Some(machines) = &self.state.permitted
        {
            self.inventory.restore_permitted(machines, now);
        }
        let newcomers = self.policy.newcomers;
        let is_taking_over = self.state.permitted.is_none()
            && self
                .inventory
                .sessions_since()
                .is_none_or(|since| now.saturating_duration_since(since) < newcomers.take_over);
        let limits = self.policy.newcomers_wait() && !is_taking_over;
        self.inventory.limit_newcomers(limits);
    }

    pub(super) fn raise_of_newcomer(&self, machine: &MachineId, since: Timestamp) -> Raise {
        let newcomer = self.inventory.group(&self.policy, machine);
        let is_counted = self.inventory.is_reached(machine);
        let raise = self.raise_of(machine, since);
        let mut raise = Raise { newcomer, is_starved: false, is_counted, ..raise };
        if let Some(group) = newcomer {
            raise.watts = self.policy.facility.groups()[group].watts;
        }
        raise
    }

    /// When each meter was read last.
    pub(super) fn samples(&self, wall: Timestamp, now: Instant) -> Samples {
        let feeds = self.policy.facility.feeds();
        PerFeed::each(feeds, |feed| {
            let meter = feeds[feed].meter.as_ref()?;
            Some(self.inventory.metered(meter, wall, now).map(|(_, taken_at)| taken_at))
        })
    }

    /// What a newcomer may draw more with work than its meters show already: all of its power, if nobody
    /// has measured what it draws without work, or if it came so lately that a meter does not show that
    /// yet.
    pub(super) fn draw_of_newcomer(&self, raise: &Raise, samples: &Samples) -> Watts {
        let Some(group) = raise.newcomer.map(|group| &self.policy.facility.groups()[group]) else {
            return raise.watts;
        };
        let path = self.policy.facility.feeds().path(raise.feed).iter();
        let unshown = path.map(|feed| self.unshown_of(raise, *feed, samples)).max();
        group.watts - group.idle_at_least() + unshown.unwrap_or_default()
    }

    /// What a newcomer draws without work, if the meter of `feed` has not shown it yet.
    pub(super) fn unshown_of(&self, raise: &Raise, feed: FeedNumber, samples: &Samples) -> Watts {
        let group = raise.newcomer.filter(|_| raise.waits_to_join());
        let group = group.filter(|_| self.is_unshown(samples[feed], raise.since));
        group.map_or(Watts::ZERO, |group| self.policy.facility.groups()[group].idle_at_least())
    }

    /// Whether a meter that was read last at `sample` has not shown what came at `since`.
    fn is_unshown(&self, sample: Option<Option<Timestamp>>, since: Timestamp) -> bool {
        let shown = later(since, self.policy.dispatch.settle);
        sample.is_some_and(|taken_at| taken_at.is_none_or(|taken_at| taken_at < shown))
    }

    /// What all newcomers at and below each feed draw without work that its meter has not shown yet.
    pub(super) fn unshown(&self, samples: &Samples, now: Instant) -> PerFeed<Watts> {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let mut unshown = PerFeed::all(feeds, Watts::ZERO);
        if facility.groups().iter().all(|group| group.poolless.is_none()) {
            return unshown;
        }
        for (machine, since) in self.inventory.newcomers() {
            let Some(group) = self.inventory.group(&self.policy, machine) else { continue };
            let draws = facility.groups()[group].idle_at_least();
            let since = self.newcomer_since(*since, now);
            for &feed in feeds.path(facility.group_feed(group)) {
                if self.is_unshown(samples[feed], since) {
                    unshown[feed] += draws;
                }
            }
        }
        unshown
    }

    /// When a newcomer that has waited since `since` came, by the time of the schedule.
    fn newcomer_since(&self, since: Instant, now: Instant) -> Timestamp {
        earlier(self.schedule, now.saturating_duration_since(since))
    }

    /// Has newcomers that are not waiting yet wait for their turns: so many of each feed, and those that
    /// come after the ones that were looked at last.
    pub(super) fn take_up_newcomers(&mut self, now: Instant) {
        let newcomers = self.inventory.newcomers();
        if newcomers.is_empty() {
            return;
        }
        let facility = &self.policy.facility;
        let mut waiting = PerFeed::all(facility.feeds(), 0_u32);
        for raise in self.raises.machines.values().filter(|raise| raise.waits_to_join()) {
            waiting[raise.feed] += 1;
        }
        let last = self.recording.taken_up.as_ref();
        let after = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let next = newcomers.range::<MachineId, _>(after).take(TAKEN_UP);
        let next: Vec<(MachineId, Instant)> =
            next.map(|(machine, since)| (machine.clone(), *since)).collect();
        let last = next.last().filter(|_| next.len() == TAKEN_UP);
        self.recording.taken_up = last.map(|(machine, _)| machine.clone());
        for (machine, since) in next {
            let Some(group) = self.inventory.group(&self.policy, &machine) else { continue };
            let waits = &mut waiting[self.policy.facility.group_feed(group)];
            if *waits < CONSIDERED
                && !self.states.contains_key(&machine)
                && !self.raises.machines.contains_key(&machine)
            {
                *waits += 1;
                let since = self.newcomer_since(since, now);
                let raise = self.raise_of_newcomer(&machine, since);
                self.raises.machines.insert(machine, raise);
            }
        }
    }

    /// Permits work to all machines that may be raised, and takes back what was permitted to newcomers
    /// that may not any more.
    pub(super) fn permit_granted(&mut self, granted: &BTreeSet<MachineId>) {
        for machine in granted {
            self.inventory.permit(machine);
        }
        let lost = |(machine, raise): (&MachineId, &Raise)| {
            let is_lost = raise.newcomer.is_some() && !granted.contains(machine);
            (is_lost && self.inventory.is_permitted(machine)).then(|| machine.clone())
        };
        let lost: Vec<MachineId> = self.raises.machines.iter().filter_map(lost).collect();
        for machine in lost {
            self.inventory.take_back(&machine);
        }
    }

    /// What newcomers draw that were given work and are not reported to work yet.
    pub(super) fn newcomers_that_begin(&self) -> PerFeed<Watts> {
        let facility = &self.policy.facility;
        let mut begin = PerFeed::all(facility.feeds(), Watts::ZERO);
        let raises = self.raises.machines.values();
        for raise in raises.filter(|raise| raise.granted.is_some() && raise.back.is_none()) {
            if let Some(group) = raise.newcomer {
                facility.feeds().add(&mut begin, raise.feed, facility.groups()[group].watts);
            }
        }
        begin
    }

    /// What the meters show now that nothing explains but machines without work. `begun` is what newcomers
    /// draw that were given work just now.
    pub(super) fn drawn_without_work(
        &self,
        begun: &PerFeed<Watts>,
        wall: Timestamp,
        now: Instant,
    ) -> DrawnWithoutWork {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let explained = self.inventory.working_load(&self.policy);
        let house = facility.house_load();
        let mut idle = PerFeed::all(feeds, Watts::ZERO);
        for (group, count) in &self.fleet.population.newcomers {
            if let Some(number) = facility.group_number(group) {
                let watts = times(facility.groups()[number].idle_at_least(), *count);
                feeds.add(&mut idle, facility.group_feed(number), watts);
            }
        }
        DrawnWithoutWork(PerFeed::each(feeds, |feed| {
            feeds[feed].meter.as_ref()?;
            let others = self.headroom(feed, wall, now).map(|shown| shown.metered - shown.leased);
            let known = explained[feed] + begun[feed] + idle[feed];
            let known = known + house[feed] + self.sums.unmetered(feed);
            // Without a measurement nothing is shown.
            Some(others.unwrap_or_default().saturating_sub(known))
        }))
    }

    /// The room beside all machines that count, also those that are off for a while, and what leases
    /// reserve.
    pub(super) fn room_by_figures(&self, wall: Timestamp) -> RoomByFigures {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let population = &self.fleet.population;
        let load = facility.fixed_load(population);
        let away = self.inventory.away_load(&self.policy);
        let soon = later(wall, self.policy.failsafe.permit_ttl);
        let room = PerFeed::each(feeds, |feed| {
            let reserved = self.sums.reserved(feed, wall).max(self.sums.reserved(feed, soon));
            let usable =
                feeds[feed].least_usable_within(wall, self.limits_matter_until(feed, wall));
            usable - facility.band(feed) - load[feed] - away[feed] - reserved
        });
        let more = |group: &Group| {
            let counted = population.groups.get(&group.id).copied().unwrap_or(0);
            group.machines.saturating_sub(counted)
        };
        RoomByFigures { room, declared: facility.groups().iter().map(more).collect() }
    }
}
