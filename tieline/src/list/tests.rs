use directive::Serving;
use proxy::{Hashrate, Rejects, SessionState};
use unicode_width::UnicodeWidthStr;

use super::*;

fn now() -> Timestamp {
    "2026-11-30T11:31:00Z".parse().expect("a time")
}

fn worker(name: &str, rate: f64) -> WorkerView {
    WorkerView {
        worker_name: name.into(),
        sessions: 1,
        serving: Serving::Working,
        shares: 12_345,
        work: 8.1e8,
        accepted: 12_000,
        local: 300,
        at_risk: 0,
        rejects: Rejects {
            total: 45,
            pool_rejected: 1,
            unresolved: 0,
            stale: 40,
            duplicate: 0,
            low_difficulty: 4,
            unauthorized: 0,
            malformed: 0,
            overflow: 0,
        },
        hashrate: Hashrate { m1: rate, m10: rate, h1: rate },
        best_difficulty: Some(1.2e9),
        last_share_at: Some("2026-11-30T11:30:12Z".parse().expect("a time")),
        still_hashing: 0,
    }
}

fn session(worker: &str, user_agent: &str) -> SessionView {
    SessionView {
        session: 4711,
        peer: "10.20.30.40:51234".parse().expect("an address"),
        connected_at: now(),
        server: "asics".into(),
        slot: 1,
        state: SessionState::Working,
        worker_name: Some(worker.into()),
        user_agent: Some(user_agent.into()),
        target: Some("pool-a".into()),
        difficulty: Some(65_536.0),
        hashrate: Some(1.04e14),
        version_mask: None,
        shares: 12_345,
        rejects: 12,
        last_share_at: None,
    }
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page { total: 7010, offset: 0, next: None, items }
}

fn at_80(text: String) -> String {
    for line in text.lines() {
        assert!(line.width() <= 80, "{line}");
    }
    text
}

#[test]
fn workers_fit_80_columns() {
    let workers =
        vec![worker("childress.container-17.rack-03.slot-0042", 1.04e14), worker("acme.b", 9.9e11)];
    let table = worker_table(&workers, now());
    let text = listed(&table.render(80), &page(workers), "720.0 PH/s over 10 min", 80);
    insta::assert_snapshot!(at_80(text));
}

#[test]
fn sessions_fit_80_columns_and_say_what_was_left_out() {
    let sessions = vec![
        session("childress.container-17.rack-03.slot-0042", "bosminer-plus-tuner/0.9.0"),
        session("\u{1b}]0;owned\u{7}", "cgminer/4.11.1\r\nX"),
    ];
    let table = session_table(&sessions, now());
    let text = listed(&table.render(80), &page(sessions), "", 80);
    assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{text:?}");
    insta::assert_snapshot!(at_80(text));
}

#[test]
fn wide_shows_everything() {
    let sessions = vec![session("childress.container-17.rack-03.slot-0042", "bosminer/0.9")];
    let table = session_table(&sessions, now()).render(usize::MAX);
    assert!(table.left_out.is_empty());
    for whole in ["childress.container-17.rack-03.slot-0042", "bosminer/0.9", "10.20.30.40:51234"] {
        assert!(table.text.contains(whole), "{}", table.text);
    }
}
