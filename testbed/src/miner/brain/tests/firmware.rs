//! Tests of what each firmware does differently from others (docs/protocol.md 2.1 to 2.3, 3.2).

use super::*;

fn miner(model: Model) -> MinerConfig {
    MinerConfig::new(model, "pool:3333", "acme.rig-1")
}

/// A miner with a job for which nearly every hash is a share.
fn at_work(model: Model) -> Bench {
    let mut bench = Bench::mining(miner(model));
    bench.tell(&notify("a", "00000005", true));
    bench
}

fn submit(bench: &mut Bench) -> Value {
    let lines = bench.pass(Duration::from_millis(50));
    serde_json::from_str(lines.first().expect("it finds shares")).unwrap()
}

#[test]
fn each_handshake_is_said_in_its_firmwares_words() {
    for (model, words) in [
        (
            Model::Whatsminer,
            &[
                r#"{"id":196,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}"#,
                r#"{"id": 197, "method": "mining.subscribe", "params": ["whatsminer/v1.0"]}"#,
                r#"{"id": 198, "method": "mining.authorize", "params": ["acme.rig-1","x"], "ttl": 2}"#,
            ][..],
        ),
        (
            Model::StockS17,
            &[
                r#"{"id": 1, "method": "mining.subscribe", "params": ["cgminer/2.0.0"]}"#,
                r#"{"id": 2, "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#,
                r#"{"id":3,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00c00000","version-rolling.min-bit-count":2}]}"#,
            ],
        ),
        (
            Model::StockS9,
            &[
                r#"{"id": 1, "method": "mining.subscribe", "params": ["bmminer/2.0.0"]}"#,
                r#"{"id": 2, "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#,
                r#"{"id": 3, "method": "mining.multi_version", "params": [1]}"#,
            ],
        ),
        (
            Model::BraiinsOs,
            &[
                r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}]}"#,
                r#"{"id": 2, "method": "mining.subscribe", "params": ["bosminer-plus-tuner 0.9.0",null,"pool",null]}"#,
                r#"{"id": 3, "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#,
            ],
        ),
        (
            Model::Minerd,
            &[
                r#"{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}"#,
                r#"{"id": 2, "method": "mining.authorize", "params": ["acme.rig-1","x"]}"#,
            ],
        ),
    ] {
        assert_eq!(Bench::new(model).shake_hands(), words, "{model:?}");
    }
}

#[test]
fn an_esp_miner_says_all_at_once_and_takes_the_replies_by_their_ids() {
    let mut bench = Bench::new(Model::EspMiner);
    let methods: Vec<String> = bench
        .heard()
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["method"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        methods,
        ["mining.configure", "mining.subscribe", "mining.authorize", "mining.suggest_difficulty"]
    );
    for line in [
        r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#,
        AUTHORIZED,
        &notify("a", "00000005", true),
        SUBSCRIBED,
        &notify("b", "00000006", true),
        CONFIGURED,
    ] {
        bench.tell(line);
    }
    assert_eq!(bench.brain.ending(), None);
    let submit = submit(&mut bench);
    assert_eq!(
        (submit["params"][1].as_str(), submit["params"].as_array().map(Vec::len)),
        (Some("b"), Some(6))
    );
}

