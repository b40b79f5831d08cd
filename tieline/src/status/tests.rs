use std::collections::BTreeMap;

use directive::{Generation, GuardState, ReceiverRole, Watts};
use jiff::Timestamp;
use proxy::Hashrate;
use switchboard::cause::OffBy;
use switchboard::commitment::Phase;
use switchboard::plausible::MeterState;
use switchboard::view::{
    DoubtedMeter, DriverDownView, FeedGuardView, FeedMeterView, FeedView, FileNotice, GroupView,
    LedgerView, NewcomersView, ReceiverView, ShortLease, Shortage, SleeperView, SupplyView,
    UnassignedView,
};
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::times::Zone;

fn at(text: &str) -> Timestamp {
    format!("2026-{text}:00Z").parse().expect("a time")
}

/// Formats times for Chicago, where it is 05:31.
fn shown() -> Shown {
    Shown { zone: Zone::named("America/Chicago"), now: at("11-30T11:31") }
}

fn receiver(name: &str, role: ReceiverRole, age_secs: f64, fresh: bool) -> ReceiverView {
    ReceiverView {
        receiver: name.into(),
        role,
        attached: true,
        at: at("11-30T11:30"),
        age_secs,
        fresh,
        number: None,
        machines_by_serving: BTreeMap::new(),
    }
}

fn group(name: &str, feed: &str, counts: [u32; 5]) -> GroupView {
    let [declared, seen, hashing, asleep, failing] = counts;
    GroupView {
        group: name.into(),
        feed: feed.into(),
        machine_counts: MachineCounts { declared, seen, hashing, asleep, failing },
    }
}

fn site() -> StatusView {
    StatusView {
        api_version: 1,
        site: "childress".into(),
        timezone: "America/Chicago".into(),
        now: at("11-30T11:31"),
        policy_digest: "d".into(),
        policy_revision: Some(12),
        policy_refused: None,
        configuration_not_applied: None,
        number: Generation { epoch: 3, generation: 14 },
        horizon: Some(at("12-03T12:00")),
        ledger: LedgerView { seq: 12_345, hash: "h".into(), failure: None },
        raises_withheld: None,
        meters_not_ok: Vec::new(),
        receivers: vec![
            receiver("agent", ReceiverRole::Agent, 0.4, true),
            receiver("proxy", ReceiverRole::Proxy, 1.2, true),
        ],
        leases_by_state: Phase::ALL.into_iter().map(|phase| (phase, 0)).collect(),
        short_leases: Vec::new(),
        deficits: Vec::new(),
        machines_off_by_state: BTreeMap::new(),
        machines_off_by_cause: BTreeMap::new(),
        machine_counts: MachineCounts {
            declared: 7200,
            seen: 7100,
            hashing: 7010,
            asleep: 80,
            failing: 10,
        },
        groups: vec![
            group("s19jpro-a", "xfmr-a", [3600, 3550, 3500, 40, 10]),
            group("s21-b", "xfmr-b", [2400, 2400, 2390, 10, 0]),
            group("hosted-acme-with-a-very-long-name-indeed", "xfmr-b", [1200, 1150, 1120, 30, 0]),
        ],
        newcomers: NewcomersView::default(),
        unassigned: UnassignedView {
            waiting: 0,
            count: 0,
            examples: Vec::new(),
            feed: "poi".into(),
            counted: Watts::ZERO,
        },
        asleep_not_by_us: SleepersView::default(),
        asleep_out_of_reach: SleepersView::default(),
        dead_feeds: Vec::new(),
        drivers_down: Vec::new(),
    }
}

fn feed(name: &str, usable: i64, committed: i64, measured: Option<(i64, i64)>) -> FeedView {
    FeedView {
        feed: name.into(),
        parent: None,
        usable: Watts(usable),
        usable_changes_at: None,
        usable_next: None,
        committed: Watts(committed),
        metered: measured.map(|(metered, _)| Watts(metered)),
        headroom: measured.map(|(_, headroom)| Watts(headroom)),
        measured_at: None,
        meter_health: measured.map(|_| meter(MeterState::Ok, None)),
        band: Watts(usable / 100),
        room: measured.map(|(metered, _)| Watts(usable - usable / 100 - metered)),
        permitted: Watts::ZERO,
        machines_waiting: 0,
        supply: SupplyView::default(),
        guard: measured.map(|(metered, _)| FeedGuardView {
            agent: "agent".into(),
            state: if metered > usable { GuardState::Tripped } else { GuardState::Watching },
            guardable: Watts(metered / 2),
            wants: Watts::ZERO,
            acts: 0,
        }),
    }
}

fn meter(state: MeterState, why: Option<&str>) -> FeedMeterView {
    FeedMeterView {
        meter: "m".into(),
        state,
        since: at("11-30T11:20"),
        shown: None,
        bound: None,
        why: why.map(str::to_owned),
        age_secs: Some(0.8),
        gap_secs: 1.0,
    }
}

