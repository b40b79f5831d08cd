mod bad_input;
mod difficulty;

use super::*;
use rand::prelude::*;
use serde_json::Value;
use stratum::difficulty::Difficulty;
use stratum::error::RejectCode;
use stratum::job::Job;
use stratum::server_message::render_notify;
use stratum::share::{Share, prove};
use stratum::version::VersionMask;

use crate::level::Level;
use crate::outcome::Outcome;
use crate::reasons::Correction;
use crate::space::ConnectionId;
use crate::target::TargetId;
use crate::work::{
    Arrival, OwnExtranonce, PoolJob, SubmitQueues, Upstream, fingerprint, job_id_text,
};

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn difficulty(exponent: i32) -> Difficulty {
    Difficulty::new(2f64.powi(exponent)).expect("a power of two")
}

fn rules() -> Arc<SessionRules> {
    Arc::new(SessionRules {
        difficulty: DifficultyRules {
            start: Level::at_or_below(difficulty(-24)),
            min: Level::FLOOR,
            max: Level::CEILING,
            interval: None,
            by_user_agent: false,
        },
        handshake_timeout: Duration::from_secs(10),
        ping_every: Duration::from_secs(25),
        offer: VersionMask::BIP320,
        extranonce2_size: 4,
        server: 0,
        share_log: false,
    })
}

/// The values of a pool connection that sessions see, with its next numbers.
struct FakePool {
    upstream: Arc<Upstream>,
    _queues: SubmitQueues,
    next_seq: u64,
    /// The version bits it allows; `None` if it refuses rolling.
    mask: VersionMask,
}

impl FakePool {
    fn new(id: u64) -> Self {
        let (upstream, queues) =
            Upstream::new(ConnectionId(id), TargetId::nth(u16::try_from(id).expect("small")));
        Self { upstream, _queues: queues, next_seq: 1, mask: VersionMask::BIP320 }
    }

    /// A job under our id `job_id`, in the form in which a lane holds it.
    fn work(
        &mut self,
        job_id: u64,
        pool_difficulty: Difficulty,
        nbits: u32,
        clean: bool,
    ) -> Arc<LaneWork> {
        self.job(job_id, 0x2000_0000, pool_difficulty, nbits, clean)
    }

    /// A hard job whose header starts with `version`.
    fn work_of_version(&mut self, job_id: u64, version: u32) -> Arc<LaneWork> {
        self.job(job_id, version, difficulty(-24), HARD, true)
    }

    fn job(
        &mut self,
        job_id: u64,
        version: u32,
        pool_difficulty: Difficulty,
        nbits: u32,
        clean: bool,
    ) -> Arc<LaneWork> {
        let seq = self.next_seq;
        self.next_seq += 1;
        if clean {
            self.upstream.retire_below(seq);
        }
        let job = Job {
            job_id: format!("pool-{job_id}"),
            prev_hash: [7; 32],
            coinb1: vec![1, 2, u8::try_from(job_id % 251).expect("below 251")],
            coinb2: vec![3, 4],
            branches: vec![[9; 32]],
            version,
            nbits,
            ntime: 1_800_000_000,
            clean,
        };
        let extranonce1: Arc<[u8]> = [0xaa, 0xbb].into();
        let lane: Arc<[u8]> = [1, 2, 3].into();
        let notify = render_notify(&job_id_text(job_id), &job, &[&*extranonce1, &*lane].concat());
        let job = Arc::new(PoolJob {
            extranonce1,
            difficulty: pool_difficulty,
            pool_target: pool_difficulty.target(),
            block_target: job.network_target(),
            mask: Some(self.mask),
            seq,
            work_seq: seq,
            upstream: self.upstream.clone(),
            fingerprint: fingerprint(&job, true),
            arrival: Arrival::new(origin()),
            job,
        });
        Arc::new(LaneWork { own: None, job_id, job, lane, notify })
    }
}

/// A network target that no share in these tests meets.
const HARD: u32 = 0x1700_0000 | 0x03_ffff;
/// A network target that every hash meets.
const TRIVIAL: u32 = 0x207f_ffff;

