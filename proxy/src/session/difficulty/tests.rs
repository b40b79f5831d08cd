use super::*;

fn level(exponent: i32) -> Level {
    Level::at_or_below(Difficulty::ONE).moved(exponent)
}

fn of(value: f64) -> Difficulty {
    Difficulty::new(value).expect("positive")
}

fn rules() -> DifficultyRules {
    DifficultyRules {
        start: level(10),
        min: level(0),
        max: level(20),
        interval: Some(10.0),
        by_user_agent: true,
    }
}

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn limits(pool: f64) -> Limits {
    Limits { pool: of(pool), hold: None, promised: None }
}

fn advertised(aim: &mut Aim, limits: Limits) -> f64 {
    aim.advertise(&limits, &rules(), at(0)).level.get()
}

#[test]
fn a_session_costs_fifty_six_bytes() {
    assert!(size_of::<Aim>() <= 56, "{}", size_of::<Aim>());
}

#[test]
fn every_bound_holds_and_the_stronger_wins() {
    let hold = |least, most| Limits { hold: Some(Hold { least, most }), ..limits(100.0) };
    for (password, limits, expected, why) in [
        ("x", limits(1e9), 1024.0, "the listener's"),
        ("x", limits(1000.0), 512.0, "the power of two below the pool's"),
        ("d=3000,x", limits(1e9), 2048.0, "the power of two below the wish"),
        ("x;d=0.25", limits(1e9), 1.0, "the listener's floor"),
        ("d=1e12", limits(1e18), 1_048_576.0, "the listener's ceiling"),
        ("d=0,md=-3", limits(1e9), 1024.0, "no difficulties"),
        ("md=3000", limits(1e9), 4096.0, "at least"),
        ("md=3000", limits(2500.0), 2048.0, "never above the pool's"),
        ("d=4 md=64", limits(1e9), 64.0, "at least"),
        (
            "x",
            hold(level(9), Level::CEILING),
            1024.0,
            "its own, above the pool's, while the target holds",
        ),
        ("x", hold(level(12), Level::CEILING), 4096.0, "and no less than that takes"),
        ("x", hold(level(8), level(8)), 256.0, "which is given up step by step"),
        ("x", hold(level(30), Level::CEILING), 1_048_576.0, "the listener's ceiling"),
        ("x", Limits { promised: Some(of(600.0)), ..limits(100.0) }, 1024.0, "what was promised"),
    ] {
        let mut aim = Aim::new(&rules());
        aim.password(password, &rules());
        assert_eq!(advertised(&mut aim, limits), expected, "{password}: {why}");
    }
}

/// Otherwise one miner with a high claim would hold all others, and itself, above their pool's
/// difficulty.
#[test]
fn a_miners_word_counts_for_no_more_than_the_listeners_difficulty_until_it_is_measured() {
    let heard = |say: &dyn Fn(&mut Aim)| {
        let mut aim = Aim::new(&rules());
        say(&mut aim);
        aim.advertise(&limits(1e9), &rules(), at(0));
        aim
    };
    let listeners = 1024.0 / 10.0;
    assert_eq!(heard(&|_| {}).work_rate(&rules()), listeners);
    assert_eq!(heard(&|aim| aim.password("d=1048576", &rules())).work_rate(&rules()), listeners);
    assert_eq!(
        heard(&|aim| aim.suggestion(of(1e9), at(0), &rules())).work_rate(&rules()),
        listeners
    );
    assert_eq!(
        heard(&|aim| aim.password("d=16", &rules())).work_rate(&rules()),
        1.6,
        "less is believed"
    );
    assert_eq!(
        heard(&|aim| aim.recall(99_000.0, &rules())).work_rate(&rules()),
        104_857.6,
        "it was measured once"
    );
    let mut fast = heard(&|aim| aim.password("d=1048576", &rules()));
    for second in (10..400).step_by(10) {
        fast.share(1_048_576.0, &rules(), at(second));
    }
    assert!(fast.work_rate(&rules()) > 90_000.0, "measured: {}", fast.work_rate(&rules()));
}

#[test]
fn s54_a_suggestion_is_clamped_to_the_listeners_bounds() {
    for (wished, expected) in [(1e300, 1_048_576.0), (1e-300, 1.0), (1000.0, 512.0)] {
        let mut aim = Aim::new(&rules());
        aim.suggestion(of(wished), at(0), &rules());
        assert_eq!(advertised(&mut aim, limits(1e18)), expected, "{wished}");
    }
}

