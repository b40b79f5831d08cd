//! Each answer's JSON is pinned by a file in `golden/`. `TIELINE_GOLDEN=write cargo test` writes
//! them anew: a change of a name or a type moves docs/api.md too.

use std::path::Path;

use directive::Serving;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::config::Trust;
use crate::handle::SessionState;
use crate::machines::Hashrate;

fn at(clock: &str) -> Option<Timestamp> {
    Some(format!("2026-12-01T{clock}Z").parse().expect("a time"))
}

fn targets() -> Vec<TargetView> {
    let first = TargetView {
        name: "primary".to_owned(),
        address: "pool.example:3334".to_owned(),
        tls: Some(Trust::Platform),
        active: true,
        passthrough: false,
        disabled: false,
        up: true,
        quiet: false,
        quarantined: false,
        connections: 1,
        sessions: 5400,
        difficulty: Some(4_194_304.0),
        extranonce1_size: Some(4),
        extranonce2_size: Some(8),
        last_fault: None,
    };
    let second = TargetView {
        name: "backup".to_owned(),
        address: "[2001:db8::1]:3333".to_owned(),
        tls: None,
        active: false,
        passthrough: true,
        disabled: false,
        up: false,
        quiet: true,
        quarantined: true,
        connections: 0,
        sessions: 0,
        difficulty: None,
        extranonce1_size: None,
        extranonce2_size: None,
        last_fault: Some("silent: no answer for 20 s".to_owned()),
    };
    vec![first, second]
}

fn sessions() -> Listing<SessionView> {
    let working = SessionView {
        session: 4711,
        peer: "10.0.3.17:49152".parse().expect("an address"),
        connected_at: at("05:00:00").expect("given"),
        server: "asics".to_owned(),
        slot: 7,
        state: SessionState::Working,
        worker_name: Some("acme.c17-r3-s42".to_owned()),
        user_agent: Some("bosminer/0.9".to_owned()),
        target: Some("primary".to_owned()),
        difficulty: Some(65_536.0),
        hashrate: Some(1.2e14),
        version_mask: Some("1fffe000".to_owned()),
        shares: 360,
        rejects: 1,
        last_share_at: at("05:59:58.1"),
    };
    let new = SessionView {
        session: 4712,
        peer: "[2001:db8::7]:50000".parse().expect("an address"),
        connected_at: at("06:00:00").expect("given"),
        server: "asics".to_owned(),
        slot: 8,
        state: SessionState::Handshake,
        worker_name: None,
        user_agent: None,
        target: None,
        difficulty: None,
        hashrate: None,
        version_mask: None,
        shares: 0,
        rejects: 0,
        last_share_at: None,
    };
    Listing { total: 102, offset: 100, next: None, items: vec![working, new] }
}

fn workers() -> Workers {
    let worker = WorkerView {
        worker_name: "acme.c17-r3-s42".to_owned(),
        sessions: 1,
        serving: Serving::Working,
        shares: 360,
        work: 23_592_960.0,
        accepted: 5,
        local: 355,
        at_risk: 2,
        rejects: Rejects {
            total: 36,
            pool_rejected: 1,
            unresolved: 2,
            stale: 3,
            duplicate: 4,
            low_difficulty: 5,
            unauthorized: 6,
            malformed: 7,
            overflow: 8,
        },
        hashrate: Hashrate { m1: 1.2e14, m10: 1.19e14, h1: 1.18e14 },
        best_difficulty: Some(1_234_567.0),
        last_share_at: at("05:59:58.1"),
        still_hashing: 3,
    };
    Workers {
        page: Listing {
            total: 5400,
            offset: 0,
            next: Some("7b226e".to_owned()),
            items: vec![worker],
        },
        hashrate: Hashrate { m1: 6.5e17, m10: 6.4e17, h1: 6.3e17 },
    }
}

fn counts() -> Counts {
    Counts {
        accepted: 1,
        local: 2,
        at_risk: 3,
        pool_rejected: 4,
        unresolved: 5,
        stale: 6,
        duplicate: 7,
        low: 8,
        malformed: 9,
        reconnects: 10,
        switches: 11,
        blocks: 12,
        blocks_lost: 13,
    }
}

/// Compares an answer's JSON with its file, and reads it back.
fn pinned<T>(name: &str, answer: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_string_pretty(answer).expect("JSON") + "\n";
    let read: T = serde_json::from_str(&text).expect("the answer can be read back");
    assert_eq!(read, *answer, "{name} cannot be read back");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/api/golden/{name}.json"));
    if std::env::var("TIELINE_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &text).expect("the folder is there");
    }
    let golden = std::fs::read_to_string(&path).expect("the file is there");
    assert_eq!(text, golden, "{name}: the API's JSON changed");
}

#[test]
fn the_json_of_each_answer_is_what_it_was() {
    pinned("targets", &targets());
    pinned("sessions", &sessions());
    pinned("workers", &workers());
    pinned("counts", &counts());
}
