mod hostile;

use super::*;
use std::sync::Arc;

use stratum::share::Proof;

use crate::handle::SessionHandle;
use crate::lane::LaneState;
use crate::placement::Placement;
use crate::space::ConnectionId;
use crate::target::TargetId;
use crate::work::{Arrival, LaneWork, PoolJob, Upstream, fingerprint};

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn session(now: Instant) -> PoolSession {
    let config = ClientConfig {
        user_agent: "tieline".into(),
        worker: "acme".into(),
        password: "x".into(),
        mask: None,
        suggest: None,
    };
    let patience = PoolPatience {
        handshake: Duration::from_secs(20),
        suspect: Duration::from_secs(5),
        answer: Duration::from_secs(20),
        quiet: Duration::from_secs(120),
        job_every: Duration::from_millis(200),
    };
    PoolSession::new(ConnectionId(1), config, patience, Difficulty::ONE, now)
}

pub(crate) fn share(upstream: &Arc<Upstream>, reply: Arc<SessionHandle>) -> UpstreamShare {
    share_of("j", upstream, reply)
}

/// A share of the job with this id of the pool.
pub(in crate::upstream) fn share_of(
    job_id: &str,
    upstream: &Arc<Upstream>,
    reply: Arc<SessionHandle>,
) -> UpstreamShare {
    let job = Job {
        job_id: job_id.into(),
        prev_hash: [1; 32],
        coinb1: vec![1],
        coinb2: vec![2],
        branches: vec![],
        version: 0x2000_0000,
        nbits: 0x1703_ffff,
        ntime: 1_800_000_000,
        clean: true,
    };
    let job = Arc::new(PoolJob {
        extranonce1: [0xaa].into(),
        difficulty: Difficulty::ONE,
        pool_target: Difficulty::ONE.target(),
        block_target: job.network_target(),
        mask: None,
        seq: 1,
        work_seq: 1,
        upstream: upstream.clone(),
        fingerprint: fingerprint(&job, true),
        arrival: Arrival::new(origin()),
        job,
    });
    UpstreamShare {
        work: Arc::new(LaneWork {
            own: None,
            job_id: 1,
            job,
            lane: [0].into(),
            notify: bytes::Bytes::new(),
        }),
        slot: 7,
        extranonce2: stratum::share::SmallBytes::new(&[0; 4]).expect("four bytes"),
        ntime: 1_800_000_000,
        nonce: 1,
        version_bits: None,
        ticket: 3,
        reply,
        block: None,
        machine: None,
        record: None,
    }
}

/// Passes lines to a session, and returns the difficulties of the jobs that come out.
fn jobs(session: &mut PoolSession, lines: &[&str], now: Instant) -> Vec<f64> {
    let (mut out, mut events, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        session.line(line.as_bytes(), now, &mut out, &mut events, &mut settled);
    }
    session.tick(now, &mut events, &mut settled);
    let difficulty = |event: &PoolEvent| match event {
        PoolEvent::Job { difficulty, .. } => Some(difficulty.get()),
        _ => None,
    };
    events.iter().filter_map(difficulty).collect()
}

