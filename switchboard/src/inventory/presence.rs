//! How machines show themselves, and until when each had work: a feed that loses its power takes the
//! signs of all its machines at once.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use directive::{DeviceState, MachineId, MeterId, Serving};

use super::endpoint::{Endpoint, Measured};
use super::{Inventory, NAMES};
use crate::blackout::{Counting, Machines};
use crate::facility::{FeedNumber, PerFeed};
use crate::policy::Policy;

/// How a machine shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    /// Not at all.
    Away,
    /// Its device answers.
    Answers,
    /// It has a session without work.
    Connected,
    Works,
}

/// The machines of groups, as they show themselves.
#[derive(Debug, Default)]
pub(super) struct Presences {
    /// By the number of the group, so that those below a feed are found.
    groups: BTreeMap<usize, HashMap<MachineId, Trace>>,
}

#[derive(Debug, Clone, Copy)]
struct Trace {
    presence: Presence,
    /// Until when it worked, if it does not now.
    worked: Option<Instant>,
}

impl Presences {
    fn see(&mut self, group: usize, machine: &MachineId, presence: Presence, now: Instant) {
        let machines = self.groups.entry(group).or_default();
        let Some(trace) = machines.get_mut(machine) else {
            if presence > Presence::Away {
                let trace = Trace { presence, worked: None };
                machines.insert(machine.clone(), trace);
            }
            return;
        };
        let before = std::mem::replace(&mut trace.presence, presence);
        if before == Presence::Works && presence < before {
            trace.worked = Some(now);
        }
    }

    /// Names that come and go must not stay for ever.
    pub(super) fn forget_gone(&mut self) {
        if self.groups.values().map(HashMap::len).sum::<usize>() > NAMES {
            for machines in self.groups.values_mut() {
                machines.retain(|_, trace| trace.presence > Presence::Away);
            }
        }
    }

    /// Has each machine in the group that `group` gives for it, and forgets those of none.
    pub(super) fn regroup(&mut self, group: impl Fn(&MachineId) -> Option<usize>) {
        let machines = std::mem::take(&mut self.groups).into_values().flatten();
        for (machine, trace) in machines {
            if let Some(group) = group(&machine) {
                self.groups.entry(group).or_default().insert(machine, trace);
            }
        }
    }
}

impl Inventory {
    pub(super) fn presence(&self, machine: &MachineId) -> Presence {
        let sessions = self.sessions(machine).filter(|session| session.sessions > 0);
        let session = sessions.map(|session| match session.serving {
            Serving::Working => Presence::Works,
            Serving::Parked | Serving::Gone => Presence::Connected,
        });
        let device = self.device(machine).map_or(Presence::Away, |device| {
            let answers = device.report.state != DeviceState::Unknown;
            if answers { Presence::Answers } else { Presence::Away }
        });
        session.max().unwrap_or(device)
    }

    /// Notes in `presences` how `machine`, of `group`, shows itself now.
    pub(super) fn trace(
        &self,
        presences: &mut Presences,
        machine: &MachineId,
        (group, presence): (usize, Presence),
        now: Instant,
    ) {
        // An agent or a proxy that has just started does not know a machine yet, which says nothing of
        // the machine.
        let is_known = presence > Presence::Away
            || match self.device(machine) {
                Some(device) => device.report.read_at.is_some(),
                None => self.sessions(machine).next().is_some(),
            };
        if is_known {
            presences.see(group, machine, presence, now);
        }
    }

    /// Whether `meter` itself is silent: an agent that reads it was heard lately, and has no value of it
    /// that is new. Values with the times of a wrong clock are no silence.
    #[must_use]
    pub fn is_mute(&self, policy: &Policy, meter: &MeterId, now: Instant) -> bool {
        let Some(spec) = policy.facility.meters().get(meter) else { return false };
        let is_live = |endpoint: &&Endpoint| {
            endpoint.attached && endpoint.is_live(policy.failsafe.report_stale_after, now)
        };
        let live = self.endpoints.values().filter(is_live);
        let mut read = live.filter_map(|endpoint| endpoint.measured(meter)).peekable();
        let is_old =
            |measured: &Measured| now.saturating_duration_since(measured.moved) >= spec.stale_after;
        read.peek().is_some()
            && read.all(|measured| measured.report.watts.is_none() || is_old(measured))
    }

    /// Counts the machines at and below each feed that `froms` has something for. Of those that `is_off`,
    /// nobody knows by their work whether they have power.
    #[must_use]
    pub(crate) fn count_present(
        &self,
        policy: &Policy,
        froms: &PerFeed<Option<Counting>>,
        is_off: impl Fn(&MachineId) -> bool,
        now: Instant,
    ) -> PerFeed<Machines> {
        let facility = &policy.facility;
        let feeds = facility.feeds();
        let mut counts = PerFeed::all(feeds, Machines::default());
        let is_heard = |endpoint: &&Endpoint| {
            endpoint.attached && endpoint.is_live(policy.failsafe.report_stale_after, now)
        };
        let heard: Vec<&Endpoint> = self.endpoints.values().filter(is_heard).collect();
        let is_known = |machine: &MachineId| {
            heard.iter().any(|one| one.session(machine).is_some() || one.device(machine).is_some())
        };
        for (&group, machines) in &self.presences.groups {
            let Some(watts) = facility.groups().get(group).map(|group| group.watts) else {
                continue;
            };
            let path = feeds.path(facility.group_feed(group)).iter();
            let counted: Vec<(FeedNumber, Counting)> =
                path.filter_map(|&feed| Some((feed, froms[feed]?))).collect();
            if counted.is_empty() {
                continue;
            }
            for (machine, trace) in machines {
                let is_off = is_off(machine);
                let is_away = trace.presence == Presence::Away;
                let answers = trace.presence == Presence::Answers;
                let device = answers.then(|| self.device(machine)).flatten();
                // What an agent said last that is not heard now says nothing of the present.
                let stale_after = policy.failsafe.report_stale_after;
                let is_heard = device.is_some_and(|device| device.is_live(stale_after, now));
                for &(feed, Counting { from, fell }) in &counted {
                    let count = &mut counts[feed];
                    let is_unread =
                        answers && !device.is_some_and(|device| device.was_read_since(fell));
                    let is_awaited = is_unread && is_heard;
                    count.shown += u32::from(!is_away && !is_unread);
                    let worked = trace.worked.is_some_and(|at| at >= from);
                    let works = trace.presence == Presence::Works;
                    if !is_off && (works || worked) {
                        let is_unheard = (works && !is_known(machine)) || (is_unread && !is_heard);
                        count.unheard += u32::from(is_unheard);
                        count.worked += 1;
                        count.draws += watts;
                        count.stopped += u32::from(trace.presence < Presence::Works);
                        count.gone += u32::from(is_away || is_awaited);
                        count.awaited += u32::from(is_awaited);
                    }
                }
            }
        }
        counts
    }
}
