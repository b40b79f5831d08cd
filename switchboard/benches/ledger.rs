//! What durability costs: how many leases a second the switchboard commits with its real task, its core
//! and a ledger in SQLite, and how long it takes to open a ledger of a million entries. Everything is
//! written to a temporary directory, so `TMPDIR` says which disk is measured.
//!
//! The leases that are open before begin in more than an hour, so none of them moves meanwhile. Where
//! there are machines, a proxy and an agent report once a second: all meters, and a twentieth of the machines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use directive::{
    DeviceState, Generation, Link, MachineId, MachineReport, MeterReport, MetersReport,
    ReceiverRole, Report, ReportSender, Serving, SessionReport, Watts, in_process,
};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use switchboard::commitment::Phase;
use switchboard::core::{Answer, Command};
use switchboard::lease::LeaseRequest;
use switchboard::ledger::{Entry, Event, LedgerStore as _, SqliteLedger};
use switchboard::{Handle, Switchboard};
use tokio_util::sync::CancellationToken;

use crate::site::{Pdu, Site};

mod site;

/// The commits of one measurement.
const COMMITS: usize = 400;
/// The entries of the ledger that is opened.
const ENTRIES: usize = 1_000_000;

fn main() {
    // Cargo passes `--bench`, and a filter that this program does not have.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives threads");
    println!(
        "| machines | leases open before | callers | durable commits/s | median ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for machines in [0, 5_000] {
        let site = match machines {
            0 => without_machines(),
            _ => Site::with(machines),
        };
        let site = Arc::new(site);
        for open in [0, 300, 1_000] {
            for callers in [1, 8] {
                let measured = runtime.block_on(commits(&site, open, callers));
                println!("| {machines} | {open} | {callers} | {measured} |");
            }
        }
    }
    println!("\nthe store alone, an entry a transaction: {} a second", store_alone());
    println!("{}", open_large());
}

/// A site of 50 PDUs with power for leases. One machine is declared, and none is ever seen.
fn without_machines() -> Site {
    Site::new((0..50).map(|number| Pdu::new(number, usize::from(number == 0))).collect(), 1000)
}

/// Commits leases one after another from so many callers at once. Returns how many a second, and how
/// long a caller waited.
async fn commits(site: &Arc<Site>, open: usize, callers: usize) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ledger.db");
    let wall = daemon::clock::wall();
    let (mut store, _) = SqliteLedger::open(&file, wall).expect("a new ledger");
    let entries: Vec<Entry> =
        site.leases(open, wall).into_iter().map(|lease| committed(wall, lease)).collect();
    store.append(&entries).expect("room on the disk");
    drop(store);
    let (store, state) = SqliteLedger::open(&file, wall).expect("the ledger just made");
    assert_eq!(state.open().count(), open);

    let (proxy, proxy_outlet) = in_process("proxy".into(), ReceiverRole::Proxy);
    let (agent, agent_outlet) = in_process("agent".into(), ReceiverRole::Agent);
    let policy = Arc::new(site.policy.clone());
    let outlets = vec![proxy_outlet, agent_outlet];
    let (switchboard, handle) =
        Switchboard::new(policy, store, state, outlets, &mut Registry::default())
            .expect("the system gives a thread");
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    let reporting = tokio::spawn(report(site.clone(), (proxy, agent), stop.clone()));
    // Until the machines are seen, and what follows is recorded.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let begun = daemon::clock::now();
    let asking = (0..callers).map(|caller| {
        let (handle, site) = (handle.clone(), site.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            for number in (caller..COMMITS).step_by(callers) {
                let begun = daemon::clock::now();
                commit(&handle, request(&site, number, wall)).await;
                took.push(daemon::clock::now() - begun);
            }
            took
        })
    });
    let mut took = Vec::new();
    for caller in asking.collect::<Vec<_>>() {
        took.append(&mut caller.await.expect("each lease is committed"));
    }
    let all = daemon::clock::now() - begun;
    stop.cancel();
    task.await.expect("the switchboard ends");
    reporting.await.expect("the reports end");

    // What was answered is in the ledger.
    let (_, state) = SqliteLedger::open(&file, daemon::clock::wall()).expect("a sound ledger");
    assert_eq!(state.open().count(), open + COMMITS);
    took.sort();
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let (median, p99) = (ms(took[COMMITS / 2]), ms(took[COMMITS * 99 / 100]));
    format!("{:.0} | {median:.2} | {p99:.2}", per_second(COMMITS, all))
}

async fn commit(handle: &Handle, request: LeaseRequest) {
    let answer = handle.ask(Command::Commit(request, None)).await.expect("it runs");
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
}

/// A lease of one machine's power for an hour, at one PDU after another.
fn request(site: &Site, number: usize, from: Timestamp) -> LeaseRequest {
    let pdu = &site.pdus[number % site.pdus.len()];
    let hour = number / site.pdus.len() % 40;
    let start = from + Duration::from_hours(20 + u64::try_from(hour).expect("below 40"));
    serde_json::from_value(serde_json::json!({
        "id": format!("more-{number}"), "tenant": "t", "it_kw": 3.0, "feed": pdu.name,
        "start": start.to_string(), "end": (start + Duration::from_hours(1)).to_string(),
    }))
    .expect("a sound request")
}

