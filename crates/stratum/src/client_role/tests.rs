use super::*;
use crate::client_message::parse_client;
use crate::job::Job;
use crate::server_message::{
    NOTIFY_CLEAN, NOTIFY_KEEP, render_notify, write_ping, write_set_difficulty,
    write_set_extranonce, write_set_version_mask, write_subscribed, write_true,
};
use crate::server_role::{ServerEvent, ServerRole};
use proptest::prelude::*;

fn config() -> ClientConfig {
    ClientConfig {
        user_agent: "tieline/1".to_owned(),
        worker: "farm.1".to_owned(),
        password: "x".to_owned(),
        mask: Some(VersionMask::BIP320),
        suggest: Difficulty::new(0.5),
    }
}

/// A client role, and the bytes it has written since the test last read them.
struct Pool {
    role: ClientRole,
    out: Vec<u8>,
}

impl Pool {
    fn with(config: ClientConfig) -> Self {
        let mut pool = Self { role: ClientRole::new(config), out: Vec::new() };
        pool.role.start(&mut pool.out);
        pool
    }

    fn started() -> Self {
        let mut pool = Self::with(config());
        pool.written();
        pool
    }

    fn ready() -> Self {
        let mut pool = Self::started();
        pool.say(r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#);
        pool.say(SUBSCRIBED);
        assert_eq!(pool.say(r#"{"id":3,"result":true,"error":null}"#), ClientEvent::Authorized);
        pool.written();
        pool
    }

    fn say(&mut self, line: &str) -> ClientEvent {
        self.role.receive(line.as_bytes(), &mut self.out).unwrap()
    }

    fn written(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn submit(&mut self) -> u64 {
        self.role.submit(None, "j", &[&[1], &[2, 3]], 0x6b02_d5f5, 1, None, &mut self.out)
    }
}

const SUBSCRIBED: &str = r#"{"id":2,"result":[[["mining.notify","s"]],"0badc0de",8],"error":null}"#;

fn subscribed() -> ClientEvent {
    ClientEvent::Subscribed { extranonce1: vec![0x0b, 0xad, 0xc0, 0xde], extranonce2_size: 8 }
}

fn job(job_id: &str) -> Job {
    Job {
        job_id: job_id.to_owned(),
        prev_hash: [1; 32],
        coinb1: vec![1],
        coinb2: vec![2],
        branches: Vec::new(),
        version: 0x2000_0000,
        nbits: 0x207f_ffff,
        ntime: 5,
        clean: true,
    }
}

fn notify_line(job_id: &str) -> String {
    let line = [&render_notify(job_id, &job(job_id), &[])[..], NOTIFY_CLEAN].concat();
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

#[test]
fn configure_goes_before_subscribe_and_authorize_after_it() {
    let mut pool = Pool::with(config());
    assert_eq!(
        pool.written(),
        "{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],{\"version-rolling.mask\":\"1fffe000\",\
         \"version-rolling.min-bit-count\":2}]}\n\
         {\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"tieline/1\"]}\n"
    );
    assert_eq!(
        pool.say(r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"5fffe000"}}"#),
        ClientEvent::Mask(VersionMask::BIP320)
    );
    assert_eq!(pool.written(), "");
    assert_eq!(pool.say(SUBSCRIBED), subscribed());
    assert_eq!(
        pool.written(),
        "{\"id\":3,\"method\":\"mining.authorize\",\"params\":[\"farm.1\",\"x\"]}\n"
    );
    assert!(!pool.role.is_ready());
    assert_eq!(pool.say(r#"{"id":3,"result":true,"error":null}"#), ClientEvent::Authorized);
    assert_eq!(
        pool.written(),
        "{\"id\":4,\"method\":\"mining.suggest_difficulty\",\"params\":[0.5]}\n"
    );
    assert!(pool.role.is_ready());
    assert_eq!(
        pool.say(r#"{"id":4,"result":null,"error":[40,"unfit, ignore"]}"#),
        ClientEvent::Nothing
    );
    assert_eq!(pool.role.extranonce().map(|extranonce| extranonce.extranonce2_size), Some(8));
}

#[test]
fn without_a_mask_nothing_is_configured_and_no_mask_is_taken() {
    let mut pool = Pool::with(ClientConfig { mask: None, suggest: None, ..config() });
    assert_eq!(
        pool.written(),
        "{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"tieline/1\"]}\n"
    );
    assert_eq!(
        pool.say(r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#),
        ClientEvent::Nothing
    );
    assert_eq!(pool.role.version_mask(), None);
    assert_eq!(pool.say(r#"{"id":1,"result":{}}"#), ClientEvent::UnmatchedAnswer);
    pool.say(SUBSCRIBED);
    pool.written();
    pool.say(r#"{"id":3,"result":true}"#);
    assert_eq!(pool.written(), "");
}

#[test]
fn u35_masks_narrow_widen_to_what_we_asked_and_end() {
    let mut pool = Pool::started();
    let mut set = |mask: &str| {
        pool.say(&format!(
            "{{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"{mask}\"]}}"
        ))
    };
    assert_eq!(set("00c00000"), ClientEvent::Mask(VersionMask(0xc0_0000)));
    assert_eq!(set("zz"), ClientEvent::Ignored(Ignored::BadMask));
    assert_eq!(set("ffffffff"), ClientEvent::Mask(VersionMask::BIP320));
    assert_eq!(set("00000000"), ClientEvent::Mask(VersionMask::NONE));
}

#[test]
fn a_pool_that_refuses_configure_does_not_roll_unless_it_set_a_mask_before() {
    for refusal in [
        r#"{"id":1,"result":null,"error":[20,"x",null]}"#,
        r#"{"id":1,"result":{"version-rolling":false}}"#,
        r#"{"id":1,"result":true}"#,
    ] {
        let mut pool = Pool::started();
        assert_eq!(pool.say(refusal), ClientEvent::Mask(VersionMask::NONE), "{refusal}");
        let mut braiins = Pool::started();
        braiins.say(r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#);
        assert_eq!(braiins.say(refusal), ClientEvent::Mask(VersionMask::BIP320), "{refusal}");
    }
}

#[test]
fn subscribe_replies_of_every_shape_are_read() {
    for result in [
        r#"[[["mining.set_difficulty","x"],["mining.notify","x"]],"0badc0de",8]"#,
        r#"[[["mining.notify","x"]],"0badc0de",8]"#,
        r#"[["mining.notify","x"],"0badc0de",8.0]"#,
        r#"[null,"0BADC0DE",8]"#,
    ] {
        assert_eq!(
            Pool::started().say(&format!("{{\"id\":2,\"result\":{result}}}")),
            subscribed(),
            "{result}"
        );
    }
}

#[test]
fn u11_to_u13_subscriptions_that_cannot_be_mined_are_fatal() {
    for reply in [
        r#""result":[[],"0badc0de",1]"#,
        r#""result":[[],"0badc0de",17]"#,
        r#""result":[[],"0badc0de","8"]"#,
        r#""result":[[],"",8]"#,
        r#""result":[[],"abc",8]"#,
        r#""result":[[],"zz",8]"#,
        r#""result":[[],12,8]"#,
        r#""result":[[],"00"]"#,
        r#""result":[]"#,
        r#""result":true"#,
        r#""result":{"a":1}"#,
        r#""result":null,"error":null"#,
        r#""result":null,"error":[20,"no",null]"#,
        r#""result":[[],"0badc0de",8],"error":[20,"both",null]"#,
    ] {
        let mut pool = Pool::started();
        assert!(
            matches!(pool.say(&format!("{{\"id\":2,{reply}}}")), ClientEvent::Fatal(_)),
            "{reply}"
        );
        assert_eq!(pool.written(), "", "{reply}");
    }
    let deep = format!("{{\"id\":2,\"result\":{}{}}}", "[".repeat(50), "]".repeat(50));
    assert_eq!(
        Pool::started().role.receive(deep.as_bytes(), &mut Vec::new()),
        Err(LineFault::TooDeep)
    );
}

#[test]
fn u14_set_extranonce_counts_once_subscribed() {
    let mut pool = Pool::started();
    let line = r#"{"id":null,"method":"mining.set_extranonce","params":["08000002",4]}"#;
    assert_eq!(pool.say(line), ClientEvent::Nothing);
    pool.say(SUBSCRIBED);
    assert_eq!(
        pool.say(line),
        ClientEvent::Extranonce { extranonce1: vec![8, 0, 0, 2], extranonce2_size: 4 }
    );
    assert_eq!(pool.role.extranonce().unwrap().extranonce2_size, 4);
    let bad = r#"{"id":null,"method":"mining.set_extranonce","params":["08000002",1]}"#;
    assert!(matches!(pool.say(bad), ClientEvent::Fatal(_)));
}

#[test]
fn refusals_are_told_from_acceptance() {
    for (reply, code) in [
        (r#""result":false,"error":"Failed subscription""#, 25),
        (r#""result":null,"error":[24,"Unauthorized",null]"#, 24),
        (r#""result":"true","error":null"#, 20),
        (r#""result":true,"error":[20,"both",null]"#, 20),
    ] {
        let mut pool = Pool::started();
        pool.say(SUBSCRIBED);
        let ClientEvent::Refused(error) = pool.say(&format!("{{\"id\":3,{reply}}}")) else {
            panic!("{reply}")
        };
        assert_eq!(error.code, code, "{reply}");
        assert!(!pool.role.is_ready());
    }
}

#[test]
fn u19_one_notify_before_the_subscribe_reply_is_kept() {
    let mut pool = Pool::started();
    assert_eq!(pool.say(&notify_line("a")), ClientEvent::Nothing);
    assert_eq!(pool.role.poll(), None);
    assert_eq!(pool.say(SUBSCRIBED), subscribed());
    assert_eq!(pool.role.poll(), Some(ClientEvent::Notify(job("a"))));
    assert_eq!(pool.role.poll(), None);
    assert_eq!(pool.say(&notify_line("b")), ClientEvent::Notify(job("b")));

    let mut hasty = Pool::started();
    hasty.say(&notify_line("a"));
    assert!(matches!(hasty.say(&notify_line("b")), ClientEvent::Fatal(_)));
}

#[test]
fn submits_carry_the_parts_in_order_and_bits_only_where_there_are_any() {
    let mut pool = Pool::ready();
    let first = pool.submit();
    assert_eq!(
        pool.written(),
        format!(
            "{{\"id\":{first},\"method\":\"mining.submit\",\"params\":[\"farm.1\",\"j\",\"010203\",\"6b02d5f5\",\"00000001\"]}}\n"
        )
    );
    let second = pool.role.submit("u.w", "j\"", &[&[0xff; 8]], 1, 2, Some(0x2000), &mut pool.out);
    assert_eq!(
        pool.written(),
        format!(
            "{{\"id\":{second},\"method\":\"mining.submit\",\"params\":[\"u.w\",\"j\\\"\",\"ffffffffffffffff\",\"00000001\",\"00000002\",\"00002000\"]}}\n"
        )
    );
    assert!(first >= 100 && second > first);
}

#[test]
fn answers_are_matched_once_in_any_order() {
    let mut pool = Pool::ready();
    let (first, second, third) = (pool.submit(), pool.submit(), pool.submit());
    let accepted = |request| ClientEvent::Answer { request, outcome: Ok(()) };
    assert_eq!(
        pool.say(&format!("{{\"id\":{second},\"result\":true,\"error\":null}}")),
        accepted(second)
    );
    assert_eq!(pool.say(&format!("{{\"result\":true,\"id\":{first}}}")), accepted(first));
    let ClientEvent::Answer { request, outcome: Err(error) } = pool.say(&format!(
        "{{\"reject-reason\":\"Above target\",\"result\":false,\"error\":null,\"id\":{third}}}"
    )) else {
        panic!()
    };
    assert_eq!((request, error.code, error.message.as_str()), (third, 23, "Above target"));
    for again in [first, second, third, 7, 99, third + 1] {
        assert_eq!(
            pool.say(&format!("{{\"id\":{again},\"result\":true}}")),
            ClientEvent::UnmatchedAnswer,
            "{again}"
        );
    }
    assert_eq!(pool.role.outstanding(), 0);
}

#[test]
fn u15_handshake_answers_are_not_taken_twice() {
    let mut pool = Pool::ready();
    for id in ["1", "2", "3", "\"3\"", "null", "3.0"] {
        assert_eq!(
            pool.say(&format!("{{\"id\":{id},\"result\":true,\"error\":null}}")),
            ClientEvent::UnmatchedAnswer,
            "{id}"
        );
    }
    // An answer to an authorize that was not sent yet does not authorize us.
    let mut early = Pool::started();
    assert_eq!(early.say(r#"{"id":3,"result":true}"#), ClientEvent::UnmatchedAnswer);
}

/// U41, U42: an answer to a request of another connection settles nothing here.
#[test]
fn u41_u42_an_answer_to_another_connections_share_is_unmatched() {
    let mut former = Pool::ready();
    let old = former.submit();
    let mut pool = Pool::ready();
    pool.role =
        std::mem::replace(&mut pool.role, ClientRole::new(config())).numbered_from(1_000_100);
    let new = pool.submit();
    assert_eq!(new, 1_000_100);
    for id in [old, new + 1] {
        assert_eq!(
            pool.say(&format!("{{\"id\":{id},\"result\":true}}")),
            ClientEvent::UnmatchedAnswer,
            "{id}"
        );
    }
    assert_eq!(pool.role.outstanding(), 1);
    assert_eq!(
        ClientRole::new(config()).numbered_from(2).next_request,
        FIRST_REQUEST,
        "the handshake's own are not taken"
    );
}

#[test]
fn u16_only_true_accepts_a_share() {
    for result in ["\"true\"", "1", "[]", "{}", "null", "false", "true,\"error\":[20,\"x\",null]"] {
        let mut pool = Pool::ready();
        let request = pool.submit();
        let event = pool.say(&format!("{{\"id\":{request},\"result\":{result}}}"));
        assert!(matches!(event, ClientEvent::Answer { outcome: Err(_), .. }), "{result}");
    }
}

#[test]
fn any_answer_to_a_ping_is_an_answer() {
    let mut pool = Pool::ready();
    let request = pool.role.ping(&mut pool.out);
    assert_eq!(
        pool.written(),
        format!("{{\"id\":{request},\"method\":\"mining.ping\",\"params\":[]}}\n")
    );
    assert_eq!(
        pool.say(&format!("{{\"id\":{request},\"result\":\"pong\"}}")),
        ClientEvent::Answer { request, outcome: Ok(()) }
    );
    let request = pool.role.ping(&mut pool.out);
    let event = pool.say(&format!(
        "{{\"id\":{request},\"result\":null,\"error\":[20,\"unknown method\",null]}}"
    ));
    assert!(matches!(event, ClientEvent::Answer { outcome: Err(_), .. }));
}

#[test]
fn unanswered_requests_are_bounded_and_the_oldest_goes_first() {
    let mut pool = Pool::ready();
    let first = pool.submit();
    let second = pool.submit();
    for _ in 0..OUTSTANDING_MAX - 1 {
        pool.submit();
        pool.out.clear();
    }
    assert_eq!(pool.role.outstanding(), OUTSTANDING_MAX);
    // The role forgot this request, so the answer is late and not a fault of the pool.
    assert_eq!(pool.say(&format!("{{\"id\":{first},\"result\":true}}")), ClientEvent::LateAnswer);
    assert_eq!(
        pool.say(&format!("{{\"id\":{},\"result\":true}}", first - 1)),
        ClientEvent::UnmatchedAnswer
    );
    assert_eq!(
        pool.say(&format!("{{\"id\":{second},\"result\":true}}")),
        ClientEvent::Answer { request: second, outcome: Ok(()) }
    );
    assert_eq!(
        pool.say(&format!("{{\"id\":{second},\"result\":true}}")),
        ClientEvent::UnmatchedAnswer,
        "twice"
    );
}

#[test]
fn u37_u38_a_pools_questions_are_answered_until_they_are_a_flood() {
    let mut pool = Pool::ready();
    pool.say(r#"{"id":9,"method":"client.get_version","params":[]}"#);
    assert_eq!(pool.written(), "{\"id\":9,\"result\":\"tieline/1\",\"error\":null}\n");
    pool.say(r#"{"id":"p","method":"mining.ping","params":[]}"#);
    assert_eq!(pool.written(), "{\"id\":\"p\",\"result\":\"pong\",\"error\":null}\n");
    pool.say(r#"{"id":10,"method":"vendor.x","params":[]}"#);
    assert_eq!(
        pool.written(),
        "{\"id\":10,\"result\":null,\"error\":[20,\"unknown method\",null]}\n"
    );
    let goal = pool.say(r#"{"id":null,"method":"mining.set_goal","params":[]}"#);
    assert_eq!(
        (goal, pool.written().as_str()),
        (ClientEvent::Ignored(Ignored::UnknownMethod), ""),
        "U39"
    );
    for _ in 0..100 {
        pool.say(r#"{"id":9,"method":"client.get_version","params":[]}"#);
    }
    assert_eq!(pool.written().lines().count(), 5);
    pool.say(&notify_line("a"));
    pool.say(r#"{"id":9,"method":"client.get_version","params":[]}"#);
    assert_eq!(pool.written().lines().count(), 1);
}

#[test]
fn u01_u04_reconnects_name_a_host_and_bad_ports_are_ignored() {
    let mut pool = Pool::ready();
    let mut reconnect = |params: &str| {
        pool.say(&format!("{{\"id\":null,\"method\":\"client.reconnect\",\"params\":{params}}}"))
    };
    let to = |host: Option<&str>, port, wait_secs| ClientEvent::Reconnect {
        host: host.map(str::to_owned),
        port,
        wait_secs,
    };
    assert_eq!(reconnect("[\"evil.example\",3333,0]"), to(Some("evil.example"), Some(3333), 0));
    assert_eq!(reconnect("[]"), to(None, None, 0));
    assert_eq!(reconnect("[\"\",\"3334\",1e12]"), to(None, Some(3334), 300), "U03, U05");
    assert_eq!(reconnect("[\"a\",0]"), ClientEvent::Ignored(Ignored::BadPort));
    assert_eq!(reconnect("[\"a\",65536]"), ClientEvent::Ignored(Ignored::BadPort));
}

#[test]
fn notifications_that_make_no_sense_leave_what_was() {
    let mut pool = Pool::ready();
    assert_eq!(
        pool.say(r#"{"id":null,"method":"mining.set_difficulty","params":[0]}"#),
        ClientEvent::BadDifficulty
    );
    assert_eq!(
        pool.say(r#"{"id":null,"method":"mining.notify","params":[]}"#),
        ClientEvent::BadNotify(BadNotify::ParamCount { count: 0 })
    );
    assert_eq!(
        pool.say(r#"{"id":null,"method":"client.show_message","params":["hi"]}"#),
        ClientEvent::Message("hi".to_owned())
    );
    assert_eq!(pool.say(""), ClientEvent::Nothing);
}

/// The client role and the server role exchange lines: each parses what the other writes.
#[test]
fn both_roles_complete_a_handshake_and_a_share_with_each_other() {
    let mut client = ClientRole::new(config());
    let mut server = ServerRole::new(VersionMask::BIP320);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    client.start(&mut up);
    let mut events = Vec::new();
    for _ in 0..4 {
        for line in std::mem::take(&mut up).split(|byte| *byte == b'\n') {
            let Some(line) = parse_client(line).unwrap() else { continue };
            match server.receive(line, &mut down) {
                ServerEvent::Subscribe { id, user_agent } => {
                    assert_eq!(user_agent, "tieline/1");
                    server.accept_subscription(&id, "s", &[7], 4, &mut down);
                }
                ServerEvent::Authorize { id, worker, password } => {
                    assert_eq!((worker.as_ref(), password.as_ref()), ("farm.1", "x"));
                    server.answer_authorize(&id, &worker, true, &mut down);
                    write_set_difficulty(Difficulty::new(0.25).unwrap(), &mut down);
                    down.extend_from_slice(&render_notify("a", &job("a"), &[9]));
                    down.extend_from_slice(NOTIFY_KEEP);
                }
                ServerEvent::SuggestDifficulty(difficulty) => assert_eq!(difficulty.get(), 0.5),
                ServerEvent::Configured(mask) => assert_eq!(mask, Some(VersionMask::BIP320)),
                ServerEvent::Submit { id, submit } => {
                    let share = crate::share::decode(&submit, 4).unwrap();
                    assert_eq!(
                        (share.extranonce2.as_slice(), share.ntime, share.nonce),
                        (&[1, 2, 3, 4][..], 5, 6)
                    );
                    assert_eq!((share.version_bits, submit.job_id.as_ref()), (Some(0x2000), "a"));
                    write_true(&id, &mut down);
                }
                event => panic!("{event:?}"),
            }
        }
        for line in std::mem::take(&mut down).split(|byte| *byte == b'\n') {
            let event = client.receive(line, &mut up).unwrap();
            if matches!(event, ClientEvent::Notify(_)) {
                client.submit(None, "a", &[&[1, 2], &[3, 4]], 5, 6, Some(0x2000), &mut up);
            }
            if event != ClientEvent::Nothing {
                events.push(event);
            }
        }
    }
    assert_eq!(
        events,
        [
            ClientEvent::Mask(VersionMask::BIP320),
            ClientEvent::Subscribed { extranonce1: vec![7], extranonce2_size: 4 },
            ClientEvent::Authorized,
            ClientEvent::Difficulty(Difficulty::new(0.25).unwrap()),
            ClientEvent::Notify(Job { coinb1: vec![1, 9], clean: false, ..job("a") }),
            ClientEvent::Answer { request: 100, outcome: Ok(()) },
        ]
    );
}

/// Lines that a pool may send at any moment, sensible or not.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![
        Just(Id::NULL),
        (0u64..8).prop_map(Id::number),
        (100u64..110).prop_map(Id::number)
    ];
    let written = (id, 0u8..8, any::<f64>(), any::<u32>()).prop_map(|(id, kind, value, word)| {
        let mut out = Vec::new();
        match kind {
            0 => write_true(&id, &mut out),
            1 => write_subscribed(
                &id,
                "s",
                &word.to_be_bytes(),
                word.to_be_bytes()[0] % 20,
                &mut out,
            ),
            2 => write_error(&id, RejectCode::Other, "x", &mut out),
            3 => write_set_difficulty(Difficulty::new(value).unwrap_or(Difficulty::ONE), &mut out),
            4 => write_set_extranonce(&word.to_be_bytes(), 4, &mut out),
            5 => write_set_version_mask(VersionMask(word), &mut out),
            6 => write_ping(word.into(), &mut out),
            _ => out.extend_from_slice(notify_line("a").as_bytes()),
        }
        out
    });
    prop_oneof![4 => written, 1 => proptest::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #[test]
    fn no_sequence_of_lines_breaks_the_role(lines in proptest::collection::vec(lines(), 0..60), ready in any::<bool>()) {
        let mut pool = if ready { Pool::ready() } else { Pool::started() };
        let mut asked = 0;
        let mut answered = 0;
        for line in lines {
            if let Ok(ClientEvent::Answer { .. }) = pool.role.receive(&line, &mut pool.out) {
                answered += 1;
            }
            while pool.role.poll().is_some() {}
            if pool.role.is_ready() {
                prop_assert!(pool.role.extranonce().is_some());
                asked += 1;
                pool.submit();
            }
            prop_assert_eq!(pool.role.outstanding(), asked - answered);
            for line in pool.written().lines() {
                prop_assert!(parse_client(line.as_bytes()).is_ok(), "{}", line);
            }
        }
    }
}
