use serde_json::{Value, json};

use super::*;
use crate::golden::pinned;
use crate::{Action, Generation, LedgerHead, Means, Step};

fn downlink() -> Downlink {
    let number = Generation { epoch: 3, generation: 14 };
    let step = Step {
        at: "2026-12-01T05:55:00Z".parse().unwrap(),
        group: "s19".into(),
        action: Action::Drain,
        means: Means::Device,
        machines: vec!["acme.rig-1".into(), "acme.rig-2".into()],
        lease: Some("l-1".into()),
        reason: "6.8 kW for l-1 at xfmr-a".to_owned(),
    };
    let timeline = Timeline {
        number,
        issued_at: "2026-12-01T04:00:00Z".parse().unwrap(),
        horizon: "2026-12-04T04:00:00Z".parse().unwrap(),
        ledger_head: Some(LedgerHead { seq: 118, hash: "ab".repeat(32) }),
        steps: vec![step],
        holds_taken: [("agent".into(), 7)].into(),
    };
    Downlink {
        timeline: Some(Arc::new(timeline)),
        permit: Some(Permit {
            number,
            serial: 9,
            ttl_ms: 60_000,
            machines: Arc::new(BTreeSet::from(["rig".into()])),
        }),
        asleep: Arc::new(["acme.rig-1".into()].into()),
        owned: Some(Arc::new(
            [
                ("acme.rig-1".into(), "2026-12-01T05:55:01Z".parse().unwrap()),
                ("acme.rig-3".into(), "2026-11-30T22:00:00Z".parse().unwrap()),
            ]
            .into(),
        )),
        resync: 2,
        claims: Some(Arc::new(["acme.*", "rig"].into_iter().collect())),
        permitted: Some(Permitted::Only(Arc::new(["acme.rig-1".into(), "rig".into()].into()))),
        guard: Some(Arc::new(crate::guard::tests::table())),
    }
}

#[test]
fn its_json_is_pinned_and_is_read_back() {
    pinned("downlink", &downlink());
    let first: Downlink = serde_json::from_str("{}").unwrap();
    assert_eq!(first, Downlink::default(), "nothing was said yet");
}

#[test]
fn a_permit_that_is_not_understood_is_none_and_the_rest_counts() {
    for permit in [
        json!({"number": {"epoch": 3, "generation": 14}, "serial": 9, "ttl_ms": 60_000, "only": ["a"]}),
        json!({"number": {"epoch": 3, "generation": 14}, "serial": 9, "machines": ["a"]}),
        json!(["another form"]),
        Value::Null,
    ] {
        let mut json = serde_json::to_value(downlink()).unwrap();
        json["permit"] = permit.clone();
        let read: Downlink = serde_json::from_value(json).unwrap();
        assert_eq!(read, Downlink { permit: None, ..downlink() }, "{permit}");
    }
}

#[test]
fn a_permitted_set_that_is_not_understood_is_none_and_the_rest_counts() {
    for set in [json!({"only": ["a"], "until": 7}), json!("nobody"), Value::Null] {
        let mut json = serde_json::to_value(downlink()).unwrap();
        json["permitted"] = set.clone();
        let read: Downlink = serde_json::from_value(json).unwrap();
        assert_eq!(read, Downlink { permitted: None, ..downlink() }, "{set}");
    }
}
