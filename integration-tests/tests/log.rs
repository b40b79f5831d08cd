//! The log at level info: a lease over hundreds of machines gives some dozens of lines, each event
//! is logged once, and no machine is named.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use directive::Watts;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::filter::LevelFilter;

use crate::site::{Group, HOUSE, Setup, WholeSite};

/// The number of machines in each of the two groups.
const MACHINES: u32 = 100;

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn all(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("no panic holds it").clone();
        String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
    }

    fn with(&self, text: &str) -> usize {
        self.all().iter().filter(|line| line.contains(text)).count()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic holds it").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A runtime whose threads, and no others, log to `lines`.
fn runtime(lines: &Lines) -> (tokio::runtime::Runtime, Dispatch) {
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let dispatch = Dispatch::new(subscriber);
    let each = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // The guard is never dropped: the threads use this dispatcher until they end.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&each)))
        .build()
        .expect("threads");
    (runtime, dispatch)
}

#[test]
fn a_lease_over_hundreds_of_machines_is_told_in_dozens_of_lines() {
    let lines = Lines::default();
    let (runtime, dispatch) = runtime(&lines);
    // With only one dispatcher, tracing caches whether anybody listens to a log statement as seen
    // by the first thread that reaches it, and that could be the thread of another test. With two
    // dispatchers it asks both.
    let _another = Dispatch::new(NoSubscriber::new());
    let _logging = tracing::dispatcher::set_default(&dispatch);
    runtime.block_on(leased());
    drop(runtime);

    let all = lines.all();
    let text = all.join("\n");
    println!("{text}");
    assert!(all.len() <= 60, "{} lines:\n{text}", all.len());
    for name in ["old-1", "new-1"] {
        assert!(!text.contains(name), "names are for debug:\n{text}");
    }
    for (from, to) in [
        ("planned", "armed"),
        ("armed", "shedding"),
        ("shedding", "proven"),
        ("proven", "active"),
        ("active", "releasing"),
        ("releasing", "closed"),
    ] {
        let moved = format!("lease moved lease=big from=\"{from}\" to=\"{to}\" why=");
        assert_eq!(lines.with(&moved), 1, "{moved}:\n{text}");
    }
    assert_eq!(lines.with("lease committed"), 1, "{text}");
    let counted = |field: &str| -> u32 {
        let changes = all.iter().filter(|line| line.contains("machines changed group="));
        let counts = changes.filter_map(|line| line.split(&format!(" {field}=")).nth(1));
        counts.filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok()).sum()
    };
    for field in ["commanded_sleep", "asleep", "commanded_wake", "awake"] {
        assert_eq!(counted(field), MACHINES, "{field}:\n{text}");
    }
    assert_eq!(counted("failed"), 0, "{text}");
}

async fn leased() {
    let group = |name, joules_per_terahash| Group {
        name,
        machines: MACHINES,
        watts: 3000,
        joules_per_terahash,
        reachable: true,
    };
    let mining = Watts(3000 * i64::from(2 * MACHINES));
    let setup = Setup {
        groups: vec![group("old", 38.0), group("new", 17.5)],
        usable: HOUSE + mining,
        hashrate: 300.0,
        up_step_machines: MACHINES,
        ..Setup::default()
    };
    let site = WholeSite::start(setup).await;
    // The power of exactly the old machines.
    let kw = 2.97 * f64::from(MACHINES);
    let lease = site.lease("big", kw, Duration::from_secs(5), |_| {}).await;
    site.until_state(&lease, "active").await;
    site.until_state(&lease, "closed").await;
    site.until_asleep(&[]).await;
    site.stop().await;
}
