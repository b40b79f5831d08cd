//! States why a lease is in its phase, in one sentence for the API, the log and the command line.

use directive::Watts;

use super::{Commitment, Evidence, Held, Phase, Terms};
use crate::lease::Lease;
use crate::words::{machines, plural, when};

impl Commitment {
    /// Returns why the lease is in its phase. For a closed lease, the ledger has the reason.
    #[must_use]
    pub fn reason(&self, lease: &Lease, evidence: &Evidence, terms: &Terms) -> String {
        let reason = match self.phase {
            Phase::Planned => plan(evidence, terms).unwrap_or_else(|| held(evidence)),
            Phase::Armed => armed(evidence, terms),
            Phase::Shedding => shedding(evidence),
            Phase::Proven => {
                let start = when(lease.start, &terms.zone);
                format!("{}; the lease starts at {start}", evidence.words())
            }
            Phase::Active => active(lease, evidence, terms),
            Phase::Releasing => releasing(evidence),
            Phase::Closed => return String::new(),
        };
        match &self.unconfirmed {
            Some(unconfirmed) => format!(
                "{reason}; {} unconfirmed since {}: {}",
                unconfirmed.machines.counted(),
                when(unconfirmed.since, &terms.zone),
                unconfirmed.machines.names()
            ),
            None => reason,
        }
    }
}

/// Returns why the plan does not free the lease's power, if it does not.
pub(super) fn plan(evidence: &Evidence, terms: &Terms) -> Option<String> {
    let beyond =
        evidence.in_plan_from.map(|from| format!("in the plan from {}", when(from, &terms.zone)));
    let short = evidence.short.as_ref().map(|short| short.words(&terms.zone, evidence.at));
    match (beyond, short) {
        (Some(beyond), Some(short)) => Some(format!("{beyond}; {short}")),
        (beyond, short) => beyond.or(short),
    }
}

pub(super) fn due(evidence: &Evidence) -> String {
    if evidence.off == 0 {
        return "no machine has to go; headroom is to be proven".to_owned();
    }
    format!("the first of {} is due to go", machines(evidence.off))
}

pub(super) fn held(evidence: &Evidence) -> String {
    match evidence.held {
        Held::Everywhere => "every receiver holds the steps that free its power".to_owned(),
        Held::Behind { receivers, silent, number } => {
            let waited = plural(receivers, "receiver");
            let silent = if silent > 0 { format!(" ({silent} silent)") } else { String::new() };
            format!("waiting for {waited} to hold timeline {number}{silent}")
        }
        Held::Refused { receivers } => {
            let verbs = if receivers == 1 { ["holds", "refuses"] } else { ["hold", "refuse"] };
            format!(
                "{} {} a timeline that this switchboard has not made, and {} its own",
                plural(receivers, "receiver"),
                verbs[0],
                verbs[1],
            )
        }
        Held::NoReceiver => "waiting for a proxy or an agent to report".to_owned(),
        Held::NoAgent => "waiting for an agent to report, which its machines need".to_owned(),
        Held::Nowhere => "waiting to be planned".to_owned(),
    }
}

fn armed(evidence: &Evidence, terms: &Terms) -> String {
    let due = when(evidence.due_at, &terms.zone);
    let steps = match evidence.off {
        0 => format!("no machine has to go; the proof begins at {due}"),
        off => format!("{} to go, the first at {due}", machines(off)),
    };
    // Until this has lasted, the lease stays armed.
    if evidence.is_held() { steps } else { format!("{steps}; {}", held(evidence)) }
}

fn shedding(evidence: &Evidence) -> String {
    match evidence.under_way {
        0 => evidence.words(),
        count => format!("{}; {} on the way down", evidence.words(), machines(count)),
    }
}

fn active(lease: &Lease, evidence: &Evidence, terms: &Terms) -> String {
    let until = format!("until {}", when(lease.ends(), &terms.zone));
    let unmetered = |watts: Watts| watts > Watts::ZERO;
    match evidence.surely_short() {
        Some((figure, _)) => format!("{figure}; {until}"),
        None if evidence.figures.iter().any(|figure| figure.headroom.is_none()) => {
            format!("{}; {until}", evidence.words())
        }
        None if evidence.figures.iter().any(|figure| unmetered(figure.unmetered)) => until,
        None => format!("{}; {until}", evidence.words()),
    }
}

