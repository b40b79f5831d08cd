//! Which machines may be woken now. A machine whose time off is over waits here until every feed on
//! its path has measured room for it; then the permit names it. Until the meters show what it draws,
//! its power is kept for it. A newcomer, which gets work for the first time or after a long time,
//! waits in the same way; then it joins the permitted set.

mod newcomers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{DeviceState, FeedId, MachineId, Watts};
use jiff::Timestamp;

pub(super) use newcomers::Recording;

use super::load::IN_BAND;
use super::{Core, Withheld};
use crate::facility::{Facility, FeedNumber, Feeds, PerFeed};
use crate::inventory::Inventory;
use crate::lease::later;
use crate::load::NEGLIGIBLE;
use crate::plan;
use crate::policy::Policy;

/// Machines that were released and whose return is not complete.
#[derive(Debug, Default)]
pub(super) struct Raises {
    machines: BTreeMap<MachineId, Raise>,
    /// What was granted lately, for the ramps.
    lately: VecDeque<Granted>,
    /// The machines that the permit names.
    granted: Arc<BTreeSet<MachineId>>,
    looked_for_strays: Option<Instant>,
}

/// A machine that a permit has named.
#[derive(Debug, Clone)]
struct Granted {
    at: Instant,
    /// The lowest feed that carries it. Numbers of feeds would not outlast an edit of the policy.
    feed: FeedId,
    watts: Watts,
}

#[derive(Debug, Clone)]
struct Raise {
    /// The lowest feed that carries it.
    feed: FeedNumber,
    /// What it draws more when it is back.
    watts: Watts,
    /// How long it may take from the command to its full power.
    restores_within: Duration,
    /// Whether it was only starved of work: then it may draw its full power all the time, and needs
    /// no more room than that its feeds are not full.
    is_starved: bool,
    /// If it is a newcomer: the number of its group.
    newcomer: Option<usize>,
    /// Whether it is a newcomer that counts as load before it has work: a device reaches it.
    is_counted: bool,
    /// Whether it is a newcomer whose full power is in the meters before it has work.
    draws_already: bool,
    /// Why it was not permitted when that was decided last.
    withheld: Option<Withheld>,
    /// When it was released.
    since: Timestamp,
    /// Since when the permit has named it.
    granted: Option<Instant>,
    /// Until when its power is kept for it, because it may have been told to wake.
    booked: Option<Instant>,
    /// How often it has got its turn.
    turns: u32,
    /// Since when it has been seen to draw again.
    back: Option<Instant>,
}

/// How often machines are looked for that sleep although nobody wants them to.
const STRAYS_EVERY: Duration = Duration::from_secs(5);
/// A machine that is back stays in the permit for this time at least: a receiver may have missed the
/// first permit that named it.
const KEPT: Duration = Duration::from_mins(5);

impl Raise {
    fn is_booked(&self, now: Instant) -> bool {
        self.booked.is_some_and(|until| now < until)
    }

    /// Whether it is a newcomer that has no room yet.
    fn waits_to_join(&self) -> bool {
        self.newcomer.is_some() && self.granted.is_none() && self.back.is_none()
    }

    /// Whether what it draws is in the meters for certain.
    fn is_settled(&self, policy: &Policy, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let within = self.restores_within.saturating_add(policy.dispatch.settle);
        let has_restored = self.granted.or(self.back).is_some_and(|at| since(at) >= within);
        has_restored && self.back.is_some_and(|back| since(back) >= policy.dispatch.settle)
    }
}

impl Raises {
    /// The machines that the permit names.
    pub(super) fn granted(&self) -> &Arc<BTreeSet<MachineId>> {
        &self.granted
    }

    /// How many machines at and below each feed wait for a permit.
    pub(super) fn waiting(&self, facility: &Facility) -> PerFeed<u32> {
        let mut waiting = PerFeed::all(facility.feeds(), 0);
        let waits = |raise: &&Raise| raise.back.is_none() && raise.granted.is_none();
        for raise in self.machines.values().filter(waits) {
            for &feed in facility.feeds().path(raise.feed) {
                waiting[feed] += 1;
            }
        }
        waiting
    }

