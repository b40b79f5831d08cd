use directive::{Generation, Watts};
use switchboard::cause::OffBy;
use switchboard::view::{PlanBody, ShortLease, Shortage};
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::lease::tests::lease;
use crate::times::Zone;

fn at(text: &str) -> Timestamp {
    format!("2026-{text}:00Z").parse().expect("a time")
}

/// Formats times for Chicago, where it is 05:31.
fn shown() -> Shown {
    Shown { zone: Zone::named("America/Chicago"), now: at("11-30T11:31") }
}

/// A step of `count` machines of a group; `first` numbers them.
fn step(time: &str, group: &str, action: Action, lease: Option<&str>, count: usize) -> StepView {
    let first = time.replace([':', '-', 'T'], "");
    let reason = match (lease, action) {
        (Some(lease), Action::Run) => format!(
            "lease {lease} gives 8000.000 kW at xfmr-a back at 2026-12-02T12:00:00Z: {count} × {group} on xfmr-a may mine again (29.5 J/TH)"
        ),
        (Some(lease), _) => format!(
            "lease {lease} takes 8000.000 kW at xfmr-a from 2026-11-30T12:30:00Z and needs them proven free by 2026-11-30T12:25:00Z: {count} × {group} on xfmr-a free 3.038 kW (29.5 J/TH)"
        ),
        (None, _) => {
            format!("feed xfmr-a is short by itself: {count} × {group} free 3.038 kW (29.5 J/TH)")
        }
    };
    StepView {
        at: at(time),
        group: group.into(),
        action,
        means: Means::Device,
        machine_names: (0..count)
            .map(|index| format!("childress.{group}-{first}-{index:04}").as_str().into())
            .collect(),
        lease: lease.map(Into::into),
        cause: Some(if lease.is_some() { OffBy::Lease } else { OffBy::Load }),
        feed: lease.is_none().then(|| "xfmr-a".into()),
        reason,
        failsafe: false,
    }
}

fn failsafe(time: &str, group: &str, down: &str, count: usize) -> StepView {
    StepView {
        reason: format!(
            "the plan ends at 2026-12-03T12:00:00Z and firm leases run on: down to {down}"
        ),
        cause: None,
        feed: None,
        failsafe: true,
        ..step(time, group, Action::Drain, None, count)
    }
}

fn view(steps: Vec<StepView>) -> PlanView {
    PlanView {
        api_version: 1,
        timezone: "America/Chicago".into(),
        number: Generation { epoch: 3, generation: 14 },
        plan: Some(PlanBody {
            made_at: at("11-30T11:30"),
            horizon: at("12-03T12:00"),
            policy_digest: "d".into(),
            steps,
            rooms: Vec::new(),
            lease_plans: std::collections::BTreeMap::new(),
            deficits: Vec::new(),
        }),
        short_leases: Vec::new(),
    }
}

fn short() -> Shortage {
    Shortage {
        feed: "xfmr-a".into(),
        from: at("11-30T12:00"),
        to: None,
        missing: Watts(8_700_000),
        machines_seen: 0,
        machines_declared: 5400,
        machines_failing: 0,
        known_since: None,
    }
}

fn told(view: &PlanView, leases: &[LeaseView], machines: bool) -> String {
    let text = text(view, leases, &shown(), 80, machines);
    for line in text.lines() {
        assert!(line.width() <= 80, "{line}");
    }
    text
}

/// A ramp down of two groups, minute by minute and alternating, and up again two days later.
fn ramps() -> Vec<StepView> {
    let mut steps = Vec::new();
    for minute in 0..13 {
        let time = format!("11-30T12:{minute:02}");
        steps.push(step(&time, "s19jpro-a", Action::Drain, Some("nebula-7"), 100));
        steps.push(step(&time, "s21-b", Action::Drain, Some("nebula-7"), 3));
    }
    for minute in [10, 25] {
        steps.push(step(
            &format!("12-02T12:{minute:02}"),
            "s19jpro-a",
            Action::Run,
            Some("nebula-7"),
            650,
        ));
    }
    steps
}

#[test]
fn a_ramp_is_one_line_for_each_group() {
    let steps = ramps();
    let lines = folded(&steps.iter().collect::<Vec<_>>(), &shown());
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line.group.as_str(), line.action, line.from, line.to, line.machines.len()))
        .collect();
    assert_eq!(
        seen,
        [
            ("s19jpro-a", Action::Drain, at("11-30T12:00"), at("11-30T12:12"), 1300),
            ("s21-b", Action::Drain, at("11-30T12:00"), at("11-30T12:12"), 39),
            ("s19jpro-a", Action::Run, at("12-02T12:10"), at("12-02T12:25"), 1300),
        ]
    );
}

