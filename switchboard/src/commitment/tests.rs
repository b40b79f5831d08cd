use jiff::tz::TimeZone;

use super::*;
use crate::fixture::{at, lease, origin};
use crate::view::Shortage;

fn terms() -> Terms {
    Terms {
        prove_for: Duration::from_secs(5),
        settle: Duration::from_secs(10),
        silence: Duration::from_secs(15),
        zone: TimeZone::UTC,
    }
}

fn evidence(headroom: Option<i64>) -> Evidence {
    let figure = Figure {
        feed: "a".into(),
        headroom: headroom.map(Watts),
        needed: Watts(20_000),
        unmetered: Watts::ZERO,
        renewed: Watts::ZERO,
        taken_at: None,
        doubt: None,
        is_implausible: false,
        blame: None,
    };
    Evidence {
        held: Held::Everywhere,
        due: true,
        metered: true,
        figures: vec![figure],
        ..Evidence::default()
    }
}

struct Run {
    commitment: Commitment,
    lease: Lease,
    origin: Instant,
}

impl Run {
    fn new(lease: Lease) -> Self {
        Self { commitment: Commitment::default(), lease, origin: origin() }
    }

    fn step(&mut self, secs: i64, evidence: &Evidence) -> Vec<Happening> {
        let now = self.origin + Duration::from_secs(u64::try_from(secs).unwrap());
        let evidence = Evidence { at: at(secs), ..evidence.clone() };
        self.commitment.advance(&self.lease, &evidence, &terms(), at(secs), now)
    }
}

#[test]
fn headroom_must_hold_before_it_is_proven() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &evidence(Some(19_999)));
    assert_eq!(run.commitment.phase, Phase::Shedding);
    run.step(101, &evidence(Some(20_000)));
    run.step(105, &evidence(Some(20_000)));
    assert_eq!(run.commitment.phase, Phase::Shedding, "four seconds are not five");
    run.step(106, &evidence(Some(20_000)));
    assert_eq!((run.commitment.phase, run.commitment.proven_at), (Phase::Proven, Some(at(106))));
    run.step(1000, &evidence(Some(20_000)));
    assert_eq!(run.commitment.phase, Phase::Active);
    for secs in [2000, 2050] {
        run.step(secs, &Evidence { off: 1, ..evidence(Some(20_000)) });
        assert_eq!(run.commitment.phase, Phase::Releasing);
    }
    run.step(2100, &evidence(Some(20_000)));
    assert!(run.commitment.is_closed());
    assert!(run.commitment.breaches.is_empty() && !run.commitment.unverified);
}

#[test]
fn a_meter_that_says_nothing_proves_nothing_and_that_stays_on_record() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &evidence(None));
    run.step(939, &evidence(None));
    assert!(!run.commitment.unverified);
    let happenings = run.step(940, &evidence(None));
    let why = "not proven by 2027-01-15 08:15:40: the meter of a is silent, 20 kW needed";
    assert_eq!(happenings, [Happening::Unverified { why: why.into(), unproven: true }]);
    assert!(run.step(941, &evidence(None)).is_empty(), "one silence, one record");
    run.step(1100, &evidence(Some(25_000)));
    run.step(1105, &evidence(Some(25_000)));
    assert_eq!(run.commitment.phase, Phase::Active, "late, but proven");
    assert!(run.commitment.unverified, "never erased");
    assert_eq!(run.commitment.breaches, [], "nothing was known to be missing");
}

fn some(names: &[&str]) -> Named {
    let mut named = Named::default();
    names.iter().for_each(|name| named.add(&(*name).into()));
    named
}

fn silent(headroom: i64, names: &[&str]) -> Evidence {
    Evidence { unconfirmed: some(names), ..evidence(Some(headroom)) }
}

#[test]
fn machines_on_their_way_are_waited_for_until_the_proof_is_due() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in [100, 200, 939] {
        run.step(secs, &Evidence { under_way: 1, ..evidence(Some(30_000)) });
        assert_eq!(run.commitment.phase, Phase::Shedding);
    }
    run.step(940, &Evidence { under_way: 1, ..evidence(Some(30_000)) });
    assert_eq!(run.commitment.phase, Phase::Proven, "the meter has shown it for long enough");
    assert_eq!((&run.commitment.breaches[..], &run.commitment.unconfirmed), (&[][..], &None));
}

