//! A simulated pool: it invents jobs, judges every submit with the test bed's arithmetic, and
//! reports what no proxy may send as faults.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use testbed::arithmetic::{
    Hash, Header, Target, coinbase, merkle_root, parse_bytes, parse_u32, swap_words,
};

/// How connections get their extranonce1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extranonce1 {
    /// Each connection has its own extranonce1.
    Unique,
    /// All connections have the same extranonce1, as at Braiins, which serves `00`.
    Fixed,
    /// The extranonce1 that was returned last is given out first.
    Reused,
}

/// The content of a job, with the id under which it was last sent.
#[derive(Debug, Clone)]
struct Work {
    id: String,
    prevhash: Hash,
    coinb1: Vec<u8>,
    branches: Vec<Hash>,
    version: u32,
    ntime: u32,
}

/// A job, as one connection got it.
#[derive(Debug)]
struct Issued {
    work: Rc<Work>,
    extranonce1: Vec<u8>,
    size: u8,
    difficulty: f64,
    /// The number of the line to the proxy that sent the job.
    sent_as: u64,
    /// The number of the line to the proxy that retired the job.
    retired_by: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Connection {
    extranonce1: Vec<u8>,
    size: u8,
    mask: u32,
    ready: bool,
    told: Option<f64>,
    issued: Vec<Issued>,
    /// Lines in transit to the proxy.
    pub(super) lines: VecDeque<String>,
    /// The number of lines sent, including those in transit.
    sent: u64,
}

#[derive(Debug)]
pub(super) struct SimPool {
    pub(super) alive: bool,
    /// The extranonce2_size of later connections.
    pub(super) size: u8,
    extranonce1: Extranonce1,
    mask: u32,
    difficulty: f64,
    work: Rc<Work>,
    jobs: u64,
    pub(super) connections: BTreeMap<u64, Connection>,
    given: u32,
    given_back: Option<Vec<u8>>,
    seen: HashSet<Hash>,
    /// The hashes of accepted shares.
    pub(super) accepted: HashSet<Hash>,
    /// Lines that no proxy may send.
    pub(super) faults: Vec<String>,
}

const COINB2: &[u8] = &[0xff, 0xee];
const NBITS: u32 = 0x1703_ffff;

impl SimPool {
    pub(super) fn new(index: u8, sizes: &[u8], rng: &mut StdRng) -> Self {
        let work = Work {
            id: "0".into(),
            prevhash: [index; 32],
            coinb1: vec![index],
            branches: Vec::new(),
            version: 0x2000_0000,
            ntime: 1_800_000_000,
        };
        let mut pool = Self {
            alive: true,
            size: *sizes.choose(rng).expect("some"),
            extranonce1: *[
                Extranonce1::Unique,
                Extranonce1::Unique,
                Extranonce1::Fixed,
                Extranonce1::Reused,
            ]
            .choose(rng)
            .expect("four"),
            mask: if rng.random_bool(0.7) { 0x1fff_e000 } else { 0 },
            difficulty: 0.0,
            work: Rc::new(work),
            jobs: 0,
            connections: BTreeMap::new(),
            given: 0,
            given_back: None,
            seen: HashSet::new(),
            accepted: HashSet::new(),
            faults: Vec::new(),
        };
        pool.retarget(rng);
        pool.new_job(true, rng);
        pool
    }

    /// Accepts a connection from the proxy.
    pub(super) fn connect(&mut self, id: u64) {
        let extranonce1 = match self.extranonce1 {
            Extranonce1::Fixed => vec![0],
            Extranonce1::Reused if self.given_back.is_some() => {
                self.given_back.take().expect("just seen")
            }
            _ => self.fresh_extranonce1(),
        };
        let connection = Connection {
            extranonce1,
            size: self.size,
            mask: 0,
            ready: false,
            told: None,
            issued: Vec::new(),
            lines: VecDeque::new(),
            sent: 0,
        };
        self.connections.insert(id, connection);
    }

    /// Ends a connection, from either side.
    pub(super) fn disconnect(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            self.given_back = Some(connection.extranonce1);
        }
    }

    fn fresh_extranonce1(&mut self) -> Vec<u8> {
        self.given += 1;
        self.given.to_be_bytes()[2..].to_vec()
    }

