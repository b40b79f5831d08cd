use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use daemon::admin::{Token, with_token};
use daemon::settings::Secret;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;
use crate::fixture::{at, policy};
use crate::ledger::{SqliteLedger, verify};
use crate::reconcile::Switchboard;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Served {
    routes: Router,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, state) = SqliteLedger::open(&dir.path().join("ledger.db"), at(0)).unwrap();
        let registry = &mut Registry::default();
        let (switchboard, handle) =
            Switchboard::new(Arc::new(policy()), ledger, state, vec![], registry).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(switchboard.run(stop.clone()));
        let token = Token::new(Secret::new(TOKEN.to_owned())).unwrap();
        Self { routes: with_token(router(handle), Some(token)), stop, task, dir }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {TOKEN}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn close(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.task.await.unwrap();
        self.dir
    }
}

/// A lease that begins far enough after the real current time.
fn body(id: &str, it_kw: f64) -> String {
    let start = crate::lease::later(daemon::clock::wall(), std::time::Duration::from_secs(7200));
    let end = crate::lease::later(start, std::time::Duration::from_secs(3600));
    json!({"id": id, "tenant": "Nebula", "it_kw": it_kw, "feed": "a", "start": start, "end": end})
        .to_string()
}

#[tokio::test]
async fn a_lease_is_committed_shown_and_cancelled_and_survives_in_the_ledger() {
    let served = Served::new();
    let (status, lease) = served.call("POST", "/v1/leases", Some(&body("n-7", 20.0)), &[]).await;
    assert_eq!(
        (status, &lease["state"], &lease["gross_watts"]),
        (201, &json!("planned"), &json!(20_000)),
        "{lease}"
    );
    assert!(
        lease["arithmetic"][0]["text"].as_str().unwrap().contains("usable 50.000 kW"),
        "{lease}"
    );
    let (status, lease) = served.call("GET", "/v1/leases/n-7", None, &[]).await;
    assert_eq!((status, &lease["tenant"]), (200, &json!("Nebula")));
    let (_, all) = served.call("GET", "/v1/leases", None, &[]).await;
    assert_eq!(all["leases"].as_array().unwrap().len(), 1);
    let (status, lease) = served.call("DELETE", "/v1/leases/n-7", None, &[]).await;
    assert_eq!((status, lease["cancelled_at"].is_string()), (200, true), "{lease}");
    assert_eq!(served.call("DELETE", "/v1/leases/nobody", None, &[]).await.0, 404);
    let (_, head) = served.call("GET", "/v1/ledger/head", None, &[]).await;
    let dir = served.close().await;
    let verified = verify(&dir.path().join("ledger.db"), None).unwrap();
    assert!(verified.seq >= head["seq"].as_u64().unwrap());
    let (_, state) = SqliteLedger::open(&dir.path().join("ledger.db"), at(0)).unwrap();
    assert!(state.leases["n-7"].lease.cancelled_at.is_some());
}

#[tokio::test]
async fn the_end_of_a_lease_is_moved_durably_and_a_dry_run_moves_nothing() {
    let served = Served::new();
    let (_, lease) = served.call("POST", "/v1/leases", Some(&body("n-7", 20.0)), &[]).await;
    let end: jiff::Timestamp = lease["end"].as_str().unwrap().parse().unwrap();
    let later = crate::lease::later(end, std::time::Duration::from_secs(3600));
    let request = json!({ "end": later }).to_string();
    let dry = "/v1/leases/n-7?dry_run=true";
    let (status, said) = served.call("PATCH", dry, Some(&request), &[]).await;
    assert_eq!((status, &said["end"], &said["end_before"]), (200, &json!(later), &json!(end)));
    assert_eq!(served.call("GET", "/v1/leases/n-7", None, &[]).await.1["end"], json!(end));
    let (status, done) = served.call("PATCH", "/v1/leases/n-7", Some(&request), &[]).await;
    assert_eq!((status, &done), (200, &said));
    let (status, again) = served.call("PATCH", "/v1/leases/n-7", Some(&request), &[]).await;
    assert_eq!((status, &again["end_before"]), (200, &json!(later)));
    for (path, request, want) in [
        ("/v1/leases/n-7", json!({ "end": "2020-01-01T00:00:00Z" }), (409, "cancel_instead")),
        ("/v1/leases/n-7", json!({ "end": "soon" }), (400, "bad_request")),
        ("/v1/leases/nobody", json!({ "end": later }), (404, "unknown_lease")),
    ] {
        let (status, answer) = served.call("PATCH", path, Some(&request.to_string()), &[]).await;
        assert_eq!((status, answer["error"]["code"].as_str().unwrap()), want, "{answer}");
    }
    let (status, said) = served.call("DELETE", dry, None, &[]).await;
    assert_eq!((status, said["cancelled_at"].is_string()), (200, true), "{said}");
    let dir = served.close().await;
    verify(&dir.path().join("ledger.db"), None).unwrap();
    let (_, state) = SqliteLedger::open(&dir.path().join("ledger.db"), at(0)).unwrap();
    let lease = &state.leases["n-7"].lease;
    assert_eq!((lease.end, lease.cancelled_at), (later, None));
}

