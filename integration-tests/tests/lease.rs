//! Tests of leases from outside: whether machines are drained, headroom is there and machines
//! return is judged by the power that the machines really draw.

use std::time::Duration;

use directive::Watts;
use serde_json::{Value, json};

use crate::site::{Setup, TOKEN, WholeSite, until};

// Leases take time but little CPU, so these tests run concurrently, each on a site of its own.
#[tokio::test(flavor = "multi_thread")]
async fn leases_are_drained_for_and_given_back() {
    tokio::join!(
        a_lease_drains_exactly_enough_in_time_and_brings_it_back(),
        a_cancelled_lease_gives_its_machines_back(),
    );
}

/// A lease of 8 kW where 500 W are free: three of the old machines are shed, machines without an
/// actuator stay, and all return.
async fn a_lease_drains_exactly_enough_in_time_and_brings_it_back() {
    let mut site = WholeSite::start(Setup::default()).await;
    let lease =
        site.lease("nebula-1", 6.4, Duration::from_secs(4), |body| body["pue"] = json!(1.25)).await;
    assert_eq!(lease.gross, Watts(8000));
    assert!(site.asleep().is_empty(), "nobody goes before it must");

    let view = site.until_state(&lease, "active").await;
    assert_eq!(
        (&view["unverified"], &view["breached"]),
        (&json!(false), &json!(false)),
        "{view:#}"
    );
    let asleep: Vec<String> = site.asleep().into_iter().collect();
    assert_eq!(
        asleep.len(),
        3,
        "three machines of 2,970 W free the 7,500 W that are missing: {asleep:?}"
    );
    assert!(
        asleep.iter().all(|name| name.starts_with("old-")),
        "the least efficient that can be reached: {asleep:?}"
    );
    assert_eq!(view["machines_by_state"], json!({ "curtailed": 3 }), "{view:#}");

    let view = site.until_state(&lease, "closed").await;
    let proven: jiff::Timestamp =
        view["proven_at"].as_str().expect("proven").parse().expect("a time");
    assert!(proven <= lease.start - crate::site::READY_BEFORE, "in time: {view:#}");
    let least = site.headroom(&lease);
    assert!(
        least.watts >= lease.gross && least.samples > 10,
        "what was promised was there: {least:?}"
    );
    assert_eq!(
        (&view["unverified"], &view["breached"]),
        (&json!(false), &json!(false)),
        "{view:#}"
    );

    site.until_asleep(&[]).await;
    site.until_all_mine().await;
    let books = site.settle().await;
    books.check();
    assert_eq!(books.fleet.sleeps, 3, "nobody else ever slept: {books:#?}");
    site.stop().await;
}

/// A lease that is cancelled while its machines sleep releases them, when its tenant draws no more; an
/// active one is only cancelled with force.
async fn a_cancelled_lease_gives_its_machines_back() {
    let mut site = WholeSite::start(Setup::default()).await;
    let lease = site.lease("nebula-1", 8.0, Duration::from_secs(600), |_| {}).await;
    site.until_state(&lease, "active").await;
    site.until_asleep(&["old-1", "old-2", "old-3"]).await;
    let (status, body) = site.http.delete("/v1/leases/nebula-1");
    assert_eq!((status, &body["error"]["code"]), (409, &json!("lease_active")), "{body}");
    // As long as the tenant draws, there is no room for any machine.
    site.end_tenant();
    let (status, body) = site.http.delete("/v1/leases/nebula-1?force=true");
    assert_eq!(status, 200, "{body}");
    site.until_asleep(&[]).await;
    site.until_state(&lease, "closed").await;
    site.until_all_mine().await;
    site.settle().await.check();
    site.stop().await;
}

/// The newest entry of the ledger, after the site has written everything.
async fn quiet_head(site: &WholeSite) -> Value {
    let mut last = Value::Null;
    let mut same = 0;
    until("a ledger at rest", || {
        let head = site.http.get("/v1/ledger/head");
        same = if head == last { same + 1 } else { 0 };
        last = head.clone();
        if same >= 10 { Ok(head) } else { Err(head) }
    })
    .await
}

/// A valid request for a distant time, made invalid by `change`.
fn request(change: impl FnOnce(&mut Value)) -> Value {
    let now = daemon::clock::wall();
    let mut body = json!({
        "tenant": "Nebula", "feed": "a", "it_kw": 10.0,
        "start": now + Duration::from_secs(3600), "end": now + Duration::from_secs(7200),
    });
    change(&mut body);
    body
}

/// Every refusal says what is missing, and nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_arithmetic_and_nothing_is_written() {
    let site = WholeSite::start(Setup { miners: false, ..Setup::default() }).await;
    let before = quiet_head(&site).await;
    let refused = |code: &str, change: &dyn Fn(&mut Value)| -> Value {
        // The dry run gives the same answer.
        let body = request(change);
        let (status, answer) = site.http.post("/v1/leases", &body);
        let (dry_status, dry) = site.http.post("/v1/admit", &body);
        assert_eq!((status, &answer["error"]["code"]), (409, &json!(code)), "{answer:#}");
        assert_eq!((dry_status, &dry["error"]["code"]), (409, &json!(code)), "{dry:#}");
        answer["error"].clone()
    };

    // Usable 31,000 − house 500 − residual 8 × 30 − unsheddable 2 × 3,000 = 24,260; with starving
    // 30,200.
    let error = refused("does_not_fit", &|body| body["it_kw"] = json!(30.3));
    assert_eq!(error["feed"], "a", "{error:#}");
    assert_eq!(error["missing_watts"], 6040, "{error:#}");
    assert!(
        error["from"].as_str() < error["to"].as_str() && error["from"].is_string(),
        "{error:#}"
    );
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("short 6.040 kW")),
        "{error:#}"
    );

    let error = refused("needs_accept_unverified", &|body| body["it_kw"] = json!(25.0));
    assert_eq!((&error["feed"], &error["missing_watts"]), (&json!("a"), &json!(740)), "{error:#}");
    let (status, fits) = site.http.post(
        "/v1/admit",
        &request(|body| {
            body["it_kw"] = json!(25.0);
            body["accept_unverified"] = json!(true);
        }),
    );
    assert_eq!((status, &fits["fits"]), (200, &json!(true)), "{fits:#}");

    let soon = daemon::clock::wall() + Duration::from_secs(2);
    let error = refused("too_late", &|body| body["start"] = json!(soon));
    assert!(
        error["missing_secs"].as_u64().is_some_and(|secs| (1..60).contains(&secs)),
        "{error:#}"
    );

    assert_eq!(site.http.get("/v1/ledger/head"), before, "nothing was written");
    assert_eq!(site.http.get("/v1/leases")["leases"], json!([]));
    site.stop().await;
}

