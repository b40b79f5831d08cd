//! Difficulty belongs to the (session, job id) pair, whatever is advertised later (S50 to S58,
//! F29).

use super::*;

const FREE: Difficulty = Difficulty::CEILING;

fn suggest(driver: &mut Driver, exponent: i32) {
    driver.now += Duration::from_secs(61);
    let wished = difficulty(exponent);
    driver.say(&format!(r#"{{"id":7,"method":"mining.suggest_difficulty","params":[{wished}]}}"#));
}

/// A session with job 1 at 2^-24 and, by default, without vardiff.
fn with_first_job() -> (Driver, FakePool, Arc<LaneWork>) {
    let mut driver = Driver::ready();
    let mut pool = FakePool::new(0);
    let first = pool.work(1, FREE, HARD, true);
    driver.input(Input::Work(&first));
    (driver, pool, first)
}

#[test]
fn s50_a_share_that_meets_its_jobs_difficulty_is_good_after_a_raise_and_worth_the_former() {
    let (mut driver, mut pool, first) = with_first_job();
    suggest(&mut driver, -20);
    let lines = driver.input(Input::Work(&pool.work(2, FREE, HARD, false)));
    assert_eq!(lines[0]["params"][0], difficulty(-20).get());
    let share = grind(&first, difficulty(-24), Some(difficulty(-20)), 1);
    assert_eq!(driver.submit(9, "1", share)[0]["result"], true);
    let worth = driver.out.counts.pop().and_then(|counted| counted.worth).expect("it proves work");
    assert_eq!(worth.difficulty, difficulty(-24).get());
}

#[test]
fn s51_a_share_that_meets_only_a_newer_lower_difficulty_is_refused_with_23() {
    let (mut driver, mut pool, first) = with_first_job();
    suggest(&mut driver, -27);
    driver.input(Input::Work(&pool.work(2, FREE, HARD, false)));
    let share = grind(&first, difficulty(-27), Some(difficulty(-24)), 1);
    assert_eq!(driver.submit(9, "1", share)[0]["error"][0], 23);
}

#[test]
fn s53_a_job_keeps_its_difficulty_however_often_another_is_wished_for() {
    let (mut driver, mut pool, first) = with_first_job();
    for exponent in [-22, -20] {
        suggest(&mut driver, exponent);
    }
    let share = grind(&first, difficulty(-24), Some(difficulty(-22)), 1);
    assert_eq!(driver.submit(9, "1", share)[0]["result"], true);
    let lines = driver.input(Input::Work(&pool.work(2, FREE, HARD, false)));
    assert_eq!(lines[0]["params"][0], difficulty(-20).get(), "the last one, with the next job");
}

#[test]
fn s54_nonsense_changes_nothing() {
    let (mut driver, mut pool, _) = with_first_job();
    for wish in ["0", "-1", "\"NaN\"", "\"1000\"", "[]", "true", "null"] {
        driver.now += Duration::from_secs(61);
        driver
            .say(&format!(r#"{{"id":7,"method":"mining.suggest_difficulty","params":[{wish}]}}"#));
        let job = pool.next_seq + 1;
        let lines = driver.input(Input::Work(&pool.work(job, FREE, HARD, false)));
        assert_eq!(lines[0]["method"], "mining.notify", "{wish}");
        assert_eq!(driver.session.difficulty(), Some(difficulty(-24)), "{wish}");
    }
}

#[test]
fn another_difficulty_comes_with_a_clean_job() {
    let (mut driver, mut pool, _) = with_first_job();
    let lines = driver.input(Input::Work(&pool.work(2, FREE, HARD, false)));
    assert_eq!((lines.len(), &lines[0]["params"][8]), (1, &Value::Bool(false)));
    for (job, exponent) in [(3, -20), (4, -26)] {
        suggest(&mut driver, exponent);
        let lines = driver.input(Input::Work(&pool.work(job, FREE, HARD, false)));
        assert_eq!(
            (&lines[0]["method"], &lines[1]["params"][8]),
            (&"mining.set_difficulty".into(), &Value::Bool(true))
        );
    }
}

/// F29: the machine becomes sixteen times faster, and then as slow as before; every share that
/// meets the difficulty of its job is good.
#[test]
fn f29_a_machine_that_changes_its_speed_loses_nothing() {
    let mut rules = SessionRules::clone(&rules());
    rules.difficulty.interval = Some(2.0);
    let now = origin();
    let session = Session::new(Arc::new(rules), 0x5c, 1, now);
    let mut driver = Driver { session, now, out: Outbox::default() };
    driver.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    driver.say(r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#);
    let mut pool = FakePool::new(0);
    let mut issued: Vec<(Arc<LaneWork>, Difficulty)> = Vec::new();
    let (mut reached, mut submitted) = (Vec::new(), 0);
    for (job, rate) in (1..=30).zip([1.0; 6].into_iter().chain([16.0; 10]).chain([1.0; 14])) {
        let work = pool.work(job, FREE, HARD, job == 1);
        driver.input(Input::Work(&work));
        let level = driver.session.difficulty().expect("advertised");
        issued.push((work, level));
        reached.push(level);
        // Six intervals of work; every third share is for the job before.
        let until = driver.now + Duration::from_secs(12);
        let every = Duration::from_secs_f64(2.0 * level.get() / (rate * difficulty(-24).get()));
        while driver.now + every <= until {
            driver.now += every;
            submitted += 1;
            let back = usize::from(submitted % 3 == 0 && issued.len() > 1);
            let (work, level) = &issued[issued.len() - 1 - back];
            let share = grind(work, *level, None, submitted * 64);
            assert_eq!(driver.submit(9, &job_id_text(work.job_id), share)[0]["result"], true);
            let worth =
                driver.out.counts.pop().and_then(|counted| counted.worth).expect("it proves work");
            assert_eq!(worth.difficulty, level.get());
        }
        driver.now = until;
    }
    let highest = reached.iter().max().expect("thirty jobs");
    assert!((difficulty(-21)..=difficulty(-19)).contains(highest), "{reached:?}");
    assert!(reached.last() <= Some(&difficulty(-23)), "{reached:?}");
}
