use std::sync::Arc;

use directive::{InProcess, Link as _, ProxyReport, Report, Serving, SessionReport, in_process};
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
    let (mut first, outlet) = in_process();
    let mut registry = Registry::default();
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy()), store, state, vec![outlet], &mut registry).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    let told = timeline(&mut first).await;
    assert_eq!(told.number.epoch, 1);
    let (mut second, outlet) = in_process();
    handle.attach(outlet).await.unwrap();
    assert_eq!(timeline(&mut second).await.number, told.number);

    stop.cancel();
    task.await.unwrap();
    assert!(matches!(handle.ask(Command::Head).await, Err(Stopped)));
    // The ledger is free again, and the next life has a higher epoch.
    let (store, state) = ledger(&dir);
    assert_eq!(state.epoch, 2);
    let (mut third, outlet) = in_process();
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
async fn whoever_joins_later_gets_no_permit_that_was_given_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = ledger(&dir);
    let (mut first, outlet) = in_process();
    // Without meters nothing stands against a raise.
    let policy = policy_with(|parts| parts.feeds.iter_mut().for_each(|feed| feed.meter = None));
    let (switchboard, handle) =
        Switchboard::new(Arc::new(policy), store, state, vec![outlet], &mut Registry::default())
            .unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(switchboard.run(stop.clone()));
    while first.latest().permit.is_none() {
        first.changed().await.unwrap();
    }
    let (mut second, outlet) = in_process();
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
    let (mut link, outlet) = in_process();
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
    let sessions = ["old.000", "old.001", "stranger"].map(session).to_vec();
    let report =
        ProxyReport { receiver: "p".into(), at: daemon::clock::wall(), number: None, sessions };
    assert!(link.report(Report::Proxy(report)));
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
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    stop.cancel();
    task.await.unwrap();
}