#[test]
fn s55_one_suggestion_in_a_minute_is_granted() {
    let mut aim = Aim::new(&rules());
    for (secs, wished, expected) in
        [(1, 4.0, 4.0), (2, 8.0, 4.0), (60, 16.0, 4.0), (61, 32.0, 32.0), (120, 64.0, 32.0)]
    {
        aim.suggestion(of(wished), at(secs), &rules());
        assert_eq!(advertised(&mut aim, limits(1e9)), expected, "at {secs} s");
    }
}

#[test]
fn s56_a_suggestion_below_what_the_rate_needs_is_clamped() {
    let mut aim = Aim::new(&rules());
    aim.advertise(&limits(1e9), &rules(), at(0));
    for share in 1..=20 {
        aim.share(1024.0, &rules(), at(10 * share));
    }
    aim.suggestion(of(1.0), at(201), &rules());
    assert_eq!(aim.advertise(&limits(1e9), &rules(), at(201)).level.get(), 256.0);
}

#[test]
fn a_fleet_that_comes_back_does_not_start_over() {
    let mut aim = Aim::new(&rules());
    aim.user_agent("cgminer/4.11.1", &rules());
    aim.recall(6.5, &rules());
    aim.password("d=4", &rules());
    assert_eq!(advertised(&mut aim, limits(1e9)), 64.0);
}

#[test]
fn the_user_agent_is_asked_only_where_the_listener_says_so() {
    let listener = DifficultyRules { by_user_agent: false, ..rules() };
    let mut aim = Aim::new(&listener);
    aim.user_agent("bitaxe/BM1370/v2.12.2", &listener);
    assert_eq!(advertised(&mut aim, limits(1e9)), 1024.0);
    let mut aim = Aim::new(&rules());
    aim.user_agent("bitaxe/BM1370/v2.12.2", &rules());
    assert_eq!(advertised(&mut aim, limits(1e9)), 2048.0);
}

#[test]
fn without_vardiff_a_session_stays_where_it_begins() {
    let fixed = DifficultyRules { interval: None, ..rules() };
    let mut aim = Aim::new(&fixed);
    aim.advertise(&limits(1e9), &fixed, at(0));
    for second in 1..=1000 {
        assert!(!aim.share(1024.0, &fixed, at(second)));
    }
    assert_eq!(
        aim.advertise(&limits(1e9), &fixed, at(1000)),
        Advertised { level: level(10), changed: None }
    );
    assert!(!aim.starves(&limits(1e9), &fixed, at(90_000)));
    assert!(aim.measured_rate(&fixed).is_some(), "it is measured all the same");
}

#[test]
fn a_storm_cannot_be_helped_at_the_pools_difficulty() {
    let storm = |pool: f64| {
        let mut aim = Aim::new(&rules());
        aim.advertise(&limits(pool), &rules(), at(0));
        let sent = aim.sent().expect("sent");
        (1..=100).any(|n| {
            aim.share(sent.get(), &rules(), Duration::from_millis(n))
                && aim.may_rise(&limits(pool), &rules())
        })
    };
    assert!(storm(1e9) && !storm(1024.0));
}

#[test]
fn a_machine_that_would_not_find_a_share_for_minutes_does_not_wait_for_a_job() {
    let mut aim = Aim::new(&rules());
    aim.advertise(&limits(1e9), &rules(), at(0));
    assert!(!aim.starves(&limits(1e9), &rules(), at(30)));
    assert!(aim.starves(&limits(1e9), &rules(), at(200)));
    let lowest = Limits { promised: Some(of(600.0)), ..limits(1e9) };
    assert!(!aim.starves(&lowest, &rules(), at(300)), "it was promised no less");
}

#[test]
fn every_change_says_why() {
    let mut aim = Aim::new(&rules());
    let change =
        |aim: &mut Aim, pool: f64, secs| aim.advertise(&limits(pool), &rules(), at(secs)).changed;
    assert_eq!(change(&mut aim, 1e9, 0), Some(Retarget::Start));
    assert_eq!(change(&mut aim, 1e9, 1), None);
    assert_eq!(change(&mut aim, 512.0, 2), Some(Retarget::Pool));
    aim.suggestion(of(16.0), at(2), &rules());
    assert_eq!(change(&mut aim, 1e9, 2), Some(Retarget::Wish));
    for share in 0..40 {
        aim.share(16.0, &rules(), Duration::from_millis(2000 + 10 * share));
    }
    assert_eq!(change(&mut aim, 1e9, 3), Some(Retarget::Fast));
    assert_eq!(change(&mut aim, 1e9, 400), Some(Retarget::Idle));
}
