//! Replays recorded sessions of real miners, proxies and pools: this crate must judge every share
//! as they did.
//!
//! Each recording is split into lines in the chunks in which it was read from the socket, each line
//! is parsed, and each share is rebuilt from the pool's notify. The shares are counted, so that a
//! test cannot pass because shares were skipped.

#![expect(clippy::unwrap_used, reason = "a test target: a panic is a failed test")]

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;
use stratum::client_message::{Call, ClientLine, LineFault, Submit, parse_client};
use stratum::difficulty::Difficulty;
use stratum::error::StratumError;
use stratum::extranonce::SmallBytes;
use stratum::frame::{MINER_LINE_MAX, POOL_LINE_MAX, Splitter};
use stratum::id::Id;
use stratum::job::Job;
use stratum::pool_message::{PoolLine, PoolResult, parse_pool};
use stratum::server_role::{ServerEvent, ServerRole};
use stratum::share::{Share, ShareFault, decode, proof_of, prove};
use stratum::version::VersionMask;

/// One chunk of bytes as it was recorded.
struct Chunk {
    /// The connection's number, or the probe's session.
    connection: String,
    direction: String,
    data: Vec<u8>,
}

fn chunks(file: &str) -> Vec<Chunk> {
    let path = format!("{}/tests/transcripts/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let chunk = |line: &str| {
        let chunk: Value = serde_json::from_str(line).unwrap();
        let connection = chunk.get("session").unwrap_or(&chunk["conn"]).to_string();
        // The recordings hold bytes as Latin-1 text: one character is one byte.
        let data = chunk["data"]
            .as_str()
            .unwrap()
            .chars()
            .map(|byte| u8::try_from(u32::from(byte)).unwrap())
            .collect();
        Chunk { connection, direction: chunk["dir"].as_str().unwrap().to_owned(), data }
    };
    text.lines().map(chunk).collect()
}

/// A submitted share, and the verdict in the recording.
struct Judged {
    share: Share,
    job: Job,
    extranonce1: Vec<u8>,
    /// The difficulty in force when the job was sent.
    difficulty: Difficulty,
    /// The difficulty in force when the share was submitted.
    newest_difficulty: Difficulty,
    accepted: Result<(), StratumError>,
}

impl Judged {
    fn verdict(&self, mask: Option<VersionMask>, difficulty: Difficulty) -> Result<(), ShareFault> {
        prove(&self.job, &[&self.extranonce1], &self.share, mask, &difficulty.target()).map(drop)
    }
}

/// A recorded connection up to the current line.
#[derive(Default)]
struct Connection {
    splitters: HashMap<String, Splitter>,
    subscribe_id: Option<Id>,
    extranonce1: Vec<u8>,
    extranonce2_size: u8,
    difficulty: Option<Difficulty>,
    jobs: HashMap<String, (Job, Difficulty)>,
    unanswered: VecDeque<(Id, Judged)>,
    role: Option<ServerRole>,
}

/// Replays a recording between miners and one server: returns the shares in the order of their
/// answers.
fn replay(file: &str) -> Vec<Judged> {
    let mut connections: HashMap<String, Connection> = HashMap::new();
    let mut judged = Vec::new();
    for Chunk { connection, direction, data } in chunks(file) {
        let connection = connections.entry(connection).or_default();
        let limit = if direction == "c2s" { MINER_LINE_MAX } else { POOL_LINE_MAX };
        let mut splitter =
            connection.splitters.remove(&direction).unwrap_or_else(|| Splitter::new(limit));
        let mut input = &data[..];
        while let Some(line) = splitter.next_line(&mut input).unwrap() {
            match direction.as_str() {
                "c2s" => connection.client_line(line),
                "s2c" => judged.extend(connection.server_line(line)),
                other => panic!("data on {other}"),
            }
        }
        connection.splitters.insert(direction, splitter);
    }
    for (name, connection) in connections {
        assert!(connection.unanswered.is_empty(), "{file}: {name} has shares without an answer");
    }
    judged
}

