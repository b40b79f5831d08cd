//! The rows S of docs/faults.md that a session decides, by their ids. Rows about single lines and
//! shares are tested with their parsers.

use super::*;

const SUBSCRIBE: &str = r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1"]}"#;

impl Driver {
    /// A miner with `work`, in slot 5c.
    fn working(work: &Arc<LaneWork>) -> Self {
        let mut driver = Self::ready();
        driver.input(Input::Work(work));
        driver
    }

    /// Sends a line repeatedly until the session is closed. Returns how often it was sent, and the
    /// reason of the close.
    fn say_until_closed(&mut self, line: &str, most: usize) -> (usize, Option<CloseReason>) {
        for said in 1..=most {
            self.say(line);
            if let Some(reason) = self.out.close {
                return (said, Some(reason));
            }
        }
        (most, None)
    }

    /// Submits the given fields, and returns the error code of the answer; 0 for `true`, -1 if
    /// there is none yet.
    fn code(&mut self, job: &str, extranonce2: &str, ntime: &str, nonce: &str, rest: &str) -> i64 {
        let line = format!(
            r#"{{"id":9,"method":"mining.submit","params":["acme.rig",{job},{extranonce2},{ntime},{nonce}{rest}]}}"#
        );
        match self.say(&line).as_slice() {
            [] => -1,
            [answer] if answer["result"] == true => 0,
            [answer] => {
                let told = answer["error"][0].as_i64().expect("a code");
                let counted = self.out.counts.last().and_then(|counted| counted.reject);
                // The share log has the code that was sent to the miner.
                assert_eq!(counted.map(|reject| i64::from(reject.code().code())), Some(told));
                told
            }
            more => panic!("answered more than once: {more:?}"),
        }
    }

    fn outcomes(&mut self) -> Vec<Outcome> {
        self.out.counts.drain(..).map(|counted| counted.outcome).collect()
    }
}

/// The fields of a share as text.
fn texts((extranonce2, nonce): (u32, u32)) -> (String, String) {
    (format!("\"{extranonce2:08x}\""), format!("\"{nonce:08x}\""))
}

const NTIME: &str = "\"6b49d200\"";

