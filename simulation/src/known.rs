//! Weaknesses that are known: rules that today's control plane breaks, each with the cause by which
//! the judge recognises it. They stand in docs/reliability.md with a seed that shows them; whatever
//! is not in this list fails the suite.

use std::time::Duration;

use directive::Watts;

use crate::facility::spec::Measured;
use crate::judge::{Cause, Kind, Place, Violation};
use crate::record::{MeterFault, Role, Span, StateFound};
use crate::scenario::{Act, Scenario, Trouble};

/// One row of the table: a broken rule, and the causes with which it is known. A rule that is broken
/// by another cause is new.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its name in docs/reliability.md.
    pub id: &'static str,
    pub kind: Kind,
    pub causes: &'static [Cause],
}

/// The row that a violation belongs to, if it is known.
#[must_use]
pub fn known(scenario: &Scenario, violation: &Violation) -> Option<&'static Known> {
    KNOWN
        .iter()
        .filter(|known| known.kind == violation.kind && known.causes.contains(&violation.cause))
        .find(|known| is_within_bounds(known, scenario, violation))
}

/// Whether a violation is no more than what its row has been seen to be.
fn is_within_bounds(known: &Known, scenario: &Scenario, violation: &Violation) -> bool {
    let span = violation.span.to.saturating_sub(violation.span.from);
    let has = |troubles: &[Trouble]| troubles.iter().any(|kind| scenario.trouble.has(*kind));
    match known.id {
        "P1" | "L2" | "L4" | "L6" if violation.cause == Cause::Meter => {
            is_off_by_little(scenario, violation.span)
        }
        "P1" if violation.cause == Cause::Outage => loses_its_ledger(scenario),
        "P5" if violation.cause == Cause::Decision => {
            has(&[Trouble::Loads]) && span <= NOT_GIVEN_BACK_MOST
        }
        // What waits for a disk, or for a state that was lost, has no bound but the fleet.
        "P2" | "P3" if has(&[Trouble::Disks, Trouble::Memory]) => true,
        "P2" => violation.watts <= together(scenario, scenario.rules.up_per_min, MINUTE),
        "P3" => {
            let (rules, largest) = (scenario.rules, largest(scenario));
            let step = Watts(largest.0 * i64::from(rules.up_step_machines));
            violation.watts <= step + together(scenario, step, rules.up_step_interval)
        }
        "P4" => violation.watts <= FASTER_MOST,
        "P7" => violation.watts <= UNMETERED_MOST && !is_metered(scenario, &violation.place),
        "N4" if violation.cause == Cause::Decision => has(&[Trouble::Disks]),
        "L5" if violation.cause == Cause::Decision => has(&[Trouble::Policy]),
        "N5" if violation.cause == Cause::Clock => true,
        "N5" => span <= UNSHOWN_MOST,
        "C4" if violation.cause == Cause::Device => has(&[Trouble::Clocks, Trouble::Network]),
        "C4" => has(&[Trouble::Clocks]),
        "C10" => has(&[Trouble::Loads]) || (has(&[Trouble::Network]) && span <= MINUTE),
        "C5" => loses_its_ledger(scenario),
        _ => true,
    }
}

/// What is given within the time between two permits, where `watts` are in `time`: a receiver that
/// missed a permit uses it together with what is given next.
fn together(scenario: &Scenario, watts: Watts, time: Duration) -> Watts {
    // Where messages are lost, it may have missed two.
    let missed = if scenario.trouble.has(Trouble::Network) { 2.0 } else { 1.0 };
    watts.scale(missed * scenario.rules.permit_every.as_secs_f64() / time.as_secs_f64())
}

/// The largest nameplate.
fn largest(scenario: &Scenario) -> Watts {
    let groups = scenario.facility.groups.iter();
    groups.map(|group| group.nameplate).max().unwrap_or_default()
}

/// Whether a meter stands over the whole of a feed.
fn is_metered(scenario: &Scenario, place: &Place) -> bool {
    let mut meters = scenario.facility.meters.iter();
    meters.any(|meter| match (&meter.of, place) {
        (Measured::Feed(of), Place::Feed(feed)) => of == feed,
        _ => false,
    })
}

/// Whether a meter is off by less than what contradicts it for certain at some time in `span`.
fn is_off_by_little(scenario: &Scenario, span: Span) -> bool {
    let is_little =
        |fault| matches!(fault, MeterFault::Factor(factor) if (0.5..2.0).contains(&factor));
    scenario.facility.meters.iter().any(|meter| meter.faults_in(span).any(is_little))
}

/// Whether the switchboard starts at some time with a ledger that is lost or older.
fn loses_its_ledger(scenario: &Scenario) -> bool {
    let is_lost = |found: &StateFound| matches!(found, StateFound::Lost | StateFound::Older);
    scenario
        .acts
        .iter()
        .any(|(_, act)| matches!(act, Act::Start(Role::Switchboard, found) if is_lost(found)))
}

