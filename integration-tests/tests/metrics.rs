//! `/metrics` as a dashboard sees it: everything documented is there, everything there is
//! documented, and miners add no series.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::harness::PATIENCE;
use crate::site::{Setup, WholeSite};

/// A metric family: its type, and the labels of its series.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

/// The content of a scrape.
#[derive(Debug, Default)]
struct Scrape {
    families: BTreeMap<String, Family>,
    /// Every series, with its labels.
    series: BTreeSet<String>,
    /// The values of each label.
    values: BTreeMap<String, BTreeSet<String>>,
}

fn scrape(site: &WholeSite) -> Scrape {
    let text = site.http.metrics("application/openmetrics-text");
    assert!(text.ends_with("\n# EOF\n"), "OpenMetrics has an end");
    let mut scrape = Scrape::default();
    let (mut name, mut sample) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            let (base, kind) = said.split_once(' ').expect("a name and a type");
            // In OpenMetrics the samples of counters and infos have a suffix that the name of the
            // family does not have.
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (name, sample) = (format!("{base}{suffix}"), base.to_owned());
            let family = Family { kind: kind.to_owned(), labels: BTreeSet::new() };
            assert_eq!(scrape.families.insert(name.clone(), family), None, "{name} is there once");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.starts_with(&sample), "{line} stands under {name}");
            assert!(scrape.series.insert(series.to_owned()), "{series} is there once");
            let labels =
                series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            for label in
                labels.split(',').filter(|label| !label.is_empty() && !label.starts_with("le="))
            {
                let (key, value) = label.split_once('=').expect("a label and its value");
                scrape
                    .families
                    .get_mut(&name)
                    .expect("its type came first")
                    .labels
                    .insert(key.to_owned());
                scrape
                    .values
                    .entry(key.to_owned())
                    .or_default()
                    .insert(value.trim_matches('"').to_owned());
            }
        }
    }
    scrape
}

/// The families and their types, with the names of the classic format.
fn classic(site: &WholeSite) -> BTreeMap<String, String> {
    let text = site.http.metrics("*/*");
    assert!(!text.contains("# EOF"), "the classic format has no end mark");
    let mut families = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').expect("a name and a type");
            name.clone_into(&mut family);
            assert_eq!(families.insert(name.to_owned(), kind.to_owned()), None, "{name}");
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.contains(' '), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let suffix = name.strip_prefix(&family);
            let known = ["", "_sum", "_count", "_bucket"];
            assert!(suffix.is_some_and(|suffix| known.contains(&suffix)), "{line} under {family}");
        }
    }
    families
}

fn as_classic(families: BTreeMap<String, Family>) -> BTreeMap<String, String> {
    let kind = |kind: &str| if kind == "info" { "gauge" } else { kind }.to_owned();
    families.into_iter().map(|(name, family)| (name, kind(&family.kind))).collect()
}

/// The families in the tables of docs/metrics.md.
fn documented(page: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    let mut prefix = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            prefix = heading
                .split('`')
                .nth(1)
                .map_or("", |prefix| prefix.trim_end_matches('…'))
                .to_owned();
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [names, kind, labels, _] = cells[..] else { continue };
        if !names.starts_with('`') {
            continue;
        }
        for name in quoted(names) {
            let family = Family {
                kind: kind.to_owned(),
                labels: quoted(labels).map(str::to_owned).collect(),
            };
            assert_eq!(
                families.insert(format!("{prefix}{name}"), family),
                None,
                "{prefix}{name} is there once"
            );
        }
    }
    families
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_and_the_running_program_agree() {
    let page = std::fs::read_to_string("../docs/metrics.md").expect("the page is there");
    let site = WholeSite::start(Setup::default()).await;
    crate::site::until("waits are measured", || {
        let text = site.http.get("/metrics").as_str().expect("text").to_owned();
        // The test pools send a job each second, and all shares of the miners are forwarded.
        let missing: Vec<&str> = [
            "answer_duration_seconds_count{by=\"pool\"}",
            "submit_duration_seconds_count{target=\"a\"}",
            "job_delivery_seconds_count{target=\"a\"}",
            "job_fanout_seconds_count{target=\"a\"}",
        ]
        .into_iter()
        .filter(|series| {
            text.contains(&format!("tieline_proxy_{series} 0\n")) || !text.contains(series)
        })
        .collect();
        if missing.is_empty() { Ok(()) } else { Err(serde_json::json!(missing)) }
    })
    .await;
    let shown = scrape(&site);
    let documented = documented(&page);
    let names = |families: &BTreeMap<String, Family>| {
        families.keys().cloned().collect::<BTreeSet<String>>()
    };
    let (here, there) = (names(&shown.families), names(&documented));
    assert_eq!(
        here.difference(&there).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "shown and not documented"
    );
    assert_eq!(
        there.difference(&here).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "documented and not shown"
    );
    for (name, family) in &documented {
        assert_eq!(&shown.families[name], family, "{name}");
    }
    assert_eq!(classic(&site), as_classic(shown.families), "the classic format has the same");
    // Labels whose values are lists in the code: the page explains each value.
    let words: BTreeSet<&str> = quoted(&page).collect();
    for (label, values) in &shown.values {
        if ["target", "feed", "group", "meter", "driver", "version"].contains(&label.as_str()) {
            continue;
        }
        let missing: Vec<&String> =
            values.iter().filter(|value| !words.contains(value.as_str())).collect();
        assert!(missing.is_empty(), "values of {label} that the page does not know: {missing:?}");
    }
    site.stop().await;
}

