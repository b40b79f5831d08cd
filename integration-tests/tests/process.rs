//! Tests of the real programs as processes, with files between them, as an operator runs them:
//! killed, restarted, misconfigured.
//!
//! The tests look at the files of the devices, the file of the feed's meter, exit codes, printed
//! output, HTTP answers, and the counts of miners and pool. [`crate::programs`] finds and starts
//! the programs.

use std::collections::BTreeSet;
use std::time::Duration;

use daemon::clock;
use serde_json::{Value, json};

use crate::programs::{Programs, Said, Spelling};
use crate::site::until;

/// Eight machines of 3 kW and a house of 500 W on a feed of 25 kW: 500 W are free.
const USABLE_KW: f64 = 25.0;
const MACHINES: u64 = 8;

/// F41, F44: after a kill during a lease and a restart, no machine wakes, and the lease continues
/// until its end.
#[tokio::test(flavor = "multi_thread")]
async fn f41_killed_in_the_middle_of_a_lease_it_goes_on_where_it_was() {
    let mut programs = Programs::start().await;
    programs.until_all_mine().await;
    // 6.5 kW are asked for and 0.5 kW are free: three machines of 2.97 kW are shed.
    let start = clock::wall() + Duration::from_secs(18);
    let end = start + Duration::from_secs(20);
    let (from, to) = (start.to_string(), end.to_string());
    let lease =
        ["--tenant", "Nebula", "--feed", "a", "--it-kw", "6.5", "--start", &from, "--end", &to];
    let added = programs.change(
        &[&["lease", "add", "--id", "nebula-1", "--ready-before", "1s"][..], &lease].concat(),
    );
    assert_eq!(added.code, 0, "{added:?}");
    programs.until_lease("nebula-1", "active").await;
    let asleep = programs.asleep();
    assert_eq!(asleep.len(), 3, "{asleep:?}");
    let head = programs.get("/v1/ledger/head");

    let log = programs.log();
    let first = log.lines().next().unwrap_or_default();
    for part in ["starting version=", "listeners=\"asics=", "pools=\"pool=", "site=\"test\""] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert_eq!(log.matches(" ready after_ms=").count(), 1, "{log}");
    assert!(!log.contains("acme.rig-"), "names of machines are for debug: {log}");

    programs.kill().await;
    assert_eq!(programs.asleep(), asleep);
    programs.run().await;
    let view = programs.until_lease("nebula-1", "active").await;
    assert!(clock::wall() < end, "the kill was meant to fall into the lease");
    assert_eq!(
        (&view["breached"], &view["unverified"]),
        (&json!(false), &json!(false)),
        "{view:#}"
    );
    // The other machines reconnect and mine; those asleep do not.
    programs.until_mining(MACHINES - 3).await;
    assert_eq!(programs.asleep(), asleep, "whoever slept sleeps on");

    let view = programs.until_lease("nebula-1", "closed").await;
    assert_eq!(view["breached"], false, "{view:#}");
    until("every machine awake", || {
        let asleep = programs.asleep();
        if asleep.is_empty() { Ok(()) } else { Err(json!(asleep)) }
    })
    .await;
    programs.until_all_mine().await;
    let watched = programs.watched();
    assert!(
        watched.first_wake.is_some_and(|at| at >= end),
        "nothing woke before {end}: {watched:?}"
    );
    assert_eq!(watched.slept, asleep, "and nobody else slept: {watched:?}");
    // From the time when the headroom was due until the end of the lease, the meter never showed
    // more than the limit minus the lease.
    let most = watched.most_kw(start - Duration::from_secs(1), end).expect("the meter was read");
    assert!(most <= USABLE_KW - 6.5, "{most} kW were drawn");

    let before = programs.miners().await;
    let stopped = programs.terminate().await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let after = programs.stop_miners().await;
    // A submit in transit when the connection closes gets no answer.
    let unanswered = after.unanswered - before.unanswered;
    assert!(unanswered <= 1, "SIGTERM leaves no submit unanswered that had come: {after:?}");
    assert_eq!(
        (after.double_answers, after.repeated_work, after.shared_work),
        (0, 0, 0),
        "{after:?}"
    );
    let pool = programs.pool_counts().await;
    let bad = (pool.total.duplicate, pool.total.low, pool.total.unknown_job, pool.total.malformed);
    assert_eq!(bad, (0, 0, 0, 0), "{pool:?}");

    let known = format!("{}:{}", head["seq"], head["hash"].as_str().expect("hex"));
    let ledger = programs.path("ledger.db");
    let verified = programs.tieline(&["ledger", "verify", &ledger, "--head", &known]);
    assert_eq!(verified.code, 0, "{verified:?}");
    a_tampered_ledger_is_refused(&mut programs, &ledger);
}

