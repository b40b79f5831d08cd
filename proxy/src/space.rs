//! The search space of one (target, extranonce1, extranonce2_size): a record of which slot has
//! searched which lane for which job.
//!
//! Firmware may restart its extranonce2 at any time, so work that is given out twice is done twice.
//! One rule prevents this: *a slot gets a job only on a lane on which no session with that slot has
//! had that job.* The space records only what the rule needs: the slots that are now on each lane
//! and, for each live job, the slots that ever had it there. It outlives connections, because a
//! pool may give the same extranonce1 again.

use std::collections::{HashMap, VecDeque};

use crate::slot::SlotSet;

/// Names a connection inside the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Identifies the work of a job: everything but the pool's job id and, if lanes can be changed,
/// ntime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint {
    /// The hash of the previous block. A job on a different previous block is stale.
    pub(crate) prev_hash: u64,
    /// Everything in the header except ntime and nonce.
    pub(crate) content: u64,
}

/// A lane: one value of the bytes between the pool's extranonce1 and the slot.
#[derive(Debug)]
struct Lane {
    number: u64,
    connection: Option<ConnectionId>,
    seated: SlotSet,
    had: HashMap<Fingerprint, SlotSet>,
    /// Whether the sessions on the lane must move to a different one, because they have had the
    /// current job here. No session may join, because all sessions on a lane get the same work.
    leaving: bool,
}

#[derive(Debug)]
pub(crate) struct Space {
    /// The number of bytes of a lane number: extranonce2_size − 1 − d.
    width: usize,
    first: u64,
    lanes: Vec<Lane>,
    /// The current job of each connection. Sessions are still seated on it, so it is kept even if
    /// other connections are many blocks ahead.
    at_hand: HashMap<ConnectionId, Fingerprint>,
    /// The blocks whose jobs are recorded, newest last: recent ones, and those of current jobs.
    /// There are several, because connections that share the space learn of a block at different
    /// times.
    blocks: Vec<u64>,
    /// The recorded jobs, oldest first.
    jobs: VecDeque<Fingerprint>,
}

/// The maximum number of recorded jobs. A real pool sends some hundreds per block. Beyond the
/// bound, the oldest job that is not current is forgotten, so that a pool that sends thousands a
/// second takes no more memory. If that pool then repeats a forgotten job, its own work is done
/// twice.
const JOBS_MAX: usize = 4096;

/// For how many blocks jobs are recorded, besides current jobs.
const BLOCKS_KEPT: usize = 4;

/// The maximum number of lanes in a space: enough for 16,384 × 256 sessions. Beyond it no seat is
/// given.
const LANES_MAX: u64 = 1 << 14;

impl Space {
    /// Makes a space with lane numbers of `width` bytes, counted from `offset` (random at each
    /// process start, so that a restart does not repeat work).
    pub(crate) fn new(width: usize, offset: u64) -> Self {
        let first = offset & mask_of(width);
        let (lanes, at_hand) = (Vec::new(), HashMap::new());
        Self { width, first, lanes, at_hand, blocks: Vec::new(), jobs: VecDeque::new() }
    }

    /// How many lanes there can be.
    fn capacity(&self) -> u64 {
        mask_of(self.width).saturating_add(1).min(LANES_MAX)
    }

    /// Lanes that were never used.
    fn unused(&self) -> u64 {
        self.capacity().saturating_sub(self.lanes.len() as u64)
    }

    /// Whether a second connection that shares this space would find lanes of its own.
    pub(crate) fn has_room(&self) -> bool {
        self.unused() > 0 || self.lanes.iter().any(|lane| lane.connection.is_none())
    }

    /// Seats `slot` on the first lane of `connection` where it may work on `job`. Returns the
    /// lane's index.
    pub(crate) fn seat(
        &mut self,
        connection: ConnectionId,
        slot: u8,
        job: Fingerprint,
    ) -> Option<usize> {
        let fits = |lane: &Lane| {
            !lane.leaving
                && !lane.seated.contains(slot)
                && lane.had.get(&job).is_none_or(|had| !had.contains(slot))
        };
        let own =
            self.lanes.iter().position(|lane| lane.connection == Some(connection) && fits(lane));
        let free = || self.lanes.iter().position(|lane| lane.connection.is_none() && fits(lane));
        let index = own.or_else(free).or_else(|| {
            let next = self.lanes.len() as u64;
            (next < self.capacity()).then_some(self.lanes.len())
        })?;
        if index == self.lanes.len() {
            let number = self.first.wrapping_add(index as u64) & mask_of(self.width);
            let (seated, had) = (SlotSet::default(), HashMap::new());
            self.lanes.push(Lane { number, connection: None, seated, had, leaving: false });
        }
        let lane = &mut self.lanes[index];
        lane.connection = Some(connection);
        lane.seated.insert(slot);
        lane.had.entry(job).or_default().insert(slot);
        Some(index)
    }

