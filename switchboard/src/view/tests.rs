//! Each answer's JSON is pinned by a file in `golden/`. `TIELINE_GOLDEN=write cargo test` writes
//! them anew: a change of a name or a type needs another [`API_VERSION`] and docs/api.md.

use std::collections::BTreeMap;
use std::path::Path;

use directive::{
    Action, AsleepBy, DeviceState, Generation, LedgerHead, MachineReport, Means, ReceiverRole,
    Serving, SessionReport, Watts,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::blackout::FeedSupply;
use crate::cause::OffBy;
use crate::commitment::{Doing, Phase, Unconfirmed};
use crate::machine_state::MachineState;
use crate::plausible::MeterState;
use crate::words::Named;

fn at(clock: &str) -> Timestamp {
    format!("2026-12-01T{clock}:00Z").parse().unwrap()
}

fn zone() -> String {
    "Europe/Oslo".to_owned()
}

fn shortage() -> Shortage {
    Shortage {
        feed: "xfmr-a".into(),
        from: at("06:00"),
        to: Some(at("18:00")),
        missing: Watts(8_700_000),
        machines_seen: 0,
        machines_failing: 0,
        machines_declared: 5400,
        known_since: Some(at("01:00")),
    }
}

fn lead() -> LeadView {
    LeadView {
        text: "191 s = …".to_owned(),
        total_secs: 191.0,
        shed: Watts(320_000),
        ramp_secs: 1.0,
        dispatch_secs: 0.0,
        shed_p95_secs: 60.0,
        settle_secs: 10.0,
        prove_for_secs: 60.0,
        margin_secs: 60.0,
    }
}

fn line() -> LineView {
    LineView {
        text: "xfmr-a from …".to_owned(),
        feed: "xfmr-a".into(),
        from: at("06:00"),
        to: at("18:00"),
        usable: Watts(20_000_000),
        house: Watts(100_000),
        committed: Watts(0),
        residual: Watts(162_000),
        unsheddable: Watts(3_000_000),
        unassigned: Watts(3500),
        available: Watts(16_734_500),
        asked: Watts(8_000_000),
        missing: Watts(0),
    }
}

fn lease_plan() -> LeasePlanView {
    LeasePlanView {
        machines_planned: 107,
        machines_starved: 7,
        shed: Watts(320_000),
        lead: lead(),
        latest_safe_start: at("05:56"),
    }
}

fn lease() -> LeaseView {
    let named = Named { count: 1, examples: vec!["acme.a21-0001".into()] };
    LeaseView {
        id: "nebula-7".into(),
        tenant: "Nebula".to_owned(),
        it: Watts(6_400_000),
        pue: 1.25,
        gross: Watts(8_000_000),
        feed: "xfmr-a".into(),
        start: at("06:00"),
        end: at("18:00"),
        ready_before_secs: 300,
        ready_from: at("05:55"),
        follows: Some("nebula-6".into()),
        accept_unverified: false,
        meter: Some("nebula".into()),
        committed_at: at("01:00"),
        cancelled_at: Some(at("17:00")),
        state: Phase::Armed,
        state_reason: "107 machines to go, the first at 2026-12-01 05:56".to_owned(),
        in_plan_from: Some(at("02:00")),
        latest_safe_start: Some(at("05:56")),
        unverified: false,
        unverified_why: None,
        unconfirmed: Some(Unconfirmed { since: at("05:58"), machines: named.clone() }),
        unconfirmed_at: Some(at("05:58")),
        breached: true,
        breaches: vec![BreachView {
            at: at("06:00"),
            since: Some(at("05:55")),
            missing: Watts(40_000),
            measured: true,
            doing: Some(Doing::Tenant),
            why: "not proven in time at …".to_owned(),
        }],
        proven_at: Some(at("05:59")),
        closed_at: Some(at("18:10")),
        short: Some(shortage()),
        not_back: named,
        machines_by_state: BTreeMap::from([(MachineState::Curtailed, 100)]),
        lease_plan: Some(lease_plan()),
    }
}

fn meter_view(scaled_up: bool) -> FeedMeterView {
    let why = "the meter of xfmr-b is implausible (scaled_up): it shows 58,180 kW where at most 180 kW are possible";
    FeedMeterView {
        meter: "feed".into(),
        state: if scaled_up { MeterState::ScaledUp } else { MeterState::Ok },
        since: at("02:00"),
        shown: scaled_up.then_some(Watts(58_180_000)),
        bound: scaled_up.then_some(Watts(180_000)),
        why: scaled_up.then(|| why.to_owned()),
        age_secs: Some(0.5),
        gap_secs: 1.0,
    }
}

fn short_lease() -> ShortLease {
    ShortLease { lease: "nebula-7".into(), tenant: "Nebula".to_owned(), short: shortage() }
}

fn number() -> Generation {
    Generation { epoch: 3, generation: 17 }
}

fn head() -> LedgerHead {
    LedgerHead { seq: 41, hash: "5f".repeat(32) }
}

fn plan() -> PlanView {
    let step = |at, failsafe: bool| StepView {
        at,
        group: "a21".into(),
        action: Action::Drain,
        means: Means::Device,
        machine_names: vec!["acme.a21-0001".into()],
        lease: (!failsafe).then(|| "nebula-7".into()),
        cause: (!failsafe).then_some(OffBy::Lease),
        feed: None,
        reason: "lease nebula-7 takes …".to_owned(),
        failsafe,
    };
    let room = RoomView {
        feed: "xfmr-a".into(),
        from: at("01:00"),
        to: at("06:00"),
        committed: Watts(0),
        left: Watts(19_900_000),
        mining: Watts(19_000_000),
    };
    PlanView {
        api_version: API_VERSION,
        timezone: zone(),
        number: number(),
        plan: Some(PlanBody {
            made_at: at("01:00"),
            horizon: at("23:00"),
            policy_digest: "ab".repeat(32),
            steps: vec![step(at("05:56"), false), step(at("23:00"), true)],
            rooms: vec![room],
            lease_plans: BTreeMap::from([("nebula-7".into(), lease_plan())]),
            deficits: vec![shortage()],
        }),
        short_leases: vec![short_lease()],
    }
}

fn status() -> StatusView {
    let notice =
        |file: &str| FileNotice { at: at("02:00"), file: file.to_owned(), why: "…".to_owned() };
    let counts =
        MachineCounts { declared: 5400, seen: 5200, hashing: 5000, asleep: 100, failing: 2 };
    StatusView {
        api_version: API_VERSION,
        site: "fjord".to_owned(),
        timezone: zone(),
        now: at("02:00"),
        policy_digest: "ab".repeat(32),
        policy_revision: Some(12),
        policy_refused: Some(notice("/etc/tieline/policy.toml")),
        configuration_not_applied: Some(notice("/etc/tieline/tieline.toml")),
        number: number(),
        horizon: Some(at("23:00")),
        ledger: LedgerView {
            seq: 41,
            hash: "5f".repeat(32),
            failure: Some("no room for the ledger: …".to_owned()),
        },
        raises_withheld: Some("the meter of feed xfmr-b is silent".to_owned()),
        meters_not_ok: vec![DoubtedMeter { feed: "xfmr-b".into(), meter: meter_view(true) }],
        receivers: vec![ReceiverView {
            receiver: "proxy".into(),
            role: ReceiverRole::Proxy,
            attached: true,
            at: at("02:00"),
            age_secs: 0.25,
            fresh: true,
            number: Some(number()),
            machines_by_serving: BTreeMap::from([(Serving::Working, 5000)]),
        }],
        leases_by_state: Phase::ALL.into_iter().map(|phase| (phase, 0)).collect(),
        short_leases: vec![short_lease()],
        deficits: vec![shortage()],
        machines_off_by_state: BTreeMap::from([(MachineState::Disobedient, 2)]),
        machines_off_by_cause: BTreeMap::from([
            (OffBy::Lease, OffCountView { count: 2, off: Watts(6040) }),
            (OffBy::NotByUs, OffCountView { count: 12, off: Watts(36_240) }),
        ]),
        machine_counts: counts,
        groups: vec![GroupView {
            group: "a21".into(),
            feed: "xfmr-a".into(),
            machine_counts: counts,
        }],
        newcomers: NewcomersView { waiting: 1, examples: vec!["a21-0117".into()] },
        unassigned: UnassignedView {
            waiting: 0,
            count: 4,
            examples: vec!["worker.1".into(), "worker.2".into(), "worker.3".into()],
            feed: "poi".into(),
            counted: Watts(14_000),
        },
        dead_feeds: vec![DeadFeedView {
            feed: "xfmr-c".into(),
            state: FeedSupply::Reclosing,
            since: at("01:20"),
            until: Some(at("02:01")),
        }],
        drivers_down: vec![DriverDownView {
            driver: "whatsminer".into(),
            since: at("11:59"),
            machines_reached: 640,
            machines_unanswered: 118,
            fault: Some("sleep: no answer within 10 s".into()),
        }],
        asleep_not_by_us: SleepersView {
            count: 12,
            machines: vec![SleeperView { machine: "acme.a21-0002".into(), since: at("01:00") }],
        },
        asleep_out_of_reach: SleepersView::default(),
    }
}

fn machines() -> MachinesAnswer {
    let machine = MachineView {
        machine: "acme.a21-0001".into(),
        group: Some("a21".into()),
        state: MachineState::Curtailed,
        chosen: vec![PeriodView {
            group: "a21".into(),
            lease: Some("nebula-7".into()),
            cause: OffBy::Lease,
            feed: None,
            at: at("05:56"),
            until: Some(at("18:00")),
            edge: Some(at("18:00")),
            means: Means::Device,
            passed_on: true,
        }],
        off: Some(OffView {
            cause: OffBy::Lease,
            lease: Some("nebula-7".into()),
            feed: None,
            since: Some(at("05:56")),
            why: "lease nebula-7 needs 8 MW at xfmr-a until …".to_owned(),
        }),
        session: Some(SessionReport {
            machine: "acme.a21-0001".into(),
            sessions: 1,
            serving: Serving::Parked,
            shares: 12,
            work: 98_304.0,
            last_share_at: Some(at("05:56")),
            still_hashing: 0,
        }),
        device: Some(MachineReport {
            machine: "acme.a21-0001".into(),
            state: DeviceState::Asleep,
            watts: Some(Watts(30)),
            read_at: Some(at("06:00")),
            slept_at: Some(at("05:56")),
            asleep_by: Some(AsleepBy::Us),
            unrecorded: true,
            failures: 1,
            fault: Some("timeout".to_owned()),
        }),
    };
    MachinesAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        machines: vec![machine],
        next: Some("acme.a21-0001".into()),
    }
}