#[test]
fn an_esp_miner_passes_over_a_job_id_it_has_seen_and_answers_pings_with_a_method() {
    let mut bench = at_work(Model::EspMiner);
    bench.tell(&notify("b", "00000006", false));
    bench.tell(&notify("a", "00000007", false));
    assert_eq!(submit(&mut bench)["params"][1], "b");
    assert_eq!(bench.counts().passed_over, 1);
    bench.tell(&notify("a", "00000008", true));
    assert_eq!(submit(&mut bench)["params"][3], "00000008", "after a clean job it has forgotten");
    assert_eq!(
        bench.tell(r#"{"id":7,"method":"mining.ping","params":[]}"#),
        [r#"{"id":7,"method":"pong","params":[]}"#]
    );
}

#[test]
fn an_esp_miner_holds_what_it_works_at_to_a_new_difficulty_at_once() {
    let mut bench = at_work(Model::EspMiner);
    assert!(!bench.pass(Duration::from_millis(10)).is_empty());
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[1000000]}"#);
    assert!(bench.pass(Duration::from_millis(20)).is_empty());
    assert_eq!(bench.counts().filtered, 0);
}

#[test]
fn an_esp_miner_rolls_even_where_it_may_not() {
    let mut bench = Bench::new(Model::EspMiner);
    bench.heard();
    bench.tell(r#"{"id":1,"result":{"version-rolling":false},"error":null}"#);
    bench.tell(SUBSCRIBED);
    bench.tell(AUTHORIZED);
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
    bench.tell(&notify("a", "00000005", true));
    let submits: Vec<String> =
        (0..10).flat_map(|_| bench.pass(Duration::from_millis(50))).collect();
    assert!(submits.iter().any(|line| line.contains("\"00002000\"")), "{submits:?}");
}

#[test]
fn a_whatsminer_configures_again_when_told_what_it_did_not_ask() {
    let mut bench = Bench::new(Model::Whatsminer);
    bench.heard();
    let told = r#"{"id":196,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000","minimum-difficulty":false},"error":null}"#;
    assert!(bench.tell(told)[0].contains("mining.configure"));
    for _ in 0..8 {
        bench.tell(told);
    }
    assert_eq!(
        (bench.brain.ending(), bench.counts().configure_repeats),
        (Some(Ending::Handshake), 9)
    );
}

#[test]
fn a_whatsminer_names_its_old_session() {
    let mut bench = at_work(Model::Whatsminer);
    bench.brain.closed(Ending::Lost, bench.now);
    bench.brain.connected("pool", bench.now);
    assert!(bench.shake_hands()[1].contains(r#"["whatsminer/v1.0","5e55"]"#));
}

#[test]
fn firmware_that_needs_to_roll_leaves_or_goes_without() {
    for (model, mask, leaves) in [
        (Model::BraiinsOs, None, true),
        (Model::Vnish, None, true),
        (Model::StockS17, None, false),
        (Model::StockS17, Some("00400000"), false),
    ] {
        let mut bench = Bench::new(model);
        let refusal = mask.map_or(r#"{"version-rolling":false}"#.to_owned(), |mask| {
            format!(r#"{{"version-rolling":true,"version-rolling.mask":"{mask}"}}"#)
        });
        let mut asked = bench.heard();
        while let Some(line) = asked.pop() {
            let result = if line.contains("configure") {
                &refusal
            } else if line.contains("subscribe") {
                r#"[[["mining.notify","1"]],"0a0b",4]"#
            } else {
                "true"
            };
            let id = serde_json::from_str::<Value>(&line).unwrap()["id"].clone();
            asked = bench.tell(&format!("{{\"id\":{id},\"result\":{result},\"error\":null}}"));
        }
        assert_eq!(bench.brain.ending(), leaves.then_some(Ending::Handshake), "{model:?}");
        assert_eq!(bench.counts().rolling_off, 1, "{model:?}");
    }
}

#[test]
fn an_s17_wants_the_subscribe_reply_next_and_mines_before_it_configures() {
    let mut bench = Bench::new(Model::StockS17);
    bench.heard();
    bench.tell(&notify("a", "00000005", true));
    assert_eq!(
        bench.brain.ending(),
        Some(Ending::Handshake),
        "a notify before the subscribe reply"
    );

    let mut bench = Bench::new(Model::StockS17);
    bench.heard();
    bench.tell(r#"{"id":1,"result":[[["mining.notify","1"]],"0a0b",4],"error":null}"#);
    bench.tell(r#"{"id":2,"result":true,"error":null}"#);
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
    bench.tell(&notify("a", "00000005", true));
    assert_eq!(submit(&mut bench)["params"].as_array().map(Vec::len), Some(5));
    bench.tell(r#"{"id":3,"result":{"version-rolling":true,"version-rolling.mask":"00c00000"},"error":null}"#);
    assert_eq!(submit(&mut bench)["params"].as_array().map(Vec::len), Some(6));
    assert_eq!(bench.counts().rolling_off, 0);
}

#[test]
fn an_s21_leaves_when_a_mask_comes_before_the_authorize_reply() {
    let mut bench = Bench::new(Model::StockS21);
    bench.heard();
    bench.tell(CONFIGURED);
    bench.tell(SUBSCRIBED);
    bench.tell(MASK);
    assert_eq!(bench.brain.ending(), Some(Ending::Handshake));
    let mut s19 = Bench::new(Model::StockS19);
    s19.heard();
    s19.tell(CONFIGURED);
    s19.tell(SUBSCRIBED);
    s19.tell(MASK);
    assert_eq!(s19.brain.ending(), None);
}

#[test]
fn a_luxos_passes_over_notifications_without_an_id_key() {
    let mut bench = at_work(Model::LuxOs);
    bench.tell(&notify("b", "00000006", true).replace("\"id\":null,", ""));
    assert_eq!(submit(&mut bench)["params"][1], "a");
    assert_eq!(bench.counts().passed_over, 1);
}

#[test]
fn a_nerdminer_writes_short_nonces_and_one_extranonce2() {
    let mut bench = at_work(Model::NerdMiner);
    let submits: Vec<Value> = bench
        .pass(Duration::from_millis(100))
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let fields =
        |at: usize| submits.iter().map(move |submit| submit["params"][at].as_str().unwrap());
    assert!(fields(4).any(|nonce| nonce.len() < 8), "{submits:?}");
    assert!(fields(2).all(|extranonce2| extranonce2 == "00000001"), "{submits:?}");
    assert!(submits.iter().all(|submit| submit["params"].as_array().map(Vec::len) == Some(5)));

    let mut bench = Bench::new(Model::NerdMiner);
    bench.heard();
    bench.tell(r#"{"id":1,"result":[["mining.notify","1"],"0a0b",4],"error":null}"#);
    assert_eq!(bench.brain.ending(), Some(Ending::Handshake), "it finds no name in a flat reply");
}

#[test]
fn sizes_of_extranonce2_are_taken_as_each_firmware_takes_them() {
    let ending = |model: Model, size: usize| {
        let mut bench = Bench::new(model);
        for line in bench.heard() {
            let id = serde_json::from_str::<Value>(&line).unwrap()["id"].clone();
            if line.contains("configure") {
                bench.tell(CONFIGURED);
                bench.heard();
                bench.tell(&format!(
                    r#"{{"id":2,"result":[[["mining.notify","1"]],"0a0b",{size}],"error":null}}"#
                ));
            } else {
                bench.tell(&format!(
                    r#"{{"id":{id},"result":[[["mining.notify","1"]],"0a0b",{size}],"error":null}}"#
                ));
            }
        }
        bench.brain.ending()
    };
    assert_eq!(ending(Model::Avalon, 2), Some(Ending::Handshake));
    assert_eq!(ending(Model::Avalon, 3), None);
    assert_eq!(ending(Model::NiceHash, 3), Some(Ending::Handshake));
    assert_eq!(ending(Model::NiceHash, 4), None);
    assert_eq!(ending(Model::NerdMiner, 3), None, "it does not say so: its shares are bad");
}

#[test]
fn an_avalon_rolls_four_bytes_and_cuts_long_names() {
    let long = "a".repeat(80);
    let config = MinerConfig { worker: long, hashrate: 1e6, ..miner(Model::Avalon) };
    let mut bench = Bench::with(config);
    bench.heard();
    let lines = bench.tell(r#"{"id":1,"result":[[["mining.notify","1"]],"0a0b",8],"error":null}"#);
    let name =
        serde_json::from_str::<Value>(&lines[0]).unwrap()["params"][0].as_str().unwrap().len();
    assert_eq!(name, 63);
    bench.tell(r#"{"id":2,"result":true,"error":null}"#);
    bench.tell(r#"{"id":null,"method":"mining.set_difficulty","params":[0.0000000002]}"#);
    bench.tell(&notify("a", "00000005", true));
    assert!(submit(&mut bench)["params"][2].as_str().unwrap().ends_with("00000000"));
}

#[test]
fn a_mining_rig_rentals_buyer_sends_bits_it_never_asked_for() {
    let mut bench = at_work(Model::MiningRigRentals);
    let submits: Vec<String> =
        (0..10).flat_map(|_| bench.pass(Duration::from_millis(50))).collect();
    assert!(submits.iter().any(|line| line.contains("\"00002000\"")), "{submits:?}");
}

#[test]
fn a_nerdminer_ignores_a_reconnect_and_an_esp_miner_goes_home() {
    let elsewhere = r#"{"id":null,"method":"client.reconnect","params":["pool",4444,0]}"#;
    for (model, ending, moved) in [
        (Model::NerdMiner, None, None),
        (Model::EspMiner, Some(Ending::Told), None),
        (Model::Cgminer411, Some(Ending::Told), Some("pool:4444".to_owned())),
    ] {
        let mut bench = at_work(model);
        bench.tell(elsewhere);
        assert_eq!(
            (bench.brain.ending(), bench.brain.moved_to.clone()),
            (ending, moved),
            "{model:?}"
        );
    }
}