/// Reports once a second what a site reports on which all machines mine.
async fn report<L: Link>(site: Arc<Site>, links: (L, L), stop: CancellationToken) {
    let (mut proxy, mut agent) = links;
    let machines: Vec<MachineId> =
        site.pdus.iter().filter(|pdu| pdu.machines > 1).flat_map(Pdu::ids).collect();
    let began = daemon::clock::wall();
    let (mut of_proxy, mut of_agent) = (ReportSender::started(began), ReportSender::started(began));
    // When each machine was last heard of.
    let mut heard = vec![began; machines.len()];
    for second in 0.. {
        let wall = daemon::clock::wall();
        heard.iter_mut().skip(second % 20).step_by(20).for_each(|heard| *heard = wall);
        let number = |link: &mut L| -> Option<Generation> {
            link.latest().timeline.map(|timeline| timeline.number)
        };
        of_proxy.request(proxy.latest().resync);
        let sessions: Vec<SessionReport> = machines
            .iter()
            .zip(&heard)
            .map(|(machine, heard)| SessionReport {
                machine: machine.clone(),
                sessions: 1,
                serving: Serving::Working,
                shares: second as u64,
                work: 1.0,
                last_share_at: Some(*heard),
                still_hashing: 0,
            })
            .collect();
        let number_held = number(&mut proxy);
        let delta = of_proxy.report(sessions.iter().map(SessionReport::seen), wall, number_held);
        if proxy.report(Report::Sessions(delta)) {
            of_proxy.handed_over();
        }
        of_agent.request(agent.latest().resync);
        let devices: Vec<MachineReport> = machines
            .iter()
            .zip(&heard)
            .map(|(machine, heard)| MachineReport {
                machine: machine.clone(),
                state: DeviceState::Awake,
                watts: None,
                read_at: Some(*heard),
                slept_at: None,
                asleep_by: None,
                unrecorded: false,
                failures: 0,
                fault: None,
            })
            .collect();
        let number_held = number(&mut agent);
        let delta = of_agent.report(devices.iter().map(MachineReport::seen), wall, number_held);
        if agent.report(Report::Machines(delta)) {
            of_agent.handed_over();
        }
        agent.report(Report::Meters(meters(&site, wall)));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// What the meters show while all machines mine.
fn meters(site: &Site, wall: Timestamp) -> MetersReport {
    let feeds = site.policy.facility.feeds();
    let watts = site.policy.facility.fixed_load(&switchboard::Population::default());
    let meters = feeds.numbers().map(|number| MeterReport {
        meter: format!("m-{}", feeds[number].id).as_str().into(),
        watts: Some(Watts(watts[number].0)),
        taken_at: Some(wall),
        fault: None,
    });
    MetersReport { at: wall, full: true, meters: meters.collect() }
}

/// How many transactions of one entry the store takes in a second: the limit that the disk sets.
fn store_alone() -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let wall = daemon::clock::wall();
    let site = without_machines();
    let (mut store, _) =
        SqliteLedger::open(&dir.path().join("ledger.db"), wall).expect("a new ledger");
    let leases = site.leases(COMMITS, wall);
    let begun = daemon::clock::now();
    for lease in leases {
        store.append(&[committed(wall, lease)]).expect("room on the disk");
    }
    format!("{:.0}", per_second(COMMITS, daemon::clock::now() - begun))
}

/// Writes a ledger of a million entries, as leases leave them that are committed, go through all phases
/// and are closed, and opens it: every hash is checked, every entry folded.
fn open_large() -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ledger.db");
    let wall = daemon::clock::wall();
    let site = without_machines();
    write_large(&file, &site, wall);
    let bytes = std::fs::metadata(&file).expect("the ledger").len();
    let begun = daemon::clock::now();
    let (store, state) = SqliteLedger::open(&file, wall).expect("a sound ledger");
    let took = daemon::clock::now() - begun;
    let (entries, open) = (store.head().seq, state.open().count());
    assert!(entries > ENTRIES as u64);
    format!(
        "opening a ledger of {entries} entries, {} MB, {open} leases open: {:.2} s",
        bytes / 1_000_000,
        took.as_secs_f64(),
    )
}

fn write_large(file: &Path, site: &Site, wall: Timestamp) {
    let (mut store, _) = SqliteLedger::open(file, wall).expect("a new ledger");
    let mut waiting = Vec::new();
    let (mut written, mut number) = (1, 0);
    while written < ENTRIES {
        let at = wall + Duration::from_secs(u64::try_from(number).expect("small"));
        let lease = site.lease(number, ENTRIES, wall);
        let id = lease.id.clone();
        waiting.push(committed(at, lease));
        waiting.push(decided(number, at));
        for phases in Phase::ALL.windows(2) {
            let why = "every receiver holds the timeline that frees its power".to_owned();
            let figures = Vec::new();
            let (from, to) = (phases[0], phases[1]);
            let event = Event::CommitmentMoved { lease: id.clone(), from, to, why, figures };
            waiting.push(Entry { at, event });
        }
        number += 1;
        if waiting.len() >= 10_000 {
            waiting.truncate(ENTRIES - written);
            store.append(&waiting).expect("room on the disk");
            written += waiting.len();
            waiting.clear();
        }
    }
}

fn committed(at: Timestamp, lease: switchboard::lease::Lease) -> Entry {
    let (arithmetic, latest_safe_start, origin) = (Vec::new(), Some(lease.start), None);
    Entry { at, event: Event::LeaseCommitted { lease, arithmetic, latest_safe_start, origin } }
}

/// A decision that changes the times of no machine.
fn decided(number: usize, at: Timestamp) -> Entry {
    let event = Event::Decided {
        number: Generation { epoch: 1, generation: u64::try_from(number).expect("small") + 1 },
        policy: "0".repeat(64),
        plan: "0".repeat(64),
        selection: None,
        changes: None,
        deficits: Vec::new(),
        reasons: vec!["lease-1 begins at 12:00: 40 machines of g1 go".to_owned()],
    };
    Entry { at, event }
}

fn per_second(count: usize, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let count = count as f64;
    count / took.as_secs_f64()
}
