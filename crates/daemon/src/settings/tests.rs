//! Mistakes that operators make in settings, and the place and text reported for each
//! (docs/faults.md, rows T).

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Reads the keys of an invented program, as a loader does.
fn read(document: &Document) -> Option<(String, u16, f64, Duration)> {
    let root = document.root();
    let api = root.required_table("api");
    let listen = api.required_str("listen");
    let port = api.required_integer("port", 1_u16..=65_535);
    api.renamed("token", "token_file");
    api.optional_str("token_file");
    api.finish();
    let power = root.table_or_empty("power");
    let limit = power.optional("limit_kw", Raw::number).unwrap_or(1.0);
    let settle = power.duration_or(
        "settle",
        Duration::ZERO..=Duration::from_secs(600),
        Duration::from_secs(20),
    );
    power.float_or("factor", 0.0..=1.0, 0.8);
    power.bool_or("strict", false);
    power.choice_or("merit", &[("listed", 1), ("margin-per-kw", 2)], 1);
    power.strings("match");
    power.finish();
    for target in root.tables("target") {
        target.required_str("url");
        target.finish();
    }
    for (_, feed) in root.named_tables("feed") {
        feed.required("limit_kw", Raw::number);
        feed.finish();
    }
    root.finish();
    Some((listen?.to_owned(), port?, limit, settle))
}

fn mistakes(text: &str) -> Vec<String> {
    let outcome =
        Document::parse("t.toml", text).and_then(|document| document.conclude(read(&document)));
    outcome.unwrap_err().to_string().lines().map(str::to_owned).collect()
}

const GOOD: &str = "[api]\nlisten = \"::1\"\nport = 8080\n";

fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn good_settings_give_their_values() {
    let text = with(
        "[power]\nlimit_kw = 1.5\nsettle = \"1m 30s\"\nmatch = \"a*\"\n[feed.a]\nlimit_kw = 5\n",
    );
    let document = Document::parse("t.toml", &text).unwrap();
    let value = document.conclude(read(&document)).unwrap();
    assert_eq!(value, ("::1".to_owned(), 8080, 1.5, Duration::from_secs(90)));
}

