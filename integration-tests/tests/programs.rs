//! The programs of an installation as processes: `tieline run` between a test pool and test miners,
//! with devices and meters as files, all in one folder. The tests are in [`crate::process`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use daemon::clock;
use jiff::Timestamp;
use serde_json::Value;
use testbed::miner::MinerCounts;

use crate::harness::EASY;
use crate::site::{Http, until};

/// The number of machines, and of miners.
const MACHINES: u64 = 8;
/// The deadline of every command, long enough for a busy machine.
const COMMAND_SECS: u64 = 60;

/// The output of a command, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What was observed of the devices and the meter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    /// The machines that were ever told to sleep.
    pub(crate) slept: BTreeSet<String>,
    /// When a sleeping machine was first told to wake.
    pub(crate) first_wake: Option<Timestamp>,
    /// The readings of the feed's meter, by the time of the measurement.
    kw: BTreeMap<Timestamp, f64>,
}

impl Watched {
    /// The highest reading of the meter in an interval.
    pub(crate) fn most_kw(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        self.kw.range(from..=to).map(|(_, kw)| *kw).reduce(f64::max)
    }
}

/// The running programs. Dropping this kills them.
pub(crate) struct Programs {
    dir: tempfile::TempDir,
    admin: SocketAddr,
    tieline: Option<Child>,
    miners: Child,
    pool: Child,
    facility: Child,
    watched: Arc<Mutex<Watched>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Programs {
    /// Writes the configuration, starts everything and waits until it is ready.
    pub(crate) async fn start() -> Self {
        Self::start_with(Spelling::Current).await
    }

    /// Starts everything as [`Self::start`] does, with drivers and meters in this spelling.
    pub(crate) async fn start_with(spelling: Spelling) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (admin, miners, pool) = (free_address(), free_address(), free_address());
        let difficulty = format!("{EASY:e}");
        let config = config(dir.path(), spelling, [admin, miners, pool], &difficulty);
        fs::write(path("tieline.toml"), config).expect("written");
        fs::write(path("policy.toml"), policy(dir.path(), spelling)).expect("written");
        let (pool, connect) = (pool.to_string(), miners.to_string());
        let (devices, meter) = (path("devices"), path("feed.kw"));
        let facility = start(
            "test-facility",
            &path("facility.log"),
            &[
                &["--dir", &devices, "--machines", "acme.rig-*:8:3000:30", "--feed-meter", &meter]
                    [..],
                &["--house-kw", "0.5", "--house-file", &path("house.kw")],
                &["--feed-factor-file", &path("feed.factor")],
                &["--sleep-time", "300ms", "--wake-time", "500ms"],
            ]
            .concat(),
        );
        let counts = path("pool.json");
        let pool = start(
            "test-pool",
            &path("pool.log"),
            &[
                "--listen",
                &pool,
                "--difficulty",
                &difficulty,
                "--job-interval",
                "1s",
                "--clean-every",
                "3",
            ]
            .into_iter()
            .chain(["--counts-file", &counts])
            .collect::<Vec<_>>(),
        );
        let counts = path("miners.json");
        let miners = start(
            "test-miner",
            &path("miners.log"),
            &[
                &[
                    "--connect",
                    &connect,
                    "--count",
                    "8",
                    "--name-prefix",
                    "acme.rig-",
                    "--hashrate",
                    "600",
                ][..],
                &["--devices", &devices, "--retry", "300ms", "--counts-file", &counts],
            ]
            .concat(),
        );
        let watched = Arc::new(Mutex::new(Watched::default()));
        let watcher = tokio::spawn(watch(devices.into(), meter.into(), watched.clone()));
        let mut programs =
            Self { dir, admin, tieline: None, miners, pool, facility, watched, watcher };
        programs.run().await;
        programs
    }

    /// Starts `tieline run`, and waits until its health check succeeds.
    pub(crate) async fn run(&mut self) {
        let config = self.config();
        self.tieline =
            Some(start("tieline", &self.path("tieline.log"), &["run", "--config", &config]));
        until("ready", || {
            let said = self.change(&["healthcheck"]);
            if said.code == 0 { Ok(()) } else { Err(format!("{said:?}\n{}", self.log()).into()) }
        })
        .await;
    }

    /// Changes what the house draws.
    pub(crate) fn set_house(&self, kw: f64) {
        self.replace("house.kw", kw);
    }

    /// Makes the feed's meter show this multiple of the power.
    pub(crate) fn set_meter_factor(&self, factor: f64) {
        self.replace("feed.factor", factor);
    }