#[tokio::test]
async fn leases_come_in_pages() {
    let served = Served::new();
    for id in ["n-1", "n-2", "n-3"] {
        assert_eq!(served.call("POST", "/v1/leases", Some(&body(id, 5.0)), &[]).await.0, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/leases?limit=2&state=open".to_owned();
    loop {
        let (status, page) = served.call("GET", &path, None, &[]).await;
        assert_eq!((status, &page["total"]), (200, &json!(3)), "{page}");
        let leases = page["leases"].as_array().unwrap();
        seen.extend(leases.iter().map(|lease| lease["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/leases?limit=2&state=open&cursor={next}");
    }
    assert_eq!(seen, ["n-1", "n-2", "n-3"]);
    let (_, none) = served.call("GET", "/v1/leases?state=closed", None, &[]).await;
    assert_eq!((&none["leases"], &none["next"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_the_arithmetic_and_writes_nothing() {
    let served = Served::new();
    let (_, before) = served.call("GET", "/v1/leases", None, &[]).await;
    for path in ["/v1/admit", "/v1/leases"] {
        let (status, answer) = served.call("POST", path, Some(&body("x", 60.0)), &[]).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"], &error["feed"]),
            (409, &json!("does_not_fit"), &json!("a")),
            "{answer}"
        );
        assert_eq!(error["missing_kw"], json!(11.42));
        assert_eq!(error["arithmetic"].as_array().unwrap().len(), 2);
        assert!(
            error["from"].is_string() && error["to"].is_string() && error["message"].is_string()
        );
    }
    assert_eq!(served.call("GET", "/v1/leases", None, &[]).await.1, before);
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_need() {
    let served = Served::new();
    let (status, answer) = served.call("POST", "/v1/admit", Some(&body("x", 20.0)), &[]).await;
    assert_eq!(
        (status, &answer["fits"], &answer["gross_watts"]),
        (200, &json!(true), &json!(20_000))
    );
    assert!(answer["lead"]["total_secs"].as_f64().unwrap() > 60.0);
}

#[tokio::test]
async fn mutations_need_the_token_and_reads_do_not() {
    let served = Served::new();
    for (method, path) in [("POST", "/v1/leases"), ("DELETE", "/v1/leases/x")] {
        let request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        assert_eq!(
            served.send(request.body(Body::from(body("x", 1.0))).unwrap()).await.0,
            401,
            "{method} {path}"
        );
    }
    for path in
        ["/v1/leases", "/v1/plan", "/v1/status", "/v1/feeds", "/v1/machines", "/v1/ledger/head"]
    {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        assert_eq!(served.send(request).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let served = Served::new();
    let with = |field: &str, value: Value| {
        let mut body: Value = serde_json::from_str(&body("x", 1.0)).unwrap();
        body[field] = value;
        body.to_string()
    };
    let table = [
        (with("it_kw", json!("5")), "it_kw"),
        (with("it_kw", json!(-1)), "it_kw"),
        (with("start", json!("2020-01-01T00:00:00Z")), "start"),
        (with("webhook", json!("http://evil")), "webhook"),
        ("{\"it_kw\":1,\"it_kw\":2}".to_owned(), "it_kw"),
    ];
    for (body, field) in table {
        let (status, answer) = served.call("POST", "/v1/leases", Some(&body), &[]).await;
        assert_eq!((status, &answer["error"]["field"]), (400, &json!(field)), "{body}: {answer}");
    }
    let mut two: Value = serde_json::from_str(&body("x", -1.0)).unwrap();
    two["pue"] = json!(9);
    let (status, answer) = served.call("POST", "/v1/admit", Some(&two.to_string()), &[]).await;
    let mistakes = json!([
        { "field": "it_kw", "message": "must be above 0 and at most 1,000,000,000 kW, not -1" },
        { "field": "pue", "message": "must lie between 1.0 and 3.0, not 9" },
    ]);
    assert_eq!(
        (status, &answer["error"]["field"], &answer["error"]["mistakes"]),
        (400, &json!("it_kw"), &mistakes),
        "{answer}"
    );
    let long = "x".repeat(BODY + 1);
    assert_eq!(served.call("POST", "/v1/leases", Some(&long), &[]).await.0, 413);
    assert_eq!(served.call("POST", "/v1/leases", Some("{\"tenant\":"), &[]).await.0, 400);
    for list in ["machines", "leases"] {
        for query in ["limit=0", "limit=1001", "limit=-1", "limit=x", "page=2"] {
            let path = format!("/v1/{list}?{query}");
            assert_eq!(served.call("GET", &path, None, &[]).await.0, 400, "{path}");
        }
    }
    for (query, field) in [("state=Active", "state"), ("state=", "state"), ("cursor=7b", "cursor")]
    {
        let path = format!("/v1/leases?{query}");
        let (status, answer) = served.call("GET", &path, None, &[]).await;
        assert_eq!((status, &answer["error"]["field"]), (400, &json!(field)), "{path}: {answer}");
    }
    let plain =
        Request::builder().method("POST").uri("/v1/admit").header("content-type", "text/plain");
    assert_eq!(served.send(plain.body(Body::from(body("x", 1.0))).unwrap()).await.0, 415);
}

#[tokio::test]
async fn a_repeated_key_is_answered_again() {
    let served = Served::new();
    let key = [("idempotency-key", "k-1")];
    let asked = body("x", 5.0);
    assert_eq!(served.call("POST", "/v1/leases", Some(&asked), &key).await.0, 201);
    assert_eq!(served.call("POST", "/v1/leases", Some(&asked), &key).await.0, 200);
    let (status, answer) = served.call("POST", "/v1/leases", Some(&body("y", 5.0)), &key).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("idempotency_key_reused")));
    assert_eq!(
        served.call("POST", "/v1/leases", Some(&asked), &[("idempotency-key", "")]).await.0,
        400
    );
}

/// The answer of `GET path`, parsed into its type without losing a field.
async fn typed<T: serde::Serialize + serde::de::DeserializeOwned>(
    served: &Served,
    path: &str,
) -> T {
    let (status, answer) = served.call("GET", path, None, &[]).await;
    assert_eq!(status, 200, "{path}");
    let typed: T = serde_json::from_value(answer.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), answer, "{path}");
    typed
}

#[tokio::test]
async fn answers_are_read_back_into_their_types() {
    use crate::view::{
        AdmissionAnswer, ErrorAnswer, FeedsAnswer, HeadAnswer, LeaseAnswer, LeasesAnswer,
        MachinesAnswer, PlanView, StatusView,
    };
    let served = Served::new();
    let (status, answer) = served.call("POST", "/v1/admit", Some(&body("n-7", 20.0)), &[]).await;
    let admission: AdmissionAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!((status, admission.fits, admission.timezone.as_str()), (200, true, "UTC"));
    let (_, answer) = served.call("POST", "/v1/admit", Some(&body("n-7", 60.0)), &[]).await;
    let refused: ErrorAnswer = serde_json::from_value(answer).unwrap();
    assert_eq!(refused.error.missing_watts, Some(directive::Watts(11_420)));

    served.call("POST", "/v1/leases", Some(&body("n-7", 20.0)), &[]).await;
    let one: LeaseAnswer = typed(&served, "/v1/leases/n-7").await;
    assert_eq!((one.lease.gross.0, one.arithmetic.len()), (20_000, 2));
    assert_eq!(typed::<LeasesAnswer>(&served, "/v1/leases").await.leases, [one.lease]);
    assert!(typed::<PlanView>(&served, "/v1/plan").await.plan.is_some());
    assert_eq!(typed::<StatusView>(&served, "/v1/status").await.site, "test");
    assert_eq!(typed::<FeedsAnswer>(&served, "/v1/feeds").await.feeds.len(), 3);
    assert_eq!(typed::<MachinesAnswer>(&served, "/v1/machines").await.next, None);
    assert!(typed::<HeadAnswer>(&served, "/v1/ledger/head").await.head.seq > 0);
}