#[test]
fn a_silent_device_leaves_a_lease_unconfirmed_and_not_breached() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &silent(20_000, &["m.033"]));
    let happenings = run.step(105, &silent(20_000, &["m.033"]));
    let flagged = Unconfirmed { since: at(100), machines: some(&["m.033"]) };
    assert!(
        matches!(&happenings[..], [Happening::Moved { to: Phase::Proven, .. }, Happening::Unconfirmed(flag)] if *flag == flagged),
        "{happenings:?}"
    );
    run.step(1000, &silent(20_000, &["m.033"]));
    assert_eq!(
        (run.commitment.phase, &run.commitment.unconfirmed),
        (Phase::Active, &Some(flagged))
    );
    assert_eq!(run.step(1100, &evidence(Some(20_000))), [Happening::Confirmed]);
    assert_eq!((&run.commitment.unconfirmed, &run.commitment.breaches[..]), (&None, &[][..]));
    // A device that stops answering later is recorded if it stays silent.
    assert_eq!(run.step(1200, &silent(20_000, &["m.001"])), []);
    assert_eq!(run.step(1214, &silent(20_000, &["m.001"])), []);
    let happenings = run.step(1215, &silent(20_000, &["m.001", "m.002"]));
    assert!(
        matches!(&happenings[..], [Happening::Unconfirmed(flag)] if flag.since == at(1200) && flag.machines.count == 2)
    );
    run.step(2000, &silent(20_000, &["m.001", "m.002"]));
    assert_eq!(run.commitment.unconfirmed, None, "from here on it is whether they come back");
}

#[test]
fn whatever_devices_say_the_meter_decides() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &silent(17_000, &["m.033"]));
    run.step(939, &silent(17_000, &["m.033"]));
    assert_eq!(run.commitment.phase, Phase::Shedding);
    let happenings = run.step(940, &silent(17_000, &["m.033"]));
    assert!(
        matches!(&happenings[..], [Happening::Breached(breach)] if breach.missing == Watts(3000)
            && breach.doing == Some(Doing::Ours)
            && breach.why == "not proven by 2027-01-15 08:15:40: headroom 17 kW of 20 kW at a; nothing outside the facility explains it"),
        "{happenings:?}"
    );
}

#[test]
fn what_is_free_when_it_is_due_is_no_breach_while_the_proof_runs() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &evidence(Some(10_000)));
    run.step(938, &evidence(Some(20_000)));
    assert_eq!(run.step(942, &evidence(Some(20_000))), []);
    run.step(943, &evidence(Some(20_000)));
    assert_eq!((run.commitment.phase, &run.commitment.breaches[..]), (Phase::Proven, &[][..]));
}

#[test]
fn what_was_measured_before_it_was_due_is_no_breach() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let taken = |secs: i64, headroom| {
        let mut evidence = evidence(Some(headroom));
        evidence.figures[0].taken_at = Some(at(secs));
        evidence
    };
    // The tenant of another lease drew power until 940, and the meter is read every few seconds.
    run.step(100, &taken(100, 1_000));
    assert_eq!(run.step(941, &taken(938, 1_000)), []);
    assert!(matches!(&run.step(944, &taken(943, 1_000))[..], [Happening::Breached(_)]));
}

#[test]
fn headroom_that_is_lost_before_the_start_says_so() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in [100, 105] {
        run.step(secs, &evidence(Some(20_000)));
    }
    assert_eq!(run.commitment.phase, Phase::Proven);
    run.step(950, &evidence(Some(18_000)));
    let happenings = run.step(960, &evidence(Some(18_000)));
    let Some(Happening::Breached(breach)) = happenings.last() else { panic!("{happenings:?}") };
    assert_eq!(run.commitment.phase, Phase::Shedding);
    assert_eq!((breach.since, breach.missing), (Some(at(950)), Watts(2000)));
    assert_eq!(
        breach.why,
        "lost after it was proven: headroom 18 kW of 20 kW at a since 2027-01-15 08:15:50; nothing outside the facility explains it"
    );
}

fn short() -> Option<Shortage> {
    Some(Shortage {
        feed: "a".into(),
        from: at(940),
        to: None,
        missing: Watts(8_700_000),
        machines_seen: 0,
        machines_failing: 0,
        machines_declared: 5400,
        known_since: None,
    })
}

#[test]
fn a_lease_that_the_plan_does_not_reach_or_cannot_carry_is_planned() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let waits = Evidence { due: false, ..evidence(Some(0)) };
    run.step(1, &Evidence { in_plan_from: Some(at(50)), held: Held::Nowhere, ..waits.clone() });
    run.step(2, &Evidence { short: short(), ..waits.clone() });
    run.step(3, &Evidence { held: Held::NoAgent, ..waits.clone() });
    assert_eq!(run.commitment.phase, Phase::Planned);
    run.step(4, &waits);
    assert_eq!(run.commitment.phase, Phase::Armed);
}

