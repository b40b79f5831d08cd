//! One session with a job, for the benchmarks and the allocation test, which are outside the crate
//! and cannot use a session directly. It is not meant for anything else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::difficulty::Difficulty;
use stratum::job::Job;
use stratum::server_message::render_notify;
use stratum::share::{Share, SmallBytes, prove};
use stratum::version::VersionMask;

use crate::level::Level;
use crate::load::Load;
use crate::outcome::{Outcome, PoolOutcome, PoolVerdict};
use crate::session::{DifficultyRules, Input, Outbox, Session, SessionRules};
use crate::space::ConnectionId;
use crate::target::TargetId;
use crate::work::{Arrival, LaneWork, PoolJob, SubmitQueues, Upstream, fingerprint, job_id_text};

/// A ready session and the pool behind it.
#[derive(Debug)]
pub struct SessionBench {
    session: Session,
    out: Outbox,
    upstream: Arc<Upstream>,
    _queues: SubmitQueues,
    pool: Difficulty,
    jobs: u64,
    now: Instant,
}

impl SessionBench {
    /// A session whose shares are all forwarded or, if the pool's difficulty is high, all answered
    /// here.
    #[must_use]
    pub fn new(forwarded: bool, now: Instant) -> Self {
        let rules = SessionRules {
            difficulty: DifficultyRules {
                start: Level::FLOOR,
                min: Level::FLOOR,
                max: Level::FLOOR,
                interval: None,
                by_user_agent: false,
            },
            handshake_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            offer: VersionMask::BIP320,
            extranonce2_size: 4,
            server: 0,
            share_log: false,
        };
        let (upstream, queues) = Upstream::under(
            ConnectionId(1),
            TargetId::nth(0),
            Load::limited(Arc::default(), f64::INFINITY),
        );
        let mut bench = Self {
            session: Session::new(Arc::new(rules), SLOT, 1, now),
            out: Outbox::default(),
            upstream,
            _queues: queues,
            pool: if forwarded { Difficulty::FLOOR } else { Difficulty::ONE },
            jobs: 0,
            now,
        };
        bench.say(br#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1"]}"#);
        bench.say(br#"{"id":2,"method":"mining.authorize","params":["acme.rack3-17","x"]}"#);
        assert!(bench.session.is_ready(), "subscribed and authorized");
        bench
    }

    /// Gives the session a clean job with twelve branches. Returns the lines of `count` good shares
    /// of this job.
    pub fn job(&mut self, count: usize) -> Vec<String> {
        let work = self.work();
        let middle: [&[u8]; 3] = [&work.job.extranonce1, &work.lane, &[SLOT]];
        let extranonce2 = SmallBytes::new(&[0; 4]).expect("four bytes");
        let good = (0..u32::MAX).filter(|nonce| {
            let share = Share { extranonce2, ntime: NTIME, nonce: *nonce, version_bits: None };
            let proof = prove(&work.job.job, &middle, &share, None, &Difficulty::FLOOR.target());
            proof.is_ok_and(|proof| {
                !self.pool.target().is_met_by(&proof.hash) || self.pool == Difficulty::FLOOR
            })
        });
        let job = job_id_text(work.job_id);
        let line = |nonce| {
            format!(
                r#"{{"id":{},"method":"mining.submit","params":["acme.rack3-17","{job}","00000000","{NTIME:08x}","{nonce:08x}"]}}"#,
                nonce + 10
            )
        };
        let lines = good.take(count).map(line).collect();
        self.session.handle(Input::Work(&work), self.now, &mut self.out);
        self.out.clear(KEPT);
        lines
    }

    /// Handles one submit; a forwarded share gets the pool's verdict at once. Returns the number of
    /// bytes written.
    pub fn submit(&mut self, line: &str) -> usize {
        self.session.handle(Input::Line(line.as_bytes()), self.now, &mut self.out);
        if let Some(forward) = self.out.forwards.pop() {
            let verdict = PoolVerdict { ticket: forward.ticket, outcome: PoolOutcome::Accepted };
            self.session.handle(Input::Verdict(verdict), self.now, &mut self.out);
        } else {
            assert!(
                self.out.counts.iter().all(|counted| counted.outcome == Outcome::Local),
                "{:?}",
                self.out.counts
            );
        }
        let written = self.out.bytes.len();
        self.out.clear(KEPT);
        written
    }

    fn say(&mut self, line: &[u8]) {
        self.session.handle(Input::Line(line), self.now, &mut self.out);
        self.out.clear(KEPT);
    }

    fn work(&mut self) -> Arc<LaneWork> {
        self.jobs += 1;
        self.upstream.retire_below(self.jobs);
        let job = Job {
            job_id: format!("pool-{}", self.jobs),
            prev_hash: [7; 32],
            coinb1: [vec![1; 56], self.jobs.to_le_bytes().to_vec()].concat(),
            coinb2: vec![2; 260],
            branches: vec![[9; 32]; 12],
            version: 0x2000_0000,
            nbits: 0x1703_1abe,
            ntime: NTIME,
            clean: true,
        };
        let (extranonce1, lane): (Arc<[u8]>, Arc<[u8]>) = ([0xaa; 4].into(), [1, 2, 3].into());
        let notify =
            render_notify(&job_id_text(self.jobs), &job, &[&*extranonce1, &*lane].concat());
        let job = PoolJob {
            extranonce1,
            difficulty: self.pool,
            pool_target: self.pool.target(),
            block_target: job.network_target(),
            mask: Some(VersionMask::BIP320),
            seq: self.jobs,
            work_seq: self.jobs,
            upstream: self.upstream.clone(),
            fingerprint: fingerprint(&job, true),
            arrival: Arrival::new(self.now),
            job,
        };
        Arc::new(LaneWork { own: None, job_id: self.jobs, job: Arc::new(job), lane, notify })
    }
}

const SLOT: u8 = 0x5c;
const NTIME: u32 = 0x6746_a5c8;
/// How many bytes of capacity the outbox keeps between inputs, as a connection's outbox does.
const KEPT: usize = 4096;
