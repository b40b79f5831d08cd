//! What operators get wrong in the proxy's part of a configuration.

use super::*;
use crate::tls::Trust;
use daemon::settings::Document;

fn load(text: &str) -> Result<Config, String> {
    let document =
        Document::parse("tieline.toml", text).map_err(|mistakes| mistakes.to_string())?;
    let root = document.root();
    let config = read(&root);
    root.finish();
    document.conclude(config).map_err(|mistakes| mistakes.to_string())
}

const GOOD: &str = "[[server]]\nname = \"asics\"\nlisten = \"127.0.0.1:3333\"\n\
    [[target]]\nname = \"a\"\nurl = \"stratum+tcp://pool.example:3333\"\nuser_identity = \"acme\"\n";

#[test]
fn a_small_file_is_enough() {
    let config = load(GOOD).expect("all right");
    assert_eq!((config.targets[0].host.as_str(), config.targets[0].port), ("pool.example", 3333));
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
            "tieline.toml:",
            "two [[target]]",
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
        assert!(mistakes.contains(place) && mistakes.contains(words), "{extra}: {mistakes}");
    }
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
    assert_eq!(config.servers[1].passthrough, Some(1));
    assert_eq!([0, 1].map(|target| config.is_passthrough(target)), [false, true]);
    let unknown = load(&format!("{GOOD}{rented}")).expect_err("no such target");
    assert!(unknown.contains("no [[target]] is named \"small\""), "{unknown}");
    let taken = load(&format!("{GOOD}{}", rented.replace("small", "a")))
        .expect_err("nothing is left for the first");
    assert!(taken.contains("\"asics\" has no target"), "{taken}");
}

#[test]
fn a_file_without_pools_is_refused() {
    let mistakes = load("# nothing\n").expect_err("no pools");
    assert!(mistakes.contains("no [[target]]") && mistakes.contains("no [[server]]"), "{mistakes}");
}

const PIN: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn target(keys: &str) -> Result<Target, String> {
    let text = format!("{GOOD}[[target]]\nname = \"b\"\nuser_identity = \"u\"\n{keys}");
    load(&text).map(|mut config| config.targets.remove(1))
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