#[test]
fn an_armed_lease_steps_back_when_the_plan_does_not_free_its_power_any_more() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let waits = Evidence { due: false, ..evidence(Some(0)) };
    let lacks = Evidence { short: short(), ..waits.clone() };
    run.step(1, &waits);
    run.step(2, &lacks);
    run.step(61, &lacks);
    assert_eq!(run.commitment.phase, Phase::Armed, "miners may just be connecting again");
    let happenings = run.step(62, &lacks);
    assert_eq!(
        happenings,
        [Happening::Moved {
            from: Phase::Armed,
            to: Phase::Planned,
            why: "short 8,700 kW at a from 08:15 (0 of 5,400 machines seen)".into(),
        }]
    );
    run.step(63, &waits);
    assert_eq!(run.commitment.phase, Phase::Armed);
    // A shorter horizon has an effect at once.
    run.step(64, &Evidence { in_plan_from: Some(at(500)), ..waits });
    assert_eq!(run.commitment.phase, Phase::Planned);
}

#[test]
fn an_armed_lease_steps_back_when_a_receiver_does_not_take_a_newer_timeline() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let number = directive::Generation { epoch: 3, generation: 14 };
    let held = Held::Behind { receivers: 1, silent: 0, number };
    let waits = Evidence { due: false, ..evidence(Some(0)) };
    let behind = Evidence { held, ..waits.clone() };
    run.step(1, &waits);
    run.step(2, &behind);
    run.step(30, &waits);
    run.step(31, &behind);
    run.step(90, &behind);
    assert_eq!(run.commitment.phase, Phase::Armed, "a receiver needs a moment to take it");
    let moved = |from, to, why: &str| [Happening::Moved { from, to, why: why.into() }];
    let why = "waiting for 1 receiver to hold timeline 3.14";
    assert_eq!(run.step(91, &behind), moved(Phase::Armed, Phase::Planned, why));
    // The others shed their machines on time; what that frees is for the meters to say.
    let due = run.step(850, &Evidence { due: true, ..behind });
    assert_eq!(due, moved(Phase::Planned, Phase::Shedding, &format!("due, and {why}")));
}

#[test]
fn a_short_lease_sheds_what_there_is_and_the_meter_may_prove_it() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let lacks = |headroom| Evidence { short: short(), ..evidence(Some(headroom)) };
    run.step(850, &lacks(10_000));
    assert_eq!(run.commitment.phase, Phase::Shedding);
    run.step(900, &lacks(20_000));
    run.step(905, &lacks(20_000));
    assert_eq!(run.commitment.phase, Phase::Proven);
}

#[test]
fn machines_that_do_not_come_back_keep_a_lease_open_for_a_day() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let names = ["a", "b", "c", "d"];
    let missing = Evidence { not_back: some(&names), ..evidence(Some(20_000)) };
    run.step(2000, &missing);
    run.step(2000 + 24 * 3600 - 1, &missing);
    assert_eq!(run.commitment.phase, Phase::Releasing);
    assert_eq!(
        run.commitment.reason(&run.lease, &missing, &terms()),
        "4 machines not back: a, b, c and 1 more"
    );
    let happenings = run.step(2000 + 24 * 3600, &missing);
    assert_eq!(
        happenings,
        [Happening::Moved {
            from: Phase::Releasing,
            to: Phase::Closed,
            why: "4 machines not back after 24 h: a, b, c and 1 more".into(),
        }]
    );
}

#[test]
fn a_firm_lease_never_starts_unproven() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &evidence(Some(0)));
    run.step(1500, &evidence(Some(0)));
    assert_eq!(run.commitment.phase, Phase::Shedding);
    assert_eq!(run.commitment.breaches[0].missing, Watts(20_000));
}

#[test]
fn an_accepting_one_does_and_is_marked() {
    let mut run =
        Run::new(Lease { accept_unverified: true, ..lease("l", "a", 20_000, 1000, 2000) });
    let seen = Evidence { starved: true, metered: false, figures: vec![], ..evidence(None) };
    run.step(100, &seen);
    assert!(run.commitment.unverified);
    run.step(1000, &seen);
    assert_eq!(run.commitment.phase, Phase::Active);
    assert!(run.commitment.breaches.is_empty());
}

#[test]
fn a_shortage_while_active_is_a_breach_once_it_lasts() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in [100, 105, 1000] {
        run.step(secs, &evidence(Some(20_000)));
    }
    run.step(1100, &evidence(Some(15_000)));
    assert!(run.step(1109, &evidence(Some(15_000))).is_empty());
    assert!(
        matches!(&run.step(1110, &evidence(Some(15_000)))[..], [Happening::Breached(b)] if b.missing == Watts(5000))
    );
    run.step(1200, &evidence(Some(20_000)));
    run.step(1300, &evidence(Some(19_000)));
    assert_eq!(
        run.step(1310, &evidence(Some(19_000))).len(),
        1,
        "another shortage is another breach"
    );
}

