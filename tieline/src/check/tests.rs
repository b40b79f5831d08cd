//! Tests the output of `tieline check` for valid and broken files. Each case edits two valid files
//! and is compared with its reviewed text in `snapshots/`.

use std::fs;

use super::*;

const CONFIG: &str = r#"[admin]
listen = "127.0.0.1:8080"
token_file = "token"
[[server]]
name = "asics"
listen = "0.0.0.0:3333"
[[target]]
name = "a"
url = "stratum+tcp://pool-a.example:3333"
user_identity = "acme"
[[target]]
name = "b"
url = "stratum+tcp://pool-b.example:3333"
user_identity = "acme"
[log]
filter = "info"
[switchboard]
policy = "policy.toml"
[driver.shell]
kind = "exec"
sleep = ["/bin/sh", "sleep", "{machine}"]
wake = ["/bin/sh", "wake", "{machine}"]
read = ["/bin/sh", "read", "{machine}"]
[meter.service]
kind = "file"
path = "service.kw"
"#;

const POLICY: &str = r#"schema = "tieline.policy/1"
[site]
name = "barn"
timezone = "America/Chicago"
[feed.service]
limit_kw = 500
house_kw = 10
default_constraint_kw = 250
meter = "service"
[group.s19]
feed = "service"
match = ["barn.a1-*", "barn.a2-*"]
machines = 80
asic_kw = 3.25
j_per_th = 29.5
residual_kw = 0.03
shed_p95 = "30s"
driver = "shell"
[group.s21]
feed = "service"
match = "barn.b*"
machines = 20
asic_kw = 3.5
j_per_th = 17.5
"#;

/// Replacements in a file: each text must occur in it exactly once.
type Edits<'a> = &'a [(&'a str, &'a str)];

fn edited(text: &str, edits: Edits<'_>) -> String {
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} must stand in the file once");
        text.replace(from, to)
    })
}

/// The output of `check` for the edited files: standard output, then standard error.
fn said(config: Edits<'_>, policy: Edits<'_>) -> String {
    said_of("tieline.toml", config, policy)
}

fn said_of(file: &str, config: Edits<'_>, policy: Edits<'_>) -> String {
    in_folder(config, policy, |folder| {
        let checked = Checked::read(&folder.join(file));
        format!("{}---\n{}\n{}\n", checked.text(), checked.warnings, checked.mistakes)
    })
}

fn in_folder(config: Edits<'_>, policy: Edits<'_>, read: impl Fn(&Path) -> String) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("tieline.toml"), edited(CONFIG, config)).expect("written");
    fs::write(folder.path().join("policy.toml"), edited(POLICY, policy)).expect("written");
    fs::write(folder.path().join("service.kw"), "300\n").expect("written");
    let here = format!("{}/", folder.path().display());
    read(folder.path()).replace(&here, "")
}

const B: &str = "name = \"b\"";
const B_URL: &str = "stratum+tcp://pool-b.example:3333";
const LOG: &str = "[log]\n";

#[test]
fn right_files_are_shown_as_they_were_understood() {
    insta::assert_snapshot!("right", said(&[], &[]));
    insta::assert_snapshot!("right_alone", said_of("policy.toml", &[], &[]));
    let from = CONFIG.find("[switchboard]").expect("it is there");
    let proxy_only = [(&CONFIG[from..], "")];
    insta::assert_snapshot!("right_proxy_only", said(&proxy_only, &[]));
    let disabled = [(proxy_only[0].0, ""), (LOG, "disabled = true\n[log]\n")];
    insta::assert_snapshot!("right_with_a_disabled_target", said(&disabled, &[]));
    let json = in_folder(&[], &[], |folder| {
        format!("{:#}", Checked::read(&folder.join("tieline.toml")).json())
    });
    insta::assert_snapshot!("right_json", json);
}

#[test]
fn one_mistake_in_a_section_is_one_mistake() {
    let one = |name: &str, edits: Edits<'_>| insta::assert_snapshot!(name, said(edits, &[]));
    one("target_without_user", &[("user_identity = \"acme\"\n[log]", "[log]")]);
    one("target_with_unknown_scheme", &[(B_URL, "http://pool-b.example:3333")]);
    one("server_without_port", &[("0.0.0.0:3333", "0.0.0.0")]);
    one("routing", &[(LOG, "[[routing]]\nname = \"x\"\n[log]\n")]);
    one("server_is_no_list", &[("[[server]]", "[server]")]);
    one("proxy_key", &[(LOG, "[proxy]\nfailback_aftr = \"5s\"\n[log]\n")]);
    one("log_filter", &[("filter = \"info\"", "filter = \"info,proxy=loud\"")]);
    one("log_filter_slip", &[("filter = \"info\"", "filter = \"inof\"")]);
    one(
        "secrets",
        &[
            ("[log]", "password_file = \"gone.secret\"\n[log]"),
            (B_URL, "stratum+ssl://b.example:3"),
        ],
    );
    one("syntax", &[("[log]", "[log")]);
}

