use std::collections::HashSet;
use std::future::poll_fn;
use std::time::Duration;

use stratum::difficulty::Difficulty;
use stratum::job::Job;
use tokio::time::timeout;

use super::*;
use crate::handle::tests::handle;
use crate::lane::{LaneState, LaneView};
use crate::placement::Placement;
use crate::target::TargetId;
use crate::work::Upstream;

/// A timeout that is longer than any step of these tests takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

type Log = Arc<Mutex<Vec<String>>>;

/// A session that sleeps on its mailbox, and records each of its turns in the log.
fn sleeper(
    session: Arc<SessionHandle>,
    log: Log,
) -> impl Future<Output = ()> + Send + Unpin + 'static {
    poll_fn(move |cx| {
        session.mailbox.register(cx.waker());
        let told = session.mailbox.take().0.has(Signal::Lane);
        log.lock().push(format!("{}{}", session.number, if told { " told" } else { "" }));
        Poll::Pending
    })
}

/// A lane with these sessions on it.
fn lane(sessions: &[Arc<SessionHandle>]) -> (Arc<Lane>, Vec<LaneView>) {
    let lane = Lane::new();
    let views = sessions.iter().map(|session| {
        let mut view = lane.view();
        view.tell(session);
        view
    });
    let views = views.collect();
    (lane, views)
}

/// Makes a lane announce something.
fn untold(lane: &Arc<Lane>) -> Untold {
    let mut untold = Untold::default();
    untold.announce(lane, LaneState::Refresh);
    untold
}

/// Works until there is nothing left to do.
fn run(executor: &Executor) {
    while executor.step().is_none() {}
}

#[test]
fn who_has_something_in_hand_goes_before_those_to_be_told_but_does_not_keep_them_back() {
    let executor = Arc::new(Executor::default());
    let log = Log::default();
    let sessions: Vec<_> = (1..=12).map(handle).collect();
    for session in &sessions {
        executor.spawn(sleeper(session.clone(), log.clone()));
    }
    run(&executor);
    assert_eq!(log.lock().drain(..).count(), 12, "each has a first turn");
    let (lane, _views) = lane(&sessions[..2]);
    executor.tell(untold(&lane));
    for session in &sessions[2..] {
        session.mailbox.signal(Signal::Time);
    }
    run(&executor);
    let order: Vec<String> = log.lock().drain(..).collect();
    let place = |entry: &str| order.iter().position(|found| found == entry).expect(entry);
    assert_eq!(order.len(), 12, "{order:?}");
    assert!(place("1 told") > place("6") && place("2 told") < 12, "{order:?}");
    // The next notification does not wait until all woken sessions have run.
    untold(&lane);
    let mut flood = Executor::default();
    let flood = flood.queue.get_mut();
    flood.untold.push_back(lane);
    let (turn, _task) = async_task::spawn(std::future::ready(()), |_| {});
    flood.woken.push_back(turn);
    flood.turns = TURNS_A_TELLING;
    assert!(
        matches!(flood.next(), Some(Next::Tell(_))) && matches!(flood.next(), Some(Next::Turn(_)))
    );
}

#[test]
fn a_panic_ends_one_session_and_no_worker() {
    let executor = Arc::new(Executor::default());
    let log = Log::default();
    let (one, held) = (handle(1), Arc::new(()));
    let holds = held.clone();
    executor.spawn(Box::pin(async move {
        let _holds = holds;
        panic!("on purpose");
    }));
    executor.spawn(sleeper(one, log.clone()));
    run(&executor);
    assert_eq!((log.lock().len(), Arc::strong_count(&held)), (1, 1));
}

/// A session whose drop panics ends alone: after its last turn, while it unwinds from another
/// panic, or when the executor is closed.
#[test]
fn a_panic_of_a_sessions_end_is_its_own() {
    struct Falls;
    impl Drop for Falls {
        fn drop(&mut self) {
            panic!("on purpose, at the end");
        }
    }
    let executor = Arc::new(Executor::default());
    let (log, one) = (Log::default(), handle(1));
    let falls = Falls;
    executor.spawn(poll_fn(move |_| {
        let _held = &falls;
        Poll::Ready(())
    }));
    let falls = Falls;
    executor.spawn(poll_fn(move |_| -> Poll<()> {
        let _held = &falls;
        panic!("on purpose");
    }));
    executor.spawn(sleeper(one, log.clone()));
    run(&executor);
    assert_eq!(log.lock().len(), 1);
    let falls = Falls;
    executor.spawn(poll_fn(move |_| {
        let _held = &falls;
        Poll::Pending
    }));
    executor.close();
}

