//! Lists of machine names in JSON. Names of one site are alike, so each is written as how much it
//! has in common with the name before it, and the rest: `"0rack1.01 62 63"` are `rack1.01`,
//! `rack1.02` and `rack1.03`. In the order of the names, a machine takes some four bytes.

use directive::MachineId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What separates names. A list with a name that contains it is written in full.
const SEPARATOR: char = ' ';
/// The digits of the number of bytes that a name has in common with the one before it.
const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Short(String),
    InFull(Vec<MachineId>),
}

pub(super) fn serialize<S: Serializer>(
    names: &[MachineId],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let in_full = names.is_empty() || names.iter().any(|name| name.as_str().contains(SEPARATOR));
    let written =
        if in_full { Written::InFull(names.to_vec()) } else { Written::Short(shorten(names)) };
    written.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<MachineId>, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Short(text) => expand(&text).map_err(de::Error::custom),
        Written::InFull(names) => Ok(names),
    }
}

/// The same for sets.
pub(super) mod set {
    use std::collections::BTreeSet;

    use directive::MachineId;
    use serde::{Deserializer, Serializer};

    pub(in crate::ledger) fn serialize<S: Serializer>(
        names: &BTreeSet<MachineId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let names: Vec<MachineId> = names.iter().cloned().collect();
        super::serialize(&names, serializer)
    }

    pub(in crate::ledger) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<MachineId>, D::Error> {
        Ok(super::deserialize(deserializer)?.into_iter().collect())
    }
}

fn shorten(names: &[MachineId]) -> String {
    let mut text = String::new();
    let mut before = "";
    for name in names.iter().map(MachineId::as_str) {
        if !text.is_empty() {
            text.push(SEPARATOR);
        }
        let common = common(before, name);
        text.push(char::from(DIGITS[common]));
        text.push_str(&name[common..]);
        before = name;
    }
    text
}

/// How many bytes two names have in common at their beginning, at most as many as one digit tells.
fn common(before: &str, name: &str) -> usize {
    let same = before.bytes().zip(name.bytes()).take(DIGITS.len() - 1);
    let mut common = same.take_while(|(a, b)| a == b).count();
    while !name.is_char_boundary(common) {
        common -= 1;
    }
    common
}

fn expand(text: &str) -> Result<Vec<MachineId>, String> {
    let mut names: Vec<MachineId> = Vec::new();
    for part in text.split(SEPARATOR) {
        let mut rest = part.chars();
        let common = rest
            .next()
            .and_then(|digit| DIGITS.iter().position(|known| char::from(*known) == digit));
        let before = names.last().map_or("", MachineId::as_str);
        let kept = common.and_then(|common| before.get(..common));
        let kept = kept.ok_or_else(|| format!("{part:?} follows no name that it can shorten"))?;
        names.push(format!("{kept}{}", rest.as_str()).into());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(names: &[&str]) -> String {
        let names: Vec<MachineId> = names.iter().map(|name| MachineId::from(*name)).collect();
        let mut text = Vec::new();
        serialize(&names, &mut serde_json::Serializer::new(&mut text)).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut json = serde_json::Deserializer::from_str(&text);
        assert_eq!(deserialize(&mut json).unwrap(), names, "{text}");
        text
    }

    #[test]
    fn names_are_shortened_by_what_they_have_in_common() {
        assert_eq!(written(&["rack1.01", "rack1.02", "rack1.03"]), r#""0rack1.01 72 73""#);
        assert_eq!(written(&["a", "a", "b"]), r#""0a 1 0b""#);
        assert_eq!(written(&[]), "[]");
    }

    #[test]
    fn names_that_miners_make_up_come_back_as_they_were() {
        let long = "x".repeat(300);
        let more = format!("{long}y");
        for names in [
            vec!["", "0", "00"],
            vec!["a b", "a c"],
            vec!["é1", "è1", "\u{1f600}", "\u{1f601}"],
            vec!["\"\\", "\"\\\n", "\0", "\t"],
            vec![&long, &more],
        ] {
            written(&names);
        }
    }

    #[test]
    fn a_text_that_shortens_no_name_is_refused() {
        for text in ["", "1a", "0a 2b", "é", "0é 1a", "0a  0b"] {
            assert!(expand(text).is_err(), "{text:?}");
        }
    }
}
