//! A meter that is wrong, from outside: the programs an operator runs, and a meter that is a file.

use std::time::Duration;

use serde_json::Value;

use crate::programs::Programs;
use crate::site::until;

fn feed(programs: &Programs) -> Value {
    programs.get("/v1/feeds")["feeds"][0].clone()
}

async fn until_meter(programs: &Programs, state: &str) -> Value {
    until(&format!("the meter {state}"), || {
        let feed = feed(programs);
        if feed["meter_health"]["state"] == state { Ok(feed) } else { Err(feed) }
    })
    .await
}

fn lease(programs: &Programs, id: &str) -> Value {
    programs.get(&format!("/v1/leases/{id}"))
}

fn add(programs: &Programs, id: &str, kw: &str) {
    let added = programs.change(&[
        "lease",
        "add",
        "--id",
        id,
        "--tenant",
        "Nebula",
        "--feed",
        "a",
        "--it-kw",
        kw,
        "--start",
        "+15s",
        "--end",
        "+10m",
        "--ready-before",
        "1s",
    ]);
    assert_eq!(added.code, 0, "{added:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_in_the_wrong_unit_proves_nothing_and_breaches_nothing() {
    let programs = Programs::start().await;
    programs.until_all_mine().await;
    add(&programs, "first", "6.5");
    programs.until_lease("first", "active").await;
    let asleep = programs.asleep();
    assert_eq!(asleep.len(), 3, "{asleep:?}");

    // 15.59 kW as 15,590 kW: a breach of as much was once on record for this.
    programs.set_meter_factor(1_000.0);
    let seen = until_meter(&programs, "scaled_up").await;
    assert_eq!(seen["headroom_kw"], Value::Null, "{seen:#}");
    assert!(seen["metered_kw"].as_f64().is_some_and(|kw| kw > 1_000.0), "it is shown: {seen:#}");
    let status = programs.change(&["status"]);
    assert!(status.out.contains("SCALED UP"), "{}", status.out);
    assert!(status.out.contains("implausible"), "{}", status.out);
    let site = programs.get("/v1/status");
    assert_eq!(site["meters_not_ok"][0]["state"], "scaled_up", "{site:#}");
    // It is put on the lease's record when that has lasted, and is no breach.
    let marked = until("unverified", || {
        let lease = lease(&programs, "first");
        if lease["unverified"] == true { Ok(lease) } else { Err(lease) }
    })
    .await;
    assert_eq!((&marked["breached"], &marked["state"]), (&false.into(), &"active".into()));
    let why = marked["unverified_why"].as_str().unwrap_or_default();
    assert!(why.contains("the meter of a is implausible (scaled_up)"), "{why}");

    programs.set_meter_factor(1.0);
    until_meter(&programs, "ok").await;

    // 15.59 kW as 0.015 kW: this once proved any lease.
    programs.set_meter_factor(0.001);
    until_meter(&programs, "scaled_down").await;
    add(&programs, "second", "9");
    tokio::time::sleep(Duration::from_secs(25)).await;
    let second = lease(&programs, "second");
    assert!(["shedding", "armed", "planned"].contains(&second["state"].as_str().unwrap_or("")));
    assert_eq!((&second["breached"], &second["proven_at"]), (&false.into(), &Value::Null));
    let shown = programs.change(&["lease", "show", "second"]);
    assert!(shown.out.contains("UNVERIFIED: not proven by "), "{}", shown.out);

    programs.set_meter_factor(1.0);
    until_meter(&programs, "ok").await;
    let second = programs.until_lease("second", "active").await;
    assert_eq!(second["breached"], false, "{second:#}");
    let first = lease(&programs, "first");
    assert_eq!(first["breached"], false, "{first:#}");
    let log = programs.log();
    for line in ["meter is implausible", "meter is believed again"] {
        // Once for each fault.
        assert_eq!(log.matches(line).count(), 2, "{line}: {log}");
    }
    let verified = programs.tieline(&["ledger", "verify", &programs.path("ledger.db")]);
    assert_eq!(verified.code, 0, "{verified:?}");
}