fn feeds() -> FeedsAnswer {
    FeedsAnswer {
        api_version: 1,
        timezone: "America/Chicago".into(),
        feeds: vec![
            feed("poi", 37_500_000, 8_000_000, Some((29_145_000, 8_355_000))),
            feed("xfmr-a", 19_750_000, 8_000_000, Some((12_000_000, -250_000))),
            feed("xfmr-b", 15_750_000, 0, None),
        ],
    }
}

fn told(site: &StatusView) -> String {
    let text = control_plane(site, &feeds(), &shown(), 80);
    for line in text.lines() {
        assert!(line.width() <= 80, "{line}");
    }
    text
}

#[test]
fn a_site_where_all_is_well() {
    insta::assert_snapshot!(told(&site()));
}

#[test]
fn meters_that_are_not_believed_are_named_with_their_figures() {
    let why = "the meter of xfmr-a is implausible (scaled_up): it shows 58,180 kW where at most \
               60 kW are possible";
    let mut site = site();
    let silent = meter(MeterState::Silent, None);
    site.meters_not_ok = vec![
        DoubtedMeter { feed: "xfmr-a".into(), meter: meter(MeterState::ScaledUp, Some(why)) },
        DoubtedMeter { feed: "xfmr-b".into(), meter: silent.clone() },
    ];
    let mut feeds = feeds();
    feeds.feeds[1].meter_health = Some(meter(MeterState::ScaledUp, Some(why)));
    (feeds.feeds[1].headroom, feeds.feeds[1].room) = (None, None);
    feeds.feeds[2].meter_health = Some(silent);
    let text = control_plane(&site, &feeds, &shown(), 120);
    insta::assert_snapshot!(text);
}