    /// Removes `slot` from a lane. The record of what it searched there is kept.
    pub(crate) fn leave(&mut self, index: usize, slot: u8) {
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.seated.remove(slot);
            lane.leaving &= !lane.seated.is_empty();
        }
    }

    /// Records a new job of `connection` and forgets jobs on old blocks. Returns the lanes in use:
    /// those whose sessions may all get the job (this is now recorded), and those on which some
    /// session has had it before.
    pub(crate) fn job(&mut self, connection: ConnectionId, job: Fingerprint) -> JobLanes {
        self.at_hand.insert(connection, job);
        self.record(job);
        let mut lanes = JobLanes::default();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.connection != Some(connection) || lane.seated.is_empty() {
                continue;
            }
            let seated = lane.seated;
            let had = lane.had.entry(job).or_default();
            lane.leaving = had.intersects(&seated);
            if lane.leaving {
                lanes.stale.push(index);
            } else {
                had.extend(&seated);
                lanes.fresh.push(index);
            }
        }
        lanes
    }

    /// Records a job, and forgets the jobs beyond the bounds.
    fn record(&mut self, job: Fingerprint) {
        if !self.blocks.contains(&job.prev_hash) {
            self.blocks.push(job.prev_hash);
            let mut old = self.blocks.len().saturating_sub(BLOCKS_KEPT);
            self.blocks.retain(|block| {
                let recent = old == 0;
                old = old.saturating_sub(1);
                recent || self.at_hand.values().any(|at_hand| at_hand.prev_hash == *block)
            });
            for lane in &mut self.lanes {
                lane.had.retain(|had, _| self.blocks.contains(&had.prev_hash));
            }
            self.jobs.retain(|job| self.blocks.contains(&job.prev_hash));
        }
        if self.jobs.contains(&job) {
            return;
        }
        self.jobs.push_back(job);
        if self.jobs.len() > JOBS_MAX
            && let Some(oldest) =
                self.jobs.iter().position(|job| self.at_hand.values().all(|at_hand| at_hand != job))
            && let Some(oldest) = self.jobs.remove(oldest)
        {
            for lane in &mut self.lanes {
                lane.had.remove(&oldest);
            }
        }
    }

    /// Moves all sessions on `connection` to lanes where they have not had the current job. Returns
    /// `false` and changes nothing if that would leave too few lanes for new sessions.
    pub(crate) fn refresh(&mut self, connection: ConnectionId) -> bool {
        let occupied = self
            .lanes
            .iter()
            .filter(|lane| lane.connection == Some(connection) && !lane.seated.is_empty());
        if self.unused() <= occupied.count() as u64 {
            return false;
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.connection == Some(connection)) {
            lane.leaving = !lane.seated.is_empty();
        }
        true
    }

    /// Releases the lanes of a connection; the record of what was searched on them is kept.
    pub(crate) fn connection_gone(&mut self, connection: ConnectionId) {
        self.at_hand.remove(&connection);
        for lane in self.lanes.iter_mut().filter(|lane| lane.connection == Some(connection)) {
            lane.connection = None;
            lane.seated = SlotSet::default();
            lane.leaving = false;
        }
    }

    /// The bytes of the lane number in the coinbase, big-endian. If the pool leaves more than eight
    /// bytes, zeros come first.
    pub(crate) fn lane_bytes(&self, index: usize) -> Vec<u8> {
        let number = self.lanes[index].number.to_be_bytes();
        let mut bytes = vec![0; self.width.saturating_sub(number.len())];
        bytes.extend_from_slice(&number[number.len().saturating_sub(self.width)..]);
        bytes
    }

    /// Whether lanes can be changed at all.
    pub(crate) fn has_lane_bytes(&self) -> bool {
        self.width > 0
    }

    /// Adds to the count of each slot value the sessions in this space that have it.
    pub(crate) fn add_depths(&self, depths: &mut [u32; 256]) {
        for lane in &self.lanes {
            for (slot, depth) in (0..=u8::MAX).zip(&mut *depths) {
                *depth += u32::from(lane.seated.contains(slot));
            }
        }
    }

    /// The number of sessions on lanes of `connection`.
    pub(crate) fn seated(&self, connection: ConnectionId) -> u32 {
        self.lanes
            .iter()
            .filter(|lane| lane.connection == Some(connection))
            .map(|lane| lane.seated.len())
            .sum()
    }
}

