//! Globs as text: whether one glob matches every name that a second one matches, and which glob was
//! meant by a regular expression. [`directive::MachineId::matches`] matches names.

/// `*` stands for any run of characters, `?` for any one character.
pub(super) const WILDCARDS: [char; 2] = ['*', '?'];

/// The text before the first wildcard.
pub(super) fn literal_start(glob: &str) -> &str {
    glob.find(WILDCARDS).map_or(glob, |end| &glob[..end])
}

/// Whether every name that `narrow` matches is matched by `wide` as well.
///
/// `wide` is matched against the characters of `narrow`. There, a `*` fits only a `*`, and a `?` only
/// a wildcard.
#[must_use]
pub fn covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (normal(wide), normal(narrow));
    let (mut w, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < narrow.len() {
        match wide.get(w) {
            Some('*') => {
                retry = Some((w, n));
                w += 1;
            }
            Some(&want) if fits(want, narrow[n]) => {
                w += 1;
                n += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                w = star + 1;
                n = from + 1;
            }
        }
    }
    wide[w..].iter().all(|&rest| rest == '*')
}

fn fits(want: char, found: char) -> bool {
    match want {
        '?' => found != '*',
        want => want == found && found != '?',
    }
}

/// The characters of the same glob, with each run of wildcards replaced by its `?`s and at most one
/// `*`.
fn normal(glob: &str) -> Vec<char> {
    let mut out = Vec::with_capacity(glob.len());
    let mut star = false;
    for c in glob.chars() {
        match c {
            '*' => star = true,
            '?' => out.push('?'),
            other => {
                if std::mem::take(&mut star) {
                    out.push('*');
                }
                out.push(other);
            }
        }
    }
    if star {
        out.push('*');
    }
    out
}

/// The globs that were probably meant, if `pattern` looks like a regular expression or like a shell
/// glob with classes or braces. A name that really has such a character can be matched by a `?` in
/// its place.
pub(super) fn of_regex(pattern: &str) -> Option<Vec<String>> {
    looks_like_regex(pattern)
        .then(|| alternatives(pattern).iter().map(|one| translate(one)).collect())
}

fn looks_like_regex(pattern: &str) -> bool {
    let encloses = |open, close| {
        pattern.find(open).is_some_and(|from: usize| pattern[from..].find(close) > Some(1))
    };
    pattern.starts_with(['^', '(', '|'])
        || pattern.ends_with(['$', '|'])
        || pattern.contains('\\')
        || pattern.contains(".+")
        // No name begins with a dot, because an account comes first.
        || pattern.starts_with(".*")
        || encloses('[', ']')
        || encloses('{', '}')
        || (encloses('(', ')') && pattern.contains('|'))
}

/// Expands `(a|b)` and `{a,b}`.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut all = vec![pattern.to_owned()];
    // Each round expands one pair of brackets.
    for _ in 0..GROUPS_MAX {
        let Some(at) = all.iter().position(|one| alternation(one).is_some()) else { break };
        let one = all.remove(at);
        let Some((before, choices, after)) = alternation(&one) else { break };
        let spelled: Vec<String> =
            choices.iter().map(|choice| format!("{before}{choice}{after}")).collect();
        all.splice(at..at, spelled);
        if all.len() > ALTERNATIVES_MAX {
            return vec![pattern.to_owned()];
        }
    }
    all
}

/// The innermost pair of brackets with alternatives.
fn alternation(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    [('(', ')', '|'), ('{', '}', ',')].into_iter().find_map(|(open, close, between)| {
        let end = pattern.find(close)?;
        let start = pattern[..end].rfind(open)?;
        let inside = &pattern[start + 1..end];
        let inside = inside.strip_prefix("?:").unwrap_or(inside);
        // `{2,3}` is a repetition, not a list.
        let counts = open == '{' && inside.chars().all(|c| c.is_ascii_digit() || c == ',');
        let choices = inside.split(between).collect();
        (!counts).then(|| (&pattern[..start], choices, &pattern[end + 1..]))
    })
}

