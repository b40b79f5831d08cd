use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::*;
use crate::blackout::FeedSupply;
use crate::cause::Cause;
use crate::fixture::{at, lease};

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("ledger.db")
}

fn committed(id: &str) -> Entry {
    Entry {
        at: at(1),
        event: Event::LeaseCommitted {
            lease: lease(id, "a", 1000, 100, 200),
            arithmetic: vec![],
            latest_safe_start: None,
            origin: None,
        },
    }
}

/// Writes a ledger of five entries and closes it.
fn written(dir: &tempfile::TempDir) -> Head {
    let (mut ledger, _) = SqliteLedger::open(&file(dir), at(0)).unwrap();
    ledger.append(&[committed("x"), committed("y")]).unwrap();
    ledger
        .append(&[
            committed("z"),
            Entry {
                at: at(2),
                event: Event::Unverified { lease: "x".into(), why: "w".into(), unproven: true },
            },
        ])
        .unwrap()
}

/// The modes of the ledger and of the files next to it.
fn modes(dir: &tempfile::TempDir) -> Vec<(String, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let mode = |entry: &std::fs::DirEntry| entry.metadata().unwrap().permissions().mode() & 0o777;
    let mut modes: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), mode(&entry)))
        .collect();
    modes.sort();
    modes
}

#[test]
fn nobody_else_can_read_the_ledger() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let names = ["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"];
    let private: Vec<_> = names.map(|name| (name.to_owned(), 0o600)).into();
    let (mut ledger, _) = SqliteLedger::open(&file(&dir), at(0)).unwrap();
    ledger.append(&[committed("x")]).unwrap();
    assert_eq!(modes(&dir), private, "made new");
    // An earlier version left these modes when it was killed.
    for (name, _) in modes(&dir) {
        let wide = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(dir.path().join(name), wide).unwrap();
    }
    // Another connection keeps SQLite from removing its files.
    let other = Connection::open(file(&dir)).unwrap();
    other.query_one("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)).unwrap();
    drop(ledger);
    assert_eq!(modes(&dir).len(), names.len(), "SQLite's files are still there");
    let (mut ledger, state) = SqliteLedger::open(&file(&dir), at(0)).unwrap();
    assert!(state.leases.contains_key("x"));
    ledger.append(&[committed("y")]).unwrap();
    assert_eq!(modes(&dir), private, "left by an earlier version");
}

fn tamper(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn tampered(result: Result<Head, LedgerError>) -> Tampered {
    match result {
        Err(LedgerError::Tampered(tampered)) => tampered,
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn a_ledger_nobody_touched_verifies_and_folds_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(&dir);
    assert_eq!(head.seq, 5);
    assert_eq!(verify(&file(&dir), Some(head)).unwrap(), head);
    assert_eq!(verify(&file(&dir), None).unwrap(), head);
    let (ledger, state) = SqliteLedger::open(&file(&dir), at(9)).unwrap();
    assert_eq!((state.epoch, state.leases.len(), state.committed), (2, 3, 3));
    assert!(state.leases["x"].unverified);
    assert_eq!(ledger.head().seq, 6, "a new life is an entry of its own");
    drop(ledger);
    assert!(
        verify(&file(&dir), Some(head)).is_ok(),
        "an older published head is part of the same history"
    );
}

#[test]
fn each_kind_of_tampering_is_found_at_its_entry() {
    let table = [
        ("UPDATE event SET body = replace(body, '1000', '9000') WHERE seq = 3", 3),
        ("UPDATE event SET at = '2027-01-15T08:00:09Z' WHERE seq = 2", 2),
        ("UPDATE event SET kind = 'decided' WHERE seq = 4", 4),
        ("UPDATE event SET hash = zeroblob(32) WHERE seq = 4", 4),
        ("DELETE FROM event WHERE seq = 2", 2),
        ("DELETE FROM event WHERE seq = 1", 1),
        ("DELETE FROM event WHERE seq = 3; UPDATE event SET seq = seq - 1 WHERE seq > 3", 3),
        (
            "UPDATE event SET seq = 99 WHERE seq = 2; UPDATE event SET seq = 2 WHERE seq = 3; UPDATE event SET seq = 3 WHERE seq = 99",
            2,
        ),
        ("INSERT INTO event SELECT 6, at, kind, body, prev, hash FROM event WHERE seq = 5", 6),
        ("INSERT INTO event SELECT 6, at, kind, body, hash, hash FROM event WHERE seq = 5", 6),
        ("INSERT INTO event SELECT 0, at, kind, body, prev, hash FROM event WHERE seq = 1", 1),
        ("UPDATE event SET body = 'no json' WHERE seq = 5", 5),
    ];
    for (sql, seq) in table {
        let dir = tempfile::tempdir().unwrap();
        written(&dir);
        tamper(&file(&dir), sql);
        assert_eq!(tampered(verify(&file(&dir), None)).seq, seq, "{sql}");
        let refused = SqliteLedger::open(&file(&dir), at(9)).map(|(ledger, _)| ledger.head());
        assert_eq!(tampered(refused).seq, seq, "start must be refused after: {sql}");
    }
}

#[test]
fn a_cut_end_is_found_against_a_published_head_only() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(&dir);
    tamper(&file(&dir), "DELETE FROM event WHERE seq > 3");
    assert_eq!(verify(&file(&dir), None).unwrap().seq, 3);
    assert_eq!(tampered(verify(&file(&dir), Some(head))).seq, 4);
}

#[test]
fn a_rewritten_history_differs_from_a_published_head() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(&dir);
    let forged = Head { seq: head.seq, hash: [7; 32] };
    let found = tampered(verify(&file(&dir), Some(forged)));
    assert_eq!((found.seq, found.what.contains("rewritten")), (5, true));
}

