use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::Value;
use stratum::error::RejectCode;

use super::disk::{Before, Disk, Sink};
use super::writer::Writer;
use super::*;
use crate::log_limit::tests::Log;
use crate::outcome::Outcome;
use crate::reasons::metrics::Alarms;
use crate::work::Record;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
}

fn entry(worker: &str, verdict: Outcome) -> Entry {
    let refusal = (verdict == Outcome::PoolRejected)
        .then(|| ShareRefusal::Pools(RejectCode::Other, "no \"thanks\"\n".into()));
    let record = Record { found: Some(3.5), ..Record::new(7, Some(worker), daemon::clock::now()) };
    Entry {
        at: at(0),
        record: Box::new(record),
        verdict,
        refusal,
        latency: Duration::from_micros(1234),
    }
}

fn config(dir: &Path) -> ShareLogConfig {
    ShareLogConfig {
        dir: dir.to_owned(),
        rotate_bytes: 1 << 20,
        rotate_every: Duration::from_secs(86_400),
        keep: 3,
    }
}

fn registered(registry: &mut Registry) -> ShareLogMetrics {
    ShareLogMetrics::register(&Alarms::register(registry), registry)
}

fn metrics() -> ShareLogMetrics {
    registered(&mut Registry::default())
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?}")))
        .collect()
}

fn records(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["record"].as_str().expect("each says what it is")).collect()
}

/// A disk that accepts a number of bytes and then none, until it gets more room.
#[derive(Default)]
struct Fickle {
    room: usize,
    bytes: Vec<u8>,
    gone: bool,
}

impl Sink for &mut Fickle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= taken;
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn rotate(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }
    fn prune(&mut self, _: usize) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn reopen(&mut self, _: Timestamp) -> io::Result<bool> {
        if self.gone {
            self.bytes.clear();
        }
        Ok(std::mem::take(&mut self.gone))
    }
    fn file(&self) -> (u64, Timestamp) {
        (0, at(0))
    }
}

fn writer(sink: &mut Fickle, lost: u64) -> Writer<&mut Fickle> {
    let before = Before { after: "nothing", torn_bytes: 0 };
    let lost = Arc::new(AtomicU64::new(lost));
    let config = ShareLogConfig { rotate_every: Duration::MAX, ..config(Path::new("unused")) };
    Writer::new(sink, before, &config, "p", vec!["a".into()].into(), lost, metrics())
}

/// Loses entries at these seconds. Returns the log lines, and the number of missing lines in the
/// records.
fn with_gaps(seconds: std::ops::Range<u64>) -> (Vec<String>, u64) {
    let mut disk = Fickle { room: usize::MAX, ..Fickle::default() };
    let queue_lost = Arc::new(AtomicU64::new(0));
    let before = Before { after: "nothing", torn_bytes: 0 };
    let config = ShareLogConfig { rotate_every: Duration::MAX, ..config(Path::new("unused")) };
    let mut log = Writer::new(
        &mut disk,
        before,
        &config,
        "p",
        PerTarget::default(),
        queue_lost.clone(),
        metrics(),
    );
    let (start, logged) = (daemon::clock::now(), Log::new());
    tracing::subscriber::with_default(logged.clone(), || {
        for second in seconds {
            queue_lost.store(7, Ordering::Relaxed);
            log.flush(at(1), start + Duration::from_secs(second));
        }
        log.finish();
    });
    drop(log);
    let gaps = lines(&disk.bytes).into_iter().filter(|line| line["record"] == "gap");
    (logged.shown(), gaps.map(|line| line["lost"].as_u64().expect("a number")).sum())
}

#[test]
fn gaps_at_each_flush_are_a_line_a_minute_and_each_has_its_record() {
    let (first, again) = ("share log has a gap", "share log has gaps again");
    let (logged, lost) = with_gaps(0..150);
    assert_eq!((&logged[..3], lost), (&[first, again, again].map(str::to_owned)[..], 150 * 7));
    let (logged, lost) = with_gaps(0..3);
    assert_eq!((&logged[..], lost), (&[first, again].map(str::to_owned)[..], 3 * 7), "at the end");
}

