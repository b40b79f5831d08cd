//! Tests of a pool with one connection whose lines the test writes.

use serde_json::Value;

use super::*;
use crate::arithmetic::scan::Scan;
use crate::arithmetic::{
    Header, Target, coinbase, merkle_root, parse_array, parse_bytes, parse_u32, swap_words,
};
use crate::clock::moment;
use crate::pool::config::{Authorize, ErrorForm, ExtranonceSubscribe, Rolling, SubscribeReply};

mod presets;

/// A pool and one connection whose lines the test writes.
struct Bench {
    core: Core,
    now: Moment,
    id: ConnectionId,
}

impl Bench {
    fn new(config: PoolConfig) -> Self {
        let now = moment();
        let mut core = Core::new(config, now);
        let id = core.open("127.0.0.1:1".parse().unwrap());
        Self { core, now, id }
    }

    fn easy() -> PoolConfig {
        PoolConfig { difficulty: DIFFICULTY, job_interval: Duration::ZERO, ..PoolConfig::default() }
    }

    fn mining(config: PoolConfig) -> (Self, Value) {
        let mut bench = Self::new(config);
        bench.say(r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#);
        bench.say(r#"{"id":2,"method":"mining.subscribe","params":["bench/1"]}"#);
        let lines = bench.say(r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#);
        let notify = find(&lines, "mining.notify");
        (bench, notify)
    }

    fn say(&mut self, line: &str) -> Vec<String> {
        self.core.line(self.id, line.as_bytes(), self.now);
        self.heard()
    }

    fn heard(&mut self) -> Vec<String> {
        self.core
            .drain()
            .map(|(_, out)| match out {
                Out::Line(line) | Out::Late(line, _) => line.to_string(),
                Out::Close => "(close)".to_owned(),
            })
            .collect()
    }

    /// Mines one share for a notify, and returns its submit line.
    fn mine(
        &self,
        notify: &Value,
        extranonce2: &[u8],
        bits: Option<u32>,
        difficulty: f64,
    ) -> String {
        let text = |index: usize| notify["params"][index].as_str().unwrap();
        let extranonce1 = self.core.extranonce1(self.id).unwrap();
        let made = coinbase(
            &parse_bytes(text(2)).unwrap(),
            &extranonce1,
            extranonce2,
            &parse_bytes(text(3)).unwrap(),
        );
        let branches: Vec<Hash> = notify["params"][4]
            .as_array()
            .unwrap()
            .iter()
            .map(|branch| parse_array(branch.as_str().unwrap()).unwrap())
            .collect();
        let version = parse_u32(text(5)).unwrap();
        let header = Header {
            version: bits.map_or(version, |bits| (version & !0x1fff_e000) | bits),
            prevhash: swap_words(parse_array(text(1)).unwrap()),
            merkle_root: merkle_root(&made, &branches),
            ntime: parse_u32(text(7)).unwrap(),
            nbits: parse_u32(text(6)).unwrap(),
            nonce: 0,
        };
        let target = Target::of_difficulty(difficulty).unwrap();
        let nonce = Scan::new(&header).run(&target, u32::MAX).0.unwrap().0;
        let mut params = vec![
            "w".to_owned(),
            text(0).to_owned(),
            const_hex::encode(extranonce2),
            text(7).to_owned(),
        ];
        params.push(format!("{nonce:08x}"));
        params.extend(bits.map(|bits| format!("{bits:08x}")));
        serde_json::json!({ "id": 9, "method": "mining.submit", "params": params }).to_string()
    }
}

/// About 2^16 hashes a share.
const DIFFICULTY: f64 = 1.0 / 65536.0;

fn find(lines: &[String], method: &str) -> Value {
    let all: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.into_iter()
        .find(|line| line["method"] == method)
        .unwrap_or_else(|| panic!("no {method} in {lines:?}"))
}

const GOOD: &str = r#"{"id":9,"result":true,"error":null}"#;

#[test]
fn a_share_is_accepted_once() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    let submit = bench.mine(&notify, &[0; 8], None, DIFFICULTY);
    assert_eq!(bench.say(&submit), [GOOD]);
    assert_eq!(
        bench.say(&submit),
        [r#"{"id":9,"result":null,"error":[22,"Duplicate share",null]}"#]
    );
    let rolled = bench.mine(&notify, &[0; 8], Some(0x0000_2000), DIFFICULTY);
    assert_eq!(bench.say(&rolled), [GOOD]);
    let counts = bench.core.counts();
    assert_eq!((counts.total.accepted, counts.total.duplicate), (2, 1));
    assert!((counts.total.work - 2.0 * DIFFICULTY).abs() < 1e-12);
    assert_eq!(counts.workers["w"], counts.total);
    assert_eq!(counts.connections[&1].total, counts.total);
}

#[test]
fn a_share_is_judged_at_the_difficulty_of_its_job() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    bench.core.set_difficulty(1e6).unwrap();
    assert_eq!(find(&bench.heard(), "mining.set_difficulty")["params"][0], 1_000_000);
    let submit = bench.mine(&notify, &[1; 8], None, DIFFICULTY);
    assert_eq!(bench.say(&submit), [GOOD]);
    bench.core.new_job(false, bench.now);
    let notify = find(&bench.heard(), "mining.notify");
    let submit = bench.mine(&notify, &[1; 8], None, DIFFICULTY);
    assert_eq!(
        bench.say(&submit),
        [r#"{"id":9,"result":null,"error":[23,"Low difficulty share",null]}"#]
    );
    assert_eq!(bench.core.counts().total.low, 1);
}

#[test]
fn a_share_of_a_retired_job_is_stale_and_its_age_is_kept() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    let submit = bench.mine(&notify, &[2; 8], None, DIFFICULTY);
    bench.core.new_job(false, bench.now);
    bench.core.new_job(true, bench.now);
    bench.heard();
    bench.now = bench.now.after(Duration::from_millis(1500));
    assert_eq!(bench.say(&submit), [r#"{"id":9,"result":null,"error":[21,"Stale",null]}"#]);
    let counts = bench.core.counts();
    assert_eq!((counts.total.stale, counts.stale_late, counts.stale_age_ms_max), (1, 1, 1500));
}

#[test]
fn a_new_extranonce1_retires_what_was_issued_under_the_old() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    let submit = bench.mine(&notify, &[2; 8], None, DIFFICULTY);
    bench.core.set_extranonce(Some(&[9, 9]), 4, bench.now).unwrap();
    let lines = bench.heard();
    assert_eq!(find(&lines, "mining.set_extranonce")["params"], serde_json::json!(["0909", 4]));
    assert_eq!(bench.say(&submit), [r#"{"id":9,"result":null,"error":[21,"Stale",null]}"#]);
    let fresh = bench.mine(&find(&lines, "mining.notify"), &[2; 4], None, DIFFICULTY);
    assert_eq!(bench.say(&fresh), [GOOD]);
    assert!(bench.core.set_extranonce(None, 9, bench.now).is_err());
}

#[test]
fn a_mask_that_shrinks_holds_at_once() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    let submit = bench.mine(&notify, &[3; 8], Some(0x1000_0000), DIFFICULTY);
    bench.core.set_version_mask(Some(0x00ff_e000));
    assert_eq!(find(&bench.heard(), "mining.set_version_mask")["params"][0], "00ffe000");
    assert_eq!(
        bench.say(&submit),
        [r#"{"id":9,"result":null,"error":[20,"Invalid version mask",null]}"#]
    );
    bench.core.set_version_mask(None);
    assert_eq!(find(&bench.heard(), "mining.set_version_mask")["params"][0], "00000000");
}

#[test]
fn repeated_job_ids_mean_the_latest_job() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    let old = bench.mine(&notify, &[4; 8], None, DIFFICULTY);
    bench.core.repeat_job_ids = true;
    bench.core.new_job(false, bench.now);
    let again = find(&bench.heard(), "mining.notify");
    assert_eq!(again["params"][0], notify["params"][0]);
    assert_ne!(again["params"][4], notify["params"][4]);
    assert!(bench.say(&old)[0].contains("[23,"));
    let fresh = bench.mine(&again, &[4; 8], None, DIFFICULTY);
    assert_eq!(bench.say(&fresh), [GOOD]);
}

#[test]
fn a_block_is_counted_and_can_bring_a_clean_job() {
    let config = PoolConfig { nbits: 0x207f_ffff, clean_on_block: true, ..Bench::easy() };
    let (mut bench, notify) = Bench::mining(config);
    let submit = bench.mine(&notify, &[0; 8], None, DIFFICULTY);
    let lines = bench.say(&submit);
    assert_eq!(lines[0], GOOD);
    assert_eq!(find(&lines, "mining.notify")["params"][8], true);
    assert_eq!(bench.core.counts().total.blocks, 1);
}

#[test]
fn handshakes_take_the_configured_forms() {
    let config = PoolConfig {
        extranonce1: Extranonce1::Fixed(vec![0]),
        extranonce2_size: 6,
        subscribe_reply: SubscribeReply::Flat,
        omit_error_key: true,
        early_version_mask: true,
        configure_first: true,
        first_job: FirstJob::AfterSubscribe,
        difficulty_order: DifficultyOrder::After,
        ..PoolConfig::default()
    };
    let mut bench = Bench::new(config);
    let configure = r#"{"id":"c","method":"mining.configure","params":[["version-rolling","minimum-difficulty"],{"version-rolling.mask":"ffff0000"}]}"#;
    assert_eq!(
        bench.say(configure),
        [
            r#"{"id":"c","result":{"minimum-difficulty":false,"version-rolling":true,"version-rolling.mask":"1fff0000"}}"#,
            r#"{"id":null,"method":"mining.set_version_mask","params":["1fff0000"]}"#,
        ]
    );
    let lines = bench.say(r#"{"id":2,"method":"mining.subscribe","params":["agent/1"]}"#);
    assert_eq!(lines[0], r#"{"id":2,"result":[["mining.notify","00000001"],"00",6]}"#);
    assert!(
        lines[1].contains("mining.notify") && lines[2].contains("mining.set_difficulty"),
        "{lines:?}"
    );
    assert!(bench.say(configure)[0].contains("ConfigurationOutOfOrder"));
    let other = bench.core.open("127.0.0.1:2".parse().unwrap());
    assert_eq!(bench.core.extranonce1(other), bench.core.extranonce1(bench.id));
    assert_eq!(bench.core.counts().connections[&1].user_agent.as_deref(), Some("agent/1"));
}

#[test]
fn extranonce1_is_each_connections_own_and_comes_back_when_told() {
    let mut bench = Bench::new(PoolConfig::default());
    let first = bench.core.extranonce1(bench.id).unwrap();
    let other = bench.core.open("127.0.0.1:2".parse().unwrap());
    assert_ne!(bench.core.extranonce1(other).unwrap(), first);
    bench.core.reuse_extranonce1 = true;
    bench.core.close(bench.id);
    let again = bench.core.open("127.0.0.1:3".parse().unwrap());
    assert_eq!(bench.core.extranonce1(again).unwrap(), first);
}

#[test]
fn only_listed_workers_may_mine() {
    let config = PoolConfig { authorize: Authorize::Only(vec!["good".into()]), ..Bench::easy() };
    let mut bench = Bench::new(config);
    bench.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    let refused = bench.say(r#"{"id":3,"method":"mining.authorize","params":["bad","x"]}"#);
    assert_eq!(refused, [r#"{"id":3,"result":false,"error":[24,"Unauthorized worker",null]}"#]);
    assert_eq!(bench.say(r#"{"id":4,"method":"mining.authorize","params":["good","x"]}"#).len(), 3);
    let submit =
        bench.say(r#"{"id":5,"method":"mining.submit","params":["bad","1","00","00","00"]}"#);
    assert!(submit[0].contains("[24,"));
    assert_eq!(bench.core.counts().total.malformed, 1);
}

#[test]
fn difficulty_wishes_are_honoured_where_allowed() {
    let mut bench = Bench::new(PoolConfig::default());
    bench.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    let lines = bench.say(r#"{"id":3,"method":"mining.authorize","params":["w","x,d=0.25"]}"#);
    assert_eq!(find(&lines, "mining.set_difficulty")["params"][0], 0.25);
    let lines = bench.say(r#"{"id":4,"method":"mining.suggest_difficulty","params":[2048]}"#);
    assert_eq!(find(&lines, "mining.set_difficulty")["params"][0], 2048);
    bench.core.config.honour_suggestions = false;
    let lines = bench.say(r#"{"id":5,"method":"mining.suggest_difficulty","params":[1]}"#);
    assert_eq!(lines, [r#"{"id":5,"result":null,"error":[40,"unfit, ignore"]}"#]);
    assert!((bench.core.counts().connections[&1].difficulty - 2048.0).abs() < f64::EPSILON);
}

#[test]
fn refusals_take_the_configured_form() {
    let ask = |form| {
        let mut bench = Bench::new(PoolConfig { error_form: form, ..PoolConfig::default() });
        bench.say(r#"{"id":7,"method":"mining.foo","params":[]}"#).remove(0)
    };
    assert_eq!(
        ask(ErrorForm::RejectReason),
        r#"{"id":7,"result":false,"error":null,"reject-reason":"Unknown method"}"#
    );
    assert_eq!(ask(ErrorForm::Text), r#"{"id":7,"result":null,"error":"Unknown method"}"#);
    assert_eq!(
        ask(ErrorForm::Object),
        r#"{"id":7,"result":null,"error":{"code":20,"message":"Unknown method"}}"#
    );
    let mut bench = Bench::new(PoolConfig {
        extranonce_subscribe: ExtranonceSubscribe::Silence,
        ..PoolConfig::default()
    });
    assert!(bench.say(r#"{"id":7,"method":"mining.extranonce.subscribe","params":[]}"#).is_empty());
    assert_eq!(
        bench.say(r#"{"id":8,"method":"mining.ping","params":[]}"#),
        [r#"{"id":8,"result":"pong","error":null}"#]
    );
}

#[test]
fn moods_and_verdicts_change_what_is_said_but_not_what_is_counted() {
    let (mut bench, notify) = Bench::mining(Bench::easy());
    let submits: Vec<String> =
        (0..4_u8).map(|n| bench.mine(&notify, &[n; 8], None, DIFFICULTY)).collect();
    bench.core.set_mood(Mood::Quiet, bench.now);
    bench.core.new_job(true, bench.now);
    assert_eq!(
        bench.say(&submits[0]),
        [GOOD],
        "quiet: answers, no job came that could retire this one"
    );
    bench.core.set_mood(Mood::Silent, bench.now);
    assert!(bench.say(&submits[1]).is_empty());
    bench.core.mood = Mood::Normal;
    bench.core.verdicts = Verdicts::RejectAll;
    assert!(bench.say(&submits[1])[0].contains("Rejected"));
    bench.core.verdicts = Verdicts::WrongIds;
    assert_eq!(bench.say(&submits[1]), [r#"{"id":"nobody","result":true,"error":null}"#]);
    bench.core.verdicts = Verdicts::AcceptAll;
    assert_eq!(bench.say(&submits[1]), [GOOD], "a duplicate, told true");
    let counts = bench.core.counts();
    assert_eq!((counts.total.accepted, counts.total.duplicate), (2, 1));
    assert_eq!((counts.rejected_by_order, counts.ignored_submits), (1, 1));
}

#[test]
fn or_pools_keep_the_jobs_bits() {
    let config = PoolConfig { job_version: 0x2000_2000, rolling: Rolling::Or, ..Bench::easy() };
    let (mut bench, notify) = Bench::mining(config);
    // Mined with the bits 0x6000. As with stock firmware, the submit leaves out 0x2000, which the
    // job has set.
    let submit =
        bench.mine(&notify, &[1; 8], Some(0x6000), DIFFICULTY).replace("00006000", "00004000");
    assert_eq!(bench.say(&submit), [GOOD]);
}

#[test]
fn what_is_no_message_closes_the_connection() {
    let mut bench = Bench::new(PoolConfig::default());
    assert_eq!(bench.say("GET / HTTP/1.1"), ["(close)"]);
    let counts = bench.core.counts();
    assert_eq!((counts.bad_lines, counts.open, counts.connections[&1].open), (1, 0, false));
    assert_eq!(bench.core.wire(bench.id), [(Direction::In, "GET / HTTP/1.1".to_owned())]);
}