impl Connection {
    fn client_line(&mut self, line: &[u8]) {
        let line = match parse_client(line) {
            Ok(line) => line.expect("no miner sent an empty line"),
            // bfgminer tries TLS first. What follows the first newline byte in its hello is not
            // text either.
            Err(fault) => {
                assert!(
                    matches!(fault, LineFault::TlsOnPlain | LineFault::NotUtf8 | LineFault::Json),
                    "{fault}"
                );
                return;
            }
        };
        if let ClientLine::Call { id, call: Ok(Call::Subscribe { .. }) } = &line {
            self.subscribe_id = Some(id.clone());
        }
        let ClientLine::Call { id, call: Ok(Call::Submit(submit)) } = &line else {
            return self.play(line);
        };
        let judged = self.take_submit(submit);
        self.unanswered.push_back((id.clone(), judged));
        self.play(line);
    }

    fn take_submit(&self, submit: &Submit<'_>) -> Judged {
        let (job, difficulty) =
            self.jobs.get(submit.job_id.as_ref()).expect("the miner was given this job").clone();
        Judged {
            share: decode(submit, self.extranonce2_size).unwrap(),
            job,
            extranonce1: self.extranonce1.clone(),
            difficulty,
            newest_difficulty: self.difficulty.unwrap(),
            accepted: Err(StratumError::new(0, "unanswered")),
        }
    }

    /// Gives the line to our server role, which must answer as the recorded server did.
    fn play(&mut self, line: ClientLine<'_>) {
        let is_submit = matches!(&line, ClientLine::Call { call: Ok(Call::Submit(_)), .. });
        let role = self.role.get_or_insert_with(|| ServerRole::new(VersionMask::BIP320));
        let mut out = Vec::new();
        match role.receive(line, &mut out) {
            ServerEvent::Subscribe { id, .. } => {
                role.accept_subscription(&id, "s", &[1], 4, &mut out);
            }
            ServerEvent::Authorize { id, worker, .. } => {
                role.answer_authorize(&id, &worker, true, &mut out);
            }
            ServerEvent::Submit { .. } => assert!(is_submit),
            ServerEvent::Answered
            | ServerEvent::Ignored
            | ServerEvent::Configured(Some(VersionMask::BIP320)) => {
                assert!(!is_submit);
            }
            event => panic!("{event:?}"),
        }
    }

    fn server_line(&mut self, line: &[u8]) -> Option<Judged> {
        if line == b"Invalid JSON, disconnecting" {
            assert_eq!(parse_pool(line), Err(LineFault::Json));
            return None;
        }
        let raw_id = serde_json::from_slice::<Value>(line).unwrap()["id"].to_string();
        match parse_pool(line).unwrap().expect("no server sent an empty line") {
            PoolLine::Notify(job) => {
                let job = job.unwrap();
                let difficulty = self.difficulty.expect("a difficulty comes before the first job");
                self.jobs.insert(job.job_id.clone(), (job, difficulty));
            }
            PoolLine::SetDifficulty(difficulty) => self.difficulty = Some(difficulty.unwrap()),
            PoolLine::Ping { .. } => {}
            PoolLine::Reply { outcome, .. } => return self.server_reply(&raw_id, outcome),
            other => panic!("{other:?}"),
        }
        None
    }

    /// Matches answers to submits by their order: cpuminer gives all its submits the same id.
    fn server_reply(
        &mut self,
        raw_id: &str,
        outcome: Result<PoolResult, StratumError>,
    ) -> Option<Judged> {
        if let Ok(PoolResult::Json(raw)) = &outcome {
            if self.subscribe_id.as_ref().is_some_and(|id| id.as_raw() == raw_id)
                && raw.starts_with('[')
            {
                let result: Value = serde_json::from_str(raw).unwrap();
                self.extranonce1 = const_hex::decode(result[1].as_str().unwrap()).unwrap();
                self.extranonce2_size = result[2].as_u64().unwrap().try_into().unwrap();
            }
            return None;
        }
        if self.unanswered.front().is_none_or(|(id, _)| id.as_raw() != raw_id) {
            return None;
        }
        let (_, mut judged) = self.unanswered.pop_front().unwrap();
        judged.accepted = outcome.map(|result| assert_eq!(result, PoolResult::True));
        Some(judged)
    }
}