/// F56: no line is truncated or written twice, and lost lines are reported where they are missing.
#[test]
fn f56_a_full_disk_costs_lines_only_beyond_the_bound_and_leaves_a_gap_record() {
    let mut disk = Fickle { room: 500, ..Fickle::default() };
    let mut log = writer(&mut disk, 0);
    let now = daemon::clock::now();
    let mut taken = 0_u64;
    let long = "w".repeat(4000);
    while taken < 5000 {
        log.take(&entry(&long, Outcome::Local));
        taken += 1;
        if taken.is_multiple_of(100) {
            log.flush(at(1), now);
        }
    }
    log.sink_for_tests().room = usize::MAX;
    log.flush(at(2), now);
    log.take(&entry("rig", Outcome::Accepted));
    log.finish();
    drop(log);
    let lines = lines(&disk.bytes);
    let gaps: Vec<&Value> = lines.iter().filter(|line| line["record"] == "gap").collect();
    assert_eq!((gaps.len(), &gaps[0]["reason"]), (1, &"write_failed".into()), "{gaps:?}");
    let kept = lines.iter().filter(|line| line["verdict"] == "local").count() as u64;
    assert_eq!(
        kept + gaps[0]["lost"].as_u64().expect("a number"),
        taken,
        "each is there or told of"
    );
    assert!(kept > 3000, "the buffer holds what it can: {kept}");
    let stop = lines.last().expect("a last line");
    assert_eq!(
        (&stop["record"], &stop["lost"], &stop["shares"]["accepted"]),
        (&"stop".into(), &gaps[0]["lost"], &1.into())
    );
    let numbers: Vec<u64> =
        lines.iter().map(|line| line["seq"].as_u64().expect("numbered")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no number is missing or twice");
}

#[test]
fn entries_that_found_no_room_leave_a_gap_record() {
    let mut disk = Fickle { room: usize::MAX, ..Fickle::default() };
    let mut log = writer(&mut disk, 12);
    log.take(&entry("rig", Outcome::Local));
    log.finish();
    drop(log);
    let lines = lines(&disk.bytes);
    assert_eq!(records(&lines), ["start", "share", "gap", "stop"]);
    assert_eq!(
        (&lines[2]["lost"], &lines[2]["reason"], &lines[3]["lost"]),
        (&12.into(), &"queue_full".into(), &12.into())
    );
}

#[test]
fn a_line_cut_when_the_file_was_taken_away_is_written_again_whole() {
    let mut disk = Fickle { room: 450, ..Fickle::default() };
    let mut log = writer(&mut disk, 0);
    for _ in 0..3 {
        log.take(&entry("rig", Outcome::Local));
    }
    log.flush(at(1), daemon::clock::now());
    (log.sink_for_tests().gone, log.sink_for_tests().room) = (true, usize::MAX);
    log.finish();
    drop(log);
    // With the first file, a whole start line, a share, and half of another share are gone.
    assert_eq!(records(&lines(&disk.bytes)), ["share", "share", "stop"]);
}

/// S73: with any names and messages, a line stays one line, and text stays in its key.
#[test]
fn s73_what_peers_say_stays_inside_its_string() {
    let mut disk = Fickle { room: usize::MAX, ..Fickle::default() };
    let mut log = writer(&mut disk, 0);
    let evil =
        "a\",\"verdict\":\"accepted\"}\n{\"record\":\"share\",\"verdict\":\"accepted\"\u{1b}[2J";
    log.take(&entry(evil, Outcome::PoolRejected));
    log.finish();
    drop(log);
    assert!(!disk.bytes.contains(&0x1b));
    let lines = lines(&disk.bytes);
    assert_eq!(records(&lines), ["start", "share", "stop"]);
    let share = &lines[1];
    assert_eq!((&share["worker_name"], &share["verdict"]), (&evil.into(), &"pool_rejected".into()));
    assert_eq!((&share["code"], &share["reason"]), (&20.into(), &"no \"thanks\"\n".into()));
    assert_eq!(
        (&share["latency_ms"], &share["share_difficulty"], &share["difficulty"]),
        (&1.234.into(), &3.5.into(), &Value::Null)
    );
}

fn read(path: &Path) -> Vec<Value> {
    lines(&std::fs::read(path).expect("readable"))
}

#[tokio::test]
async fn a_restart_goes_on_in_the_same_file_and_says_how_the_last_one_ended() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("shares.jsonl");
    for _ in 0..2 {
        let log = ShareLog::open(&config(dir.path()), "p", vec!["a".into()].into(), metrics())
            .expect("opened");
        let second = ShareLog::open(&config(dir.path()), "p", PerTarget::default(), metrics());
        assert!(second.is_err(), "two writers would tear each other's lines");
        log.write(entry("rig", Outcome::Local));
        log.close().await;
        log.write(entry("late", Outcome::Local));
    }
    let lines = read(&path);
    assert_eq!(records(&lines), ["start", "share", "stop", "start", "share", "stop"]);
    assert_eq!((&lines[0]["after"], &lines[3]["after"]), (&"nothing".into(), &"stop".into()));

    // A crash in the middle of a line.
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("there")
        .write_all(b"{\"record\":\"sh")
        .expect("written");
    ShareLog::open(&config(dir.path()), "p", PerTarget::default(), metrics())
        .expect("opened")
        .close()
        .await;
    let lines = read(&path);
    assert_eq!((&lines[6]["after"], &lines[6]["torn_bytes"]), (&"crash".into(), &13.into()));
}

