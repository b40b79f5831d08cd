//! Tests the rows U of docs/faults.md (what a pool may send) that a single connection decides.

use stratum::client_role::Ignored;

use super::*;

/// A session, the bytes that it wrote, and the outcomes that it has settled.
struct Bench {
    session: PoolSession,
    now: Instant,
    out: Vec<u8>,
    settled: Vec<Settled>,
}

impl Bench {
    /// The connection is open; nothing has been answered.
    fn new() -> Self {
        let now = origin();
        let mut bench = Self { session: session(now), now, out: Vec::new(), settled: Vec::new() };
        bench.session.start(&mut bench.out);
        bench
    }

    /// The handshake is complete, and the difficulty is 1000.
    fn ready() -> Self {
        let mut bench = Self::new();
        bench.say(r#"{"id":2,"result":[[],"aabb",8],"error":null}"#);
        bench.say(r#"{"id":3,"result":true,"error":null}"#);
        bench.say(r#"{"id":null,"method":"mining.set_difficulty","params":[1000]}"#);
        bench.out.clear();
        bench
    }

    fn say(&mut self, line: &str) -> Vec<PoolEvent> {
        let mut events = Vec::new();
        self.session.line(line.as_bytes(), self.now, &mut self.out, &mut events, &mut self.settled);
        events
    }

    fn pass(&mut self, time: Duration) -> Vec<PoolEvent> {
        let mut events = Vec::new();
        self.now += time;
        self.session.tick(self.now, &mut events, &mut self.settled);
        events
    }

    fn submit(&mut self) -> u64 {
        let (upstream, _queues) = Upstream::new(ConnectionId(1), TargetId::nth(0));
        let reply = crate::handle::tests::handle(1);
        self.out.clear();
        self.session.share(share(&upstream, reply), self.now, &mut self.out, &mut self.settled);
        let line: serde_json::Value = serde_json::from_slice(&self.out).expect("a submit");
        line["id"].as_u64().expect("numbered")
    }

    fn answer(&mut self, request: u64, result: &str) -> Vec<PoolEvent> {
        self.say(&format!("{{\"id\":{request},{result}}}"))
    }
}

const TRUE: &str = r#""result":true,"error":null"#;
const LOW: &str = r#""result":null,"error":[23,"low",null]"#;
const SECOND: Duration = Duration::from_secs(1);

fn notify(id: &str, block: u32, clean: bool) -> String {
    let block = format!("{block:08x}").repeat(8);
    format!(
        r#"{{"id":null,"method":"mining.notify","params":["{id}","{block}","01","02",[],"20000000","1703ffff","6b49d200",{clean}]}}"#
    )
}

fn dead(events: &[PoolEvent]) -> Option<End> {
    events.iter().find_map(|event| match event {
        PoolEvent::Dead { end, .. } => Some(*end),
        _ => None,
    })
}

fn alarm(events: &[PoolEvent]) -> Option<Alarm> {
    events.iter().find_map(|event| match event {
        PoolEvent::Alarm { alarm, .. } => Some(*alarm),
        _ => None,
    })
}

fn ignored(events: &[PoolEvent]) -> Option<IgnoredLine> {
    events.iter().find_map(|event| match event {
        PoolEvent::Ignored(what) => Some(*what),
        _ => None,
    })
}

fn job_ids(events: &[PoolEvent]) -> Vec<String> {
    let job = |event: &PoolEvent| match event {
        PoolEvent::Job { job, .. } => Some(job.job_id.clone()),
        _ => None,
    };
    events.iter().filter_map(job).collect()
}

/// F09, U18: the pool is silent from the start, or after it has answered the subscribe.
#[test]
fn f09_u18_a_handshake_that_is_not_answered_ends_after_20_s() {
    for (answered, words) in [(false, "subscribe"), (true, "authorize")] {
        let mut bench = Bench::new();
        if answered {
            bench.say(r#"{"id":2,"result":[[],"aabb",8],"error":null}"#);
        }
        assert_eq!(dead(&bench.pass(19 * SECOND)), None);
        let events = bench.pass(SECOND);
        assert_eq!(dead(&events), Some(End::HandshakeTimeout));
        assert!(
            matches!(&events[0], PoolEvent::Dead { detail, .. } if detail.contains(words)),
            "{events:?}"
        );
    }
}

/// F10: the pool answers the subscribe but refuses our user. No job of it is passed on.
#[test]
fn f10_no_job_of_a_pool_that_refuses_our_user_is_handed_on() {
    let mut bench = Bench::new();
    bench.say(r#"{"id":2,"result":[[],"aabb",8],"error":null}"#);
    bench.say(r#"{"id":null,"method":"mining.set_difficulty","params":[1000]}"#);
    assert_eq!(job_ids(&bench.say(&notify("a", 1, true))), [""; 0]);
    let refused = bench.say(r#"{"id":3,"result":false,"error":null}"#);
    assert_eq!((dead(&refused), job_ids(&refused).len()), (Some(End::AuthFailed), 0));
    assert_eq!(job_ids(&bench.pass(2 * SECOND)), [""; 0]);
}

#[test]
fn u15_u41_answers_to_nothing_are_counted_and_a_hundred_a_minute_end_it() {
    let mut bench = Bench::ready();
    let request = bench.submit();
    bench.answer(request, TRUE);
    for line in [
        format!("{{\"id\":{request},{TRUE}}}"),
        format!("{{\"id\":{},{TRUE}}}", request + 1),
        format!("{{\"id\":\"{request}\",{TRUE}}}"),
        format!("{{\"id\":null,{TRUE}}}"),
    ] {
        assert_eq!(ignored(&bench.say(&line)), Some(IgnoredLine::UnmatchedAnswer), "{line}");
    }
    // Forty unrequested answers a minute for an hour are unusual, but do not end the connection.
    for _ in 0..40 * 60 {
        bench.now += SECOND * 3 / 2;
        assert_eq!(dead(&bench.say(r#"{"id":7,"result":true}"#)), None);
    }
    bench.now += 60 * SECOND;
    let ends = (0..101)
        .map(|_| bench.say(r#"{"id":7,"result":true}"#))
        .find(|events| dead(events).is_some());
    let events = ends.expect("the hundred and first within a minute");
    assert_eq!(dead(&events), Some(End::UnmatchedAnswers));
    assert!(
        events.iter().any(|event| matches!(
            event,
            PoolEvent::Quarantine { reason: Alarm::UnmatchedAnswers }
        ))
    );
    assert_eq!(bench.settled.len(), 1, "and none of them was an answer to a share");
}

/// U21: a pool that sends three unreadable jobs in a row cannot be mined at. The tests of U20 to
/// U29 in `stratum::job` say which jobs are unreadable.
#[test]
fn u21_a_bad_job_changes_nothing_and_three_in_a_row_end_it() {
    let bad = r#"{"id":null,"method":"mining.notify","params":["j","00","01","02",[],"20000000","1703ffff","6b49d200",true]}"#;
    let mut bench = Bench::ready();
    for _ in 0..3 {
        for _ in 0..2 {
            let events = bench.say(bad);
            assert_eq!((alarm(&events), job_ids(&events).len()), (Some(Alarm::BadJob), 0));
        }
        bench.now += SECOND;
        assert_eq!(job_ids(&bench.say(&notify("good", 1, false))), ["good"]);
    }
    bench.say(bad);
    bench.say(bad);
    assert_eq!(dead(&bench.say(bad)), Some(End::BadJobs));
}

/// U28: jobs with the same id and different content are different jobs.
#[test]
fn u28_the_same_job_id_with_other_content_is_another_job() {
    let mut bench = Bench::ready();
    for block in 1..4 {
        let events = bench.say(&notify("a", block, true));
        let PoolEvent::Job { job, .. } = &events[0] else { panic!("{events:?}") };
        assert_eq!(job.prev_hash, u32::to_le_bytes(block).repeat(8)[..], "{block}");
    }
}

#[test]
fn u30_f79_of_a_thousand_jobs_a_second_five_go_on() {
    let mut bench = Bench::ready();
    let mut handed = Vec::new();
    for ms in 0..4950 {
        handed.extend(job_ids(&bench.say(&notify(&ms.to_string(), 1, false))));
        bench.now += Duration::from_millis(1);
        // The session is ticked when it asks for it, and not before.
        if bench.session.held_until().is_some_and(|due| bench.now >= due) {
            handed.extend(job_ids(&bench.pass(Duration::ZERO)));
        }
    }
    assert!(handed.len() <= 26, "{}", handed.len());
    let due = bench.session.held_until().expect("the newest waits");
    handed.extend(job_ids(&bench.pass(due - bench.now)));
    assert_eq!(handed.last().map(String::as_str), Some("4949"));
}

/// A job that was held belongs to the extranonce under which it came, and is dropped with it.
#[test]
fn u14_a_held_job_does_not_outlive_its_extranonce() {
    let mut bench = Bench::ready();
    assert_eq!(job_ids(&bench.say(&notify("a", 1, true))).len(), 1);
    assert_eq!(job_ids(&bench.say(&notify("b", 1, false))).len(), 0);
    bench.say(r#"{"id":null,"method":"mining.set_extranonce","params":["ccdd",4]}"#);
    assert_eq!(bench.session.held_until(), None);
    assert_eq!(job_ids(&bench.pass(SECOND)).len(), 0);
    assert_eq!(bench.session.extranonce_len(), Some(6));
}

/// U32: an invalid difficulty raises an alarm, and the former one is kept. U33: a difficulty that
/// comes before any job is stored. U34: a jump of the difficulty raises an alarm, and is followed.
#[test]
fn u32_to_u34_difficulties_are_stored_kept_or_told_of() {
    let set = |difficulty: &str| {
        format!("{{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[{difficulty}]}}")
    };
    let difficulty = |events: &[PoolEvent]| match events {
        [PoolEvent::Job { difficulty, .. }] => difficulty.get(),
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::ready();
    assert_eq!(
        difficulty(&bench.say(&notify("a", 1, true))),
        1000.0,
        "U33: it was said before any job"
    );
    for bad in ["0", "-5", "\"512\"", "1e308", "null", ""] {
        assert_eq!(alarm(&bench.say(&set(bad))), Some(Alarm::BadDifficulty), "U32: {bad}");
    }
    assert_eq!(
        difficulty(&bench.say(&notify("b", 2, true))),
        1000.0,
        "U32: the former one is kept"
    );
    assert_eq!(alarm(&bench.say(&set("999999999"))), None);
    bench.say(&set("1"));
    assert_eq!(alarm(&bench.say(&set("1000000"))), Some(Alarm::DifficultyJump), "U34");
    assert_eq!(difficulty(&bench.say(&notify("c", 3, true))), 1e6, "U34: and it holds");
}

/// U37, U38: requests of the pool are answered about once a second, even while jobs come.
#[test]
fn u37_u38_a_flood_of_questions_is_answered_once_a_second() {
    let mut bench = Bench::ready();
    let mut dropped = 0;
    for n in 0..10_000u32 {
        let question = ["client.get_version", "vendor.x"][n as usize % 2];
        let events = bench.say(&format!("{{\"id\":{n},\"method\":\"{question}\",\"params\":[]}}"));
        dropped += events
            .iter()
            .filter(|event| matches!(event, PoolEvent::Ignored(IgnoredLine::Question)))
            .count();
        if n % 100 == 0 {
            bench.say(&notify("a", n, true));
        }
        bench.now += Duration::from_millis(1);
    }
    let answers = bench.out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert!((9..=14).contains(&answers) && dropped > 0, "{answers} answered, {dropped} not");
}

#[test]
fn u39_other_methods_are_counted_and_change_nothing() {
    let mut bench = Bench::ready();
    for line in [
        r#"{"id":null,"method":"mining.set_goal","params":["x"]}"#,
        r#"{"id":null,"method":"client.exec","params":["rm"]}"#,
        r#"{"method":"mining.multi_version","params":[1]}"#,
    ] {
        assert_eq!(
            ignored(&bench.say(line)),
            Some(IgnoredLine::Line(Ignored::UnknownMethod)),
            "{line}"
        );
    }
    assert!(bench.out.is_empty());
}

/// U42: each connection numbers its requests from a range of its own, so that an answer to a
/// request of a former connection matches none of ours.
#[test]
fn u42_an_answer_to_a_former_connections_share_is_nobodys() {
    let mut former = Bench::ready();
    let old = former.submit();
    let mut bench = Bench::ready();
    let config = |session: &PoolSession| (session.patience.clone(), session.difficulty);
    let (patience, difficulty) = config(&bench.session);
    let client = ClientConfig {
        user_agent: "tieline".into(),
        worker: "acme".into(),
        password: "x".into(),
        mask: None,
        suggest: None,
    };
    bench.session = PoolSession::new(ConnectionId(2), client, patience, difficulty, bench.now);
    let new = bench.submit();
    assert_ne!(old, new);
    assert_eq!(ignored(&bench.answer(old, TRUE)), Some(IgnoredLine::UnmatchedAnswer));
    assert_eq!((bench.settled.len(), bench.session.waiting()), (0, 1));
}

/// F59: a pool that lies in its answers is detected within a minute, as far as this can be seen.
#[test]
fn f59_lies_that_can_be_seen_are_told_of_within_a_minute() {
    // The pool rejects every share.
    let mut bench = Bench::ready();
    let mut found = None;
    for second in 0..60 {
        let request = bench.submit();
        found = found.or(dead(&bench.answer(request, LOW)).map(|reason| (second, reason)));
        bench.pass(SECOND);
    }
    assert_eq!(found, Some((9, End::RejectsAll)));

    // The pool rejects every fifth share.
    let mut bench = Bench::ready();
    let mut found = None;
    for second in 0..60 {
        let request = bench.submit();
        let events = bench.answer(request, if second % 5 == 0 { LOW } else { TRUE });
        found = found.or(alarm(&events).map(|what| (second, what)));
        bench.pass(SECOND);
    }
    assert!(matches!(found, Some((_, Alarm::RejectsMany))), "{found:?}");

    // The pool answers with wrong ids. Like answers that come after five minutes, this counts as
    // silence.
    let mut bench = Bench::ready();
    let mut found = None;
    for second in 0..60 {
        let request = bench.submit();
        bench.answer(request + 1_000_000, TRUE);
        found = found.or(dead(&bench.pass(SECOND)).map(|reason| (second, reason)));
    }
    assert!(matches!(found, Some((0..=25, End::Silent))), "{found:?}");

    // The pool answers some shares at once and one too late: that one is unresolved after 20 s, and
    // its answer is then counted as late.
    let mut bench = Bench::ready();
    let late = bench.submit();
    for _ in 0..30 {
        let request = bench.submit();
        bench.answer(request, TRUE);
        assert_eq!(dead(&bench.pass(SECOND)), None);
    }
    let unresolved = |settled: &[Settled]| {
        settled.iter().filter(|end| end.outcome == SettledAs::Unresolved).count()
    };
    assert_eq!(unresolved(&bench.settled), 1);
    let before = bench.settled.len();
    assert_eq!(ignored(&bench.answer(late, TRUE)), Some(IgnoredLine::LateAnswer));
    assert_eq!(bench.settled.len(), before, "settled once");
}

/// U36: a long message is truncated and escaped. Each message is an event of its own, to be
/// counted; the log is limited elsewhere.
#[test]
fn u36_messages_are_cut_and_escaped() {
    let mut bench = Bench::ready();
    let line = format!(
        r#"{{"id":null,"method":"client.show_message","params":["\u001b[2J{}"]}}"#,
        "x".repeat(50_000)
    );
    let events = bench.say(&line);
    let [PoolEvent::Alarm { alarm: Alarm::PoolMessage, detail }] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(detail.chars().count() <= 256 && !detail.contains('\u{1b}'), "{detail}");
}

/// A pool that answers 16,000 shares a second ten seconds late is only slow: each answer is matched
/// with its share, and there is room for more shares. The answer to a share that was given up
/// meanwhile is counted as late.
#[test]
fn a_pool_that_answers_late_is_not_one_that_answers_what_nobody_asked() {
    const A_TENTH: u64 = 1600;
    let mut bench = Bench::ready();
    let (upstream, _queues) = Upstream::new(ConnectionId(1), TargetId::nth(0));
    let reply = crate::handle::tests::handle(1);
    let UpstreamShare { work, extranonce2, .. } = share(&upstream, reply.clone());
    let first = bench.submit();
    bench.answer(first, TRUE);
    for _ in 0..100 {
        for _ in 0..A_TENTH {
            let (work, reply) = (work.clone(), reply.clone());
            let (slot, ntime, nonce, version_bits, ticket) = (7, 1_800_000_000, 1, None, 3);
            let (block, machine, record) = (None, None, None);
            let share = UpstreamShare {
                work,
                slot,
                extranonce2,
                ntime,
                nonce,
                version_bits,
                ticket,
                reply,
                block,
                machine,
                record,
            };
            bench.out.clear();
            bench.session.share(share, bench.now, &mut bench.out, &mut bench.settled);
        }
        assert!(bench.pass(SECOND / 10).is_empty());
    }
    let sent = 100 * A_TENTH;
    assert_eq!(bench.session.waiting() as u64, sent);
    assert!(bench.session.room() > 0);
    // Half of the shares are answered, and half never in time.
    for request in first + 1..=first + sent / 2 {
        assert!(bench.answer(request, TRUE).is_empty(), "{request}");
    }
    assert!(bench.settled.drain(..).all(|end| end.outcome == SettledAs::Accepted));
    assert!(bench.pass(21 * SECOND).is_empty(), "it has answered lately");
    assert_eq!(
        bench.settled.drain(..).filter(|end| end.outcome == SettledAs::Unresolved).count() as u64,
        sent / 2
    );
    for request in (first + sent / 2 + 1..=first + sent).step_by(100) {
        assert_eq!(
            ignored(&bench.answer(request, TRUE)),
            Some(IgnoredLine::LateAnswer),
            "{request}"
        );
    }
}
