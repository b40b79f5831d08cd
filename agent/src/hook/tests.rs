use daemon::settings::Document;

use super::*;
use crate::guard::OverReason;

fn load(text: &str) -> Result<Hook, String> {
    let document = Document::parse("tieline.toml", text).map_err(|faults| faults.to_string())?;
    let hook = read(&document.root().required_table("hook"));
    document.conclude(hook).map_err(|faults| faults.to_string())
}

fn over() -> FeedOver {
    FeedOver {
        feed: "hall-a".into(),
        reason: OverReason::AboveRating,
        metered: Watts(80_500),
        usable: Watts(60_000),
        rating: Watts(75_000),
        since: "2026-12-01T05:00:00Z".parse().unwrap(),
        at: "2026-12-01T05:00:04Z".parse().unwrap(),
    }
}

/// A hook that is this shell script.
fn script(dir: &Path, body: &str, timeout: Duration) -> Hook {
    let path = dir.join("hook.sh");
    std::fs::write(&path, body).unwrap();
    let feed_over = ["/bin/sh", path.to_str().unwrap(), dir.to_str().unwrap()];
    let feed_over = feed_over.map(str::to_owned).to_vec();
    Hook { feed_over, timeout, every: EVERY, spot: None }
}

#[test]
fn a_section_has_a_program_and_defaults() {
    let hook = load("[hook]\nfeed_over = [\"/bin/true\", \"a b\"]\n").unwrap();
    assert_eq!(hook.feed_over, ["/bin/true", "a b"]);
    assert_eq!((hook.timeout, hook.every), (Duration::from_secs(10), Duration::from_secs(300)));
    let text = "[hook]\nfeed_over = [\"/bin/true\"]\ntimeout = \"2s\"\nevery = \"1m\"\n";
    let hook = load(text).unwrap();
    assert_eq!((hook.timeout, hook.every), (Duration::from_secs(2), Duration::from_secs(60)));
}

#[test]
fn mistakes_are_named_with_file_line_and_key() {
    for (keys, want) in [
        ("every = \"1m\"", "tieline.toml:1:1: hook.feed_over"),
        ("feed_over = []", "tieline.toml:2:13: hook.feed_over: must not be empty"),
        (
            "feed_over = [\"breaker\"]",
            "tieline.toml:2:13: hook.feed_over: \"breaker\" is no absolute",
        ),
        ("feed_over = [\"/bin/true\"]\nevery = \"1s\"", "tieline.toml:3:9: hook.every"),
        ("feed_over = [\"/bin/true\"]\nevry = \"1m\"", "tieline.toml:3:1: hook.evry"),
        (
            "feed_over = [\"/bin/true\"]\ntimeout = \"1m\"\nevery = \"30s\"",
            "tieline.toml:3:11: hook.timeout: must not be longer than `every`",
        ),
    ] {
        let mistakes = load(&format!("[hook]\n{keys}\n")).expect_err(keys);
        assert!(mistakes.contains(want), "{keys}: {mistakes}");
    }
}

#[test]
fn a_mistake_in_the_section_leaves_no_settings() {
    for (text, is_read) in [("feed_over = [\"/bin/true\"]", true), ("feed_over = []", false)] {
        let text = format!("[hook]\n{text}\n");
        let document = Document::parse("tieline.toml", &text).expect("it is TOML");
        let settings = crate::settings::read(&document.root());
        assert_eq!(settings.is_some_and(|settings| settings.hook.is_some()), is_read, "{text}");
    }
}

#[tokio::test]
async fn the_program_is_told_what_the_feed_carries() {
    let dir = tempfile::tempdir().unwrap();
    let body = "echo $TIELINE_FEED $TIELINE_REASON $TIELINE_METERED_KW $TIELINE_USABLE_KW \
        $TIELINE_RATING_KW $TIELINE_SINCE $TIELINE_AT > \"$1/told\"\n";
    script(dir.path(), body, Duration::from_secs(60)).run(&over()).await.unwrap();
    let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
    let want =
        "hall-a above_rating 80.500 60.000 75.000 2026-12-01T05:00:00Z 2026-12-01T05:00:04Z\n";
    assert_eq!(told, want);
}

#[tokio::test]
async fn a_program_that_fails_or_does_not_end_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let failed = script(dir.path(), "echo no breaker >&2; exit 3\n", Duration::from_secs(60));
    let why = failed.run(&over()).await.unwrap_err().to_string();
    assert!(why.contains("no breaker"), "{why}");
    let hangs = script(dir.path(), "sleep 600\n", Duration::from_millis(100));
    assert_eq!(hangs.run(&over()).await, Err(ActuatorError::Timeout { millis: 100 }));
}
