use super::*;
use crate::golden::pinned;

/// A table of two feeds and one cohort.
pub(crate) fn table() -> GuardTable {
    let feed = |feed: &str, parent: Option<&str>| GuardFeed {
        feed: feed.into(),
        parent: parent.map(FeedId::from),
        owner: Some("agent".into()),
        meter: Some(MeterId::from(feed)),
        usable: Watts(60_000),
        rating: Watts(75_000),
        band: Watts(3_000),
        after: 2,
        lag_ms: 1_000,
        stale_after_ms: 15_000,
        changes: Vec::new(),
    };
    GuardTable {
        version: Generation { epoch: 3, generation: 12 },
        feeds: vec![feed("site", None), feed("xfmr-a", Some("site"))],
        cohorts: vec![GuardCohort {
            feed: "xfmr-a".into(),
            group: "s19".into(),
            frees: Watts(2_970),
            sheds_within_ms: 45_000,
            restores_within_ms: 120_000,
            machines: vec!["acme.rig-1".into(), "acme.rig-2".into()],
        }],
        ramp_per_min: Some(Watts(30_000)),
        step_max: None,
        suspect_max_pct: 25,
    }
}

#[test]
fn the_json_of_a_table_is_pinned_and_is_read_back() {
    pinned("guard_table", &table());
}

/// A table that a former version wrote, and a receiver kept, has no changes.
#[test]
fn a_table_without_changes_of_what_is_usable_is_as_it_was() {
    let mut table = table();
    let written = serde_json::to_string(&table).unwrap();
    assert!(!written.contains("changes"), "{written}");
    assert_eq!(serde_json::from_str::<GuardTable>(&written).unwrap(), table);
    let from = Timestamp::from_second(1_765_350_000).unwrap();
    table.feeds[1].changes = vec![UsableChange { from, usable: Watts(45_000) }];
    let written = serde_json::to_string(&table).unwrap();
    let change = r#""changes":[{"from":"2025-12-10T07:00:00Z","usable":45000}]"#;
    assert!(written.contains(change), "{written}");
    assert_eq!(serde_json::from_str::<GuardTable>(&written).unwrap(), table);
}

#[test]
fn a_table_above_a_bound_says_so() {
    let mut table = table();
    assert!(table.is_bounded());
    let cohort = table.cohorts[0].clone();
    table.cohorts[0].machines = vec!["a".into(); GuardTable::MACHINES_MAX];
    assert!(table.is_bounded());
    table.cohorts.push(cohort.clone());
    assert!(!table.is_bounded(), "machines");
    table.cohorts = vec![GuardCohort { machines: Vec::new(), ..cohort }; 100_001];
    assert!(!table.is_bounded(), "cohorts");
    table.cohorts = Vec::new();
    let change = UsableChange { from: Timestamp::UNIX_EPOCH, usable: Watts(1) };
    table.feeds[0].changes = vec![change; GuardTable::CHANGES_MAX];
    assert!(table.is_bounded());
    table.feeds[1].changes = vec![change];
    assert!(!table.is_bounded(), "changes");
    table.feeds.iter_mut().for_each(|feed| feed.changes.clear());
    table.feeds = vec![table.feeds[0].clone(); GuardTable::FEEDS_MAX + 1];
    assert!(!table.is_bounded(), "feeds");
}