#[test]
fn an_entry_with_a_right_hash_and_a_wrong_meaning_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let head = written(&dir);
    let body = serde_json::to_string(&Event::Unverified {
        lease: "nobody".into(),
        why: String::new(),
        unproven: true,
    })
    .unwrap();
    let next = head.next("2027-01-15T08:00:09Z", "unverified", &body);
    let connection = Connection::open(file(&dir)).unwrap();
    let row =
        params![6, "2027-01-15T08:00:09Z", "unverified", body, &head.hash[..], &next.hash[..]];
    connection.execute("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row).unwrap();
    drop(connection);
    assert!(tampered(verify(&file(&dir), None)).what.contains("never committed"));
}

#[test]
fn a_second_holder_is_refused_until_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = SqliteLedger::open(&file(&dir), at(0)).unwrap();
    assert!(matches!(SqliteLedger::open(&file(&dir), at(0)), Err(LedgerError::Locked { .. })));
    drop(first);
    assert_eq!(SqliteLedger::open(&file(&dir), at(0)).unwrap().1.epoch, 2);
}

#[test]
fn a_newer_schema_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    written(&dir);
    tamper(&file(&dir), "PRAGMA user_version = 7");
    assert!(matches!(
        SqliteLedger::open(&file(&dir), at(0)),
        Err(LedgerError::NewerSchema { found: 7, known: 6 })
    ));
    assert!(matches!(verify(&file(&dir), None), Err(LedgerError::NewerSchema { found: 7, .. })));
}

#[test]
fn a_ledger_of_an_older_program_is_taken_over_and_closed_to_that_program() {
    let dir = tempfile::tempdir().unwrap();
    written(&dir);
    tamper(&file(&dir), "PRAGMA user_version = 1");
    assert!(verify(&file(&dir), None).is_ok(), "reading changes nothing");
    drop(SqliteLedger::open(&file(&dir), at(5)).unwrap());
    let connection = Connection::open(file(&dir)).unwrap();
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 6);
}

/// A ledger as a program of schema 4 wrote it: the time, kind, body and hash of each entry.
const SCHEMA_4: &str = include_str!("fixtures/schema-4.tsv");

/// As a program of schema 5 wrote it.
const SCHEMA_5: &str = include_str!("fixtures/schema-5.tsv");

fn written_by_schema_4(dir: &tempfile::TempDir) -> Head {
    written_by(dir, 4, SCHEMA_4)
}

/// Writes the ledger of a former schema, and returns its head.
fn written_by(dir: &tempfile::TempDir, schema: u32, entries: &str) -> Head {
    drop(SqliteLedger::open(&file(dir), at(0)).unwrap());
    tamper(&file(dir), "DELETE FROM event");
    tamper(&file(dir), &format!("PRAGMA user_version = {schema}"));
    let connection = Connection::open(file(dir)).unwrap();
    let mut head = Head::default();
    for line in entries.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [at, kind, body, hash] = columns[..] else { panic!("four columns: {line}") };
        let (prev, seq) = (head.hash, head.seq + 1);
        head = Head { seq, hash: const_hex::decode_to_array(hash).unwrap() };
        let insert =
            "INSERT INTO event (seq, at, kind, body, prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let row = params![seq.cast_signed(), at, kind, body, &prev[..], &head.hash[..]];
        connection.execute(insert, row).unwrap();
    }
    head
}

