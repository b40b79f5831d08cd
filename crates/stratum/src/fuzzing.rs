//! The bodies of the fuzz targets: each takes any bytes and checks what must hold for all of them.
//!
//! They have two callers: the targets under `fuzz/`, and a test on stable Rust that replays the
//! corpus and some thousands of changed inputs. A body panics if a check fails. This module is
//! compiled only for these two.

mod mutant;

use serde_json::value::RawValue;

use crate::client_message::{Call, ClientLine, parse_client};
use crate::client_role::{ClientConfig, ClientEvent, ClientRole, OUTSTANDING_MAX};
use crate::difficulty::Difficulty;
use crate::frame::{MINER_LINE_MAX, Splitter};
use crate::id::{ID_MAX, Id};
use crate::job::{BRANCHES_MAX, JOB_ID_MAX, Job};
use crate::pool_message::{PoolLine, parse_pool};
use crate::server_message::{NOTIFY_CLEAN, render_notify, write_true};
use crate::server_role::{ServerEvent, ServerRole, valid_worker_name};
use crate::share::{decode, proof_of, prove};
use crate::version::VersionMask;

pub use mutant::Mutants;

/// What a fuzz target runs for one input.
pub type Body = fn(&[u8]);

/// Every body of this crate, by the name of its target.
pub const BODIES: [(&str, Body); 5] = [
    ("down_line", down_line),
    ("up_line", up_line),
    ("splitter", splitter),
    ("server_role", server_role),
    ("client_role", client_role),
];

/// A line from a miner: everything parsed is bounded, and its id can be sent back as valid JSON.
pub fn down_line(line: &[u8]) {
    let Ok(Some(message)) = parse_client(line) else { return };
    let (id, call) = match message {
        ClientLine::Reply { id } => (id, None),
        ClientLine::Call { id, call } => (id, Some(call)),
    };
    check_id(&id);
    match call {
        Some(Ok(Call::Submit(submit))) => {
            for size in [3, 4, 16] {
                if let Ok(share) = decode(&submit, size) {
                    assert_eq!(share.extranonce2.len(), usize::from(size));
                    let read = prove(
                        &job(),
                        &[&[7]],
                        &share,
                        Some(VersionMask::BIP320),
                        &Difficulty::FLOOR.target(),
                    );
                    let best = proof_of(&job(), &[&[7]], &share, Some(VersionMask::BIP320));
                    assert!(read.is_err() || best.is_ok(), "what is a share has a header");
                }
            }
        }
        Some(Ok(Call::Subscribe { user_agent, .. })) => check_shown(&user_agent),
        Some(Ok(Call::Unknown(method))) => check_shown(&method),
        Some(Err(error) | Ok(Call::BadSubmit(error))) => check_shown(&error.message),
        _ => {}
    }
}