/// F56: a changed ledger is detected, the change is named, and the process refuses to start.
fn a_tampered_ledger_is_refused(programs: &mut Programs, ledger: &str) {
    let file = rusqlite::Connection::open(ledger).expect("it opens");
    let seq: i64 = file
        .query_row("SELECT seq FROM event WHERE kind = 'lease_committed'", [], |row| row.get(0))
        .expect("the lease is there");
    let edited = file
        .execute("UPDATE event SET body = replace(body, 'Nebula', 'Nobody') WHERE seq = ?1", [seq]);
    assert_eq!(edited.expect("it writes"), 1);
    drop(file);
    let verified = programs.tieline(&["ledger", "verify", ledger, "--json"]);
    assert_eq!(verified.code, 1, "{verified:?}");
    assert!(verified.err.contains(&format!("entry {seq} ")), "{verified:?}");
    let verdict = verified.json();
    assert_eq!(verdict["ok"], false, "{verdict}");
    let config = programs.config();
    let refused = programs.tieline(&["run", "--config", &config]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&format!("entry {seq} ")), "{refused:?}");
}

/// A policy that contains its drivers and meters itself (the former spelling) still sheds machines
/// for a lease and proves it. Each driver and meter causes a warning with its place, and a change
/// of one needs a restart.
#[tokio::test(flavor = "multi_thread")]
async fn drivers_and_meters_in_the_policy_still_work() {
    let mut programs = Programs::start_with(Spelling::Former).await;
    for (key, spelling) in [("group.rigs.actuator", "[driver.rigs]"), ("meter.a.kind", "[meter.a]")]
    {
        let log = programs.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("deprecated")).collect();
        let warned: Vec<_> = lines.iter().filter(|line| line.contains(key)).collect();
        assert_eq!(warned.len(), 1, "{key}: {log}");
        for part in ["WARN", "policy.toml:", spelling] {
            assert!(warned[0].contains(part), "{part}: {}", warned[0]);
        }
    }
    programs.until_all_mine().await;
    let added = programs.change(&[
        "lease", "add", "--id", "nebula-1", "--tenant", "Nebula", "--feed", "a", "--it-kw", "6.5",
        "--start", "+15s", "--end", "+10m",
    ]);
    assert_eq!(added.code, 0, "{added:?}");
    let view = programs.until_lease("nebula-1", "active").await;
    assert_eq!(view["unverified"], false, "the meter proves it: {view:#}");
    assert_eq!(programs.asleep().len(), 3, "{:?}", programs.asleep());

    let slower =
        programs.policy().replace("kind = \"exec\"\n", "kind = \"exec\"\ntimeout = \"9s\"\n");
    programs.write_policy(&slower);
    until("refused", || {
        let ready = programs.get("/readyz");
        let fault = ready["detail"]["policy_fault"].as_str().unwrap_or_default();
        if fault.contains("restart to change them") { Ok(()) } else { Err(ready) }
    })
    .await;
    let stopped = programs.terminate().await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
}

