//! Bytes that no honest miner sends: each is answered as docs/faults.md, rows S, says, and no other
//! session is affected.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::SessionState;
use testbed::miner::Model;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::{PATIENCE, Setup, Site};

/// Sends `bytes` on a new connection and returns the first line of the answer; `None` if the
/// connection is closed instead.
async fn answer(site: &Site, bytes: &[u8]) -> Option<String> {
    let mut stream =
        BufReader::new(TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts"));
    // The proxy may close the connection before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut line = String::new();
    match timeout(PATIENCE, stream.read_line(&mut line)).await.expect("it answers or closes") {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_get_the_answer_of_the_table() {
    let site = Site::start(Setup::default()).await;
    let honest = site.miner(Model::Cgminer411, "acme.honest");
    let connects = || site.pools.iter().map(|pool| pool.counts().connects).sum::<u64>();
    honest.until(PATIENCE, |counts| counts.answered_true >= 1).await.expect("it mines");
    let before = connects();
    let long = "x".repeat(16_385);
    let nested = format!("{}{}\n", "[".repeat(1000), "]".repeat(1000));
    let deep = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[[[[[[[[[1]]]]]]]]]}\n";
    for (id, bytes) in [
        ("S01", long.as_bytes()),
        ("S05", nested.as_bytes()),
        ("S06", deep.as_bytes()),
        ("S07", b"{\"id\":1,\"id\":2,\"method\":\"mining.subscribe\",\"params\":[]}\n"),
        (
            "S09",
            b"{\"id\":\"\\u0000\\n\\u001b[2J\",\"method\":\"mining.subscribe\",\"params\":[]}\n",
        ),
        ("S10", b"{\"id\":1,\"method\":\"\xc0\x80\",\"params\":[]}\n"),
        ("S11", b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}{}\n"),
        ("S13", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"),
        ("S13", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("S13", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
        ("S15", b"{\"id\":1,\"method\":\n"),
    ] {
        assert_eq!(answer(&site, bytes).await, None, "{id}: closed without a word that echoes it");
    }
    assert_eq!(connects(), before, "S15: nothing upstream comes of it");
    let padded =
        format!(r#"{{"id":3,"method":"mining.ping","params":[]{}}}"#, " ".repeat(16_384 - 43));
    for (id, line, want) in [
        ("S03", padded.as_str(), "pong"),
        ("S08", r#"{"id":{},"method":"mining.subscribe","params":[]}"#, r#""id":null"#),
        ("S08", r#"{"id":1.50,"method":"mining.subscribe","params":[]}"#, r#""id":1.50,"#),
        ("S16", r#"{"id":7,"method":"mining.foo","params":[]}"#, "[20,"),
        (
            "S27",
            r#"{"id":8,"method":"mining.submit","params":["a","1","00000000","00000000","00000000"]}"#,
            "[25,",
        ),
        ("S21", r#"{"id":9,"method":"mining.authorize","params":[]}"#, "[24,"),
        ("S24", r#"{"id":9,"method":"mining.authorize","params":["a\r\nb","x"]}"#, "[24,"),
        ("S76", r#"{"id":9,"method":"mining.get_transactions","params":["0"]}"#, "[20,"),
        ("S77", r#"{"id":9,"method":"mining.ping","params":[]}"#, "pong"),
    ] {
        let got = answer(&site, format!("{line}\n").as_bytes()).await;
        assert!(got.as_deref().is_some_and(|got| got.contains(want)), "{id}: {line} -> {got:?}");
    }
    honest
        .until(PATIENCE, |counts| counts.answered_true >= 10)
        .await
        .expect("the honest one mines on");
    site.settle(vec![honest]).await.check();
    site.stop().await;
}

/// S02: a line without an end closes its connection at the bound of 16 KiB, however long it is;
/// here it is 64 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn s02_an_endless_line_is_cut() {
    let site = Site::start(Setup::default()).await;
    let mut stream = TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts");
    let chunk = vec![b'a'; 64 * 1024];
    let mut sent = 0usize;
    while sent < 64 << 20 {
        match timeout(PATIENCE, stream.write(&chunk)).await.expect("it reads or closes") {
            Ok(0) | Err(_) => break,
            Ok(wrote) => sent += wrote,
        }
    }
    assert!(sent < 32 << 20, "it took {sent} bytes before it closed");
    site.stop().await;
}

/// A second worker name on a connection does not change the state of the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_leaves_the_session_working() {
    let site = Site::start(Setup::default()).await;
    let mut stream =
        BufReader::new(TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts"));
    let mut line = String::new();
    for (request, answer) in [
        (r#"{"id":1,"method":"mining.subscribe","params":[]}"#, "\"id\":1,"),
        (r#"{"id":2,"method":"mining.authorize","params":["acme.one","x"]}"#, "mining.notify"),
        (r#"{"id":3,"method":"mining.authorize","params":["acme.two","x"]}"#, "\"id\":3,"),
        (r#"{"id":4,"method":"mining.ping","params":[]}"#, "\"id\":4,"),
    ] {
        stream.write_all(format!("{request}\n").as_bytes()).await.expect("it reads");
        line.clear();
        while !line.contains(answer) {
            line.clear();
            timeout(PATIENCE, stream.read_line(&mut line))
                .await
                .expect("it answers")
                .expect("readable");
        }
    }
    assert_eq!(site.proxy.sessions()[0].state, SessionState::Working);
    drop(stream);
    site.stop().await;
}

/// S31: many submits with the same id in one segment are all answered. S78: also if the miner has
/// closed its side.
#[tokio::test(flavor = "multi_thread")]
async fn s31_s78_pipelined_submits_are_answered_after_a_half_close() {
    let site = Site::start(Setup::default()).await;
    let mut stream = TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts");
    let mut bytes = concat!(
        r#"{"id":1,"method":"mining.subscribe","params":[]}"#,
        "\n",
        r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#,
        "\n"
    )
    .to_owned();
    for _ in 0..500 {
        bytes.push_str(
            r#"{"id":4,"method":"mining.submit","params":["acme.rig","ffff","00000000","00000000","00000000"]}"#,
        );
        bytes.push('\n');
    }
    stream.write_all(bytes.as_bytes()).await.expect("it reads");
    stream.shutdown().await.expect("half-closed");
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .expect("it closes")
        .expect("readable");
    assert_eq!(
        text.lines().filter(|line| line.contains("\"id\":4") && line.contains("[21,")).count(),
        500
    );
    site.stop().await;
}

/// F36: a miner that does not read takes only bounded memory, and gets the newest job when it reads
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn f36_a_miner_that_does_not_read_harms_nobody() {
    let site = Site::start(Setup::default()).await;
    let mut deaf = TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts");
    let hello = concat!(
        r#"{"id":1,"method":"mining.subscribe","params":[]}"#,
        "\n",
        r#"{"id":2,"method":"mining.authorize","params":["acme.deaf","x"]}"#,
        "\n"
    );
    deaf.write_all(hello.as_bytes()).await.expect("it reads");
    let honest = site.miner(Model::Cgminer411, "acme.honest");
    for _ in 0..200 {
        site.pools[0].new_job(true);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = honest.counts().answered_true;
    honest
        .until(PATIENCE, |counts| counts.answered_true > before + 10)
        .await
        .expect("the honest one mines on");
    let books = site.settle(vec![honest]).await;
    assert_eq!(books.fleet.disconnects, 0);
    site.stop().await;
}

/// S22: a source that tries worker names on ever new connections is refused when it connects; other
/// sources are not.
#[tokio::test(flavor = "multi_thread")]
async fn s22_a_source_that_only_tries_names_is_let_in_no_more() {
    let setup = Setup { change: |config| config.sessions_max = 100, ..Setup::default() };
    let site = Site::start(setup).await;
    let honest = site.miner(Model::Cgminer411, "acme.honest");
    honest.until(PATIENCE, |counts| counts.answered_true >= 1).await.expect("it mines");
    let names =
        "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"a b\",\"x\"]}\n".repeat(30);
    let flood = format!("{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}}\n{names}");
    let refused =
        || site.metric("tieline_proxy_session_closes_total{reason=\"too_many_failures\"}");
    let tried = async {
        while refused() == 0 {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket
                .bind("127.0.0.2:0".parse().expect("an address"))
                .expect("another address of this machine");
            let Ok(mut stream) = socket.connect(site.proxy.addrs()[0]).await else { continue };
            // The connection is closed before everything is written or read.
            let _ = stream.write_all(flood.as_bytes()).await;
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
        }
    };
    timeout(PATIENCE, tried).await.expect("let in without end");
    assert!(site.metric("tieline_proxy_session_closes_total{reason=\"authorize_flood\"}") >= 100);
    let another = site.miner(Model::Cgminer411, "acme.another");
    for miner in [&honest, &another] {
        let before = miner.counts().answered_true;
        miner
            .until(PATIENCE, |counts| counts.answered_true >= before + 5)
            .await
            .expect("others mine");
    }
    site.settle(vec![honest, another]).await.check();
    site.stop().await;
}

/// S25: the pool sees only our configured user, whatever worker name a miner sends.
#[tokio::test(flavor = "multi_thread")]
async fn s25_a_miners_name_never_reaches_the_pool() {
    let site = Site::start(Setup::default()).await;
    let miners = [
        site.miner(Model::Cgminer411, "bc1qsomebodyelse.rig"),
        site.miner(Model::Cpuminer, "acme.rig"),
    ];
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    }
    let books = site.settle(miners.into()).await;
    books.check();
    for pool in &books.pools {
        assert!(pool.workers.keys().all(|worker| worker == "acme"), "{:?}", pool.workers);
    }
    site.stop().await;
}

/// S79: a reset in the middle of a line frees the session at once. S80: urgent data is not part of
/// a line. (Bytes after urgent data in the same read may wait for the miner's next bytes, which
/// delays only a miner that sends urgent data.)
#[tokio::test(flavor = "multi_thread")]
async fn s79_s80_a_reset_frees_the_session_and_urgent_data_is_ignored() {
    let site = Site::start(Setup::default()).await;
    let mut stream =
        BufReader::new(TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts"));
    stream.write_all(b"{\"id\":1,\"method\":\"mining.subsc").await.expect("it reads");
    socket2::SockRef::from(stream.get_ref()).send_out_of_band(b"!").expect("a socket");
    stream.write_all(b"ribe\",\"params\":[]}\n").await.expect("it reads");
    let mut line = String::new();
    for _ in 0..100 {
        stream
            .write_all(b"{\"id\":7,\"method\":\"mining.ping\",\"params\":[]}\n")
            .await
            .expect("it reads");
        if timeout(Duration::from_millis(200), stream.read_line(&mut line))
            .await
            .is_ok_and(|read| read.is_ok())
        {
            break;
        }
    }
    assert!(line.starts_with("{\"id\":1,\"result\":[["), "{line}");

    stream.write_all(b"{\"id\":2,\"method\":\"mining.auth").await.expect("it reads");
    stream.get_ref().set_zero_linger().expect("a socket");
    drop(stream);
    let freed = async {
        while !site.proxy.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, freed).await.expect("freed");
    assert_eq!(
        site.metric("tieline_proxy_session_closes_total{reason=\"reset_by_miner\"}"),
        1,
        "{}",
        site.metrics()
    );
    site.stop().await;
}

/// The lines logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic holds it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// S70, S71, S73, S74: names from a miner are only data. They make no log line, no metric label and
/// no escape sequence, and a password is in no log, metric or API answer. This test logs
/// everything, traces included, on its one thread.
#[tokio::test]
async fn s70_s71_s73_s74_names_stay_data_and_passwords_stay_out() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    // With only one dispatcher, tracing caches whether anybody listens to a log statement as seen
    // by the first thread that reaches it, and that could be the thread of another test. With two
    // dispatchers it asks both.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let site = Site::start(Setup::default()).await;
    let mut streams = Vec::new();
    for (number, agent) in
        ["plain-agent-5417", "\\u001b[2Jclear", "a\\n2026-01-01T00:00:00Z ERROR forged", "{}%s%n"]
            .iter()
            .enumerate()
    {
        let mut stream =
            BufReader::new(TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts"));
        let hello = format!(
            "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"{agent}\"]}}\n\
             {{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"acme.{number}<script>%s\",\"canary-8861,d=0.0001\"]}}\n\
             {{\"id\":3,\"method\":\"mining.{agent}\",\"params\":[]}}\n\
             {{\"id\":4,\"method\":\"mining.authorize\",\"params\":[\"b\\nad\",\"canary-8861\"]}}\n"
        );
        stream.write_all(hello.as_bytes()).await.expect("it reads");
        let mut line = String::new();
        while !line.starts_with("{\"id\":4,") {
            line.clear();
            timeout(PATIENCE, stream.read_line(&mut line))
                .await
                .expect("it answers")
                .expect("readable");
            assert!(!line.contains("canary"), "{line}");
        }
        streams.push(stream);
    }
    let views = serde_json::to_string(&site.proxy.sessions()).expect("JSON");
    let metrics = site.metrics();
    assert!(
        views.contains("plain-agent-5417") && views.contains("<script>%s"),
        "data, where data belongs: {views}"
    );
    for (place, text) in [("API", &views), ("metrics", &metrics)] {
        assert!(!text.contains("canary"), "{place}: {text}");
    }
    assert!(!metrics.contains("agent-5417") && !metrics.contains("script"), "no label: {metrics}");
    drop(streams);
    site.stop().await;
    let log = String::from_utf8(log.0.lock().expect("no panic holds it").clone()).expect("text");
    assert!(log.contains("authorized"), "something was logged: {log}");
    assert!(!log.contains("canary"), "{log}");
    assert!(log.chars().all(|char| char == '\n' || !char.is_control()), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
}