#[test]
fn a_ledger_that_knows_no_causes_is_verified_and_continued() {
    let dir = tempfile::tempdir().unwrap();
    let head = written_by_schema_4(&dir);
    assert_eq!(verify(&file(&dir), Some(head)).unwrap(), head);
    let (ledger, state) = SqliteLedger::open(&file(&dir), at(300)).unwrap();
    let causes = |machine: &str| -> Vec<Cause> {
        let periods = state.selection.off.get(machine).into_iter().flatten();
        periods.map(|chosen| chosen.cause.clone()).collect()
    };
    assert_eq!(causes("s21-000"), [Cause::Lease("x".into())]);
    assert_eq!(causes("s21-003"), [Cause::Unrecorded], "its feed was short, and no feed is named");
    assert_eq!(causes("s21-005"), [], "it was woken");
    assert_eq!(causes("s21-010"), [Cause::Lease("x".into()), Cause::Lease("y".into())]);
    let passed_on = &state.selection.off["s21-010"][1];
    assert!(passed_on.passed_on && passed_on.until.is_none() && passed_on.at == at(200));
    drop(ledger);
    assert!(verify(&file(&dir), Some(head)).unwrap().seq > head.seq, "the chain goes on");
}

fn supply(feed: &str, to: FeedSupply) -> SupplyChange {
    SupplyChange {
        feed: feed.into(),
        to,
        since: at(310),
        before: Watts(48_000),
        own_before: Watts(40_000),
        machines: 14,
        with: (feed == "b").then(|| "a".into()),
    }
}

#[test]
fn a_ledger_that_knows_no_blackouts_is_verified_and_continued() {
    let dir = tempfile::tempdir().unwrap();
    let head = written_by(&dir, 5, SCHEMA_5);
    assert_eq!(verify(&file(&dir), Some(head)).unwrap(), head);
    let (mut ledger, state) = SqliteLedger::open(&file(&dir), at(300)).unwrap();
    let permitted = ["s21-000", "s21-001"].map(MachineId::from);
    assert_eq!(state.permitted, Some(permitted.into()));
    assert_eq!(state.meters.len(), 1);
    assert!(state.dead.is_empty());
    let dead = vec![supply("a", FeedSupply::Dead), supply("b", FeedSupply::Dead)];
    let event = Event::SupplyChanged { feeds: dead };
    ledger.append(&[Entry { at: at(312), event }]).unwrap();
    drop(ledger);
    assert!(verify(&file(&dir), Some(head)).unwrap().seq > head.seq, "the chain goes on");
    let (mut ledger, state) = SqliteLedger::open(&file(&dir), at(320)).unwrap();
    assert_eq!(state.dead["a"], supply("a", FeedSupply::Dead));
    assert_eq!(state.dead["b"], supply("b", FeedSupply::Dead));
    let back = vec![supply("a", FeedSupply::Reclosing), supply("b", FeedSupply::Live)];
    ledger.append(&[Entry { at: at(330), event: Event::SupplyChanged { feeds: back } }]).unwrap();
    drop(ledger);
    let (_, state) = SqliteLedger::open(&file(&dir), at(340)).unwrap();
    let left: Vec<_> = state.dead.into_iter().collect();
    assert_eq!(left, [("a".into(), supply("a", FeedSupply::Reclosing))]);
}

#[test]
fn a_ledger_keeps_the_causes_of_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    written_by_schema_4(&dir);
    let (mut ledger, state) = SqliteLedger::open(&file(&dir), at(300)).unwrap();
    let mut selection = state.selection.clone();
    let causes = [
        Cause::Load("a".into()),
        Cause::Guard("a".into()),
        Cause::Room("a".into()),
        Cause::Lease("x".into()),
        Cause::Stays("y".into()),
    ];
    for (machine, cause) in
        ["s21-000", "s21-001", "s21-002", "s21-003", "s21-004"].iter().zip(causes)
    {
        selection.off.get_mut(*machine).unwrap()[0].cause = cause;
    }
    let event = Event::Decided {
        number: Generation { epoch: 2, generation: 1 },
        policy: "p".into(),
        plan: "d".into(),
        selection: None,
        changes: SelectionChange::between(Some(&state.selection), &selection),
        deficits: Vec::new(),
        reasons: Vec::new(),
    };
    ledger.append(&[Entry { at: at(301), event }]).unwrap();
    drop(ledger);
    let (_, state) = SqliteLedger::open(&file(&dir), at(302)).unwrap();
    assert_eq!(state.selection, selection);
}