/// T01, F71: a policy with a mistake changes nothing, and the mistake is reported with its place. A
/// good edit is applied, either by the file watch or by SIGHUP.
#[tokio::test(flavor = "multi_thread")]
async fn f71_a_broken_policy_never_replaces_a_good_one() {
    let mut programs = Programs::start().await;
    let first = programs.get("/v1/status");
    assert_eq!(first["policy_revision"], 1);
    let good = programs.policy();
    let line = 1 + good.lines().position(|line| line.starts_with("limit_kw")).expect("it is there");

    programs.write_policy(&good.replace("limit_kw", "limt_kw"));
    let fault = until("refused", || {
        let ready = programs.get("/readyz");
        let fault = ready["detail"]["policy_fault"].as_str().map(str::to_owned);
        fault.ok_or(ready)
    })
    .await;
    for word in [&format!("policy.toml:{line}:1"), "limt_kw", "limit_kw"] {
        assert!(fault.contains(word), "{word}: {fault}");
        assert!(programs.log().contains(word), "{word} in the log");
    }
    let status = programs.get("/v1/status");
    assert_eq!(
        (&status["policy_digest"], &status["policy_revision"]),
        (&first["policy_digest"], &json!(1))
    );
    let refused = &status["policy_refused"];
    assert!(refused["why"].as_str().is_some_and(|why| why.contains("limt_kw")), "{status:#}");
    assert!(
        refused["file"].as_str().is_some_and(|file| file.ends_with("policy.toml")),
        "{status:#}"
    );
    let checked = programs.tieline(&["check", "--config", &programs.config()]);
    assert_eq!(checked.code, 78, "{checked:?}");
    assert!(checked.err.contains(&format!("policy.toml:{line}:1")), "{checked:?}");
    // The same file read again is not reported in full again.
    let refusals = || programs.log().matches("policy refused, the former one stays").count();
    let before = refusals();
    programs.hang_up();
    until("read again", || {
        let log = programs.log();
        if log.contains("policy still refused") { Ok(()) } else { Err(log.into()) }
    })
    .await;
    assert_eq!(refusals(), before, "{}", programs.log());

    programs.write_policy(&good.replace("revision = 1", "revision = 2"));
    programs.until_revision(2).await;
    until("no fault any more", || {
        let ready = programs.get("/readyz");
        if ready["detail"]["policy_fault"].is_null() { Ok(()) } else { Err(ready) }
    })
    .await;

    // The file has the same length and time as before, so the file watch sees no change.
    programs.write_policy_unseen(&good.replace("revision = 1", "revision = 3"));
    programs.hang_up();
    programs.until_revision(3).await;
    assert_eq!(programs.get("/v1/status")["policy_refused"], Value::Null);

    // A change of the configuration needs a restart: SIGHUP reports this, and which sections
    // changed.
    let config = programs.config();
    let before = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, before.replace("report_every = \"200ms\"", "report_every = \"250ms\""))
        .expect("written");
    programs.hang_up();
    let shown = || programs.get("/v1/status")["configuration_not_applied"].clone();
    let notice = until("not applied", || {
        let notice = shown();
        if notice.is_null() { Err(notice) } else { Ok(notice) }
    })
    .await;
    assert!(notice["file"].as_str().is_some_and(|file| file == config), "{notice:#}");
    assert!(notice["why"].as_str().is_some_and(|why| why.ends_with(": [proxy]")), "{notice:#}");
    assert!(programs.log().contains("configuration not in force"), "it is in the log");
    std::fs::write(&config, before).expect("written");
    programs.hang_up();
    until("as before", || {
        let notice = shown();
        if notice.is_null() { Ok(()) } else { Err(notice) }
    })
    .await;

    // A policy with a warning is applied, and the warning is logged once, however often the file is
    // read.
    let odd =
        good.replace("revision = 1", "revision = 4").replace("j_per_th = 30", "j_per_th = 3000");
    programs.write_policy(&odd);
    programs.until_revision(4).await;
    programs.hang_up();
    programs.write_policy(&odd.replace("revision = 4", "revision = 5").replace("3000", "30"));
    programs.until_revision(5).await;
    let log = programs.log();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("3000 J/TH")).collect();
    assert!(warned.len() == 1 && warned[0].contains("WARN"), "{warned:?}");
    let stopped = programs.terminate().await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
}

