//! Tests of one miner: the test writes the lines of its pool and sets the time.

use super::*;
use crate::clock;
use crate::miner::{PowerSwitch, SleepKind};

mod firmware;

/// A miner, and a pool whose lines the test writes.
struct Bench {
    brain: Brain,
    now: Instant,
}

const CONFIGURED: &str =
    r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#;
const SUBSCRIBED: &str = r#"{"id":2,"result":[[["mining.notify","1"]],"0a0b",4],"error":null}"#;
const AUTHORIZED: &str = r#"{"id":3,"result":true,"error":null}"#;
const MASK: &str = r#"{"id":null,"method":"mining.set_version_mask","params":["00c00000"]}"#;

impl Bench {
    fn new(model: Model) -> Self {
        Self::with(MinerConfig::new(model, "pool:3333", "acme.rig-1"))
    }

    fn with(config: MinerConfig) -> Self {
        let now = clock::now();
        let mut brain = Brain::new(Arc::new(config), now);
        brain.connected("pool", now);
        Self { brain, now }
    }

    fn mining(config: MinerConfig) -> Self {
        let mut bench = Self::with(config);
        bench.shake_hands();
        bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
        bench
    }

    /// Answers the miner's handshake as a plain pool does, in the order of the requests.
    fn shake_hands(&mut self) -> Vec<String> {
        let mut asked = self.heard();
        let mut at = 0;
        while let Some(line) = asked.get(at) {
            let request: Value = serde_json::from_str(line).unwrap();
            let result = match request["method"].as_str().unwrap() {
                "mining.configure" => {
                    r#"{"version-rolling":true,"version-rolling.mask":"1fffe000"}"#
                }
                "mining.subscribe" => r#"[[["mining.notify","5e55"]],"0a0b",4]"#,
                _ => "true",
            };
            let answer = format!("{{\"id\":{},\"result\":{result},\"error\":null}}", request["id"]);
            at += 1;
            if request["id"].is_null() {
                continue;
            }
            asked.extend(self.tell(&answer));
        }
        asked
    }

    fn tell(&mut self, line: &str) -> Vec<String> {
        self.brain.line(line.as_bytes(), self.now);
        self.heard()
    }

    fn heard(&mut self) -> Vec<String> {
        let out = String::from_utf8(self.brain.take_out()).unwrap();
        out.lines().map(str::to_owned).collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.brain.tick(self.now);
        self.heard()
    }

    fn counts(&self) -> MinerCounts {
        self.brain.counts(self.now)
    }
}

fn notify(id: &str, ntime: &str, clean: bool) -> String {
    let hash = "11".repeat(32);
    format!(
        r#"{{"id":null,"method":"mining.notify","params":["{id}","{hash}","aa","bb",[],"20000000","1d00ffff","{ntime}",{clean}]}}"#
    )
}