#[test]
fn what_differs_is_not_folded() {
    let two = |second: StepView| {
        let first = step("11-30T12:00", "s19", Action::Drain, Some("a"), 1);
        folded(&[&first, &second], &shown()).len()
    };
    assert_eq!(two(step("11-30T12:10", "s19", Action::Drain, Some("a"), 1)), 1);
    assert_eq!(two(step("11-30T12:10", "s21", Action::Drain, Some("a"), 1)), 2, "another group");
    assert_eq!(two(step("11-30T12:10", "s19", Action::Drain, Some("b"), 1)), 2, "another lease");
    assert_eq!(two(step("11-30T12:10", "s19", Action::Drain, None, 1)), 2, "another reason");
    assert_eq!(two(step("11-30T12:10", "s19", Action::Run, Some("a"), 1)), 2, "another action");
    assert_eq!(two(step("11-30T13:01", "s19", Action::Drain, Some("a"), 1)), 2, "much later");
    let starved = StepView {
        means: Means::Starve,
        ..step("11-30T12:10", "s19", Action::Drain, Some("a"), 1)
    };
    assert_eq!(two(starved), 2, "by another means");
}

#[test]
fn what_comes_back_in_between_ends_a_line() {
    let steps = [
        step("11-30T12:00", "s19", Action::Drain, Some("a"), 1),
        step("11-30T12:10", "s19", Action::Run, Some("b"), 1),
        step("11-30T12:20", "s19", Action::Drain, Some("a"), 1),
    ];
    assert_eq!(folded(&steps.iter().collect::<Vec<_>>(), &shown()).len(), 3);
}

#[test]
fn a_line_does_not_go_over_midnight() {
    let steps = [
        step("12-01T05:50", "s19", Action::Drain, Some("a"), 1),
        step("12-01T06:10", "s19", Action::Drain, Some("a"), 1),
    ];
    assert_eq!(folded(&steps.iter().collect::<Vec<_>>(), &shown()).len(), 2, "midnight in Chicago");
}

#[test]
fn a_machine_of_two_steps_counts_once() {
    let once = step("11-30T12:00", "s19", Action::Drain, Some("a"), 5);
    let again = StepView { at: at("11-30T12:01"), ..once.clone() };
    assert!(told(&view(vec![once, again]), &[], false).contains("  sleep         5  s19"));
}

#[test]
fn a_plan_for_people() {
    let mut steps = ramps();
    steps.extend([
        failsafe("12-03T12:00", "s19jpro-a", "12000.000 kW at xfmr-a", 3600),
        failsafe("12-03T12:30", "s19jpro-a", "12000.000 kW at xfmr-a", 12),
        failsafe("12-03T12:30", "s21-b", "15000.000 kW at xfmr-b", 1200),
    ]);
    insta::assert_snapshot!(told(&view(steps), &[], false));
}

#[test]
fn what_was_done_already_is_told_apart() {
    let steps = vec![
        step("11-29T12:00", "s19", Action::Drain, Some("a"), 3),
        step("11-30T11:20", "s21", Action::Drain, Some("a"), 3),
        step("11-30T11:30", "s21", Action::Drain, Some("a"), 1),
        step("11-30T12:00", "s19", Action::Run, Some("a"), 3),
    ];
    insta::assert_snapshot!(told(&view(steps), &[], false));
}

#[test]
fn a_plan_with_names() {
    let steps = vec![
        step("11-30T12:00", "s19jpro-a", Action::Drain, Some("nebula-7"), 3),
        step("11-30T12:01", "s19jpro-a", Action::Drain, Some("nebula-7"), 2),
        failsafe("12-03T12:00", "s19jpro-a", "12000.000 kW at xfmr-a", 2),
    ];
    insta::assert_snapshot!(told(&view(steps), &[], true));
}

#[test]
fn what_is_short_comes_first_and_is_never_nothing_to_do() {
    let mut short_of_all = view(Vec::new());
    short_of_all.short_leases =
        vec![ShortLease { lease: "nebula-7".into(), tenant: "Nebula".into(), short: short() }];
    insta::assert_snapshot!(told(&short_of_all, &[], false));

    let mut feed_only = view(Vec::new());
    feed_only.plan.as_mut().expect("a plan").deficits = vec![short()];
    let text = told(&feed_only, &[], false);
    assert!(
        text.starts_with("short 8,700 kW at xfmr-a from 06:00 (0 of 5,400 machines seen)\n"),
        "{text}"
    );
    assert!(!text.contains("nothing to do"), "{text}");
}

#[test]
fn a_lease_beyond_the_horizon_is_named() {
    let mut far = lease("nebula-9");
    far.lease_plan = None;
    far.in_plan_from = Some(at("12-17T13:30"));
    far.start = at("12-20T12:00");
    far.end = at("12-21T12:00");
    insta::assert_snapshot!(told(&view(Vec::new()), &[far], false));
}

#[test]
fn nothing_to_do_is_said_only_when_it_is_so() {
    let text = told(&view(Vec::new()), &[], false);
    assert!(
        text.starts_with("nothing to do before 2026-12-03 06:00: every machine may run\n"),
        "{text}"
    );
    let none = PlanView { plan: None, ..view(Vec::new()) };
    assert!(told(&none, &[], false).starts_with("no plan yet"));
}

#[test]
fn names_of_machines_cannot_touch_the_terminal() {
    let mut odd = step("11-30T12:00", "s19", Action::Drain, Some("a"), 1);
    odd.machine_names = vec!["\u{1b}[2Jrig".into()];
    assert!(!told(&view(vec![odd]), &[], true).contains('\u{1b}'));
}