    /// Changes the difficulty of later jobs; some pools send it at once.
    pub(super) fn retarget(&mut self, rng: &mut StdRng) {
        self.difficulty = 2f64.powi(rng.random_range(-27..=-24));
        if rng.random_bool(0.3) {
            // Not a power of two, as at OCEAN.
            self.difficulty *= 1.5;
        }
        if rng.random_bool(0.5) {
            let ids: Vec<u64> = self.connections.keys().copied().collect();
            ids.into_iter().for_each(|id| self.tell_difficulty(id));
        }
    }

    /// Invents a job; on a new block it is clean.
    pub(super) fn new_job(&mut self, block: bool, rng: &mut StdRng) {
        let mut work = Work::clone(&self.work);
        if block {
            work.prevhash = rng.random();
        }
        work.coinb1 = vec![self.work.coinb1[0], rng.random(), rng.random()];
        work.branches = (0..rng.random_range(0..2)).map(|_| rng.random()).collect();
        work.version = if rng.random_bool(0.2) { 0x2000_2000 } else { 0x2000_0000 };
        work.ntime += rng.random_range(0..30);
        self.send_all(work, block || rng.random_bool(0.2), rng);
    }

    /// Sends the current job again: under another id or the same, with a later time or not, clean
    /// or not.
    pub(super) fn repeat_job(&mut self, rng: &mut StdRng) {
        let mut work = Work::clone(&self.work);
        if rng.random_bool(0.4) {
            work.ntime += 30;
        }
        self.send_all(work, rng.random_bool(0.3), rng);
    }

    fn send_all(&mut self, mut work: Work, clean: bool, rng: &mut StdRng) {
        if self.jobs == 0 || rng.random_bool(0.8) {
            self.jobs += 1;
        }
        // An id may be used again for other work: the newest use counts.
        work.id = format!("{:x}", self.jobs);
        self.work = Rc::new(work);
        for id in self.connections.keys().copied().collect::<Vec<u64>>() {
            self.send_job(id, clean);
        }
    }

    /// Sends the current job on one connection.
    fn send_job(&mut self, id: u64, clean: bool) {
        let work = self.work.clone();
        let difficulty = self.difficulty;
        if !self.connections.get(&id).is_some_and(|connection| connection.ready) {
            return;
        }
        let line = json!({"id": null, "method": "mining.notify", "params": [
            work.id,
            const_hex::encode(swap_words(work.prevhash)),
            const_hex::encode(&work.coinb1),
            const_hex::encode(COINB2),
            work.branches.iter().map(const_hex::encode).collect::<Vec<_>>(),
            format!("{:08x}", work.version),
            format!("{NBITS:08x}"),
            format!("{:08x}", work.ntime),
            clean,
        ]});
        self.tell_difficulty(id);
        let connection = self.connections.get_mut(&id).expect("just seen");
        connection.send(line.to_string());
        let same_name = |issued: &Issued| issued.work.id == work.id;
        let sent_as = connection.sent;
        for issued in connection.issued.iter_mut().filter(|issued| clean || same_name(issued)) {
            issued.retired_by.get_or_insert(sent_as);
        }
        let (extranonce1, size) = (connection.extranonce1.clone(), connection.size);
        connection.issued.push(Issued {
            work,
            extranonce1,
            size,
            difficulty,
            sent_as,
            retired_by: None,
        });
    }

