//! Mistakes in policies: each is reported with its line, column and key, and with what was probably
//! meant.

use std::time::Duration;

use directive::{GroupId, MeterId, Watts};
use proptest::prelude::*;

use super::*;

/// A valid policy; each test breaks one line of it. Line 1 is `schema`.
const GOOD: &str = r#"schema = "tieline.policy/1"
[site]
name = "demo"
timezone = "America/Chicago"
[feed.xfmr-a]
parent = "poi"
limit_kw = 500
house_kw = 20
default_constraint_kw = 300
meter = "a"
[feed.poi]
limit_kw = 1000
reserve_kw = 50
[meter.a]
# Longer than the meter needs.
stale_after = "45s"
[group.old]
feed = "xfmr-a"
match = ["old-*", "ancient-*"]
machines = 100
asic_kw = 3
j_per_th = 30
residual_kw = 0.05
shed_p95 = "25s"
driver = "minerctl"
restore_p95 = "10m"
min_up = "10m"
min_down = "5m"
# No driver commands these.
[group.new]
feed = "xfmr-a"
match = "new-*"
machines = 10
asic_kw = 3.5
j_per_th = 17.5
[dispatch]
merit = "j-per-th"
[failsafe]
permit_ttl = "60s"
"#;

fn broken(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} must stand in the good policy once");
    GOOD.replace(from, to)
}

