use std::collections::HashSet;

use directive::MachineId;
use proptest::prelude::*;

use super::intake::SPACES_MAX;
use super::*;
use crate::directions::{Directions, Orders};
use crate::route::Usable;
use crate::seating::{Place, Said, Seating};
use crate::work::LaneWork;

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn job(block: u8, content: u8, ntime: u32, clean: bool) -> Job {
    Job {
        job_id: format!("{block}-{content}-{ntime}"),
        prev_hash: [block; 32],
        coinb1: vec![1, content],
        coinb2: vec![2],
        branches: vec![],
        version: 0x2000_0000,
        nbits: 0x1703_ffff,
        ntime,
        clean,
    }
}

/// A placement for miners with `d` bytes, and a connection of target 0 whose extranonce1 is `aa`
/// and size `size`.
fn connected(d: u8, size: u8) -> (Arc<Placement>, Arc<Upstream>, crate::work::SubmitQueues) {
    let placement = Placement::new(d, 0);
    let (upstream, queues) = Upstream::new(placement.next_connection_id(), FIRST);
    placement.connection_up(&upstream, &[0xaa], size).expect("fits");
    (placement, upstream, queues)
}

fn send(placement: &Placement, upstream: &Upstream, job: Job) -> NewJob {
    placement.job(upstream.id, job, Difficulty::ONE, None, origin()).expect("connected")
}

fn lease(placement: &Arc<Placement>, slot: u8) -> SlotLease {
    SlotLease { slot, depth: 1, placement: placement.clone() }
}

const FIRST: TargetId = TargetId::nth(0);
const SECOND: TargetId = TargetId::nth(1);

fn directions(targets: &[TargetId]) -> Directions {
    let usable = targets.iter().map(|target| Usable { target: *target, mask: None }).collect();
    Directions { usable, orders: Arc::new(Orders::default()), release: false, seats: 0 }
}

/// The part of a session that receives work.
struct Miner {
    seating: Seating,
    /// The job ids of ours that the miner was given.
    given: HashSet<u64>,
    newest: Option<Arc<LaneWork>>,
}

/// The work as the pool sees it: target, everything before the miner's bytes, and the job.
type Searched = (TargetId, Vec<u8>, u8, Vec<u8>, Option<u32>);

impl Miner {
    fn new(slot: SlotLease) -> Self {
        Self { seating: Seating::new(slot), given: HashSet::new(), newest: None }
    }

    fn live(&self) -> bool {
        self.newest.as_ref().is_some_and(|work| work.job.is_live())
    }

    fn settle(&mut self, placement: &Arc<Placement>, targets: &[TargetId]) -> Place {
        let live = self.live();
        self.seating.settle(
            placement,
            &directions(targets),
            &MachineId::from("m"),
            None,
            live,
            |_| {},
        )
    }

    /// Takes the lane's announcement, and returns its work if that is new.
    fn listen(&mut self, placement: &Arc<Placement>, targets: &[TargetId]) -> Option<Searched> {
        loop {
            match self.seating.listen()? {
                Said::Work(work) => {
                    let new = self.given.insert(work.job_id);
                    self.newest = Some(work.clone());
                    let searched = self.searched(&work);
                    return new.then_some(searched);
                }
                Said::Settle => {
                    if self.settle(placement, targets) != Place::New {
                        return None;
                    }
                }
            }
        }
    }

    fn searched(&self, work: &LaneWork) -> Searched {
        let job = &work.job.job;
        let before = [&*work.job.extranonce1, &work.lane, &[self.seating.slot()]].concat();
        // If lanes can be changed, a later ntime makes no new work, because miners may roll it.
        let ntime = work.lane.is_empty().then_some(job.ntime);
        (work.job.upstream.target, before, job.prev_hash[0], job.coinb1.clone(), ntime)
    }
}