/// docs/faults.md, rows H: a bad request is answered with the field at fault, needs the token, and
/// changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_the_answer_of_the_table() {
    let site = WholeSite::start(Setup { miners: false, ..Setup::default() }).await;
    let before = quiet_head(&site).await;
    let past = daemon::clock::wall() - Duration::from_secs(60);
    let table: Vec<(&str, Value)> = vec![
        ("it_kw", json!("nan")),
        ("it_kw", json!(-1)),
        ("it_kw", json!(0)),
        ("it_kw", json!("5")),
        ("it_kw", json!(9_223_372_036_854_775_808_u64)),
        ("it_kw", Value::Null),
        ("it_kw", json!(1e300)),
        ("pue", json!(0.5)),
        ("pue", json!("1.2")),
        ("feed", json!("b")),
        ("feed", json!({})),
        ("start", json!(past)),
        ("start", json!("2999-01-01T00:00:00")),
        ("end", json!(past)),
        ("end", json!("2999-01-01T00:00:00Z")),
        ("ready_before", json!("-5s")),
        ("ready_before", json!(30)),
        ("meter", json!("none")),
        ("meter", json!("a")),
        ("tenant", json!("")),
        ("tenant", json!("a\u{1b}[2J")),
        ("id", json!({})),
        ("id", json!("../../etc/passwd")),
        ("accept_unverified", json!("yes")),
        ("group", json!("old")),
        ("webhook", json!("http://169.254.169.254/")),
    ];
    for (field, value) in table {
        let (status, answer) =
            site.http.post("/v1/leases", &request(|body| body[field] = value.clone()));
        assert_eq!(
            (status, &answer["error"]["field"]),
            (400, &json!(field)),
            "{field} = {value}: {answer}"
        );
    }

    let sound = request(|_| {}).to_string();
    let post = |body: &str, kind: Option<&str>, token: Option<&str>| {
        site.http.post_text("/v1/leases", body, kind, token)
    };
    let json_kind = Some("application/json");
    let nested = format!("{{\"id\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let twice = sound.replacen("{", "{\"tenant\":\"Other\",", 1);
    let long = format!("{{\"tenant\":\"{}\"}}", "a".repeat(64 * 1024));
    for (id, want, (status, answer)) in [
        ("H06", 415, post(&sound, Some("text/plain"), Some(TOKEN))),
        ("H06", 415, post(&sound, None, Some(TOKEN))),
        ("H06", 400, post("{\"tenant\":", json_kind, Some(TOKEN))),
        ("H08", 400, post(&nested, json_kind, Some(TOKEN))),
        ("H08", 400, post(&twice, json_kind, Some(TOKEN))),
        ("H08", 400, post("{\"it_kw\":NaN}", json_kind, Some(TOKEN))),
        ("H08", 400, post("[]", json_kind, Some(TOKEN))),
        ("H07", 413, post(&long, json_kind, Some(TOKEN))),
        ("H01", 401, post(&sound, json_kind, None)),
        ("H02", 401, post(&sound, json_kind, Some(&TOKEN[..TOKEN.len() - 1]))),
        ("H02", 401, post(&sound, json_kind, Some(&format!("{TOKEN}x")))),
        ("H05", 405, site.http.post("/v1/status", &json!({}))),
        ("H12", 404, site.http.ask("/v1/leases/..%2f..%2fetc%2fpasswd")),
        ("H29", 400, site.http.ask("/v1/machines?limit=1000000000")),
        ("H29", 400, site.http.ask("/v1/machines?limit=-1")),
    ] {
        assert_eq!(status, want, "{id}: {answer}");
        assert!(!answer.to_string().contains(TOKEN), "{id}: the token is never repeated");
    }
    assert_eq!(site.http.get("/v1/ledger/head"), before, "nothing was written");

    // The process still runs, and accepts a valid request.
    let (status, answer) = site.http.post("/v1/leases", &request(|_| {}));
    assert_eq!(status, 201, "{answer}");
    assert_eq!(site.http.ask("/livez").0, 200);
    site.stop().await;
}

/// H33: of two concurrent requests for the last free power, only one succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_watt_is_committed_once() {
    let site = WholeSite::start(Setup { miners: false, ..Setup::default() }).await;
    quiet_head(&site).await;
    let body = request(|body| body["it_kw"] = json!(13.0));
    let both: Vec<_> = (0..2)
        .map(|_| {
            let (http, body) = (site.http.clone(), body.clone());
            tokio::task::spawn_blocking(move || http.post("/v1/leases", &body).0)
        })
        .collect();
    let mut statuses = Vec::new();
    for one in both {
        statuses.push(one.await.expect("answered"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    assert_eq!(site.http.get("/v1/leases")["leases"].as_array().map(Vec::len), Some(1));
    site.stop().await;
}