fn releasing(evidence: &Evidence) -> String {
    let not_back = &evidence.not_back;
    let missing = format!("{} not back: {}", not_back.counted(), not_back.names());
    match (evidence.off, not_back.is_empty()) {
        (0, true) => "every machine is back".to_owned(),
        (0, false) => missing,
        (off, true) => format!("{} still off, to come back in turn", machines(off)),
        (off, false) => format!("{} still off, to come back in turn; {missing}", machines(off)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use directive::{Generation, Watts};
    use jiff::tz::TimeZone;

    use super::super::{Figure, Unconfirmed};
    use super::*;
    use crate::fixture::{at, lease};
    use crate::words::Named;

    fn reason(phase: Phase, change: impl FnOnce(&mut Evidence, &mut Commitment)) -> String {
        let figure = |feed: &str, headroom| Figure {
            feed: feed.into(),
            headroom: Some(Watts(headroom)),
            needed: Watts(1_500_000),
            unmetered: Watts::ZERO,
            renewed: Watts::ZERO,
            taken_at: None,
            doubt: None,
            is_implausible: false,
            blame: None,
        };
        let mut evidence = Evidence {
            at: at(0),
            held: Held::Everywhere,
            metered: true,
            off: 12,
            due_at: at(845),
            figures: vec![figure("a", 1_200_000), figure("root", 9_000_000)],
            ..Evidence::default()
        };
        let mut commitment = Commitment { phase, ..Commitment::default() };
        change(&mut evidence, &mut commitment);
        let terms = Terms {
            prove_for: Duration::from_secs(5),
            settle: Duration::from_secs(10),
            silence: Duration::from_secs(15),
            zone: TimeZone::get("Europe/Oslo").unwrap(),
        };
        commitment.reason(&lease("l", "a", 1_500_000, 1000, 2000), &evidence, &terms)
    }

    #[test]
    fn every_phase_says_why_in_figures_and_site_time() {
        use Phase::{Active, Armed, Planned, Proven, Releasing, Shedding};
        let number = Generation { epoch: 3, generation: 14 };
        let behind = Held::Behind { receivers: 2, silent: 0, number };
        let silent = Held::Behind { receivers: 2, silent: 1, number };
        let mut one = Named::default();
        one.add(&"m.033".into());
        let table = [
            (
                reason(Planned, |e, _| e.in_plan_from = Some(at(400))),
                "in the plan from 2027-01-15 09:06:40",
            ),
            (
                reason(Planned, |e, _| e.held = behind),
                "waiting for 2 receivers to hold timeline 3.14",
            ),
            (
                reason(Planned, |e, _| e.held = silent),
                "waiting for 2 receivers to hold timeline 3.14 (1 silent)",
            ),
            (reason(Armed, |_, _| {}), "12 machines to go, the first at 2027-01-15 09:14:05"),
            (
                reason(Armed, |e, _| e.held = behind),
                "12 machines to go, the first at 2027-01-15 09:14:05; waiting for 2 receivers to hold timeline 3.14",
            ),
            (
                reason(Shedding, |e, _| e.under_way = 3),
                "headroom 1,200 kW of 1,500 kW at a; 3 machines on the way down",
            ),
            (
                reason(Shedding, |e, _| e.figures[1].headroom = None),
                "the meter of root is silent, 1,500 kW needed",
            ),
            (
                reason(Proven, |e, _| e.figures.truncate(1)),
                "headroom 1,200 kW of 1,500 kW at a; the lease starts at 2027-01-15 09:16:40",
            ),
            (
                reason(Active, |e, c| {
                    e.figures[0].headroom = Some(Watts(1_500_000));
                    c.unconfirmed = Some(Unconfirmed { since: at(700), machines: one });
                }),
                "headroom 1,500 kW of 1,500 kW at a; until 2027-01-15 09:33:20; 1 machine unconfirmed since 2027-01-15 09:11:40: m.033",
            ),
            (reason(Releasing, |_, _| {}), "12 machines still off, to come back in turn"),
        ];
        for (reason, words) in table {
            assert_eq!(reason, words);
        }
    }
}
