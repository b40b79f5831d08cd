//! Tests of a proxy in a process of its own, between a test pool and test miners, whose disk is
//! full, whose log nobody reads, or that is killed: rows F41, F53 and F57 of docs/faults.md, as far
//! as they concern files the proxy writes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use testbed::miner::{MinerConfig, MinerCounts, Model, TestMiner};
use testbed::pool::TestPool;

use crate::harness::{EASY, PATIENCE, pool};
use crate::programs::{ended, free_address, program, signal};
use crate::site::{Http, until};

/// The proxy process. Dropping this kills it.
struct Alone {
    dir: tempfile::TempDir,
    miners: SocketAddr,
    admin: SocketAddr,
    child: Child,
    _pool: TestPool,
}

impl Alone {
    /// Starts the proxy and waits until it has work for miners. Its log goes to a file or, if
    /// `log_is_read` is false, into a pipe that nobody reads.
    async fn start(log_is_read: bool) -> Self {
        let pool = TestPool::start(pool(8, 1)).await.expect("a free port");
        let dir = tempfile::tempdir().expect("a folder");
        let (miners, admin) = (free_address(), free_address());
        let config = format!(
            "state_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\ntoken_file = \"token\"\n\
             [proxy.share_log]\nenabled = true\ndir = \"shares\"\n\
             [[server]]\nname = \"asics\"\nlisten = \"{miners}\"\ndifficulty = {EASY:e}\nmin_difficulty = {EASY:e}\nvardiff = false\n\
             [[target]]\nname = \"pool\"\nurl = \"stratum+tcp://{}\"\nuser_identity = \"acme\"\n",
            pool.addr()
        );
        fs::write(dir.path().join("tieline.toml"), config).expect("written");
        let child = spawn(&dir, log_is_read);
        let alone = Self { dir, miners, admin, child, _pool: pool };
        alone.until_ready().await;
        alone
    }

    async fn until_ready(&self) {
        let url = format!("http://{}", self.admin);
        until("ready", || {
            let asked = Command::new(program("tieline"))
                .args(["healthcheck", "--url", &url])
                .output()
                .expect("it starts");
            if asked.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&asked.stderr).into())
            }
        })
        .await;
    }

    fn fleet(&self) -> Vec<TestMiner> {
        let retry = Duration::from_millis(200);
        let miner = |index: usize| {
            let worker = format!("acme.rig-{index}");
            TestMiner::start(MinerConfig {
                retry,
                ..MinerConfig::new(Model::ALL[index % 4], self.miners, worker)
            })
        };
        (0..4).map(miner).collect()
    }

    /// The value of a metric without labels.
    fn metric(&self, name: &str) -> u64 {
        let Value::String(text) = Http::new(self.admin).get("/metrics") else {
            panic!("/metrics is text")
        };
        let found =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or_else(|| panic!("{name} is missing"))
    }

    async fn until_metric(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        until(name, || {
            let value = self.metric(name);
            if wanted(value) { Ok(()) } else { Err(json!(value)) }
        })
        .await;
    }

    fn share_log(&self) -> PathBuf {
        self.dir.path().join("shares").join("shares.jsonl")
    }

    /// The whole lines of the share log; an unfinished line at its end is left out.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.share_log()).expect("text");
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole]
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}")))
            .collect()
    }

    fn shares(&self) -> usize {
        self.lines().iter().filter(|line| line["record"] == "share").count()
    }

    /// Limits the size of all files of the process, as if its disk were full.
    fn limit_files(&self, bytes: Option<u64>) {
        let pid = Pid::from_child(&self.child);
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit { current: bytes.or(maximum), maximum };
        prlimit(Some(pid), Resource::Fsize, limit).expect("our own child");
    }

    /// Sends SIGTERM and waits for the end of the process.
    async fn terminate(&mut self) -> i32 {
        signal("TERM", &self.child);
        ended(&mut self.child).await
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // This fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &tempfile::TempDir, log_is_read: bool) -> Child {
    // A write beyond the limit must fail, as on a full disk. Without the trap, the signal would
    // terminate the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(program("tieline"));
    command.args(["run", "--config"]).arg(dir.path().join("tieline.toml"));
    if log_is_read {
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.path().join("tieline.log"))
            .expect("a log");
        command.env_remove("RUST_LOG").stderr(log);
    } else {
        command.env("RUST_LOG", "trace").stderr(Stdio::piped());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts")
}