/// S04, S08, S14, S17, S18: requests that no honest client sends lead to a close; unknown methods
/// do not.
#[test]
fn requests_that_break_the_protocol_add_up_to_a_close() {
    for (id, line, closes) in [
        ("S04", "", Some((17, CloseReason::EmptyLines))),
        ("S04", "\r", Some((17, CloseReason::EmptyLines))),
        (
            "S08",
            r#"{"id":{},"method":"mining.ping","params":[]}"#,
            Some((17, CloseReason::Malformed)),
        ),
        ("S16", r#"{"id":7,"method":"mining.foo","params":[]}"#, None),
        (
            "S17",
            r#"{"id":7,"method":"mining.notify","params":[]}"#,
            Some((17, CloseReason::ServerMethod)),
        ),
        (
            "S17",
            r#"{"id":7,"method":"mining.set_difficulty","params":[1]}"#,
            Some((17, CloseReason::ServerMethod)),
        ),
        (
            "S17",
            r#"{"id":7,"method":"client.reconnect","params":["evil",1]}"#,
            Some((17, CloseReason::ServerMethod)),
        ),
        (
            "S18",
            r#"{"id":7,"method":"mining.subscribe","params":{}}"#,
            Some((17, CloseReason::Malformed)),
        ),
        ("S77", r#"{"id":7,"method":"mining.ping","params":[]}"#, None),
    ] {
        let got = Driver::ready().say_until_closed(line, 1000);
        let want = closes.map_or((1000, None), |(said, reason)| (said, Some(reason)));
        assert_eq!(got, want, "{id}: {line}");
    }
    let mut driver = Driver::new();
    let ping = r#"{"id":7,"method":"mining.ping","params":[]}"#;
    assert_eq!(
        driver.say_until_closed(ping, 1000),
        (5, Some(CloseReason::PrehandshakeQueue)),
        "S14"
    );
}

#[test]
fn s03_a_line_of_the_longest_length_is_processed() {
    let line =
        format!(r#"{{"id":1,"method":"mining.ping","params":[]{}}}"#, " ".repeat(16_384 - 43));
    assert_eq!(line.len(), stratum::frame::MINER_LINE_MAX);
    assert_eq!(Driver::ready().say(&line)[0]["result"], "pong");
}

/// S19: a repeated subscribe gives the same slot. S20: the session id of another miner does not
/// give its slot.
#[test]
fn s19_s20_no_subscribe_gives_another_slot_than_the_connections_own() {
    let now = origin();
    let mut other =
        Driver { session: Session::new(rules(), 0x77, 2, now), now, out: Outbox::default() };
    let hers = other.say(SUBSCRIBE)[0]["result"].clone();
    let mut driver = Driver::ready();
    let session = hers[0][0][1].as_str().expect("a session id");
    let resume = format!(
        r#"{{"id":3,"method":"mining.subscribe","params":["cgminer/4.11.1","{session}"]}}"#
    );
    assert_eq!(driver.say(&resume)[0]["result"][1], "5c", "one that is subscribed already");
    let mut fresh = Driver::new();
    let answer = fresh.say(&resume);
    assert_eq!(answer[0]["result"][1], "5c");
    assert_ne!(answer[0]["result"][0], hers[0], "a session of its own");
}

/// S22: fifteen names in a packet, a thousand packets. One refused name is not a flood.
#[test]
fn s22_names_are_looked_at_one_a_wait_and_a_flood_is_closed() {
    let bad = r#"{"id":2,"method":"mining.authorize","params":["a b","x"]}"#;
    let good = r#"{"id":3,"method":"mining.authorize","params":["acme.rig","x"]}"#;
    let mut driver = Driver::new();
    driver.say(SUBSCRIBE);
    assert_eq!(driver.say(bad)[0]["error"][0], 24);
    assert_eq!(driver.say(good)[0]["error"][0], 24, "not looked at yet");
    driver.now += Duration::from_secs(3);
    assert_eq!(driver.say(good)[0]["result"], true);
    assert_eq!(driver.say(good)[0]["result"], true, "a name that is known is not looked at again");

    let mut flood = Driver::new();
    flood.say(SUBSCRIBE);
    assert_eq!(flood.say_until_closed(bad, 15_000), (17, Some(CloseReason::AuthorizeFlood)));
}

#[test]
fn s26_a_difficulty_in_a_name_is_part_of_the_name() {
    for name in ["x+1000000", "x.d=1", "x,d=1"] {
        let mut driver = Driver::new();
        driver.say(SUBSCRIBE);
        driver.say(&format!(r#"{{"id":2,"method":"mining.authorize","params":["{name}","x"]}}"#));
        assert_eq!(driver.session.worker(), Some(name));
        let lines =
            driver.input(Input::Work(&FakePool::new(0).work(1, difficulty(10), HARD, true)));
        let got = lines[0]["params"][0].as_f64().expect("a number");
        assert!((got * 2f64.powi(24) - 1.0).abs() < 1e-9, "{name}: {got}");
    }
}

/// S28, S29, S30, S33, S42, S43, S46, S47, S62, S63: each field of a submit is made invalid, with
/// the others good.
#[test]
fn a_submit_with_one_bad_field_gets_the_code_of_the_table() {
    let work = FakePool::new(0).work(1, difficulty(10), HARD, true);
    let (extranonce2, nonce) = texts(grind(&work, difficulty(-24), None, 1));
    let good = ["\"1\"", &extranonce2, NTIME, &nonce];
    let rows: [(&str, usize, &str, i64); 27] = [
        ("S30", 0, "null", 20),
        ("S30", 0, "7", 20),
        ("S30", 3, "{}", 20),
        ("S30", 1, "[]", 20),
        ("S30", 2, "true", 20),
        ("S33", 0, "\"\"", 21),
        ("S33", 0, "\"-1\"", 21),
        ("S33", 0, "\"0x1\"", 21),
        ("S33", 0, "\"2\"", 21),
        ("S37", 0, "\"01\"", 21),
        ("S42", 1, "\"000000zz\"", 20),
        ("S42", 1, "\"0x000001\"", 20),
        ("S42", 1, "\"00000001 \"", 20),
        ("S43", 1, "\"000001\"", 20),
        ("S43", 1, "\"0000000001\"", 20),
        ("S43", 1, "\"\"", 20),
        ("S43", 1, "\"0000001\"", 20),
        ("S46", 3, "\"123456789\"", 20),
        ("S46", 3, "\"1234567812345678\"", 20),
        ("S47", 3, "\"gggggggg\"", 20),
        ("S60", 2, "\"6b49d1ff\"", 20),
        ("S61", 2, "\"6b49ed59\"", 20),
        ("S62", 2, "\"ffffffff\"", 20),
        ("S62", 2, "\"00000000\"", 20),
        ("S63", 2, "\"06b49d200\"", 20),
        ("S63", 2, "\"+b49d200\"", 20),
        ("S30", 3, "-1", 20),
    ];
    let mut driver = Driver::working(&work);
    for (id, at, text, code) in rows {
        let mut fields = good;
        fields[at] = text;
        let [job, extranonce2, ntime, nonce] = fields;
        assert_eq!(driver.code(job, extranonce2, ntime, nonce, ""), code, "{id}: {text}");
        assert_eq!(driver.outcomes().len(), 1, "{id}: counted once");
    }
    let [job, extranonce2, ntime, nonce] = good;
    let other =
        driver.say(r#"{"id":9,"method":"mining.submit","params":["acme.two","1","00","1","2"]}"#);
    assert_eq!(other[0]["error"][0], 24, "S28");
    let four =
        driver.say(r#"{"id":9,"method":"mining.submit","params":["acme.rig","1","00000000","1"]}"#);
    assert_eq!(four[0]["error"][0], 20, "S29");
    assert!(driver.out.forwards.is_empty() && driver.out.close.is_none());
    let long = format!("\"{}\"", "1".repeat(10_000));
    assert_eq!(driver.code(&long, extranonce2, ntime, nonce, ""), 21, "S33");
    assert_eq!(
        driver.code(job, extranonce2, ntime, nonce, r#",null,"more","params""#),
        0,
        "S29: further ones are nothing"
    );
}

/// S30: numbers are taken as their value. S46: short words are padded.
#[test]
fn s30_s46_numbers_and_short_words_are_taken_as_their_value() {
    let work = FakePool::new(0).work(1, difficulty(10), HARD, true);
    let from = (0..)
        .find(|from| grind(&work, difficulty(-24), None, *from).1 < 0x1000_0000)
        .expect("nonces start at 0");
    let (extranonce2, nonce) = grind(&work, difficulty(-24), None, from);
    let extranonce2 = format!("\"{extranonce2:08x}\"");
    let mut driver = Driver::working(&work);
    assert_eq!(driver.code("\"1\"", &extranonce2, "1800000000", &nonce.to_string(), ""), 0);
    let again = format!("\"{nonce:x}\"");
    assert_eq!(
        driver.code("\"1\"", &extranonce2, NTIME, &again, ""),
        22,
        "the same header in other words"
    );
}

#[test]
fn s32_without_a_pool_no_submit_is_true() {
    let mut none = Driver::ready();
    assert_eq!(none.code("\"1\"", "\"00000000\"", NTIME, "\"00000000\"", ""), 21);
    let pool = &mut FakePool::new(0);
    let work = pool.work(1, difficulty(-24), HARD, true);
    let (extranonce2, nonce) = texts(grind(&work, difficulty(-24), None, 1));
    let mut lost = Driver::working(&work);
    pool.upstream.set_dead();
    assert_eq!(lost.code("\"1\"", &extranonce2, NTIME, &nonce, ""), 21);
    assert!(lost.out.forwards.is_empty());
}

#[test]
fn s34_a_job_of_another_session_is_not_known() {
    let pool = &mut FakePool::new(0);
    let hers = pool.work(1, difficulty(10), HARD, true);
    let mut driver = Driver::working(&pool.work(2, difficulty(10), HARD, false));
    let (extranonce2, nonce) = texts(grind(&hers, difficulty(-24), None, 1));
    assert_eq!(driver.code("\"1\"", &extranonce2, NTIME, &nonce, ""), 21);
    assert_eq!(driver.outcomes(), [Outcome::Stale]);
}

/// S38: time alone retires no job; the pool does. A job superseded 150 s ago is good until its
/// pool's clean job, and refused with 21 from then on. S39: the same after a change of extranonce.
#[test]
fn s38_s39_a_job_is_good_until_its_pool_retires_it() {
    let pool = &mut FakePool::new(0);
    let old = pool.work(1, difficulty(10), HARD, true);
    let mut driver = Driver::working(&old);
    driver.input(Input::Work(&pool.work(2, difficulty(10), HARD, false)));
    driver.now += Duration::from_secs(150);
    let submit = |driver: &mut Driver, from| {
        let (extranonce2, nonce) = texts(grind(&old, difficulty(-24), None, from));
        driver.code("\"1\"", &extranonce2, NTIME, &nonce, "")
    };
    assert_eq!(submit(&mut driver, 1), 0);
    pool.upstream.retire_below(pool.next_seq);
    assert_eq!(submit(&mut driver, 2), 21);
    driver.now += Duration::from_secs(150);
    assert_eq!(submit(&mut driver, 3), 21);
}

/// The same submit on a different connection gives a different header, because its slot is in the
/// coinbase. So another miner's share is refused.
#[test]
fn s44_anothers_share_is_no_share_here() {
    let work = FakePool::new(0).work(1, difficulty(10), HARD, true);
    let share = grind(&work, difficulty(-22), None, 1);
    let now = origin();
    let mut thief =
        Driver { session: Session::new(rules(), 0x77, 2, now), now, out: Outbox::default() };
    thief.say(SUBSCRIBE);
    thief.say(r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#);
    thief.input(Input::Work(&work));
    assert_eq!(thief.submit(9, "1", share)[0]["error"][0], 23);
    assert_eq!(Driver::working(&work).submit(9, "1", share)[0]["result"], true);
}

/// S45: a thousand random nonces are each refused with 23 and none is forwarded; the steps follow
/// at 60, 120 and 180 s.
#[test]
fn s45_random_nonces_get_23_and_climb_the_ladder() {
    let pool = &mut FakePool::new(0);
    let mut driver = Driver::working(&pool.work(1, difficulty(10), HARD, true));
    let mut rng = StdRng::seed_from_u64(45);
    let (mut low, mut steps) = (0, Vec::new());
    let start = driver.now;
    while driver.out.close.is_none() {
        driver.now += Duration::from_millis(180);
        let lines = driver.submit(9, "1", (rng.random(), rng.random()));
        if lines[0]["error"][0] == 23 {
            low += 1;
        }
        if let Some(correction) = driver.out.correction.take() {
            steps.push(((driver.now - start).as_secs(), correction));
            assert_eq!(
                correction == Correction::Reconnect,
                lines.len() == 2,
                "the answer and client.reconnect"
            );
        }
    }
    assert!(low > 950, "one in 256 is a share by chance and begins the ladder anew: {low}");
    assert_eq!(driver.out.close, Some(CloseReason::BadShares));
    assert!(driver.out.forwards.is_empty());
    let last: Vec<Correction> = steps.iter().rev().take(3).map(|(_, step)| *step).collect();
    assert_eq!(last, [Correction::Close, Correction::Reconnect, Correction::Renew], "{steps:?}");
}

/// The first step sends difficulty and work again, clean. A miner without live work is left alone.
#[test]
fn s45_work_is_sent_again_clean_and_a_parked_miner_is_left_alone() {
    let pool = &mut FakePool::new(0);
    let mut driver = Driver::working(&pool.work(1, difficulty(10), HARD, true));
    let bad = |driver: &mut Driver| {
        driver.now += Duration::from_secs(6);
        driver.code("\"none\"", "\"00000000\"", NTIME, "\"00000000\"", "");
        driver.out.correction.take()
    };
    let first = (0..40).find_map(|_| bad(&mut driver));
    assert_eq!(first, Some(Correction::Renew));
    let lines = driver.input(Input::Work(&pool.work(2, difficulty(10), HARD, false)));
    assert_eq!(
        (&lines[0]["method"], &lines[1]["params"][8]),
        (&"mining.set_difficulty".into(), &true.into())
    );

    let mut parked = Driver::working(&pool.work(3, difficulty(10), HARD, false));
    pool.upstream.set_dead();
    assert!((0..100).all(|_| bad(&mut parked).is_none()) && parked.out.close.is_none());
}

#[test]
fn s48_a_block_is_forwarded_once() {
    let work = FakePool::new(0).work(1, difficulty(-24), TRIVIAL, true);
    let share = grind(&work, difficulty(-24), None, 1);
    let mut driver = Driver::working(&work);
    assert!(driver.submit(9, "1", share).is_empty(), "the pool has the word");
    assert_eq!(driver.submit(10, "1", share)[0]["error"][0], 22);
    assert_eq!(driver.out.forwards.len(), 1);
    assert!(driver.out.forwards[0].block.is_some());
}

/// S50, S51, S53: difficulty belongs to the (session, job) pair. The pools' difficulty is far
/// above, so only the miner's own matters.
#[test]
fn s50_s51_s53_a_share_is_judged_by_what_was_advertised_with_its_job() {
    let pool = &mut FakePool::new(0);
    let hard = difficulty(-22);
    let (easy, easier) = (difficulty(-26), difficulty(-28));
    let first = pool.work(1, easy, HARD, true);
    let mut driver = Driver::working(&first);
    // The pool raised it twice before this miner's next job; the first job keeps its own.
    pool.work(2, difficulty(-24), HARD, false);
    let third = pool.work(3, hard, HARD, false);
    driver.input(Input::Work(&third));
    driver.submit(9, "1", grind(&first, easy, Some(difficulty(-24)), 1));
    let forward = driver.out.forwards.pop().expect("S50, S53: taken");
    assert!(
        (forward.worth.difficulty - easy.get()).abs() < f64::EPSILON,
        "credited at the old difficulty"
    );

    // After it is lowered again, the third job keeps its own.
    driver.input(Input::Work(&pool.work(4, easier, HARD, false)));
    let low = grind(&third, easier, Some(difficulty(-24)), 2);
    assert_eq!(driver.submit(10, "3", low)[0]["error"][0], 23, "S51");
    assert!(driver.out.forwards.is_empty());
}

#[test]
fn s58_a_bad_minimum_difficulty_spoils_that_extension_only() {
    let mut driver = Driver::new();
    let answer = driver.say(
        r#"{"id":1,"method":"mining.configure","params":[["version-rolling","minimum-difficulty"],{"version-rolling.mask":"1fffe000","minimum-difficulty.value":"2048"}]}"#,
    );
    assert_eq!(answer[0]["result"]["minimum-difficulty"], false);
    assert_eq!(answer[0]["result"]["version-rolling"], true);
}

/// S61, S64: the time of a job is rolled for two hours, second by second: good up to 7000 s, then
/// refused with 20.
#[test]
fn s61_s64_ntime_may_be_rolled_for_7000_seconds() {
    let work = FakePool::new(0).work(1, difficulty(-28), HARD, true);
    let mut driver = Driver::working(&work);
    let middle: [&[u8]; 3] = [&work.job.extranonce1, &work.lane, &[0x5c]];
    for second in (0..=7000).step_by(20).chain([7001, 7200]) {
        let ntime = work.job.job.ntime + second;
        driver.now += Duration::from_secs(20);
        let share = |nonce| Share {
            extranonce2: stratum::share::SmallBytes::new(&[0; 4]).expect("four bytes"),
            ntime,
            nonce,
            version_bits: None,
        };
        let meets = |nonce: &u32| {
            prove(&work.job.job, &middle, &share(*nonce), None, &difficulty(-28).target()).is_ok()
        };
        let nonce = if second <= 7000 { (0..u32::MAX).find(meets).expect("one in 16") } else { 0 };
        let code = driver.code(
            "\"1\"",
            "\"00000000\"",
            &format!("\"{ntime:08x}\""),
            &format!("\"{nonce:08x}\""),
            "",
        );
        if second > 7000 {
            assert_eq!(code, 20, "{second} s");
            continue;
        }
        let forward = driver.out.forwards.pop().expect("forwarded");
        let verdict = PoolVerdict { ticket: forward.ticket, outcome: PoolOutcome::Accepted };
        assert_eq!(driver.input(Input::Verdict(verdict))[0]["result"], true, "{second} s");
    }
}

/// S65, S66, S67: bits outside the mask, no bits although rolling was negotiated, bits although it
/// was not.
#[test]
fn s65_to_s67_version_bits_are_judged_by_what_was_agreed() {
    let configure = r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"0000e000"}]}"#;
    let pool = &mut FakePool::new(0);
    let work = pool.work(1, difficulty(10), HARD, true);
    let (extranonce2, nonce) = texts(grind(&work, difficulty(-24), None, 1));
    let judge = |agreed: bool, bits: &str| {
        let mut driver = Driver::new();
        if agreed {
            driver.say(configure);
        }
        driver.say(SUBSCRIBE);
        driver.say(r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#);
        driver.input(Input::Work(&work));
        driver.code("\"1\"", &extranonce2, NTIME, &nonce, bits)
    };
    assert_eq!(judge(true, r#","00010000""#), 20, "S65");
    assert_eq!(judge(true, ""), 20, "S66");
    assert_eq!(judge(true, r#","00000000""#), 0, "S66: none of them rolled, and said so");
    assert_eq!(judge(false, r#","00000000""#), 0, "S67: sent unasked (MRR)");
    assert_eq!(judge(false, r#","20000000""#), 20, "S67: outside 1fffe000");
    assert_eq!(judge(false, ""), 0);
}

/// F26: shares of the earlier holder of a slot are not credited to the next one, and late ones are
/// not sent a second time.
#[test]
fn f26_the_next_holder_of_a_slot_gets_nothing_of_the_former() {
    let pool = &mut FakePool::new(0);
    let old = pool.work(1, difficulty(-24), HARD, true);
    let mut former = Driver::working(&old);
    let share = grind(&old, difficulty(-24), None, 1);
    assert!(former.submit(9, "1", share).is_empty(), "on its way to the pool");
    drop(former);
    let mut next = Driver::working(&pool.work(2, difficulty(-24), HARD, false));
    assert_eq!(next.submit(9, "1", share)[0]["error"][0], 21, "it never held that job");
    assert_eq!(
        next.submit(9, "2", share)[0]["error"][0],
        23,
        "and in its own the share means another header"
    );
    assert!(next.out.forwards.is_empty());
}

/// F29: the miner's difficulty goes up sixteenfold and down again, job by job. Each share that is
/// good for its job is accepted at the difficulty of that job.
#[test]
fn f29_a_share_good_for_its_job_is_never_low_however_difficulty_moves() {
    let pool = &mut FakePool::new(0);
    let exponents = [-28, -24, -28, -24, -26, -28];
    let mut driver = Driver::ready();
    let mut works = Vec::new();
    for (job_id, exponent) in (1..).zip(exponents) {
        let work = pool.work(job_id, difficulty(exponent), HARD, false);
        driver.input(Input::Work(&work));
        works.push((work, difficulty(exponent)));
        // Late shares for every job so far: none was retired.
        for (work, advertised) in &works {
            let share = grind(work, *advertised, None, u32::try_from(100 * job_id).expect("small"));
            let answer =
                driver.submit(job_id * 100 + work.job_id, &job_id_text(work.job_id), share);
            assert!(answer.is_empty(), "job {}: {answer:?}", work.job_id);
            let forward = driver.out.forwards.pop().expect("forwarded");
            assert!((forward.worth.difficulty - advertised.get()).abs() < f64::EPSILON);
        }
    }
}

/// F32: a miner with one share an hour is not closed in two days.
#[test]
fn f32_a_very_slow_miner_stays() {
    let work = FakePool::new(0).work(1, difficulty(10), HARD, true);
    let mut driver = Driver::working(&work);
    let start = driver.now;
    let mut due = start;
    while driver.now < start + Duration::from_secs(2 * 24 * 3600) {
        driver.now = driver.session.wake_at();
        assert_eq!(driver.input(Input::Tick)[0]["method"], "mining.ping");
        if driver.now >= due {
            let hour = u32::try_from((driver.now - start).as_secs() / 3600).expect("small");
            // One share in seven is bad, even two in a row: the miner is slow, not malicious.
            let good = hour % 14 > 1;
            let share = if good { grind(&work, difficulty(-24), None, hour) } else { (hour, 0) };
            assert_eq!(driver.submit(9, "1", share)[0]["result"] == true, good, "hour {hour}");
            due += Duration::from_secs(3600);
        }
        assert_eq!((driver.out.close, driver.out.correction), (None, None));
    }
}

/// F51: the answers do not depend on how the bytes are split into chunks.
#[test]
fn f51_any_chunking_of_a_session_gives_the_same_answers() {
    use stratum::frame::{MINER_LINE_MAX, Splitter};
    let work = FakePool::new(0).work(1, difficulty(10), HARD, true);
    let mut bytes = format!(
        "{SUBSCRIBE}\r\n\n{}\n",
        r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#
    );
    let handshake = bytes.len();
    for from in 0..6 {
        let (extranonce2, nonce) = texts(grind(&work, difficulty(-24), None, from / 2));
        bytes.push_str(&format!(
            r#"{{"id":4,"method":"mining.submit","params":["acme.rig","1",{extranonce2},{NTIME},{nonce}]}}"#
        ));
        bytes.push_str(if from % 2 == 0 { "\n" } else { "\r\n" });
    }
    let bytes = bytes.into_bytes();
    let session = |mut cut: Box<dyn FnMut() -> usize>| {
        let now = origin();
        let mut session = Session::new(rules(), 0x5c, 1, now);
        let (mut out, mut splitter, mut at) = (Outbox::default(), Splitter::new(MINER_LINE_MAX), 0);
        for part in [&bytes[..handshake], &bytes[handshake..]] {
            let mut rest = part;
            while !rest.is_empty() {
                let (mut chunk, later) = rest.split_at(cut().clamp(1, rest.len()));
                rest = later;
                while let Some(line) = splitter.next_line(&mut chunk).expect("short lines") {
                    session.handle(Input::Line(line), now, &mut out);
                    at += 1;
                }
            }
            if part.len() == handshake {
                session.handle(Input::Work(&work), now, &mut out);
            }
        }
        assert_eq!((at, out.close), (9, None));
        (String::from_utf8(out.bytes).expect("JSON"), out.counts.len())
    };
    let whole = session(Box::new(|| usize::MAX));
    assert_eq!((whole.1, whole.0.matches("\"result\":true").count()), (6, 4), "{}", whole.0);
    for size in 1..200 {
        assert_eq!(session(Box::new(move || size)), whole, "chunks of {size}");
    }
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        assert_eq!(session(Box::new(move || rng.random_range(1..80))), whole, "seed {seed}");
    }
}