struct Driver {
    session: Session,
    now: Instant,
    out: Outbox,
}

impl Driver {
    fn new() -> Self {
        let now = origin();
        Self { session: Session::new(rules(), 0x5c, 1, now), now, out: Outbox::default() }
    }

    fn ready() -> Self {
        let mut driver = Self::new();
        driver.say(r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1"]}"#);
        driver.say(r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#);
        assert!(driver.session.is_ready());
        driver
    }

    /// Sends a line, and returns the lines of the answer.
    fn say(&mut self, line: &str) -> Vec<Value> {
        self.input(Input::Line(line.as_bytes()))
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Value> {
        self.session.handle(input, self.now, &mut self.out);
        let bytes = std::mem::take(&mut self.out.bytes);
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn submit(&mut self, id: u64, job: &str, (extranonce2, nonce): (u32, u32)) -> Vec<Value> {
        self.say(&format!(
            r#"{{"id":{id},"method":"mining.submit","params":["acme.rig","{job}","{extranonce2:08x}","6b49d200","{nonce:08x}"]}}"#
        ))
    }
}

/// Looks for a share of `work` that meets `at_least` and, if given, misses `below`.
fn grind(
    work: &LaneWork,
    at_least: Difficulty,
    below: Option<Difficulty>,
    from: u32,
) -> (u32, u32) {
    let extranonce2 = from;
    for nonce in 0..u32::MAX {
        let share = Share {
            extranonce2: stratum::share::SmallBytes::new(&extranonce2.to_be_bytes())
                .expect("four bytes"),
            ntime: work.job.job.ntime,
            nonce,
            version_bits: None,
        };
        let middle: [&[u8]; 3] = [&work.job.extranonce1, &work.lane, &[0x5c]];
        let Ok(proof) = prove(&work.job.job, &middle, &share, None, &at_least.target()) else {
            continue;
        };
        if below.is_none_or(|below| !below.target().is_met_by(&proof.hash)) {
            return (extranonce2, nonce);
        }
    }
    unreachable!("a share of tiny difficulty exists")
}

#[test]
fn handshake_works_in_every_order_seen_in_the_field() {
    for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let lines = [
            r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}"#,
            r#"{"id":2,"method":"mining.subscribe","params":[]}"#,
            r#"{"id":3,"method":"mining.authorize","params":["acme.rig","x"]}"#,
        ];
        let mut driver = Driver::new();
        for index in order {
            let answers = driver.say(lines[index]);
            assert_eq!(
                answers.len(),
                1,
                "{order:?}: one answer and nothing else beside it: {answers:?}"
            );
            assert_eq!(answers[0]["id"], index + 1);
        }
        assert!(driver.session.is_ready(), "{order:?}");
        assert_eq!(driver.session.version_mask(), Some(VersionMask::BIP320));
    }
}

/// A passthrough miner has the pool's whole extranonce2, after the last byte of its extranonce1.
#[test]
fn u14_who_has_a_connection_of_its_own_follows_the_pools_extranonce_or_comes_again() {
    for asks in [true, false] {
        let (mut pool, mut driver) = (FakePool::new(0), Driver::ready());
        let mut own = |job_id, extranonce1, extranonce2_size| {
            let work = LaneWork::clone(&pool.work(job_id, difficulty(-26), HARD, true));
            Arc::new(LaneWork {
                own: Some(OwnExtranonce { extranonce1, extranonce2_size }),
                lane: [].into(),
                ..work
            })
        };
        if asks {
            driver.say(r#"{"id":5,"method":"mining.extranonce.subscribe","params":[]}"#);
        }
        let same = driver.input(Input::Work(&own(1, 0x5c, 4)));
        assert_eq!(same.last().expect("a job")["method"], "mining.notify");
        let lines = driver.input(Input::Work(&own(2, 0x77, 3)));
        if !asks {
            assert_eq!((lines.len(), driver.out.close), (0, Some(CloseReason::ExtranonceChanged)));
            continue;
        }
        assert_eq!(lines[0]["params"], serde_json::json!(["77", 3]), "before the job it is for");
        assert_eq!(lines.last().expect("a job")["method"], "mining.notify");
        // Shares of each job are judged by the extranonce with which it was sent.
        for (job, extranonce2, want) in
            [("2", "000000", true), ("2", "00000000", false), ("1", "00000000", true)]
        {
            let line = format!(
                r#"{{"id":9,"method":"mining.submit","params":["acme.rig","{job}","{extranonce2}","6b49d200","00000001"]}}"#
            );
            let code = driver.say(&line)[0]["error"][0].as_i64();
            assert_eq!(code != Some(20), want, "job {job} with {extranonce2}: {code:?}");
        }
    }
}

/// Invariant 3 of ARCHITECTURE.md: firmware that cannot be told to roll fewer bits reconnects;
/// docs/protocol.md 2.3 says which can be told.
#[test]
fn a_mask_that_shrinks_is_told_to_firmware_that_hears_it_and_others_connect_anew() {
    for (user_agent, hears) in [
        ("Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022", true),
        ("Antminer S17/Tue Dec  3 16:12:30 CST 2019", false),
        ("bitaxe/BM1370/v2.12.2", true),
        ("cgminer/4.11.1", false),
        ("", false),
    ] {
        let (mut pool, mut driver) = (FakePool::new(0), Driver::new());
        driver.say(r#"{"id":0,"method":"mining.configure","params":[["version-rolling"],{}]}"#);
        driver.say(&format!(r#"{{"id":1,"method":"mining.subscribe","params":["{user_agent}"]}}"#));
        driver.say(r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#);
        let mut narrowed = |job_id, mask| {
            pool.mask = VersionMask(mask);
            pool.work(job_id, difficulty(-26), HARD, true)
        };
        let methods = |lines: &[Value]| -> Vec<String> {
            lines
                .iter()
                .map(|line| line["method"].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        assert!(
            methods(&driver.input(Input::Work(&narrowed(1, 0x1fff_e000))))
                .contains(&"mining.notify".into())
        );
        let lines = methods(&driver.input(Input::Work(&narrowed(2, 0x00ff_e000))));
        assert_eq!(lines.contains(&"mining.set_version_mask".into()), hears, "{user_agent}");
        assert_eq!(
            lines.contains(&"mining.notify".into()),
            hears,
            "{user_agent}: no work it would do wrong"
        );
        driver.now += Duration::from_secs(31);
        driver.input(Input::Tick);
        assert_eq!(driver.out.close, (!hears).then_some(CloseReason::MaskShrank), "{user_agent}");
    }
}

/// S12: a miner for which no target can ever have a seat is refused with the reason, so that it can
/// use its own backup pool.
#[test]
fn s12_without_search_space_a_subscribe_is_refused_with_20() {
    let mut driver = Driver::new();
    driver.session.refuse();
    let configured =
        driver.say(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{}]}"#);
    assert_eq!((configured.len(), driver.out.close), (1, None));
    let answers = driver.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    assert_eq!(answers[0]["error"], serde_json::json!([20, "no search space", null]));
    assert_eq!(driver.out.close, Some(CloseReason::NoSearchSpace));
}

#[test]
fn the_slot_is_the_miners_extranonce1() {
    let mut driver = Driver::new();
    let answer = driver.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    assert_eq!((&answer[0]["result"][1], &answer[0]["result"][2]), (&"5c".into(), &4.into()));
}

#[test]
fn difficulty_comes_right_before_the_job_and_is_a_power_of_two_at_or_below_the_pools() {
    let mut driver = Driver::ready();
    let mut pool = FakePool::new(0);
    let pools = Difficulty::new(3.0 * 2f64.powi(-26)).expect("positive");
    let lines = driver.input(Input::Work(&pool.work(1, pools, HARD, true)));
    assert_eq!(lines[0]["method"], "mining.set_difficulty");
    assert_eq!(lines[0]["params"][0], 2f64.powi(-25));
    assert_eq!(
        (&lines[1]["method"], &lines[1]["params"][0]),
        (&"mining.notify".into(), &"1".into())
    );
    assert_eq!(lines[1]["params"][8], true);
    let lines = driver.input(Input::Work(&pool.work(2, pools, HARD, false)));
    assert_eq!(lines.len(), 1, "an unchanged difficulty is not repeated");
    assert_eq!(lines[0]["params"][8], false);
}

#[test]
fn a_password_may_ask_for_a_difficulty() {
    let mut driver = Driver::new();
    driver.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    driver.say(r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x,d=5"]}"#);
    let lines = driver.input(Input::Work(&FakePool::new(0).work(1, difficulty(10), HARD, true)));
    assert_eq!(lines[0]["params"][0], 4, "rounded down to a power of two");
}

#[test]
fn p01_true_means_the_pool_said_so_or_the_share_was_below_its_difficulty() {
    let mut driver = Driver::ready();
    let mut pool = FakePool::new(0);
    let work = pool.work(1, difficulty(-22), HARD, true);
    driver.input(Input::Work(&work));

    let low = grind(&work, difficulty(-24), Some(difficulty(-22)), 1);
    assert_eq!(driver.submit(10, "1", low)[0]["result"], true);
    assert_eq!(driver.out.counts.pop().map(|counted| counted.outcome), Some(Outcome::Local));
    assert!(driver.out.forwards.is_empty());

    pool.upstream.set_suspect(true);
    let low = grind(&work, difficulty(-24), Some(difficulty(-22)), 2);
    assert_eq!(driver.submit(11, "1", low)[0]["result"], true);
    assert_eq!(driver.out.counts.pop().map(|counted| counted.outcome), Some(Outcome::AtRisk));

    let high = grind(&work, difficulty(-22), None, 3);
    assert!(driver.submit(12, "1", high).is_empty(), "the pool has not said anything yet");
    let forward = driver.out.forwards.pop().expect("forwarded");
    let no = PoolOutcome::Rejected(RejectCode::JobNotFound, "Stale".into());
    let answer = driver.input(Input::Verdict(PoolVerdict { ticket: forward.ticket, outcome: no }));
    assert_eq!((&answer[0]["id"], &answer[0]["error"][0]), (&12.into(), &21.into()));
}

/// A pool that was left but is alive, without a clean job, still accepts shares of its last one.
#[test]
fn a_share_of_a_job_that_lives_long_is_a_duplicate_however_many_jobs_came_since() {
    let (mut driver, mut left, mut pool) = (Driver::ready(), FakePool::new(1), FakePool::new(2));
    let old = left.work(1, difficulty(-22), HARD, true);
    driver.input(Input::Work(&old));
    let share = grind(&old, difficulty(-24), Some(difficulty(-22)), 1);
    assert_eq!(driver.submit(10, "1", share)[0]["result"], true);
    for job_id in 2..300 {
        let work = pool.work(job_id, difficulty(-22), HARD, true);
        driver.input(Input::Work(&work));
    }
    assert_eq!(driver.submit(11, "1", share)[0]["error"][0], 22);
}

#[test]
fn s40_s41_the_same_share_in_any_spelling_is_a_duplicate() {
    let mut driver = Driver::ready();
    let work = FakePool::new(0).work(1, difficulty(10), HARD, true);
    driver.input(Input::Work(&work));
    let share = grind(&work, difficulty(-24), None, 0xabcd);
    assert_eq!(driver.submit(1, "1", share)[0]["result"], true);
    let upper = format!(
        r#"{{"id":2,"method":"mining.submit","params":["acme.rig","1","{:08X}","6B49D200","{:08X}"]}}"#,
        share.0, share.1
    );
    assert_eq!(driver.say(&upper)[0]["error"][0], 22);
}

#[test]
fn s33_s37_only_our_own_job_ids_in_our_own_spelling_are_known() {
    let mut driver = Driver::ready();
    let work = FakePool::new(0).work(0xab, difficulty(10), HARD, true);
    driver.input(Input::Work(&work));
    let share = grind(&work, difficulty(-24), None, 1);
    for job in ["AB", "0ab", "pool-171", "", "-1", "0x1", "ac"] {
        assert_eq!(driver.submit(5, job, share)[0]["error"][0], 21, "{job:?}");
    }
    assert_eq!(driver.submit(6, "ab", share)[0]["result"], true);
}

#[test]
fn s35_a_late_share_goes_to_the_pool_that_issued_its_job() {
    let mut driver = Driver::ready();
    let (mut a, mut b) = (FakePool::new(0), FakePool::new(1));
    let old = a.work(1, difficulty(-24), HARD, true);
    driver.input(Input::Work(&old));
    let lines = driver.input(Input::Work(&b.work(2, difficulty(-24), HARD, false)));
    assert_eq!(lines[0]["method"], "mining.set_difficulty", "said again, though it is the same");
    assert_eq!(lines.last().unwrap()["params"][8], true, "a switch is always clean for the miner");
    driver.submit(9, "1", grind(&old, difficulty(-24), None, 1));
    assert_eq!(driver.out.forwards.pop().expect("forwarded").work.job.upstream.id, a.upstream.id);
}

/// The pool allows 1fffe000 and the job has bit 22 set; one miner rolls nothing, the other one only
/// bits 13 to 16.
#[test]
fn the_pool_gets_the_headers_bits_under_its_own_mask() {
    for mask in [None, Some("0001e000")] {
        let mut driver = Driver::new();
        if let Some(mask) = mask {
            driver.say(&format!(
                r#"{{"id":1,"method":"mining.configure","params":[["version-rolling"],{{"version-rolling.mask":"{mask}"}}]}}"#
            ));
        }
        driver.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
        driver.say(r#"{"id":3,"method":"mining.authorize","params":["acme.rig","x"]}"#);
        let mut pool = FakePool::new(0);
        let work = pool.work_of_version(1, 0x2040_0000);
        driver.input(Input::Work(&work));
        let (extranonce2, nonce) = grind(&work, difficulty(-24), None, 1);
        let bits = if mask.is_some() { r#","00000000""# } else { "" };
        driver.say(&format!(
            r#"{{"id":9,"method":"mining.submit","params":["acme.rig","1","{extranonce2:08x}","6b49d200","{nonce:08x}"{bits}]}}"#
        ));
        let forward = driver.out.forwards.pop().expect("forwarded");
        assert_eq!(forward.version_bits, Some(0x0040_0000), "miner's mask {mask:?}");
    }
}

#[test]
fn s36_s49_f30_a_retired_job_is_stale_but_a_block_on_it_is_still_sent() {
    let mut driver = Driver::ready();
    let mut pool = FakePool::new(0);
    let old = pool.work(1, difficulty(-24), HARD, true);
    driver.input(Input::Work(&old));
    pool.work(2, difficulty(-24), HARD, true);
    assert_eq!(driver.submit(9, "1", grind(&old, difficulty(-24), None, 1))[0]["error"][0], 21);
    assert!(driver.out.forwards.is_empty());

    let block = pool.work(3, difficulty(-24), TRIVIAL, true);
    driver.input(Input::Work(&block));
    pool.work(4, difficulty(-24), HARD, true);
    driver.submit(10, "3", grind(&block, difficulty(-24), None, 1));
    assert!(driver.out.forwards.pop().expect("forwarded").block.is_some());
}

/// F65: a machine that reports `asleep` but continues with a job that its pool has retired must
/// still be seen to hash.
#[test]
fn f65_a_share_on_a_retired_job_is_refused_and_proves_work() {
    let mut driver = Driver::ready();
    let mut pool = FakePool::new(0);
    let old = pool.work(1, difficulty(-24), HARD, true);
    driver.input(Input::Work(&old));
    pool.work(2, difficulty(-24), HARD, true);
    let share = grind(&old, difficulty(-24), None, 1);
    assert_eq!(driver.submit(9, "1", share)[0]["error"][0], 21);
    let counted = driver.out.counts.pop().expect("counted");
    let difficulty_of = |counted: &Counted| counted.worth.map(|worth| worth.difficulty);
    assert_eq!(
        (counted.outcome, difficulty_of(&counted)),
        (Outcome::Stale, Some(difficulty(-24).get()))
    );
    driver.submit(10, "1", share);
    assert_eq!(driver.out.counts.pop().and_then(|counted| counted.worth), None, "once");
}

#[test]
fn a_skipped_clean_job_still_makes_the_next_one_clean() {
    let mut driver = Driver::ready();
    let mut pool = FakePool::new(0);
    driver.input(Input::Work(&pool.work(1, difficulty(0), HARD, true)));
    pool.work(2, difficulty(0), HARD, true);
    let lines = driver.input(Input::Work(&pool.work(3, difficulty(0), HARD, false)));
    assert_eq!(lines[0]["params"][8], true);
}

#[test]
fn the_miner_hears_from_us_before_it_takes_us_for_dead() {
    let mut driver = Driver::ready();
    assert_eq!(driver.session.wake_at(), driver.now + Duration::from_secs(25));
    driver.now += Duration::from_secs(25);
    assert_eq!(driver.input(Input::Tick)[0]["method"], "mining.ping");
    assert!(driver.input(Input::Tick).is_empty(), "once");
}

#[test]
fn f35_a_handshake_that_never_ends_is_closed() {
    let mut driver = Driver::new();
    driver.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    driver.now += Duration::from_secs(10);
    driver.input(Input::Tick);
    assert_eq!(driver.out.close, Some(CloseReason::HandshakeTimeout));
}

/// With random submits, verdicts and jobs, every submit is answered once, and equal ids in the
/// order of the submits.
#[test]
fn p02_random_sessions_answer_every_submit_exactly_once() {
    for seed in 0..40u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut driver = Driver::ready();
        let mut pools = [FakePool::new(0), FakePool::new(1)];
        let mut works = vec![pools[0].work(1, difficulty(-26), HARD, true)];
        driver.input(Input::Work(&works[0]));
        let mut owed: Vec<u32> = Vec::new();
        let (mut submitted, mut answered) = (0, Vec::new());
        for step in 0..120u32 {
            let lines = match rng.random_range(0..4) {
                0 => {
                    let job_id = works.len() as u64 + 1;
                    let work = pools[rng.random_range(0..2)].work(
                        job_id,
                        difficulty(-26),
                        HARD,
                        rng.random_bool(0.3),
                    );
                    works.push(work.clone());
                    driver.input(Input::Work(&work))
                }
                1 if !owed.is_empty() => {
                    let ticket = owed.swap_remove(rng.random_range(0..owed.len()));
                    let outcome = [PoolOutcome::Accepted, PoolOutcome::Unresolved]
                        [rng.random_range(0..2)]
                    .clone();
                    driver.input(Input::Verdict(PoolVerdict { ticket, outcome }))
                }
                _ => {
                    submitted += 1;
                    let work = works.choose(&mut rng).expect("one at least").clone();
                    let share = grind(&work, difficulty(-26), None, step);
                    driver.submit(rng.random_range(4..6), &job_id_text(work.job_id), share)
                }
            };
            owed.extend(driver.out.forwards.drain(..).map(|forward| forward.ticket));
            answered.extend(
                lines
                    .iter()
                    .filter(|line| line.get("method").is_none())
                    .map(|line| line["id"].clone()),
            );
        }
        for ticket in owed {
            let verdict = PoolVerdict { ticket, outcome: PoolOutcome::Accepted };
            answered.extend(
                driver.input(Input::Verdict(verdict)).iter().map(|line| line["id"].clone()),
            );
        }
        assert_eq!((answered.len(), driver.session.unanswered()), (submitted, 0), "seed {seed}");
    }
}
