//! What the facility itself did beyond what was declared, promised and commanded: the part of an
//! excess that nobody who decides could have known of in advance.

use std::time::Duration;

use directive::{FeedId, Watts};

use super::history::{History, Machine};
use super::violation::Cause;
use crate::record::{Order, Role, Span, State};

/// Watts at a feed, by what brought them about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) house: Watts,
    pub(super) tenant_over: Watts,
    pub(super) tenant_outside: Watts,
    /// Machines that draw although they were told to sleep.
    pub(super) device: Watts,
    /// Machines that nothing but the proxy reaches, which draw whether they have work or not.
    pub(super) starved: Watts,
    pub(super) nameplate: Watts,
    /// Machines that a timeline wants asleep of which the agent has not heard, or cannot.
    pub(super) outage: Watts,
}

/// Whether the device has lost a sleep command by `at`, since the last command that it took.
fn lost_sleep(machine: &Machine<'_>, told: Option<Duration>, at: Duration) -> bool {
    let mut lost = machine.lost.iter();
    lost.any(|(lost, order)| {
        *order == Order::Sleep && *lost <= at && told.is_none_or(|told| told < *lost)
    })
}

impl Excess {
    /// The excess at a feed at `at`.
    pub(super) fn at(history: &History<'_>, feed: &FeedId, at: Duration) -> Self {
        let mut excess = Self::default();
        let below = history.spec.feeds.iter().filter(|below| history.is_within(&below.id, feed));
        let declared: Watts = below.map(|below| below.declared_house).sum();
        excess.house = history.record.feeds[feed].house.at(at).saturating_sub(declared);
        for (id, lease) in &history.leases {
            let Some(promise) = lease.promise(at) else { continue };
            if !history.is_within(&promise.feed, feed) {
                continue;
            }
            let drawn = history.drawn(id).map_or(Watts::ZERO, |drawn| drawn.at(at));
            if promise.start <= at && at < promise.end {
                excess.tenant_over += drawn.saturating_sub(promise.watts);
            } else {
                excess.tenant_outside += drawn;
            }
        }
        excess.add_machines(history, feed, at);
        excess
    }

    fn add_machines(&mut self, history: &History<'_>, feed: &FeedId, at: Duration) {
        let newest = history.newest(at);
        let held = history.agent.held(at).map(|timeline| timeline.number);
        let hears = newest.map(|timeline| timeline.number) == held
            && !history.is_down_in(Role::Agent, Span { from: at, to: at });
        let draws = |machine: &Machine<'_>| {
            let is_off = matches!(machine.state(at), State::Asleep | State::Dead);
            !is_off && history.is_within(&machine.spec.feed, feed)
        };
        // Where only such machines are left, nothing can be put to sleep.
        let none_left = !history
            .machines
            .values()
            .any(|machine| draws(machine) && history.group(machine.spec).reachable);
        for (id, machine) in history.machines.iter().filter(|(_, machine)| draws(machine)) {
            let group = history.group(machine.spec);
            self.nameplate += machine.overdraw(group.nameplate, at);
            let frees = group.nameplate - group.residual;
            let wanted = newest.is_some_and(|timeline| {
                history.standing(timeline, id, at, Default::default()).action.sheds()
            });
            match machine.last_command(at) {
                _ if none_left => self.starved += frees,
                _ if !wanted => {}
                Some((_, Order::Sleep)) => self.device += frees,
                command if lost_sleep(machine, command.map(|(told, _)| told), at) => {
                    self.device += frees;
                }
                _ if !group.reachable => self.starved += frees,
                _ if !hears => self.outage += frees,
                _ => {}
            }
        }
    }

    pub(super) fn total(&self) -> Watts {
        self.parts().iter().map(|(watts, _)| *watts).sum()
    }

    /// What explains `missing` watts: the first part that does so alone, else the largest one. When
    /// all of them together do not, it was a decision.
    pub(super) fn cause(&self, missing: Watts) -> Cause {
        let parts = self.parts();
        if self.total() < missing {
            return Cause::Decision;
        }
        let whole = parts.iter().find(|(watts, _)| *watts >= missing);
        whole.map_or_else(|| self.largest(), |(_, cause)| *cause)
    }

    /// The largest part.
    pub(super) fn largest(&self) -> Cause {
        let largest = self.parts().into_iter().max_by_key(|(watts, _)| *watts);
        largest.map_or(Cause::Decision, |(_, cause)| cause)
    }

    fn parts(&self) -> [(Watts, Cause); 7] {
        [
            (self.house, Cause::House),
            (self.tenant_over, Cause::TenantOver),
            (self.tenant_outside, Cause::TenantOutside),
            (self.device, Cause::Device),
            (self.starved, Cause::Starved),
            (self.nameplate, Cause::Nameplate),
            (self.outage, Cause::Outage),
        ]
    }
}
