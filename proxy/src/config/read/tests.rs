//! What operators get wrong in the proxy's part of a configuration.

use daemon::settings::Document;

use super::*;
use crate::target::{TargetId, TargetUse};
use crate::tls::Trust;

const FIRST: TargetId = TargetId::nth(0);
const SECOND: TargetId = TargetId::nth(1);

fn load(text: &str) -> Result<Config, String> {
    let document =
        Document::parse("tieline.toml", text).map_err(|mistakes| mistakes.to_string())?;
    let root = document.root();
    let config = read(&root, &[]);
    root.finish();
    document.conclude(config).map_err(|mistakes| mistakes.to_string())
}

const GOOD: &str = "[[server]]\nname = \"asics\"\nlisten = \"127.0.0.1:3333\"\n\
    [[target]]\nname = \"a\"\nurl = \"stratum+tcp://pool.example:3333\"\nuser_identity = \"acme\"\n";

#[test]
fn a_small_file_is_enough() {
    let config = load(GOOD).expect("all right");
    assert_eq!(
        (config.targets[FIRST].host.as_str(), config.targets[FIRST].port),
        ("pool.example", 3333)
    );
    assert_eq!(config.servers[0].min_difficulty, Difficulty::ONE);
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    for (extra, place, words) in [
        ("[[routing]]\nfrom = [\"asics\"]\n", "tieline.toml:8:", "not yet supported"),
        ("[proxy]\nfailback_aftr = \"5s\"\n", "tieline.toml:9:1", "failback_after"),
        ("[proxy]\nextranonce2_size = \"5\"\n", "tieline.toml:9:", "\"auto\", \"3\" or \"4\""),
        ("[proxy.share_log]\nenabled = true\n", "tieline.toml:8:", "dir"),
        ("[proxy.share_log]\ndir = \"d\"\nformat = \"csv\"\n", "tieline.toml:10:", "jsonl"),
        ("[proxy.pool]\nsuspect = \"30s\"\n", "tieline.toml:9:", "shorter than `answer`"),
        (
            "[[target]]\nname = \"b\"\nurl = \"http://x:1\"\nuser_identity = \"u\"\n",
            "tieline.toml:10:",
            "scheme",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"pool\"\nuser_identity = \"u\"\n",
            "tieline.toml:10:",
            "missing port",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"p:65536\"\nuser_identity = \"u\"\n",
            "tieline.toml:10:",
            "65535",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"::1:3333\"\nuser_identity = \"u\"\n",
            "tieline.toml:10:",
            "[::1]:3333",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"a b:1\"\nuser_identity = \"u\"\n",
            "tieline.toml:10:",
            "spaces",
        ),
        (
            "[[target]]\nname = \"a\"\nurl = \"p:1\"\nuser_identity = \"u\"\n",
            "tieline.toml:9:8: target[1].name: ",
            "two [[target]] are named \"a\", the first of them on line 5",
        ),
        (
            "[[server]]\nname = \"t\"\nlisten = \"127.0.0.1:1\"\ndifficulty = 1000\n",
            "tieline.toml:11:",
            "round it down to 512",
        ),
        (
            "[[server]]\nname = \"t\"\nlisten = \"127.0.0.1:1\"\nmin_difficulty = 8\ndifficulty = 4\n",
            "tieline.toml:12:",
            "4 is below min_difficulty 8",
        ),
        (
            "[[server]]\nname = \"t\"\nlisten = \"127.0.0.1:1\"\nmin_difficulty = 8\nmax_difficulty = 4\n",
            "tieline.toml:12:",
            "4 is below min_difficulty 8",
        ),
        (
            "[[server]]\nname = \"t\"\nlisten = \"127.0.0.1:1\"\nshare_interval = \"11m\"\n",
            "tieline.toml:11:",
            "10",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"p:1\"\nuser_identity = \"u\"\nshares_per_sec_max = 19.0\n",
            "tieline.toml:12:",
            "four times `shares_per_sec`",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"p:1 \"\nuser_identity = \"u\"\n",
            "tieline.toml:10:",
            "spaces",
        ),
        (
            "[[target]]\nname = \"b\"\nurl = \"p:1\"\nuser_identity = \"u\"\nreconnect_hosts = [\"p\"]\n",
            "tieline.toml:12:",
            "missing port",
        ),
    ] {
        let mistakes = load(&format!("{GOOD}{extra}")).expect_err(extra);
        assert_eq!(mistakes.lines().count(), 1, "one fault is one mistake: {mistakes}");
        assert!(mistakes.contains(place) && mistakes.contains(words), "{extra}: {mistakes}");
    }
}