#[test]
fn a_breach_says_what_is_missing_for_certain() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in [100, 105, 1000] {
        run.step(secs, &evidence(Some(20_000)));
    }
    // The tenant has no meter: its 20 kW are part of what the feed's meter shows, and so are 3 kW
    // of mining.
    let mut seen = evidence(Some(-3_000));
    seen.figures[0].unmetered = Watts(20_000);
    run.step(1100, &seen);
    assert!(
        matches!(&run.step(1110, &seen)[..], [Happening::Breached(b)] if b.missing == Watts(3000))
    );
}

#[test]
fn a_cancelled_one_is_released_from_any_phase() {
    let mut run =
        Run::new(Lease { cancelled_at: Some(at(50)), ..lease("l", "a", 20_000, 1000, 2000) });
    run.step(51, &Evidence::default());
    assert!(run.commitment.is_closed());
}

/// One of 34 commands hung, and the meter shows the room.
#[test]
fn nothing_missing_is_never_a_breach() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in [100, 940, 945, 1000, 1500] {
        run.step(secs, &Evidence { under_way: 1, ..silent(20_000, &["m.033"]) });
    }
    assert_eq!(run.commitment.breaches, []);
}

#[test]
fn power_that_a_tenant_without_a_meter_may_draw_is_not_missing_for_certain() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let mut seen = evidence(Some(5_000));
    seen.figures[0].unmetered = Watts(15_000);
    run.step(100, &seen);
    let happenings = run.step(940, &seen);
    let why = "not proven by 2027-01-15 08:15:40: headroom 5 kW of 20 kW at a";
    assert_eq!(happenings, [Happening::Unverified { why: why.into(), unproven: true }]);
    assert_eq!(run.commitment.breaches, []);
}

#[test]
fn a_shortage_between_two_meters_is_a_breach_only_if_it_outlasts_their_samples() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let slow = |headroom| Evidence { skew: Duration::from_secs(60), ..evidence(Some(headroom)) };
    for secs in [100, 105, 1000] {
        run.step(secs, &slow(20_000));
    }
    run.step(1100, &slow(0));
    assert_eq!(run.step(1169, &slow(0)), []);
    assert!(matches!(&run.step(1170, &slow(0))[..], [Happening::Breached(_)]));
}

#[test]
fn an_implausible_meter_in_an_active_lease_is_recorded_once_and_is_no_breach() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in [100, 105, 1000] {
        run.step(secs, &evidence(Some(20_000)));
    }
    let mut seen = evidence(None);
    seen.figures[0].doubt = Some("the meter of a is implausible (scaled_up): it shows".into());
    seen.figures[0].is_implausible = true;
    run.step(1100, &seen);
    assert_eq!(run.step(1114, &seen), []);
    let why = "while it was active: the meter of a is implausible (scaled_up): it shows";
    assert_eq!(run.step(1115, &seen), [Happening::Unverified { why: why.into(), unproven: true }]);
    assert_eq!(run.step(1200, &seen), []);
    assert_eq!((run.commitment.phase, &run.commitment.breaches[..]), (Phase::Active, &[][..]));
}

/// The record that machines are only starved is not the record that no meter shows the power.
#[test]
fn after_a_restart_a_silent_meter_is_recorded_unless_it_was() {
    for (recorded, records) in [(false, 1), (true, 0)] {
        let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
        let flags = (true, Some("for some reason".into()), recorded);
        run.commitment = Commitment::restore(Phase::Shedding, flags, None, Vec::new(), None);
        let mut happenings = Vec::new();
        for secs in [941, 960, 980] {
            happenings.extend(run.step(secs, &Evidence { starved: true, ..evidence(None) }));
        }
        assert_eq!(happenings.len(), records, "{happenings:?}");
        assert!(happenings.iter().all(|happening| {
            matches!(happening, Happening::Unverified { unproven: true, .. })
        }));
    }
}

/// It takes a look at all machines, so that it is not asked at each input.
#[test]
fn whose_doing_it_is_is_asked_only_when_a_breach_may_be_recorded() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    let mut asked = Vec::new();
    for secs in 920..1_000 {
        let now = run.origin + Duration::from_secs(u64::try_from(secs).unwrap());
        if run.commitment.asks_whose_doing(&run.lease, terms().settle, at(secs), now) {
            asked.push(secs);
        }
        let happenings = run.step(secs, &evidence(Some(5_000)));
        let is_breach = |happening: &Happening| matches!(happening, Happening::Breached(_));
        assert_eq!(happenings.iter().any(is_breach), secs == 940, "{secs}: {happenings:?}");
    }
    assert_eq!(asked, [940], "it is due then, and recorded once");
}
