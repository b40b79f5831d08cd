//! A simulated miner: it finds real shares of tiny difficulty, records what it submits, and reports
//! wrong answers as faults.

use std::collections::VecDeque;

use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use testbed::arithmetic::scan::Scan;
use testbed::arithmetic::{
    Hash, Header, Target, coinbase, merkle_root, parse_array, parse_bytes, parse_u32, swap_words,
};

/// When the firmware starts its extranonce2 from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restarts {
    EveryNotify,
    CleanOnly,
}

/// A submit and what is known about it.
#[derive(Debug, Clone, PartialEq)]
struct Submitted {
    id: u64,
    /// The hash of the share, if it is valid.
    hash: Option<Hash>,
    line: String,
}

#[derive(Debug, Clone)]
struct Job {
    id: String,
    coinb1: Vec<u8>,
    coinb2: Vec<u8>,
    branches: Vec<Hash>,
    prevhash: Hash,
    version: u32,
    nbits: u32,
    ntime: u32,
    difficulty: f64,
    /// The version bits that the miner may roll on this job.
    mask: u32,
}

/// A miner's habits and its current connection.
#[derive(Debug)]
pub(super) struct SimMiner {
    pub(super) name: String,
    restarts: Restarts,
    /// Whether all its submits have the same id.
    one_id: bool,
    rolls: bool,
    extranonce1: Vec<u8>,
    size: usize,
    difficulty: f64,
    mask: u32,
    jobs: VecDeque<Job>,
    extranonce2: u64,
    late: u64,
    owed: VecDeque<Submitted>,
    next_id: u64,
    last: Option<String>,
    /// Lines in transit to the proxy.
    pub(super) lines: VecDeque<String>,
    /// The hashes of shares answered `true`.
    pub(super) credited: Vec<Hash>,
    /// Answers that no proxy may give.
    pub(super) faults: Vec<String>,
    pub(super) submitted: u64,
}

const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;
/// The first id of submits, and the only one for miners that use one id.
const SUBMIT: u64 = 4;

impl SimMiner {
    pub(super) fn new(index: usize, rng: &mut StdRng) -> Self {
        Self {
            name: format!("rig-{index}"),
            restarts: if rng.random_bool(0.5) {
                Restarts::EveryNotify
            } else {
                Restarts::CleanOnly
            },
            one_id: rng.random_bool(0.3),
            rolls: rng.random_bool(0.5),
            extranonce1: Vec::new(),
            size: 0,
            difficulty: 1.0,
            mask: 0,
            jobs: VecDeque::new(),
            extranonce2: 0,
            late: 0,
            owed: VecDeque::new(),
            next_id: SUBMIT,
            last: None,
            lines: VecDeque::new(),
            credited: Vec::new(),
            faults: Vec::new(),
            submitted: 0,
        }
    }