/// T06: what stands in log lines and tables must not move a terminal's cursor.
#[test]
fn names_hold_no_control_characters() {
    let odd = "\"a\\u001b[2J\"";
    for (from, place) in [
        ("\"asics\"", "tieline.toml:2:8: server[0].name"),
        ("\"a\"", "tieline.toml:5:8: target[0].name"),
        ("\"north\"", "tieline.toml:9:8: proxy.name"),
    ] {
        let text = format!("{GOOD}[proxy]\nname = \"north\"\n").replacen(from, odd, 1);
        let document = Document::parse("tieline.toml", &text).expect("TOML");
        let root = document.root();
        let config = read(&root, &[]);
        root.finish();
        let mistakes = document.conclude(config).expect_err(from).to_string();
        assert_eq!(mistakes, format!("{place}: must not contain control characters"));
    }
}

/// A mistake in one section, or between two sections, is reported at its place and causes no
/// further report.
#[test]
fn a_mistake_brings_no_other_with_it() {
    let server = |name: &str, listen: &str| {
        format!("[[server]]\nname = \"{name}\"\nlisten = \"{listen}\"\n")
    };
    let target = |name: &str, url: &str| {
        format!("[[target]]\nname = \"{name}\"\nurl = \"{url}\"\nuser_identity = \"u\"\n")
    };
    let proxy = "[proxy]\nname = \"north\"\n[proxy.pool]\nquiet = \"1m\"\n";
    for (extra, want) in [
        (target("b", "http://x:1"), "10:7: target[1].url: \"http\" is no Stratum scheme"),
        (
            target("a", "p:1"),
            "9:8: target[1].name: two [[target]] are named \"a\", the first of them on line 5",
        ),
        (
            server("asics", "127.0.0.1:1"),
            "9:8: server[1].name: two [[server]] are named \"asics\", the first of them on line 2",
        ),
        (
            server("b", "127.0.0.1"),
            "10:10: server[1].listen: \"127.0.0.1\" is no address with a port",
        ),
        (
            server("b", "127.0.0.1:3333"),
            "10:10: server[1].listen: 127.0.0.1:3333 is in use by [[server]] \"asics\" (127.0.0.1:3333)",
        ),
        (
            server("b", "0.0.0.0:3333"),
            "10:10: server[1].listen: 0.0.0.0:3333 is in use by [[server]] \"asics\" (127.0.0.1:3333)",
        ),
        (
            server("b", "[::]:8080"),
            "10:10: server[1].listen: [::]:8080 is in use by [admin] (127.0.0.1:8080)",
        ),
        (
            target("b", "stratum+tcp://localhost:3333"),
            "10:7: target[1].url: is the address of [[server]] \"asics\": this proxy would be its own pool",
        ),
        (
            format!("{}passthrough = \"aa\"\n", server("b", "127.0.0.1:1")),
            "11:15: server[1].passthrough: no [[target]] is named \"aa\", did you mean \"a\"?",
        ),
        (
            format!("{}passthrough = \"a\"\n", server("b", "127.0.0.1:1")),
            "2:8: server[0].name: \"asics\" has no target: each is the passthrough of another [[server]]",
        ),
        (
            format!(
                "{}passthrough = \"c\"\n{}disabled = true\n",
                server("b", "127.0.0.1:1"),
                target("c", "p:1")
            ),
            "11:15: server[1].passthrough: [[target]] \"c\" is disabled: this listener would have no pool",
        ),
        (
            format!(
                "{}passthrough = \"a\"\n{}disabled = true\n",
                server("b", "127.0.0.1:1"),
                target("c", "p:1")
            ),
            "2:8: server[0].name: \"asics\" has no target: each is disabled or the passthrough of another [[server]]",
        ),
        (
            format!("{}disabled = true\n", target("b", "http://x:1")),
            "10:7: target[1].url: \"http\" is no Stratum scheme",
        ),
        (
            format!("{}disabled = \"perhaps\"\n", target("b", "p:1")),
            "12:12: target[1].disabled: expected true or false",
        ),
        // `passthrough` names a target with a mistake: the target's mistake is reported, and the
        // name counts as known.
        (
            format!("{}passthrough = \"c\"\n{}", server("b", "127.0.0.1:1"), target("c", "p")),
            "14:7: target[1].url: missing port",
        ),
        (
            "[[target]]\nurl = \"p:1\"\nuser_identity = \"u\"\n".to_owned(),
            "8:1: target[1].name: missing",
        ),
        (
            "[[routing]]\nname = \"x\"\nfrom = [\"asics\"]\n".to_owned(),
            "8:1: routing: [[routing]] is not yet supported",
        ),
    ] {
        let taken = [Taken { by: "[admin]", address: ([127, 0, 0, 1], 8080).into() }];
        let text = format!("{GOOD}{extra}{proxy}");
        let document = Document::parse("tieline.toml", &text).expect("TOML");
        let root = document.root();
        let config = read(&root, &taken);
        root.finish();
        let mistakes = document.conclude(config).expect_err(&extra).to_string();
        assert!(mistakes.starts_with(&format!("tieline.toml:{want}")), "{want}: {mistakes}");
        assert_eq!(mistakes.lines().count(), 1, "{extra}: {mistakes}");
    }
}