async fn mine(miners: &[TestMiner], shares: u64) {
    for miner in miners {
        let before = miner.counts().answered_true;
        miner
            .until(PATIENCE, |counts| counts.answered_true >= before + shares)
            .await
            .expect("it mines");
    }
}

async fn stop(miners: Vec<TestMiner>) -> MinerCounts {
    let mut fleet = MinerCounts::default();
    for miner in miners {
        fleet.merge(&miner.stop().await);
    }
    fleet
}

/// F53, P22: the disk accepts some hundred bytes more, which most likely end within a line, and
/// then nothing. Mining continues and the fault is reported. When there is room again, the line is
/// completed: no line is missing, truncated or written twice.
#[tokio::test(flavor = "multi_thread")]
async fn f53_a_full_disk_costs_the_share_log_nothing_once_there_is_room_again() {
    let mut proxy = Alone::start(true).await;
    let miners = proxy.fleet();
    mine(&miners, 5).await;
    until("lines on the disk", || if proxy.shares() > 10 { Ok(()) } else { Err(Value::Null) })
        .await;
    let written = fs::metadata(proxy.share_log()).expect("it is there").len();
    proxy.limit_files(Some(written + 777));
    proxy.until_metric("tieline_proxy_share_log_failing", |failing| failing == 1).await;
    mine(&miners, 20).await;
    let size = fs::metadata(proxy.share_log()).expect("it is there").len();
    assert!(size <= written + 777, "{size} of {written} and 777");
    assert_eq!(proxy.metric("tieline_proxy_alarms_total{reason=\"share_log_failed\"}"), 1);

    proxy.limit_files(None);
    proxy.until_metric("tieline_proxy_share_log_failing", |failing| failing == 0).await;
    let fleet = stop(miners).await;
    assert_eq!(proxy.terminate().await, 0);
    let lines = proxy.lines();
    let numbers: Vec<u64> =
        lines.iter().map(|line| line["seq"].as_u64().expect("numbered")).collect();
    assert!(
        numbers.iter().copied().eq(1..=lines.len() as u64),
        "in order, none missing: {numbers:?}"
    );
    assert!(lines.iter().all(|line| line["record"] != "gap"));
    assert_eq!(proxy.shares() as u64, fleet.submitted, "one line for each submit");
    assert_eq!((fleet.unanswered, fleet.disconnects), (0, 0), "{fleet:?}");
    assert_eq!(lines.last().expect("a last line")["record"], "stop");
}

