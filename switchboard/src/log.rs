//! Log lines of the control plane: each event is logged once, when it is durable in the ledger. If
//! an append fails and is repeated, its events are logged after it has succeeded.

use std::collections::BTreeSet;

use directive::{FeedId, LeaseId, Watts};
use tracing::{error, info, warn};

use crate::blackout::{FeedSupply, SupplyChange};
use crate::commitment::{Doing, Figure};
use crate::core::Core;
use crate::ledger::{Entry, Event};
use crate::plan::Deficit;
use crate::plausible::{MeterChange, MeterState};

/// The events being written, and what was logged last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    writing: Vec<Event>,
    /// The short feeds in the last log line about them.
    short: BTreeSet<FeedId>,
}

impl Told {
    /// Keeps the events of `entries`, to be logged when they are durable; lists of machines are not
    /// kept.
    pub(crate) fn keep(&mut self, entries: &[Entry]) {
        let events = entries.iter().map(|entry| &entry.event);
        self.writing = events.filter_map(worth_telling).collect();
    }

    /// Takes the events that were being written.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.writing)
    }

    /// Logs the events that are now durable.
    pub(crate) fn tell(&mut self, events: &[Event], core: &Core) {
        for event in events {
            match event {
                Event::Decided { deficits, .. } => self.decided(deficits),
                other => tell(other, core),
            }
        }
    }

    /// New plans are made all the time, so short feeds are logged only when the set of them
    /// changes.
    fn decided(&mut self, deficits: &[Deficit]) {
        // A feed can be short at several times of one plan.
        let short: BTreeSet<FeedId> = deficits.iter().map(|deficit| deficit.feed.clone()).collect();
        if short == self.short {
            return;
        }
        match deficits {
            [] => info!("no feed is short any more"),
            [first, ..] => {
                warn!(feed = %first.feed, short = %first.short, feeds = short.len(), "feeds stay short");
            }
        }
        self.short = short;
    }
}

fn worth_telling(event: &Event) -> Option<Event> {
    match event {
        Event::Opened { .. } | Event::Sleepers { .. } | Event::Permitted { .. } => None,
        Event::Decided { number, policy, plan, deficits, .. } => Some(Event::Decided {
            number: *number,
            policy: policy.clone(),
            plan: plan.clone(),
            selection: None,
            changes: None,
            deficits: deficits.clone(),
            reasons: Vec::new(),
        }),
        Event::LeaseCommitted { lease, latest_safe_start, .. } => Some(Event::LeaseCommitted {
            lease: lease.clone(),
            latest_safe_start: *latest_safe_start,
            arithmetic: Vec::new(),
            origin: None,
        }),
        Event::LeaseCancelled { .. }
        | Event::LeaseAmended { .. }
        | Event::CommitmentMoved { .. }
        | Event::Unverified { .. }
        | Event::Unconfirmed { .. }
        | Event::Confirmed { .. }
        | Event::Breached { .. }
        | Event::Adopted { .. }
        | Event::MetersJudged { .. }
        | Event::SupplyChanged { .. }
        | Event::PolicyLoaded { .. }
        | Event::PolicyRefused { .. } => Some(event.clone()),
    }
}