#[test]
fn what_is_no_ledger_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(&file(&dir), None), Err(LedgerError::File { .. })));
    std::fs::write(file(&dir), "this is no database, whatever its name says").unwrap();
    assert!(matches!(verify(&file(&dir), None), Err(LedgerError::Database(_))));
    assert!(SqliteLedger::open(&file(&dir), at(0)).is_err());
}

#[test]
fn a_head_reads_as_it_is_written() {
    let head = Head { seq: 17, hash: [0xab; 32] };
    assert_eq!(head.to_string().parse(), Ok(head));
    for bad in ["", "17", "17:ab", "x:00", "17:zz"] {
        assert_eq!(bad.parse::<Head>(), Err(BadHead), "{bad}");
    }
}

#[tokio::test]
async fn batches_are_answered_when_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = SqliteLedger::open(&file(&dir), at(0)).unwrap();
    let writer = LedgerWriter::spawn(ledger).unwrap();
    let answers: Vec<_> =
        (0..50).map(|i| writer.append(vec![committed(&format!("l{i}"))])).collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    writer.close();
    assert_eq!(verify(&file(&dir), None).unwrap().seq, 51);
    assert_eq!(SqliteLedger::open(&file(&dir), at(0)).unwrap().1.leases.len(), 50);
}

#[test]
fn a_phase_that_steps_back_and_machines_that_do_not_confirm_are_history_like_any_other() {
    use crate::commitment::{Phase, Unconfirmed};
    use crate::words::Named;
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = SqliteLedger::open(&file(&dir), at(0)).unwrap();
    let moved = |from, to| Event::CommitmentMoved {
        lease: "x".into(),
        from,
        to,
        why: format!("to {to:?}"),
        figures: vec![],
    };
    let machines = Named { count: 1, examples: vec!["m".into()] };
    let unconfirmed = |since| Event::Unconfirmed {
        lease: "x".into(),
        unconfirmed: Unconfirmed { since: at(since), machines: machines.clone() },
    };
    let events = [
        moved(Phase::Planned, Phase::Armed),
        moved(Phase::Armed, Phase::Planned),
        moved(Phase::Planned, Phase::Proven),
        unconfirmed(5),
        Event::Confirmed { lease: "x".into() },
        unconfirmed(7),
    ];
    let entries: Vec<Entry> = std::iter::once(committed("x"))
        .chain(events.map(|event| Entry { at: at(9), event }))
        .collect();
    let head = ledger.append(&entries[..3]).unwrap();
    drop(ledger);
    assert_eq!(verify(&file(&dir), Some(head)).unwrap(), head);
    let (mut ledger, state) = SqliteLedger::open(&file(&dir), at(9)).unwrap();
    assert_eq!((state.leases["x"].phase, &*state.leases["x"].why), (Phase::Planned, "to Planned"));
    ledger.append(&entries[3..]).unwrap();
    drop(ledger);
    let (_, state) = SqliteLedger::open(&file(&dir), at(9)).unwrap();
    let x = &state.leases["x"];
    assert_eq!((x.unconfirmed_at, x.unconfirmed.as_ref().unwrap().since), (Some(at(5)), at(7)));
}