/// The recordings of honest sessions, and how many shares each holds.
const HONEST: [(&str, usize); 6] = [
    ("minerd-ckpool", 70),
    ("cpuminer-opt-ckpool", 107),
    ("cpuminer-ckpool_block", 2),
    ("cpuminer-ckproxy", 55),
    ("bfgminer-ckproxy", 11),
    ("ckproxy-ckpool", 66),
];

#[test]
fn every_recorded_share_gets_the_recorded_verdict() {
    for (file, count) in HONEST {
        let shares = replay(file);
        assert_eq!(shares.len(), count, "{file}");
        for (at, share) in shares.iter().enumerate() {
            assert_eq!(share.accepted, Ok(()), "{file}: share {at}");
            assert_eq!(share.verdict(None, share.difficulty), Ok(()), "{file}: share {at}");
        }
    }
}

#[test]
fn no_recorded_share_stands_after_any_field_is_changed() {
    for (file, _) in HONEST {
        for share in replay(file) {
            let mut nonce = share.share;
            nonce.nonce ^= 1;
            let mut ntime = share.share;
            ntime.ntime += 1;
            let mut extranonce2 = share.share;
            let mut bytes = share.share.extranonce2.to_vec();
            bytes[0] ^= 1;
            extranonce2.extranonce2 = SmallBytes::new(&bytes).unwrap();
            for changed in [nonce, ntime, extranonce2] {
                let verdict = prove(
                    &share.job,
                    &[&share.extranonce1],
                    &changed,
                    None,
                    &share.difficulty.target(),
                );
                assert_eq!(verdict.unwrap_err(), ShareFault::LowDifficulty, "{file}");
            }
        }
    }
}

#[test]
fn no_recorded_share_is_counted_twice() {
    for (file, count) in HONEST {
        let hashes = hashes(file);
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), count, "{file}");
    }
}

#[test]
fn ckproxy_forwards_the_very_headers_its_miners_found() {
    let mut below = hashes("cpuminer-ckproxy");
    below.extend(hashes("bfgminer-ckproxy"));
    let mut above = hashes("ckproxy-ckpool");
    below.sort_unstable();
    above.sort_unstable();
    assert_eq!(below, above);
}

#[test]
fn the_recorded_regtest_block_meets_its_network_target() {
    let shares = replay("cpuminer-ckpool_block");
    for share in &shares {
        let proof = proof_of(&share.job, &[&share.extranonce1], &share.share, None).unwrap();
        assert_eq!(share.job.nbits, 0x207f_ffff);
        assert!(share.job.network_target().is_met_by(&proof.hash));
    }
    assert_eq!(shares.len(), 2);
}

/// The load tool in these recordings does not hash: its shares miss difficulty 1, and ckproxy (the
/// variant without difficulty) accepted all of them. The recordings prove that ckproxy forwards a
/// header that *differs* from the one that the miner hashed.
#[test]
fn ckproxy_forwards_another_header_where_a_miner_rolls_the_version() {
    let below = replay("versionroll-miner-ckproxy");
    let above = replay("versionroll-ckproxy-upstream");
    assert_eq!((below.len(), above.len()), (6, 6));
    for (below, above) in below.iter().zip(&above) {
        assert_eq!((&below.accepted, &above.accepted), (&Ok(()), &Ok(())));
        assert_eq!((below.share.version_bits, above.share.version_bits), (Some(0x2000), None));
        let mask = Some(VersionMask::BIP320);
        let meant = proof_of(&below.job, &[&below.extranonce1], &below.share, mask).unwrap();
        let sent = proof_of(&above.job, &[&above.extranonce1], &above.share, None).unwrap();
        assert_eq!(meant.version_bits, Some(0x2000));
        assert_eq!(
            (meant.header[..4].to_vec(), sent.header[..4].to_vec()),
            (vec![0, 0x20, 0, 0x20], vec![0, 0, 0, 0x20])
        );
        assert_eq!(meant.header[4..], sent.header[4..]);
        assert_ne!(meant.hash, sent.hash);
        // The job was sent at difficulty 1,000,000, the shares at 1. They miss both, with the
        // version bits and without.
        assert_eq!(below.difficulty.get(), 1_000_000.0);
        assert_eq!((below.newest_difficulty, above.difficulty), (Difficulty::ONE, Difficulty::ONE));
        let low = Err(ShareFault::LowDifficulty);
        assert_eq!(below.verdict(mask, Difficulty::ONE), low);
        assert_eq!(above.verdict(None, Difficulty::ONE), low);
        assert_eq!(below.verdict(None, Difficulty::ONE), Err(ShareFault::OutsideMask));
    }
}

