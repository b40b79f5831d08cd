use super::call::whole;
use super::*;
use proptest::prelude::*;

fn line(text: &str) -> ClientLine<'_> {
    parse_client(text.as_bytes()).unwrap().unwrap()
}

fn call(text: &str) -> Result<Call<'_>, StratumError> {
    match line(text) {
        ClientLine::Call { call, .. } => call,
        reply => panic!("{reply:?}"),
    }
}

fn fault(bytes: &[u8]) -> LineFault {
    parse_client(bytes).unwrap_err()
}

fn hex(digits: &str) -> Word<'_> {
    Word::Hex(Cow::Borrowed(digits))
}

#[test]
fn s04_empty_lines_are_nothing() {
    for empty in [&b""[..], b" ", b"\r", b"\t  "] {
        assert_eq!(parse_client(empty), Ok(None));
    }
}

#[test]
fn s05_s06_deep_json_closes() {
    assert_eq!(fault("[".repeat(200).as_bytes()), LineFault::TooDeep);
    let nested = |depth: usize| {
        format!(
            "{{\"id\":1,\"method\":\"x\",\"x\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    assert_eq!(fault(nested(9).as_bytes()), LineFault::TooDeep);
    assert!(parse_client(nested(8).as_bytes()).is_ok());
    // Brackets in strings do not count as nesting, and an escaped quote does not end a string.
    let brackets = format!("{{\"id\":1,\"method\":\"\\\"{}\"}}", "[".repeat(60));
    assert!(parse_client(brackets.as_bytes()).is_ok());
    let wide = format!("{{\"id\":1,\"method\":\"x\",\"x\":[{}[]]}}", "[],".repeat(60));
    assert!(parse_client(wide.as_bytes()).is_ok());
}

#[test]
fn s07_duplicate_keys_close() {
    for text in [
        r#"{"id":1,"id":2,"method":"mining.ping"}"#,
        r#"{"id":1,"\u0069d":2,"method":"mining.ping"}"#,
        r#"{"id":1,"method":"mining.ping","method":"mining.pong"}"#,
        r#"{"id":1,"method":"mining.ping","params":[],"params":[]}"#,
        r#"{"id":1,"method":"mining.ping","ttl":1,"ttl":1}"#,
        r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1","version-rolling.mask":"2"}]}"#,
    ] {
        assert_eq!(fault(text.as_bytes()), LineFault::DuplicateKey, "{text}");
    }
}

#[test]
fn s08_ids_are_kept_as_written() {
    for id in ["1e400", "123456789012345678901234567890", "1.5", "null", "\"auth\"", "-0"] {
        let text = format!("{{\"id\":{id},\"method\":\"mining.ping\",\"params\":[]}}");
        let ClientLine::Call { id: kept, call: Ok(Call::Ping) } = line(&text) else {
            panic!("{id}")
        };
        assert_eq!(kept.as_raw(), id);
    }
    for id in ["{}", "[1]", "true"] {
        let text = format!("{{\"id\":{id},\"method\":\"mining.ping\",\"params\":[]}}");
        let ClientLine::Call { id: kept, call: Err(error) } = line(&text) else { panic!("{id}") };
        assert_eq!((kept, error.code), (Id::NULL, 20));
    }
}

#[test]
fn s09_ids_that_are_no_plain_text_close() {
    assert_eq!(fault(br#"{"id":"\u0000\n\u001b[2J","method":"mining.ping"}"#), LineFault::BadId);
    assert_eq!(
        fault(format!("{{\"id\":\"{}\",\"method\":\"mining.ping\"}}", "x".repeat(65)).as_bytes()),
        LineFault::BadId
    );
}

#[test]
fn s10_s11_what_is_not_one_json_object_closes() {
    assert_eq!(fault(b"{\"id\":1,\"method\":\"\xc0\x80\"}"), LineFault::NotUtf8);
    assert_eq!(fault(b"\xff\xfe{\x00"), LineFault::NotUtf8);
    assert_eq!(fault(b"{\x00\"\x00i\x00d\x00\"\x00"), LineFault::Json);
    assert_eq!(fault(b"\xef\xbb\xbf{\"id\":1,\"method\":\"mining.ping\"}"), LineFault::Json);
    assert_eq!(fault(br#"{"id":1,"method":"\ud800"}"#), LineFault::Json);
    assert_eq!(fault(br#"{"id":1,"method":"mining.submit","params":["\ud800"]}"#), LineFault::Json);
    assert_eq!(fault(br#"{"id":1,"method":"a"}{"id":2,"method":"b"}"#), LineFault::Json);
    assert_eq!(fault(br#"{"id":1,"method":"a"} x"#), LineFault::Json);
    assert_eq!(fault(br#"[1,2]"#), LineFault::Json);
    assert_eq!(fault(b"true"), LineFault::Json);
    assert_eq!(fault(b"{\"id\":1,\"method\":"), LineFault::Json);
    assert_eq!(fault(b"{\"id\":01,\"method\":\"a\"}"), LineFault::Json);
    assert_eq!(fault(b"{\"id\":1,\"method\":\"a\nb\"}"), LineFault::Json);
}

#[test]
fn s13_other_protocols_are_named() {
    assert_eq!(fault(&[0x16, 0x03, 0x01, 0x02, 0x00]), LineFault::TlsOnPlain);
    assert_eq!(fault(b"GET / HTTP/1.1"), LineFault::Http);
    assert_eq!(fault(b"POST /x HTTP/1.1"), LineFault::Http);
    assert_eq!(fault(b"SSH-2.0-OpenSSH_9.2"), LineFault::Ssh);
    assert_eq!(fault(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2"), LineFault::ProxyHeader);
    assert_eq!(fault(b"\0"), LineFault::ProxyHeader);
    assert_eq!(fault(b"QUIT"), LineFault::ProxyHeader);
    assert_eq!(LineFault::sniff(b"\r\n\r\n\0\r\nQUIT\n!"), Some(LineFault::ProxyHeader));
    assert_eq!(LineFault::sniff(b"{\"id\":1}"), None);
}

#[test]
fn s18_params_that_are_no_array_get_error_20_and_too_many_close() {
    for params in ["null", "{}", "\"x\"", "7", "true", "-1", "1.5"] {
        for method in
            ["subscribe", "authorize", "configure", "suggest_difficulty", "suggest_target"]
        {
            let text = format!("{{\"id\":1,\"method\":\"mining.{method}\",\"params\":{params}}}");
            assert_eq!(call(&text).unwrap_err().code, 20, "{text}");
        }
    }
    assert_eq!(call(r#"{"id":1,"method":"mining.subscribe"}"#).unwrap_err().code, 20);
    let many = |count: usize| {
        format!("{{\"id\":1,\"method\":\"mining.foo\",\"params\":[{}0]}}", "0,".repeat(count - 1))
    };
    assert!(parse_client(many(16).as_bytes()).is_ok());
    assert_eq!(fault(many(17).as_bytes()), LineFault::TooManyParams);
    assert_eq!(fault(many(1000).as_bytes()), LineFault::TooManyParams);
    let keys: String = (0..20).map(|key| format!(",\"k{key}\":1")).collect();
    assert_eq!(
        fault(format!("{{\"id\":1,\"method\":\"a\"{keys}}}").as_bytes()),
        LineFault::TooManyParams
    );
}

#[test]
fn s21_authorize_takes_any_password_and_only_text_as_a_name() {
    let of = |params: &str| match call(&format!(
        "{{\"id\":1,\"method\":\"mining.authorize\",\"params\":{params}}}"
    )) {
        Ok(Call::Authorize { worker, password }) => {
            Ok((worker.into_owned(), password.into_owned()))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    };
    let named = |password: &str| Ok(("u".to_owned(), password.to_owned()));
    assert_eq!(of("[]"), Err(24));
    assert_eq!(of("[7]"), Err(24));
    assert_eq!(of("[null,\"x\"]"), Err(24));
    assert_eq!(of("[\"u\"]"), named(""));
    assert_eq!(of("[\"u\",null]"), named(""));
    assert_eq!(of("[\"u\",1]"), named("1"));
    assert_eq!(of("[\"u\",\"d=1024\",\"x\"]"), named("d=1024"));
    assert_eq!(of(&format!("[\"u\",\"{}\"]", "x".repeat(513))), Err(24));
}

#[test]
fn s29_s30_submits_without_their_fields_are_kept_apart() {
    let of = |params: &str| match call(&format!(
        "{{\"id\":1,\"method\":\"mining.submit\",\"params\":{params}}}"
    )) {
        Ok(Call::Submit(submit)) => Ok(submit.job_id.into_owned()),
        Ok(Call::BadSubmit(error)) => Err(error.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(r#"["u","j","00","1"]"#), Err(20));
    assert_eq!(of("[]"), Err(20));
    assert_eq!(of("null"), Err(20));
    assert_eq!(of(r#"["u",null,"00","1","2"]"#), Err(20));
    assert_eq!(of(r#"["u","j",0,"1","2"]"#), Err(20));
    assert_eq!(of(r#"["u","j","00","1",{}]"#), Err(20));
    assert_eq!(of(r#"["u","j","00",null,"2"]"#), Err(20));
    assert_eq!(of(r#"["u","j","00","1","2",[]]"#), Err(20));
    assert_eq!(of(r#"[1,"j","00","1","2"]"#), Err(20));
    assert_eq!(of(r#"["u","j","00","1","2","3","4","5"]"#), Ok("j".to_owned()));
    assert_eq!(of(&format!(r#"["u","{}","00","1","2"]"#, "j".repeat(10_000))), Err(21));
}

#[test]
fn a_submit_is_borrowed_and_keeps_its_fields() {
    let text = r#"{"method":"mining.submit","params":["u.w","ab","00000001","6b02d5f5",17,"00002000"],"id":4,"worker":"x"}"#;
    let Ok(Call::Submit(submit)) = call(text) else { panic!() };
    let expected = Submit {
        worker: "u.w".into(),
        job_id: "ab".into(),
        extranonce2: "00000001".into(),
        ntime: hex("6b02d5f5"),
        nonce: Word::Number(Some(17)),
        version_bits: Some(hex("00002000")),
    };
    assert_eq!(submit, expected);
    assert!(matches!(submit.worker, Cow::Borrowed(_)) && matches!(submit.job_id, Cow::Borrowed(_)));
    let Ok(Call::Submit(five)) =
        call(r#"{"id":4,"method":"mining.submit","params":["u","j\/1","","1",1.5,null]}"#)
    else {
        panic!()
    };
    assert_eq!(
        (five.job_id.as_ref(), five.nonce, five.version_bits),
        ("j/1", Word::Number(None), None)
    );
}

#[test]
fn numbers_are_words_when_they_are_whole() {
    for (digits, value) in [
        ("7", Some(7)),
        ("7.0", Some(7)),
        ("7e1", Some(70)),
        ("4294967295", Some(u32::MAX)),
        ("4294967296", None),
        ("-1", None),
        ("1.5", None),
        ("1e400", None),
    ] {
        assert_eq!(whole(digits), value, "{digits}");
    }
}

#[test]
fn subscribes_of_every_firmware_are_read() {
    let of = |params: &str| match call(&format!(
        "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":{params}}}"
    )) {
        Ok(Call::Subscribe { user_agent, session }) => {
            (user_agent.into_owned(), session.map(Cow::into_owned))
        }
        other => panic!("{other:?}"),
    };
    let plain = |user_agent: &str| (user_agent.to_owned(), None);
    assert_eq!(of("[]"), plain(""));
    assert_eq!(of("[\"cgminer/4.11.1\"]"), plain("cgminer/4.11.1"));
    assert_eq!(
        of("[\"whatsminer/v1.0\",\"0badc0de\"]"),
        ("whatsminer/v1.0".to_owned(), Some("0badc0de".to_owned()))
    );
    assert_eq!(of("[\"bosminer\",null,\"host\",null]"), plain("bosminer"));
    assert_eq!(
        of("[\"Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022\"]").0,
        "Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022"
    );
}

#[test]
fn s70_user_agents_are_cut_and_escaped() {
    let text = format!(
        "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"a\\n\\u001b[2J%s{{}}{}\"]}}",
        "x".repeat(10_000)
    );
    let Ok(Call::Subscribe { user_agent, .. }) = call(&text) else { panic!() };
    assert_eq!(user_agent.len(), 64);
    assert!(user_agent.starts_with("a\\n\\u{1b}[2J%s{}xxx"), "{user_agent}");
}

#[test]
fn s54_suggestions_are_numbers_or_nothing() {
    let of = |params: &str| match call(&format!(
        "{{\"id\":1,\"method\":\"mining.suggest_difficulty\",\"params\":{params}}}"
    )) {
        Ok(Call::SuggestDifficulty(value)) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(of("[1000]"), Some(1000.0));
    assert_eq!(of("[0.5]"), Some(0.5));
    assert_eq!(of("[-1]"), Some(-1.0));
    for nothing in ["[]", "[\"1000\"]", "[\"NaN\"]", "[true]", "[[]]"] {
        assert_eq!(of(nothing), None, "{nothing}");
    }
    let legacy = |value: &str| match call(&format!(
        "{{\"id\":1,\"method\":\"mining.suggest_difficulty({value})\",\"params\":[]}}"
    )) {
        Ok(Call::SuggestDifficulty(value)) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(legacy("1000"), Some(1000.0));
    assert_eq!(legacy("inf"), None);
    assert_eq!(legacy(""), None);
}

#[test]
fn s57_only_64_digits_are_a_target() {
    let of = |digits: &str| match call(&format!(
        "{{\"id\":null,\"method\":\"mining.suggest_target\",\"params\":[{digits}]}}"
    )) {
        Ok(Call::SuggestTarget(target)) => target,
        other => panic!("{other:?}"),
    };
    let one = format!("\"00000000ffff{}\"", "0".repeat(52));
    assert_eq!(of(&one), Some(Difficulty::ONE));
    for bad in [
        format!("\"{}\"", "0".repeat(65)),
        format!("\"{}\"", "0".repeat(64)),
        "\"ff\"".to_owned(),
        "7".to_owned(),
        format!("\"{}\"", "z".repeat(64)),
    ] {
        assert_eq!(of(&bad), None, "{bad}");
    }
}

fn extensions(params: &str, check: impl FnOnce(Result<&[Extension<'_>], i32>)) {
    match call(&format!("{{\"id\":1,\"method\":\"mining.configure\",\"params\":{params}}}")) {
        Ok(Call::Configure(configure)) => check(Ok(&configure.extensions)),
        Ok(other) => panic!("{other:?}"),
        Err(error) => check(Err(error.code)),
    }
}

#[test]
fn s68_s69_configures_are_read_extension_by_extension() {
    let is = |params: &str, expected: &[Extension<'_>]| {
        extensions(params, |read| assert_eq!(read, Ok(expected), "{params}"));
    };
    let rolling = |mask: u32, min_bit_count: u32| {
        Extension::VersionRolling(Some(RollingRequest { mask: VersionMask(mask), min_bit_count }))
    };
    is(r#"[["version-rolling"],{"version-rolling.mask":"ffffffff"}]"#, &[rolling(u32::MAX, 0)]);
    is(r#"[["version-rolling"]]"#, &[rolling(u32::MAX, 0)]);
    is(
        r#"[["version-rolling","version-rolling"],{"version-rolling.mask":"00c00000","version-rolling.min-bit-count":2}]"#,
        &[rolling(0xc0_0000, 2)],
    );
    for bad in [
        r#""version-rolling.mask":"zz""#,
        r#""version-rolling.mask":"1fffe00000""#,
        r#""version-rolling.mask":7"#,
        r#""version-rolling.min-bit-count":"2""#,
        r#""version-rolling.min-bit-count":-1"#,
    ] {
        is(&format!("[[\"version-rolling\"],{{{bad}}}]"), &[Extension::VersionRolling(None)]);
    }
    is(
        r#"[["minimum-difficulty","subscribe-extranonce","info"],{"minimum-difficulty.value":2048}]"#,
        &[
            Extension::MinimumDifficulty(Difficulty::new(2048.0)),
            Extension::SubscribeExtranonce,
            Extension::Unknown("info".into()),
        ],
    );
    is(
        r#"[["minimum-difficulty"],{"minimum-difficulty.value":"2048"}]"#,
        &[Extension::MinimumDifficulty(None)],
    );
    // Found by fuzzing: the answer has the extension's name as a key, so the name must be valid
    // there.
    let long = format!("[[\"{}\"]]", "x".repeat(65));
    for bad in
        ["[[\"inf\u{7f}\"],{}]", "[[\"\\u001b[2J\"]]", "[[\"\u{202e}x\"]]", "[[\"a\\\"b\"]]", &long]
    {
        extensions(bad, |read| assert_eq!(read, Err(20), "{bad}"));
    }
    for bad in ["[]", "[[7],{}]", "[\"version-rolling\"]"] {
        extensions(bad, |read| assert_eq!(read, Err(20), "{bad}"));
    }
}

#[test]
fn s69_more_than_sixteen_extensions_close() {
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|name| format!("\"x{name}\"")).collect();
        format!("[[{}],{{}}]", names.join(","))
    };
    extensions(&names(16), |read| assert_eq!(read.unwrap().len(), 16));
    let text = format!("{{\"id\":1,\"method\":\"mining.configure\",\"params\":{}}}", names(100));
    assert_eq!(fault(text.as_bytes()), LineFault::TooManyParams);
}

#[test]
fn methods_without_a_form_of_their_own_are_known_or_shown() {
    for (method, expected) in [
        ("mining.extranonce.subscribe", Call::ExtranonceSubscribe),
        ("mining.multi_version", Call::MultiVersion),
        ("mining.ping", Call::Ping),
        ("pong", Call::Pong),
        ("mining.get_transactions", Call::GetTransactions),
        ("client.get_version", Call::GetVersion),
        ("mining.capabilities", Call::Capabilities),
        ("mining.foo", Call::Unknown("mining.foo".into())),
        ("a\\u001bb", Call::Unknown("a\\u{1b}b".into())),
    ] {
        assert_eq!(
            call(&format!("{{\"id\":1,\"method\":\"{method}\",\"params\":[]}}")),
            Ok(expected),
            "{method}"
        );
    }
    assert_eq!(call(r#"{"id":1,"method":7}"#).unwrap_err().code, 20);
    assert_eq!(call(r#"{"id":1}"#).unwrap_err().code, 20);
    assert_eq!(call("{}").unwrap_err().code, 20);
}

#[test]
fn replies_are_told_from_calls() {
    for text in [
        r#"{"id":7,"result":"pong","error":null}"#,
        r#"{"id":7,"result":null,"error":[20,"x",null]}"#,
        r#"{"id":7,"method":null,"result":true}"#,
    ] {
        assert_eq!(line(text), ClientLine::Reply { id: Id::number(7) }, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_client(&bytes);
        let _ = LineFault::sniff(&bytes);
    }

    #[test]
    fn no_json_panics(
        id in "(null|[0-9]{1,30}|\"[ -~]{0,5}\"|\\{\\}|\\[\\[\\]\\]|-1e999)",
        method in "(mining\\.(submit|subscribe|authorize|configure|suggest_difficulty|suggest_target|ping|foo)|[a-z(\\\\]{0,12})",
        params in "(\\[((\"[ -~&&[^\"\\\\]]{0,12}\"|[0-9]{1,12}|null|\\{\\}|\\[\"version-rolling\"\\]|1e400),){0,6}\"\"\\]|\\{\\}|null|\"x\")",
    ) {
        let text = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}");
        let _ = parse_client(text.as_bytes());
    }
}