fn tell(event: &Event, core: &Core) {
    match event {
        Event::LeaseCommitted { lease, .. } => info!(
            lease = %lease.id,
            tenant = lease.tenant,
            feed = %lease.feed,
            gross_kw = lease.gross.kw(),
            start = %lease.start,
            end = %lease.end,
            "lease committed"
        ),
        Event::LeaseCancelled { lease, cancelled_at, phase } => {
            info!(%lease, at = %cancelled_at, state = phase.as_str(), "lease cancelled");
        }
        Event::LeaseAmended { lease, end, end_before, .. } => {
            info!(%lease, %end, before = %end_before, "lease amended");
        }
        Event::CommitmentMoved { lease, from, to, why, figures } => {
            let (machines, down) = core.machines_of(lease);
            let figure = figure(core, lease, figures);
            info!(
                %lease,
                from = from.as_str(),
                to = to.as_str(),
                why,
                machines,
                down,
                headroom = figure.map(|(headroom, _)| tracing::field::display(headroom)),
                needed = figure.map(|(_, needed)| tracing::field::display(needed)),
                "lease moved"
            );
        }
        Event::Unverified { lease, why, .. } => warn!(%lease, why, "lease unverified"),
        Event::Unconfirmed { lease, unconfirmed } => {
            let (machines, names) = (unconfirmed.machines.count, unconfirmed.machines.names());
            warn!(%lease, machines, names, "lease unconfirmed, devices do not answer");
        }
        Event::Confirmed { lease } => info!(%lease, "lease confirmed, every device answers"),
        Event::Breached { lease, breach, .. } => {
            let doing = breach.doing.map(Doing::as_str);
            warn!(%lease, missing = %breach.missing, doing, why = breach.why, "lease breached");
        }
        Event::MetersJudged { meters } => tell_meters(meters),
        Event::SupplyChanged { feeds } => tell_supply(feeds),
        Event::PolicyLoaded { digest, revision } => info!(digest, revision, "policy in force"),
        Event::PolicyRefused { digest, why, .. } => {
            error!(digest, why, "policy refused, the former one stays");
        }
        Event::Adopted { machines, wake, by } => {
            let example = machines.first().map(tracing::field::display);
            info!(machines = machines.len(), example, wake, by, "sleeping machines adopted");
        }
        Event::Opened { .. }
        | Event::Decided { .. }
        | Event::Sleepers { .. }
        | Event::Permitted { .. } => {}
    }
}

/// Logs changes of what is thought of meters. An agent that is lost takes all of its meters with it,
/// so many changes to one state are one line.
fn tell_meters(meters: &[MeterChange]) {
    for state in MeterState::ALL {
        let changed: Vec<&MeterChange> = meters.iter().filter(|one| one.to == state).collect();
        match &changed[..] {
            [] => {}
            [first, _, _, _, ..] => {
                let names: Vec<&str> =
                    changed.iter().take(3).map(|one| one.feed.as_str()).collect();
                let (feeds, count, state) = (names.join(", "), changed.len(), state.as_str());
                if first.to == MeterState::Ok {
                    info!(feeds, count, "meters of feeds are believed again");
                } else {
                    warn!(feeds, count, state, "meters of feeds are not believed");
                }
            }
            few => few.iter().for_each(|one| tell_meter(one)),
        }
    }
}

/// Logs changes of the supply of feeds: one line for those that change in the same way together. Those
/// below a feed without power go with it.
fn tell_supply(changes: &[SupplyChange]) {
    for supply in [FeedSupply::Dead, FeedSupply::Reclosing, FeedSupply::Live] {
        let changed = changes.iter().filter(|change| change.to == supply && change.with.is_none());
        let changed: Vec<&SupplyChange> = changed.collect();
        let Some(first) = changed.first() else { continue };
        let names: Vec<&str> = changed.iter().take(3).map(|one| one.feed.as_str()).collect();
        let (feeds, count, since) = (names.join(", "), changed.len(), first.since);
        match supply {
            FeedSupply::Dead => {
                let (before, machines) = (first.before, first.machines);
                warn!(feeds, count, %since, %before, machines, "feeds have lost their power");
            }
            FeedSupply::Reclosing => {
                info!(feeds, count, %since, "feeds have power again, and settle");
            }
            FeedSupply::Live => info!(feeds, count, %since, "feeds are live again"),
        }
    }
}

fn tell_meter(change: &MeterChange) {
    let MeterChange { feed, meter, from, to, shown, bound, why, leases } = change;
    let (from, leases) = (from.as_str(), leases.len());
    match to {
        MeterState::Ok => info!(%feed, %meter, from, "meter is believed again"),
        MeterState::Silent => warn!(%feed, %meter, leases, "meter is silent"),
        to => warn!(
            %feed,
            %meter,
            state = to.as_str(),
            shown = shown.map(tracing::field::display),
            bound = bound.map(tracing::field::display),
            why,
            leases,
            "meter is implausible"
        ),
    }
}

/// The headroom that the meter of the lease's own feed proves, and the power committed there.
fn figure(core: &Core, lease: &LeaseId, figures: &[Figure]) -> Option<(Watts, Watts)> {
    let feed = &core.state().leases.get(lease)?.lease.feed;
    let figure = figures.iter().find(|figure| figure.feed == *feed)?;
    Some((figure.headroom?, figure.needed))
}