/// The result of an answer as text, or the code and message of its error.
type SubmitAnswer = Result<String, (i32, String)>;

#[test]
fn every_reply_of_ckpool_to_odd_input_is_understood() {
    let mut replies: Vec<(String, String, SubmitAnswer)> = Vec::new();
    let mut notifications = 0;
    for Chunk { connection, direction, data } in chunks("probe-ckpool") {
        if direction != "s2c" {
            continue;
        }
        for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let id = serde_json::from_slice::<Value>(line).unwrap()["id"].to_string();
            match parse_pool(line).unwrap().unwrap() {
                PoolLine::Reply { request, outcome } => {
                    assert_eq!(request, id.parse().ok());
                    let outcome = match outcome {
                        Ok(PoolResult::True) => Ok("true".to_owned()),
                        Ok(PoolResult::Json(raw)) => Ok(raw.chars().take(20).collect()),
                        Err(error) => Err((error.code, error.message)),
                    };
                    replies.push((connection.clone(), id, outcome));
                }
                PoolLine::Notify(job) => {
                    job.unwrap();
                    notifications += 1;
                }
                PoolLine::SetDifficulty(difficulty) => {
                    difficulty.unwrap();
                    notifications += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let rejected = |id: &str| {
        let mut found =
            replies.iter().filter(|(session, reply, _)| session.contains("rejects") && reply == id);
        found.next().unwrap().2.clone().unwrap_err()
    };
    for (id, code, message) in [
        ("10", 23, "Above target"),
        ("11", 23, "Above target"),
        ("12", 21, "Invalid JobID"),
        ("13", 20, "Ntime out of range"),
        ("14", 20, "Ntime out of range"),
        ("15", 23, "Above target"),
        ("16", 20, "No nonce"),
        ("17", 20, "No nonce"),
        ("18", 24, "Worker mismatch"),
        ("\"str-id\"", 23, "Above target"),
        ("null", 23, "Above target"),
        ("19", 20, "Invalid version mask"),
        ("20", 23, "Above target"),
    ] {
        assert_eq!(rejected(id), (code, message.to_owned()), "{id}");
    }
    let others = replies.iter().filter(|(session, ..)| !session.contains("rejects"));
    let others: Vec<(i32, String)> =
        others.filter_map(|(_, _, outcome)| outcome.clone().err()).collect();
    assert_eq!(
        others,
        [
            (25, "Failed subscription".to_owned()),
            (21, "Invalid job_id".to_owned()),
            (20, "-1:params not found".to_owned())
        ]
    );
    let configured =
        replies.iter().find(|(session, ..)| session.contains("configure-all")).unwrap();
    assert_eq!(configured.2, Ok("{\"version-rolling\":t".to_owned()));
    assert_eq!((replies.len(), notifications), (36, 24));
}

fn hashes(file: &str) -> Vec<[u8; 32]> {
    let hash = |share: &Judged| {
        proof_of(&share.job, &[&share.extranonce1], &share.share, None).unwrap().hash
    };
    replay(file).iter().map(hash).collect()
}