/// Bodies of entries in the first ledgers. They must stay readable: the hash chain covers these
/// bytes, and a program that cannot read one refuses the whole ledger.
const FIRST: [(&str, &str); 9] = [
    ("opened", r#"{"kind":"opened","epoch":1}"#),
    (
        "lease_committed",
        r#"{"kind":"lease_committed","lease":{"id":"l","tenant":"Nebula","class":"firm","it":16000,"pue":1.25,"gross":20000,"feed":"a","start":"2027-01-15T09:00:00Z","end":"2027-01-15T10:00:00Z","ready_before":{"secs":60,"nanos":0},"accept_unverified":false,"meter":"tenant"},"arithmetic":[{"feed":"a","from":"2027-01-15T08:59:00Z","to":"2027-01-15T10:00:00Z","usable":50000,"house":1000,"committed":0,"residual":420,"unsheddable":0,"unassigned":0,"available":48580,"asked":20000}],"origin":{"key":"k","digest":"d"}}"#,
    ),
    (
        "decided",
        r#"{"kind":"decided","number":{"epoch":1,"generation":1},"policy":"p","plan":"q","selection":{"off":{"old.000":[{"group":"old","lease":"l","at":"2027-01-15T08:57:00Z","until":null,"edge":null,"means":"device"}]},"woken":{}},"deficits":[{"feed":"a","from":"2027-01-15T08:59:00Z","short":2390}],"reasons":["r"]}"#,
    ),
    (
        "commitment_moved",
        r#"{"kind":"commitment_moved","lease":"l","from":"planned","to":"armed","why":"w","figures":[{"feed":"a","headroom":20000,"needed":20000,"unmetered":0}]}"#,
    ),
    ("unverified", r#"{"kind":"unverified","lease":"l","why":"w"}"#),
    (
        "breached",
        r#"{"kind":"breached","lease":"l","breach":{"at":"2027-01-15T08:59:00Z","missing":40,"measured":true,"why":"w"},"figures":[]}"#,
    ),
    (
        "lease_cancelled",
        r#"{"kind":"lease_cancelled","lease":"l","cancelled_at":"2027-01-15T09:10:00Z","phase":"active"}"#,
    ),
    ("policy_loaded", r#"{"kind":"policy_loaded","digest":"d","revision":null}"#),
    ("policy_refused", r#"{"kind":"policy_refused","digest":"d","why":"w","shortfall":40}"#),
];

#[test]
fn a_ledger_of_the_first_format_is_verified_and_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteLedger::open(&file(&dir), at(0)).unwrap());
    let connection = Connection::open(file(&dir)).unwrap();
    connection.execute_batch("DELETE FROM event").unwrap();
    let mut head = Head::default();
    for (kind, body) in FIRST {
        let time = at(1).to_string();
        let next = head.next(&time, kind, body);
        connection
            .execute(
                "INSERT INTO event (seq, at, kind, body, prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![i64::try_from(next.seq).unwrap(), time, kind, body, &head.hash[..], &next.hash[..]],
            )
            .unwrap();
        head = next;
    }
    drop(connection);
    assert_eq!(verify(&file(&dir), None).unwrap(), head);
    let (_, state) = SqliteLedger::open(&file(&dir), at(9)).unwrap();
    let standing = &state.leases["l"];
    assert_eq!((standing.lease.gross.0, standing.breaches[0].missing.0), (20_000, 40));
    assert_eq!((state.epoch, state.selection.off.len()), (2, 1));
}

#[test]
fn the_permitted_set_is_the_sum_of_its_changes() {
    let permitted = |added: &[&str], removed: &[&str]| Event::Permitted {
        added: added.iter().map(|name| MachineId::from(*name)).collect(),
        removed: removed.iter().map(|name| MachineId::from(*name)).collect(),
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, state) = SqliteLedger::open(&file(&dir), at(0)).unwrap();
    assert_eq!(state.permitted, None, "never recorded");
    let entries = [permitted(&["a", "b"], &[]), permitted(&["c"], &["a"])];
    ledger.append(&entries.map(|event| Entry { at: at(1), event })).unwrap();
    drop(ledger);
    let (_, state) = SqliteLedger::open(&file(&dir), at(2)).unwrap();
    assert_eq!(state.permitted, Some(["b".into(), "c".into()].into()));
}

#[test]
fn of_closed_leases_only_the_newest_stay_in_memory_whatever_is_closed_twice() {
    let mut state = LedgerState::default();
    let close = |state: &mut LedgerState, number: i64, from: Phase| {
        let (lease, why) = (format!("l{number:05}").as_str().into(), String::new());
        let event = Event::CommitmentMoved { lease, from, to: Phase::Closed, why, figures: vec![] };
        state.apply(at(number), &event).unwrap();
    };
    for number in 0..11_000 {
        state.apply(at(0), &committed(&format!("l{number:05}")).event).unwrap();
    }
    for number in 0..10_999 {
        close(&mut state, number, Phase::Releasing);
    }
    close(&mut state, 10_998, Phase::Closed);
    assert_eq!(state.leases.len(), 11_000, "they are forgotten in blocks, and one is open");
    close(&mut state, 10_999, Phase::Releasing);
    assert_eq!(state.leases.len(), 10_000);
    assert!(!state.leases.contains_key(&LeaseId::from("l00999")), "the oldest are gone");
    assert!(state.leases.contains_key(&LeaseId::from("l01000")));
}
