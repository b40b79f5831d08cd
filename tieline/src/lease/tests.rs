use std::collections::BTreeMap;

use directive::Watts;
use jiff::Timestamp;
use switchboard::commitment::{Doing, Unconfirmed};
use switchboard::inventory::MachineState;
use switchboard::view::{
    AdmissionAnswer, BreachView, ErrorView, LeadView, LeasePlanView, LineView, Shortage,
};
use switchboard::words::Named;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::times::Zone;

fn at(text: &str) -> Timestamp {
    format!("2026-{text}:00Z").parse().expect("a time")
}

/// Formats times for Chicago, where it is 05:31.
fn shown() -> Shown {
    Shown { zone: Zone::named("America/Chicago"), now: at("11-30T11:31") }
}

fn fits(text: String) -> String {
    for line in text.lines() {
        assert!(line.width() <= 80, "{line}");
    }
    text
}

fn lead() -> LeadView {
    LeadView {
        text: "111 s = ramp 46 (for 7,987 kW) + shed p95 20 + settle 10 + proof 5 + margin 30"
            .into(),
        total_secs: 111.0,
        shed: Watts(7_987_000),
        ramp_secs: 46.0,
        dispatch_secs: 0.0,
        shed_p95_secs: 20.0,
        settle_secs: 10.0,
        prove_for_secs: 5.0,
        margin_secs: 30.0,
    }
}

/// A planned lease of 8 MW for a day.
pub(crate) fn lease(id: &str) -> LeaseView {
    LeaseView {
        id: id.into(),
        tenant: "Nebula".into(),
        it: Watts(6_400_000),
        pue: 1.25,
        gross: Watts(8_000_000),
        feed: "xfmr-a".into(),
        start: at("12-01T12:00"),
        end: at("12-02T12:00"),
        ready_before_secs: 300,
        ready_from: at("12-01T11:55"),
        follows: None,
        accept_unverified: false,
        meter: Some("nebula-hall".into()),
        committed_at: at("11-30T10:00"),
        cancelled_at: None,
        state: Phase::Planned,
        state_reason: String::new(),
        in_plan_from: None,
        latest_safe_start: Some(at("12-01T11:49")),
        unverified: false,
        unverified_why: None,
        unconfirmed: None,
        unconfirmed_at: None,
        breached: false,
        breaches: Vec::new(),
        proven_at: None,
        closed_at: None,
        short: None,
        not_back: Named::default(),
        machines_by_state: BTreeMap::new(),
        lease_plan: Some(LeasePlanView {
            machines_planned: 2629,
            machines_starved: 0,
            shed: Watts(7_987_000),
            lead: lead(),
            latest_safe_start: at("12-01T11:49"),
        }),
    }
}

fn short() -> Shortage {
    Shortage {
        feed: "xfmr-a".into(),
        from: at("12-01T11:55"),
        to: None,
        missing: Watts(8_700_000),
        machines_seen: 0,
        machines_declared: 5400,
        machines_failing: 0,
        known_since: None,
    }
}

fn line(feed: &str, usable: i64, available: i64, asked: i64) -> LineView {
    LineView {
        text: "unused".into(),
        feed: feed.into(),
        from: at("12-01T11:55"),
        to: at("12-02T12:00"),
        usable: Watts(usable),
        house: Watts(600_000),
        committed: Watts::ZERO,
        residual: Watts(108_000),
        unsheddable: Watts::ZERO,
        unassigned: Watts(35_000),
        available: Watts(available),
        asked: Watts(asked),
        missing: Watts((asked - available).max(0)),
    }
}

fn answer(lease: LeaseView) -> LeaseAnswer {
    LeaseAnswer {
        api_version: 1,
        timezone: "America/Chicago".into(),
        lease,
        arithmetic: vec![
            line("xfmr-a", 19_750_000, 19_007_000, 8_000_000),
            line("poi", 37_500_000, 32_220_000, 8_000_000),
        ],
    }
}