/// Translates one regular expression without alternatives into a glob.
fn translate(regex: &str) -> String {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let regex = regex.strip_suffix('$').unwrap_or(regex);
    let mut rest = regex.chars().peekable();
    let mut out = String::new();
    while let Some(c) = rest.next() {
        // Whether this is a class of characters, or one character.
        let any = match c {
            '\\' => match rest.next() {
                Some('d' | 'D' | 'w' | 'W' | 's' | 'S') => true,
                Some('b' | 'B') | None => continue,
                Some(literal) => {
                    out.push(literal);
                    false
                }
            },
            '[' => {
                rest.by_ref().take_while(|c| *c != ']').for_each(drop);
                true
            }
            '.' if matches!(rest.peek(), Some('*' | '+' | '?' | '{')) => true,
            '(' | ')' | '|' => continue,
            literal => {
                out.push(literal);
                false
            }
        };
        match (any, rest.peek()) {
            (true, Some('*' | '+' | '?')) => {
                rest.next();
                out.push('*');
            }
            (_, Some('{')) => {
                let count: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                match count.parse::<usize>() {
                    Ok(count @ 1..=COUNT_MAX) if any => out.extend(std::iter::repeat_n('?', count)),
                    _ => out.push('*'),
                }
            }
            (true, _) => out.push('?'),
            (false, Some('+')) => {
                rest.next();
                out.push('*');
            }
            (false, _) => {}
        }
    }
    let mut short = String::new();
    for c in out.chars() {
        if c != '*' || !short.ends_with('*') {
            short.push(c);
        }
    }
    if short.is_empty() { "*".to_owned() } else { short }
}

/// The maximum number of expanded brackets, and of resulting globs; further brackets are left out.
const GROUPS_MAX: usize = 16;
const ALTERNATIVES_MAX: usize = 8;
/// The longest run of `?` that is written; a longer one becomes a `*`.
const COUNT_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use directive::MachineId;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_glob_covers_another_when_it_takes_all_of_its_names() {
        for (wide, narrow, want) in [
            ("a*", "a21-*", true),
            ("a*", "a", true),
            ("a*", "b21-*", false),
            ("a21-*", "a*", false),
            ("*", "?", true),
            ("?", "*", false),
            ("*?", "?*", true),
            ("?*", "*?", true),
            ("?*", "*", false),
            ("a?", "ab", true),
            ("a?", "a?", true),
            ("ab", "a?", false),
            ("*-1", "rig-?1", false),
            ("*-?1", "rig-?1", true),
            ("*a*b", "xaab", true),
            ("a*b*", "a*b", true),
            ("a*c", "a*b*c", true),
            ("a*b*c", "a*c", false),
            ("acme.*", "acme.b?-*", true),
        ] {
            assert_eq!(covers(wide, narrow), want, "{wide} {narrow}");
        }
    }

    #[test]
    fn what_looks_like_a_regular_expression_is_told_as_the_glob_that_is_meant() {
        for (regex, want) in [
            (r"^a\d+", "a*"),
            (".*", "*"),
            ("^.*$", "*"),
            (".+", "*"),
            ("a[0-9]", "a?"),
            ("a[0-9]+-b", "a*-b"),
            (r"acme\.rig\d{3}", "acme.rig???"),
            (r"acme.rig\d{1,3}$", "acme.rig*"),
            ("^old-*", "old-*"),
            (r"^site\.(?:rig)-\w+$", "site.rig-*"),
            ("childress.[ab]1-*", "childress.?1-*"),
        ] {
            assert_eq!(of_regex(regex), Some(vec![want.to_owned()]), "{regex}");
        }
        for (regex, want) in [
            (r"(a|b)-\d+", vec!["a-*", "b-*"]),
            ("rig-{1,2x}-*", vec!["rig-1-*", "rig-2x-*"]),
            ("^(a(b|c)|d)$", vec!["ab", "d", "ac", "d"]),
        ] {
            let found = of_regex(regex).unwrap();
            assert_eq!(
                found.first().map(String::as_str),
                want.first().copied(),
                "{regex}: {found:?}"
            );
            assert!(want.iter().all(|want| found.iter().any(|found| found == want)), "{found:?}");
        }
        for glob in
            ["*", "a*", "acme.*", "acme.rig-?", "bc1q0.x_1-*", "addr+512*", "a(1)", "[", "a.?"]
        {
            assert_eq!(of_regex(glob), None, "{glob}");
        }
    }

    proptest! {
        #[test]
        fn no_name_of_a_covered_glob_is_left_out(
            wide in "[ab*?]{0,6}",
            narrow in "[ab*?]{0,6}",
            name in "[abc]{0,6}",
        ) {
            let name = MachineId::from(name);
            if covers(&wide, &narrow) && name.matches(&narrow) {
                prop_assert!(name.matches(&wide), "{wide} {narrow} {name}");
            }
        }

        #[test]
        fn no_pattern_panics(pattern in "[a.*?+(){}|,0-9^$\\[\\]\\\\-]{0,24}") {
            for glob in of_regex(&pattern).unwrap_or_default() {
                prop_assert!(!glob.is_empty());
            }
        }
    }
}
