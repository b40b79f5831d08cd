use super::*;
use proptest::prelude::*;

fn read(text: &str) -> PoolLine {
    parse_pool(text.as_bytes()).unwrap().unwrap()
}

fn notification(method: &str, params: &str) -> PoolLine {
    read(&format!("{{\"id\":null,\"method\":\"{method}\",\"params\":{params}}}"))
}

fn reply(fields: &str) -> (Option<u64>, Result<PoolResult, i32>) {
    match read(&format!("{{{fields}}}")) {
        PoolLine::Reply { request, outcome } => (request, outcome.map_err(|error| error.code)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_of_every_pool_come_down_to_a_result_or_an_error() {
    assert_eq!(reply(r#""id":4,"result":true,"error":null"#), (Some(4), Ok(PoolResult::True)));
    assert_eq!(reply(r#""result":true,"id":4"#), (Some(4), Ok(PoolResult::True)));
    assert_eq!(reply(r#""jsonrpc":"2.0","id":4,"result":true,"error":[]"#), (Some(4), Err(20)));
    assert_eq!(reply(r#""id":4,"result":null,"error":[23,"high-hash",null]"#), (Some(4), Err(23)));
    assert_eq!(reply(r#""id":4,"error":{"code":21,"message":"x"}"#), (Some(4), Err(21)));
    assert_eq!(
        reply(r#""reject-reason":"Above target","result":false,"error":null,"id":10"#),
        (Some(10), Err(23))
    );
    assert_eq!(reply(r#""result":false,"error":"No nonce","id":16"#), (Some(16), Err(20)));
    assert_eq!(reply(r#""result":false,"id":16"#), (Some(16), Err(20)));
    assert_eq!(
        reply(r#""id":1,"result":{"a":1},"error":null"#),
        (Some(1), Ok(PoolResult::Json("{\"a\":1}".into())))
    );
}

#[test]
fn u15_ids_we_would_not_use_are_no_request() {
    for id in ["\"4\"", "null", "4.0", "-4", "1e3", "[4]", "{}", "true", "99999999999999999999"] {
        assert_eq!(
            reply(&format!("\"id\":{id},\"result\":true")),
            (None, Ok(PoolResult::True)),
            "{id}"
        );
    }
    assert_eq!(reply("\"result\":true").0, None);
}

#[test]
fn u16_true_beside_an_error_is_an_error_and_so_is_neither() {
    assert_eq!(reply(r#""id":4,"result":true,"error":[20,"x",null]"#).1, Err(20));
    assert_eq!(reply(r#""id":4,"result":null,"error":null"#).1, Err(20));
    assert_eq!(reply(r#""id":4,"error":null"#).1, Err(20));
    assert_eq!(
        reply(r#""id":4,"result":"true","error":null"#).1,
        Ok(PoolResult::Json("\"true\"".into()))
    );
}

#[test]
fn u32_difficulties_that_cannot_be_meant_are_bad() {
    for bad in [
        "[0]",
        "[-5]",
        "[\"NaN\"]",
        "[1e308]",
        "[1e400]",
        "[\"512\"]",
        "[]",
        "[1e-9]",
        "[null]",
        "[[1]]",
        "{}",
        "null",
    ] {
        assert_eq!(
            notification("mining.set_difficulty", bad),
            PoolLine::SetDifficulty(None),
            "{bad}"
        );
    }
    for (good, value) in [
        ("[1]", 1.0),
        ("[16383.75]", 16_383.75),
        ("[1024.0]", 1024.0),
        ("[0.00050000000000000001]", 0.0005),
        ("[1e3]", 1000.0),
    ] {
        assert_eq!(
            notification("mining.set_difficulty", good),
            PoolLine::SetDifficulty(Difficulty::new(value)),
            "{good}"
        );
    }
}

#[test]
fn u35_masks_are_digits() {
    for bad in ["[\"zz\"]", "[]", "[7]", "[\"1fffe00000\"]", "[\"\"]"] {
        assert_eq!(
            notification("mining.set_version_mask", bad),
            PoolLine::SetVersionMask(None),
            "{bad}"
        );
    }
    assert_eq!(
        notification("mining.set_version_mask", "[\"1fffe000\"]"),
        PoolLine::SetVersionMask(Some(VersionMask::BIP320))
    );
}

#[test]
fn extranonces_are_read_or_named_bad() {
    let PoolLine::SetExtranonce(Ok(extranonce)) =
        notification("mining.set_extranonce", "[\"08000002\",4]")
    else {
        panic!()
    };
    assert_eq!((extranonce.extranonce1, extranonce.extranonce2_size), (vec![8, 0, 0, 2], 4));
    for bad in ["[]", "[\"08000002\"]", "[\"0\",4]", "[\"08000002\",1]", "null"] {
        assert!(
            matches!(notification("mining.set_extranonce", bad), PoolLine::SetExtranonce(Err(_))),
            "{bad}"
        );
    }
}

#[test]
fn u01_to_u05_reconnects_are_bounded_and_escaped() {
    let of = |params: &str| match notification("client.reconnect", params) {
        PoolLine::Reconnect { host, port, wait_secs } => (host, port, wait_secs),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        of("[\"evil.example\",3333,0]"),
        (Some("evil.example".to_owned()), Some(Ok(3333)), 0)
    );
    for none in ["[]", "null", "[\"\",3333]"] {
        assert_eq!(of(none).0, None, "{none}");
    }
    for bad in ["0", "-1", "65536", "1e9", "\"x\"", "true"] {
        assert_eq!(of(&format!("[\"a\",{bad}]")).1, Some(Err(BadPort)), "{bad}");
    }
    assert_eq!(of("[\"a\",\"22\"]").1, Some(Ok(22)));
    for (wait, secs) in
        [("-1", 0), ("1e12", 300), ("\"soon\"", 0), ("\"NaN\"", 0), ("30", 30), ("1e999", 300)]
    {
        assert_eq!(of(&format!("[\"a\",1,{wait}]")).2, secs, "{wait}");
    }
    let host = of(&format!("[\"\\u0000\\r\\n{}\"]", "x".repeat(10_000))).0.unwrap();
    assert!(host.len() <= HOST_MAX && host.starts_with("\\0\\r\\n"), "{host}");
    assert_eq!(of("[7,3333]").0, Some("<not a host>".to_owned()));
}

#[test]
fn u36_messages_are_cut_and_escaped() {
    let PoolLine::ShowMessage(text) =
        notification("client.show_message", &format!("[\"\\u001b[2J{}\"]", "x".repeat(50_000)))
    else {
        panic!()
    };
    assert!(text.chars().count() == 256 && text.starts_with("\\u{1b}[2J"), "{text}");
    assert_eq!(notification("client.show_message", "[]"), PoolLine::ShowMessage(String::new()));
}

#[test]
fn u38_u39_other_methods_are_named_and_keep_their_id() {
    assert_eq!(
        read(r#"{"id":5,"method":"mining.ping","params":[]}"#),
        PoolLine::Ping { id: Id::number(5) }
    );
    assert_eq!(
        read(r#"{"id":6,"method":"client.get_version","params":[]}"#),
        PoolLine::GetVersion { id: Id::number(6) }
    );
    let goal = PoolLine::Unknown { id: Id::NULL, method: "mining.set_goal".to_owned() };
    assert_eq!(notification("mining.set_goal", "[1]"), goal);
    assert_eq!(read("{}"), PoolLine::Unknown { id: Id::NULL, method: String::new() });
}

#[test]
fn a_notification_without_an_id_is_read() {
    assert_eq!(
        read(r#"{"method":"mining.set_difficulty","params":[8]}"#),
        PoolLine::SetDifficulty(Difficulty::new(8.0))
    );
}

#[test]
fn lines_that_are_no_message_are_faults() {
    assert_eq!(parse_pool(b""), Ok(None));
    assert_eq!(parse_pool(b"Invalid JSON, disconnecting"), Err(LineFault::Json));
    assert_eq!(parse_pool(b"\xff"), Err(LineFault::NotUtf8));
    assert_eq!(parse_pool("[".repeat(50).as_bytes()), Err(LineFault::TooDeep));
    assert_eq!(parse_pool(br#"{"id":1,"id":1,"result":true}"#), Err(LineFault::DuplicateKey));
    assert_eq!(parse_pool(b"HTTP/1.1 400 Bad Request"), Err(LineFault::Json));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_pool(&bytes);
    }

    #[test]
    fn no_json_panics(
        method in "(mining\\.(notify|set_difficulty|set_extranonce|set_version_mask|ping)|client\\.(reconnect|show_message|get_version))",
        params in proptest::collection::vec("(\"[0-9a-f]{0,70}\"|-?(0|[1-9][0-9]{0,19})(e[0-9]{1,4})?|null|true|\\[\\]|\\{\\}|\\[\"ab\"\\]|\"\\\\u00[01][0-9a-f]\")", 0..12),
    ) {
        let text = format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{}]}}", params.join(","));
        prop_assert!(parse_pool(text.as_bytes()).is_ok());
    }
}