/// F41: lines of the share log that were on disk before a kill are there after it; an unfinished
/// line is removed, and the gap is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn f41_a_kill_costs_the_share_log_its_last_second() {
    let mut proxy = Alone::start(true).await;
    let miners = proxy.fleet();
    mine(&miners, 5).await;
    // Each answered share has its line in the log within a second.
    let answered: u64 = miners.iter().map(|miner| miner.counts().answered_true).sum();
    until("lines on the disk", || {
        if proxy.shares() as u64 >= answered { Ok(()) } else { Err(Value::Null) }
    })
    .await;
    proxy.child.kill().expect("it runs");
    proxy.child.wait().expect("it ran");
    let before = proxy.shares();
    let torn = fs::read(proxy.share_log())
        .expect("readable")
        .split(|byte| *byte == b'\n')
        .next_back()
        .map_or(0, <[u8]>::len);
    // An unfinished line, as a power failure leaves it.
    let half = b"{\"record\":\"sh";
    OpenOptions::new()
        .append(true)
        .open(proxy.share_log())
        .expect("there")
        .write_all(half)
        .expect("written");

    proxy.child = spawn(&proxy.dir, true);
    proxy.until_ready().await;
    let back: u64 = miners.iter().map(|miner| miner.counts().answered_true).sum();
    mine(&miners, 5).await;
    let fleet = stop(miners).await;
    assert_eq!(proxy.terminate().await, 0);
    let lines = proxy.lines();
    let start = lines.iter().rfind(|line| line["record"] == "start").expect("two starts");
    let cut = (torn + half.len()) as u64;
    assert_eq!((&start["after"], &start["torn_bytes"]), (&json!("crash"), &json!(cut)), "{start}");
    let at = lines.iter().rposition(|line| line["record"] == "start").expect("two starts");
    assert_eq!(
        lines[..at].iter().filter(|line| line["record"] == "share").count(),
        before,
        "nothing went with it"
    );
    let after = lines[at..].iter().filter(|line| line["record"] == "share").count() as u64;
    assert!(after >= fleet.answered_true - back, "{after} lines: {fleet:?}");
    assert!(proxy.shares() as u64 <= fleet.submitted, "and none twice: {fleet:?}");
}

/// F57: everything is logged, and nobody reads the log. Lines are dropped and counted; mining, the
/// API and the end of the process do not wait.
#[tokio::test(flavor = "multi_thread")]
async fn f57_a_log_that_nobody_reads_holds_nothing_up() {
    let mut proxy = Alone::start(false).await;
    let miners = proxy.fleet();
    mine(&miners, 1).await;
    // Each request for the metrics adds lines to the log.
    until("lines dropped", || {
        let dropped = proxy.metric("tieline_log_lines_dropped_total");
        if dropped > 0 {
            return Ok(());
        }
        for _ in 0..100 {
            Http::new(proxy.admin).get("/livez");
        }
        Err(json!(dropped))
    })
    .await;
    mine(&miners, 20).await;
    let fleet = stop(miners).await;
    assert_eq!((fleet.unanswered, fleet.disconnects), (0, 0), "{fleet:?}");
    assert_eq!(fleet.submitted, fleet.answered_true + fleet.refused(), "{fleet:?}");
    assert_eq!(proxy.terminate().await, 0);
}

/// After SIGHUP, a proxy without a policy continues, and shows which sections of its configuration
/// need a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_ends_no_proxy_and_shows_what_needs_a_restart() {
    let mut proxy = Alone::start(true).await;
    let miners = proxy.fleet();
    mine(&miners, 1).await;
    let file = proxy.dir.path().join("tieline.toml");
    let before = fs::read_to_string(&file).expect("text");
    fs::write(&file, before.replace("user_identity = \"acme\"", "user_identity = \"other\""))
        .expect("written");
    signal("HUP", &proxy.child);
    let fault = until("the fault", || {
        let ready = Http::new(proxy.admin).get("/readyz");
        let fault = ready["detail"]["configuration_fault"].as_str().map(str::to_owned);
        fault.ok_or(ready)
    })
    .await;
    assert_eq!(fault, "restart to put its changes into force: [[target]]");
    fs::write(&file, "[proxy]\nnonsense = 1\n").expect("written");
    signal("HUP", &proxy.child);
    until("its mistakes", || {
        let ready = Http::new(proxy.admin).get("/readyz");
        let fault = ready["detail"]["configuration_fault"].as_str().map(str::to_owned);
        fault.filter(|fault| fault.contains("nonsense")).ok_or(ready)
    })
    .await;
    mine(&miners, 20).await;
    let fleet = stop(miners).await;
    assert_eq!((fleet.unanswered, fleet.disconnects), (0, 0), "{fleet:?}");
    assert_eq!(proxy.terminate().await, 0);
}
