//! Tests the files that `tieline init` writes: a process runs with them, the shares of its miners
//! are accepted, and a lease that cannot be guaranteed is refused.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::TestPool;

use crate::harness::{EASY, pool};
use crate::programs::{ended, free_address, program, signal};
use crate::site::{Http, until};

const MINERS: usize = 3;

/// The running process. Dropping this kills it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // This fails if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tieline(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(program("tieline"))
        .current_dir(dir)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}

fn text(output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}{}", said[0], said[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_mines_at_once_and_promises_nothing() {
    let pool = TestPool::start(pool(8, 1)).await.expect("a free port");
    let dir = tempfile::tempdir().expect("a folder");
    let (miners, admin) = (free_address(), free_address());
    let (url, listen) = (format!("stratum+tcp://{}", pool.addr()), miners.to_string());
    let options = [
        "init", "--pool", &url, "--user", "acme", "--site", "barn", "--dir", "site", "--listen",
        &listen,
    ];
    let wrote = tieline(dir.path(), &options);
    assert_eq!(wrote.status.code(), Some(0), "{}", text(&wrote));
    for words in ["tieline check -c site/tieline.toml", "tieline run -c site/tieline.toml"] {
        assert!(text(&wrote).contains(words), "{}", text(&wrote));
    }
    let again = tieline(dir.path(), &options);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("site/tieline.toml exists"), "{}", text(&again));
    let wrong = tieline(dir.path(), &["init", "--pool", "pool.example", "--user", "acme"]);
    assert_eq!(
        (wrong.status.code(), text(&wrong)),
        (Some(2), "--pool: missing port: host:port\n".into())
    );
    let checked = tieline(dir.path(), &["check", "-c", "site/tieline.toml"]);
    assert_eq!(
        (checked.status.code(), checked.stderr.as_slice()),
        (Some(0), &b""[..]),
        "{}",
        text(&checked)
    );

    // Only what a test needs is changed: a free port for HTTP, and a difficulty for miners of a few
    // kH/s.
    let easy = format!("{EASY:e}");
    let log = std::fs::File::create(dir.path().join("log")).expect("a log");
    let run = Command::new(program("tieline"))
        .current_dir(dir.path())
        .args(["run", "-c", "site/tieline.toml"])
        .env("TIELINE__ADMIN__LISTEN", admin.to_string())
        .env("TIELINE__SERVER__0__DIFFICULTY", &easy)
        .env("TIELINE__SERVER__0__MIN_DIFFICULTY", &easy)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    let mut running = Running(run);
    let admin_url = format!("http://{admin}");
    until("ready", || {
        let asked = tieline(dir.path(), &["healthcheck", "--url", &admin_url]);
        if asked.status.success() { Ok(()) } else { Err(Value::from(text(&asked))) }
    })
    .await;
    let fleet: Vec<TestMiner> = (0..MINERS)
        .map(|index| {
            let retry = Duration::from_millis(200);
            let worker = format!("anybody.rig-{index}");
            TestMiner::start(MinerConfig {
                retry,
                ..MinerConfig::new(Model::ALL[index], miners, worker)
            })
        })
        .collect();
    until("shares of all miners at the pool", || {
        let counts: Vec<u64> = fleet.iter().map(|miner| miner.counts().answered_true).collect();
        let accepted = pool.counts().total.accepted;
        if counts.iter().all(|count| *count > 0) && accepted > 0 {
            Ok(())
        } else {
            Err(Value::from(counts))
        }
    })
    .await;

    let status = Http::new(admin).get("/v1/status");
    assert_eq!(status["site"], "barn", "{status:#}");
    let lease = tieline(
        dir.path(),
        &[
            "lease",
            "add",
            "--tenant",
            "Nebula",
            "--feed",
            "site",
            "--it-kw",
            "10",
            "--start",
            "+1h",
            "--end",
            "+2h",
            "--url",
            &admin_url,
            "--token-file",
            "site/state/token",
        ],
    );
    assert_eq!(lease.status.code(), Some(1), "nothing is known to promise: {}", text(&lease));
    signal("TERM", &running.0);
    assert_eq!(ended(&mut running.0).await, 0);
    for miner in fleet {
        miner.stop().await;
    }
}
