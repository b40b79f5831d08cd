//! The switchboard's metrics, every name in one place. Labels are feeds, groups, lease states and
//! outcomes: short, known lists.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicI64;

use directive::FeedId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::cause::OffBy;
use crate::core::Tally;
use crate::facility::Facility;
use crate::inventory::Exchanges;
use crate::view::{FeedView, ShortLease, StatusView};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFeed {
    feed: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDriver {
    driver: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MeterOfFeed {
    feed: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SupplyOfFeed {
    feed: String,
    state: &'static str,
}

type Number = Gauge<i64, AtomicI64>;

/// Handles to every metric.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    leases: Family<State, Number>,
    directives: Family<OutcomeLabel, Counter>,
    permits: Family<OutcomeLabel, Counter>,
    requests: Family<OutcomeLabel, Counter>,
    reloads: Family<OutcomeLabel, Counter>,
    headroom: Family<OfFeed, Number>,
    committed: Family<OfFeed, Number>,
    usable: Family<OfFeed, Number>,
    meter_state: Family<MeterOfFeed, Number>,
    feed_supply: Family<SupplyOfFeed, Number>,
    head_seq: Number,
    ledger_up: Number,
    ledger_failures: Counter,
    entries_dropped: Counter,
    breaches: Counter,
    clock_steps: Counter,
    reports: Counter,
    reports_dropped: Number,
    reports_refused: Counter,
    full_reports_asked: Family<Reason, Counter>,
    links: Family<OutcomeLabel, Counter>,
    generation: Number,
    deficits: Number,
    unassigned: Number,
    unassigned_waiting: Number,
    newcomers_waiting: Number,
    overflow: Family<What, Counter>,
    lease_shortfall: Family<OfFeed, Number>,
    short_leases: Number,
    machines: Family<OfGroup, Number>,
    machines_off: Family<ByCause, Number>,
    machines_off_watts: Family<ByCause, Number>,
    asleep_not_by_us: Number,
    asleep_out_of_reach: Number,
    drivers_down: Family<OfDriver, Number>,
    policy_refused: Number,
    configuration_not_applied: Number,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        registry.register("tieline_switchboard_leases", "Leases by state", m.leases.clone());
        registry.register(
            "tieline_switchboard_directives",
            "Timelines by outcome",
            m.directives.clone(),
        );
        registry.register(
            "tieline_switchboard_permits",
            "Permits sent, and times one was withheld",
            m.permits.clone(),
        );
        registry.register(
            "tieline_switchboard_lease_requests",
            "Lease requests by outcome",
            m.requests.clone(),
        );
        registry.register(
            "tieline_switchboard_policy_reloads",
            "Policies by outcome",
            m.reloads.clone(),
        );
        let headroom = "Headroom that the feed's meter proves; absent while it is silent";
        registry.register("tieline_switchboard_headroom_watts", headroom, m.headroom.clone());
        registry.register(
            "tieline_switchboard_committed_watts",
            "What leases reserve now",
            m.committed.clone(),
        );
        registry.register(
            "tieline_switchboard_usable_watts",
            "What may be planned",
            m.usable.clone(),
        );
        registry.register(
            "tieline_switchboard_feed_meter_state",
            "1 for the state of the feed's meter",
            m.meter_state.clone(),
        );
        registry.register(
            "tieline_switchboard_feed_supply",
            "1 for whether the feed has power: live, dead or reclosing",
            m.feed_supply.clone(),
        );
        registry.register(
            "tieline_switchboard_ledger_head_seq",
            "The ledger's newest entry",
            m.head_seq.clone(),
        );
        registry.register(
            "tieline_switchboard_ledger_up",
            "1 while the ledger takes entries",
            m.ledger_up.clone(),
        );
        registry.register(
            "tieline_switchboard_ledger_failures",
            "Appends that failed",
            m.ledger_failures.clone(),
        );
        let dropped = "Entries lost while the ledger failed";
        registry.register(
            "tieline_switchboard_ledger_entries_dropped",
            dropped,
            m.entries_dropped.clone(),
        );
        registry.register("tieline_switchboard_breaches", "Promises not kept", m.breaches.clone());
        registry.register(
            "tieline_switchboard_clock_steps",
            "Steps of the wall clock",
            m.clock_steps.clone(),
        );
        registry.register("tieline_switchboard_reports", "Reports taken in", m.reports.clone());
        let dropped =
            "Reports dropped because the switchboard was slow, over the receivers connected now";
        registry.register(
            "tieline_switchboard_reports_dropped",
            dropped,
            m.reports_dropped.clone(),
        );
        registry.register(
            "tieline_switchboard_reports_refused",
            "Reports that did not belong to the role of their link",
            m.reports_refused.clone(),
        );
        registry.register(
            "tieline_switchboard_full_reports_asked",
            "Full reports asked for, by what was missing",
            m.full_reports_asked.clone(),
        );
        registry.register(
            "tieline_switchboard_links",
            "Links of receivers by outcome",
            m.links.clone(),
        );
        registry.register(
            "tieline_switchboard_directive_generation",
            "The newest timeline's generation",
            m.generation.clone(),
        );
        registry.register(
            "tieline_switchboard_deficits",
            "Feeds that the plan cannot relieve",
            m.deficits.clone(),
        );
        registry.register(
            "tieline_switchboard_unassigned",
            "Machines that no group claims and that have work or a device",
            m.unassigned.clone(),
        );
        registry.register(
            "tieline_switchboard_unassigned_waiting",
            "Machines that no group claims and that get no work",
            m.unassigned_waiting.clone(),
        );
        registry.register(
            "tieline_switchboard_newcomers_waiting",
            "Machines of groups that wait for room before they get work",
            m.newcomers_waiting.clone(),
        );
        registry.register(
            "tieline_switchboard_inventory_overflow",
            "What reports held beyond the bounds of the inventory",
            m.overflow.clone(),
        );
        registry.register(
            "tieline_switchboard_lease_shortfall_watts",
            "Most that a lease lacks at the feed with the machines known now",
            m.lease_shortfall.clone(),
        );
        registry.register(
            "tieline_switchboard_short_leases",
            "Leases that cannot be kept with the machines known now",
            m.short_leases.clone(),
        );
        registry.register(
            "tieline_switchboard_machines",
            "Machines by group: declared, seen, hashing, asleep, failing",
            m.machines.clone(),
        );
        registry.register(
            "tieline_switchboard_machines_off",
            "Machines that are off or must be, by cause",
            m.machines_off.clone(),
        );
        registry.register(
            "tieline_switchboard_machines_off_watts",
            "What the machines that are off would draw more, by cause",
            m.machines_off_watts.clone(),
        );
        registry.register(
            "tieline_switchboard_machines_asleep_not_by_us",
            "Machines that sleep, that nobody wants asleep, and that somebody else put to sleep",
            m.asleep_not_by_us.clone(),
        );
        registry.register(
            "tieline_switchboard_machines_asleep_out_of_reach",
            "Machines that an agent put to sleep and that no agent reaches now",
            m.asleep_out_of_reach.clone(),
        );
        registry.register(
            "tieline_switchboard_drivers_down",
            "1 for each driver that answers nothing",
            m.drivers_down.clone(),
        );
        registry.register(
            "tieline_switchboard_policy_refused",
            "1 while the newest policy file is not in force",
            m.policy_refused.clone(),
        );
        registry.register(
            "tieline_switchboard_configuration_not_applied",
            "1 while the newest configuration file is not in force",
            m.configuration_not_applied.clone(),
        );
        metrics
    }

    pub(crate) fn show(
        &self,
        facility: &Facility,
        status: &StatusView,
        feeds: &[FeedView],
        reports_dropped: u64,
    ) {
        for (phase, count) in &status.leases_by_state {
            self.leases.get_or_create(&State { state: phase.as_str() }).set(i64::from(*count));
        }
        // A feed that left the policy, or whose meter is silent, must not keep its last value.
        self.headroom.clear();
        self.committed.clear();
        self.usable.clear();
        self.meter_state.clear();
        self.feed_supply.clear();
        self.lease_shortfall.clear();
        for view in feeds {
            let feed = OfFeed { feed: view.feed.to_string() };
            self.committed.get_or_create(&feed).set(view.committed.0);
            self.usable.get_or_create(&feed).set(view.usable.0);
            self.lease_shortfall.get_or_create(&feed).set(0);
            let supply =
                SupplyOfFeed { feed: feed.feed.clone(), state: view.supply.state.as_str() };
            self.feed_supply.get_or_create(&supply).set(1);
            if let Some(meter) = &view.meter_health {
                let (feed, state) = (view.feed.to_string(), meter.state.as_str());
                self.meter_state.get_or_create(&MeterOfFeed { feed, state }).set(1);
            }
            if let Some(headroom) = view.headroom {
                self.headroom.get_or_create(&feed).set(headroom.0);
            }
        }
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.head_seq.set(whole(status.ledger.seq));
        self.ledger_up.set(i64::from(status.ledger.failure.is_none()));
        self.generation.set(whole(status.number.generation));
        let feeds: BTreeSet<&FeedId> = status.deficits.iter().map(|short| &short.feed).collect();
        self.deficits.set(i64::try_from(feeds.len()).unwrap_or(i64::MAX));
        self.short_leases.set(i64::try_from(status.short_leases.len()).unwrap_or(i64::MAX));
        for ShortLease { short, .. } in &status.short_leases {
            let worst =
                self.lease_shortfall.get_or_create(&OfFeed { feed: short.feed.to_string() });
            worst.set(worst.get().max(short.missing.0));
        }
        // A driver that left the policy must not stay down.
        self.drivers_down.clear();
        for driver in facility.groups().iter().filter_map(|group| group.driver.as_ref()) {
            let is_down = status.drivers_down.iter().any(|down| down.driver == *driver);
            let down = self.drivers_down.get_or_create(&OfDriver { driver: driver.clone() });
            down.set(i64::from(is_down));
        }
        self.show_machines(status);
        self.policy_refused.set(i64::from(status.policy_refused.is_some()));
        self.configuration_not_applied.set(i64::from(status.configuration_not_applied.is_some()));
        self.unassigned.set(i64::from(status.unassigned.count));
        self.unassigned_waiting.set(i64::from(status.unassigned.waiting));
        self.newcomers_waiting.set(i64::from(status.newcomers.waiting));
        self.reports_dropped.set(whole(reports_dropped));
    }

    fn show_machines(&self, status: &StatusView) {
        self.asleep_not_by_us.set(i64::from(status.asleep_not_by_us.count));
        self.asleep_out_of_reach.set(i64::from(status.asleep_out_of_reach.count));
        for by in OffBy::ALL {
            let off = status.machines_off_by_cause.get(&by).copied().unwrap_or_default();
            let cause = ByCause { cause: by.as_str() };
            self.machines_off.get_or_create(&cause).set(i64::from(off.count));
            self.machines_off_watts.get_or_create(&cause).set(off.off.0);
        }
        // A group that left the policy must not keep its last counts.
        self.machines.clear();
        for view in &status.groups {
            let counts = view.machine_counts;
            let kinds = [
                ("declared", counts.declared),
                ("seen", counts.seen),
                ("hashing", counts.hashing),
                ("asleep", counts.asleep),
                ("failing", counts.failing),
            ];
            for (kind, count) in kinds {
                let group = OfGroup { group: view.group.to_string(), kind };
                self.machines.get_or_create(&group).set(i64::from(count));
            }
        }
    }

    pub(crate) fn count(&self, before: Tally, after: Tally) {
        let add = |family: &Family<OutcomeLabel, Counter>, outcome, before: u64, after: u64| {
            family.get_or_create(&OutcomeLabel { outcome }).inc_by(after.saturating_sub(before));
        };
        add(&self.directives, "sent", before.directives, after.directives);
        add(&self.permits, "sent", before.permits, after.permits);
        add(&self.permits, "withheld", before.permits_withheld, after.permits_withheld);
        add(&self.requests, "committed", before.committed, after.committed);
        add(&self.requests, "refused", before.refused, after.refused);
        add(&self.reloads, "loaded", before.policies_loaded, after.policies_loaded);
        add(&self.reloads, "refused", before.policies_refused, after.policies_refused);
        self.ledger_failures.inc_by(after.ledger_failures.saturating_sub(before.ledger_failures));
        self.entries_dropped.inc_by(after.entries_dropped.saturating_sub(before.entries_dropped));
        self.breaches.inc_by(after.breaches.saturating_sub(before.breaches));
        self.clock_steps.inc_by(after.clock_steps.saturating_sub(before.clock_steps));
        self.reports.inc_by(after.reports.saturating_sub(before.reports));
        self.count_exchanges(before.exchanges, after.exchanges);
        let (before, after) = (before.overflow, after.overflow);
        for (what, before, after) in [
            ("links", before.links, after.links),
            ("entries", before.entries, after.entries),
            ("names", before.names, after.names),
        ] {
            self.overflow.get_or_create(&What { what }).inc_by(after.saturating_sub(before));
        }
    }

    fn count_exchanges(&self, before: Exchanges, after: Exchanges) {
        for (outcome, before, after) in [
            ("attached", before.links_attached, after.links_attached),
            ("replaced", before.links_replaced, after.links_replaced),
            ("refused", before.links_refused, after.links_refused),
            ("closed", before.links_closed, after.links_closed),
        ] {
            let label = OutcomeLabel { outcome };
            self.links.get_or_create(&label).inc_by(after.saturating_sub(before));
        }
        for (reason, before, after) in [
            ("no_base", before.no_base, after.no_base),
            ("gap", before.gaps, after.gaps),
            ("digest", before.digests, after.digests),
        ] {
            let label = Reason { reason };
            self.full_reports_asked.get_or_create(&label).inc_by(after.saturating_sub(before));
        }
        let refused = after.reports_refused.saturating_sub(before.reports_refused);
        self.reports_refused.inc_by(refused);
    }
}