    /// The power of the machines at and below each feed that may be told to wake, or were told and do
    /// not draw it for certain yet.
    pub(super) fn permitted(&self, policy: &Policy, now: Instant) -> PerFeed<Watts> {
        let mut permitted = PerFeed::all(policy.facility.feeds(), Watts::ZERO);
        let is_out = |raise: &&Raise| {
            (raise.granted.is_some() || raise.is_booked(now)) && !raise.is_settled(policy, now)
        };
        for raise in self.machines.values().filter(is_out) {
            policy.facility.feeds().add(&mut permitted, raise.feed, raise.watts);
        }
        permitted
    }

    /// Gives up what was permitted and not used, because receivers have had no permit for a while. It
    /// would otherwise be used all at once.
    pub(super) fn take_back(&mut self) {
        for raise in self.machines.values_mut().filter(|raise| raise.back.is_none()) {
            raise.granted = None;
        }
    }

    /// Whether `machine` is on its way back and has not been seen to draw yet.
    pub(super) fn is_returning(&self, machine: &MachineId) -> bool {
        self.machines.get(machine).is_some_and(|raise| raise.back.is_none())
    }

    /// The machines that are on their way back and have not been seen to draw yet, and what each draws
    /// more when it is back.
    pub(super) fn returning(&self) -> impl Iterator<Item = (&MachineId, Watts)> {
        let coming = self.machines.iter().filter(|(_, raise)| raise.back.is_none());
        coming.map(|(machine, raise)| (machine, raise.watts))
    }

    /// When `machine`, which is on its way back, was released.
    pub(super) fn since(&self, machine: &MachineId) -> Option<Timestamp> {
        let raise = self.machines.get(machine)?;
        // One that a person asked back has no such time.
        Some(raise.since).filter(|since| *since > Timestamp::MIN)
    }

    /// Has `machine` come back before others that wait.
    pub(super) fn prefer(&mut self, machine: &MachineId) {
        if let Some(raise) = self.machines.get_mut(machine) {
            (raise.since, raise.turns) = (Timestamp::MIN, 0);
        }
    }

    /// A machine that must be off again.
    fn shed(&mut self, machine: &MachineId) {
        self.machines.remove(machine);
    }

    /// Forgets machines of feeds in `lost`, which have no power, that were on their way back: they boot
    /// awake, which does not mean that they were raised. Those without a place come back as newcomers, and
    /// those that sleep are found again.
    pub(super) fn drop_without_place(&mut self, lost: &PerFeed<bool>, inventory: &Inventory) {
        let sleeps = |machine: &MachineId| {
            let report = inventory.reported(machine);
            report.is_some_and(|report| report.state == DeviceState::Asleep)
        };
        self.machines.retain(|machine, raise| {
            raise.newcomer.is_some()
                || !lost[raise.feed]
                || inventory.is_permitted(machine)
                || sleeps(machine)
        });
    }

    /// What machines may draw more or less than their full power because they are on their way back:
    /// the lowest feed, and the power.
    pub(super) fn unsettled(
        &self,
        policy: &Policy,
        now: Instant,
    ) -> impl Iterator<Item = (FeedNumber, Watts)> {
        let raises = self.machines.values();
        // A newcomer that has no room yet is not counted as load, unless a device reaches it.
        let raises = raises.filter(|raise| raise.is_counted || !raise.waits_to_join());
        raises.filter(move |raise| !raise.is_settled(policy, now)).map(|one| (one.feed, one.watts))
    }
}

impl Core {
    /// The return of `machine` from `since` on. A machine that no group claims any more counts as a
    /// session that none claims.
    fn raise_of(&self, machine: &MachineId, since: Timestamp) -> Raise {
        let facility = &self.policy.facility;
        let group = self.inventory.group(&self.policy, machine);
        let (feed, watts, restores_within, is_starved) = match group {
            Some(number) => {
                let group = &facility.groups()[number];
                let is_starved = group.driver.is_none();
                let watts = if is_starved {
                    group.watts - group.idle_at_least()
                } else {
                    group.freed_asleep()
                };
                (facility.group_feed(number), watts, group.restore_p95, is_starved)
            }
            None => (facility.unassigned_feed(), facility.unassigned(), UNKNOWN_RESTORE, false),
        };
        Raise {
            feed,
            watts,
            restores_within,
            is_starved,
            newcomer: None,
            is_counted: false,
            draws_already: false,
            withheld: None,
            since,
            granted: None,
            booked: None,
            turns: 0,
            back: None,
        }
    }