#[test]
fn mistakes_between_sections_stand_at_the_later_place() {
    let one = |name: &str, edits: Edits<'_>| insta::assert_snapshot!(name, said(edits, &[]));
    let second = |name: &str, listen: &str, rest: &str| {
        format!("[[server]]\nname = \"{name}\"\nlisten = \"{listen}\"\n{rest}[log]\n")
    };
    one("two_targets_of_one_name", &[(B, "name = \"a\"")]);
    one("two_servers_of_one_name", &[(LOG, &second("asics", "0.0.0.0:3334", ""))]);
    one("two_servers_of_one_port", &[(LOG, &second("more", "127.0.0.1:3333", ""))]);
    one("admin_port", &[(LOG, &second("more", "0.0.0.0:8080", ""))]);
    one("passthrough_to_nowhere", &[(LOG, &second("more", "0.0.0.0:1", "passthrough = \"bb\"\n"))]);
    let both = second("x", "0.0.0.0:1", "passthrough = \"a\"\n")
        .replace("[log]\n", &second("y", "0.0.0.0:2", "passthrough = \"b\"\n"));
    one("no_target_left", &[(LOG, &both)]);
    one("own_pool", &[(B_URL, "127.0.0.1:3333")]);
    one("same_pool_twice", &[(B_URL, "pool-a.example:3333")]);
}

#[test]
fn both_files_are_told_at_once() {
    let config = [("url = \"stratum+tcp://pool-b.example:3333\"\n", ""), ("[log]", "[lgo]")];
    let policy = [("feed = \"service\"\nmatch = [", "feed = \"servise\"\nmatch = ["), ("80", "0")];
    insta::assert_snapshot!("both_files", said(&config, &policy));
    insta::assert_snapshot!("no_policy", said(&[("\"policy.toml\"", "\"polcy.toml\"")], &[]));
    let json = in_folder(&config, &policy, |folder| {
        format!("{:#}", Checked::read(&folder.join("tieline.toml")).json())
    });
    insta::assert_snapshot!("both_files_json", json);
    let syntax = [("[log]", "[log")];
    insta::assert_snapshot!("syntax_and_policy", said(&syntax, &policy));
    let alone = said_of("policy.toml", &config, &policy);
    insta::assert_snapshot!("policy_alone", alone);
}