#[test]
fn each_mistake_names_line_column_key_and_what_was_meant() {
    for (more, want) in [
        (
            "[power]\nlimit_kv = 1\n",
            "t.toml:5:1: power.limit_kv: unknown key, did you mean \"limit_kw\"?",
        ),
        ("[pwoer]\n", "t.toml:4:2: pwoer: unknown key, did you mean \"power\"?"),
        ("[power]\nqqqqqqqq = 1\n", "t.toml:5:1: power.qqqqqqqq: unknown key"),
        ("[power]\nlimit_kw = nan\n", "t.toml:5:12: power.limit_kw: NaN is not a finite number"),
        ("[power]\nlimit_kw = inf\n", "t.toml:5:12: power.limit_kw: inf is not a finite number"),
        (
            "[power]\nlimit_kw = 12345678901234567890\n",
            "t.toml:5:12: power.limit_kw: the number is too large",
        ),
        (
            "[power]\nlimit_kw = \"5\"\n",
            "t.toml:5:12: power.limit_kw: expected a number, found a string",
        ),
        (
            "[power]\nsettle = 20\n",
            "t.toml:5:10: power.settle: expected a duration, found an integer; write a number with its unit, such as \
             \"25s\", \"9m\" or \"1h30m\"",
        ),
        (
            "[power]\nsettle = \"20\"\n",
            "t.toml:5:10: power.settle: \"20\" is not a duration; write a number with its unit, such as \"25s\", \"9m\" \
             or \"1h30m\"",
        ),
        ("[power]\nsettle = \"-20s\"\n", "t.toml:5:10: power.settle: \"-20s\" is negative"),
        ("[power]\nsettle = \"11m\"\n", "t.toml:5:10: power.settle: \"11m\" is outside 0s to 10m"),
        ("[power]\nfactor = 1.01\n", "t.toml:5:10: power.factor: 1.01 is outside 0 to 1"),
        (
            "[power]\nstrict = 1\n",
            "t.toml:5:10: power.strict: expected true or false, found an integer",
        ),
        (
            "[power]\nmerit = \"margin-per-kW\"\n",
            "t.toml:5:9: power.merit: \"margin-per-kW\" is none of \"listed\", \"margin-per-kw\", did you mean \
             \"margin-per-kw\"?",
        ),
        (
            "[power]\nmatch = [\"a\", 1]\n",
            "t.toml:5:9: power.match: expected a list of strings, found an integer in it",
        ),
        ("[power]\nmatch = [\"\"]\n", "t.toml:5:9: power.match: must not hold an empty string"),
        (
            "[power]\nmatch = 1979-05-27\n",
            "t.toml:5:9: power.match: expected a list of strings, found a date",
        ),
        (
            "[power]\nmatch = [\"ä\", \"a\\u0000\"]\n",
            "t.toml:5:15: power.match[1]: a string must not hold a NUL character",
        ),
        (
            "[power]\n\"a\\u0007\" = 1\n",
            "t.toml:5:1: power.\"a\\u{7}\": a key must not hold control characters",
        ),
        ("[[target]]\nurl = \"a\"\n[[target]]\n", "t.toml:6:1: target[1].url: missing"),
        (
            "[target]\n",
            "t.toml:4:1: target: expected an array of tables: write [[target]], found a table",
        ),
        (
            "[feed.\"a b\"]\n",
            "t.toml:4:7: feed.\"a b\": a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        ),
        ("[feed]\na = 1\n", "t.toml:5:1: feed.a: expected a table [feed.NAME], found an integer"),
        ("[feed.a]\n", "t.toml:4:1: feed.a.limit_kw: missing"),
    ] {
        let found = mistakes(&with(more));
        assert_eq!(found, [want], "{more}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "[power]\nlimit_kw = nan\nsetle = 1\n[api]\nport = 0\ntoken = \"x\"\n";
    assert_eq!(
        mistakes(text),
        [
            "t.toml:2:12: power.limit_kw: NaN is not a finite number",
            "t.toml:3:1: power.setle: unknown key, did you mean \"settle\"?",
            "t.toml:4:1: api.listen: missing",
            "t.toml:5:8: api.port: 0 is outside 1 to 65535",
            "t.toml:6:1: api.token: was renamed to \"token_file\"",
        ]
    );
}

#[test]
fn a_warning_has_its_place_and_keeps_nothing_from_being_used() {
    let document = Document::parse("t.toml", &with("[power]\nmatch = [\"a\", \"b\"]\n")).unwrap();
    let power = document.root().required_table("power");
    document.warn(&power.spot_in("match", 1), "looks odd", Some("c".to_owned()));
    document.warn(&power.spot_in("match", 7), "has no such entry", None);
    power.warn("factor", "is not there");
    assert_eq!(document.conclude(read(&document)).unwrap().1, 8080);
    assert_eq!(
        document.warnings().to_string().lines().collect::<Vec<_>>(),
        [
            "t.toml:4:1: warning: power.factor: is not there",
            "t.toml:5:9: warning: power.match: has no such entry",
            "t.toml:5:15: warning: power.match: looks odd, did you mean \"c\"?",
        ]
    );
    let shown = document.warnings().render(false);
    assert!(shown.contains("power.match: looks odd") && shown.contains("t.toml:5:15"), "{shown}");
}

#[test]
fn a_section_can_be_looked_into_before_it_is_read() {
    let document = Document::parse("t.toml", "a = \"x\"\nb = 5\nc = \"\"\nd = true\n").unwrap();
    let root = document.root();
    assert_eq!(["a", "b", "c", "e"].map(|key| root.peek_str(key)), [Some("x"), None, None, None]);
    assert_eq!(["a", "b", "d", "e"].map(|key| root.peek_bool(key)), [None, None, Some(true), None]);
    assert_eq!(document.line(&root.spot("b")), Some(2));
    root.finish();
    let told = document.conclude(Some(())).unwrap_err();
    assert_eq!(told.count(), 4, "to look is not to ask: {told}");
}

#[test]
fn a_refused_key_is_told_once() {
    let document = Document::parse("t.toml", "old = 1\n").unwrap();
    let root = document.root();
    root.refuse("old", "is not supported");
    root.refuse("gone", "is not there, so nothing is said");
    root.finish();
    let told = document.conclude(Some(())).unwrap_err().to_string();
    assert_eq!(told, "t.toml:1:7: old: is not supported");
}

#[test]
fn wrong_types_and_ports_are_refused() {
    for (port, want) in [
        ("\"3333\"", "expected an integer, found a string"),
        ("65536", "65536 is outside 1 to 65535"),
        ("-1", "-1 is outside 1 to 65535"),
        ("1.0", "expected an integer, found a float"),
    ] {
        let found = mistakes(&format!("[api]\nlisten = \"a\"\nport = {port}\n"));
        assert_eq!(found, [format!("t.toml:3:8: api.port: {want}")]);
    }
}

#[test]
fn an_empty_file_lacks_what_is_required_once() {
    for text in ["", "# nothing\n", "\u{feff}"] {
        assert_eq!(mistakes(text), ["t.toml:1:1: api: missing; write a [api] section"]);
    }
}

#[test]
fn a_section_that_is_no_table_is_one_mistake() {
    assert_eq!(mistakes("api = 5\n"), ["t.toml:1:7: api: expected a table, found an integer"]);
}

#[test]
fn syntax_errors_have_a_place() {
    for (text, want) in [
        ("a = 1\na = 2\n", "t.toml:2:1: duplicate key"),
        ("[api]\n[api]\n", "t.toml:2:2: duplicate key"),
        ("x = \n", "t.toml:1:5: string values must be quoted, expected literal string"),
        ("b = \"open\n", "t.toml:1:10: invalid basic string, expected `\"`"),
    ] {
        assert_eq!(mistakes(text)[0], want, "{text:?}");
    }
}

#[test]
fn columns_count_characters_and_skip_the_byte_order_mark() {
    assert_eq!(
        mistakes("\u{feff}x = zzz\n")[0],
        "t.toml:1:5: string values must be quoted, expected literal string"
    );
    let text = with("[power]\nmatch = [\"äöü\", 1]\nlimit_kw = 1\r\nsettle = 1\n");
    assert!(mistakes(&text)[1].starts_with("t.toml:7:10: power.settle:"), "{:?}", mistakes(&text));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_fine() {
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let document = Document::parse("t.toml", &text).unwrap();
    assert_eq!(document.conclude(read(&document)).unwrap().1, 8080);
}

#[test]
fn bytes_that_are_not_utf8_are_told_by_offset() {
    let mistakes = Document::from_bytes("t.toml", b"a = 1\nb = \"\xff\"\n").unwrap_err();
    assert_eq!(mistakes.to_string(), "t.toml:2:6: not UTF-8 at byte offset 11");
}

#[test]
fn hostile_files_are_refused_in_bounded_time() {
    let deep = format!("a={}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(mistakes(&deep)[0].contains("recurse"), "{:?}", mistakes(&deep));
    let duplicates = "x=1\n".repeat(250_000);
    assert_eq!(mistakes(&duplicates).len(), 10);
    let long = " ".repeat(FILE_MAX + 1);
    assert_eq!(mistakes(&long), ["t.toml: is 1048577 bytes long, more than the 1048576 allowed"]);
    let keys: String = (0..80_000).map(|n| format!("key{n}=1\n")).collect();
    let found = mistakes(&keys);
    assert_eq!(found.len(), 201);
    assert_eq!(found[200], "and 79801 more");
}

#[test]
fn only_regular_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let told = Document::read(&missing).unwrap_err().to_string();
    assert_eq!(told, format!("{}: does not exist", missing.display()));
    let told = Document::read(folder.path()).unwrap_err().to_string();
    assert!(told.ends_with(": is not a regular file"), "{told}");
    let told = Document::read(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(told.ends_with(": is not a regular file"), "{told}");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let told = Document::read(&fifo).unwrap_err().to_string();
    assert!(told.ends_with(": is not a regular file"), "{told}");
    let big = folder.path().join("big.toml");
    fs::write(&big, vec![b'#'; FILE_MAX + 1]).unwrap();
    let told = Document::read(&big).unwrap_err().to_string();
    assert!(told.ends_with(": is longer than the 1048576 bytes allowed"), "{told}");
}

#[test]
fn relative_paths_and_secrets_start_from_the_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pool.secret"), "letmein\n").unwrap();
    let file = folder.path().join("t.toml");
    fs::write(
        &file,
        "secret_file = \"pool.secret\"\nother_file = \"gone.secret\"\nlog = \"/var/log/x\"\n",
    )
    .unwrap();
    let document = Document::read(&file).unwrap();
    let root = document.root();
    assert_eq!(root.secret_file("secret_file").unwrap().reveal(), "letmein");
    assert_eq!(root.optional_path("log").unwrap(), Path::new("/var/log/x"));
    assert_eq!(root.secret_file("other_file"), None);
    root.finish();
    let told = document.conclude(Some(())).unwrap_err().to_string();
    assert!(
        told.contains(":2:14: other_file: secret file")
            && told.ends_with("gone.secret does not exist"),
        "{told}"
    );
}

#[test]
fn variables_lie_over_the_file() {
    let document =
        Document::parse("t.toml", &with("[[target]]\nurl = \"a\"\n[feed.Xfmr-A]\nlimit_kw = 5\n"))
            .unwrap();
    let document = document.with_variables(
        "TIELINE",
        [
            ("TIELINE__API__PORT", "9090"),
            ("TIELINE__POWER__LIMIT_KW", "2.5"),
            ("TIELINE__POWER__STRICT", "true"),
            ("TIELINE__POWER__SETTLE", "5s"),
            ("TIELINE__POWER__MATCH", "a*, b*"),
            ("TIELINE__TARGET__0__URL", "b"),
            ("TIELINE__FEED__XFMR-A__LIMIT_KW", "7"),
            ("TIELINE_CONFIG", "not ours"),
            ("HOME", "/root"),
        ],
    );
    let (listen, port, limit, settle) = document.conclude(read(&document)).unwrap();
    assert_eq!((listen.as_str(), port, limit, settle), ("::1", 9090, 2.5, Duration::from_secs(5)));
    let root = document.root();
    assert_eq!(root.tables("target")[0].required_str("url"), Some("b"));
    assert_eq!(root.named_tables("feed")[0].1.required("limit_kw", Raw::number), Some(7.0));
    assert_eq!(root.required_table("power").strings("match"), Some(vec!["a*", "b*"]));
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    let document =
        Document::parse("t.toml", &with("[[target]]\nurl = \"a\"\n")).unwrap().with_variables(
            "TIELINE",
            [
                ("TIELINE__API__PORT", "many"),
                ("TIELINE__API__PROT", "1"),
                ("TIELINE__API__PORT__X", "1"),
                ("TIELINE__POWER__LIMIT_KW", "nan"),
                ("TIELINE__TARGET__1__URL", "b"),
                ("TIELINE__API", "b"),
                ("TIELINE__API__", "b"),
            ],
        );
    let told = document.conclude(read(&document)).unwrap_err().to_string();
    let want = [
        "TIELINE__API: api: is a table: set the keys in it",
        "TIELINE__API__: names no key; write TIELINE__SECTION__KEY",
        "TIELINE__API__PORT: api.port: expected an integer, found \"many\"",
        "TIELINE__API__PORT__X: api.port: is the text of a variable, not a table",
        "TIELINE__API__PROT: api.prot: unknown key, did you mean \"port\"?",
        "TIELINE__POWER__LIMIT_KW: power.limit_kw: NaN is not a finite number",
        "TIELINE__TARGET__1__URL: target: there is no entry \"1\": the file has 1, counted from 0",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), want);
}

#[test]
fn a_terminal_sees_the_lines_around_the_mistake() {
    let document = Document::parse("t.toml", &with("[power]\nlimit_kv = 1\n")).unwrap();
    let shown = document.conclude(read(&document)).unwrap_err().render(false);
    for part in
        ["power.limit_kv: unknown key", "t.toml:5:1", "limit_kv = 1", "did you mean \"limit_kw\"?"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours were asked for: {shown}");
}

#[test]
fn suggestions_are_only_made_for_near_names() {
    for (name, want) in
        [("xfrm-a", Some("xfmr-a")), ("xfmr-aa", Some("xfmr-a")), ("poi", None), ("", None)]
    {
        assert_eq!(nearest(name, ["xfmr-a", "xfmr-b"].into_iter()).as_deref(), want, "{name}");
    }
    assert_eq!(nearest(&"x".repeat(100_000), ["x"].into_iter()), None);
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]a-c.=\"{}\\n#0-9, -]{0,80}") {
        if let Ok(document) = Document::parse("t.toml", &text) {
            let outcome = document.conclude(read(&document));
            if let Err(mistakes) = outcome {
                prop_assert!(!mistakes.render(true).is_empty());
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(mistakes) = Document::from_bytes("t.toml", &bytes) {
            prop_assert!(!mistakes.render(false).is_empty());
        }
    }

    #[test]
    fn no_variable_panics(name in "[A-D_0-9.]{0,20}", value in ".{0,10}") {
        let document = Document::parse("t.toml", "[[a]]\nb = 1\n[c]\nd = 2\n").unwrap();
        let document = document.with_variables("T", [(format!("T__{name}"), value)]);
        drop(document.conclude(read(&document)));
    }
}

#[test]
fn a_time_needs_an_offset_and_keeps_its_instant() {
    let read = |text: &str| {
        let document = Document::parse("t.toml", text)?;
        let root = document.root();
        let at = root.required("at", Raw::time);
        let is_list = root.is_list("list");
        root.leave("list");
        root.finish();
        document.conclude(at.map(|at| (at.to_string(), is_list)))
    };
    let noon = "2026-12-10T12:00:00Z".to_owned();
    for written in ["2026-12-10T12:00:00Z", "2026-12-10 06:00:00-06:00", "'2026-12-10T12:00Z'"] {
        assert_eq!(read(&format!("at = {written}")).unwrap(), (noon.clone(), false), "{written}");
    }
    assert_eq!(read(&format!("at = {noon}\nlist = []")).unwrap(), (noon, true));
    for (written, found) in [
        ("2026-12-10T12:00:00", "\"2026-12-10T12:00:00\" is not an instant"),
        ("2026-12-10", "\"2026-12-10\" is not an instant"),
        ("5", "expected a time, found an integer"),
    ] {
        let mistakes = read(&format!("at = {written}")).unwrap_err().to_string();
        let wanted = format!(
            "t.toml:1:6: at: {found}; write a date and time with Z or an offset, such as 2026-12-10T06:00:00Z"
        );
        assert!(mistakes.contains(&wanted), "{mistakes}");
    }
}