    /// Applies a new policy, in which groups and feeds may have other numbers and figures.
    pub(super) fn regroup_raises(&mut self) {
        let mut machines = std::mem::take(&mut self.raises.machines);
        machines.retain(|machine, raise| {
            raise.newcomer.is_none() || self.inventory.group(&self.policy, machine).is_some()
        });
        for (machine, raise) in &mut machines {
            let now = match raise.newcomer {
                Some(_) => self.raise_of_newcomer(machine, raise.since),
                None => self.raise_of(machine, raise.since),
            };
            (raise.newcomer, raise.is_counted) = (now.newcomer, now.is_counted);
            raise.feed = now.feed;
            // What the meters show already comes to nothing more.
            raise.watts = if raise.draws_already { Watts::ZERO } else { now.watts };
            (raise.restores_within, raise.is_starved) = (now.restores_within, now.is_starved);
        }
        self.raises.machines = machines;
    }

    /// A machine whose time off is over, or that sleeps although nobody wants it to.
    pub(super) fn release(&mut self, machine: &MachineId, since: Timestamp) {
        if !self.raises.machines.contains_key(machine) {
            let raise = self.raise_of(machine, since);
            self.raises.machines.insert(machine.clone(), raise);
        }
    }

    /// Machines that are to be off now, after those in `before` were: who is not any more waits for
    /// its return.
    pub(super) fn note_released(&mut self, before: &[MachineId], at: Timestamp) {
        for machine in self.states.keys() {
            self.raises.shed(machine);
        }
        for machine in before {
            self.release(machine, at);
        }
    }

    /// Brings the machines on their way back up to date: which are back, and which sleep although
    /// nobody wants them to.
    pub(super) fn see_raises(&mut self, now: Instant) {
        let mut machines = std::mem::take(&mut self.raises.machines);
        let (settle, unused) = (self.policy.dispatch.settle, self.policy.failsafe.permit_every);
        let mut unused_places = Vec::new();
        machines.retain(|machine, raise| {
            let is_newcomer = raise.newcomer.is_some();
            // The device of a newcomer is awake all the time.
            let sleeps = !is_newcomer && self.inventory.sleeps(machine);
            let draws = if is_newcomer {
                self.inventory.works(machine)
            } else {
                self.inventory.draws(machine)
            };
            if draws {
                raise.back.get_or_insert(now);
            } else if sleeps {
                raise.back = None;
            }
            let Some(back) = raise.back else {
                if is_newcomer {
                    // It stays in the permitted set only if it takes the work that it may have.
                    let waits = raise.granted.is_none() && self.inventory.is_newcomer(machine);
                    let may_begin = raise.is_booked(now) && self.inventory.is_connected(machine);
                    if !waits && !may_begin {
                        unused_places.push(machine.clone());
                    }
                    return waits || may_begin;
                }
                // It was not woken in this time, so that it may be woken much later.
                raise.granted =
                    raise.granted.filter(|at| now.saturating_duration_since(*at) < unused);
                // Of a machine that nobody reports any more, nothing is awaited; if its device
                // reports again that it sleeps, it is found again.
                return sleeps || raise.turns == 0 || raise.is_booked(now);
            };
            let kept = raise.restores_within.saturating_add(settle).max(KEPT);
            now.saturating_duration_since(back) < kept
        });
        self.raises.machines = machines;
        unused_places.iter().for_each(|machine| self.inventory.take_back(machine));
        let due = self
            .raises
            .looked_for_strays
            .is_none_or(|at| now.saturating_duration_since(at) >= STRAYS_EVERY);
        if due {
            self.raises.looked_for_strays = Some(now);
            let strays = self.inventory.strays(&self.selection, self.schedule);
            for machine in strays {
                self.release(&machine, self.schedule);
            }
        }
    }

