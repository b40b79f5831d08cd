//! Sessions that do not belong to the machines that mine at the site: of names that no group matches,
//! and of names that one does.

use std::sync::Arc;
use std::time::Duration;

use directive::Watts;
use proxy::SessionState;
use serde_json::{Value, json};
use switchboard::core::Answer;
use testbed::miner::{MinerConfig, Model, TestMiner};

use crate::site::{PATIENCE, Setup, WholeSite, until};

const STRANGERS: usize = 30;

async fn change_policy(site: &WholeSite, text: &str) {
    let policy = switchboard::policy::parse(text, "policy.toml").expect("a sound policy");
    let handle = site.site.switchboard.clone().expect("a switchboard");
    let answer = handle.change_policy(Arc::new(policy)).await.expect("it runs");
    assert!(matches!(answer, Answer::Done), "{answer:?}");
}

/// Machines that draw nothing that a meter shows. Shares would prove that they do, and the meter wrong.
fn connect(site: &WholeSite, prefix: &str) -> Vec<TestMiner> {
    let addr = site.proxy().addrs()[0];
    let start = |number: usize| {
        let model = Model::ALL[number % Model::ALL.len()];
        let name = format!("{prefix}-{number}");
        TestMiner::start(MinerConfig { hashrate: 1e-3, ..MinerConfig::new(model, addr, name) })
    };
    (0..STRANGERS).map(start).collect()
}

/// Waits until every session of the site and of `strangers` has work, and says of those that have none why.
async fn until_all_work(site: &WholeSite, strangers: &[TestMiner]) {
    until("given work", || {
        if sessions(site, SessionState::Working) == STRANGERS + 10 {
            return Ok(());
        }
        let page = site.http.get("/v1/machines?limit=100");
        let waits = |one: &&Value| one["session"]["serving"] != "working";
        let waiting = page["machines"].as_array().into_iter().flatten().filter(waits);
        let (feeds, plan) = (site.http.get("/v1/feeds"), site.http.get("/v1/plan"));
        Err(json!([waiting.collect::<Vec<_>>(), feeds, plan, site.http.get("/v1/status")]))
    })
    .await;
    for stranger in strangers {
        stranger.until(PATIENCE, |counts| counts.mining > 0).await.expect("it gets work");
    }
}

/// How many sessions are in `state`.
fn sessions(site: &WholeSite, state: SessionState) -> usize {
    site.proxy().sessions().iter().filter(|session| session.state == state).count()
}

/// What a dry run of a lease finds available for it.
fn available(site: &WholeSite) -> Value {
    let start = daemon::clock::wall() + Duration::from_hours(1);
    let body = json!({
        "id": "asked", "tenant": "Nebula", "feed": "a", "it_kw": 8.0, "start": start,
        "end": start + Duration::from_hours(1), "meter": "tenant",
    });
    let (status, answer) = site.http.post("/v1/admit", &body);
    assert_eq!(status, 200, "{answer:#}");
    answer["arithmetic"][0]["available_watts"].clone()
}

/// Anybody who reaches the listener can open sessions. They get no work, and no machine of the site goes
/// to sleep for them. When a group takes their names, they mine as far as there is room.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_no_group_wait_and_are_no_load_until_a_group_takes_them() {
    let site = WholeSite::start(Setup::default()).await;
    let before = available(&site);
    let strangers = connect(&site, "stranger");
    until("shown", || {
        let unassigned = site.http.get("/v1/status")["unassigned"].clone();
        if unassigned["waiting"] == STRANGERS { Ok(()) } else { Err(unassigned) }
    })
    .await;
    let unassigned = site.http.get("/v1/status")["unassigned"].clone();
    assert_eq!((&unassigned["count"], &unassigned["counted_watts"]), (&json!(0), &json!(0)));
    assert_eq!(unassigned["examples"].as_array().map(Vec::len), Some(3), "{unassigned:#}");
    // The plan is made anew at least once in this time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(available(&site), before, "they are no load");
    assert!(site.asleep().is_empty());
    let states = |state| sessions(&site, state);
    assert_eq!((states(SessionState::Parked), states(SessionState::Working)), (STRANGERS, 10));
    for stranger in &strangers {
        assert_eq!((stranger.counts().mining, stranger.counts().answered_true), (0, 0));
    }

    // A group takes them, and their feed has no room for them.
    let claim = |setup: &Setup, revision| {
        let both = "match = [\"new-*\", \"stranger-*\"]";
        setup.policy(revision).replace("match = \"new-*\"", both)
    };
    change_policy(&site, &claim(&site.setup, 2)).await;
    until("claimed", || {
        let status = site.http.get("/v1/status");
        if status["unassigned"]["waiting"] == 0 { Ok(()) } else { Err(status) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((states(SessionState::Parked), states(SessionState::Working)), (STRANGERS, 10));
    assert!(site.asleep().is_empty());
    let roomy = Setup { usable: Watts(131_000), ..site.setup.clone() };
    change_policy(&site, &claim(&roomy, 3)).await;
    until_all_work(&site, &strangers).await;
    site.stop().await;
}

/// A name that a group matches is not enough for work. Machines that connect when the site is known wait
/// for room, and no machine goes to sleep for them.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_the_names_of_a_group_wait_for_room() {
    let site = WholeSite::start(Setup::default()).await;
    let known = |setup: &Setup, revision| {
        setup.policy(revision).replace("[site]\n", "[site]\ntake_over = \"0s\"\n")
    };
    change_policy(&site, &known(&site.setup, 2)).await;
    // The proxy hears at the next look that newcomers wait.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = available(&site);
    let strangers = connect(&site, "new-9");
    let waits = |count: usize| {
        let newcomers = site.http.get("/v1/status")["newcomers"].clone();
        if newcomers["waiting"] == count { Ok(()) } else { Err(newcomers) }
    };
    until("they wait", || waits(STRANGERS)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(available(&site), before, "they are no load");
    assert!(site.asleep().is_empty());
    let states = |state| sessions(&site, state);
    assert_eq!((states(SessionState::Parked), states(SessionState::Working)), (STRANGERS, 10));
    for stranger in &strangers {
        assert_eq!((stranger.counts().mining, stranger.counts().answered_true), (0, 0));
    }
    let roomy = Setup { usable: Watts(131_000), ..site.setup.clone() };
    change_policy(&site, &known(&roomy, 3)).await;
    until_all_work(&site, &strangers).await;
    site.stop().await;
}

/// A machine whose group is removed from the policy keeps its work as long as its session lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_loses_its_group_mines_on() {
    let site = WholeSite::start(Setup::default()).await;
    let text = site.setup.policy(2).replace("match = \"new-*\"", "match = \"other-*\"");
    change_policy(&site, &text).await;
    until("shown", || {
        let unassigned = site.http.get("/v1/status")["unassigned"].clone();
        let is_shown = unassigned["count"] == 4 && unassigned["counted_watts"] == 4 * 3500;
        if is_shown { Ok(()) } else { Err(unassigned) }
    })
    .await;
    for miner in &site.miners {
        let before = miner.counts().answered_true;
        miner.until(PATIENCE, |counts| counts.answered_true > before).await.expect("it mines on");
    }
    site.stop().await;
}
