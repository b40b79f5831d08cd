use clap::CommandFactory;
use unicode_width::UnicodeWidthStr;

use super::*;

/// What `tieline ARGUMENTS --help` prints on a terminal of 80 columns.
fn help(arguments: &[&str]) -> String {
    let arguments = ["tieline"].iter().chain(arguments).chain(&["--help"]);
    let asked = Cli::command().term_width(80).try_get_matches_from(arguments);
    asked.expect_err("help is no match").to_string()
}

/// Every command with the names before it.
fn commands() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        found.push(path.to_vec());
        for sub in command.get_subcommands() {
            let path: Vec<String> =
                path.iter().cloned().chain([sub.get_name().to_owned()]).collect();
            walk(sub, &path, found);
        }
    }
    let mut found = Vec::new();
    walk(&Cli::command(), &[], &mut found);
    found
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_as_it_was_read_and_approved() {
    for path in commands() {
        let arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = help(&arguments);
        for line in text.lines() {
            assert!(line.width() <= 80, "{path:?}: {line}");
        }
        insta::assert_snapshot!(
            ["help"].iter().chain(&arguments).copied().collect::<Vec<_>>().join("_"),
            text
        );
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_help_is_0() {
    let code = |arguments: &[&str]| {
        let all = ["tieline"].iter().chain(arguments);
        Cli::try_parse_from(all).expect_err("no match").exit_code()
    };
    assert_eq!(code(&["--help"]), 0);
    assert_eq!(code(&["--version"]), 0);
    for wrong in [
        &["fly"][..],
        &[],
        &["lease", "add"],
        &["workers", "--serving", "asleep"],
        &["sessions", "--state", "asleep"],
        &["demo", "--for", "soon"],
        &["bench", "--pool-difficulty", "0"],
    ] {
        assert_eq!(code(wrong), 2, "{wrong:?}");
    }
}

#[test]
fn lengths_of_time_are_read_and_told_in_plain_words() {
    assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
    assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    for wrong in ["", "soon", "-5s", "5"] {
        assert_eq!(
            parse_duration(wrong),
            Err("not a length of time: write 90s, 5m or 1h30m".to_owned()),
            "{wrong}"
        );
    }
}

#[test]
fn difficulties_are_numbers_or_powers_of_two() {
    assert_eq!(parse_difficulty("1024"), Ok(1024.0));
    assert_eq!(parse_difficulty("2^-2"), Ok(0.25));
    for wrong in ["0", "-1", "inf", "2^x", "hard"] {
        assert!(parse_difficulty(wrong).is_err(), "{wrong}");
    }
}