#[test]
fn the_next_change_of_a_limit_stands_below_the_feeds() {
    let mut feeds = feeds();
    let change = |feed: &mut FeedView, usable| {
        (feed.usable_changes_at, feed.usable_next) = (Some(at("12-10T12:00")), Some(Watts(usable)));
    };
    change(&mut feeds.feeds[0], 30_000_000);
    change(&mut feeds.feeds[2], 16_000_000);
    let text = control_plane(&site(), &feeds, &shown(), 80);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(": usable ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("poi: usable falls to 30,000 kW at "), "{lines:?}");
    assert!(lines[1].starts_with("xfmr-b: usable rises to 16,000 kW at "), "{lines:?}");
}

#[test]
fn feeds_without_power_are_named_with_since_when() {
    let mut site = site();
    let dead = |feed: &str, state, until: Option<&str>| DeadFeedView {
        feed: feed.into(),
        state,
        since: at("12-01T05:40"),
        until: until.map(at),
    };
    site.dead_feeds = vec![
        dead("xfmr-a", FeedSupply::Dead, None),
        dead("xfmr-b", FeedSupply::Reclosing, Some("12-01T06:02")),
        dead("xfmr-c", FeedSupply::Reclosing, None),
    ];
    let alarms = alarms(&site, &shown());
    let since = shown().moment(at("12-01T05:40"));
    let until = shown().moment(at("12-01T06:02"));
    let lines = [
        format!("feed xfmr-a has no power since {since}: nothing is raised there"),
        format!(
            "feed xfmr-b was without power from {since} on; nothing is raised there before {until}, \
             and not before it is steady"
        ),
        format!(
            "feed xfmr-c was without power from {since} on and has it again; nothing is raised there \
             before its meter is read and steady"
        ),
    ];
    assert!(lines.iter().all(|line| alarms.contains(line)), "{alarms:?}");
}

#[test]
fn what_needs_attention_comes_first() {
    let mut site = site();
    let short = Shortage {
        feed: "xfmr-a".into(),
        from: at("12-01T12:00"),
        to: None,
        missing: Watts(8_700_000),
        machines_seen: 0,
        machines_declared: 5400,
        machines_failing: 0,
        known_since: None,
    };
    site.short_leases = vec![ShortLease {
        lease: "nebula-7".into(),
        tenant: "Nebula".into(),
        short: short.clone(),
    }];
    site.deficits = vec![
        short,
        Shortage {
            feed: "poi".into(),
            from: at("11-30T12:00"),
            to: None,
            missing: Watts(400),
            machines_seen: 7100,
            machines_declared: 7200,
            machines_failing: 0,
            known_since: None,
        },
    ];
    site.policy_refused = Some(FileNotice {
        at: at("11-30T11:20"),
        file: "policy.toml".into(),
        why: "policy.toml:12:1: feed.poi.limit_kw: must be above 0, not -1\n\
              policy.toml:80:1: group.s19.match: no pattern"
            .into(),
    });
    site.raises_withheld = Some("the meter of feed xfmr-b is silent".into());
    site.ledger.failure = Some("the disk is full".into());
    site.newcomers =
        NewcomersView { waiting: 2, examples: vec!["a21-0117".into(), "a21-0118".into()] };
    site.unassigned = UnassignedView {
        waiting: 0,
        count: 41,
        examples: vec!["acme.x\u{1b}[1m".into(), "acme.y".into(), "bob".into()],
        feed: "poi".into(),
        counted: Watts(143_500),
    };
    let sleeper = |name: &str| SleeperView { machine: name.into(), since: at("11-30T09:15") };
    site.asleep_not_by_us =
        SleepersView { count: 12, machines: ["a", "b", "c"].map(sleeper).to_vec() };
    site.asleep_out_of_reach = SleepersView { count: 1, machines: vec![sleeper("old-7")] };
    site.drivers_down = vec![DriverDownView {
        driver: "whatsminer".into(),
        since: at("11-30T11:58"),
        machines_reached: 2400,
        machines_unanswered: 118,
        fault: Some("sleep: no answer within 10 s".into()),
    }];
    site.receivers[0].fresh = false;
    site.receivers[0].age_secs = 135.0;
    site.leases_by_state.insert(Phase::Planned, 1);
    let text = told(&site);
    assert!(
        text.contains("short 8,700 kW at xfmr-a from 2026-12-01 06:00 (0 of 5,400 machines seen)"),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

/// The view of a target that miners share.
pub(crate) fn target(name: &str, up: bool, active: bool, fault: Option<&str>) -> TargetView {
    TargetView {
        name: name.into(),
        address: "127.0.0.1:3333".into(),
        tls: None,
        active,
        passthrough: false,
        disabled: false,
        up,
        quiet: false,
        quarantined: false,
        connections: u32::from(up),
        sessions: if active { 7010 } else { 0 },
        difficulty: up.then_some(65_536.0),
        extranonce1_size: Some(4),
        extranonce2_size: Some(8),
        last_fault: fault.map(str::to_owned),
    }
}

#[test]
fn the_proxys_part() {
    let targets = [
        target("pool-a", true, true, None),
        target("pool-b", true, false, None),
        target("pool-c", false, false, Some("connection refused")),
        TargetView { passthrough: true, sessions: 12, ..target("hash-market", true, false, None) },
        TargetView { passthrough: true, ..target("idle-market", true, false, None) },
        TargetView { disabled: true, ..target("pool-d", false, false, None) },
    ];
    let down: Vec<_> = targets.iter().filter(|target| target.is_down()).collect();
    assert_eq!(down, [&targets[2]], "a disabled target is not down");
    let counts = Counts { accepted: 1_234_567, local: 89, stale: 12, ..Counts::default() };
    let workers = Workers {
        page: proxy::Listing { total: 7010, offset: 0, next: None, items: Vec::new() },
        hashrate: Hashrate { m1: 0.0, m10: 7.2e17, h1: 0.0 },
    };
    let text = data_plane(&targets, &counts, &workers, 80);
    for line in text.lines() {
        assert!(line.width() <= 80, "{line}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn why_machines_are_off_is_a_table_with_their_power() {
    let off = |count, off| OffCountView { count, off: Watts(off) };
    let site = StatusView {
        machines_off_by_cause: BTreeMap::from([
            (OffBy::Lease, off(1200, 3_648_000)),
            (OffBy::Stays, off(40, 121_600)),
            (OffBy::Load, off(3, 9120)),
            (OffBy::Guard, off(1, 3040)),
            (OffBy::Room, off(2, 6080)),
            (OffBy::NotByUs, off(1, 3040)),
        ]),
        ..site()
    };
    let feeds = FeedsAnswer { api_version: 1, timezone: String::new(), feeds: Vec::new() };
    let text = control_plane(&site, &feeds, &shown(), 100);
    let from = text.find("off by cause").expect("there is a table");
    let table: Vec<Vec<&str>> =
        text[from..].lines().take(8).map(|line| line.split("  ").collect()).collect();
    let table: Vec<Vec<&str>> = table
        .into_iter()
        .map(|row| row.into_iter().map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        table,
        [
            vec!["off by cause", "machines", "off kW"],
            vec!["lease", "1,200", "3,648"],
            vec!["stays off for the next lease", "40", "122"],
            vec!["load of the feed", "3", "9.1"],
            vec!["guard", "1", "3.0"],
            vec!["waiting for room", "2", "6.1"],
            vec!["not by us", "1", "3.0"],
            vec!["all", "1,247", "3,791"],
        ],
        "{text}"
    );
    let none = control_plane(&self::site(), &feeds, &shown(), 100);
    assert!(!none.contains("off by cause"), "{none}");
}