    fn replace(&self, name: &str, value: f64) {
        let (new, path) = (self.path(&format!("{name}.new")), self.path(name));
        fs::write(&new, value.to_string()).expect("written");
        fs::rename(new, path).expect("renamed");
    }

    /// What the feed's meter shows, in kW.
    pub(crate) fn metered(&self) -> Option<f64> {
        let line = fs::read_to_string(self.path("feed.kw")).ok()?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// The path of a file of the installation.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) fn config(&self) -> String {
        self.path("tieline.toml")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The log of `tieline run`.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("tieline.log")).unwrap_or_default()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        Http::new(self.admin).get(path)
    }

    /// Runs `tieline` with exactly these arguments.
    pub(crate) fn tieline(&self, arguments: &[&str]) -> Said {
        finish(tieline(arguments))
    }

    /// Runs `tieline` against the running process, with its token.
    pub(crate) fn change(&self, arguments: &[&str]) -> Said {
        let mut command = tieline(arguments);
        command.env("TIELINE_URL", self.url()).env("TIELINE_TOKEN_FILE", self.path("token"));
        finish(command)
    }

    /// Like [`Self::change`], with an output that nobody reads. Returns the exit code.
    pub(crate) fn unread(&self, arguments: &[&str]) -> i32 {
        let closed = || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            writer
        };
        let mut command = tieline(arguments);
        command.env("TIELINE_URL", self.url()).env("TIELINE_TOKEN_FILE", self.path("token"));
        command.stdin(Stdio::null()).stdout(closed()).stderr(closed());
        command.status().expect("it starts").code().unwrap_or(-1)
    }

    pub(crate) fn policy(&self) -> String {
        fs::read_to_string(self.path("policy.toml")).expect("it is there")
    }

    /// Replaces the policy by a rename, as a deployment does.
    pub(crate) fn write_policy(&self, text: &str) {
        fs::write(self.path("policy.new"), text).expect("written");
        fs::rename(self.path("policy.new"), self.path("policy.toml")).expect("renamed");
    }

    /// Overwrites the policy in place and restores its modification time, so that the file watch
    /// sees no change.
    pub(crate) fn write_policy_unseen(&self, text: &str) {
        let path = self.path("policy.toml");
        let before = fs::metadata(&path).expect("it is there");
        assert_eq!(before.len(), text.len() as u64, "or the length would tell");
        let mut file = File::options().write(true).open(&path).expect("it opens");
        file.write_all(text.as_bytes()).expect("written");
        file.set_modified(before.modified().expect("it has a time")).expect("set");
    }

    pub(crate) async fn until_revision(&self, revision: u32) {
        until("in force", || {
            let status = self.get("/v1/status");
            if status["policy_revision"] == revision {
                Ok(())
            } else {
                Err(format!("{status}\n{}", self.log()).into())
            }
        })
        .await;
    }

    /// Waits until the command line shows a lease in `state`.
    pub(crate) async fn until_lease(&self, id: &str, state: &str) -> Value {
        until(state, || {
            let said = self.change(&["lease", "show", id, "--json"]);
            let view: Value = if said.code == 0 { said.json() } else { Value::String(said.err) };
            if view["state"] == state { Ok(view) } else { Err(view) }
        })
        .await
    }

    /// The machines whose device files say asleep.
    pub(crate) fn asleep(&self) -> BTreeSet<String> {
        let states = states(&self.dir.path().join("devices"));
        states.into_iter().filter(|(_, asleep)| *asleep).map(|(machine, _)| machine).collect()
    }

    pub(crate) fn watched(&self) -> Watched {
        self.watched.lock().expect("nobody panics holding it").clone()
    }

    /// The counts of the miners, from a file written after this call; they write one each second.
    pub(crate) async fn miners(&self) -> MinerCounts {
        let path = self.path("miners.json");
        let written = || fs::metadata(&path).and_then(|facts| facts.modified()).ok();
        let before = written();
        until("miners' counts", || if written() == before { Err(Value::Null) } else { Ok(()) })
            .await;
        counts(&path).expect("written whole")
    }

    /// Waits until exactly `count` miners have work.
    pub(crate) async fn until_mining(&self, count: u64) {
        let path = self.path("miners.json");
        until(&format!("{count} miners with work"), || {
            let counts = counts::<MinerCounts>(&path).unwrap_or_default();
            if counts.mining == count { Ok(()) } else { Err(counts.mining.into()) }
        })
        .await;
    }

    /// Waits until all miners have work and shares are accepted.
    pub(crate) async fn until_all_mine(&self) {
        self.until_mining(MACHINES).await;
        let before = self.miners().await.answered_true;
        let path = self.path("miners.json");
        until("more shares taken", || {
            let counts = counts::<MinerCounts>(&path).unwrap_or_default();
            if counts.answered_true > before { Ok(()) } else { Err(counts.answered_true.into()) }
        })
        .await;
    }

    /// Sends SIGKILL, which the process cannot handle.
    pub(crate) async fn kill(&mut self) {
        let mut tieline = self.tieline.take().expect("it runs");
        tieline.kill().expect("it runs");
        tieline.wait().expect("it ran");
    }

    pub(crate) fn hang_up(&self) {
        signal("HUP", self.tieline.as_ref().expect("it runs"));
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub(crate) async fn terminate(&mut self) -> Said {
        let mut tieline = self.tieline.take().expect("it runs");
        signal("TERM", &tieline);
        let code = ended(&mut tieline).await;
        Said { code, out: String::new(), err: self.log() }
    }

    /// Stops the miners, and returns their final counts.
    pub(crate) async fn stop_miners(&mut self) -> MinerCounts {
        signal("TERM", &self.miners);
        let code = ended(&mut self.miners).await;
        assert_eq!(code, 0, "at least one miner got a job");
        counts(&self.path("miners.json")).expect("written whole")
    }

    /// Stops the pool, and returns its final counts.
    pub(crate) async fn pool_counts(&mut self) -> testbed::pool::Counts {
        signal("TERM", &self.pool);
        assert_eq!(ended(&mut self.pool).await, 0);
        counts(&self.path("pool.json")).expect("written whole")
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.watcher.abort();
        for child in
            self.tieline.iter_mut().chain([&mut self.miners, &mut self.pool, &mut self.facility])
        {
            // This fails if the process has already ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where drivers and meters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Drivers and meters are in the configuration.
    Current,
    /// Drivers and meters are in the policy, where they were before they became the agent's.
    Former,
}

fn config(
    dir: &Path,
    spelling: Spelling,
    [admin, miners, pool]: [SocketAddr; 3],
    difficulty: &str,
) -> String {
    let agent = match spelling {
        Spelling::Current => {
            let commands = commands(dir);
            format!("[driver.files]\n{commands}[meter.a]\n{METER}")
        }
        Spelling::Former => String::new(),
    };
    format!(
        "state_dir = \"state\"\n\
         [admin]\nlisten = \"{admin}\"\ntoken_file = \"token\"\n\
         [switchboard]\npolicy = \"policy.toml\"\nledger = \"ledger.db\"\n\
         [proxy]\nreport_every = \"200ms\"\nno_upstream = \"hold\"\n\
         [[server]]\nname = \"asics\"\nlisten = \"{miners}\"\ndifficulty = {difficulty}\nmin_difficulty = {difficulty}\n\
         [[target]]\nname = \"pool\"\nurl = \"stratum+tcp://{pool}\"\nuser_identity = \"acme\"\n{agent}"
    )
}

const METER: &str = "kind = \"file\"\npath = \"feed.kw\"\nperiod = \"200ms\"\n";

/// The keys of a driver for devices that are files.
fn commands(dir: &Path) -> String {
    let program = program("test-facility").display().to_string();
    let devices = dir.join("devices").display().to_string();
    let set = |state: &str| {
        format!("[{program:?}, \"set\", \"--dir\", {devices:?}, \"{{machine}}\", \"{state}\"]")
    };
    format!(
        "kind = \"exec\"\nsleep = {}\nwake = {}\n\
         read = [{program:?}, \"read\", \"--dir\", {devices:?}, \"{{machine}}\"]\n",
        set("asleep"),
        set("awake"),
    )
}

/// Eight machines of 3 kW on a feed whose limit is that of the machines and the house plus 500 W.
fn policy(dir: &Path, spelling: Spelling) -> String {
    let (meter, driver) = match spelling {
        Spelling::Current => ("", "driver = \"files\"\n".to_owned()),
        Spelling::Former => (METER, format!("[group.rigs.actuator]\n{}", commands(dir))),
    };
    format!(
        "schema = \"tieline.policy/1\"\nrevision = 1\n\
         [site]\nname = \"test\"\n\
         [feed.a]\nlimit_kw = 25\ncontinuous_factor = 1.0\nhouse_kw = 0.5\ndefault_constraint_kw = 10\nguard_band_kw = 0\nmeter = \"a\"\n\
         [meter.a]\n{meter}stale_after = \"5s\"\n\
         [dispatch]\nmake_up_pct = 0\nsettle = \"2s\"\nmargin = \"2s\"\nprove_for = \"1s\"\n\
         [ramp]\ndown_kw_per_min = 1500\nup_kw_per_min = 1500\nup_step_machines = 2\nup_step_interval = \"1s\"\n\
         [failsafe]\nreport_stale_after = \"5s\"\n\
         [group.rigs]\nfeed = \"a\"\nmatch = \"acme.rig-*\"\nmachines = 8\nasic_kw = 3\nj_per_th = 30\n\
         residual_kw = 0.03\nshed_p95 = \"2s\"\nrestore_p95 = \"5s\"\nmin_up = \"0s\"\nmin_down = \"0s\"\n{driver}"
    )
}

/// Records the states of the devices and the readings of the meter until it is aborted.
async fn watch(devices: PathBuf, meter: PathBuf, watched: Arc<Mutex<Watched>>) {
    let mut before = BTreeMap::new();
    loop {
        let now = states(&devices);
        let kw = fs::read_to_string(&meter).ok().and_then(|line| {
            let (kw, at) = line.trim().split_once(' ')?;
            Some((at.parse::<Timestamp>().ok()?, kw.parse::<f64>().ok()?))
        });
        {
            let mut watched = watched.lock().expect("nobody panics holding it");
            watched.kw.extend(kw);
            for (machine, asleep) in &now {
                if *asleep {
                    watched.slept.insert(machine.clone());
                } else if before.get(machine) == Some(&true) {
                    watched.first_wake.get_or_insert_with(clock::wall);
                }
            }
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// For each machine, whether its state file says `asleep`.
fn states(devices: &Path) -> BTreeMap<String, bool> {
    let state = |number: u64| {
        let machine = format!("acme.rig-{number}");
        let text = fs::read_to_string(devices.join(format!("{machine}.state")));
        (machine, text.is_ok_and(|text| text.trim() == "asleep"))
    };
    (1..=MACHINES).map(state).collect()
}

fn counts<T: serde::de::DeserializeOwned>(path: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// An address that no other process gets: its port is below those that the system assigns, so that
/// it is still free after a kill.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The path of a program of the workspace, built with the same target folder and profile as these
/// tests.
pub(crate) fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let own = std::env::current_exe().expect("a running program has a path");
        // This test binary is FOLDER/deps/all-HASH.
        let folder = own.parent().and_then(Path::parent).expect("cargo's layout").to_owned();
        let target = folder.parent().expect("cargo's layout");
        // Set by test.sh, which builds the programs together with the workspace. Building one alone
        // uses fewer features and would compile everything again.
        if std::env::var_os("TIELINE_TEST_PROGRAMS_ARE_BUILT").is_some() {
            return folder;
        }
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--quiet", "-p", "tieline", "-p", "testbed", "--bins", "--target-dir"])
            .arg(target);
        if folder.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(built.success(), "the programs do not build");
        folder
    });
    folder.join(name)
}

/// Starts a program that runs until it is stopped. Its output goes into a file.
pub(crate) fn start(name: &str, log: &str, arguments: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(program(name));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn tieline(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("tieline"));
    command
        .args(arguments)
        .env_remove("TIELINE_URL")
        .env_remove("TIELINE_TOKEN_FILE")
        .env_remove("TIELINE_CONFIG");
    command
}

/// Runs a command until it ends. A command that exceeds the deadline is killed, and the test fails.
pub(crate) fn finish(mut command: Command) -> Said {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let deadline = clock::now() + Duration::from_secs(COMMAND_SECS);
    while child.try_wait().expect("it can be waited for").is_none() {
        if clock::now() > deadline {
            let _ = child.kill();
            panic!("{command:?} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("it ended");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for the end of a program and returns its exit code; -1 if a signal ended it.
pub(crate) async fn ended(child: &mut Child) -> i32 {
    until("ended", || match child.try_wait().expect("it can be waited for") {
        Some(status) => Ok(status.code().unwrap_or(-1)),
        None => Err(Value::Null),
    })
    .await
}

/// Sends a signal with the `kill` of the shell, which needs no unsafe code.
pub(crate) fn signal(name: &str, child: &Child) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name} could not be sent");
}