#[test]
fn a_section_that_is_no_list_is_told_as_that() {
    let servers = load(&GOOD.replace("[[server]]", "[server]")).expect_err("no list");
    assert_eq!(
        servers,
        "tieline.toml:1:1: server: expected an array of tables: write [[server]], found a table"
    );
    let none = load("server = []\ntarget = []\n").expect_err("none");
    assert!(none.contains("1:10: server: no [[server]]: at least one is needed"), "{none}");
}

#[test]
fn what_a_correct_file_could_hold_is_only_warned_of() {
    let warned = |text: &str| {
        let document = Document::parse("tieline.toml", text).expect("TOML");
        let root = document.root();
        let config = read(&root, &[]);
        root.finish();
        document.conclude(config).expect("no mistake");
        document.warnings().to_string()
    };
    assert_eq!(warned(GOOD), "");
    let again = "[[target]]\nname = \"b\"\nurl = \"Pool.example:3333\"\nuser_identity = \"acme\"\n";
    assert_eq!(
        warned(&format!("{GOOD}{again}")),
        "tieline.toml:10:7: warning: target[1].url: the same pool and user as [[target]] \"a\": it is no backup, since \
         both fail together"
    );
    let other_user = again.replace("\"acme\"", "\"other\"");
    assert_eq!(warned(&format!("{GOOD}{other_user}")), "");
    let rented = "[[server]]\nname = \"rented\"\nlisten = \"127.0.0.1:1\"\npassthrough = \"b\"\n";
    assert_eq!(warned(&format!("{GOOD}{again}{rented}")), "", "each miner has its own there");
    let port = warned(&GOOD.replace(":3333\"\n[[", ":0\"\n[["));
    assert!(
        port.starts_with("tieline.toml:3:10: warning: server[0].listen: with port 0"),
        "{port}"
    );
}

#[test]
fn the_share_log_is_there_only_when_it_is_wanted() {
    let section = "[proxy.share_log]\ndir = \"shares\"\nrotate_every = \"1h\"\nkeep = 7\n";
    assert_eq!(load(&format!("{GOOD}{section}")).expect("all right").share_log, None);
    let log = load(&format!("{GOOD}{section}enabled = true\n"))
        .expect("all right")
        .share_log
        .expect("wanted");
    assert!(log.dir.ends_with("shares"), "{log:?}");
    assert_eq!((log.rotate_bytes, log.rotate_every, log.keep), (256 << 20, HOUR, 7));
}

#[test]
fn a_passthrough_names_its_target_and_leaves_others_to_the_other_servers() {
    let small = "[[target]]\nname = \"small\"\nurl = \"p:1\"\nuser_identity = \"u\"\n";
    let rented =
        "[[server]]\nname = \"rented\"\nlisten = \"127.0.0.1:1\"\npassthrough = \"small\"\n";
    let config = load(&format!("{GOOD}{small}{rented}")).expect("all right");
    assert_eq!(config.servers[1].passthrough, Some(SECOND));
    assert_eq!(
        [FIRST, SECOND].map(|target| config.use_of(target)),
        [TargetUse::Shared, TargetUse::Passthrough]
    );
    let unknown = load(&format!("{GOOD}{rented}")).expect_err("no such target");
    assert!(unknown.contains("no [[target]] is named \"small\""), "{unknown}");
    let taken = load(&format!("{GOOD}{}", rented.replace("small", "a")))
        .expect_err("nothing is left for the first");
    assert!(taken.contains("\"asics\" has no target"), "{taken}");
}

