//! Reads the few fields of a line that the load tool needs, without building a tree: the tool must
//! not take the time that it measures. Values are returned as raw text. A line that is not a JSON
//! object gives `None`.

use memchr::{memchr, memchr2, memmem};

/// The fields of one message as raw JSON; empty if they are missing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) id: &'a [u8],
    pub(super) method: &'a [u8],
    pub(super) params: &'a [u8],
    pub(super) result: &'a [u8],
    pub(super) error: &'a [u8],
    /// The field in which ckpool gives the reason of a refusal, without its quotes.
    pub(super) reject_reason: &'a [u8],
}

impl<'a> Line<'a> {
    /// Finds the fields of a message.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = open(bytes, b'{')?;
        let mut line = Self::default();
        while *rest.first()? != b'}' {
            let key = take_value(&mut rest)?;
            rest = open(rest, b':')?;
            let value = take_value(&mut rest)?;
            match key {
                b"\"id\"" => line.id = value,
                b"\"method\"" => line.method = text(value).unwrap_or_default(),
                b"\"params\"" => line.params = value,
                b"\"result\"" => line.result = value,
                b"\"error\"" => line.error = value,
                b"\"reject-reason\"" => line.reject_reason = text(value).unwrap_or_default(),
                _ => {}
            }
            rest = skip_separator(rest);
        }
        Some(line)
    }

    /// The id, if it is a whole number.
    pub(super) fn number(&self) -> Option<u64> {
        number(self.id)
    }

    /// Whether the message needs an answer.
    pub(super) fn wants_answer(&self) -> bool {
        !self.id.is_empty() && self.id != b"null"
    }
}

/// The elements of an array as raw JSON; none if the value is not an array.
pub(super) fn elements(array: &[u8]) -> Elements<'_> {
    Elements(open(array, b'[').unwrap_or_default())
}

/// See [`elements`].
#[derive(Debug, Clone)]
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if matches!(self.0.first(), None | Some(b']')) {
            return None;
        }
        let value = take_value(&mut self.0)?;
        self.0 = skip_separator(self.0);
        Some(value)
    }
}

/// The text between the quotes of a string, with its escapes.
pub(super) fn text(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Reads a whole number, also one written as a string.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    let digits = text(value).unwrap_or(value);
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Splits `input` into whole lines and calls `each` with each of them. The unfinished end is kept
/// in `partial`, up to `limit` bytes. Returns `None` beyond that.
pub(super) fn split(
    partial: &mut Vec<u8>,
    mut input: &[u8],
    limit: usize,
    mut each: impl FnMut(&[u8]),
) -> Option<()> {
    while let Some(end) = memchr(b'\n', input) {
        let (line, rest) = (&input[..end], &input[end + 1..]);
        if partial.is_empty() {
            each(line.trim_ascii_end());
        } else {
            partial.extend_from_slice(line);
            each(partial.trim_ascii_end());
            *partial = Vec::new();
        }
        input = rest;
    }
    if partial.len() + input.len() > limit {
        return None;
    }
    partial.extend_from_slice(input);
    Some(())
}

/// Whether `bytes` contain `needle`, ignoring the case of letters.
pub(super) fn mentions(bytes: &[u8], needle: &str) -> bool {
    memmem::find(&bytes.to_ascii_lowercase(), needle.as_bytes()).is_some()
}

fn open(bytes: &[u8], mark: u8) -> Option<&[u8]> {
    Some(bytes.trim_ascii_start().strip_prefix(&[mark])?.trim_ascii_start())
}

fn skip_separator(rest: &[u8]) -> &[u8] {
    let rest = rest.trim_ascii_start();
    rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start()
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bytes = rest.trim_ascii_start();
    let len = value_len(bytes)?;
    let (value, after) = bytes.split_at(len);
    *rest = after;
    Some(value)
}

fn value_len(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => string_len(bytes),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, 0);
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at += string_len(&bytes[at..])?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let len = bytes
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' '))
                .unwrap_or(bytes.len());
            (len > 0).then_some(len)
        }
    }
}

fn string_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_in_any_order_and_form() {
        let line =
            Line::parse(br#" { "error" : null ,"result":{"a":[1,"}"]},  "id" : 17 } "#).unwrap();
        assert_eq!(
            (line.number(), line.error, line.result),
            (Some(17), &b"null"[..], &br#"{"a":[1,"}"]}"#[..])
        );
        let line =
            Line::parse(br#"{"reject-reason":"Above target","result":false,"error":null,"id":10}"#)
                .unwrap();
        assert_eq!(
            (line.reject_reason, line.result, line.number()),
            (&b"Above target"[..], &b"false"[..], Some(10))
        );
        let line =
            Line::parse(br#"{"method":"mining.notify","id":null,"params":["a\"]","b",[],true]}"#)
                .unwrap();
        assert!(!line.wants_answer());
        let parts: Vec<&[u8]> = elements(line.params).collect();
        assert_eq!(parts, [&br#""a\"]""#[..], br#""b""#, b"[]", b"true"]);
        assert_eq!(text(parts[1]), Some(&b"b"[..]));
        assert_eq!(Line::parse(br#"{"id":"7","result":true}"#).unwrap().number(), Some(7));
        assert_eq!(elements(b"null").count(), 0);
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [
            "",
            "{",
            "{\"id\"",
            "{\"id\":",
            "{\"id\":\"",
            "{\"id\":[1}",
            "[]",
            "HTTP/1.1 400",
            "{\"a\\",
            "{,}",
        ] {
            assert_eq!(Line::parse(bytes.as_bytes()), None, "{bytes}");
        }
    }

    /// A line that is truncated or changed at any place must not cause a panic.
    #[test]
    fn broken_lines_are_harmless() {
        let whole = br#"{"id":1,"method":"mining.submit","params":["w","j",[{"x":"\\"}],-1.5e3],"result":null}"#;
        for end in 0..whole.len() {
            Line::parse(&whole[..end]);
            for byte in *b"\"\\{}[],: 0" {
                let mut broken = whole.to_vec();
                broken[end] = byte;
                if let Some(line) = Line::parse(&broken) {
                    elements(line.params).for_each(drop);
                }
            }
        }
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let (mut partial, mut lines) = (Vec::new(), Vec::new());
        for chunk in [&b"ab"[..], b"c\r\nd\n", b"\nef"] {
            split(&mut partial, chunk, 8, |line| lines.push(line.to_vec())).unwrap();
        }
        assert_eq!(lines, [&b"abc"[..], b"d", b""]);
        assert_eq!(partial, b"ef");
        assert_eq!(split(&mut partial, b"1234567", 8, |_| ()), None);
    }

    #[test]
    fn words_are_found_whatever_their_case() {
        assert!(mentions(b"[21,\"Job not found (=Stale)\",null]", "stale"));
        assert!(!mentions(b"low difficulty", "stale"));
    }
}
