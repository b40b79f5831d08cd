//! Tests of machines that do not obey and of power that is not measured, and what Tieline may still
//! claim about them.

use std::sync::Arc;
use std::time::Duration;

use directive::{MachineId, Watts};
use proxy::SessionState;
use serde_json::{Value, json};
use testbed::clock::moment;
use testbed::facility::{Behaviour, MeterFault};

use crate::site::{Group, Lease, RESIDUAL, Setup, WholeSite, until, until_time};

/// A setup with enough margin to detect a machine that lies by its shares, and to replace it,
/// before the proof is due.
fn patient() -> Setup {
    Setup { margin: Duration::from_secs(14), ..Setup::default() }
}

fn flags(view: &Value) -> (bool, bool) {
    (view["unverified"].as_bool().expect("a flag"), view["breached"].as_bool().expect("a flag"))
}

// Leases take time but little CPU, so those of one kind run concurrently, each on a site of its
// own.

#[tokio::test(flavor = "multi_thread")]
async fn starving_machines_proves_nothing() {
    tokio::join!(
        a_starve_only_lease_ends_unverified(),
        a_meter_that_sees_starved_machines_draw_says_so()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_do_not_obey_are_found_out() {
    tokio::join!(
        f65_a_liar_is_caught_by_its_shares_and_replaced(),
        a_liar_that_nobody_replaces_is_a_breach(),
        f66_a_refuser_is_replaced(),
        a_machine_that_wakes_is_put_back_to_sleep(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_meters_prove_nothing_and_let_nothing_rise() {
    tokio::join!(
        f67_without_its_meter_a_lease_is_unverified_and_nobody_wakes(MeterFault::Silent),
        f67_without_its_meter_a_lease_is_unverified_and_nobody_wakes(MeterFault::NotANumber),
        a_meter_that_falls_silent_while_active_changes_nothing(),
    );
}

/// A site whose machines can only be starved of work.
async fn starved(metered: bool) -> (WholeSite, Lease) {
    let groups = vec![Group {
        name: "stuck",
        machines: 4,
        watts: 3000,
        joules_per_terahash: 45.0,
        reachable: false,
    }];
    let setup = Setup { groups, usable: Watts(20_000), metered, ..Setup::default() };
    let site = WholeSite::start(setup).await;
    // The lease is committed while there is room beside all machines. Then the feed is derated, so
    // that some machines should be shed.
    let lease = site
        .lease("nebula-1", 6.0, Duration::from_secs(3), |body| {
            body["accept_unverified"] = json!(true);
        })
        .await;
    let derated = Setup { usable: Watts(15_000), ..site.setup.clone() };
    let policy =
        switchboard::policy::parse(&derated.policy(2), "policy.toml").expect("a sound policy");
    let handle = site.site.switchboard.clone().expect("a switchboard");
    let answer = handle.change_policy(Arc::new(policy)).await.expect("it runs");
    assert!(matches!(answer, switchboard::core::Answer::Done), "{answer:?}");
    (site, lease)
}

/// Starved machines are not reported as down. Without a meter the lease is flagged as unverified,
/// and is never proven.
async fn a_starve_only_lease_ends_unverified() {
    let (mut site, lease) = starved(false).await;
    let view = site.until_state(&lease, "active").await;
    assert_eq!(flags(&view), (true, false), "{view:#}");
    // 3,500 W are missing: two machines get no new work, and continue to hash what they have.
    assert_eq!(view["lease_plan"]["machines_starved"], 2, "{view:#}");
    let served = |state: SessionState| {
        site.proxy().sessions().iter().filter(|session| session.state == state).count()
    };
    assert_eq!((served(SessionState::Parked), served(SessionState::Working)), (2, 2));
    assert!(site.asleep().is_empty());
    let view = site.until_state(&lease, "closed").await;
    assert_eq!((flags(&view), &view["proven_at"]), ((true, false), &Value::Null), "{view:#}");
    site.until_all_mine().await;
    let books = site.settle().await;
    books.check();
    site.stop().await;
}

/// A starved lease at a feed with a meter, which shows that the machines still draw their power, is
/// breached as well.
async fn a_meter_that_sees_starved_machines_draw_says_so() {
    let (mut site, lease) = starved(true).await;
    let view = site.until(&lease, "breached", |view| view["breached"] == true).await;
    assert_eq!(flags(&view), (true, true), "{view:#}");
    let breach = &view["breaches"][0];
    assert_eq!(
        (&breach["measured"], &breach["missing_watts"]),
        (&json!(true), &json!(3500)),
        "{view:#}"
    );
    let view = site.until_state(&lease, "closed").await;
    assert_eq!((flags(&view), &view["proven_at"]), ((true, true), &Value::Null), "{view:#}");
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// F65: a machine accepts the command and reports `asleep`, but hashes at full power. Its shares
/// reveal it, and a different machine is shed instead.
async fn f65_a_liar_is_caught_by_its_shares_and_replaced() {
    let mut site = WholeSite::start(patient()).await;
    let liar = MachineId::from("old-1");
    site.facility.set_behaviour(&liar, Behaviour::Lies, moment());
    let lease = site.lease("nebula-1", 8.0, Duration::from_secs(4), |_| {}).await;
    let view = site.until_state(&lease, "active").await;
    assert_eq!(flags(&view), (false, false), "proven in time all the same: {view:#}");
    assert_eq!(view["machines_by_state"], json!({ "curtailed": 3, "disobedient": 1 }), "{view:#}");
    site.until_asleep(&["old-2", "old-3", "old-4"]).await;
    let page = site.http.get("/v1/machines");
    let seen = page["machines"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["machine"] == "old-1"));
    let seen = seen.expect("it is listed");
    assert_eq!(
        (&seen["device"]["state"], &seen["state"]),
        (&json!("asleep"), &json!("disobedient")),
        "{seen:#}"
    );

    let view = site.until_state(&lease, "closed").await;
    assert_eq!(flags(&view), (false, false), "{view:#}");
    assert!(site.headroom(&lease).watts >= lease.gross, "{:?}", site.headroom(&lease));
    site.until_asleep(&[]).await;
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// If no other machine can replace a machine that lies, the lease is breached, and the record says
/// by how much.
async fn a_liar_that_nobody_replaces_is_a_breach() {
    let groups = vec![Group {
        name: "old",
        machines: 4,
        watts: 3000,
        joules_per_terahash: 38.0,
        reachable: true,
    }];
    let setup = Setup { groups, usable: Watts(13_000), ..patient() };
    let mut site = WholeSite::start(setup).await;
    site.facility.set_behaviour(&MachineId::from("old-3"), Behaviour::Lies, moment());
    // 11,700 W are asked for, and 12,500 W minus four times 30 W are possible: all four machines
    // must be shed.
    let lease = site.lease("nebula-1", 11.7, Duration::from_secs(4), |_| {}).await;
    let view = site.until(&lease, "breached", |view| view["breached"] == true).await;
    assert_eq!(view["breaches"][0]["measured"], true, "{view:#}");
    assert_eq!(
        view["breaches"][0]["missing_watts"], 2290,
        "11,700 - (12,500 - 3,000 - 3 x 30): {view:#}"
    );
    assert_ne!(view["state"], "active", "a firm lease does not start unproven: {view:#}");
    site.until_asleep(&["old-1", "old-2", "old-4"]).await;
    let view = site.until_state(&lease, "closed").await;
    assert_eq!(view["proven_at"], Value::Null, "{view:#}");
    site.until_asleep(&[]).await;
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// F66: a machine that refuses is commanded again, and a different machine is shed meanwhile.
async fn f66_a_refuser_is_replaced() {
    let mut site = WholeSite::start(patient()).await;
    site.facility.set_behaviour(&MachineId::from("old-2"), Behaviour::Refuses, moment());
    let lease = site.lease("nebula-1", 8.0, Duration::from_secs(3), |_| {}).await;
    let view = site.until_state(&lease, "active").await;
    assert_eq!(flags(&view), (false, false), "{view:#}");
    site.until_asleep(&["old-1", "old-3", "old-4"]).await;
    site.until_state(&lease, "closed").await;
    assert!(site.headroom(&lease).watts >= lease.gross, "{:?}", site.headroom(&lease));
    site.until_asleep(&[]).await;
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// A machine that is switched on by hand during a lease is put back to sleep.
async fn a_machine_that_wakes_is_put_back_to_sleep() {
    let mut site = WholeSite::start(Setup::default()).await;
    let lease = site.lease("nebula-1", 8.0, Duration::from_secs(20), |_| {}).await;
    site.until_state(&lease, "active").await;
    // The machine may get the sleep command before it hashes, so the test looks at its power.
    let woken = MachineId::from("old-2");
    let draws = || site.facility.machine_watts(&woken, moment()).expect("it is there");
    site.facility.switch_by_hand(&woken, true, moment());
    for (what, wanted) in [("on its way up", false), ("put back to sleep", true)] {
        until(what, || if (draws() == RESIDUAL) == wanted { Ok(()) } else { Err(json!(draws())) })
            .await;
    }
    assert!(daemon::clock::wall() < lease.end, "while the lease runs");
    until("told of, and down again", || {
        let page = site.http.get("/v1/machines");
        let old = page["machines"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["machine"] == "old-2"))
            .cloned();
        let old = old.expect("it is listed");
        let seen = old["device"]["fault"] == "woke by itself" && old["state"] == "curtailed";
        if seen { Ok(()) } else { Err(old) }
    })
    .await;
    site.end_tenant();
    let (status, body) = site.http.delete("/v1/leases/nebula-1?force=true");
    assert_eq!(status, 200, "{body}");
    // What a machine drew that woke by itself counts at the feed for two more minutes.
    tokio::time::sleep(Duration::from_secs(60)).await;
    site.until_asleep(&[]).await;
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// F67: without the feed's meter nothing is proven, nothing is known to be missing, and nothing is raised, not even the machines
/// that the lease releases at its end.
async fn f67_without_its_meter_a_lease_is_unverified_and_nobody_wakes(fault: MeterFault) {
    let mut site = WholeSite::start(Setup::default()).await;
    let lease = site.lease("nebula-1", 8.0, Duration::from_secs(3), |_| {}).await;
    site.meter.set_fault(fault);
    // Lowering does not need a meter.
    site.until_asleep(&["old-1", "old-2", "old-3"]).await;
    let view = site.until(&lease, "unverified", |view| view["unverified"] == true).await;
    assert_eq!((flags(&view), &view["proven_at"]), ((true, false), &Value::Null), "{view:#}");
    let why = view["unverified_why"].as_str().unwrap_or_default();
    assert!(why.contains("the meter of a is silent"), "{why}");
    let feed = &site.http.get("/v1/feeds")["feeds"][0];
    assert_eq!(
        (&feed["headroom_watts"], &feed["metered_watts"]),
        (&Value::Null, &Value::Null),
        "unknown, not none: {feed:#}"
    );
    site.until_state(&lease, "releasing").await;
    until_time(lease.end + Duration::from_secs(4)).await;
    assert_eq!(site.asleep().len(), 3, "the lease is over, and yet nobody woke");
    let withheld = site.http.get("/v1/status")["raises_withheld"].clone();
    assert!(withheld.as_str().is_some_and(|why| why.contains("meter")), "{withheld}");

    site.meter.set_fault(MeterFault::None);
    site.until_asleep(&[]).await;
    site.until_state(&lease, "closed").await;
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// If the meter fails during an active lease, the lease keeps its proof, and no machine wakes.
async fn a_meter_that_falls_silent_while_active_changes_nothing() {
    let mut site = WholeSite::start(Setup::default()).await;
    let lease = site.lease("nebula-1", 8.0, Duration::from_secs(9), |_| {}).await;
    site.until_state(&lease, "active").await;
    site.meter.set_fault(MeterFault::Stale);
    until("headroom unknown", || {
        let feed = site.http.get("/v1/feeds")["feeds"][0].clone();
        if feed["headroom_watts"].is_null() { Ok(()) } else { Err(feed) }
    })
    .await;
    site.until_state(&lease, "releasing").await;
    until_time(lease.end + Duration::from_secs(3)).await;
    assert_eq!(site.asleep().len(), 3, "nobody woke on silence");
    assert!(site.headroom(&lease).watts >= lease.gross, "{:?}", site.headroom(&lease));
    site.meter.set_fault(MeterFault::None);
    site.until_asleep(&[]).await;
    let view = site.until_state(&lease, "closed").await;
    assert_eq!(flags(&view), (false, false), "{view:#}");
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}