/// The lanes in use when a new job comes, by index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct JobLanes {
    /// Lanes on which no session has had the job.
    pub(crate) fresh: Vec<usize>,
    /// Lanes on which some session has had the job: the sessions must move before they get it
    /// again.
    pub(crate) stale: Vec<usize>,
}

/// The largest lane number of `width` bytes.
fn mask_of(width: usize) -> u64 {
    match width {
        0 => 0,
        1..=7 => (1 << (8 * width)) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap as Map, HashSet};

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    fn job(content: u64) -> Fingerprint {
        Fingerprint { prev_hash: 1, content }
    }

    #[test]
    fn two_hundred_and_fifty_six_share_a_lane_and_the_next_opens_another() {
        let mut space = Space::new(1, 0xab);
        for slot in 0..=255 {
            assert_eq!(space.seat(A, slot, job(1)), Some(0));
        }
        assert_eq!(space.seat(A, 7, job(1)), Some(1));
        assert_eq!((space.lane_bytes(0), space.lane_bytes(1)), (vec![0xab], vec![0xac]));
    }

    #[test]
    fn coming_back_to_an_unchanged_job_takes_a_fresh_lane() {
        let mut space = Space::new(1, 0);
        let first = space.seat(A, 5, job(1)).expect("room");
        space.leave(first, 5);
        let second = space.seat(A, 5, job(1)).expect("room");
        assert_ne!(first, second);
        space.leave(second, 5);
        assert_eq!(space.seat(A, 5, job(2)), Some(first), "a new job may use the lane again");
    }

    #[test]
    fn without_lane_bytes_the_same_job_is_refused() {
        let mut space = Space::new(0, 9);
        assert_eq!(space.seat(A, 5, job(1)), Some(0));
        assert_eq!(space.lane_bytes(0), Vec::<u8>::new());
        assert_eq!(space.seat(A, 5, job(2)), None, "the slot is taken");
        space.leave(0, 5);
        assert_eq!(space.seat(A, 5, job(1)), None, "its former holder had this job");
        assert_eq!(space.seat(A, 5, job(2)), Some(0));
    }

    #[test]
    fn a_job_sent_again_is_stale_for_those_who_had_it() {
        let mut space = Space::new(2, 0);
        space.seat(A, 1, job(1));
        assert_eq!(space.job(A, job(2)), JobLanes { fresh: vec![0], stale: vec![] });
        assert_eq!(space.job(A, job(1)), JobLanes { fresh: vec![], stale: vec![0] });
    }

    #[test]
    fn connections_with_one_extranonce1_never_share_a_lane() {
        let mut space = Space::new(1, 0);
        let a = space.seat(A, 1, job(1)).expect("room");
        let b = space.seat(B, 1, job(1)).expect("room");
        let c = space.seat(B, 2, job(1)).expect("room");
        assert_ne!(a, b);
        assert_eq!(b, c);
    }

    #[test]
    fn history_survives_the_connection_and_ends_some_blocks_later() {
        let mut space = Space::new(0, 0);
        space.job(A, job(1));
        space.seat(A, 3, job(1));
        space.connection_gone(A);
        assert_eq!(space.seat(B, 3, job(1)), None, "same extranonce1, same job: searched already");
        for prev_hash in 2..10 {
            space.job(B, Fingerprint { prev_hash, content: 1 });
        }
        assert!(
            space.lanes.iter().all(|lane| lane.had.is_empty()),
            "blocks long gone leave no record"
        );
    }

    #[test]
    fn a_flood_of_jobs_leaves_a_bounded_record() {
        let mut space = Space::new(1, 0);
        space.job(A, job(0));
        space.seat(A, 1, job(0));
        for content in 1..10_000 {
            space.job(A, job(content));
        }
        assert_eq!((space.jobs.len(), space.lanes[0].had.len()), (JOBS_MAX, JOBS_MAX));
        assert_eq!(space.job(A, job(9_000)).stale, [0], "the newest are remembered");
    }

    /// A connection that learns of blocks late or never still seats sessions on its current job, so
    /// that job is kept however far ahead the other connections are.
    #[test]
    fn what_a_connection_has_at_hand_is_remembered_however_far_others_are_ahead() {
        for ahead in [false, true] {
            let mut space = Space::new(1, 0);
            space.job(A, job(0));
            let first = space.seat(A, 5, job(0)).expect("room");
            space.leave(first, 5);
            space.job(B, job(1));
            space.seat(B, 5, job(1));
            for later in 2..10_000 {
                let prev_hash = if ahead { later } else { 1 };
                space.job(B, Fingerprint { prev_hash, content: later });
            }
            let again = space.seat(A, 5, job(0)).expect("room");
            assert_ne!(first, again, "others on later blocks: {ahead}");
            assert_eq!(space.job(A, job(0)).stale, [again]);
            assert!(
                space.blocks.len() <= BLOCKS_KEPT + 1 && space.jobs.len() <= JOBS_MAX,
                "the record stays bounded"
            );
            space.connection_gone(A);
            for prev_hash in 20_000..20_010 {
                space.job(B, Fingerprint { prev_hash, content: 0 });
            }
            assert!(
                space.lanes.iter().all(|lane| !lane.had.contains_key(&job(0))),
                "its connection is gone, and so is it"
            );
        }
    }

    #[derive(Debug, Clone)]
    enum Move {
        Join(u8),
        Leave(usize),
        Job(u64, bool),
        Lose,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let step = prop_oneof![
            4 => (0u8..4).prop_map(Move::Join),
            3 => (0usize..8).prop_map(Move::Leave),
            3 => (0u64..4, any::<bool>()).prop_map(|(content, clean)| Move::Job(content, clean)),
            1 => Just(Move::Lose),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        /// In any order of joins, leaves, jobs and repeated jobs, no (job, lane, slot) is given out
        /// twice.
        #[test]
        fn nothing_is_searched_twice(moves in moves(), width in 0usize..3) {
            let mut space = Space::new(width, 250);
            let (mut connection, mut current, mut block) = (A, job(0), 1u64);
            let mut seated: Vec<(usize, u8)> = Vec::new();
            let mut issued: HashSet<(Fingerprint, Vec<u8>, u8)> = HashSet::new();
            let mut live: Map<(Vec<u8>, u8), u32> = Map::new();
            for step in moves {
                match step {
                    Move::Join(slot) => if let Some(lane) = space.seat(connection, slot, current) {
                        let bytes = space.lane_bytes(lane);
                        prop_assert!(issued.insert((current, bytes.clone(), slot)), "issued twice");
                        *live.entry((bytes, slot)).or_default() += 1;
                        seated.push((lane, slot));
                    },
                    Move::Leave(index) => if !seated.is_empty() {
                        let (lane, slot) = seated.remove(index % seated.len());
                        *live.entry((space.lane_bytes(lane), slot)).or_default() -= 1;
                        space.leave(lane, slot);
                    },
                    Move::Job(content, clean) => {
                        if clean { block += 1; }
                        current = Fingerprint { prev_hash: block, content };
                        let lanes = space.job(connection, current);
                        for lane in lanes.fresh {
                            for (_, slot) in seated.iter().filter(|(on, _)| *on == lane) {
                                prop_assert!(issued.insert((current, space.lane_bytes(lane), *slot)), "issued twice");
                            }
                        }
                        for lane in lanes.stale {
                            for (_, slot) in seated.extract_if(.., |(on, _)| *on == lane) {
                                *live.entry((space.lane_bytes(lane), slot)).or_default() -= 1;
                                space.leave(lane, slot);
                            }
                        }
                    }
                    Move::Lose => {
                        space.connection_gone(connection);
                        connection = ConnectionId(connection.0 + 1);
                        seated.clear();
                        live.clear();
                    }
                }
                prop_assert!(live.values().all(|holders| *holders <= 1), "two live sessions on one lane and slot");
            }
        }
    }
}