fn adopted() -> AdoptedAnswer {
    let view = |machine: &str, state, waits_for: Option<&str>| AdoptedView {
        machine: machine.into(),
        state,
        waits_for: waits_for.map(str::to_owned),
    };
    AdoptedAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        machines: vec![
            view("acme.a21-0001", AdoptedState::WantedAsleep, Some("lease nebula-7 needs …")),
            view("acme.a21-0002", AdoptedState::Returning, None),
        ],
    }
}

fn feeds() -> FeedsAnswer {
    let feed = |metered: Option<i64>| FeedView {
        feed: "xfmr-a".into(),
        parent: Some("poi".into()),
        usable: Watts(20_000_000),
        usable_changes_at: None,
        usable_next: None,
        committed: Watts(8_000_000),
        metered: metered.map(Watts),
        headroom: metered.map(|watts| Watts(20_000_000 - watts)),
        measured_at: metered.map(|_| at("02:00")),
        meter_health: Some(meter_view(metered.is_none())),
        band: Watts(200_000),
        room: metered.map(|watts| Watts(20_000_000 - 200_000 - watts)),
        permitted: Watts(6000),
        machines_waiting: u32::from(metered.is_none()),
        supply: match metered {
            Some(_) => SupplyView::default(),
            None => SupplyView {
                state: FeedSupply::Dead,
                feed: Some("poi".into()),
                since: Some(at("01:40")),
                until: None,
            },
        },
        guard: metered.map(|_| FeedGuardView {
            agent: "agent".into(),
            state: directive::GuardState::Watching,
            guardable: Watts(9_000_000),
            wants: Watts::ZERO,
            acts: 2,
        }),
    };
    FeedsAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        feeds: vec![feed(Some(11_000_000)), feed(None)],
    }
}

