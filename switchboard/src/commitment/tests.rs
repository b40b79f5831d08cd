use super::*;
use crate::fixture::{at, lease, origin};

const WAITS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

fn evidence(headroom: Option<i64>) -> Evidence {
    let figure = Figure {
        feed: "a".into(),
        headroom: headroom.map(Watts),
        needed: Watts(20_000),
        unmetered: Watts::ZERO,
    };
    Evidence {
        acked: true,
        due: true,
        confirmed: true,
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
        self.commitment.advance(&self.lease, evidence, WAITS, at(secs), now)
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
    run.step(2000, &evidence(Some(20_000)));
    assert_eq!(run.commitment.phase, Phase::Releasing);
    run.step(2100, &Evidence { released: true, ..evidence(Some(20_000)) });
    assert!(run.commitment.is_closed());
    assert!(run.commitment.breaches.is_empty() && !run.commitment.unverified);
}

#[test]
fn a_meter_that_says_nothing_proves_nothing_and_a_missed_deadline_stays_on_record() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    run.step(100, &evidence(None));
    run.step(939, &evidence(None));
    assert!(run.commitment.breaches.is_empty());
    let happenings = run.step(940, &evidence(None));
    assert!(
        matches!(&happenings[..], [Happening::Breached(breach)] if breach.missing == Watts(20_000) && !breach.measured)
    );
    assert!(run.step(941, &evidence(None)).is_empty(), "one shortage, one record");
    run.step(1100, &evidence(Some(25_000)));
    run.step(1105, &evidence(Some(25_000)));
    assert_eq!(run.commitment.phase, Phase::Active, "late, but proven");
    assert_eq!(run.commitment.breaches.len(), 1, "never erased");
}

#[test]
fn machines_that_are_not_confirmed_prevent_the_proof() {
    let mut run = Run::new(lease("l", "a", 20_000, 1000, 2000));
    for secs in 100..200 {
        run.step(secs, &Evidence { confirmed: false, ..evidence(Some(30_000)) });
    }
    assert_eq!(run.commitment.phase, Phase::Shedding);
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
    // The tenant has no meter: its 20 kW are in what the feed shows, and 3 kW of mining with
    // them.
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
    run.step(51, &Evidence { released: true, ..Evidence::default() });
    assert!(run.commitment.is_closed());
}