    /// Writes the first requests on a new connection.
    pub(super) fn connect(&mut self) {
        self.disconnected();
        if self.rolls {
            let mask =
                json!({"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2});
            self.say(json!({"id": CONFIGURE, "method": "mining.configure", "params": [["version-rolling"], mask]}));
        }
        self.say(json!({"id": SUBSCRIBE, "method": "mining.subscribe", "params": ["sim/1"]}));
        self.say(
            json!({"id": AUTHORIZE, "method": "mining.authorize", "params": [self.name, "x"]}),
        );
    }

    /// Records that its connection ended, with the submits on it.
    pub(super) fn disconnected(&mut self) {
        self.lines.clear();
        self.jobs.clear();
        self.owed.clear();
        self.last = None;
        self.next_id = SUBMIT;
        self.difficulty = 1.0;
        self.mask = 0;
    }

    /// How many submits wait for their answers.
    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    fn say(&mut self, message: Value) {
        self.lines.push_back(message.to_string());
    }

    /// Finds a share, mostly of the newest job, and submits it.
    pub(super) fn mine(&mut self, rng: &mut StdRng) {
        let late = if rng.random_bool(0.15) { rng.random_range(1..4) } else { 0 };
        let Some(job) = self.jobs.iter().rev().nth(late).cloned() else { return };
        let extranonce2 = if late == 0 {
            self.extranonce2 += 1;
            self.extranonce2
        } else {
            // Work that was in progress when the newer job came, from a part of the space that is
            // not tried again.
            self.late += 1;
            0x80_0000 + self.late
        };
        let extranonce2 = &extranonce2.to_le_bytes()[..self.size];
        let bits = if job.mask == 0 {
            None
        } else {
            Some([0, 0x2000, 0x4000][rng.random_range(0..3)] & job.mask)
        };
        let header = Header {
            version: (job.version & !job.mask) | bits.unwrap_or(job.version & job.mask),
            prevhash: job.prevhash,
            merkle_root: merkle_root(
                &coinbase(&job.coinb1, &self.extranonce1, extranonce2, &job.coinb2),
                &job.branches,
            ),
            ntime: job.ntime,
            nbits: job.nbits,
            nonce: 0,
        };
        let Some(target) = Target::of_difficulty(job.difficulty) else { return };
        let (Some((nonce, hash)), _) = Scan::new(&header).run(&target, 1 << 14) else { return };
        let extranonce2 = const_hex::encode(extranonce2);
        self.submit(&job, &extranonce2, nonce, bits, Some(hash));
    }

    /// Submits something that no good miner would submit.
    pub(super) fn misbehave(&mut self, rng: &mut StdRng) {
        let Some(job) = self.jobs.back().cloned() else { return };
        match (rng.random_range(0..3), self.last.clone()) {
            (0, Some(line)) => {
                // The same line is sent again. The id may already be outstanding; answers then come
                // in order.
                let id = serde_json::from_str::<Value>(&line).expect("ours")["id"]
                    .as_u64()
                    .expect("a number");
                self.submitted += 1;
                self.owed.push_back(Submitted { id, hash: None, line: line.clone() });
                self.lines.push_back(line);
            }
            (1, _) => self.submit(&job, "00", 1, None, None),
            _ => {
                let extranonce2 = const_hex::encode(&rng.random::<[u8; 8]>()[..self.size]);
                self.submit(
                    &Job { id: "ffffff".into(), ..job },
                    &extranonce2,
                    rng.random(),
                    None,
                    None,
                );
            }
        }
    }

    fn submit(
        &mut self,
        job: &Job,
        extranonce2: &str,
        nonce: u32,
        bits: Option<u32>,
        hash: Option<Hash>,
    ) {
        let id = self.next_id;
        if !self.one_id {
            self.next_id += 1;
        }
        let mut params = vec![
            json!(self.name),
            json!(job.id),
            json!(extranonce2),
            json!(format!("{:08x}", job.ntime)),
            json!(format!("{nonce:08x}")),
        ];
        params.extend(bits.map(|bits| json!(format!("{bits:08x}"))));
        let line = json!({"id": id, "method": "mining.submit", "params": params}).to_string();
        self.submitted += 1;
        self.owed.push_back(Submitted { id, hash, line: line.clone() });
        if hash.is_some() {
            self.last = Some(line.clone());
        }
        self.lines.push_back(line);
    }

    /// Handles a line from the proxy.
    pub(super) fn line(&mut self, line: &str) {
        let message: Value = serde_json::from_str(line).expect("the proxy writes JSON");
        let params = &message["params"];
        match message["method"].as_str() {
            Some("mining.notify") => self.notify(params),
            Some("mining.set_difficulty") => {
                self.difficulty = params[0].as_f64().expect("a number");
            }
            Some("mining.set_version_mask") => {
                self.mask = params[0].as_str().and_then(parse_u32).expect("a mask");
            }
            Some("mining.set_extranonce") => self.faults.push(format!("no lane needs it: {line}")),
            Some(_) => {}
            None => self.answer(&message, line),
        }
    }

    fn notify(&mut self, params: &Value) {
        let text = |index: usize| params[index].as_str().expect("text");
        let job = Job {
            id: text(0).to_owned(),
            prevhash: swap_words(parse_array(text(1)).expect("32 bytes")),
            coinb1: parse_bytes(text(2)).expect("bytes"),
            coinb2: parse_bytes(text(3)).expect("bytes"),
            branches: params[4].as_array().expect("a list").iter().map(branch).collect(),
            version: parse_u32(text(5)).expect("a word"),
            nbits: parse_u32(text(6)).expect("a word"),
            ntime: parse_u32(text(7)).expect("a word"),
            difficulty: self.difficulty,
            mask: self.mask,
        };
        let clean = params[8].as_bool().expect("a flag");
        if self.jobs.iter().any(|known| known.id == job.id) {
            self.faults.push(format!("job id {} came twice", job.id));
        }
        if clean || self.restarts == Restarts::EveryNotify {
            self.extranonce2 = 0;
        }
        self.jobs.push_back(job);
        if self.jobs.len() > 4 {
            self.jobs.pop_front();
        }
    }

    fn answer(&mut self, message: &Value, line: &str) {
        let id = message["id"].as_u64().expect("our ids are numbers");
        match id {
            CONFIGURE => {
                self.mask = message["result"]["version-rolling.mask"]
                    .as_str()
                    .and_then(parse_u32)
                    .unwrap_or(0);
            }
            SUBSCRIBE => {
                self.extranonce1 =
                    parse_bytes(message["result"][1].as_str().expect("text")).expect("bytes");
                self.size = usize::try_from(message["result"][2].as_u64().expect("a number"))
                    .expect("small");
            }
            AUTHORIZE => {}
            _ => self.verdict(id, message, line),
        }
    }

    /// Answers with one id come in the order of the submits.
    fn verdict(&mut self, id: u64, message: &Value, line: &str) {
        let Some(index) = self.owed.iter().position(|owed| owed.id == id) else {
            return self.faults.push(format!("answered without being asked, or twice: {line}"));
        };
        let owed = self.owed.remove(index).expect("just found");
        let code = message["error"][0].as_i64();
        match (owed.hash, message["result"] == Value::Bool(true)) {
            (Some(hash), true) => self.credited.push(hash),
            (None, true) => self.faults.push(format!("a bad share was taken: {}", owed.line)),
            // The job was retired meanwhile, by the pool or the proxy; or the outcome is unknown.
            (Some(_), false) if code == Some(21) => {}
            (Some(_), false) if code == Some(20) && line.contains("pool did not answer") => {}
            (Some(_), false) => {
                self.faults.push(format!("a good share was refused: {} -> {line}", owed.line));
            }
            (None, false) => {}
        }
    }
}

fn branch(value: &Value) -> Hash {
    value.as_str().and_then(parse_array).expect("32 bytes")
}