#[test]
fn a_policy_that_says_something_else_than_was_meant() {
    let one = |name: &str, edits: Edits<'_>| insta::assert_snapshot!(name, said(&[], edits));
    one("hidden_pattern", &[("\"barn.b*\"", "[\"barn.b*\", \"barn.a1-2?\"]")]);
    one("hidden_behind_all", &[("\"barn.a2-*\"", "\"*\"")]);
    one("regular_expression", &[("\"barn.b*\"", r#"'^barn\.b\d+'"#)]);
    one("regular_expression_for_all", &[("\"barn.b*\"", "\".*\"")]);
    one("character_class", &[("\"barn.b*\"", "\"barn.b[0-9]-*\"")]);
    one("two_cases", &[("\"barn.b*\"", "\"Barn.A1-*\"")]);
    one("comma", &[("\"barn.b*\"", "\"barn.b1-*,barn.b2-*\"")]);
    one("watts", &[("asic_kw = 3.25", "asic_kw = 3250"), ("0.03", "30")]);
    one("small_watts", &[("asic_kw = 3.25", "asic_kw = 0.003")]);
    one("too_many_machines", &[("machines = 80", "machines = 180")]);
    one("time_zone", &[("America/Chicago", "CST")]);
    one("no_patterns", &[("\"barn.b*\"", "[]")]);
}

#[test]
fn drivers_and_meters_that_cannot_work_are_told_with_their_place() {
    let one = |name: &str, edits: Edits<'_>| insta::assert_snapshot!(name, said(edits, &[]));
    one("no_programs", &[("[\"/bin/sh\", \"wake\"", "[\"no-such-minerctl\", \"wake\"")]);
    one("no_meter_file", &[("\"service.kw\"", "\"/nowhere/meters/service.kw\"")]);
    one("meter_file_twice", &[(METER, &format!("{METER}[meter.copy]\n{}", &METER[16..]))]);
    one("unknown_kind", &[("kind = \"exec\"", "kind = \"snmp\"")]);
    one("driver_without_read", &[("read = [\"/bin/sh\", \"read\", \"{machine}\"]\n", "")]);
    one("command_is_a_text", &[(SLEEP, "sleep = \"minerctl sleep {machine}\"\n")]);
    one("command_without_machine", &[(SLEEP, "sleep = [\"/bin/sh\", \"sleep\", \"{machin}\"]\n")]);
    one("driver_key", &[("kind = \"exec\"", "kind = \"exec\"\ntimout = \"5s\"")]);
    one("meter_key", &[("kind = \"file\"", "kind = \"file\"\nstale_after = \"5s\"")]);
}

#[test]
fn the_policy_and_the_configuration_are_compared() {
    let one = |name: &str, config: Edits<'_>, policy: Edits<'_>| {
        insta::assert_snapshot!(name, said(config, policy));
    };
    one("unknown_meter", &[], &[("meter = \"service\"", "meter = \"servise\"")]);
    one("unknown_driver", &[], &[("driver = \"shell\"", "driver = \"shel\"")]);
    one("no_agent_part", &[(&CONFIG[CONFIG.find("[driver").expect("there")..], "")], &[]);
    one("unused_driver", &[], &[("driver = \"shell\"\n", "")]);
    one("driver_in_the_policy", &[], &[("[group.s19]", "[driver.shell]\n[group.s19]")]);
    one("unused_meter", &[], &[("meter = \"service\"\n", "")]);
    one("lease_meter_without_a_source", &[], &[("[group.s19]", "[meter.tenant]\n[group.s19]")]);
    let slow = [("\"service.kw\"", "\"service.kw\"\nperiod = \"1m\"")];
    one("stale_before_the_next", &slow, &[]);
    let stale = [("[group.s19]", "[meter.service]\nstale_after = \"20s\"\n[group.s19]")];
    one("stale_before_the_next_by_the_policy", &slow, &stale);
    let some = [("kind = \"exec\"", "kind = \"exec\"\nmachines = [\"barn.a1-*\", \"barn.c*\"]")];
    one("group_beyond_its_driver", &some, &[]);
    // Without a proxy, the agent reports only machines that are listed by name.
    let proxy =
        &CONFIG[CONFIG.find("[[server]]").expect("there")..CONFIG.find("[log]").expect("there")];
    one("no_proxy", &[(proxy, "")], &[]);
    let named = [("[\"barn.a1-*\", \"barn.a2-*\"]", "[\"barn.a1-1\", \"barn.a2-1\"]")];
    one("no_proxy_with_names", &[(proxy, "")], &named);
    let former = [("driver = \"shell\"\n", "actuator = { kind = \"exec\" }\n")];
    one("former_driver_with_mistakes", &[], &former);
}

/// Drivers and meters in the former spelling, which stand in the policy, are read and shown like
/// those in the new spelling.
#[test]
fn the_former_spelling_is_read_and_told_as_the_new_one() {
    let agent = CONFIG.find("[driver").expect("it is there");
    let driver = CONFIG[agent..].replace("[driver.shell]", "[group.s19.actuator]");
    let (driver, meter) = driver.split_at(driver.find("[meter").expect("it is there"));
    let policy =
        [("driver = \"shell\"\n", driver), ("[group.s19]", &format!("{meter}[group.s19]"))];
    insta::assert_snapshot!("former", said(&[(&CONFIG[agent..], "")], &policy));
    insta::assert_snapshot!("former_alone", said_of("policy.toml", &[], &policy));
    let json = in_folder(&[], &policy, |folder| {
        let checked = Checked::read(&folder.join("policy.toml")).json();
        format!(
            "{} {}",
            checked["files"][0]["found"]["drivers"], checked["files"][0]["found"]["meters"]
        )
    });
    assert_eq!(json, r#"["s19"] ["service"]"#);
    insta::assert_snapshot!("former_and_new", said(&[("driver.shell", "driver.s19")], &policy));
    let registered =
        [("driver = \"shell\"\n", "actuator = { kind = \"registered\", name = \"x\" }\n")];
    insta::assert_snapshot!("former_registered", said(&[], &registered));
}

const SLEEP: &str = "sleep = [\"/bin/sh\", \"sleep\", \"{machine}\"]\n";
const METER: &str = "[meter.service]\nkind = \"file\"\npath = \"service.kw\"\n";

#[test]
fn a_policy_in_place_of_a_configuration_is_told_as_that() {
    let said = in_folder(&[], &[], |folder| {
        Files::read(&folder.join("policy.toml")).mistakes().to_string()
    });
    assert_eq!(
        said,
        "policy.toml:1:10: schema: this is a policy, not a configuration: a configuration names its policy in [switchboard]"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_in_one_line() {
    let checked = Checked::read(Path::new("/nowhere/tieline.toml"));
    assert_eq!(checked.text(), "");
    assert_eq!(checked.mistakes.to_string(), "/nowhere/tieline.toml: does not exist");
}

#[test]
fn the_shipped_examples_have_no_mistakes_and_warn_only_of_what_is_not_here() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let files = ["tieline.toml", "compose/tieline.toml"].map(|file| config.join(file));
    let examples = ["policy-small.toml", "policy-simulated.toml"]
        .map(|file| config.join("examples").join(file));
    for path in files.iter().chain(&examples) {
        let checked = Checked::read(path);
        assert!(checked.mistakes.is_empty(), "{}", checked.mistakes);
        for warning in checked.warnings.list() {
            let what = warning.key.rsplit('.').next().unwrap_or_default();
            assert!(["path", "sleep", "feed_over"].contains(&what), "{warning}");
        }
    }
}