#[test]
fn a_cgminer_configures_only_when_it_rolls_and_sends_params_first() {
    let mut bench = Bench::new(Model::Cgminer411);
    assert_eq!(
        bench.heard(),
        [
            r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#
        ]
    );
    assert_eq!(
        bench.tell(CONFIGURED),
        [r#"{"id": 2, "method": "mining.subscribe", "params": ["cgminer/4.11.1"]}"#]
    );
    assert_eq!(
        bench.tell(SUBSCRIBED),
        [r#"{"id": 3, "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#]
    );
    assert!(bench.tell(AUTHORIZED).is_empty());
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
    bench.tell(&notify("a", "00000005", true));
    let submits = bench.pass(Duration::from_millis(50));
    assert!(
        submits[0].starts_with(r#"{"params": ["acme.rig-1","a","00000000","00000005",""#)
            && submits[0].ends_with(r#","00000000"], "id": 4, "method": "mining.submit"}"#),
        "{submits:?}"
    );
    let plain =
        MinerConfig { rolling: false, ..MinerConfig::new(Model::Cgminer411, "pool:3333", "w") };
    assert!(Bench::with(plain).heard()[0].contains("mining.subscribe"));
}

#[test]
fn a_cgminer_takes_the_first_unknown_line_for_the_authorize_reply() {
    let mut bench = Bench::new(Model::Cgminer411);
    bench.tell(CONFIGURED);
    bench.tell(SUBSCRIBED);
    bench.tell(&notify("a", "00000005", true));
    assert_eq!(bench.brain.ending(), None, "a notify is known");
    bench.tell(MASK);
    assert_eq!(bench.brain.ending(), Some(Ending::Handshake));
}

#[test]
fn an_s19_wants_the_configure_reply_as_the_very_next_line() {
    let mut bench = Bench::new(Model::StockS19);
    assert_eq!(
        bench.heard(),
        [
            r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":3}]}"#
        ]
    );
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[1]}"#);
    assert_eq!(bench.brain.ending(), Some(Ending::Handshake));
    bench.brain.closed(Ending::Handshake, bench.now);
    assert_eq!(bench.counts().failed_handshakes, 1);
    bench.brain.connected("pool", bench.now);
    bench.heard();
    assert_eq!(
        bench.tell(CONFIGURED),
        [r#"{"id": 2, "method": "mining.subscribe", "params": []}"#],
        "the second try is bare"
    );
    bench.tell(SUBSCRIBED);
    bench.tell(MASK);
    assert_eq!(bench.brain.ending(), None, "it knows set_version_mask");
    assert!(bench.tell(AUTHORIZED).is_empty());
    assert_eq!(bench.brain.ending(), None);
}

#[test]
fn a_cpuminer_uses_id_4_for_every_submit_and_answers_keep_their_order() {
    let mut bench = Bench::new(Model::Cpuminer);
    assert_eq!(
        bench.heard(),
        [r#"{"id": 1, "method": "mining.subscribe", "params": ["cpuminer-opt-26.1-x64L"]}"#]
    );
    assert_eq!(
        bench.tell(r#"{"id":1,"result":[[["mining.notify","1"]],"0a0b",4],"error":null}"#),
        [r#"{"id": 2, "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#]
    );
    assert_eq!(
        bench.tell(r#"{"id":2,"result":true,"error":null}"#),
        [r#"{"id": 3, "method": "mining.extranonce.subscribe", "params": []}"#]
    );
    bench.tell(r#"{"id":3,"result":true,"error":null}"#);
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
    bench.tell(&notify("a", "00000005", true));
    let submits = bench.pass(Duration::from_millis(100));
    assert!(submits.len() > 2, "{submits:?}");
    assert!(submits.iter().all(
        |line| line.starts_with(r#"{"method": "mining.submit""#) && line.ends_with("\"id\":4}")
    ));
    for _ in &submits {
        bench.tell(r#"{"id":4,"result":true,"error":null}"#);
    }
    let counts = bench.counts();
    assert_eq!(counts.answered_true, u64::try_from(submits.len()).unwrap());
    assert!(counts.balanced());
    bench.tell(r#"{"id":4,"result":true,"error":null}"#);
    assert_eq!(bench.counts().double_answers, 1);
    bench.tell(r#"{"id":77,"result":true,"error":null}"#);
    assert_eq!(bench.counts().unknown_answers, 1);
}

#[test]
fn a_bfgminer_suggests_a_target_first_and_authorises_with_a_string_id() {
    let mut bench = Bench::new(Model::Bfgminer);
    let lines = bench.heard();
    assert!(lines[0].starts_with(r#"{"id": null, "method": "mining.suggest_target""#), "{lines:?}");
    assert_eq!(
        lines[1],
        r#"{"id": 1, "method": "mining.subscribe", "params": ["bfgminer/5.5.0"]}"#
    );
    assert!(
        bench.tell(r#"{"id":null,"result":null,"error":[20,"Unknown method",null]}"#).is_empty()
    );
    let lines = bench.tell(SUBSCRIBED);
    assert_eq!(
        lines,
        [r#"{"id": "auth", "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#]
    );
    bench.tell(r#"{"id":"auth","result":true,"error":null}"#);
    assert_eq!(bench.brain.ending(), None);
}

#[test]
fn extranonce2_restarts_as_each_firmware_has_it() {
    let after = |model, id: &str, clean| {
        let mut bench = Bench::mining(MinerConfig::new(model, "pool:3333", "w"));
        bench.tell(&notify("a", "00000005", true));
        for _ in 0..12 {
            bench.pass(Duration::from_millis(100));
        }
        bench.tell(&notify(id, "00000006", clean));
        let submits: Vec<Value> = bench
            .pass(Duration::from_millis(50))
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        submits[0]["params"][2].as_str().unwrap().to_owned()
    };
    for model in Model::ALL {
        let first = if model == Model::NerdMiner { "00000001" } else { "00000000" };
        assert_eq!(after(model, "b", true), first, "{model:?} at a clean job");
    }
    assert_ne!(after(Model::Cgminer411, "b", false), "00000000");
    assert_ne!(after(Model::StockS19, "b", false), "00000000");
    assert_eq!(after(Model::Cpuminer, "b", false), "00000000");
    assert_ne!(after(Model::Cpuminer, "a", false), "00000000");
    assert_eq!(after(Model::Bfgminer, "a", false), "00000000");
}

#[test]
fn an_s19_drops_shares_below_a_new_difficulty() {
    let config =
        MinerConfig { hashrate: 1000.0, ..MinerConfig::new(Model::StockS19, "pool:3333", "w") };
    let mut bench = Bench::mining(config);
    bench.tell(&notify("a", "00000005", true));
    assert!(!bench.pass(Duration::from_millis(20)).is_empty());
    // The current work was made at the old difficulty.
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[1000000]}"#);
    let submitted = bench.counts().submitted;
    assert!(bench.pass(Duration::from_millis(20)).is_empty());
    let counts = bench.counts();
    assert!(counts.filtered > 0 && counts.submitted == submitted, "{counts:?}");
}

#[test]
fn long_extranonce2_is_silently_withheld_by_cgminer_class_firmware() {
    let mut bench = Bench::new(Model::StockS19);
    bench.tell(CONFIGURED);
    bench.tell(r#"{"id":2,"result":[[],"0a",9],"error":null}"#);
    bench.tell(AUTHORIZED);
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
    bench.tell(&notify("a", "00000005", true));
    bench.heard();
    assert!(bench.pass(Duration::from_millis(50)).is_empty());
    assert!(bench.counts().withheld > 0);
}

#[test]
fn work_and_ids_that_come_again_are_counted() {
    let mut bench = Bench::mining(MinerConfig::new(Model::Cgminer411, "pool:3333", "w"));
    bench.tell(&notify("a", "00000005", true));
    bench.tell(&notify("b", "00000006", false));
    assert_eq!((bench.counts().repeated_work, bench.counts().repeated_job_ids), (0, 0));
    bench.tell(&notify("a", "00000007", false));
    assert_eq!((bench.counts().repeated_work, bench.counts().repeated_job_ids), (0, 1));
    bench.tell(&notify("c", "00000005", true));
    assert_eq!((bench.counts().repeated_work, bench.counts().repeated_job_ids), (1, 1));
}

#[test]
fn set_extranonce_holds_from_the_next_job_and_cgminer_does_not_know_it() {
    let told = r#"{"id":null,"method":"mining.set_extranonce","params":["0c",2]}"#;
    for (model, changes, length) in
        [(Model::StockS19, 1, 4), (Model::Cpuminer, 1, 4), (Model::Cgminer411, 0, 8)]
    {
        let mut bench = Bench::mining(MinerConfig::new(model, "pool:3333", "w"));
        bench.tell(told);
        assert_eq!(bench.counts().extranonce_changes, 0);
        bench.tell(&notify("a", "00000005", true));
        let submits = bench.pass(Duration::from_millis(50));
        let submit: Value = serde_json::from_str(&submits[0]).unwrap();
        assert_eq!(submit["params"][2].as_str().unwrap().len(), length, "{model:?}");
        assert_eq!(bench.counts().extranonce_changes, changes, "{model:?}");
    }
}

#[test]
fn silence_is_given_up_after_the_models_own_time() {
    let mut bench = Bench::mining(MinerConfig::new(Model::Cgminer411, "pool:3333", "w"));
    bench.pass(Duration::from_secs(89));
    assert_eq!(
        bench.tell(r#"{"id":5,"method":"mining.ping","params":[]}"#),
        [r#"{"id":5,"result":"pong","error":null}"#]
    );
    bench.pass(Duration::from_secs(89));
    assert_eq!(bench.brain.ending(), None);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.brain.ending(), Some(Ending::Silence));
    assert_eq!((bench.counts().pings, bench.counts().parked_pings), (1, 1));
}

#[test]
fn a_hostile_reconnect_is_refused_and_an_empty_one_followed() {
    let mut bench = Bench::mining(MinerConfig::new(Model::StockS19, "pool:3333", "w"));
    bench.tell(r#"{"id":null,"method":"client.reconnect","params":["evil.example",3333,0]}"#);
    assert_eq!((bench.brain.ending(), bench.counts().reconnects_refused), (None, 1));
    bench.tell(r#"{"id":null,"method":"client.reconnect","params":[]}"#);
    assert_eq!(bench.brain.ending(), Some(Ending::Told));
    assert_eq!(bench.brain.moved_to, None);
}

#[test]
fn a_job_the_pool_calls_not_found_leaves_a_gap_until_the_next() {
    let mut bench = Bench::mining(MinerConfig::new(Model::Cgminer411, "pool:3333", "w"));
    bench.tell(&notify("a", "00000005", true));
    bench.pass(Duration::from_millis(50));
    bench.tell(r#"{"id":4,"result":null,"error":[21,"Job not found",null]}"#);
    bench.now += Duration::from_millis(700);
    bench.tell(&notify("b", "00000006", true));
    let counts = bench.counts();
    assert_eq!((counts.gap_ms, counts.answered_error["21"]), (700, 1));
}

#[test]
fn a_sleeping_miner_does_not_hash_and_does_not_catch_up() {
    let config = MinerConfig {
        switch: PowerSwitch::new(SleepKind::KeepsTcp),
        ..MinerConfig::new(Model::Cgminer411, "pool:3333", "w")
    };
    let mut bench = Bench::mining(config);
    bench.tell(&notify("a", "00000005", true));
    bench.pass(Duration::from_millis(50));
    bench.brain.set_awake(false, bench.now);
    let before = bench.counts().hashes;
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.counts().hashes, before);
    bench.brain.set_awake(true, bench.now);
    bench.pass(Duration::from_millis(50));
    assert_eq!(bench.counts().hashes, before + 250);
    assert_eq!(bench.counts().sleeps, 1);
}

#[test]
fn garbage_never_panics() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    for model in Model::ALL {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut bench = Bench::mining(MinerConfig::new(model, "pool:3333", "w"));
            let words = [
                CONFIGURED,
                SUBSCRIBED,
                AUTHORIZED,
                MASK,
                "{",
                "[]",
                "null",
                "\u{0}",
                r#"{"method":"mining.notify","params":null}"#,
                r#"{"method":"mining.set_difficulty","params":[-1]}"#,
                r#"{"method":"mining.set_extranonce","params":["zz",99999999999]}"#,
                r#"{"method":"mining.set_extranonce","params":["",1]}"#,
                r#"{"method":"mining.set_version_mask","params":["00000000"]}"#,
                r#"{"method":"client.reconnect","params":["x",70000]}"#,
                r#"{"id":4,"result":{},"error":{}}"#,
            ];
            for step in 0..30 {
                match rng.random_range(0..3) {
                    0 => drop(bench.tell(words[rng.random_range(0..words.len())])),
                    1 => drop(bench.tell(&notify(&format!("{step}"), "00000005", rng.random()))),
                    _ => drop(bench.pass(Duration::from_millis(10))),
                }
                let counts = bench.counts();
                assert_eq!(
                    counts.submitted,
                    counts.answered_true
                        + counts.refused()
                        + counts.unanswered
                        + counts.outstanding,
                    "{model:?} seed {seed} step {step}"
                );
            }
        }
    }
}

#[test]
fn a_very_slow_miner_saves_up_for_a_hash() {
    let config =
        MinerConfig { hashrate: 2.0, ..MinerConfig::new(Model::Cpuminer, "pool:3333", "w") };
    let mut bench = Bench::mining(config);
    bench.tell(&notify("a", "00000005", true));
    for _ in 0..40 {
        bench.pass(Duration::from_millis(50));
    }
    assert!((3..=4).contains(&bench.counts().hashes), "{:?}", bench.counts());
}

#[test]
fn stopping_is_no_gap() {
    let mut bench = Bench::mining(MinerConfig::new(Model::Cgminer411, "pool:3333", "w"));
    bench.tell(&notify("a", "00000005", true));
    bench.brain.finish(bench.now);
    bench.brain.closed(Ending::Wanted, bench.now);
    bench.now += Duration::from_secs(9);
    assert_eq!(bench.counts().gap_ms, 0);
}