#[test]
fn the_share_log_is_for_its_user_and_group_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("shares");
    let _open = Disk::open(&folder, at(0)).expect("opened");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode(&folder) & 0o777, 0o750);
    for name in ["shares.jsonl", "shares.lock"] {
        assert_eq!(mode(&folder.join(name)) & 0o777, 0o640, "{name}");
    }
}

/// Files are closed by size and by UTC interval, named after their first line, and the oldest
/// beyond `keep` are removed.
#[test]
fn files_are_closed_by_size_and_by_interval_and_only_so_many_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let wanted = ShareLogConfig { rotate_bytes: 2000, ..config(dir.path()) };
    let (disk, before) = Disk::open(dir.path(), at(0)).expect("opened");
    let mut log =
        Writer::new(disk, before, &wanted, "p", PerTarget::default(), Arc::default(), metrics());
    let now = daemon::clock::now();
    // 1,800,000,000 is 08:00 UTC, sixteen hours before midnight.
    for hour in [0, 15, 17, 18, 41, 42, 65] {
        log.take(&entry("rig", Outcome::Local));
        log.flush(at(hour * 3600), now);
    }
    for _ in 0..20 {
        log.take(&entry("rig", Outcome::Local));
    }
    log.flush(at(65 * 3600 + 1), now);
    drop(log);
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .expect("there")
        .map(|file| file.expect("there").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    let closed: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.starts_with("shares-")).collect();
    assert_eq!(closed.len(), 3, "{names:?}");
    assert!(
        closed[0].starts_with("shares-20270116T01") && closed[1].starts_with("shares-20270117T01"),
        "{closed:?}"
    );
    let counts: Vec<usize> = closed
        .iter()
        .map(|name| {
            read(&dir.path().join(name)).iter().filter(|line| line["record"] == "share").count()
        })
        .collect();
    assert_eq!(counts, [2, 2, 20], "a line lies where it was written");
    assert_eq!(read(&dir.path().join("shares.jsonl"))[0]["after"], "rotation");
}

/// Entries lost to a full queue are counted at once, and no caller waits.
#[test]
fn a_full_queue_drops_and_counts() {
    let (queue, entries) = sync_channel(1);
    let mut registry = Registry::default();
    let metrics = registered(&mut registry);
    let log = ShareLog { queue, lost: Arc::default(), metrics, thread: Arc::default() };
    for _ in 0..5 {
        log.write(entry("rig", Outcome::Local));
    }
    assert_eq!((log.lost.load(Ordering::Relaxed), entries.try_iter().count()), (4, 1));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    assert!(text.contains("share_log_dropped_total{reason=\"queue_full\"} 4"), "{text}");
}
