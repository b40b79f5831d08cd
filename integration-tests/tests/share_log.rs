//! The sums of the share log, computed as for a settlement, compared with the counts of pools and
//! miners.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::miner::TestMiner;

use crate::harness::{EASY, PATIENCE, Setup, Site, pool};

/// Counts lines by the value of a key.
fn count<'l>(lines: &[&'l Value], key: &str) -> BTreeMap<&'l str, u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line[key].as_str().unwrap_or("null")).or_default() += 1;
    }
    counts
}

/// Shares of all kinds, a pool that dies with shares in flight and returns, and share log files
/// that are closed meanwhile: every submit has exactly one line, and the sums equal all other
/// counts.
#[tokio::test(flavor = "multi_thread")]
async fn the_share_log_agrees_with_everybodys_books() {
    let harder = testbed::pool::PoolConfig { difficulty: EASY * 3.0, ..pool(8, 1) };
    let site =
        Site::start(Setup { pools: vec![harder, pool(6, 2)], share_log: true, ..Setup::default() })
            .await;
    let miners = site.fleet(8);
    for miner in &miners {
        miner
            .until(PATIENCE, |counts| counts.answered_true >= 10)
            .await
            .expect("shares are answered");
    }
    // This is longer than any share here waits for its answer.
    site.pools[0].set_answer_delay(PATIENCE);
    miners[0]
        .until(PATIENCE, |counts| counts.outstanding >= 3)
        .await
        .expect("shares are in flight");
    site.pools[0].die().await;
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted >= before + 30)
        .await
        .expect("the other pool has them");

    let mut submitted = BTreeMap::new();
    for (index, miner) in miners.iter().enumerate() {
        submitted.insert(format!("acme.rig-{index}"), miner.stop().await.submitted);
    }
    let books = site.settle(miners).await;
    books.check();
    site.halt().await;

    let lines = site.share_log();
    let numbers: Vec<u64> =
        lines.iter().map(|line| line["seq"].as_u64().expect("numbered")).collect();
    assert!(
        numbers.iter().copied().eq(1..=lines.len() as u64),
        "in order, none missing, over all files"
    );
    let shares: Vec<&Value> = lines.iter().filter(|line| line["record"] == "share").collect();
    assert!(
        lines.iter().filter(|line| line["after"] == "rotation").count() > 0,
        "files were closed under way"
    );
    assert!(lines.iter().all(|line| line["record"] != "gap"));

    assert_eq!(shares.len() as u64, books.fleet.submitted, "one line for each submit");
    let by_worker: BTreeMap<String, u64> = count(&shares, "worker_name")
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    assert_eq!(by_worker, submitted, "each under the name it was submitted by");
    let verdicts = count(&shares, "verdict");
    let of = |verdict: &str| verdicts.get(verdict).copied().unwrap_or(0);
    let proxy = &books.proxy;
    assert_eq!(
        (
            of("accepted"),
            of("local") + of("at_risk"),
            of("pool_rejected"),
            of("unresolved"),
            of("stale"),
            of("duplicate")
        ),
        (
            proxy.accepted,
            proxy.local,
            proxy.pool_rejected,
            proxy.unresolved,
            proxy.stale,
            proxy.duplicate
        ),
        "{verdicts:?}"
    );
    assert!(proxy.local > 0 && proxy.unresolved > 0, "of several kinds: {verdicts:?}");
    let stop = lines.last().expect("a last line");
    assert_eq!(
        (&stop["record"], &stop["lost"], stop["shares"].as_object().map(|shares| shares.len())),
        (&"stop".into(), &0.into(), Some(verdicts.len()))
    );
    assert!(verdicts.iter().all(|(verdict, count)| stop["shares"][verdict] == *count), "{stop}");

    for (index, target) in ["a", "b"].into_iter().enumerate() {
        let taken =
            shares.iter().filter(|line| line["target"] == target && line["verdict"] == "accepted");
        let (count, work) = taken.fold((0, 0.0), |(count, work), line| {
            assert!(line["pool_job_id"].is_string() && line["job_id"].is_string(), "{line}");
            let found = line["share_difficulty"].as_f64().expect("known");
            let wanted = line["pool_difficulty"].as_f64().expect("known");
            assert!(
                found >= wanted && line["difficulty"].as_f64().expect("known") <= found,
                "{line}"
            );
            (count + 1, work + wanted)
        });
        let unresolved = shares
            .iter()
            .filter(|line| line["target"] == target && line["verdict"] == "unresolved")
            .count() as u64;
        let pool = &books.pools[index].total;
        assert!(
            count <= pool.accepted && pool.accepted <= count + unresolved,
            "{target}: {count} of {pool:?}"
        );
        if unresolved == 0 {
            assert!((work - pool.work).abs() <= pool.work * 1e-9, "{target}: {work} of {pool:?}");
        }
    }
    let refused = shares.iter().filter(|line| {
        !["accepted", "local", "at_risk"].contains(&line["verdict"].as_str().expect("text"))
    });
    assert!(refused.clone().all(|line| line["code"].is_i64() && line["reason"].is_string()));
    assert_eq!(refused.count() as u64, books.fleet.refused(), "the miners heard the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn submits_that_cannot_be_read_have_their_line_too() {
    let site = Site::start(Setup { share_log: true, ..Setup::default() }).await;
    let miner: TestMiner = site.miner(testbed::miner::Model::Cgminer411, "acme.rig");
    miner.until(PATIENCE, |counts| counts.answered_true >= 3).await.expect("it mines");
    let addr = site.proxy.addrs()[0];
    tokio::task::spawn_blocking(move || {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = std::net::TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut answers = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        for (line, id) in [
            (r#"{"id":1,"method":"mining.submit","params":["acme.x","1","00000000","6b49d200","00000000"]}"#, 1),
            (r#"{"id":2,"method":"mining.subscribe","params":["x\n\u001b[2J"]}"#, 2),
            (r#"{"id":3,"method":"mining.authorize","params":["acme.x","canary-s74"]}"#, 3),
            (r#"{"id":4,"method":"mining.submit","params":["acme.y","1","00000000","6b49d200","00000000"]}"#, 4),
            (r#"{"id":5,"method":"mining.submit","params":["acme.x","no\"such","00000000","6b49d200","00000000"]}"#, 5),
            (r#"{"id":6,"method":"mining.submit","params":["acme.x"]}"#, 6),
        ] {
            writeln!(stream, "{line}").expect("written");
            let answered = answers.find(|answer| {
                let answer: Value = serde_json::from_str(answer.as_ref().expect("an answer")).expect("JSON");
                answer["id"] == id
            });
            assert!(answered.is_some(), "{line}");
        }
    })
    .await
    .expect("all are answered");
    let books = site.settle(vec![miner]).await;
    site.halt().await;
    let lines = site.share_log();
    let shares: Vec<&Value> = lines.iter().filter(|line| line["record"] == "share").collect();
    assert_eq!(shares.len() as u64, books.fleet.submitted + 4);
    let reasons = count(&shares, "reason");
    for reason in
        ["submit_before_subscribe", "submit_unauthorized", "job_not_found", "submit_malformed"]
    {
        assert!(reasons.get(reason).is_some_and(|count| *count >= 1), "{reason}: {reasons:?}");
    }
    let text: String = lines.iter().map(Value::to_string).collect();
    assert!(!text.contains("canary-s74"), "S74: passwords are nobody's business");
}
