//! The exact lines of each known pool (docs/protocol.md 2.4).

use super::*;
use crate::pool::config::Like;

const CONFIGURE: &str = r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#;
const SUBSCRIBE: &str = r#"{"id":2,"method":"mining.subscribe","params":["bench/1"]}"#;
const AUTHORIZE: &str = r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#;

fn bench(like: Like) -> Bench {
    Bench::new(PoolConfig { job_interval: Duration::ZERO, ..like.config() })
}

fn methods(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let message: Value = serde_json::from_str(line).unwrap();
            message["method"]
                .as_str()
                .map_or_else(|| format!("reply {}", message["id"]), str::to_owned)
        })
        .collect()
}

#[test]
fn braiins_tells_the_mask_before_the_subscribe_reply_and_wants_configure_first() {
    let mut bench = bench(Like::Braiins);
    assert_eq!(methods(&bench.say(CONFIGURE)), ["reply 1", "mining.set_version_mask"]);
    let lines = bench.say(SUBSCRIBE);
    assert!(lines[0].contains(
        r#"[["mining.set_difficulty","00000001"],["mining.notify","00000001"]],"00",6]"#
    ));
    let late = bench.say(CONFIGURE);
    assert!(late[0].contains(r#"[21,"ConfigurationOutOfOrder",null]"#), "{late:?}");
}

#[test]
fn ckpool_brings_a_job_before_authorize_and_says_nothing_to_what_it_does_not_know() {
    let mut bench = bench(Like::Ckpool);
    bench.say(CONFIGURE);
    assert_eq!(
        methods(&bench.say(SUBSCRIBE)),
        ["reply 2", "mining.set_difficulty", "mining.notify"]
    );
    for line in ["mining.ping", "mining.extranonce.subscribe", "mining.foo"] {
        assert!(
            bench.say(&format!("{{\"id\":9,\"method\":\"{line}\",\"params\":[]}}")).is_empty(),
            "{line}"
        );
    }
}

#[test]
fn antpool_answers_late_what_it_was_asked_first() {
    for like in [Like::Antpool, Like::Antpool2020] {
        let mut bench = bench(like);
        bench.core.line(bench.id, CONFIGURE.as_bytes(), bench.now);
        bench.core.line(bench.id, SUBSCRIBE.as_bytes(), bench.now);
        let outs: Vec<Out> = bench.core.drain().map(|(_, out)| out).collect();
        let late = matches!(&outs[..], [Out::Late(..), Out::Line(_)]);
        assert_eq!(late, like == Like::Antpool, "{outs:?}");
        let lines = bench.say(AUTHORIZE);
        assert!(find(&lines, "mining.set_difficulty").get("id").is_none(), "{lines:?}");
        let refused = bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[1]}"#);
        assert!(refused[0].ends_with(r#""error":[40,"unfit, ignore"]}"#), "{refused:?}");
    }
    let lines = bench(Like::Antpool2020).say(CONFIGURE);
    assert!(
        lines[0].contains(r#""version-rolling.mask":"5fffe000""#) && !lines[0].contains("error"),
        "{lines:?}"
    );
}

#[test]
fn ocean_tells_the_difficulty_before_the_configure_reply_and_wants_version_bits() {
    let mut bench = Bench::new(PoolConfig { difficulty: DIFFICULTY, ..Like::Ocean.config() });
    assert_eq!(methods(&bench.say(CONFIGURE)), ["mining.set_difficulty", "reply 1"]);
    bench.say(SUBSCRIBE);
    let notify = find(&bench.say(AUTHORIZE), "mining.notify");
    let plain = bench.mine(&notify, &[1; 8], None, DIFFICULTY);
    assert!(bench.say(&plain)[0].contains("Version bits missing"));
    let rolled = bench.mine(&notify, &[1; 8], Some(0x2000), DIFFICULTY);
    assert!(bench.say(&rolled)[0].contains("\"result\":true"));
    let missed = rolled.replace("\"00002000\"]", "\"00004000\"]");
    assert!(bench.say(&missed)[0].contains(r#"[23,"high-hash",null]"#));
}

#[test]
fn miningcore_says_jsonrpc_everywhere_and_floats() {
    let mut bench = bench(Like::Miningcore);
    let lines = [bench.say(CONFIGURE), bench.say(SUBSCRIBE), bench.say(AUTHORIZE)].concat();
    assert!(lines.iter().all(|line| line.starts_with(r#"{"jsonrpc":"2.0","#)), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("error")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(r#""params":[1.0]"#)), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(",4.0]")), "{lines:?}");
}

#[test]
fn nicehash_changes_extranonce1_with_every_second_job() {
    let mut bench = bench(Like::Nicehash);
    bench.say(SUBSCRIBE);
    bench.say(AUTHORIZE);
    bench.core.tick(bench.now);
    let lines = bench.heard();
    assert_eq!(methods(&lines), ["mining.set_extranonce", "mining.notify"]);
    assert!(lines[0].ends_with(",3]}"), "{lines:?}");
    bench.core.tick(bench.now);
    assert_eq!(methods(&bench.heard()), ["mining.notify"]);
}

#[test]
fn refusals_come_in_every_form_there_is() {
    for (form, words) in [
        (ErrorForm::TwoElements, r#""error":[21,"Job not found"]}"#),
        (ErrorForm::StringCode, r#""error":["21","Job not found",null]}"#),
        (ErrorForm::Negative, r#""error":[-21,"Job not found",null]}"#),
        (ErrorForm::Bare, r#"{"id":9,"result":false}"#),
    ] {
        let (mut bench, _) = Bench::mining(PoolConfig { error_form: form, ..Bench::easy() });
        let lines = bench.say(r#"{"id":9,"method":"mining.submit","params":["w","nojob","00","00000000","00000000"]}"#);
        assert!(lines[0].ends_with(words), "{form:?}: {lines:?}");
    }
}