/// A line from a pool: an accepted job is bounded, and a notify rendered from it is parsed as the
/// same job.
pub fn up_line(line: &[u8]) {
    let Ok(Some(message)) = parse_pool(line) else { return };
    match message {
        PoolLine::Notify(Ok(job)) => check_job(job),
        PoolLine::Reply { outcome: Err(error), .. } | PoolLine::SetExtranonce(Err(error)) => {
            check_shown(&error.message);
        }
        PoolLine::SetDifficulty(Some(difficulty)) => {
            assert!(difficulty.get() > 0.0 && difficulty.get().is_finite());
        }
        PoolLine::GetVersion { id } | PoolLine::Ping { id } | PoolLine::Unknown { id, .. } => {
            check_id(&id);
        }
        PoolLine::ShowMessage(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        PoolLine::Reconnect { host, wait_secs, .. } => {
            assert!(wait_secs <= 300);
            assert!(host.is_none_or(|host| !host.chars().any(char::is_control)));
        }
        _ => {}
    }
}

/// A stream in chunks. The first byte of the input is the line limit, the first byte of each chunk
/// its length. The lines must not depend on where the stream is split into chunks, and the splitter
/// must not keep more than the limit.
pub fn splitter(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let limit = usize::from(first) * 8;
    let mut chunks = Vec::new();
    while let Some((&length, after)) = rest.split_first() {
        let (chunk, later) = after.split_at(usize::from(length).min(after.len()));
        chunks.push(chunk);
        rest = later;
    }
    let whole = chunks.concat();
    assert_eq!(lines(&chunks, limit), lines(&[&whole], limit));
    let single: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(lines(&single, limit), lines(&[&whole], limit));
}

/// The lines of a miner: each call is answered at most once, with one line of JSON under its own
/// id; the worker names and the state stay bounded.
pub fn server_role(data: &[u8]) {
    let mut role = ServerRole::new(VersionMask::BIP320);
    for line in data.split(|byte| *byte == b'\n').take(256) {
        if line.len() > MINER_LINE_MAX {
            return;
        }
        let Ok(message) = parse_client(line) else { return };
        let Some(message) = message else { continue };
        let asked = match &message {
            ClientLine::Call { id, .. } => Some(id.clone()),
            ClientLine::Reply { .. } => None,
        };
        let mut out = Vec::new();
        let event = role.receive(message, &mut out);
        match &event {
            ServerEvent::Subscribe { id, .. } => {
                role.accept_subscription(id, "s", &[7], 4, &mut out);
            }
            ServerEvent::Authorize { id, worker, .. } => {
                assert!(valid_worker_name(worker));
                role.answer_authorize(id, worker, true, &mut out);
            }
            ServerEvent::Submit { id, submit } => {
                assert!(role.is_ready() && role.knows_worker(&submit.worker));
                write_true(id, &mut out);
            }
            ServerEvent::TooManyCalls => return,
            _ => {}
        }
        let answers = check_lines(&out);
        assert!(answers.len() <= 1, "{answers:?}");
        if let Some(answer) = answers.first() {
            let asked = asked.expect("only calls are answered");
            assert!(
                answer.starts_with(&format!("{{\"id\":{},\"result\":", asked.as_raw())),
                "{answer}"
            );
        }
        if let Some(mask) = role.version_mask() {
            assert_eq!(mask.and(VersionMask::BIP320), mask, "no more is granted than is offered");
        }
    }
    // At most one line tells the miner of a smaller mask.
    let mut out = Vec::new();
    role.change_offer(VersionMask(0x6000), &mut out);
    assert!(check_lines(&out).len() <= 1);
}

/// The lines of a pool, with one of our shares between any two of them. What we send is JSON, each
/// share is answered at most once, and the table of open requests stays bounded.
pub fn client_role(data: &[u8]) {
    let mut role = ClientRole::new(ClientConfig {
        user_agent: "tieline".into(),
        worker: "acme".into(),
        password: "x".into(),
        mask: Some(VersionMask::BIP320),
        suggest: Difficulty::new(1024.0),
    });
    let mut out = Vec::new();
    role.start(&mut out);
    let mut open = std::collections::BTreeSet::new();
    for line in data.split(|byte| *byte == b'\n').take(256) {
        let Ok(event) = role.receive(line, &mut out) else { return };
        for event in std::iter::once(event).chain(std::iter::from_fn(|| role.poll()).take(4)) {
            match event {
                ClientEvent::Subscribed { extranonce1, extranonce2_size }
                | ClientEvent::Extranonce { extranonce1, extranonce2_size } => {
                    assert!(
                        (1..=16).contains(&extranonce1.len())
                            && (2..=16).contains(&extranonce2_size)
                    );
                }
                ClientEvent::Notify(job) => check_job(job),
                ClientEvent::Answer { request, .. } => {
                    assert!(open.remove(&request), "answered twice, or never asked");
                }
                ClientEvent::Fatal(_) => return,
                _ => {}
            }
        }
        assert!(role.outstanding() <= OUTSTANDING_MAX);
        open.insert(role.submit(None, "j", &[&[1], &[2, 3]], 1, 2, Some(0x2000), &mut out));
        assert!(check_lines(&out).len() <= 8, "no flood of answers");
        out.clear();
    }
}

fn lines(chunks: &[&[u8]], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut splitter = Splitter::new(limit);
    let mut lines = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            match splitter.next_line(&mut input) {
                Ok(Some(line)) => {
                    assert!(line.len() <= limit && !line.contains(&b'\n'));
                    lines.push(line.to_vec());
                }
                Ok(None) => break,
                Err(_) => return (lines, true),
            }
        }
        assert!(splitter.buffered() <= limit);
    }
    (lines, false)
}

/// Checks that the bytes are whole lines of JSON without control characters, and returns the lines.
fn check_lines(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("we write UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "a whole line: {text:?}");
    text.lines()
        .map(|line| {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            // Parsed as raw JSON: an id may be a number too large for every integer type, and is
            // echoed unchanged.
            serde_json::from_str::<&RawValue>(line)
                .unwrap_or_else(|error| panic!("{error}: {line}"));
            line.to_owned()
        })
        .collect()
}

fn check_id(id: &Id) {
    let raw = id.as_raw();
    assert!(raw.len() <= ID_MAX * 6 + 2, "{raw}");
    assert!(serde_json::from_str::<&RawValue>(raw).is_ok(), "{raw}");
}

fn check_shown(text: &str) {
    assert!(text.chars().count() <= 64 && !text.chars().any(char::is_control), "{text:?}");
}

fn check_job(job: Job) {
    assert!((1..=JOB_ID_MAX).contains(&job.job_id.len()) && job.branches.len() <= BRANCHES_MAX);
    let _ = job.network_target();
    let line = [&render_notify(&job.job_id, &job, &[0xaa; 8])[..], NOTIFY_CLEAN].concat();
    assert_eq!(check_lines(&line).len(), 1);
    let Ok(Some(PoolLine::Notify(Ok(again)))) =
        parse_pool(line.strip_suffix(b"\n").expect("a line"))
    else {
        // The rendered coinb1 also holds our bytes, so it may be longer than the parser accepts.
        assert!(job.coinb1.len() + 8 > crate::job::COINBASE_PART_MAX, "it cannot be read again");
        return;
    };
    let coinb1 = [&job.coinb1[..], &[0xaa; 8]].concat();
    assert_eq!(again, Job { coinb1, clean: true, ..job });
}

/// A job to judge shares by.
fn job() -> Job {
    Job {
        job_id: "j".to_owned(),
        prev_hash: [3; 32],
        coinb1: vec![1; 60],
        coinb2: vec![2; 90],
        branches: vec![[4; 32], [5; 32]],
        version: 0x2080_0000,
        nbits: 0x1703_255b,
        ntime: 0x6b49_d200,
        clean: true,
    }
}

#[cfg(test)]
mod tests;