fn admission() -> AdmissionAnswer {
    AdmissionAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        fits: true,
        gross: Watts(8_000_000),
        latest_safe_start: at("05:56"),
        lead: lead(),
        ready_from: at("05:55"),
        follows: Some("nebula-6".into()),
        short: Some(Shortage { known_since: None, ..shortage() }),
        short_leases: vec![short_lease()],
        arithmetic: vec![line()],
    }
}

fn amendment() -> AmendmentAnswer {
    AmendmentAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        id: "nebula-7".into(),
        feed: "xfmr-a".into(),
        gross: Watts(8_000_000),
        start: at("06:00"),
        end: at("20:00"),
        end_before: at("18:00"),
        short: Some(shortage()),
        short_leases: vec![short_lease()],
        arithmetic: vec![line()],
    }
}

fn error() -> ErrorAnswer {
    ErrorAnswer {
        error: ErrorView {
            code: "does_not_fit".to_owned(),
            message: "does not fit: …".to_owned(),
            field: Some("it_kw".to_owned()),
            mistakes: vec![MistakeView {
                field: "it_kw".to_owned(),
                message: "missing".to_owned(),
            }],
            feed: Some("xfmr-a".into()),
            from: Some(at("06:00")),
            to: Some(at("18:00")),
            missing_kw: Some(11.42),
            missing_watts: Some(Watts(11_420)),
            missing_secs: Some(30),
            latest_safe_start: Some(at("05:56")),
            arithmetic: vec![line()],
        },
    }
}