#[test]
fn a_job_sent_again_by_another_name_moves_nobody() {
    for (d, size) in [(3, 4), (4, 5), (4, 8)] {
        let (placement, upstream, _queues) = connected(d, size);
        send(&placement, &upstream, job(1, 1, 10, true));
        let mut miner = Miner::new(lease(&placement, 7));
        assert_eq!(miner.settle(&placement, &[FIRST]), Place::New);
        assert!(miner.listen(&placement, &[FIRST]).is_some());
        let first = miner.newest.clone().expect("work");
        let again = Job { job_id: "other".into(), ..job(1, 1, 10, true) };
        assert!(!send(&placement, &upstream, again).repeated);
        // Between the pool's message and the session's next turn, shares of the job are still good.
        assert!(first.job.is_live(), "the pool has retired a name, not the work");
        assert!(placement.current(upstream.id).expect("a job").renames(&first.job));
        assert_eq!(miner.listen(&placement, &[FIRST]), None, "nothing is new to the miner");
        let newest = miner.newest.clone().expect("work");
        assert_eq!((newest.job_id, &*newest.job.job.job_id), (first.job_id, "other"), "S = {size}");
        assert!(newest.job.is_live());

        let harder = Difficulty::new(2.0).expect("positive");
        let on_harder_terms = Job { job_id: "third".into(), ..job(1, 1, 10, true) };
        placement.job(upstream.id, on_harder_terms, harder, None, origin());
        assert!(
            !newest.job.is_live(),
            "the pool would refuse shares that met the former difficulty"
        );
        miner.listen(&placement, &[FIRST]);
        assert_eq!(
            miner.newest.as_ref().map(|work| work.job_id),
            Some(first.job_id),
            "nor is that new to the miner"
        );
        send(&placement, &upstream, job(2, 1, 11, true));
        assert!(
            ![&first, &newest].iter().any(|work| work.job.is_live()) && !miner.live(),
            "other work retires all of it"
        );
    }
}

/// F23: the pool would judge a share of the earlier job by the newer one.
#[test]
fn f23_a_pools_job_id_that_comes_again_for_other_work_retires_what_it_meant_before() {
    let (placement, upstream, _queues) = connected(4, 8);
    let mut miner = Miner::new(lease(&placement, 7));
    let mut works = Vec::new();
    for (name, content) in [("a", 1), ("b", 2), ("c", 3), ("b", 4)] {
        send(&placement, &upstream, Job { job_id: name.into(), ..job(1, content, 10, false) });
        miner.settle(&placement, &[FIRST]);
        miner.listen(&placement, &[FIRST]);
        works.push(miner.newest.clone().expect("work"));
    }
    let live: Vec<bool> = works.iter().map(|work| work.job.is_live()).collect();
    assert_eq!(live, [false, false, true, true]);
}

#[test]
fn easier_terms_for_the_same_job_move_those_who_can_be_moved() {
    for (d, size, moves) in [(3, 4, false), (4, 8, true)] {
        let (placement, upstream, _queues) = connected(d, size);
        send(&placement, &upstream, job(1, 1, 10, true));
        let mut miner = Miner::new(lease(&placement, 7));
        miner.settle(&placement, &[FIRST]);
        miner.listen(&placement, &[FIRST]);
        let easier = Difficulty::new(0.5).expect("positive");
        placement.job(upstream.id, job(1, 1, 10, false), easier, None, origin());
        assert_eq!(miner.listen(&placement, &[FIRST]).is_some(), moves, "S = {size}");
        assert_eq!(miner.newest.expect("work").job.difficulty, easier);
    }
}

/// All sessions on a lane get the same work, so no session may join those that must leave it.
#[test]
fn nobody_joins_a_lane_whose_sessions_are_to_leave_it() {
    let (placement, upstream, _queues) = connected(4, 6);
    send(&placement, &upstream, job(1, 1, 10, true));
    let mut all: Vec<Miner> = [7, 7, 8].map(|slot| Miner::new(lease(&placement, slot))).into();
    let mut searched = HashSet::new();
    for miner in &mut all {
        miner.settle(&placement, &[FIRST]);
        searched.extend(miner.listen(&placement, &[FIRST]));
    }
    placement.refresh(upstream.id);
    // Slot 8 is alone on the first lane. The second lane has room for it, but its session with slot
    // 7 has not left yet.
    for index in [2, 0, 1, 0, 1, 2] {
        searched.extend(all[index].listen(&placement, &[FIRST]));
    }
    let given: usize = all.iter().map(|miner| miner.given.len()).sum();
    assert_eq!(
        (given, searched.len()),
        (6, 6),
        "everybody was given work twice, and none of it was the same"
    );
}