    /// Decides which machines may be woken now. Returns whether that changed, and the first reason
    /// why a machine must wait.
    pub(super) fn grant(&mut self, wall: Timestamp, now: Instant) -> (bool, Option<Withheld>) {
        self.take_up_newcomers(now);
        if self.raises.machines.is_empty() {
            let is_changed = !self.raises.granted.is_empty();
            self.raises.granted = Arc::default();
            return (is_changed, None);
        }
        let mut room = self.room(wall, now);
        let mut ramp = self.ramp_left(now);
        let begun = self.newcomers_that_begin();
        let samples = self.samples(wall, now);
        let unshown = self.unshown(&samples, now);
        let mut machines = std::mem::take(&mut self.raises.machines);
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let mut order: Vec<(&MachineId, &mut Raise)> = machines.iter_mut().collect();
        // Machines that are back need no room, and those that may have been told to wake keep what they
        // have. A machine that does not wake must not keep others from their turns.
        order.sort_by(|(a, x), (b, y)| {
            let key = |raise: &Raise| {
                (raise.back.is_none(), !raise.is_booked(now), raise.turns, raise.since)
            };
            key(x).cmp(&key(y)).then_with(|| a.cmp(b))
        });
        let mut waits = None;
        let mut by_figures = None;
        let mut drawn = None;
        let mut granted = BTreeSet::new();
        for (machine, raise) in order {
            let path = feeds.path(raise.feed);
            // What it was granted before is void without power, also where it was back already.
            if let Some(why) = self.why_dead(raise.feed) {
                (raise.granted, raise.booked, raise.back) = (None, None, None);
                raise.withheld = Some(why.clone());
                waits.get_or_insert(why);
                continue;
            }
            // A device that was not read since the start may be in any state.
            if raise.newcomer.is_none()
                && self.is_young(now)
                && !self.inventory.sleeps(machine)
                && !self.inventory.draws(machine)
            {
                waits.get_or_insert(Withheld::MachinesNotRead);
                continue;
            }
            if raise.back.is_some() {
                if !raise.is_settled(&self.policy, now) {
                    take(&mut room, path, raise.watts);
                }
                granted.insert(machine.clone());
                continue;
            }
            // What its meters showed when it got its turn says nothing of its next turn.
            if raise.newcomer.is_some() && !raise.is_booked(now) {
                (raise.watts, raise.draws_already) =
                    (self.draw_of_newcomer(raise, &samples), false);
            }
            // It may have been told to wake already. Then its room is taken, and it is named as long as
            // that is not too much.
            let is_booked = raise.is_booked(now);
            if is_booked {
                take(&mut room, path, raise.watts);
            }
            // What a booked machine takes is taken from the room already. A starved one may have drawn
            // it all the time, so that it is in the meter, too.
            let needs = match (is_booked, raise.is_starved) {
                (true, true) => Watts(-raise.watts.0),
                (true, false) | (false, true) => Watts::ZERO,
                (false, false) => raise.watts,
            };
            // What newcomers draw that came just now is not in the meters yet.
            let soon = |feed: FeedNumber| match raise.newcomer {
                Some(_) if !is_booked => {
                    unshown[feed].saturating_sub(self.unshown_of(raise, feed, &samples))
                }
                _ => Watts::ZERO,
            };
            let mut no_room = path.iter().find_map(|&feed| match &room[feed] {
                Ok(room) if raise.draws_already || *room >= needs + soon(feed) => None,
                Ok(_) => Some(Withheld::NoRoom(feeds[feed].id.clone())),
                Err(why) => Some(why.clone()),
            });
            if let Some(group) = raise.newcomer.filter(|_| !is_booked && no_room.is_none()) {
                let by_figures = by_figures.get_or_insert_with(|| self.room_by_figures(wall));
                no_room = by_figures.lacks(feeds, group, raise);
            }
            if let (Some(group), Some(Withheld::NoRoom(_)), false) =
                (raise.newcomer, &no_room, is_booked)
            {
                let by_figures = by_figures.get_or_insert_with(|| self.room_by_figures(wall));
                let is_planned = raise.is_counted || by_figures.declares(group);
                let draws_all = match facility.groups()[group].poolless {
                    Some(_) => raise.watts == Watts::ZERO,
                    None => drawn
                        .get_or_insert_with(|| self.drawn_without_work(&begun, wall, now))
                        .takes(feeds, raise),
                };
                if is_planned && draws_all {
                    // Work adds nothing to what the meters show.
                    (raise.watts, raise.draws_already, no_room) = (Watts::ZERO, true, None);
                }
            }
            raise.withheld.clone_from(&no_room);
            if let Some(why) = no_room {
                raise.granted = None;
                waits.get_or_insert(why);
                continue;
            }
            if !is_booked {
                if !raise.draws_already && !ramp.takes(feeds, raise.feed, raise.watts) {
                    continue;
                }
                take(&mut room, path, raise.watts);
                if let (Some(group), Some(by_figures)) = (raise.newcomer, &mut by_figures) {
                    by_figures.take(feeds, group, raise);
                }
                let lives = self.policy.failsafe.permit_ttl + raise.restores_within;
                raise.booked = Some(now + lives + self.policy.dispatch.settle);
                raise.turns = raise.turns.saturating_add(1);
            }
            raise.granted.get_or_insert(now);
            granted.insert(machine.clone());
        }
        self.raises.lately.extend(ramp.new);
        self.raises.machines = machines;
        self.permit_granted(&granted);
        let is_changed = granted != *self.raises.granted;
        if is_changed {
            self.raises.granted = Arc::new(granted);
        }
        (is_changed, waits)
    }