/// The commands, their output as text and as JSON, and their exit codes.
#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_they_did_and_exit_as_documented() {
    let mut programs = Programs::start().await;
    // Only machines that have been seen can be planned with.
    programs.until_mining(MACHINES).await;
    let codes = |programs: &Programs, table: &[(&[&str], i32, &str)]| {
        for (arguments, code, words) in table {
            let said = programs.change(arguments);
            assert_eq!(said.code, *code, "{arguments:?}: {said:?}");
            assert!(
                format!("{}{}", said.out, said.err).contains(words),
                "{arguments:?} says {words:?}: {said:?}"
            );
        }
    };
    let lease = |kw: &'static str, start: &'static str, end: &'static str| {
        [
            "lease", "add", "--tenant", "Nebula", "--feed", "a", "--it-kw", kw, "--start", start,
            "--end", end,
        ]
    };
    let config = programs.config();
    codes(
        &programs,
        &[
            (&["healthcheck"], 0, ""),
            (&["healthcheck", "--json"], 0, "\"ready\":true"),
            (&["check", "--config", &config], 0, "all right"),
            (&["status"], 0, "headroom"),
            (&["status"], 0, " workers, "),
            (&["workers", "--sort", "-hashrate", "--limit", "3"], 0, "acme.rig-"),
            (
                &[
                    "sessions",
                    "--worker-name",
                    "acme.rig-1",
                    "--state",
                    "working",
                    "--limit",
                    "2",
                    "--wide",
                ],
                0,
                "cgminer",
            ),
            (&["sessions", "--state", "asleep"], 2, "--state"),
            (&["workers", "--sort", "luck"], 2, "--sort: \"luck\""),
            (&["plan"], 0, "nothing to do"),
            (&["lease", "list"], 0, "no open leases"),
            (&["lease", "show", "nobody"], 1, "no lease nobody"),
            (&["lease", "cancel", "nobody"], 1, "no lease nobody"),
            (&lease("90", "+1h", "+2h"), 1, "refused: short 65.7 kW at a"),
            (&lease("nan", "+1h", "+2h"), 2, "--it-kw: must be a number"),
            (&lease("-1", "+1h", "+2h"), 2, "--it-kw: must be above 0"),
            (&lease("6", "+2h", "+1h"), 2, "--end"),
            (&lease("6", "+1s", "+1h"), 1, "too late"),
            (&lease("6", "+soon", "+1h"), 2, "--start \"+soon\" is not a time"),
            (&lease("6", "2020-01-01 00:00", "+1h"), 2, "in the past"),
            (&["lease", "add", "--tenant", "Nebula"], 2, "--feed"),
            (&["fly"], 2, "fly"),
            (&["check", "--config", "/nowhere/tieline.toml"], 78, "/nowhere/tieline.toml"),
            (&["ledger", "verify", "/nowhere/ledger.db"], 1, "/nowhere/ledger.db"),
            (&["ledger", "verify", "/nowhere/ledger.db", "--head", "x"], 2, "SEQ:HASH"),
        ],
    );
    // As with `| head -1`: each command ends with its usual exit code.
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["plan"],
        &["workers"],
        &["sessions"],
        &["lease", "list"],
        &["healthcheck"],
        &["check", "--config", &config],
    ] {
        assert_eq!(programs.unread(arguments), 0, "{arguments:?}");
    }
    assert_eq!(programs.unread(&lease("90", "+1h", "+2h")), 1, "refused, and nobody reads it");
    let without =
        programs.tieline(&[&lease("6", "+1h", "+2h")[..], &["--url", &programs.url()]].concat());
    assert_eq!(without.code, 1, "{without:?}");
    assert!(without.err.contains("token"), "{without:?}");
    let dead = programs.tieline(&["healthcheck", "--url", "http://127.0.0.1:9"]);
    assert_eq!(dead.code, 1, "{dead:?}");

    let dry = programs.change(&[&lease("6", "+1h", "+2h")[..], &["--dry-run"]].concat());
    assert!(dry.code == 0 && dry.out.contains("it fits"), "{dry:?}");
    let added =
        programs.change(&[&lease("6", "+1h", "+2h")[..], &["--id", "far", "--json"]].concat());
    assert_eq!((added.code, &added.json()["id"]), (0, &json!("far")), "{added:?}");
    let json_of = |arguments: &[&str]| -> Value {
        let said: Said = programs.change(&[arguments, &["--json"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.json()
    };
    assert_eq!(json_of(&["lease", "list"])["leases"][0]["id"], "far");
    assert_eq!(json_of(&["lease", "show", "far"])["gross_watts"], 6000);
    assert_eq!(json_of(&["status"])["site"]["site"], "test");
    assert_eq!(json_of(&["status"])["feeds"][0]["usable_watts"], 25_000);
    let workers = json_of(&["workers", "--sort", "worker_name", "--limit", "2"]);
    assert_eq!(workers["items"].as_array().map(Vec::len), Some(2), "{workers:#}");
    assert!(
        workers["items"][0]["worker_name"].as_str() < workers["items"][1]["worker_name"].as_str()
    );
    let plan = json_of(&["plan"]);
    let drains: BTreeSet<&str> = plan["plan"]["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|step| step["action"] == "drain")
        .flat_map(|step| {
            step["machine_names"].as_array().into_iter().flatten().filter_map(Value::as_str)
        })
        .collect();
    assert_eq!(drains.len(), 2, "5.5 kW by two machines: {plan:#}");
    let cancelled = programs.change(&["lease", "cancel", "far"]);
    assert!(cancelled.code == 0 && cancelled.out.contains("far is cancelled"), "{cancelled:?}");
    let again = programs.change(&["lease", "cancel", "far"]);
    assert!(again.code == 0 && again.out.contains("already"), "{again:?}");
    let ledger = programs.path("ledger.db");
    let verified = programs.tieline(&["ledger", "verify", &ledger, "--json"]);
    assert_eq!((verified.code, &verified.json()["ok"]), (0, &json!(true)), "{verified:?}");
    let config = programs.config();
    let second = programs.tieline(&["run", "--config", &config]);
    assert_eq!(second.code, 1, "one ledger, one process: {second:?}");
    let stopped = programs.terminate().await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
}