#[test]
fn a_refresh_leaves_lanes_for_those_who_come() {
    let (placement, upstream, _queues) = connected(4, 6);
    send(&placement, &upstream, job(1, 1, 10, true));
    let mut miner = Miner::new(lease(&placement, 7));
    miner.settle(&placement, &[FIRST]);
    let refreshed = (0..1000).filter(|_| {
        placement.refresh(upstream.id);
        miner.listen(&placement, &[FIRST]).is_some()
    });
    assert_eq!(refreshed.count(), 254, "of 256 lanes one was taken, and one is kept back");
    assert_eq!(miner.settle(&placement, &[FIRST]), Place::Kept);
    assert!(placement.seat(FIRST, 7).is_ok(), "a newcomer with the same slot finds room");
}

/// U14: shares for the earlier extranonce are stale, and no session is seated on a job of it.
#[test]
fn u14_a_changed_extranonce_kills_the_jobs_before_it_and_moves_everybody_with_the_next() {
    let (placement, upstream, _queues) = connected(4, 8);
    send(&placement, &upstream, job(1, 1, 10, true));
    let mut miner = Miner::new(lease(&placement, 7));
    miner.settle(&placement, &[FIRST]);
    miner.listen(&placement, &[FIRST]);
    assert!(placement.extranonce(&upstream, &[0xbb, 0xcc], 6).is_ok());
    assert!(!miner.live(), "shares of it are answered 21 here");
    assert_eq!(placement.seat(FIRST, 8).err(), Some(NoSeat::NoJob), "the job so far is dead");
    placement.refresh(upstream.id);
    assert_eq!(miner.listen(&placement, &[FIRST]), None, "and is not handed out again");
    // As at NiceHash, the new extranonce is valid from the next notify on, even with the same job.
    send(&placement, &upstream, job(1, 1, 10, false));
    let (_, before, ..) = miner.listen(&placement, &[FIRST]).expect("moved");
    assert_eq!(
        (before.len(), &before[..2], before[3]),
        (4, &[0xbb, 0xcc][..], 7),
        "S = 6: one lane byte"
    );
    assert!(miner.live());
}

#[test]
fn u14_an_extranonce_that_leaves_no_room_is_refused_with_the_arithmetic() {
    let (placement, upstream, _queues) = connected(4, 8);
    let refused = placement.extranonce(&upstream, &[0xbb], 4).expect_err("S = 4, d = 4");
    assert!(refused.to_string().contains("4 bytes and the slot 1, together 5"), "{refused}");
}

/// One pool gives a new extranonce1 at each connect, hundreds of times. The other pool always gives
/// the same one, with an unchanged job; no work of it is given out twice.
#[test]
fn a_space_left_just_now_is_remembered_however_many_were_opened_before() {
    let placement = Placement::new(4, 0);
    let connect = |target, extranonce1: &[u8]| {
        let (upstream, queues) = Upstream::new(placement.next_connection_id(), target);
        placement.connection_up(&upstream, extranonce1, 6).expect("fits");
        (upstream, queues)
    };
    let mut searched = HashSet::new();
    for round in 0..4u8 {
        let (steady, _ends) = connect(FIRST, &[0xaa]);
        send(&placement, &steady, job(1, 1, 10, true));
        let mut miner = Miner::new(lease(&placement, 7));
        miner.settle(&placement, &[FIRST]);
        let work = miner.listen(&placement, &[FIRST]).expect("work");
        assert!(searched.insert(work.clone()), "handed out twice: {work:?}");
        drop(miner);
        placement.connection_down(steady.id);
        for attempt in 0..200u8 {
            let (flapping, _ends) = connect(SECOND, &[round, attempt]);
            placement.connection_down(flapping.id);
        }
        assert!(placement.inner.lock().spaces.len() <= SPACES_MAX);
    }
}

