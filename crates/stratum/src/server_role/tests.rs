use super::*;
use crate::client_message::parse_client;
use crate::frame::Splitter;
use proptest::prelude::*;

/// A server role, and the bytes it has written since the test last read them.
struct Miner {
    role: ServerRole,
    out: Vec<u8>,
}

impl Miner {
    fn new() -> Self {
        Self { role: ServerRole::new(VersionMask::BIP320), out: Vec::new() }
    }

    /// A miner that has subscribed and authorized as `u.w`.
    fn ready() -> Self {
        let mut miner = Self::new();
        miner.subscribe();
        miner.authorize("u.w");
        assert!(miner.role.is_ready());
        miner.written();
        miner
    }

    fn send<'a>(&mut self, text: &'a str) -> ServerEvent<'a> {
        self.role.receive(parse_client(text.as_bytes()).unwrap().unwrap(), &mut self.out)
    }

    fn written(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn subscribe(&mut self) {
        let ServerEvent::Subscribe { id, .. } =
            self.send(r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1"]}"#)
        else {
            panic!()
        };
        self.role.accept_subscription(&id, "s", &[7], 4, &mut self.out);
    }

    fn authorize(&mut self, worker: &str) {
        let text =
            format!("{{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"{worker}\",\"x\"]}}");
        let ServerEvent::Authorize { id, worker, .. } = self.send(&text) else {
            panic!("{worker}")
        };
        self.role.answer_authorize(&id, &worker, true, &mut self.out);
    }
}

const SUBMIT: &str =
    r#"{"id":4,"method":"mining.submit","params":["u.w","j","00000000","6b02d5f5","00000001"]}"#;

#[test]
fn a_handshake_in_one_segment_is_answered_in_order() {
    let mut miner = Miner::new();
    let configure = r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#;
    assert_eq!(miner.send(configure), ServerEvent::Configured(Some(VersionMask::BIP320)));
    miner.subscribe();
    miner.authorize("u.w");
    assert_eq!(
        miner.written(),
        "{\"id\":1,\"result\":{\"version-rolling\":true,\"version-rolling.mask\":\"1fffe000\"},\"error\":null}\n\
         {\"id\":1,\"result\":[[[\"mining.set_difficulty\",\"s\"],[\"mining.notify\",\"s\"]],\"07\",4],\"error\":null}\n\
         {\"id\":2,\"result\":true,\"error\":null}\n"
    );
    assert!(miner.role.is_ready());
    assert_eq!(
        (miner.role.first_worker(), miner.role.version_mask()),
        (Some("u.w"), Some(VersionMask::BIP320))
    );
}

#[test]
fn authorize_may_come_before_subscribe_and_configure_after_both() {
    let mut miner = Miner::new();
    miner.authorize("u.w");
    assert!(miner.role.is_authorized() && !miner.role.is_ready());
    miner.subscribe();
    assert!(miner.role.is_ready());
    let configure = r#"{"id":3,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00c00000","version-rolling.min-bit-count":2}]}"#;
    assert_eq!(miner.send(configure), ServerEvent::Configured(Some(VersionMask(0xc0_0000))));
}

#[test]
fn s14_the_fifth_message_before_a_subscribe_is_answered_closes() {
    let mut miner = Miner::new();
    for _ in 0..3 {
        assert_eq!(
            miner.send(r#"{"id":1,"method":"mining.ping","params":[]}"#),
            ServerEvent::Answered
        );
    }
    assert!(matches!(
        miner.send(r#"{"id":1,"method":"mining.subscribe","params":[]}"#),
        ServerEvent::Subscribe { .. }
    ));
    assert_eq!(
        miner.send(r#"{"id":1,"method":"mining.ping","params":[]}"#),
        ServerEvent::TooManyCalls
    );
    miner.role.accept_subscription(&Id::number(1), "s", &[7], 4, &mut Vec::new());
    assert_eq!(miner.send(r#"{"id":1,"method":"mining.ping","params":[]}"#), ServerEvent::Answered);
}

#[test]
fn s12_a_refused_subscribe_may_be_tried_again() {
    let mut miner = Miner::new();
    for _ in 0..20 {
        let ServerEvent::Subscribe { id, .. } =
            miner.send(r#"{"id":9,"method":"mining.subscribe","params":[]}"#)
        else {
            panic!()
        };
        miner.role.refuse_subscription(&id, "no search space", &mut miner.out);
        assert_eq!(
            miner.written(),
            "{\"id\":9,\"result\":null,\"error\":[20,\"no search space\",null]}\n"
        );
        assert!(!miner.role.is_subscribed());
    }
    miner.subscribe();
    assert!(miner.role.is_subscribed());
}

#[test]
fn s16_s17_unknown_methods_are_answered_and_server_methods_are_abuse() {
    let mut miner = Miner::ready();
    assert_eq!(
        miner.send(r#"{"id":5,"method":"mining.foo","params":[]}"#),
        ServerEvent::Abuse(Abuse::UnknownMethod)
    );
    assert_eq!(
        miner.written(),
        "{\"id\":5,\"result\":null,\"error\":[20,\"unknown method\",null]}\n"
    );
    for method in
        ["mining.notify", "mining.set_difficulty", "client.reconnect", "mining.set_extranonce"]
    {
        let text = format!("{{\"id\":5,\"method\":\"{method}\",\"params\":[]}}");
        assert_eq!(miner.send(&text), ServerEvent::Abuse(Abuse::ServerMethod), "{method}");
        assert!(miner.written().contains("[20,"));
    }
}

#[test]
fn s19_a_second_subscribe_gets_the_same_extranonce() {
    let mut miner = Miner::new();
    miner.subscribe();
    let first = miner.written();
    let again = r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1","other"]}"#;
    assert_eq!(miner.send(again), ServerEvent::Answered);
    assert_eq!(miner.written(), first);
}

#[test]
fn a_subscribe_while_one_is_being_answered_is_an_error() {
    let mut miner = Miner::new();
    let subscribe = r#"{"id":1,"method":"mining.subscribe","params":[]}"#;
    assert!(matches!(miner.send(subscribe), ServerEvent::Subscribe { .. }));
    assert_eq!(miner.send(subscribe), ServerEvent::Answered);
    assert!(miner.written().contains("[20,"));
}

#[test]
fn s23_eight_names_are_taken_and_repeats_are_free() {
    let mut miner = Miner::ready();
    for name in 1..8 {
        miner.authorize(&format!("u.{name}"));
    }
    miner.written();
    assert_eq!(
        miner.send(r#"{"id":2,"method":"mining.authorize","params":["u.9","x"]}"#),
        ServerEvent::Abuse(Abuse::TooManyWorkers)
    );
    assert_eq!(
        miner.written(),
        "{\"id\":2,\"result\":null,\"error\":[24,\"Unauthorized worker\",null]}\n"
    );
    assert_eq!(
        miner.send(r#"{"id":2,"method":"mining.authorize","params":["u.7","y"]}"#),
        ServerEvent::Answered
    );
    assert_eq!(miner.written(), "{\"id\":2,\"result\":true,\"error\":null}\n");
    // Names whose authorize was received before the limit was reached are refused too.
    miner.role.answer_authorize(&Id::number(3), "u.late", true, &mut miner.out);
    assert!(!miner.role.knows_worker("u.late") && miner.written().contains("[24,"));
}

#[test]
fn s24_worker_names_are_short_plain_ascii() {
    let long = "x".repeat(128);
    for good in [
        "a",
        "../../etc/passwd",
        "a.b.c.d",
        "%n%s",
        "{{7*7}}",
        "<script>",
        "x+1000000",
        "x.d=1",
        &long,
    ] {
        assert!(valid_worker_name(good), "{good}");
    }
    let longer = "x".repeat(129);
    for bad in [
        "",
        "a b",
        "name\r\nX",
        "';DROP",
        "\"",
        "emoji😀",
        "\u{202e}x",
        "a\0b",
        "tab\t",
        "\u{7f}",
        &longer,
    ] {
        assert!(!valid_worker_name(bad), "{bad:?}");
    }
    let mut miner = Miner::new();
    assert_eq!(
        miner.send(r#"{"id":2,"method":"mining.authorize","params":["a b","x"]}"#),
        ServerEvent::Abuse(Abuse::WorkerName)
    );
    assert!(miner.written().contains("[24,"));
}

#[test]
fn a_refused_worker_gets_24_and_is_not_known() {
    let mut miner = Miner::new();
    let ServerEvent::Authorize { id, worker, .. } =
        miner.send(r#"{"id":"a","method":"mining.authorize","params":["u","x"]}"#)
    else {
        panic!()
    };
    miner.role.answer_authorize(&id, &worker, false, &mut miner.out);
    assert_eq!(
        miner.written(),
        "{\"id\":\"a\",\"result\":null,\"error\":[24,\"Unauthorized worker\",null]}\n"
    );
    assert!(!miner.role.is_authorized());
}

#[test]
fn s27_to_s29_submits_out_of_turn_are_answered_and_named() {
    let mut miner = Miner::new();
    assert_eq!(miner.send(SUBMIT), ServerEvent::BadSubmit(SubmitFault::BeforeSubscribe));
    assert_eq!(
        miner.written(),
        "{\"id\":4,\"result\":null,\"error\":[25,\"Not subscribed\",null]}\n"
    );
    miner.subscribe();
    miner.written();
    assert_eq!(miner.send(SUBMIT), ServerEvent::BadSubmit(SubmitFault::Unauthorized));
    assert!(miner.written().contains("[24,"));
    miner.authorize("other");
    miner.written();
    assert_eq!(miner.send(SUBMIT), ServerEvent::BadSubmit(SubmitFault::Unauthorized));
    assert!(miner.written().contains("[24,"));
    assert_eq!(
        miner.send(r#"{"id":4,"method":"mining.submit","params":["u.w"]}"#),
        ServerEvent::BadSubmit(SubmitFault::Malformed)
    );
    assert!(miner.written().contains("[20,"));
    let mut ready = Miner::ready();
    assert!(matches!(ready.send(SUBMIT), ServerEvent::Submit { .. }));
    assert_eq!(ready.written(), "");
}

#[test]
fn s18_malformed_calls_are_answered_once() {
    let mut miner = Miner::ready();
    assert_eq!(
        miner.send(r#"{"id":7,"method":"mining.authorize","params":{}}"#),
        ServerEvent::Abuse(Abuse::Malformed)
    );
    assert_eq!(
        miner.written(),
        "{\"id\":7,\"result\":null,\"error\":[20,\"params must be an array\",null]}\n"
    );
    assert_eq!(
        miner.send(r#"{"id":{},"method":"mining.ping"}"#),
        ServerEvent::Abuse(Abuse::Malformed)
    );
    assert!(miner.written().starts_with("{\"id\":null,"));
}

#[test]
fn s54_suggestions_are_answered_unless_they_have_no_id() {
    let mut miner = Miner::ready();
    let suggested = Difficulty::new(1000.0).unwrap();
    assert_eq!(
        miner.send(r#"{"id":5,"method":"mining.suggest_difficulty","params":[1000]}"#),
        ServerEvent::SuggestDifficulty(suggested)
    );
    assert_eq!(miner.written(), "{\"id\":5,\"result\":true,\"error\":null}\n");
    for bad in ["0", "-1", "\"NaN\"", "\"1000\"", "true", "1e400"] {
        let text =
            format!("{{\"id\":5,\"method\":\"mining.suggest_difficulty\",\"params\":[{bad}]}}");
        assert_eq!(miner.send(&text), ServerEvent::Answered, "{bad}");
        assert!(miner.written().contains("[20,"), "{bad}");
    }
    let target = format!(
        "{{\"id\":null,\"method\":\"mining.suggest_target\",\"params\":[\"00000000ffff{}\"]}}",
        "0".repeat(52)
    );
    assert_eq!(miner.send(&target), ServerEvent::SuggestDifficulty(Difficulty::ONE));
    assert_eq!(
        miner.send(r#"{"id":null,"method":"mining.suggest_target","params":["x"]}"#),
        ServerEvent::Ignored
    );
    assert_eq!(miner.written(), "");
    assert_eq!(
        miner.send(r#"{"id":5,"method":"mining.suggest_target","params":["x"]}"#),
        ServerEvent::Answered
    );
    assert!(miner.written().contains("[20,"));
}

#[test]
fn s68_configure_grants_what_is_asked_and_offered_and_answers_nothing_else() {
    let configure = |params: &str| {
        let mut miner = Miner::ready();
        let text = format!("{{\"id\":1,\"method\":\"mining.configure\",\"params\":{params}}}");
        assert!(matches!(miner.send(&text), ServerEvent::Configured(_)), "{params}");
        let written = miner.written();
        written
            .strip_prefix("{\"id\":1,\"result\":")
            .unwrap()
            .strip_suffix(",\"error\":null}\n")
            .unwrap()
            .to_owned()
    };
    let yes =
        |mask: &str| format!("{{\"version-rolling\":true,\"version-rolling.mask\":\"{mask}\"}}");
    let no = "{\"version-rolling\":false}";
    assert_eq!(
        configure(r#"[["version-rolling"],{"version-rolling.mask":"ffffffff"}]"#),
        yes("1fffe000")
    );
    assert_eq!(
        configure(
            r#"[["version-rolling"],{"version-rolling.mask":"00c00000","version-rolling.min-bit-count":2}]"#
        ),
        yes("00c00000")
    );
    assert_eq!(configure(r#"[["version-rolling"],{"version-rolling.mask":"00000000"}]"#), no);
    assert_eq!(configure(r#"[["version-rolling"],{"version-rolling.mask":"zz"}]"#), no);
    assert_eq!(configure(r#"[["version-rolling"],{"version-rolling.mask":"1fffe00000"}]"#), no);
    assert_eq!(
        configure(
            r#"[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":33}]"#
        ),
        no
    );
    assert_eq!(
        configure(
            r#"[["version-rolling"],{"version-rolling.mask":"00c00000","version-rolling.min-bit-count":3}]"#
        ),
        no
    );
    assert_eq!(
        configure(
            r#"[["minimum-difficulty","subscribe-extranonce","info"],{"minimum-difficulty.value":"2048"}]"#
        ),
        "{\"minimum-difficulty\":false,\"subscribe-extranonce\":true,\"info\":false}"
    );
    assert_eq!(configure("[[],{}]"), "{}");
}

#[test]
fn a_minimum_difficulty_that_is_granted_is_remembered() {
    let mut miner = Miner::new();
    miner.send(
        r#"{"id":1,"method":"mining.configure","params":[["minimum-difficulty"],{"minimum-difficulty.value":2048}]}"#,
    );
    assert_eq!(miner.role.minimum_difficulty(), Difficulty::new(2048.0));
    assert_eq!(miner.role.version_mask(), None);
}

#[test]
fn a_changed_offer_is_told_only_to_those_it_changes() {
    let mut miner = Miner::ready();
    miner.role.change_offer(VersionMask(0xc0_0000), &mut miner.out);
    assert_eq!((miner.written().as_str(), miner.role.version_mask()), ("", None));
    miner.send(
        r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00ffe000"}]}"#,
    );
    miner.written();
    miner.role.change_offer(VersionMask(0xc0_0000), &mut miner.out);
    assert_eq!(miner.written(), "");
    miner.role.change_offer(VersionMask::BIP320, &mut miner.out);
    assert_eq!(
        miner.written(),
        "{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"00ffe000\"]}\n"
    );
    miner.role.change_offer(VersionMask::NONE, &mut miner.out);
    assert_eq!(
        miner.written(),
        "{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"00000000\"]}\n"
    );
}

/// cgminer 4.11, minerd and NerdMiner have no handler for `mining.set_extranonce`, so only miners
/// that asked for it get it.
#[test]
fn set_extranonce_goes_to_those_who_asked_for_it() {
    for asks in [
        r#"{"id":1,"method":"mining.extranonce.subscribe","params":[]}"#,
        r#"{"id":1,"method":"mining.configure","params":[["subscribe-extranonce"],{}]}"#,
    ] {
        let mut miner = Miner::ready();
        assert!(!miner.role.change_extranonce(&[7], 3, &mut miner.out));
        miner.send(asks);
        miner.written();
        assert!(miner.role.change_extranonce(&[7], 3, &mut miner.out));
        assert_eq!(
            miner.written(),
            "{\"id\":null,\"method\":\"mining.set_extranonce\",\"params\":[\"07\",3]}\n"
        );
        miner.send(r#"{"id":9,"method":"mining.subscribe","params":[]}"#);
        assert!(
            miner.written().contains("\"07\",3]"),
            "a repeated subscribe is answered with what holds"
        );
    }
}

#[test]
fn s76_s77_the_small_methods_get_their_documented_answers() {
    let mut miner = Miner::ready();
    for (method, answer) in [
        ("mining.extranonce.subscribe", "true"),
        ("mining.multi_version", "true"),
        ("mining.capabilities", "true"),
        ("mining.ping", "\"pong\""),
    ] {
        let text = format!("{{\"id\":\"q\",\"method\":\"{method}\",\"params\":[1]}}");
        assert_eq!(miner.send(&text), ServerEvent::Answered);
        assert_eq!(
            miner.written(),
            format!("{{\"id\":\"q\",\"result\":{answer},\"error\":null}}\n")
        );
    }
    assert_eq!(
        miner.send(r#"{"id":1,"method":"mining.get_transactions","params":["j"]}"#),
        ServerEvent::Answered
    );
    assert!(miner.written().contains("[20,"));
    assert_eq!(miner.send(r#"{"id":1,"method":"client.get_version"}"#), ServerEvent::Answered);
    assert!(miner.written().contains("\"tieline/"));
    for ignored in
        [r#"{"id":1,"method":"pong","params":[]}"#, r#"{"id":1,"result":"pong","error":null}"#]
    {
        assert_eq!(miner.send(ignored), ServerEvent::Ignored);
    }
    assert_eq!(miner.written(), "");
}

/// Answers an event as the proxy would; returns whether the event asked for an answer.
fn resolve(role: &mut ServerRole, event: &ServerEvent<'_>, out: &mut Vec<u8>) {
    match event {
        ServerEvent::Subscribe { id, .. } => role.accept_subscription(id, "s", &[7], 4, out),
        ServerEvent::Authorize { id, worker, .. } => role.answer_authorize(id, worker, true, out),
        ServerEvent::Submit { id, .. } => write_true(id, out),
        _ => {}
    }
}

proptest! {
    /// Each request gets exactly one answer, under its own id, in whatever order requests come.
    #[test]
    fn every_request_is_answered_exactly_once(
        calls in proptest::collection::vec((0usize..12, prop_oneof![Just("[]"), Just("{}"), Just("[\"u\"]"), Just("[\"u\",\"j\",\"00\",\"1\",\"2\"]"), Just("[1,[]]"), Just("[[\"version-rolling\",\"x\"],{}]")]), 1..60)
    ) {
        const METHODS: [&str; 12] = [
            "mining.configure", "mining.subscribe", "mining.authorize", "mining.submit", "mining.extranonce.subscribe",
            "mining.suggest_difficulty", "mining.suggest_target", "mining.ping", "mining.get_transactions", "client.get_version",
            "mining.notify", "mining.foo",
        ];
        let mut role = ServerRole::new(VersionMask::BIP320);
        for (at, (method, params)) in calls.iter().enumerate() {
            let text = format!("{{\"id\":{at},\"method\":\"{}\",\"params\":{params}}}", METHODS[*method]);
            let mut out = Vec::new();
            let event = role.receive(parse_client(text.as_bytes()).unwrap().unwrap(), &mut out);
            if matches!(event, ServerEvent::TooManyCalls) {
                prop_assert!(out.is_empty());
                break;
            }
            resolve(&mut role, &event, &mut out);
            let written = String::from_utf8(out).unwrap();
            prop_assert_eq!(written.matches('\n').count(), 1, "{} -> {}", text, written);
            let prefix = format!("{{\"id\":{at},\"result\":");
            prop_assert!(written.starts_with(&prefix), "{} -> {}", text, written);
        }
    }

    /// Events and answers do not depend on how the bytes of a session are split into chunks.
    #[test]
    fn any_chunking_gives_the_same_session(cuts in proptest::collection::vec(0usize..600, 0..40), crlf in any::<bool>()) {
        let end = if crlf { "\r\n" } else { "\n" };
        let lines = [
            r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#,
            r#"{"id":2,"method":"mining.subscribe","params":["x"]}"#, "",
            r#"{"id":3,"method":"mining.authorize","params":["u.w","x"]}"#, SUBMIT, SUBMIT,
            r#"{"id":"p","method":"mining.ping","params":[]}"#,
        ];
        let bytes: Vec<u8> = lines.iter().flat_map(|line| [*line, end]).collect::<String>().into_bytes();
        let session = |chunks: &[&[u8]]| {
            let (mut role, mut splitter, mut out) = (ServerRole::new(VersionMask::BIP320), Splitter::new(1024), Vec::new());
            for chunk in chunks {
                let mut input = *chunk;
                while let Some(line) = splitter.next_line(&mut input).unwrap() {
                    if let Some(line) = parse_client(line).unwrap() {
                        let event = role.receive(line, &mut out);
                        resolve(&mut role, &event, &mut out);
                    }
                }
            }
            out
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        chunks.push(&bytes[from..]);
        let whole = session(&[&bytes]);
        prop_assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 6);
        prop_assert_eq!(session(&chunks), whole);
    }
}
