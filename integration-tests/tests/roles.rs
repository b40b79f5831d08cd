//! Roles by subcommand: a proxy alone, a site without a proxy, and the roles that cannot run apart yet.
//!
//! The tests judge exit codes, what is printed and logged, HTTP answers, the miners' own counts,
//! and which files there are afterwards.

use std::fs;
use std::net::SocketAddr;
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::TestPool;

use crate::harness::{EASY, PATIENCE, pool};
use crate::programs::{Said, ended, finish, free_address, signal, start, tieline};
use crate::site::{Http, TOKEN, until};

/// A folder with a configuration, and the process that runs it.
struct Role {
    dir: tempfile::TempDir,
    admin: SocketAddr,
    child: Option<Child>,
}

impl Role {
    /// Writes a configuration of `sections`.
    fn new(sections: &str) -> Self {
        let (dir, admin) = (tempfile::tempdir().expect("a folder"), free_address());
        let config = format!(
            "state_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\ntoken_file = \"token\"\n{sections}"
        );
        fs::write(dir.path().join("tieline.toml"), config).expect("written");
        Self { dir, admin, child: None }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Starts a command of `tieline` that runs, and waits until it is ready.
    async fn run(&mut self, command: &str) {
        let (config, log) = (self.path("tieline.toml"), self.path("tieline.log"));
        self.child = Some(start("tieline", &log, &[command, "--config", &config]));
        let url = format!("http://{}", self.admin);
        until("ready", || {
            let asked = finish(tieline(&["healthcheck", "--url", &url]));
            if asked.code == 0 { Ok(()) } else { Err(format!("{asked:?}\n{}", self.log()).into()) }
        })
        .await;
    }

    /// Runs a command of `tieline` to its end.
    fn said(&self, command: &str) -> Said {
        finish(tieline(&[command, "--config", &self.path("tieline.toml")]))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("tieline.log")).unwrap_or_default()
    }

    async fn terminate(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal("TERM", &child);
        assert_eq!(ended(&mut child).await, 0, "{}", self.log());
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // This fails if the process has already ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The sections of a switchboard whose policy file does not exist and whose ledger could not be
/// created.
const SWITCHBOARD: &str = "[switchboard]\npolicy = \"gone.toml\"\nledger = \"gone/ledger.db\"\n";
const METER: &str = "[meter.a]\nkind = \"file\"\npath = \"a.kw\"\n";

/// A driver whose programs are not there.
const DRIVER: &str = "[driver.x]\nkind = \"exec\"\nsleep = [\"no-such-program\", \"{machine}\"]\n\
    wake = [\"no-such-program\", \"{machine}\"]\nread = [\"no-such-program\", \"{machine}\"]\n";

/// Of a configuration with every role, `tieline proxy` runs the proxy: miners work, and neither the
/// policy nor the ledger nor the agent's state is touched, nor is anything said about devices.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_runs_alone_whatever_else_is_configured() {
    let pool = TestPool::start(pool(8, 1)).await.expect("a free port");
    let listen = free_address();
    let mut role = Role::new(&format!(
        "{SWITCHBOARD}{METER}{DRIVER}\
         [[server]]\nname = \"asics\"\nlisten = \"{listen}\"\ndifficulty = {EASY:e}\nmin_difficulty = {EASY:e}\nvardiff = false\n\
         [[target]]\nname = \"pool\"\nurl = \"stratum+tcp://{}\"\nuser_identity = \"acme\"\n",
        pool.addr()
    ));
    let refused = role.said("run");
    assert_eq!(refused.code, 78, "with all roles its policy is missing: {refused:?}");
    role.run("proxy").await;
    let miner = TestMiner::start(MinerConfig::new(Model::ALL[0], listen, "acme.rig-1"));
    miner.until(PATIENCE, |counts| counts.answered_true > 0).await.expect("it mines");
    let log = role.log();
    assert_eq!(log.matches("this proxy follows no plan").count(), 1, "{log}");
    assert!(!log.contains("driver.x") && !log.contains("meter.a"), "it uses no devices: {log}");
    let http = Http::new(role.admin);
    assert!(http.get("/v1/targets")[0]["name"] == "pool");
    assert_eq!(http.ask("/v1/status").0, 404, "there is no switchboard");
    role.terminate().await;
    let state: Vec<String> = fs::read_dir(role.path("state"))
        .expect("the proxy's")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        !state.iter().any(|name| name.contains("agent") || name.contains("ledger")),
        "{state:?}"
    );
    assert!(!fs::exists(role.path("gone")).expect("readable"));
}