/// Pools may give up to 16 bytes. A lane number has eight; the rest comes before it as zeros.
#[test]
fn every_size_that_a_pool_may_give_is_filled_whole() {
    for size in 2..=16 {
        for d in 1..size {
            let (placement, upstream, _queues) = connected(d, size);
            send(&placement, &upstream, job(1, 1, 10, true));
            let mut miner = Miner::new(lease(&placement, 7));
            miner.settle(&placement, &[FIRST]);
            miner.listen(&placement, &[FIRST]).expect("work");
            let work = miner.newest.expect("work");
            assert_eq!(work.lane.len() + 1 + usize::from(d), usize::from(size));
        }
    }
}

/// F27: without lane bytes, 257 miners need a second connection and 600 a third.
#[test]
fn f27_without_lane_bytes_each_connection_seats_256() {
    let (placement, first, _queues) = connected(3, 4);
    send(&placement, &first, job(1, 1, 10, true));
    let mut miners: Vec<Miner> = (0..600).map(|_| Miner::new(placement.take_slot())).collect();
    let mut seated = |placement: &Arc<Placement>| {
        for miner in &mut miners {
            if miner.seating.target().is_none() {
                miner.settle(placement, &[FIRST]);
            }
        }
        miners.iter().filter(|miner| miner.seating.target().is_some()).count()
    };
    assert_eq!((seated(&placement), placement.depth()), (256, 1));
    let mut queues = Vec::new();
    for (extranonce1, want) in [(0xbb, 512), (0xcc, 600)] {
        let (upstream, ends) = Upstream::new(placement.next_connection_id(), FIRST);
        assert!(
            !placement.adds_space(&upstream, &[0xaa], 4),
            "the same extranonce1 once more brings nothing"
        );
        assert!(placement.adds_space(&upstream, &[extranonce1], 4));
        placement.connection_up(&upstream, &[extranonce1], 4).expect("fits");
        send(&placement, &upstream, job(1, 1, 10, true));
        queues.push(ends);
        assert_eq!(seated(&placement), want);
    }
    assert_eq!(placement.depth(), 3, "what a standby must hold");
}

/// Two connections have the same extranonce1. One of them receives five blocks while the other
/// still has the first; no work is given out twice.
#[test]
fn a_connection_that_is_blocks_behind_hands_nothing_out_twice() {
    let (placement, behind, _queues) = connected(4, 6);
    let (ahead, _ends) = Upstream::new(placement.next_connection_id(), FIRST);
    placement.connection_up(&ahead, &[0xaa], 6).expect("fits");
    send(&placement, &behind, job(1, 0, 10, false));
    let mut first = Miner::new(lease(&placement, 0));
    first.settle(&placement, &[FIRST]);
    let given = first.listen(&placement, &[FIRST]).expect("work");
    drop(first);
    for block in 1..=6 {
        send(&placement, &ahead, job(block, 0, 10, true));
    }
    let mut second = Miner::new(lease(&placement, 0));
    second.settle(&placement, &[FIRST]);
    let again = second.listen(&placement, &[FIRST]).expect("work");
    assert_eq!((given.2, again.2), (1, 1), "both sit on the connection that is behind");
    assert_ne!(given, again);
}