#[test]
fn a_list_of_leases() {
    let mut lacking = lease("nebula-7");
    lacking.short = Some(short());
    // The switchboard's reason says the same, so it is shown once.
    lacking.state_reason = words::shortage(&short(), &shown());
    let mut broken = lease("lumen-training-run-2026-12-with-a-long-name");
    broken.state = Phase::Active;
    broken.unverified = true;
    broken.breached = true;
    broken.breaches = vec![BreachView {
        at: at("11-30T11:00"),
        since: None,
        missing: Watts(420_000),
        measured: true,
        doing: Some(Doing::Tenant),
        why: "xfmr-a: headroom 7580.000 kW, needed 8000.000 kW".into(),
    }];
    let mut over = lease("old");
    over.state = Phase::Closed;
    over.gross = Watts(16_000);
    over.start = at("11-30T09:00");
    over.end = at("11-30T10:30");
    over.cancelled_at = Some(at("11-30T10:00"));
    let mut silent = lease("silent");
    silent.state = Phase::Active;
    silent.state_reason =
        "the meters prove 8,010 kW free of 8,000 kW; 4 machines unconfirmed since 05:10: a, b"
            .into();
    silent.unconfirmed = Some(Unconfirmed {
        since: at("11-30T11:10"),
        machines: Named { count: 4, examples: ["rig-1", "rig-2", "rig-3"].map(Into::into).into() },
    });
    insta::assert_snapshot!(fits(words::list(&[lacking, broken, silent, over], &shown(), 80)));
}

#[test]
fn one_lease() {
    let mut lease = lease("nebula-7");
    lease.state = Phase::Shedding;
    lease.short = Some(short());
    lease.machines_by_state = BTreeMap::from([
        (MachineState::Commanded, 120),
        (MachineState::Curtailed, 2500),
        (MachineState::Disobedient, 9),
    ]);
    insta::assert_snapshot!(fits(words::show(&answer(lease), &shown(), 80)));
}

#[test]
fn a_lease_beyond_the_horizon() {
    let mut lease = lease("nebula-9");
    lease.lease_plan = None;
    lease.in_plan_from = Some(at("11-30T18:00"));
    lease.state_reason = "in the plan from 2026-11-30 12:00".into();
    let text = fits(words::show(&answer(lease), &shown(), 80));
    assert!(text.starts_with("lease nebula-9: planned (in the plan from 12:00)\n"), "{text}");
    assert_eq!(text.matches("in the plan from").count(), 1, "{text}");
}

#[test]
fn a_shortage_is_told_once_and_nothing_is_said_to_be_free() {
    let mut lease = lease("nebula-7");
    lease.in_plan_from = Some(at("11-30T18:00"));
    lease.short = Some(short());
    let words = short().words(&jiff::tz::TimeZone::UTC, shown().now);
    lease.state_reason = format!("in the plan from 2026-11-30 12:00; {words}");
    assert_eq!(
        words::notes(&lease, &shown()),
        [words::shortage(&short(), &shown()), "in the plan from 2026-11-30 12:00".to_owned()]
    );
    lease.in_plan_from = None;
    lease.state_reason = words;
    let plan = lease.lease_plan.as_mut().expect("it is planned");
    (plan.machines_planned, plan.shed) = (0, Watts::ZERO);
    let text = fits(words::show(&answer(lease.clone()), &shown(), 80));
    assert_eq!(text.matches("short 8,700 kW").count(), 1, "{text}");
    assert!(text.contains("no machine goes: none is known that could"), "{text}");
    // If no machine must sleep, there is no latest safe start.
    assert!(!text.contains("is free") && !text.contains("at the latest"), "{text}");
    lease.short = None;
    let text = fits(words::show(&answer(lease), &shown(), 80));
    assert!(text.contains("no machine has to go: the power is free"), "{text}");
}

#[test]
fn tenants_stand_below_where_the_table_has_no_room() {
    let mut to_the_second = lease("nebula-7");
    to_the_second.start = "2026-12-01T12:00:11Z".parse().expect("a time");
    to_the_second.end = "2026-12-02T12:00:11Z".parse().expect("a time");
    to_the_second.tenant = "Nebula Training and Inference".into();
    let text = fits(words::list(&[to_the_second], &shown(), 80));
    assert!(text.contains("\n    tenant Nebula Training and Inference\n"), "{text}");
}

#[test]
fn a_dry_run_says_what_is_short() {
    let answer = AdmissionAnswer {
        api_version: 1,
        timezone: "America/Chicago".into(),
        fits: true,
        gross: Watts(8_000_000),
        latest_safe_start: at("12-01T11:49"),
        lead: lead(),
        ready_from: at("12-01T11:55"),
        follows: None,
        short: Some(short()),
        short_leases: vec![switchboard::view::ShortLease {
            lease: "lumen-2".into(),
            tenant: "Lumen".into(),
            short: Shortage { missing: Watts(400_000), ..short() },
        }],
        arithmetic: vec![line("xfmr-a", 19_750_000, 19_007_000, 8_000_000)],
    };
    insta::assert_snapshot!(fits(words::admission(&answer, "xfmr-a", &shown(), 80)));
}

