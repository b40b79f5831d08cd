//! The form of a session file.
//!
//! ```text
//! # fact: what firmware or pool does        at least one of each; other comments are free
//! # source: where that is known from
//! set like braiins                          settings, first of all; `second`: a plain pool behind the first
//! > {"id":1,…}                              the miner sends a line; lines in a row go out in one segment
//! >x 160301                                 the miner sends these bytes
//! < {"id":1,…,*}                            the next line the miner gets; `*` stands for anything
//! share or=00002000                         mines a share on the miner's newest job, for `$job $extranonce2 $ntime $nonce $bits`
//! ! nothing                                 nothing else has come to the miner
//! ! closed                                  the proxy has closed the miner's connection
//! ! reopen                                  the miner connects again
//! @ job clean                               a control line for the test pool
//! pool> {"id":1,…}                          the pool sends a line (`set scripted`: the pool is the session's)
//! pool< {"id":1,…}                          what the pool gets: the next line if it is the session's, else any; `$r00` to
//!                                           `$r99` stand for the ids of our requests, from where they first come
//! ! unsaid {"id":1,…}                       the pool has not got this so far
//! ! pool closed                             the proxy has closed the pool's connection
//! ```

use std::fmt;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Script {
    pub(super) facts: Vec<String>,
    pub(super) sources: Vec<String>,
    pub(super) settings: Vec<(String, String)>,
    pub(super) steps: Vec<(usize, Step)>,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// The miner sends these lines in one segment.
    MinerSays(Vec<String>),
    MinerSends(Vec<u8>),
    MinerHears(String),
    Share(Vec<(String, String)>),
    Nothing,
    Closed,
    Reopen,
    Control(String),
    PoolSays(Vec<String>),
    PoolHears(String),
    Unsaid(String),
    PoolClosed,
}

/// A line that is not a valid step.
#[derive(Debug, PartialEq)]
pub(super) struct Mistake {
    line: usize,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: not a step: {}", self.line, self.what)
    }
}

impl Script {
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let mut script = Self::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let mistake = || Mistake { line: number, what: line.to_owned() };
            if let Some(comment) = line.strip_prefix('#') {
                let comment = comment.trim();
                if let Some(fact) = comment.strip_prefix("fact:") {
                    script.facts.push(fact.trim().to_owned());
                } else if let Some(source) = comment.strip_prefix("source:") {
                    script.sources.push(source.trim().to_owned());
                }
            } else if let Some(setting) = line.strip_prefix("set ") {
                if !script.steps.is_empty() {
                    return Err(mistake());
                }
                let (key, value) = setting.split_once(' ').unwrap_or((setting, ""));
                script.settings.push((key.to_owned(), value.trim().to_owned()));
            } else if !line.trim().is_empty() {
                let step = Step::parse(line).ok_or_else(mistake)?;
                script.push(number, step);
            }
        }
        Ok(script)
    }

    /// Adds a step. Consecutive lines of one side are merged into one segment.
    fn push(&mut self, number: usize, step: Step) {
        match (self.steps.last_mut(), step) {
            (Some((_, Step::MinerSays(lines))), Step::MinerSays(more))
            | (Some((_, Step::PoolSays(lines))), Step::PoolSays(more)) => lines.extend(more),
            (_, step) => self.steps.push((number, step)),
        }
    }
}

impl Step {
    fn parse(line: &str) -> Option<Self> {
        if let Some(words) = line.strip_prefix('!') {
            return match words.trim() {
                "nothing" => Some(Self::Nothing),
                "closed" => Some(Self::Closed),
                "reopen" => Some(Self::Reopen),
                "pool closed" => Some(Self::PoolClosed),
                words => {
                    words.strip_prefix("unsaid ").map(|pattern| Self::Unsaid(pattern.to_owned()))
                }
            };
        }
        if let Some(words) = line.strip_prefix("share") {
            let options = words.split_whitespace().map(|word| {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                (key.to_owned(), value.to_owned())
            });
            return Some(Self::Share(options.collect()));
        }
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match mark {
            ">" => Self::MinerSays(vec![rest.to_owned()]),
            ">x" => Self::MinerSends(testbed::arithmetic::parse_bytes(rest)?),
            "<" => Self::MinerHears(rest.to_owned()),
            "@" => Self::Control(rest.to_owned()),
            "pool>" => Self::PoolSays(vec![rest.to_owned()]),
            "pool<" => Self::PoolHears(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Whether a line matches the pattern; `*` stands for any characters.
pub(super) fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_lines() {
        for (pattern, line, same) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("*b*", "abc", true),
            ("a*bc*bc", "abc", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, line), same, "{pattern} {line}");
        }
    }

    #[test]
    fn lines_in_a_row_are_one_segment_and_nonsense_is_named() {
        let script = Script::parse(
            "# fact: f\n# source: s\nset like ckpool\n> a\n> b\n< c\n\nshare or=2 kept\n",
        )
        .unwrap();
        assert_eq!(script.settings, [("like".to_owned(), "ckpool".to_owned())]);
        assert_eq!(script.steps[0], (4, Step::MinerSays(vec!["a".into(), "b".into()])));
        assert_eq!(script.steps.len(), 3);
        assert_eq!(Script::parse("> a\nset like x\n").unwrap_err().line, 2);
        assert_eq!(Script::parse("? what\n").unwrap_err().to_string(), "1: not a step: ? what");
    }
}