const HELLO: [&str; 2] =
    [r#"{"id":2,"result":[[],"aabb",8],"error":null}"#, r#"{"id":3,"result":true,"error":null}"#];
const DIFFICULTY: &str = r#"{"id":null,"method":"mining.set_difficulty","params":[65536]}"#;

fn notify() -> String {
    format!(
        r#"{{"id":null,"method":"mining.notify","params":["j","{}","01","02",[],"20000000","1703ffff","6b49d200",true]}}"#,
        "00".repeat(32)
    )
}

/// A whole farm at difficulty 1 would send a storm of shares. So the first job is passed on when
/// the pool has sent the difficulty that belongs to it, or after a second.
#[test]
fn a_first_job_waits_for_its_difficulty() {
    let (now, notify) = (origin(), notify());
    let start = || {
        let mut session = session(now);
        session.start(&mut Vec::new());
        session
    };
    let mut late = start();
    assert_eq!(jobs(&mut late, &[HELLO[0], HELLO[1], &notify], now), [0.0; 0]);
    assert_eq!(jobs(&mut late, &[DIFFICULTY], now), [65536.0]);
    let mut before = start();
    assert_eq!(jobs(&mut before, &[HELLO[0], DIFFICULTY, &notify, HELLO[1]], now), [65536.0]);
    let mut never = start();
    assert_eq!(jobs(&mut never, &[HELLO[0], HELLO[1], &notify], now), [0.0; 0]);
    assert_eq!(
        jobs(&mut never, &[], now + DIFFICULTY_PATIENCE),
        [1.0],
        "as the configuration says"
    );
}

/// para 0.6.0 measures a share of an older job by the lower of its two latest difficulties. When it
/// was asked to lower a difficulty that it had raised during the same job, it refused shares that
/// met the difficulty of that job.
#[test]
fn a_change_of_difficulty_settles_before_another_is_asked_for() {
    let (now, notify) = (origin(), notify());
    let later = now + CHANGE_SETTLES;
    let raised = r#"{"id":null,"method":"mining.set_difficulty","params":[131072]}"#;
    let mut session = session(now);
    session.start(&mut Vec::new());
    jobs(&mut session, &[HELLO[0], HELLO[1], DIFFICULTY], now);
    assert!(!session.is_settled(later), "it has brought no job");
    jobs(&mut session, &[&notify], now);
    assert!(!session.is_settled(now) && session.is_settled(later));
    jobs(&mut session, &[DIFFICULTY], later);
    assert!(session.is_settled(later), "nothing has changed");
    jobs(&mut session, &[raised], later);
    assert!(!session.is_settled(later + CHANGE_SETTLES), "no job has it yet");
    jobs(&mut session, &[&notify], later);
    assert!(!session.is_settled(later), "shares of the job before may still come");
    jobs(&mut session, &[&notify], later + CHANGE_SETTLES);
    assert!(session.is_settled(later + CHANGE_SETTLES), "a further job has no further change");
}

/// docs/protocol.md: a set_extranonce works from the next notify on. A job that came before it and
/// still waits for its difficulty is dropped.
#[test]
fn u14_a_job_that_waits_for_its_difficulty_dies_by_a_set_extranonce() {
    const EXTRANONCE: &str = r#"{"id":null,"method":"mining.set_extranonce","params":["ccdd",8]}"#;
    let now = origin();
    for late in [HELLO[1], DIFFICULTY] {
        let mut session = session(now);
        session.start(&mut Vec::new());
        let before: Vec<&str> =
            [HELLO[0], HELLO[1], DIFFICULTY].into_iter().filter(|line| *line != late).collect();
        assert_eq!(jobs(&mut session, &before, now), [0.0; 0]);
        assert_eq!(
            jobs(&mut session, &[&notify(), EXTRANONCE, late], now),
            [0.0; 0],
            "before {late}"
        );
        assert_eq!(jobs(&mut session, &[], now + DIFFICULTY_PATIENCE), [0.0; 0]);
        assert_eq!(
            jobs(&mut session, &[&notify()], now),
            [65536.0],
            "the same job again is one under the new extranonce"
        );
    }
}

/// While a share waits for its session's next turn, or in the queue, it has the pool's former job
/// id. It is submitted under the newest id of its work.
#[test]
fn a_share_goes_out_by_the_newest_name_of_its_work() {
    let now = origin();
    let placement = Placement::new(4, 0);
    let (upstream, _queues) = Upstream::new(placement.next_connection_id(), TargetId::nth(0));
    placement.connection_up(&upstream, &[0xaa], 8).expect("fits");
    let reply = crate::handle::tests::handle(1);
    let (mut session, mut out, mut settled) = (session(now), Vec::new(), Vec::new());
    let bring = |session: &mut PoolSession, job_id: &str, ntime, clean| {
        let job = Job {
            job_id: job_id.into(),
            ntime,
            clean,
            ..Job::clone(&share(&upstream, reply.clone()).work.job.job)
        };
        placement.job(upstream.id, job, Difficulty::ONE, None, now).expect("connected");
        session.note_name(placement.current(upstream.id));
    };
    bring(&mut session, "first", 1, true);
    let LaneState::Work(work) = placement.seat(TargetId::nth(0), 7).expect("room").lane.take()
    else {
        panic!("a seat has work")
    };
    let mut submit = |session: &mut PoolSession| {
        out.clear();
        session.share(
            UpstreamShare { work: work.clone(), ..share(&upstream, reply.clone()) },
            now,
            &mut out,
            &mut settled,
        );
        String::from_utf8(out.clone()).unwrap()
    };
    for name in ["second", "third"] {
        bring(&mut session, name, 1, true);
        assert!(submit(&mut session).contains(&format!("\"{name}\"")));
    }
    bring(&mut session, "fourth", 2, false);
    assert!(submit(&mut session).contains("\"third\""), "other work beside it");
    bring(&mut session, "fifth", 3, true);
    assert_eq!(submit(&mut session), "", "other work instead of it");
    assert_eq!(settled.pop().map(|settled| settled.outcome), Some(SettledAs::Stale));
}

/// F31: a block for which no answer comes may have reached the pool or not. Nobody knows, so its
/// header is reported for a person to check.
#[test]
fn a_block_without_an_answer_is_reported_with_its_header() {
    let now = origin();
    let (upstream, _queues) = Upstream::new(ConnectionId(1), TargetId::nth(0));
    let reply = crate::handle::tests::handle(1);
    let (mut session, mut out, mut settled) = (session(now), Vec::new(), Vec::new());
    let rebuilt = stratum::share::Rebuilt::Plain;
    let proof = Proof { header: [5; 80], hash: [0; 32], version_bits: None, rebuilt };
    let block = UpstreamShare { block: Some(Box::new(proof)), ..share(&upstream, reply) };
    session.share(block, now, &mut out, &mut settled);
    session.end(now, &mut settled);
    let end = settled.pop().expect("settled");
    assert_eq!(
        (end.outcome, end.block.map(|proof| proof.header)),
        (SettledAs::Unresolved, Some([5; 80]))
    );
}

/// After a set_extranonce, the pool would build a different coinbase from the share and reject it,
/// and after ten such rejections the pool would look as if it accepted no shares. So the share is
/// counted as stale and not sent.
#[test]
fn s39_a_share_whose_job_was_retired_in_the_queue_is_stale_and_not_sent() {
    let now = origin();
    let (upstream, _queues) = Upstream::new(ConnectionId(1), TargetId::nth(0));
    let reply = crate::handle::tests::handle(1);
    let (mut session, mut out, mut settled) = (session(now), Vec::new(), Vec::new());
    session.share(share(&upstream, reply.clone()), now, &mut out, &mut settled);
    assert!(!out.is_empty() && settled.is_empty() && session.waiting() == 1, "a live one is sent");

    out.clear();
    upstream.retire_below(2);
    session.share(share(&upstream, reply.clone()), now, &mut out, &mut settled);
    assert!(out.is_empty() && session.waiting() == 1);
    assert_eq!(settled.pop().map(|settled| settled.outcome), Some(SettledAs::Stale));
    let verdict = reply.mailbox.take().1.pop().expect("answered");
    assert_eq!(
        verdict.outcome,
        PoolOutcome::Rejected(RejectCode::JobNotFound, "job is stale".into())
    );
}

/// F03, F05: with a share outstanding, a pool that says nothing counts as lost after the answer's
/// deadline, and as suspect long before. Ticks come once a second, so this takes 21 s at most. F32:
/// without an outstanding share, two hours of silence have no consequence.
#[test]
fn f03_silence_with_a_share_outstanding_is_found_out_within_25_seconds() {
    let start = origin();
    let (upstream, _queues) = Upstream::new(ConnectionId(1), TargetId::nth(0));
    let reply = crate::handle::tests::handle(1);
    let mut session = session(start);
    let (mut out, mut events, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    session.start(&mut out);
    for line in [
        r#"{"id":2,"result":[[],"aabb",8],"error":null}"#,
        r#"{"id":3,"result":true,"error":null}"#,
    ] {
        session.line(line.as_bytes(), start, &mut out, &mut events, &mut settled);
    }
    events.clear();
    let sent = start + Duration::from_secs(7200);
    session.tick(sent, &mut events, &mut settled);
    assert!(events.is_empty() && !session.is_suspect(sent), "nothing is owed");

    session.share(share(&upstream, reply.clone()), sent, &mut out, &mut settled);
    let mut now = sent;
    while events.is_empty() {
        now += session.tick_every();
        assert_eq!(session.is_suspect(now), now >= sent + Duration::from_secs(5));
        session.tick(now, &mut events, &mut settled);
        assert!(now <= sent + Duration::from_secs(25), "not found out");
    }
    assert!(matches!(events[..], [PoolEvent::Dead { end: End::Silent, .. }]), "{events:?}");
    session.end(now, &mut settled);
    assert_eq!(
        reply.mailbox.take().1.pop().map(|verdict| verdict.outcome),
        Some(PoolOutcome::Unresolved)
    );
}
