//! Tests of the listener over real sockets, against callers that are slow, hostile or mistaken
//! (docs/faults.md, rows H).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::post;
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::connection::HEADERS_MAX;
use super::*;
use crate::clock;
use crate::settings::Secret;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const JSON: &str = "content-type: application/json\r\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    kw: u32,
}

fn token() -> Token {
    Token::new(Secret::new(TOKEN)).unwrap()
}

fn routes() -> Router {
    let write = post(async |ApiJson(lease): ApiJson<Lease>| Json(json!({ "took": lease.kw })));
    Router::new()
        .route("/v1/leases", write.get(async || Json(json!([]))))
        .route(
            "/v1/fail",
            post(async || {
                ApiError::conflict("shortfall", "short by 5 kW").field("kw").into_response()
            }),
        )
        .route("/v1/leases/n-7", post(async || ()).delete(async || StatusCode::NO_CONTENT))
        .route("/large", get(async || LARGE.clone()))
        .route("/ticks", get(async || Body::new(Ticks::new())))
        .route("/hangs", get(async || std::future::pending::<()>().await))
        .route("/panics", get(async || -> &'static str { panic!("on purpose") }))
}

/// More bytes than the buffers of a socket hold. All answers share this one text.
static LARGE: LazyLock<Bytes> = LazyLock::new(|| "x".repeat(64 * 1024 * 1024).into());

/// A body that sends one byte every 20 s, three times: it lasts longer than every deadline.
struct Ticks(u32, Pin<Box<tokio::time::Sleep>>);

impl Ticks {
    fn new() -> Self {
        Self(0, Box::pin(tokio::time::sleep(Duration::from_secs(20))))
    }
}

impl HttpBody for Ticks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        if self.0 == 3 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.1.as_mut().poll(cx));
        let count = self.0 + 1;
        *self = Self(count, Box::pin(tokio::time::sleep(Duration::from_secs(20))));
        Poll::Ready(Some(Ok(Frame::data("tick".into()))))
    }
}

struct Served {
    addr: SocketAddr,
    cancel: CancellationToken,
    run: tokio::task::JoinHandle<()>,
}

async fn serve_with(token: Option<Token>, change: impl FnOnce(Admin) -> Admin) -> Served {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin = change(Admin::bind(listen, token, require_token(routes())).await.unwrap());
    let (addr, cancel) = (admin.addr(), CancellationToken::new());
    Served { addr, run: tokio::spawn(admin.run(cancel.clone())), cancel }
}

async fn served() -> Served {
    serve_with(Some(token()), |admin| admin).await
}