/// Compares an answer's JSON with its file, and reads it back.
fn pinned<T>(name: &str, answer: &T) -> Value
where
    T: serde::Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_value(answer).unwrap();
    let text = serde_json::to_string_pretty(&json).unwrap() + "\n";
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *answer, "{name} cannot be read back");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/view/golden/{name}.json"));
    if std::env::var("TIELINE_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{name}: the API's JSON changed");
    json
}

fn all_pinned() -> Vec<Value> {
    let leases = LeasesAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        leases: vec![lease()],
        total: 101,
        next: Some("7b22".to_owned()),
    };
    let one = LeaseAnswer {
        api_version: API_VERSION,
        timezone: zone(),
        lease: lease(),
        arithmetic: vec![line()],
    };
    vec![
        pinned("admission", &admission()),
        pinned("amendment", &amendment()),
        pinned("error", &error()),
        pinned("feeds", &feeds()),
        pinned("head", &HeadAnswer { api_version: API_VERSION, head: head() }),
        pinned("lease", &one),
        pinned("leases", &leases),
        pinned("adopted", &adopted()),
        pinned("machines", &machines()),
        pinned("plan", &plan()),
        pinned("status", &status()),
    ]
}

/// Notes the JSON type of every name; the keys of maps are no names.
fn note_types(value: &Value, types: &mut BTreeMap<String, &'static str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| note_types(item, types)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let kind = match value {
                    Value::Null => continue,
                    Value::Bool(_) => "true or false",
                    Value::Number(_) => "number",
                    Value::String(_) => "text",
                    Value::Array(_) => "list",
                    Value::Object(_) => "object",
                };
                let before = types.insert(name.clone(), kind);
                assert!(
                    before.is_none_or(|before| before == kind),
                    "{name}: {before:?} and {kind}"
                );
                let map = name.contains("_by_") || name == "lease_plans";
                match value.as_object().filter(|_| map) {
                    Some(map) => map.values().for_each(|value| note_types(value, types)),
                    None => note_types(value, types),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_json_is_as_pinned_and_a_name_has_one_type() {
    let mut types = BTreeMap::new();
    all_pinned().iter().for_each(|answer| note_types(answer, &mut types));
    assert!(types.len() > 100, "{}", types.len());
}

#[test]
fn power_has_both_units_and_every_answer_a_version() {
    for answer in all_pinned() {
        let mut types = BTreeMap::new();
        note_types(&answer, &mut types);
        let with = |suffix: &str| -> Vec<String> {
            types.keys().filter_map(|name| name.strip_suffix(suffix)).map(str::to_owned).collect()
        };
        assert_eq!(with("_kw"), with("_watts"), "{answer:#}");
        assert!(answer.get("error").is_some() || answer["api_version"] == API_VERSION);
    }
}

#[test]
fn power_that_must_be_known_is_missed() {
    let mut feed = serde_json::to_value(&feeds().feeds[1]).unwrap();
    assert_eq!((&feed["headroom_kw"], &feed["headroom_watts"]), (&Value::Null, &Value::Null));
    feed.as_object_mut().unwrap().remove("usable_watts");
    let missed = serde_json::from_value::<FeedView>(feed).unwrap_err();
    assert!(missed.to_string().contains("usable_watts"), "{missed}");
}