/// A miner that subscribes, authorizes, sends a bad share, and stays connected.
fn visit(addr: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // Names and user agents of a miner that tries to create endless series.
    let mark = number.wrapping_mul(2_654_435_761) % 1_000_003;
    let agent = format!("evil-{mark}\\n\\u001b[2J{{x=\\\"{mark}\\\"}}");
    let worker = format!("acme.s75-{mark}");
    for line in [
        format!(r#"{{"id":1,"method":"mining.subscribe","params":["{agent}","{mark:08x}"]}}"#),
        format!(
            r#"{{"id":2,"method":"mining.authorize","params":["{worker}","canary-s74-{mark}"]}}"#
        ),
        format!(
            r#"{{"id":3,"method":"mining.submit","params":["{worker}","{mark:x}ffff","00000000","6b49d200","00000000"]}}"#
        ),
    ] {
        writeln!(stream, "{line}").expect("written");
    }
    let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
    let answered = lines.find(|line| line.as_ref().expect("an answer").contains("\"id\":3"));
    assert!(answered.is_some_and(|line| line.expect("an answer").contains("21")));
    stream
}

/// S71, S74, S75: two hundred workers with any names add no series, and none of their names is in
/// /metrics.
#[tokio::test(flavor = "multi_thread")]
async fn s75_workers_add_no_series() {
    let site = WholeSite::start(Setup { miners: false, ..Setup::default() }).await;
    let addr = site.proxy().addrs()[0];
    let visits = move |numbers: std::ops::Range<usize>| {
        tokio::task::spawn_blocking(move || {
            numbers.map(|number| visit(addr, number)).collect::<Vec<_>>()
        })
    };
    crate::site::until("the meter is read", || {
        let shown = scrape(&site).series;
        if shown.iter().any(|series| series.contains("headroom_watts{")) {
            Ok(())
        } else {
            Err(Value::Null)
        }
    })
    .await;
    // The first miner may create series.
    let first = visits(0..1).await.expect("served");
    let before = scrape(&site);
    let crowd = visits(1..200).await.expect("served");
    let during = scrape(&site);
    let workers = site.http.get("/v1/workers?sort=-rejects&limit=150");
    assert_eq!(
        (&workers["total"], workers["items"].as_array().map(Vec::len)),
        (&200.into(), Some(150))
    );
    assert_eq!(workers["items"][0]["rejects"]["stale"], 1);
    let rest = site.http.get(&format!(
        "/v1/workers?sort=-rejects&limit=150&cursor={}",
        workers["next"].as_str().expect("there is more")
    ));
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next"]), (Some(50), &Value::Null));
    // No group of the policy claims them.
    let parked = site.http.get("/v1/sessions?worker_name=acme.s75&state=parked&limit=1000");
    assert_eq!(parked["total"], 200);
    for odd in
        ["limit=-1", "limit=1e9", "offset=-5", "cursor=00ff", "sort=name", "limt=5", "state=asleep"]
    {
        let (status, answer) = site.http.ask(&format!("/v1/sessions?{odd}"));
        assert_eq!(status, 400, "H29: {odd}: {answer}");
    }
    drop((first, crowd));
    crate::site::until("all sessions are gone", || {
        let sessions = site.http.get("/v1/sessions");
        if sessions["total"] == 0 { Ok(()) } else { Err(sessions["total"].clone()) }
    })
    .await;
    let after = scrape(&site);
    for (when, later) in [("during", &during), ("after", &after)] {
        let more: Vec<&String> = later.series.difference(&before.series).collect();
        assert!(more.is_empty(), "{when}: {more:?}");
    }
    let text = site.http.get("/metrics").to_string()
        + &site.http.get("/v1/workers?limit=1000").to_string();
    assert!(!text.contains("canary-s74"), "S74");
    assert!(!site.http.get("/metrics").to_string().contains("evil-"), "S71");
    site.stop().await;
}

/// Gets a page as a dashboard does. If all places are taken, the answer is 503, or the connection
/// is closed without one.
fn ask(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// F75: as many callers as allowed that send half a request, or requests whose answers they do not
/// read. Miners are not affected, and a new caller gets the place of one of the hanging callers.
#[tokio::test(flavor = "multi_thread")]
async fn f75_callers_that_hang_cost_the_miners_nothing_and_others_a_while() {
    let mut site = WholeSite::start(Setup::default()).await;
    let addr = site.http.addr();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut hanging = Vec::new();
    for number in 0..daemon::admin::CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(addr).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        let said = if number % 2 == 0 { request.repeat(400) } else { request[..20].to_owned() };
        // The caller beyond the bound (the test itself has connected before) loses its connection
        // at once.
        let _ = stream.write(said.as_bytes());
        hanging.push(stream);
    }
    site.until_all_mine().await;
    site.until_all_mine().await;
    // It may wait for seconds, in which its thread must not keep miners and pools waiting.
    let ask = || tokio::task::block_in_place(|| ask(addr, "/metrics"));
    crate::site::until("served again", || match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") && answer.ends_with('\n') => Ok(()),
        other => Err(format!("{other:.60?}").into()),
    })
    .await;
    drop(hanging);
    site.settle().await.check();
    site.stop().await;
}