impl Served {
    /// Sends bytes as they are and reads until the other side closes.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        read_all(&mut stream).await
    }

    async fn ask(&self, head: &str, headers: &str, body: &str) -> String {
        let addr = self.addr;
        let length = body.len();
        self.raw(format!(
            "{head} HTTP/1.1\r\nhost: {addr}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await
    }

    async fn post(&self, headers: &str, body: &str) -> String {
        self.ask("POST /v1/leases", headers, body).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        bytes.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or("0").parse().unwrap_or(0)
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n{JSON}")
}

#[tokio::test]
async fn the_right_token_and_json_pass() {
    let served = served().await;
    let answer = served.post(&bearer(TOKEN), "{\"kw\":5}").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("{\"took\":5}"), "{answer}");
    assert_eq!(
        status(&served.ask("GET /v1/leases", "", "").await),
        200,
        "reading nearby needs no token"
    );
}

#[tokio::test]
async fn wrong_tokens_get_401_that_tells_nothing_and_then_429() {
    let served = served().await;
    let answer = served.post(JSON, "{\"kw\":5}").await;
    assert_eq!(status(&answer), 401);
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
    assert!(
        answer.ends_with("{\"error\":{\"code\":\"unauthorized\",\"message\":\"unauthorized\"}}"),
        "{answer}"
    );
    let wrong =
        ["", &TOKEN[..31], &format!("{TOKEN}0"), &TOKEN.to_uppercase(), &"x".repeat(10_000)];
    for given in wrong {
        assert_eq!(status(&served.post(&bearer(given), "{}").await), 401, "{given:.40}");
    }
    assert_eq!(status(&served.post(&bearer("x"), "{}").await), 429);
    let basic = format!("authorization: Basic {TOKEN}\r\n{JSON}");
    assert_eq!(status(&served.post(&basic, "{}").await), 429);
    let twice = format!("authorization: Bearer {TOKEN}\r\n{}", bearer(TOKEN));
    assert_eq!(status(&served.post(&twice, "{}").await), 429);
    assert_eq!(
        status(&served.post(&bearer(TOKEN), "{\"kw\":1}").await),
        200,
        "the right one still passes"
    );
}

#[tokio::test]
async fn without_a_token_nobody_may_change_anything() {
    let served = serve_with(None, |admin| admin).await;
    let answer = served.post(&bearer(TOKEN), "{\"kw\":5}").await;
    assert_eq!(status(&answer), 401);
    assert!(answer.contains("\"no_token\""), "{answer}");
    assert_eq!(status(&served.ask("GET /v1/leases", "", "").await), 200);
}

#[tokio::test]
async fn a_token_in_the_address_is_refused() {
    let served = served().await;
    for head in
        ["GET /v1/leases?token=x", "GET /v1/leases?a=b&Access_Token=x", "GET /readyz?authorization"]
    {
        let answer = served.ask(head, "", "").await;
        assert_eq!(status(&answer), 400, "{head}");
        assert!(answer.contains("\"token_in_query\""), "{answer}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_reach_it() {
    let served =
        serve_with(Some(token()), |admin| admin.hosts(["Switchboard.example".to_owned()])).await;
    let port = served.addr.port();
    for (host, want) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("LOCALHOST".to_owned(), 200),
        ("[::1]".to_owned(), 200),
        ("switchboard.example:8080".to_owned(), 200),
        ("evil.com".to_owned(), 421),
        ("127.0.0.1.evil.com".to_owned(), 421),
        ("10.0.0.1".to_owned(), 421),
        ("a@localhost".to_owned(), 421),
        ("".to_owned(), 421),
    ] {
        let answer = served
            .raw(format!("GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
            .await;
        assert_eq!(status(&answer), want, "{host:?}: {answer}");
    }
    let answer = served
        .raw("GET http://evil.com/livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(status(&answer), 421, "{answer}");
    for (origin, want) in [
        (format!("http://127.0.0.1:{port}"), 200),
        (format!("https://127.0.0.1:{port}"), 200),
        ("https://evil".to_owned(), 403),
        (format!("http://localhost:{port}"), 403),
        ("null".to_owned(), 403),
    ] {
        let answer =
            served.post(&format!("origin: {origin}\r\n{}", bearer(TOKEN)), "{\"kw\":1}").await;
        assert_eq!(status(&answer), want, "{origin}");
    }
    let answer = served.ask("OPTIONS /v1/leases", "origin: https://evil\r\n", "").await;
    assert_eq!(status(&answer), 403);
    assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
}

#[tokio::test]
async fn only_json_changes_anything() {
    let served = served().await;
    for kind in
        ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"]
    {
        let answer =
            served.post(&format!("authorization: Bearer {TOKEN}\r\n{kind}"), "{\"kw\":5}").await;
        assert_eq!(status(&answer), 415, "{kind}");
    }
    // A page of another site can send a POST; before a DELETE, the browser first asks the server
    // for permission.
    let bearer_only = format!("authorization: Bearer {TOKEN}\r\n");
    for (request, want) in [
        ("DELETE /v1/leases/n-7 HTTP/1.1\r\nhost: localhost\r\n", 204),
        ("DELETE /v1/leases/n-7 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n", 204),
        ("POST /v1/leases/n-7 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n", 415),
    ] {
        let close = "connection: close\r\n\r\n";
        let answer = served.raw(format!("{request}{bearer_only}{close}")).await;
        assert_eq!(status(&answer), want, "{request}: {answer}");
    }
    for (headers, body, want) in [
        (bearer_only.as_str(), "", 204),
        (&format!("{bearer_only}origin: https://evil\r\n"), "", 403),
        ("", "", 401),
        (&bearer_only, "{}", 415),
        (&bearer(TOKEN), "{}", 204),
        (&format!("{bearer_only}content-type: text/plain\r\n"), "{}", 415),
    ] {
        let answer = served.ask("DELETE /v1/leases/n-7", headers, body).await;
        assert_eq!(status(&answer), want, "{headers} {body}: {answer}");
    }
    let packed = format!("content-encoding: gzip\r\n{}", bearer(TOKEN));
    assert_eq!(status(&served.post(&packed, "{\"kw\":5}").await), 415);
    assert_eq!(status(&served.ask("DELETE /v1/leases", &bearer(TOKEN), "").await), 405);
}

#[tokio::test]
async fn errors_have_one_shape() {
    let served = served().await;
    let answer = served.post(&bearer(TOKEN), "{\"kw\":-1}").await;
    assert_eq!(status(&answer), 400);
    assert!(
        answer.contains("\"code\":\"invalid_body\"") && answer.contains("\"field\":\"kw\""),
        "{answer}"
    );
    let answer = served.ask("POST /v1/fail", &bearer(TOKEN), "").await;
    let want =
        "{\"error\":{\"code\":\"shortfall\",\"field\":\"kw\",\"message\":\"short by 5 kW\"}}";
    assert!(answer.starts_with("HTTP/1.1 409") && answer.ends_with(want), "{answer}");
    for path in [
        "/nothing",
        "/v1/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//",
        "/v1/%00",
        "/v1/%c0%ae",
    ] {
        let answer = served.ask(&format!("GET {path}"), "", "").await;
        assert_eq!(status(&answer), 404, "{path}");
        assert!(answer.contains("{\"error\":{\"code\":\"not_found\""), "{answer}");
    }
    let answer = served.ask("GET /v1/fail", "x-http-method-override: POST\r\n", "").await;
    assert_eq!(status(&answer), 405);
    assert!(
        answer.contains("allow: POST") && answer.contains("\"method_not_allowed\""),
        "{answer}"
    );
    assert!(answer.contains("content-security-policy: default-src 'self'"), "{answer}");
}

#[tokio::test]
async fn bodies_too_long_are_cut_off() {
    let served = served().await;
    let body = format!("{{\"kw\":{}1}}", " ".repeat(BODY_MAX));
    assert_eq!(status(&served.post(&bearer(TOKEN), &body).await), 413);
    let head = format!("POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n{}", bearer(TOKEN));
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(17));
    let answer = served.raw(endless).await;
    assert!(status(&answer) == 413 && answer.contains("connection: close"), "{answer}");
}

/// The answer says that the connection closes. Otherwise the rest of the body would be taken for
/// the caller's next request.
#[tokio::test]
async fn a_connection_ends_with_a_refusal_that_leaves_a_body_unread() {
    let served = served().await;
    let refused = format!(
        "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n{}content-length: 8\r\n\r\n",
        bearer("x")
    );
    let answer = served.raw(refused).await;
    assert!(status(&answer) == 401 && answer.contains("connection: close"), "{answer}");
    let bodiless = "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let both = served.raw(format!("{bodiless}{}", bodiless.replace("/nothing", "/livez"))).await;
    assert!(
        status(&both) == 404 && both.contains("200 OK") && !both.contains("connection: close"),
        "{both}"
    );
}

#[tokio::test]
async fn requests_that_are_no_sound_http_1_are_refused() {
    let served = served().await;
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(HEADERS_MAX));
    for (request, want) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 0..=400),
        ("GET /livez\r\n\r\n".to_owned(), 400..=400),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), 400..=400),
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 400..=400),
        ("GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n".to_owned(), 400..=400),
        ("GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 400..=400),
        (format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), 431..=431),
        (format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{long}\r\n"), 431..=431),
        (
            format!(
                "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n{}content-length: 3\r\ncontent-length: 4\r\n\r\n{{}}",
                bearer(TOKEN)
            ),
            400..=400,
        ),
        ("\u{16}\u{3}\u{1}\0\u{1}".to_owned(), 0..=400),
    ] {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(want.contains(&status(&answer)), "{request:.80?}: {answer}");
    }
    // Load balancers still use HTTP/1.0 for their health checks.
    let old = "GET /livez HTTP/1.0\r\nhost: localhost\r\n\r\n";
    assert_eq!(status(&served.raw(old).await), 200);
}