fn told(text: &str) -> Vec<String> {
    match parse(text, "p.toml") {
        Ok(policy) => panic!("taken: {policy:?}"),
        Err(mistakes) => mistakes.list().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_sound_policy_is_read_into_watts_with_its_defaults() {
    let policy = parse(GOOD, "etc/p.toml").unwrap();
    assert_eq!((policy.facility.site(), policy.revision), ("demo", None));
    assert_eq!(policy.digest, const_hex::encode(Sha256::digest(GOOD)));
    assert_eq!(policy.facility.timezone_name(), "America/Chicago");
    let facility = &policy.facility;
    let unassigned_feed = &facility.feeds()[facility.unassigned_feed()];
    assert_eq!((facility.unassigned(), unassigned_feed.id.as_str()), (Watts(3500), "poi"));
    let feeds: Vec<&str> = policy.facility.feeds().iter().map(|feed| feed.id.as_str()).collect();
    assert_eq!(feeds, ["poi", "xfmr-a"], "parents come first, whatever the order of the file");
    assert_eq!(facility.feeds().as_slice()[0].most_usable(), Watts(750_000));
    assert_eq!(facility.feeds().as_slice()[1].default_constraint, Some(Watts(300_000)));
    let old = policy.facility.group(&GroupId::from("old")).unwrap();
    assert_eq!((old.watts, old.residual, old.machines), (Watts(3000), Watts(50), 100));
    assert_eq!((old.poolless, old.idle_at_most()), (None, Watts(3000)));
    let known = GOOD.replace("residual_kw = 0.05", "residual_kw = 0.05\npoolless_kw = 3");
    let known = parse(&known, "p.toml").expect("a machine may draw all of its power without work");
    let old = known.facility.group(&GroupId::from("old")).unwrap();
    assert_eq!(old.poolless, Some(Watts(3000)));
    assert_eq!(
        (old.shed_p95, old.min_up),
        (Some(Duration::from_secs(25)), Duration::from_secs(600))
    );
    assert!(old.backs_firm());
    assert_eq!(old.driver.as_deref(), Some("minerctl"));
    assert!(!policy.facility.groups()[1].backs_firm());
    let meter = &policy.facility.meters()[&MeterId::from("a")];
    assert_eq!(meter.stale_after.as_secs(), 45);
    assert_eq!(
        (policy.dispatch.merit, policy.dispatch.settle.as_secs()),
        (Merit::JoulesPerTerahash, 20)
    );
    assert_eq!(
        policy.failsafe.permit_every,
        Duration::from_secs(15),
        "a quarter of the permit's life"
    );
    assert_eq!(policy.reclose_settle, Duration::from_secs(60));
    assert_eq!(policy.ramp.up_per_min, Watts(5_000_000));
}

#[test]
fn each_mistake_is_told_with_line_column_key_and_what_was_meant() {
    for (from, to, want) in [
        // Mistakes of the file as a whole.
        ("schema = \"tieline.policy/1\"", "", "p.toml:1:1: schema: missing"),
        (
            "tieline.policy/1",
            "tieline.policy/2",
            "p.toml:1:10: schema: \"tieline.policy/2\" is no schema this version reads, did you mean \"tieline.policy/1\"?",
        ),
        (
            "[dispatch]",
            "[dispach]",
            "p.toml:36:2: dispach: unknown key, did you mean \"dispatch\"?",
        ),
        // Mistakes in the site's section.
        ("name = \"demo\"", "", "p.toml:2:1: site.name: missing"),
        (
            "America/Chicago",
            "America/Chicagoo",
            "p.toml:4:12: site.timezone: \"America/Chicagoo\" is no time zone this machine knows, did you mean \
             \"America/Chicago\"?",
        ),
        (
            "timezone = \"America/Chicago\"",
            "unassigned_feed = \"poj\"",
            "p.toml:4:19: site.unassigned_feed: there is no [feed.poj], did you mean \"poi\"?",
        ),
        (
            "timezone = \"America/Chicago\"",
            "unassigned_w = 3",
            "p.toml:4:1: site.unassigned_w: was renamed to \"unassigned_kw\"",
        ),
        // Mistakes in feeds.
        (
            "parent = \"poi\"",
            "parent = \"pio\"",
            "p.toml:6:10: feed.xfmr-a.parent: there is no [feed.pio], did you mean \"poi\"?",
        ),
        (
            "parent = \"poi\"",
            "parent = \"grid\"",
            "p.toml:6:10: feed.xfmr-a.parent: there is no [feed.grid]",
        ),
        (
            "parent = \"poi\"",
            "",
            "p.toml:11:1: feed.poi.parent: a second feed without a parent: [feed.xfmr-a] is the root already",
        ),
        (
            "reserve_kw = 50",
            "parent = \"xfmr-a\"",
            "p.toml:6:10: feed.xfmr-a.parent: the feeds form a circle: xfmr-a -> poi -> xfmr-a",
        ),
        (
            "parent = \"poi\"",
            "parent = \"xfmr-a\"",
            "p.toml:6:10: feed.xfmr-a.parent: the feeds form a circle: xfmr-a -> xfmr-a",
        ),
        ("limit_kw = 500", "limit_kv = 500", "p.toml:5:1: feed.xfmr-a.limit_kw: missing"),
        (
            "limit_kw = 500",
            "limit_kw = nan",
            "p.toml:7:12: feed.xfmr-a.limit_kw: NaN is not a finite number",
        ),
        ("limit_kw = 500", "limit_kw = -1", "p.toml:7:12: feed.xfmr-a.limit_kw: -1 kW is negative"),
        (
            "limit_kw = 500",
            "limit_kw = 1e18",
            "p.toml:7:12: feed.xfmr-a.limit_kw: 1000000000000000000 kW is more than 1000000000 kW, which no site draws",
        ),
        (
            "limit_kw = 1000",
            "limit_kw = 0",
            "p.toml:12:12: feed.poi.limit_kw: house 0.000 kW + reserve 50.000 kW is more than the limit 0.000 kW",
        ),
        (
            "reserve_kw = 50",
            "reserve_kw = 800",
            "p.toml:12:12: feed.poi.limit_kw: nothing is usable: 1000.000 kW x 0.8 - reserve 800.000 kW = 0.000 kW",
        ),
        (
            "reserve_kw = 50",
            "house_kw = 790",
            "p.toml:13:12: feed.poi.house_kw: the house load here and below, 810.000 kW, is more than the usable 800.000 kW",
        ),
        (
            "reserve_kw = 50",
            "continuous_factor = 1.25",
            "p.toml:13:21: feed.poi.continuous_factor: 1.25 is outside 0 to 1",
        ),
        (
            "default_constraint_kw = 300",
            "default_constraint_kw = 401",
            "p.toml:9:25: feed.xfmr-a.default_constraint_kw: 401.000 kW is more than the usable 400.000 kW = 500.000 kW x \
             0.8 - reserve 0.000 kW",
        ),
        (
            "default_constraint_kw = 300",
            "default_constraint_kw = 19.9",
            "p.toml:9:25: feed.xfmr-a.default_constraint_kw: 19.900 kW is less than the house load here and below, 20.000 kW",
        ),
        (
            "reserve_kw = 50",
            "default_constraint_kw = 10",
            "p.toml:13:25: feed.poi.default_constraint_kw: 10.000 kW is less than the house load here and below, 20.000 kW",
        ),
        (
            "default_constraint_kw = 300",
            "",
            "p.toml:5:1: feed.xfmr-a.default_constraint_kw: missing: [group.old] hangs here and needs a ceiling for when \
             the plan has run out",
        ),
        (
            "meter = \"a\"",
            "meter = \"a meter\"",
            "p.toml:10:9: feed.xfmr-a.meter: a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        ),
        // Mistakes in meters.
        (
            "stale_after = \"45s\"",
            "stale_after = \"5h\"",
            "p.toml:16:15: meter.a.stale_after: \"5h\" is outside 100ms to 4h",
        ),
        (
            "stale_after = \"45s\"",
            "period = \"5s\"",
            "p.toml:16:10: meter.a.period: stands in [meter.a] of the configuration",
        ),
        // Mistakes in groups.
        (
            "feed = \"xfmr-a\"\nmatch = [",
            "feed = \"xfmr-b\"\nmatch = [",
            "p.toml:18:8: group.old.feed: there is no [feed.xfmr-b], did you mean \"xfmr-a\"?",
        ),
        ("feed = \"xfmr-a\"\nmatch = [", "match = [", "p.toml:17:1: group.old.feed: missing"),
        (
            "feed = \"xfmr-a\"\nmatch = [",
            "feed = 5\nmatch = [",
            "p.toml:18:8: group.old.feed: expected a string, found an integer",
        ),
        ("[\"old-*\", \"ancient-*\"]", "[]", "p.toml:19:9: group.old.match: must not be empty"),
        ("\"ancient-*\"", "\"\"", "p.toml:19:9: group.old.match: must not hold an empty string"),
        (
            "\"new-*\"",
            "[\"new-*\", \"old-*\"]",
            "p.toml:32:19: group.new.match: the pattern \"old-*\" stands in [group.old] already",
        ),
        (
            "\"ancient-*\"",
            "\"**\"",
            "p.toml:32:9: group.new.match: never reached: [group.old] above takes every worker",
        ),
        (
            "machines = 100",
            "machines = 0",
            "p.toml:20:12: group.old.machines: 0 is outside 1 to 1000000",
        ),
        (
            "machines = 100",
            "machines = 1.5",
            "p.toml:20:12: group.old.machines: expected an integer, found a float",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 3",
            "p.toml:23:15: group.old.residual_kw: residual 3.000 kW is not below what one machine draws: nothing would be \
             freed",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 15",
            "p.toml:23:15: group.old.residual_kw: 15.000 kW is not below asic_kw 3.000 kW; it looks like watts: write 0.015",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 30",
            "p.toml:23:15: group.old.residual_kw: 30 kW is outside 0 to 20; it looks like watts: write 0.03",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 0.05\npoolless_kw = 3.1",
            "p.toml:24:15: group.old.poolless_kw: 3.100 kW is above asic_kw 3.000 kW: a machine draws no more without \
             work than with it",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 0.05\npoolless_kw = 18",
            "p.toml:24:15: group.old.poolless_kw: 18.000 kW is above asic_kw 3.000 kW; it looks like watts: write 0.018",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 0.05\npoolless_kw = 1800",
            "p.toml:24:15: group.old.poolless_kw: 1800 kW is outside 0 to 20; it looks like watts: write 1.8",
        ),
        (
            "residual_kw = 0.05",
            "residual_kw = 0.05\npoolless_kw = 0.04",
            "p.toml:24:15: group.old.poolless_kw: 0.040 kW is below residual_kw 0.050 kW: a machine draws no less awake \
             than asleep",
        ),
        (
            "asic_kw = 3.5",
            "asic_kw = 3250",
            "p.toml:34:11: group.new.asic_kw: 3250 kW is outside 0.05 to 20; it looks like watts: write 3.25",
        ),
        (
            "asic_kw = 3.5",
            "asic_kw = 0",
            "p.toml:34:11: group.new.asic_kw: 0 kW is outside 0.05 to 20, the power of one machine",
        ),
        (
            "timezone = \"America/Chicago\"",
            "unassigned_kw = 3500",
            "p.toml:4:17: site.unassigned_kw: 3500 kW is outside 0.05 to 20; it looks like watts: write 3.5",
        ),
        (
            "America/Chicago",
            "CST",
            "p.toml:4:12: site.timezone: \"CST\" is no time zone this machine knows, did you mean \"America/Chicago\"?",
        ),
        // Mistakes in patterns.
        (
            "\"new-*\"",
            "[\"new-*\", \"old-21-*\"]",
            "p.toml:32:19: group.new.match: never reached: \"old-*\" of [group.old] on line 19 takes every name that \
             \"old-21-*\" does, and the first group that matches wins; put [group.new] above it",
        ),
        (
            "\"new-*\"",
            "\"^new-\\\\d+\"",
            "p.toml:32:9: group.new.match: \"^new-\\\\d+\" looks like a regular expression, but a pattern is a glob: * is any \
             run of characters, ? is any one, did you mean \"new-*\"?",
        ),
        (
            "\"new-*\"",
            "\".*\"",
            "p.toml:32:9: group.new.match: \".*\" looks like a regular expression, but a pattern is a glob: * is any run of \
             characters, ? is any one, did you mean \"*\"?",
        ),
        (
            "\"new-*\"",
            "\"(new|newer)-[0-9]\"",
            "p.toml:32:9: group.new.match: \"(new|newer)-[0-9]\" looks like a regular expression, but a pattern is a glob: * \
             is any run of characters, ? is any one; write [\"new-?\", \"newer-?\"]",
        ),
        (
            "shed_p95 = \"25s\"",
            "shed_p95 = \"25\"",
            "p.toml:24:12: group.old.shed_p95: \"25\" is not a duration; write a number with its unit, such as \"25s\", \
             \"9m\" or \"1h30m\"",
        ),
        (
            "shed_p95 = \"25s\"",
            "shed_p59 = \"25s\"",
            "p.toml:24:1: group.old.shed_p59: unknown key, did you mean \"shed_p95\"?",
        ),
        (
            "driver = \"minerctl\"",
            "drivr = \"minerctl\"",
            "p.toml:25:1: group.old.drivr: unknown key, did you mean \"driver\"?",
        ),
        (
            "driver = \"minerctl\"",
            "driver = \"miner ctl\"",
            "p.toml:25:10: group.old.driver: a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        ),
        (
            "driver = \"minerctl\"",
            "driver = \"minerctl\"\nactuator = { kind = \"exec\" }",
            "p.toml:26:12: group.old.actuator: is the former spelling of `driver`, which this group has too",
        ),
        (
            "name = \"demo\"",
            "name = \"demo\"\nreclose_settle = \"61m\"",
            "p.toml:4:18: site.reclose_settle: \"61m\" is outside 0s to 1h",
        ),
        // Mistakes in rules.
        (
            "merit = \"j-per-th\"",
            "merit = \"jpth\"",
            "p.toml:37:9: dispatch.merit: \"jpth\" is none of \"margin-per-kw\", \"j-per-th\", \"listed\"",
        ),
        (
            "permit_ttl = \"60s\"",
            "permit_ttl = \"3m\"",
            "p.toml:39:14: failsafe.permit_ttl: \"3m\" is outside 5s to 2m",
        ),
        (
            "permit_ttl = \"60s\"",
            "permit_ttl = \"4s\"",
            "p.toml:39:14: failsafe.permit_ttl: \"4s\" is outside 5s to 2m",
        ),
        (
            "permit_ttl = \"60s\"",
            "permit_every = \"41s\"",
            "p.toml:39:16: failsafe.permit_every: permit_every must be at most a third of permit_ttl, 40.0 s",
        ),
        (
            "permit_ttl = \"60s\"",
            "[ramp]\nup_kw_per_min = 0",
            "p.toml:40:17: ramp.up_kw_per_min: must be above 0, or load could never move",
        ),
    ] {
        let found = told(&broken(from, to));
        assert_eq!(found[0], want, "{to}");
        // A misspelt key causes two mistakes: the missing key and the unknown one.
        let expected = 1 + usize::from(to.contains("limit_kv"));
        assert_eq!(found.len(), expected, "no echoes: {found:#?}");
    }
}

/// Each warning has its place, and the policy is still used.
#[test]
fn each_warning_is_told_with_its_place_and_keeps_no_policy_from_being_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    let warned = |from: &str, to: &str| -> Vec<String> {
        assert_eq!(GOOD.matches(from).count(), 1, "{from:?} must stand in the policy once");
        std::fs::write(&file, GOOD.replace(from, to)).unwrap();
        let checked = check(&file);
        checked.policy.unwrap_or_else(|mistakes| panic!("{to}: {mistakes}"));
        let place = format!("{}:", file.display());
        let lines = checked.warnings.list().iter().map(ToString::to_string);
        lines.map(|line| line.replace(&place, "")).collect()
    };
    assert_eq!(warned("demo", "demo"), [""; 0], "a sound policy has no warning");
    for (from, to, want) in [
        (
            "machines = 100\n",
            "machines = 130\n",
            "7:12: warning: feed.xfmr-a.limit_kw: the declared load here and below is 445.000 kW (140 machines 425.000 kW, house \
             20.000 kW), 45.000 kW more than the usable 400.000 kW = 500.000 kW x 0.8 - reserve 0.000 kW: not all machines can \
             run at once",
        ),
        (
            "limit_kw = 1000",
            "limit_kw = 40_000_000",
            "12:12: warning: feed.poi.limit_kw: 40000000.000 kW is more than any site draws; if it is in watts, write 40000",
        ),
        (
            "reserve_kw = 50",
            "meter = \"a\"",
            "13:9: warning: feed.poi.meter: [meter.a] measures [feed.xfmr-a] already: it can hardly measure both",
        ),
        (
            "\"new-*\"",
            "\"Old-*\"",
            "32:9: warning: group.new.match: differs from \"old-*\" of [group.old] in upper and lower case only: worker names \
             are case-sensitive",
        ),
        (
            "\"new-*\"",
            "\"new-*, newer-*\"",
            "32:9: warning: group.new.match: \"new-*, newer-*\" is one pattern, in which a comma is a character like any \
             other; write a list: [\"new-*\", \"newer-*\"]",
        ),
        (
            "\"new-*\"",
            "\"new-* \"",
            "32:9: warning: group.new.match: \"new-* \" matches only names that begin or end with a space, did you mean \
             \"new-*\"?",
        ),
        (
            "j_per_th = 17.5",
            "j_per_th = 17.5\nshed_p95 = \"5s\"",
            "36:12: warning: group.new.shed_p95: has no effect without `driver`: machines that can only be starved of work \
             back no firm lease",
        ),
        (
            "j_per_th = 17.5",
            "j_per_th = 0.5",
            "35:12: warning: group.new.j_per_th: 0.5 J/TH at 3.500 kW would be 7000.0 TH/s: is the figure in joules per \
             terahash?",
        ),
        (
            "America/Chicago",
            "EST",
            "4:12: warning: site.timezone: \"EST\" stays on standard time all year, did you mean \"America/New_York\"?",
        ),
    ] {
        assert_eq!(warned(from, to), [want], "{to}");
    }
}

#[test]
fn patterns_of_one_group_do_not_hide_each_other() {
    assert!(parse(&broken("\"ancient-*\"", "\"old-21-*\""), "p.toml").is_ok());
    // A wider pattern may come later: the first matching group wins.
    assert!(parse(&broken("\"new-*\"", "\"*-*\""), "p.toml").is_ok());
    let twice = told(&broken("\"new-*\"", "[\"ancient-1\", \"old-2?\", \"new-*\"]"));
    assert_eq!(twice.len(), 2, "{twice:#?}");
}

#[test]
fn a_policy_is_known_when_it_is_seen() {
    let is = |text: &str| is_policy(&Document::parse("x.toml", text).unwrap());
    assert!(is(GOOD) && is("schema = \"tieline.policy/2\"\n") && is("[feed.a]\nlimit_kw = 5\n"));
    assert!(!is("[[server]]\nname = \"a\"\n") && !is("[feed.a]\n[[target]]\n") && !is(""));
    assert!(!is("schema = \"tieline.other/1\"\n[feed.a]\n"));
}

#[test]
fn a_fleet_that_no_site_has_is_refused() {
    let mut text = GOOD.to_owned();
    for n in 0..51 {
        let group = "machines = 1_000_000\nasic_kw = 20\nj_per_th = 20\n";
        text.push_str(&format!("[group.g{n}]\nfeed = \"xfmr-a\"\nmatch = \"g{n}-*\"\n{group}"));
    }
    let found = told(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    let want = "group.g49.machines: the groups up to here draw more than 1000000000.000 kW, which no site does";
    assert!(found[0].ends_with(want), "{found:?}");
}

#[test]
fn ten_thousand_groups_are_judged() {
    let mut text = GOOD.to_owned();
    for n in 0..10_000 {
        text.push_str(&format!("[group.g{n}]\nfeed=\"xfmr-a\"\nmatch=\"*{n}-*\"\n"));
    }
    // Comparing each pattern with all others would take minutes. Each group lacks three keys; those
    // mistakes are reported, together with hidden patterns.
    assert_eq!(parse(&text, "p.toml").unwrap_err().list().len(), 200);
}

#[test]
fn a_site_without_feeds_or_groups_is_refused() {
    for text in ["", "# only a comment\n"] {
        assert_eq!(
            told(text),
            [
                "p.toml:1:1: schema: missing",
                "p.toml:1:1: feed: no feeds: write a [feed.NAME] section for each electrical node",
                "p.toml:1:1: group: no groups: write a [group.NAME] section for each kind of machine at each feed",
                "p.toml:1:1: site: missing; write a [site] section",
            ]
        );
    }
    let nameless = "schema = \"tieline.policy/1\"\n[site]\nname = \"x\"\n[feed]\n[group]\n";
    assert_eq!(told(nameless).len(), 2, "{:?}", told(nameless));
    let lists =
        "schema = \"tieline.policy/1\"\n[site]\nname = \"x\"\n[[feed]]\nlimit_kw = 1\n[[group]]\n";
    assert_eq!(
        told(lists),
        [
            "p.toml:4:1: feed: expected a table, found an array",
            "p.toml:6:1: group: expected a table, found an array",
        ]
    );
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let text =
        broken("asic_kw = 3.5", "asic_kw = inf").replace("parent = \"poi\"", "parent = \"pio\"");
    let text = text.replace("permit_ttl", "permit_tll");
    let lines: Vec<String> =
        told(&text).iter().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["feed.xfmr-a.parent", "group.new.asic_kw", "failsafe.permit_tll"]);
}

#[test]
fn a_long_circle_is_told_once_and_cut_short() {
    let mut text = GOOD.to_owned();
    for n in 0..50 {
        text.push_str(&format!(
            "[feed.ring{n}]\nparent = \"ring{}\"\nlimit_kw = 5\n",
            (n + 1) % 50
        ));
    }
    text.push_str("[feed.tail]\nparent = \"ring7\"\nlimit_kw = 5\n");
    let want = "p.toml:41:10: feed.ring0.parent: the feeds form a circle: ring0 -> ring1 -> ring2 -> ring3 -> ring4 -> \
                ring5 -> ring6 -> ring7 -> ...";
    assert_eq!(told(&text), [want]);
}

#[test]
fn a_deep_tree_and_many_groups_are_read() {
    let mut text = GOOD.to_owned();
    for n in 0..2000 {
        let parent = if n == 0 { "poi".to_owned() } else { format!("f{}", n - 1) };
        text.push_str(&format!(
            "[feed.f{n}]\nparent = \"{parent}\"\nlimit_kw = 5\ndefault_constraint_kw = 1\n"
        ));
        let group = "machines = 1\nasic_kw = 1\nj_per_th = 20\n";
        text.push_str(&format!("[group.g{n}]\nfeed = \"f{n}\"\nmatch = \"g{n}-*\"\n{group}"));
    }
    let policy = parse(&text, "p.toml").unwrap();
    assert_eq!((policy.facility.feeds().len(), policy.facility.groups().len()), (2002, 2002));
    assert!(
        policy.facility.groups()[3].matches == ["g1-*"]
            && policy.facility.feeds().as_slice()[2].id.as_str() != "f1"
    );
}

#[test]
fn thousands_of_mistakes_are_cut_short_and_their_suggestions_too() {
    // Comparing every wrong name with every known one once took minutes.
    let mut text = GOOD.to_owned();
    for n in 0..15_000 {
        text.push_str(&format!("[feed.f{n}]\nlimit_kw = 1\nparent = \"nof{n}\"\n"));
    }
    let mistakes = parse(&text, "p.toml").unwrap_err();
    assert_eq!(mistakes.list().len(), 200);
    assert!(mistakes.to_string().ends_with("\nand 14800 more"), "{mistakes}");
}

#[test]
fn a_missing_file_is_one_clear_mistake() {
    let missing = std::path::Path::new("/nowhere/policy.toml");
    assert_eq!(load(missing).unwrap_err().to_string(), "/nowhere/policy.toml: does not exist");
}

#[test]
fn the_files_in_config_are_sound() {
    let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let policy = load(&config.join("policy.toml")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(
        (
            policy.facility.feeds().len(),
            policy.facility.groups().len(),
            policy.facility.meters().len()
        ),
        (3, 3, 4)
    );
    assert_eq!(policy.facility.groups().iter().filter(|group| group.backs_firm()).count(), 2);
    let mut examples = 0;
    for entry in std::fs::read_dir(config.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("policy") {
            load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            examples += 1;
        }
    }
    assert!(examples >= 2);
}

#[test]
fn every_default_in_the_commented_policy_is_the_programs() {
    // Compares the defaults stated in policy.toml with those of a policy without keys.
    let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let small = load(&config.join("examples/policy-small.toml")).unwrap();
    let full = load(&config.join("policy.toml")).unwrap();
    assert_eq!(small.ramp, full.ramp);
    assert_eq!(small.failsafe, full.failsafe);
    let priceless = Dispatch {
        hashprice_usd_per_ph_day: None,
        power_usd_per_mwh: None,
        ..full.dispatch.clone()
    };
    assert_eq!(small.dispatch, priceless);
    assert_eq!(
        full.facility.meters()[&MeterId::from("nebula-hall")].stale_after,
        Duration::from_secs(30)
    );
}

/// Policies that contain the driver and the meters themselves (the former spelling) are still read.
/// What they say about devices is left to the program that reads the configuration.
#[test]
fn the_former_spelling_names_the_driver_after_its_group() {
    let text = GOOD
        .replace("driver = \"minerctl\"\n", "actuator = { kind = \"exec\" }\n")
        .replace("stale_after = \"45s\"", "kind = \"file\"\npath = \"a.kw\"\nperiod = \"20s\"");
    let policy = parse(&text, "p.toml").unwrap();
    assert_eq!(policy.facility.groups()[0].driver.as_deref(), Some("old"));
    assert!(policy.facility.groups()[0].backs_firm());
    let stale_after = policy.facility.meters()[&MeterId::from("a")].stale_after;
    assert_eq!(stale_after, Duration::from_secs(60), "three periods");
}

proptest! {
    #[test]
    fn no_cut_or_changed_policy_panics(at in 0..GOOD.len(), len in 0..40_usize, put in "[\\[\\]a-z.=\"{}\\n#0-9-]{0,12}") {
        let end = (at + len).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(mistakes) = parse(&text, "p.toml") {
            prop_assert!(!mistakes.render(true).is_empty());
        }
    }
}