    fn tell_difficulty(&mut self, id: u64) {
        let difficulty = self.difficulty;
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.ready)
        else {
            return;
        };
        if connection.told.replace(difficulty) != Some(difficulty) {
            connection.send(format!(
                "{{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[{difficulty}]}}"
            ));
        }
    }

    /// Changes the extranonce of a connection: its jobs so far are retired. The next job comes at
    /// once, or later.
    pub(super) fn set_extranonce(&mut self, id: u64, size: u8, at_once: bool) {
        let extranonce1 =
            if self.extranonce1 == Extranonce1::Fixed { vec![0] } else { self.fresh_extranonce1() };
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.ready)
        else {
            return;
        };
        connection.extranonce1 = extranonce1;
        connection.size = size;
        let params = json!([const_hex::encode(&connection.extranonce1), size]);
        connection.send(format!(
            "{{\"id\":null,\"method\":\"mining.set_extranonce\",\"params\":{params}}}"
        ));
        let retired_by = connection.sent;
        for issued in &mut connection.issued {
            issued.retired_by.get_or_insert(retired_by);
        }
        if at_once {
            self.send_job(id, false);
        }
    }

    /// Handles a line that the proxy wrote after it had read `read` lines of this connection.
    pub(super) fn line(&mut self, id: u64, line: &str, read: u64) {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return self.faults.push(format!("no JSON: {line}"));
        };
        let request = message["id"].clone();
        let mask = self.mask;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match message["method"].as_str().unwrap_or_default() {
            "mining.configure" => {
                connection.mask = mask;
                let granted = if mask == 0 {
                    json!({"version-rolling": false})
                } else {
                    json!({"version-rolling": true, "version-rolling.mask": format!("{mask:08x}")})
                };
                connection.answer(&request, &granted);
            }
            "mining.subscribe" => {
                let result = json!([
                    [["mining.notify", "s"]],
                    const_hex::encode(&connection.extranonce1),
                    connection.size
                ]);
                connection.answer(&request, &result);
            }
            "mining.authorize" => {
                connection.ready = true;
                connection.answer(&request, &Value::Bool(true));
                self.send_job(id, true);
            }
            "mining.submit" => {
                let line = match self.judge(id, &message["params"], read) {
                    Ok(hash) => {
                        self.accepted.insert(hash);
                        json!({"id": request, "result": true, "error": null})
                    }
                    Err((code, why)) => {
                        if code != 21 {
                            self.faults.push(format!("connection {id}: {why}: {message}"));
                        }
                        json!({"id": request, "result": null, "error": [code, why, null]})
                    }
                };
                let connection = self.connections.get_mut(&id).expect("just seen");
                connection.send(line.to_string());
            }
            _ => {}
        }
    }

    fn judge(&mut self, id: u64, params: &Value, read: u64) -> Result<Hash, (i32, &'static str)> {
        let connection = &self.connections[&id];
        let text = |index: usize| params[index].as_str().unwrap_or_default();
        let number = |index: usize| parse_u32(text(index)).ok_or((20, "malformed"));
        let extranonce2 = parse_bytes(text(2)).ok_or((20, "malformed"))?;
        let (ntime, nonce) = (number(3)?, number(4)?);
        // A share that was in transit when its job's id was used again is for the earlier job with
        // that id.
        let named = |issued: &&Issued| issued.work.id == text(1) && issued.sent_as <= read;
        let issued = connection.issued.iter().rev().find(named).ok_or((20, "never issued"))?;
        if let Some(retired_by) = issued.retired_by {
            // If it was in transit when the job was retired, nobody is at fault. If it was written
            // after the proxy had read of the retirement, the proxy is at fault.
            return Err(if read < retired_by { (21, "stale") } else { (20, "stale for long") });
        }
        if extranonce2.len() != usize::from(issued.size) {
            return Err((20, "wrong extranonce2 size"));
        }
        let work = &*issued.work;
        let bits = if params.get(5).is_some() { number(5)? } else { 0 };
        if bits & !connection.mask != 0 {
            return Err((20, "version bits outside the mask"));
        }
        if params.get(5).is_none() && connection.mask != 0 {
            return Err((20, "no version bits though rolling was agreed"));
        }
        let made = coinbase(&work.coinb1, &issued.extranonce1, &extranonce2, COINB2);
        let header = Header {
            version: (work.version & !connection.mask) | bits,
            prevhash: work.prevhash,
            merkle_root: merkle_root(&made, &work.branches),
            ntime,
            nbits: NBITS,
            nonce,
        };
        let hash = header.hash();
        // The same job was sent under the same id with a changed difficulty: pools apply the lower
        // one.
        let same = |other: &&Issued| {
            other.work.id == work.id
                && other.work.prevhash == work.prevhash
                && other.work.coinb1 == work.coinb1
        };
        let terms = connection.issued.iter().filter(same).map(|other| other.difficulty);
        let difficulty = terms.fold(issued.difficulty, f64::min);
        if !Target::of_difficulty(difficulty).is_some_and(|target| target.met_by(&hash)) {
            return Err((23, "low difficulty"));
        }
        if !self.seen.insert(hash) {
            return Err((22, "duplicate"));
        }
        Ok(hash)
    }
}

impl Connection {
    fn send(&mut self, line: String) {
        self.sent += 1;
        self.lines.push_back(line);
    }

    fn answer(&mut self, request: &Value, result: &Value) {
        self.send(json!({"id": request, "result": result, "error": null}).to_string());
    }
}