#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Leave(usize),
    /// Finds a place, with the targets in this order.
    Settle(usize, bool),
    Listen(usize),
    Park(usize),
    Up {
        target: TargetId,
        extranonce1: u8,
        size: u8,
    },
    Down(usize),
    Job {
        connection: usize,
        block: bool,
        content: u8,
        ntime: u32,
        clean: bool,
        hard: bool,
    },
    Extranonce {
        connection: usize,
        extranonce1: u8,
        size: u8,
    },
    Refresh(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![Just(5u8), Just(6), Just(8)];
    let step = prop_oneof![
        6 => (0u8..3).prop_map(Step::Join),
        3 => any::<usize>().prop_map(Step::Leave),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(miner, first)| Step::Settle(miner, first)),
        8 => any::<usize>().prop_map(Step::Listen),
        1 => any::<usize>().prop_map(Step::Park),
        2 => (0u16..2, 0u8..2, size.clone())
            .prop_map(|(target, extranonce1, size)| Step::Up { target: TargetId::nth(target), extranonce1, size }),
        1 => any::<usize>().prop_map(Step::Down),
        8 => (any::<usize>(), prop::bool::weighted(0.1), 0u8..3, 0u32..2, any::<bool>(), any::<bool>()).prop_map(
            |(connection, block, content, ntime, clean, hard)| {
                Step::Job { connection, block, content, ntime, clean, hard }
            }
        ),
        1 => (any::<usize>(), 0u8..2, size)
            .prop_map(|(connection, extranonce1, size)| Step::Extranonce { connection, extranonce1, size }),
        2 => any::<usize>().prop_map(Step::Refresh),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    /// In any order of joins, leaves, moves, returns, repeated jobs and failures, and whenever
    /// sessions learn of them, no work that is the same to a pool is given out twice, neither to
    /// two sessions nor to one.
    #[test]
    fn no_work_is_handed_out_twice(steps in steps()) {
        let placement = Placement::new(4, 250);
        let mut miners: Vec<Miner> = Vec::new();
        let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
        let mut queues = Vec::new();
        let mut searched: HashSet<Searched> = HashSet::new();
        let mut block = 1;
        for step in steps {
            let count = miners.len();
            let heard = match step {
                Step::Join(slot) => {
                    miners.push(Miner::new(lease(&placement, slot)));
                    None
                }
                Step::Leave(index) if count > 0 => {
                    miners.swap_remove(index % count);
                    None
                }
                Step::Settle(index, first) if count > 0 => {
                    let order = if first { [FIRST, SECOND] } else { [SECOND, FIRST] };
                    let miner = &mut miners[index % count];
                    match miner.settle(&placement, &order) {
                        Place::New => miner.listen(&placement, &order),
                        _ => None,
                    }
                }
                Step::Listen(index) if count > 0 => miners[index % count].listen(&placement, &[FIRST, SECOND]),
                Step::Park(index) if count > 0 => {
                    miners[index % count].seating.lose();
                    None
                }
                Step::Up { target, extranonce1, size } => {
                    let (upstream, ends) = Upstream::new(placement.next_connection_id(), target);
                    placement.connection_up(&upstream, &[extranonce1], size).expect("five or more");
                    upstreams.push(upstream);
                    queues.push(ends);
                    None
                }
                Step::Down(index) if !upstreams.is_empty() => {
                    let upstream = upstreams.swap_remove(index % upstreams.len());
                    upstream.set_dead();
                    placement.connection_down(upstream.id);
                    None
                }
                Step::Job { connection, block: next, content, ntime, clean, hard } if !upstreams.is_empty() => {
                    block += u8::from(next && block < 200);
                    let difficulty = if hard { 2.0 } else { 1.0 };
                    let difficulty = Difficulty::new(difficulty).expect("positive");
                    let id = upstreams[connection % upstreams.len()].id;
                    placement.job(id, job(block, content, ntime, clean), difficulty, None, origin());
                    None
                }
                Step::Extranonce { connection, extranonce1, size } if !upstreams.is_empty() => {
                    let upstream = upstreams[connection % upstreams.len()].clone();
                    placement.extranonce(&upstream, &[extranonce1], size).expect("five or more");
                    None
                }
                Step::Refresh(index) if !upstreams.is_empty() => {
                    placement.refresh(upstreams[index % upstreams.len()].id);
                    None
                }
                _ => None,
            };
            if let Some(work) = heard {
                prop_assert!(searched.insert(work.clone()), "handed out twice: {work:?}");
            }
        }
    }
}