#[tokio::test]
async fn both_kinds_of_length_never_make_two_requests_of_one() {
    let served = served().await;
    let head = format!("POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n{}", bearer(TOKEN));
    let hidden = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let lengths = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", hidden.len() + 5);
    let answer = served.raw(format!("{head}{lengths}\r\n0\r\n\r\n{hidden}")).await;
    assert_eq!(status(&answer), 400, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn metrics_and_readiness_are_shown() {
    let metrics = Metrics::default();
    let counter = Counter::<u64>::default();
    metrics.lock().unwrap().register("tieline_test_things", "Things", counter.clone());
    counter.inc();
    let ready = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = ready.clone();
    let served = serve_with(Some(token()), |admin| {
        admin.metrics(metrics).readiness(move || {
            (
                asked.load(std::sync::atomic::Ordering::Relaxed),
                json!({ "policy": "policy.toml:1:1: broken" }),
            )
        })
    })
    .await;
    let answer = served.ask("GET /metrics", "", "").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{answer}");
    assert!(answer.ends_with("counter\ntieline_test_things_total 1\n"), "{answer}");
    let accept = "accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n";
    let answer = served.ask("GET /metrics", accept, "").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{answer}"
    );
    assert!(answer.ends_with("tieline_test_things_total 1\n# EOF\n"), "{answer}");
    assert!(!answer.contains(TOKEN));
    let answer = served.ask("GET /readyz", "", "").await;
    assert_eq!(status(&answer), 503);
    assert!(
        answer.ends_with("{\"detail\":{\"policy\":\"policy.toml:1:1: broken\"},\"ready\":false}"),
        "{answer}"
    );
    ready.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(status(&served.ask("GET /readyz", "", "").await), 200);
    assert_eq!(status(&served.ask("GET /livez", "", "").await), 200);
}

#[tokio::test]
async fn from_afar_everything_but_bare_health_needs_the_token() {
    let far =
        Peer { remote: "192.0.2.7:9".parse().unwrap(), local: "192.0.2.1:80".parse().unwrap() };
    let ask = async |path: &str, given: Option<&str>, networks: &[&str]| {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let guard = Guard::new("0.0.0.0".parse().unwrap(), Vec::new(), networks);
        let routes = require_token(routes())
            .merge(own_routes(None, Some(Arc::new(|| (true, json!("detail"))))));
        let routes = with_token(guard::guarded(routes, guard), Some(token()));
        let mut request = Request::builder().uri(path).header("host", "192.0.2.1").extension(far);
        if let Some(given) = given {
            request = request.header("authorization", format!("Bearer {given}"));
        }
        let response = routes.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), BODY_MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(ask("/metrics", None, &[]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/v1/leases", None, &[]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/metrics", Some(TOKEN), &[]).await.0, StatusCode::OK);
    assert_eq!(ask("/metrics", None, &["192.0.2.0/24"]).await.0, StatusCode::OK);
    assert_eq!(ask("/metrics", None, &["10.0.0.0/8"]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/livez", None, &[]).await.0, StatusCode::OK);
    assert_eq!(ask("/readyz", None, &[]).await.1, "{\"ready\":true}");
    assert_eq!(ask("/readyz", Some(TOKEN), &[]).await.1, "{\"detail\":\"detail\",\"ready\":true}");
}

#[tokio::test]
async fn an_address_others_can_reach_needs_a_token() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let told = check_listen(addr.parse().unwrap(), false).unwrap_err().to_string();
        assert!(told.contains("configure a token"), "{told}");
        assert!(check_listen(addr.parse().unwrap(), true).is_ok());
    }
    for addr in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert!(check_listen(addr.parse().unwrap(), false).is_ok(), "{addr}");
    }
    let refused = Admin::bind("0.0.0.0:0".parse().unwrap(), None, Router::new()).await;
    assert!(matches!(refused, Err(AdminError::TokenNeeded { .. })));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = Admin::bind(taken.local_addr().unwrap(), None, Router::new()).await;
    assert!(matches!(refused, Err(AdminError::Bind { .. })));
}