    /// The power by which machines at and below each feed may be raised: what is left of the usable
    /// power below the band, beside what the meter shows without leases and what leases reserve. A feed
    /// without a meter sets no bound: there, the plan's figures do.
    pub(super) fn room(&self, wall: Timestamp, now: Instant) -> PerFeed<Result<Watts, Withheld>> {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let figures = facility.load_by_figures(&self.fleet.population);
        let less = self.less(&PerFeed::all(feeds, None), now);
        let soon = later(wall, self.policy.failsafe.permit_ttl);
        let away = self.inventory.away_load(&self.policy);
        let missing = self.missing_power(wall, now);
        PerFeed::each(feeds, |feed| {
            if let Some(why) = self.without_power(feed) {
                return Err(why);
            }
            if feeds[feed].meter.is_none() {
                return Ok(Watts(i64::MAX / 2));
            }
            let Some(headroom) = self.headroom(feed, wall, now) else {
                return Err(match self.doubt(feed) {
                    Some(why) => Withheld::MeterDoubted(why),
                    None => Withheld::MeterSilent(feeds[feed].id.clone()),
                });
            };
            // A tenant without a meter counts with what the meter shows beyond everything else, up
            // to what it rents. What a tenant draws beyond its lease leaves no room.
            let others = headroom.metered - headroom.leased + missing[feed];
            let correction = self.corrections.planned()[feed].max(Watts::ZERO);
            let mining = figures[feed] + correction - less[feed].down;
            let tenants = (others - mining).max(Watts::ZERO).min(self.sums.unmetered(feed));
            let reserved = self.sums.reserved(feed, wall).max(self.sums.reserved(feed, soon));
            // What is woken now must be able to go again before the limit is lower.
            let until = self.limits_matter_until(feed, wall);
            let usable = feeds[feed].least_usable_within(wall, until);
            // By so much the load may have risen since the plan released a machine.
            let tolerance = usable.scale(NEGLIGIBLE).max(facility.band(feed).scale(IN_BAND));
            let tolerance = tolerance.min(facility.band(feed));
            let taken = others - tenants + reserved + away[feed];
            Ok(usable - facility.band(feed) + tolerance - taken)
        })
    }

    /// A limit of `feed` that is lower before this time matters now: what may be woken by a permit of now
    /// may draw until then before it is off again. A permit lives for a while, meters take their time to
    /// show what was woken, and machines to be commanded and to go.
    pub(super) fn limits_matter_until(&self, feed: FeedNumber, wall: Timestamp) -> Timestamp {
        let policy = &self.policy;
        if !policy.facility.feeds()[feed].limit.is_dated() {
            return wall;
        }
        let lives = policy.failsafe.permit_ttl + policy.dispatch.settle;
        let goes = plan::longest_shed(policy, &self.fleet.population, feed);
        later(wall, lives + goes + policy.dispatch.settle + policy.dispatch.margin)
    }

