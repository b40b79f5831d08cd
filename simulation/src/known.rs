//! Weaknesses that are known: rules that today's control plane breaks, each with the cause by which
//! the judge recognises it. They stand in docs/reliability.md with a seed that shows them; whatever
//! is not in this list fails the suite.

use std::time::Duration;

use crate::judge::{Cause, Kind, Violation};
use crate::scenario::{Scenario, Trouble};

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
    // In a world without trouble nothing explains a message, a command or a machine gone wrong.
    let calm = scenario.trouble == Trouble::Calm;
    KNOWN
        .iter()
        .find(|known| known.kind == violation.kind && known.causes.contains(&violation.cause))
        .filter(|known| !calm || !NEVER_CALM.contains(&known.id))
        .filter(|known| known.id != "N1" || violation.span.to - violation.span.from <= LATE_MOST)
}

/// Row N1 has been seen by seconds only. A command that is later than this is another fault, such as
/// a lowering that follows a stepped wall clock.
const LATE_MOST: Duration = Duration::from_secs(30);

/// Rows that have only been seen in worlds with trouble.
const NEVER_CALM: [&str; 9] = ["N2", "N3", "N4", "C1", "C2", "C3", "C4", "C5", "C6"];

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
            Cause::Nameplate,
            Cause::Device,
            Cause::Derate,
            Cause::Outage,
            Cause::Decision,
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
    Known { id: "P4", kind: Kind::RampDown, causes: &[Cause::Decision] },
    Known { id: "L1", kind: Kind::ProvenNotFree, causes: &[Cause::Decision, Cause::Unmetered] },
    Known {
        id: "L2",
        kind: Kind::MissingUnrecorded,
        causes: &[Cause::Decision, Cause::Clock, Cause::TenantOutside],
    },
    Known {
        id: "L3",
        kind: Kind::FreeNotProven,
        causes: &[Cause::Decision, Cause::Unmetered, Cause::Clock, Cause::Outage],
    },
    Known {
        id: "L4",
        kind: Kind::BreachOfNothing,
        causes: &[Cause::Settle, Cause::Decision, Cause::Unmetered, Cause::Meter, Cause::Clock],
    },
    Known {
        id: "L5",
        kind: Kind::BreachOfWrongSide,
        causes: &[Cause::TenantOver, Cause::TenantOutside, Cause::Derate],
    },
    Known { id: "N1", kind: Kind::LateShed, causes: &[Cause::Decision] },
    Known { id: "N2", kind: Kind::SleptUnwanted, causes: &[Cause::Decision] },
    Known { id: "N3", kind: Kind::OldTimelineObeyed, causes: &[Cause::Decision, Cause::StateLost] },
    Known {
        id: "N4",
        kind: Kind::RaisedWithoutPermit,
        causes: &[Cause::Decision, Cause::StateLost],
    },
    Known { id: "C1", kind: Kind::LateShed, causes: &[Cause::Clock] },
    Known { id: "C2", kind: Kind::OldTimelineObeyed, causes: &[Cause::Clock] },
    Known {
        id: "C3",
        kind: Kind::RaisedAgainstTimeline,
        causes: &[Cause::Clock, Cause::StateLost],
    },
    Known { id: "C4", kind: Kind::EarlyShed, causes: &[Cause::Decision, Cause::StateLost] },
    Known { id: "C5", kind: Kind::Forgotten, causes: &[Cause::StateLost] },
    Known { id: "C6", kind: Kind::Flapping, causes: &[Cause::Outage] },
];