/// Reads `head` in real time, then pauses time. A paused clock would jump ahead whenever the test
/// waits for bytes between the two sockets.
async fn read_head_then_pause(stream: &mut TcpStream, head: &str) {
    let mut some = vec![0; head.len()];
    stream.read_exact(&mut some).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&some), head);
    tokio::time::pause();
}

#[tokio::test]
async fn slow_headers_and_silence_are_closed_after_5_s() {
    let served = served().await;
    for sent in ["", "GET /livez HTTP/1.1\r\nhost: local"] {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        let start = clock::now();
        stream.write_all(sent.as_bytes()).await.unwrap();
        tokio::time::pause();
        assert!(read_all(&mut stream).await.is_empty());
        let waited = clock::now() - start;
        tokio::time::resume();
        assert!((HEADER_TIMEOUT..HEADER_TIMEOUT * 2).contains(&waited), "{sent:?}: {waited:?}");
    }
    // Between two requests, the same rule holds as before the first.
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    read_head_then_pause(&mut stream, "HTTP/1.1 200").await;
    let start = clock::now();
    read_all(&mut stream).await;
    assert!(clock::now() - start < HEADER_TIMEOUT * 2);
}

#[tokio::test]
async fn a_slow_body_gets_408_after_10_s() {
    let served = served().await;
    let lengths = "content-length: 9\r\nexpect: 100-continue";
    let head = format!(
        "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n{}{lengths}\r\n\r\n{{",
        bearer(TOKEN)
    );
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    read_head_then_pause(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    let start = clock::now();
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(clock::now() - start < REQUEST_TIMEOUT * 2);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_after_30_s_and_others_are_served() {
    let served = served().await;
    let mut slow = TcpStream::connect(served.addr).await.unwrap();
    slow.write_all(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    slow.readable().await.unwrap();
    tokio::time::pause();
    tokio::time::sleep(READ_TIMEOUT / 2).await;
    tokio::time::resume();
    assert_eq!(status(&served.ask("GET /livez", "", "").await), 200);
    tokio::time::pause();
    tokio::time::sleep(READ_TIMEOUT).await;
    tokio::time::resume();
    let got = read_all(&mut slow).await.len();
    assert!(got < 64 * 1024 * 1024, "{got}");
}

#[tokio::test]
async fn a_stream_outlasts_the_deadlines() {
    let served = served().await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream
        .write_all(b"GET /ticks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    read_head_then_pause(&mut stream, "HTTP/1.1 200").await;
    let answer = read_all(&mut stream).await;
    assert_eq!(answer.matches("tick").count(), 3, "{answer}");
}

/// Opens connections and writes `said` on each.
async fn open(served: &Served, count: usize, said: &str) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        held.push(stream);
    }
    held
}

/// An operator reads and changes something. It takes less time than any deadline that would free a
/// place, so the operator got a place at once.
async fn look_and_act(served: &Served, who: &str) {
    let start = clock::now();
    assert_eq!(status(&served.ask("GET /livez", "", "").await), 200, "{who}");
    let answer = served.post(&bearer(TOKEN), "{\"kw\":5}").await;
    assert!(status(&answer) == 200 && answer.ends_with("{\"took\":5}"), "{who}: {answer}");
    assert!(clock::now() - start < HEADER_TIMEOUT, "{who}");
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let asked = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for count in [CONNECTIONS_MAX, 200] {
        for (who, said) in [("silent", ""), ("half a head", &asked[..20]), ("served", asked)] {
            let served = served().await;
            let held = open(&served, count, said).await;
            look_and_act(&served, &format!("{count} {who}")).await;
            drop(held);
        }
    }
}

#[tokio::test]
async fn the_longest_idle_is_closed_and_the_others_are_served_on() {
    let served = served().await;
    let asked = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut held = open(&served, CONNECTIONS_MAX, asked).await;
    let mut head = [0; 12];
    for stream in &mut held {
        stream.read_exact(&mut head).await.unwrap();
    }
    assert_eq!(status(&served.ask("GET /livez", "", "").await), 200);
    let first = read_all(&mut held[0]).await;
    assert!(first.ends_with("ok\n") && !first.contains("HTTP/1.1"), "{first}");
    for stream in &mut held[1..] {
        stream
            .write_all(asked.replace("localhost", "localhost\r\nconnection: close").as_bytes())
            .await
            .unwrap();
        let rest = read_all(stream).await;
        assert!(rest.contains("HTTP/1.1 200"), "{rest}");
    }
}

#[tokio::test]
async fn slow_bodies_and_slow_readers_keep_nobody_out() {
    let body = format!(
        "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\n{}content-length: 9\r\n\r\n{{",
        bearer(TOKEN)
    );
    let reader = "GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for said in [body.as_str(), reader] {
        let served = served().await;
        let held = open(&served, CONNECTIONS_MAX + CONNECTIONS_KEPT, said).await;
        tokio::time::sleep(places::PATIENCE).await;
        look_and_act(&served, said).await;
        drop(held);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_when_all_are_busy_and_room_comes_back() {
    let served = served().await;
    let held = open(
        &served,
        CONNECTIONS_MAX + CONNECTIONS_KEPT,
        "GET /hangs HTTP/1.1\r\nhost: localhost\r\n\r\n",
    )
    .await;
    // This connection sends nothing: bytes that the server left unread could reset the connection
    // before the answer is read.
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 503);
    drop(held);
    let deadline = clock::now() + Duration::from_secs(120);
    while status(&served.ask("GET /livez", "", "").await) != 200 {
        assert!(clock::now() < deadline, "no room came back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_panic_in_a_route_ends_that_connection_only() {
    let served = served().await;
    assert_eq!(served.ask("GET /panics", "", "").await, "");
    assert_eq!(status(&served.ask("GET /livez", "", "").await), 200);
}

#[tokio::test]
async fn an_ordinary_client_keeps_its_connection() {
    let served = served().await;
    let url = format!("http://{}/v1/leases", served.addr);
    let answers = tokio::task::spawn_blocking(move || {
        let agent = ureq::agent();
        (0..3)
            .map(|kw| {
                let request = agent.post(&url).header("authorization", format!("Bearer {TOKEN}"));
                let mut response = request.send_json(json!({ "kw": kw })).unwrap();
                response.body_mut().read_json::<Value>().unwrap()
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(
        answers.await.unwrap(),
        [json!({ "took": 0 }), json!({ "took": 1 }), json!({ "took": 2 })]
    );
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_ends() {
    let served = served().await;
    let mut idle = TcpStream::connect(served.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    read_head_then_pause(&mut idle, "HTTP/1.1 200").await;
    served.cancel.cancel();
    let start = clock::now();
    served.run.await.unwrap();
    assert!(clock::now() - start <= SHUTDOWN_GRACE);
    assert!(TcpStream::connect(served.addr).await.is_err());
}