#[test]
fn a_disabled_target_is_kept_and_not_used_and_is_no_backup() {
    let off = "[[target]]\nname = \"b\"\nurl = \"Pool.example:3333\"\nuser_identity = \"acme\"\ndisabled = true\n";
    let document = Document::parse("tieline.toml", &format!("{GOOD}{off}")).expect("TOML");
    let root = document.root();
    let config = read(&root, &[]);
    root.finish();
    let config = document.conclude(config).expect("no mistake");
    assert_eq!(document.warnings().to_string(), "", "what is disabled needs no warning");
    assert_eq!(
        [FIRST, SECOND].map(|target| config.use_of(target)),
        [TargetUse::Shared, TargetUse::Disabled]
    );
    let used: Vec<_> = config.used_targets().map(|target| target.name.as_str()).collect();
    assert_eq!(used, ["a"]);
    let on = load(&format!("{GOOD}{}", off.replace("true", "false"))).expect("all right");
    assert_eq!(on.use_of(SECOND), TargetUse::Shared);
}

#[test]
fn a_file_whose_targets_are_all_disabled_is_refused_at_the_first_of_them() {
    let second =
        "[[target]]\nname = \"b\"\nurl = \"p:1\"\nuser_identity = \"u\"\ndisabled = true\n";
    let rented = "[[server]]\nname = \"rented\"\nlisten = \"127.0.0.1:1\"\npassthrough = \"b\"\n";
    for more in ["", second, &format!("{second}{rented}")] {
        let mistakes = load(&format!("{GOOD}disabled = true\n{more}")).expect_err("none is left");
        assert_eq!(
            mistakes,
            "tieline.toml:8:12: target[0].disabled: every [[target]] is disabled: at least one must not be"
        );
    }
}

#[test]
fn a_file_without_pools_is_refused() {
    let mistakes = load("# nothing\n").expect_err("no pools");
    assert!(mistakes.contains("no [[target]]") && mistakes.contains("no [[server]]"), "{mistakes}");
}

const PIN: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn target(keys: &str) -> Result<Target, String> {
    let text = format!("{GOOD}[[target]]\nname = \"b\"\nuser_identity = \"u\"\n{keys}");
    load(&text).map(|config| config.targets.values().nth(1).cloned().expect("two"))
}

/// U07, U50, P06: whatever is wrong, the answer is a mistake with its place, never a plain or
/// unchecked connection.
#[test]
fn u50_mistakes_about_tls_have_their_place_and_never_end_plain() {
    let tls = "url = \"stratum+ssl://pool.example:443\"";
    let plain = "url = \"stratum+tcp://pool.example:3333\"";
    for (keys, place, words) in [
        (format!("{plain}\ntls_pin = [\"{PIN}\"]"), "tieline.toml:12:", "the url is plain"),
        (format!("{plain}\ntls_ca_file = \"ca.pem\""), "tieline.toml:12:", "the url is plain"),
        (
            format!("{plain}\ntls_verify = \"off\"\nallow_insecure = true"),
            "tieline.toml:12:",
            "the url is plain",
        ),
        (format!("{tls}\ntls_pin = [\"sha256/AAAA\"]"), "tieline.toml:12:", "44 characters"),
        (format!("{tls}\ntls_pin = []"), "tieline.toml:12:", "must not be empty"),
        (
            format!("{tls}\ntls_pin = \"{PIN}\"\ntls_ca_file = \"ca.pem\""),
            "tieline.toml:13:",
            "keep one",
        ),
        (format!("{tls}\ntls_verify = \"off\""), "tieline.toml:12:", "allow_insecure = true"),
        (format!("{tls}\ntls_verify = \"maybe\""), "tieline.toml:12:", "\"on\", \"off\""),
        (
            format!("{tls}\ntls_ca_file = \"/nonexistent/ca.pem\""),
            "tieline.toml:12:",
            "/nonexistent/ca.pem",
        ),
        ("url = \"stratum+ssl://a..b:443\"".to_owned(), "tieline.toml:11:", "no name"),
    ] {
        let mistakes = target(&keys).expect_err(&keys);
        assert!(mistakes.contains(place) && mistakes.contains(words), "{keys}: {mistakes}");
    }
}

#[test]
fn a_target_is_as_trusting_as_it_says() {
    let tls = "url = \"stratum+ssl://pool.example:443\"";
    let trust = |keys: &str| {
        target(&format!("{tls}\n{keys}")).expect("all right").tls.map(|tls| tls.trust())
    };
    assert_eq!(trust(&format!("tls_pin = [\"{PIN}\"]")), Some(Trust::Pins));
    assert_eq!(trust("tls_verify = \"off\"\nallow_insecure = true"), Some(Trust::Anybody));
    assert!(target("url = \"pool.example:443\"").expect("all right").tls.is_none());
    let hosts = target("url = \"p:1\"\nreconnect_hosts = [\"b.example:3333\", \"192.0.2.1:3333\"]");
    assert_eq!(hosts.expect("all right").reconnect_hosts.len(), 2);
}