fn refused(error: ErrorView) -> String {
    fits(refusal::explained(&error, &shown(), 80).expect("a refusal with figures"))
}

#[test]
fn refusals_say_the_arithmetic_once() {
    let worst = line("xfmr-a", 19_750_000, 19_007_000, 25_000_000);
    let error = |code: &str| ErrorView {
        code: code.into(),
        message: "does not fit: xfmr-a from … to …: usable …".into(),
        feed: Some("xfmr-a".into()),
        from: Some(worst.from),
        to: Some(worst.to),
        missing_kw: Some(5993.0),
        missing_watts: Some(Watts(5_993_000)),
        arithmetic: vec![worst.clone(), line("poi", 37_500_000, 32_220_000, 25_000_000)],
        ..ErrorView::default()
    };
    let text = refused(error("does_not_fit"));
    assert_eq!(text.matches("usable").count(), 1, "{text}");
    insta::assert_snapshot!(text);
    insta::assert_snapshot!(refused(error("needs_accept_unverified")));
}

#[test]
fn refusals_without_arithmetic() {
    insta::assert_snapshot!(refused(ErrorView {
        code: "too_late".into(),
        message: "too late by 90 s: shedding should have begun at 2026-11-30T11:29:30Z; it needs \
                  111 s = ramp 46 (for 23.000 kW) + shed p95 20 + settle 10 + proof 5 + margin 30"
            .into(),
        missing_secs: Some(90),
        latest_safe_start: Some(at("11-30T11:29")),
        ..ErrorView::default()
    }));
    insta::assert_snapshot!(refused(ErrorView {
        code: "not_provable".into(),
        feed: Some("hall-3".into()),
        ..ErrorView::default()
    }));
}

#[test]
fn a_lease_that_is_over_cannot_be_cancelled() {
    let mut closed = lease("nebula-7");
    closed.state = Phase::Closed;
    closed.closed_at = Some(at("11-30T11:00"));
    assert_eq!(
        over(&closed, &shown()).as_deref(),
        Some("lease nebula-7 is closed already since 05:00: nothing was changed")
    );
    let mut cancelled = lease("nebula-7");
    cancelled.cancelled_at = Some(at("11-30T11:00"));
    assert_eq!(
        over(&cancelled, &shown()).as_deref(),
        Some("lease nebula-7 was cancelled already at 05:00: nothing was changed")
    );
    let mut ended = lease("nebula-7");
    ended.state = Phase::Releasing;
    assert!(over(&ended, &shown()).is_some_and(|text| text.contains("machines are coming back")));
    for phase in [Phase::Planned, Phase::Armed, Phase::Shedding, Phase::Proven, Phase::Active] {
        let open = LeaseView { state: phase, ..lease("nebula-7") };
        assert_eq!(over(&open, &shown()), None, "{phase:?}");
    }
}

#[test]
fn only_machines_that_had_gone_come_back() {
    assert_eq!(
        super::cancelled(&lease("a"), false),
        "lease a is cancelled; no machine had gone for it"
    );
    let mut down = lease("a");
    down.state = Phase::Proven;
    down.machines_by_state = BTreeMap::from([(MachineState::Curtailed, 4)]);
    assert_eq!(
        super::cancelled(&down, false),
        "lease a is cancelled; its machines come back to mining"
    );
    assert_eq!(
        super::cancelled(&down, true),
        "lease a would be cancelled; its machines would come back to mining. Nothing was changed"
    );
}

#[test]
fn a_breach_is_told_once_with_its_figure() {
    let mut broken = lease("nebula-7");
    broken.state = Phase::Shedding;
    broken.breached = true;
    let why = |feed: &str| format!("not proven by 05:25: the meter of {feed} is silent");
    let breach = |at, feed: &str, measured| BreachView {
        at,
        since: None,
        missing: Watts(16_000),
        measured,
        doing: None,
        why: why(feed),
    };
    broken.breaches =
        vec![breach(at("11-30T11:20"), "poi", true), breach(at("11-30T11:25"), "hall", false)];
    broken.state_reason = "the meter of hall is silent; 4 machines on the way down".into();
    let text = words::show(&answer(broken), &shown(), 200);
    for line in [
        "  BREACHED at 05:25, 16.0 kW missing (not measured): not proven",
        "  breach     05:20, 16.0 kW missing: not proven",
        "  4 machines on the way down\n",
    ] {
        assert_eq!(text.matches(line).count(), 1, "{line} in {text}");
    }
    assert_eq!(text.matches("the meter of hall is silent").count(), 1, "{text}");
}