const MINUTE: Duration = Duration::from_secs(60);
/// What row P4 has been seen to shed in a minute beyond the ramp, at most.
const FASTER_MOST: Watts = Watts(16_000);
/// By how much row P7 has been seen to be above usable, at most.
const UNMETERED_MOST: Watts = Watts(600);
/// How long row N5 has been seen to last, at most.
const UNSHOWN_MOST: Duration = Duration::from_mins(4);

/// How long row P5 has been seen to last without a cause, at most.
const NOT_GIVEN_BACK_MOST: Duration = Duration::from_secs(780);

/// The table.
pub const KNOWN: &[Known] = &[
    Known {
        id: "P1",
        kind: Kind::AboveUsable,
        causes: &[
            Cause::Starved,
            Cause::House,
            Cause::TenantOver,
            Cause::TenantOutside,
            Cause::Device,
            Cause::Clock,
            Cause::StateLost,
            Cause::Meter,
            Cause::Outage,
        ],
    },
    Known {
        id: "P2",
        kind: Kind::RampUp,
        causes: &[Cause::Permit, Cause::Leases, Cause::Decision, Cause::Outage, Cause::Clock],
    },
    Known {
        id: "P3",
        kind: Kind::StepUp,
        causes: &[Cause::Permit, Cause::Leases, Cause::Decision, Cause::Outage, Cause::Clock],
    },
    Known { id: "P4", kind: Kind::RampDown, causes: &[Cause::Outage] },
    Known {
        id: "P7",
        kind: Kind::AboveUsable,
        causes: &[Cause::Nameplate, Cause::Outage, Cause::Derate],
    },
    Known {
        id: "P5",
        kind: Kind::ShedTooMuch,
        causes: &[
            Cause::Clock,
            Cause::Meter,
            Cause::Nameplate,
            Cause::Device,
            Cause::StateLost,
            Cause::Decision,
        ],
    },
    Known {
        id: "L2",
        kind: Kind::MissingUnrecorded,
        causes: &[Cause::Clock, Cause::Outage, Cause::StateLost, Cause::Unmetered, Cause::Meter],
    },
    Known { id: "L6", kind: Kind::ProvenNotFree, causes: &[Cause::StateLost, Cause::Meter] },
    Known {
        id: "L3",
        kind: Kind::FreeNotProven,
        causes: &[
            Cause::Unmetered,
            Cause::Meter,
            Cause::Clock,
            Cause::Outage,
            Cause::Settle,
            Cause::StateLost,
        ],
    },
    Known {
        id: "L4",
        kind: Kind::BreachOfNothing,
        causes: &[Cause::Settle, Cause::Unmetered, Cause::Clock, Cause::Outage, Cause::Meter],
    },
    Known {
        id: "L5",
        kind: Kind::BreachOfWrongSide,
        causes: &[Cause::TenantOver, Cause::TenantOutside, Cause::Decision],
    },
    Known {
        id: "M1",
        kind: Kind::HonestDoubted,
        causes: &[Cause::Clock, Cause::Outage, Cause::StateLost],
    },
    Known { id: "N2", kind: Kind::SleptUnwanted, causes: &[Cause::Device, Cause::StateLost] },
    Known { id: "N3", kind: Kind::OldTimelineObeyed, causes: &[Cause::Device, Cause::StateLost] },
    Known {
        id: "N4",
        kind: Kind::RaisedWithoutPermit,
        causes: &[Cause::StateLost, Cause::Clock, Cause::Decision],
    },
    Known {
        id: "N5",
        kind: Kind::AsleepUnshown,
        causes: &[Cause::Device, Cause::Clock, Cause::StateLost],
    },
    Known { id: "C1", kind: Kind::LateShed, causes: &[Cause::Clock] },
    Known { id: "C2", kind: Kind::OldTimelineObeyed, causes: &[Cause::Clock] },
    Known {
        id: "C3",
        kind: Kind::RaisedAgainstTimeline,
        causes: &[Cause::Clock, Cause::StateLost],
    },
    Known {
        id: "C4",
        kind: Kind::EarlyShed,
        causes: &[Cause::Decision, Cause::Clock, Cause::Device, Cause::StateLost],
    },
    Known { id: "C5", kind: Kind::Forgotten, causes: &[Cause::StateLost] },
    Known { id: "C6", kind: Kind::Flapping, causes: &[Cause::Outage] },
    Known { id: "C7", kind: Kind::Flapping, causes: &[Cause::Clock] },
    Known { id: "C8", kind: Kind::RampDown, causes: &[Cause::Clock] },
    Known {
        id: "C11",
        kind: Kind::PermittedWithoutRoom,
        causes: &[Cause::Clock, Cause::StateLost],
    },
    Known { id: "C10", kind: Kind::Flapping, causes: &[Cause::Decision] },
];