/// A site without the proxy role runs a switchboard and its agent, and is ready without any pool.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchboard_and_its_agent_run_without_a_proxy() {
    let mut role = Role::new(&format!("[switchboard]\npolicy = \"policy.toml\"\n{METER}"));
    let policy = "schema = \"tieline.policy/1\"\n[site]\nname = \"hall\"\n\
        [feed.a]\nlimit_kw = 100\ndefault_constraint_kw = 50\nmeter = \"a\"\n\
        [group.all]\nfeed = \"a\"\nmatch = \"*\"\nmachines = 10\nasic_kw = 3\nj_per_th = 20\n";
    fs::write(role.path("policy.toml"), policy).expect("written");
    fs::write(role.path("a.kw"), "12\n").expect("written");
    role.run("run").await;
    let log = role.log();
    assert_eq!(log.matches("group.all.match").count(), 1, "nothing tells its machines: {log}");
    let http = Http::new(role.admin);
    until("the meter is reported", || {
        let feeds = http.get("/v1/feeds");
        let text = feeds.to_string();
        if text.contains("12000") { Ok(()) } else { Err(feeds) }
    })
    .await;
    assert_eq!(http.get("/readyz")["detail"]["proxy"], Value::Null);
    let url = format!("http://{}", role.admin);
    let status = finish(tieline(&["status", "--url", &url]));
    assert!(status.code == 0 && status.out.contains("site hall"), "{status:?}");
    let sessions = finish(tieline(&["sessions", "--url", &url]));
    assert!(sessions.code == 1 && sessions.err.contains("has no proxy"), "{sessions:?}");
    role.terminate().await;
}

/// Without a proxy, the agent reports the machines that a group lists by name, and a lease is planned
/// with them.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_proxy_machines_that_are_listed_by_name_are_shed() {
    let mut role = Role::new("");
    let shell = |command: &str| {
        format!("[\"/bin/sh\", \"-c\", '{command}', \"{}/{{machine}}\"]", role.path("."))
    };
    let driver = format!(
        "[switchboard]\npolicy = \"policy.toml\"\n{METER}[driver.files]\nkind = \"exec\"\nsleep = {}\nwake = {}\nread = {}\n",
        shell("echo asleep > \"$0\""),
        shell("echo awake > \"$0\""),
        shell("cat \"$0\" || echo awake"),
    );
    let config = fs::read_to_string(role.path("tieline.toml")).expect("written") + &driver;
    fs::write(role.path("tieline.toml"), config).expect("written");
    let policy = "schema = \"tieline.policy/1\"\n[site]\nname = \"hall\"\n\
        [feed.a]\nlimit_kw = 10\ncontinuous_factor = 1.0\nhouse_kw = 0.5\ndefault_constraint_kw = 5\nmeter = \"a\"\n\
        [group.rigs]\nfeed = \"a\"\nmatch = [\"rig-1\", \"rig-2\", \"rig-3\"]\nmachines = 3\nasic_kw = 3\n\
        j_per_th = 20\nresidual_kw = 0.03\nshed_p95 = \"2s\"\ndriver = \"files\"\n";
    fs::write(role.path("policy.toml"), policy).expect("written");
    fs::write(role.path("a.kw"), "9.5\n").expect("written");
    fs::write(role.path("token"), TOKEN).expect("written");
    role.run("run").await;
    let http = Http::new(role.admin);
    until("the machines are seen", || {
        let status = http.get("/v1/status");
        if status["groups"][0]["machine_counts"]["seen"] == 3 { Ok(()) } else { Err(status) }
    })
    .await;
    assert!(!role.log().contains("group.rigs.match"), "{}", role.log());
    // Half a kilowatt is free.
    let start = daemon::clock::wall() + Duration::from_secs(3600);
    let lease = json!({
        "id": "l", "tenant": "Nebula", "feed": "a", "it_kw": 4.0, "pue": 1.0,
        "start": start, "end": start + Duration::from_secs(3600),
    });
    let (status, answer) = http.post("/v1/leases", &lease);
    assert_eq!(status, 201, "{answer}");
    until("armed", || {
        let lease = http.get("/v1/leases/l");
        let reason = lease["state_reason"].as_str().unwrap_or_default();
        let armed = lease["state"] == "armed" && reason.starts_with("2 machines to go");
        if armed { Ok(()) } else { Err(lease) }
    })
    .await;
    role.terminate().await;
}

/// Roles that need a link over a network say so, and what to use, with the exit code of a
/// configuration that cannot be run.
#[test]
fn roles_that_cannot_run_apart_yet_are_refused() {
    let agent = Role::new(METER);
    let switchboard = Role::new(SWITCHBOARD);
    for (role, command, words) in [
        (
            &switchboard,
            "switchboard",
            ["a switchboard cannot run in a process of its own yet", "`tieline run"],
        ),
        (&agent, "agent", ["an agent cannot run in a process of its own yet", "`tieline run"]),
        (&agent, "run", ["an agent cannot run in a process of its own yet", "[switchboard]"]),
        (&agent, "proxy", ["describes no proxy", "[[server]]"]),
        (&switchboard, "proxy", ["describes no proxy", "[[target]]"]),
    ] {
        let said = role.said(command);
        assert_eq!(said.code, 78, "{command}: {said:?}");
        for word in words {
            assert!(said.err.contains(word), "{command} says {word:?}: {said:?}");
        }
        assert!(!fs::exists(role.path("state")).expect("readable"), "nothing was started");
    }
    // What `run` refuses, `check` refuses with the same words.
    for role in [&agent, &switchboard] {
        let (checked, run) = (role.said("check"), role.said("run"));
        assert!(checked.code == 78 && checked.err.ends_with(&run.err), "{checked:?}, {run:?}");
    }
}
