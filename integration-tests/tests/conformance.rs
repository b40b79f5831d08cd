//! Replays recorded and written sessions of firmware and pools against a proxy, over real sockets.
//!
//! Each file under `conformance/` is one session: the exact lines that one side sends, and the
//! lines that must come back, in order. It states the fact that it tests and the source of that
//! fact. [`script`] reads the files, [`play`] runs them, [`share`] mines the shares that they
//! submit. `docs/compatibility.md` lists every file.

mod play;
mod script;
mod share;

use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use self::script::Script;

/// The folder of the sessions.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Reads every session, by its name within the folder.
fn sessions() -> Vec<(String, Script)> {
    let mut sessions = Vec::new();
    for kind in ["messages", "miners", "pools"] {
        for entry in std::fs::read_dir(folder().join(kind)).expect("a folder of sessions") {
            let path = entry.expect("readable").path();
            let name = format!("{kind}/{}", path.file_name().expect("a name").to_string_lossy());
            let text = std::fs::read_to_string(&path).expect("text");
            let script = Script::parse(&text).unwrap_or_else(|mistake| panic!("{name}:{mistake}"));
            sessions.push((name, script));
        }
    }
    sessions.sort_by(|one, other| one.0.cmp(&other.0));
    sessions
}

/// How many sessions run at the same time.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn every_session_goes_as_written() {
    let mut left = sessions();
    assert!(left.len() >= 30, "{} sessions", left.len());
    let mut playing = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        while playing.len() < AT_ONCE
            && let Some((name, script)) = left.pop()
        {
            playing.spawn(async move {
                play::play(&script).await.map_err(|failure| format!("{name}:{failure}"))
            });
        }
        match playing.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(failure))) => failures.push(failure),
            Some(Err(panic)) => failures.push(panic.to_string()),
            None => break,
        }
    }
    assert!(
        failures.is_empty(),
        "{} sessions failed:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// A session that does not go as its file says fails at the line at fault: the player reports a
/// different answer, an extra answer, a missing one, and a connection that is not closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_otherwise_fails_at_its_line() {
    let ping = "> {\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\n";
    for (rest, failure) in [
        ("< {\"id\":2,*}\n", "2: wanted"),
        ("! nothing\n", "2: nothing should have come"),
        ("", "end: nothing should have come"),
        ("< {\"id\":1,*}\n! closed\n> x\n", "3: not closed"),
    ] {
        let script = Script::parse(&format!("{ping}{rest}")).expect("a script");
        let script = if rest.contains("closed") {
            // A second ping is sent; its answer comes where the session should end.
            Script::parse(&format!("{ping}{ping}{}", rest.replace("> x\n", ""))).expect("a script")
        } else {
            script
        };
        let why = play::play(&script).await.expect_err("it must fail");
        assert!(
            why.starts_with(failure)
                || (rest.contains("closed") && why.starts_with("4: not closed")),
            "{rest}: {why}"
        );
    }
}

#[test]
fn every_session_quotes_its_fact_and_stands_in_the_table() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let table = std::fs::read_to_string(table).expect("docs/compatibility.md");
    let sessions = sessions();
    for (name, script) in &sessions {
        assert!(
            !script.facts.is_empty() && !script.sources.is_empty(),
            "{name}: quotes no fact, or no source"
        );
        assert!(
            table.contains(&format!("`{name}`")),
            "{name} is not named in docs/compatibility.md"
        );
    }
    for named in table.split('`').filter(|word| word.ends_with(".session")) {
        assert!(
            sessions.iter().any(|(name, _)| name == named),
            "docs/compatibility.md names {named}, which is not there"
        );
    }
}
