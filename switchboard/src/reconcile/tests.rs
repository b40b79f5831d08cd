use std::sync::Arc;

use directive::{
    InProcess, Link as _, ReceiverRole, Report, ReportSender, Serving, SessionReport, Timeline,
    in_process,
};
use prometheus_client::encoding::text::encode;

use super::*;
use crate::fixture::{at, policy, policy_with};
use crate::ledger::SqliteLedger;

fn ledger(dir: &tempfile::TempDir) -> (SqliteLedger, LedgerState) {
    SqliteLedger::open(&dir.path().join("ledger.db"), at(0)).unwrap()
}

async fn timeline(link: &mut InProcess) -> Arc<Timeline> {
    loop {
        if let Some(timeline) = link.latest().timeline {
            return timeline;
        }
        link.changed().await.unwrap();
    }
}

#[tokio::test]
async fn receivers_are_told_at_once_and_also_when_they_join_later() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (mut first, outlet) = in_process("first".into(), ReceiverRole::Proxy);
    let mut registry = Registry::default();
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy()), store, state, vec![outlet], &mut registry).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    let told = timeline(&mut first).await;
    assert_eq!(told.number.epoch, 1);
    let (mut second, outlet) = in_process("second".into(), ReceiverRole::Proxy);
    handle.attach(outlet).await.unwrap();
    assert_eq!(timeline(&mut second).await.number, told.number);

    stop.cancel();
    task.await.unwrap();
    assert!(matches!(handle.ask(Command::Head).await, Err(Stopped)));
    // The ledger is released, and the next process begins a higher epoch.
    let (store, state) = ledger(&dir);
    assert_eq!(state.epoch, 2);
    let (mut third, outlet) = in_process("third".into(), ReceiverRole::Proxy);
    let (switchboard, _handle) =
        Switchboard::new(Arc::new(policy()), store, state, vec![outlet], &mut Registry::default())
            .unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    assert_eq!(timeline(&mut third).await.number.epoch, 2);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_commitment_that_is_being_written_at_a_stop_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy()), store, state, vec![], &mut Registry::default())
            .unwrap();
    let stop = CancellationToken::new();
    let start = daemon::clock::wall() + Duration::from_hours(20);
    let request = serde_json::from_value(serde_json::json!({
        "id": "l", "tenant": "t", "it_kw": 20.0, "feed": "a",
        "start": start.to_string(), "end": (start + Duration::from_hours(1)).to_string(),
    }));
    let command = Command::Commit(request.unwrap(), None);
    let asks = tokio::spawn({
        let (handle, stop) = (handle.clone(), stop.clone());
        async move {
            let answer = handle.ask(command);
            tokio::pin!(answer);
            // The command has gone out when it waits for its answer for the first time.
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = tokio::task::yield_now() => {}
            }
            stop.cancel();
            answer.await
        }
    });
    switchboard.run(stop).await;
    let answer = asks.await.unwrap();
    let (_, state) = ledger(&dir);
    match answer {
        Ok(Answer::Committed(_)) => assert!(state.leases.contains_key("l")),
        _ => assert!(!state.leases.contains_key("l"), "it is durable, and unanswered"),
    }
}

#[tokio::test]
async fn whoever_joins_later_gets_no_permit_that_was_given_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (mut first, outlet) = in_process("first".into(), ReceiverRole::Proxy);
    // Without meters, nothing prevents a raise.
    let policy = policy_with(|parts| parts.feeds.iter_mut().for_each(|feed| feed.meter = None));
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy), store, state, vec![outlet], &mut Registry::default())
            .unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    while first.latest().permit.is_none() {
        first.changed().await.unwrap();
    }
    let (mut second, outlet) = in_process("second".into(), ReceiverRole::Proxy);
    handle.attach(outlet).await.unwrap();
    timeline(&mut second).await;
    assert_eq!(second.latest().permit, None, "its life would begin anew");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn reports_become_machines_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (mut link, outlet) = in_process("link".into(), ReceiverRole::Proxy);
    let mut registry = Registry::default();
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy()), store, state, vec![outlet], &mut registry).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    timeline(&mut link).await;
    let session = |machine: &str| SessionReport {
        machine: machine.into(),
        sessions: 1,
        serving: Serving::Working,
        shares: 1,
        work: 1.0,
        last_share_at: None,
        still_hashing: 0,
    };
    let sessions = ["old.000", "old.001", "stranger"].map(session);
    let seen = sessions.iter().map(SessionReport::seen);
    let delta = ReportSender::new(1).report(seen, daemon::clock::wall(), None);
    assert!(link.report(Report::Sessions(delta)));
    let machines = loop {
        match handle.ask(Command::Machines { after: None, limit: 2 }).await.unwrap() {
            Answer::Machines(answer) if answer.machines.len() == 2 => break answer.machines,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(machines[1].machine.as_str(), "old.001");
    assert_eq!(machines[1].group.as_ref().map(directive::GroupId::as_str), Some("old"));
    drop(link);
    let text = loop {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        if text.contains("tieline_switchboard_unassigned 1") {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for line in [
        "tieline_switchboard_leases{state=\"active\"} 0",
        "tieline_switchboard_directives_total{outcome=\"sent\"}",
        "tieline_switchboard_usable_watts{feed=\"root\"} 100000",
        "tieline_switchboard_ledger_up 1",
        "tieline_switchboard_reports_total 1",
        "tieline_switchboard_links_total{outcome=\"attached\"} 1",
        "tieline_switchboard_full_reports_asked_total{reason=\"gap\"} 0",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_second_link_of_one_receiver_closes_the_first_and_one_of_another_role_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (mut first, outlet) = in_process("p".into(), ReceiverRole::Proxy);
    let mut registry = Registry::default();
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy()), store, state, vec![outlet], &mut registry).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    let told = timeline(&mut first).await;
    let (mut agent, outlet) = in_process("p".into(), ReceiverRole::Agent);
    handle.attach(outlet).await.unwrap();
    while agent.changed().await.is_ok() {}
    assert_eq!(agent.latest().timeline, None);
    let (mut second, outlet) = in_process("p".into(), ReceiverRole::Proxy);
    handle.attach(outlet).await.unwrap();
    assert_eq!(timeline(&mut second).await.number, told.number);
    while first.changed().await.is_ok() {}
    let text = loop {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        if text.contains("links_total{outcome=\"replaced\"} 1") {
            break text;
        }
        tokio::task::yield_now().await;
    };
    assert!(text.contains("links_total{outcome=\"refused\"} 1"), "{text}");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_full_report_is_asked_for_over_the_link_that_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (mut link, outlet) = in_process("p".into(), ReceiverRole::Proxy);
    let (mut other, other_outlet) = in_process("q".into(), ReceiverRole::Proxy);
    let outlets = vec![outlet, other_outlet];
    let (switchboard, _handle) =
        Switchboard::new(Arc::new(policy()), store, state, outlets, &mut Registry::default())
            .unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    let mut sender = ReportSender::new(1);
    let nothing: [directive::SeenSession<'_>; 0] = [];
    let lost = sender.report(nothing, daemon::clock::wall(), None);
    assert!(lost.full);
    sender.handed_over();
    let delta = sender.report(nothing, daemon::clock::wall(), None);
    assert!(link.report(Report::Sessions(delta)));
    while link.latest().resync == 0 {
        link.changed().await.unwrap();
    }
    assert_eq!(other.latest().resync, 0);
    stop.cancel();
    task.await.unwrap();
}