    /// What `machine`, which is to come back, waits for, besides its turn. `None` if nothing is in
    /// its way.
    pub(super) fn waits_for(
        &self,
        machine: &MachineId,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Withheld> {
        if let Some(why) = self.why_not_raise() {
            return Some(why);
        }
        let raise = self.raises.machines.get(machine)?;
        if raise.granted.is_some() || raise.newcomer.is_some() {
            return raise.withheld.clone();
        }
        let room = self.room(wall, now);
        let needs = if raise.is_starved { Watts::ZERO } else { raise.watts };
        self.policy.facility.feeds().path(raise.feed).iter().find_map(|&feed| match &room[feed] {
            Ok(room) if *room >= needs => None,
            Ok(_) => Some(Withheld::NoRoom(self.policy.facility.feeds()[feed].id.clone())),
            Err(why) => Some(why.clone()),
        })
    }

    fn ramp_left(&mut self, now: Instant) -> RampLeft {
        let (policy, feeds) = (&self.policy, self.policy.facility.feeds());
        let ramp = &policy.ramp;
        let since = |at: Instant| now.saturating_duration_since(at);
        let longest = MINUTE.max(ramp.up_step_interval);
        self.raises.lately.retain(|granted| since(granted.at) < longest);
        let mut left = RampLeft {
            now,
            lately: PerFeed::all(feeds, Watts::ZERO),
            per_min: PerFeed::each(feeds, |feed| policy.up_per_min(feed)),
            in_step: 0,
            per_step: ramp.up_step_machines,
            in_second: Watts::ZERO,
            step_max: ramp.step_max,
            new: Vec::new(),
        };
        for Granted { at, feed, watts } in &self.raises.lately {
            left.in_step += u32::from(since(*at) < ramp.up_step_interval);
            if since(*at) < SECOND {
                left.in_second += *watts;
            }
            if since(*at) < MINUTE {
                feeds.path_of(feed).iter().for_each(|feed| left.lately[*feed] += *watts);
            }
        }
        left
    }
}

/// Takes `watts` from the room of the feeds on `path`.
fn take(room: &mut PerFeed<Result<Watts, Withheld>>, path: &[FeedNumber], watts: Watts) {
    for &feed in path {
        if let Ok(room) = &mut room[feed] {
            *room = *room - watts;
        }
    }
}

/// How long a machine of no group may take from the command to its full power.
const UNKNOWN_RESTORE: Duration = Duration::from_mins(10);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// What the up ramps still allow.
struct RampLeft {
    now: Instant,
    /// What was granted in the last minute at and below each feed.
    lately: PerFeed<Watts>,
    /// What may be granted in a minute, where there is a limit.
    per_min: PerFeed<Option<Watts>>,
    /// The machines granted within one step's interval.
    in_step: u32,
    per_step: u32,
    /// What was granted in the last second.
    in_second: Watts,
    step_max: Option<Watts>,
    new: Vec<Granted>,
}

impl RampLeft {
    /// Counts one more machine, if the ramps allow it. A machine that is larger than what a ramp
    /// allows goes alone.
    fn takes(&mut self, feeds: &Feeds, feed: FeedNumber, watts: Watts) -> bool {
        let is_over =
            |used: Watts, most: Watts| used > Watts::ZERO && used + watts > most.max(Watts(1));
        let path = feeds.path(feed);
        let too_fast = path
            .iter()
            .any(|feed| self.per_min[*feed].is_some_and(|most| is_over(self.lately[*feed], most)));
        let too_large = self.step_max.is_some_and(|most| is_over(self.in_second, most));
        let too_many = self.per_step > 0 && self.in_step >= self.per_step;
        if too_fast || too_large || too_many {
            return false;
        }
        path.iter().for_each(|feed| self.lately[*feed] += watts);
        self.in_second += watts;
        self.in_step += 1;
        self.new.push(Granted { at: self.now, feed: feeds[feed].id.clone(), watts });
        true
    }
}