#[tokio::test]
async fn closing_ends_sessions_and_workers() {
    let executor = Arc::new(Executor::default());
    executor.start_helpers(2).unwrap();
    let worker = tokio::spawn(executor.worker());
    let (log, asleep, ready) = (Log::default(), handle(1), handle(2));
    executor.spawn(sleeper(asleep.clone(), log.clone()));
    while log.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    executor.close();
    timeout(PATIENCE, worker).await.expect("the worker ends").unwrap();
    executor.spawn(sleeper(ready.clone(), log.clone()));
    assert_eq!(Arc::strong_count(&ready), 1, "a newcomer is gone at once");
    asleep.mailbox.signal(Signal::Time);
    assert_eq!(Arc::strong_count(&asleep), 1, "so is one that is woken");
    // Once the helpers are gone, only this test holds the executor.
    let gone = async {
        while Arc::strong_count(&executor) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the helpers end");
}

/// A runtime may end before its sessions, when they take too long to stop. A pool connection that
/// is lost then ends the sessions that it wakes. They give back their seats, so nobody may hold the
/// lock that this needs.
#[test]
fn a_lost_connection_ends_sessions_of_a_closed_executor() {
    let executor = Arc::new(Executor::default());
    let placement = Placement::new(4, 0);
    let (upstream, _queues) = Upstream::new(placement.next_connection_id(), TargetId::nth(0));
    placement.connection_up(&upstream, &[0xaa], 8).expect("fits");
    let job = Job {
        job_id: "1".into(),
        prev_hash: [1; 32],
        coinb1: vec![1],
        coinb2: vec![2],
        branches: vec![],
        version: 0x2000_0000,
        nbits: 0x1703_ffff,
        ntime: 10,
        clean: true,
    };
    placement.job(upstream.id, job, Difficulty::ONE, None, daemon::clock::now());
    let session = handle(1);
    let mut seat = placement.seat(TargetId::nth(0), 7).expect("room");
    seat.lane.tell(&session);
    let log = Log::default();
    let asleep = sleeper(session.clone(), log.clone());
    executor.spawn(Box::pin(async move {
        let _seat = seat;
        asleep.await;
    }));
    run(&executor);
    assert_eq!((log.lock().len(), placement.target_state(TargetId::nth(0)).seated), (1, 1));
    executor.close();
    let (ended, end) = std::sync::mpsc::channel();
    let id = upstream.id;
    std::thread::spawn(move || {
        placement.connection_down(id);
        ended.send(placement.target_state(TargetId::nth(0)).seated).expect("it is waited for");
    });
    assert_eq!(end.recv_timeout(PATIENCE), Ok(0), "the loss waits for itself");
    assert_eq!(Arc::strong_count(&session), 1, "it is gone");
}

/// Ten thousand sessions that are notified at once are notified by several threads, each exactly
/// once, and no notification is lost.
#[tokio::test]
async fn helpers_take_part_when_there_is_much_to_do() {
    const SESSIONS: u64 = 10_000;
    let executor = Arc::new(Executor::default());
    executor.start_helpers(2).unwrap();
    let worker = tokio::spawn(executor.worker());
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let told = Arc::new(Mutex::new(0_u64));
    let sessions: Vec<_> = (1..=SESSIONS).map(handle).collect();
    for session in &sessions {
        let (session, threads, told) = (session.clone(), threads.clone(), told.clone());
        executor.spawn(poll_fn(move |cx| {
            session.mailbox.register(cx.waker());
            if session.mailbox.take().0.has(Signal::Lane) {
                threads.lock().insert(std::thread::current().id());
                *told.lock() += 1;
            }
            Poll::Pending
        }));
    }
    let lanes: Vec<_> = sessions.chunks(256).map(lane).collect();
    let mut rounds = 0;
    while threads.lock().len() < 3 {
        rounds += 1;
        let mut untold = Untold::default();
        for (lane, _) in &lanes {
            untold.announce(lane, LaneState::Refresh);
        }
        executor.tell(untold);
        let all = async {
            while *told.lock() < rounds * SESSIONS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, all).await.expect("all are told");
        assert!(rounds < 1000, "the helpers never came");
    }
    assert_eq!(*told.lock(), rounds * SESSIONS);
    executor.close();
    worker.await.unwrap();
}
